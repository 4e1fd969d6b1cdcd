"""Facts about files of every kind."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vitreous.errors import FormatProblem
from vitreous.io.cs_container import write_dataset
from vitreous.io.info import UNKNOWN_PIXEL, describe
from vitreous.io.mrc_stack import write_stack, write_volume
from vitreous.io.star import write_star
from vitreous.model.table import Table, TextColumn
from vitreous.model.volume import Volume


def facts(path) -> dict:
    found = describe(path)
    json.dumps(found)  # scripts get these facts as JSON
    assert found["path"] == str(path) and found["bytes"] == path.stat().st_size
    return found


def test_mrc(tmp_path):
    data = np.random.default_rng(0).normal(2, 3, (6, 6, 6)).astype(np.float32)
    write_volume(tmp_path / "map.mrc", Volume(data, 1.5), label="mine")
    found = facts(tmp_path / "map.mrc")
    assert (found["kind"], found["shape"], found["mode"], found["pixel_size"]) == (
        "volume",
        [6, 6, 6],
        "2 (float32)",
        [1.5, 1.5, 1.5],
    )
    assert found["labels"] == ["mine"] and found["axes"] == "xyz" and found["not_finite"] == 0
    assert found["mean"] == pytest.approx(data.mean()) and found["standard_deviation"] == pytest.approx(data.std())
    assert (found["minimum"], found["maximum"]) == (float(data.min()), float(data.max()))
    data[0, 0, 0] = np.nan
    write_stack(tmp_path / "stack.mrcs", data[:5], 1.5)
    found = facts(tmp_path / "stack.mrcs")
    assert (found["kind"], found["shape"], found["not_finite"]) == ("stack", [5, 6, 6], 1)
    content = bytearray((tmp_path / "stack.mrcs").read_bytes())
    content[40:52] = bytes(12)
    (tmp_path / "unknown.mrcs").write_bytes(content)
    assert facts(tmp_path / "unknown.mrcs")["pixel_size"] == UNKNOWN_PIXEL
    write_stack(tmp_path / "image.mrc", data[5:], 1.5)
    assert facts(tmp_path / "image.mrc")["kind"] == "image" and facts(tmp_path / "image.mrc")["shape"] == [6, 6]


def test_star(tmp_path):
    names = np.array(["1@a.mrcs", "2@b.mrcs"], dtype=object)
    table = Table(
        {
            "rlnImageName": names,
            "rlnDefocusU": np.array([1e4, 2e4]),
            "rlnRandomSubset": np.array([1, 2]),
            "rlnVoltage": np.array([300.0, 300.0]),
        }
    )
    write_star(tmp_path / "p.star", {"": table, "notes": {"a": "1"}})
    found = facts(tmp_path / "p.star")
    assert (found["kind"], found["particles"], found["stacks"], found["half_sets"]) == ("particles", 2, 2, [1, 1])
    assert found["blocks"] == [{"name": "", "rows": 2, "columns": 4}, {"name": "notes", "entries": 1}]
    assert (found["poses"], found["ctf"], found["defocus"]) == (False, True, [1e4, 2e4])
    assert (
        found["optics"][0]["voltage_kv"] == 300
        and found["optics"][0]["pixel_size"] is None
        and found["written_by"] == "RELION 3.0 or earlier"
    )
    write_star(tmp_path / "other.star", {"": table.without("rlnImageName")})
    assert facts(tmp_path / "other.star")["kind"] == "star"
    write_star(tmp_path / "none.star", {"": table.rows(slice(0, 0))})
    assert facts(tmp_path / "none.star")["kind"] == "star"


def test_cs_and_atoms(tmp_path):
    columns = {
        "uid": np.array([1, 2], dtype=np.uint64),
        "blob/idx": np.array([0, 1], dtype=np.uint32),
        "blob/path": TextColumn(np.zeros(2, int), ("a",)),
    }
    write_dataset(tmp_path / "p.cs", Table(columns), container="csdat")
    found = facts(tmp_path / "p.cs")
    assert (found["kind"], found["container"], found["particles"], found["fields"]) == (
        "particles",
        "csdat",
        2,
        list(columns),
    )
    write_dataset(tmp_path / "q.cs", Table({"uid": columns["uid"]}))
    assert facts(tmp_path / "q.cs")["kind"] == "dataset" and facts(tmp_path / "q.cs")["container"] == "numpy"
    atoms = "ATOM      1  N   MET A   1      27.340  24.430   2.614  1.00  9.67           N\n"
    (tmp_path / "a.pdb").write_text(
        atoms + atoms.replace("27.340", "29.340").replace("           N\n", "           O\n")
    )
    found = facts(tmp_path / "a.pdb")
    assert (found["kind"], found["atoms"], found["chains"], found["elements"], found["extent"]) == (
        "atoms",
        2,
        1,
        {"N": 1, "O": 1},
        [2.0, 0.0, 0.0],
    )


def test_kinds_without_a_telling_suffix(tmp_path):
    write_stack(tmp_path / "x1", np.zeros((1, 4, 4)), 1.0)
    write_star(tmp_path / "x2", {"a": {"b": "1"}})
    (tmp_path / "x3").write_text("ATOM      1  N   MET A   1      27.340  24.430   2.614  1.00  9.67           N\n")
    assert [facts(tmp_path / name)["kind"] for name in ("x1", "x2", "x3")] == ["image", "star", "atoms"]
    (tmp_path / "x4").write_text("hello")
    with pytest.raises(FormatProblem, match="no kind that is known here"):
        describe(tmp_path / "x4")
