"""`vitreous conformance`: its exit codes, its files, its mistakes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

from vitreous.cli import dispatch
from vitreous.conformance.contract import contract
from vitreous.optics import electrons


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(capsys, *words: str) -> tuple[int, str, str]:
    code = dispatch(["conformance", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_all_passed_is_exit_code_0(capsys):
    code, out, err = run(capsys, "--section", "b1", "d")
    assert code == 0 and err == ""
    assert out.splitlines()[-1] == "all 30 numbers, 30 passed"
    assert "0.0196874890" in out and "rad/(V Å)" in out


def test_one_failure_is_exit_code_1(capsys, monkeypatch):
    right = electrons.wavelength
    monkeypatch.setattr(electrons, "wavelength", lambda volt: right(volt) * (1 + 1e-5 * (volt == 300e3)))
    code, out, _ = run(capsys, "--section", "b1", "--failed")
    assert code == 1
    assert "b1.wavelength.300kV" in out and "b1.wavelength.200kV" not in out
    code, out, _ = run(capsys, "--section", "b1", "--json")
    assert code == 1 and json.loads(out)["failed"] >= 1


def test_the_table_goes_out_and_answers_come_back(capsys, tmp_path):
    code, out, _ = run(capsys, "--table", "contract.csv", "--section", "b9")
    assert code == 0 and out.split()[0] == str(len(contract(["b9"])))
    with open("contract.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = ["id,got", *(f"{row['id']},{row['expected']}" for row in rows[1:])]
    (tmp_path / "answers.csv").write_text("\n".join(lines), encoding="utf-8")
    code, out, _ = run(capsys, "--answers", "answers.csv", "--section", "b9")
    assert code == 0 and out.splitlines()[-1] == f"all {len(rows)} numbers, {len(rows) - 1} passed, 1 not answered"
    code, out, _ = run(capsys, "--answers", "answers.csv", "--section", "b1")  # of other sections: none
    assert code == 0 and out.splitlines()[-1] == "all 27 numbers, 27 not answered"
    lines[1] = lines[1].rpartition(",")[0] + ",0.5"
    (tmp_path / "answers.csv").write_text("\n".join(lines), encoding="utf-8")
    assert run(capsys, "--answers", "answers.csv")[0] == 1


def test_answers_run_none_of_this_programs_physics(capsys, tmp_path, monkeypatch):
    def forbidden(volt: float) -> float:
        raise AssertionError("asked")

    monkeypatch.setattr(electrons, "wavelength", forbidden)
    (tmp_path / "answers.csv").write_text("id,got\nb1.wavelength.300kV,0.0196874890\n", encoding="utf-8")
    assert run(capsys, "--answers", "answers.csv")[0] == 0


BAD = {
    "unknown section": (["--section", "b99"], "section 'b99'"),
    "no such file": (["--answers", "nothing.csv"], "does not exist"),
    "not text": (["--answers", "bytes.csv"], "UTF-8"),
    "no columns": (["--answers", "columns.csv"], "column 'id'"),
    "table and answers": (["--table", "new.csv", "--answers", "columns.csv"], "--table"),
    "table is there": (["--table", "columns.csv"], "exists already"),
    "table into nowhere": (["--table", "no/such/folder.csv"], "cannot be written"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_code_2(name, capsys, tmp_path):
    (tmp_path / "bytes.csv").write_bytes(b"id,got\n\xff\xfe\x00")
    (tmp_path / "columns.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    words, expected = BAD[name]
    code, out, err = run(capsys, *words)
    assert code == 2 and out == "" and len(err.strip().splitlines()) == 1
    assert expected in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bytes.csv", "columns.csv"]


@pytest.mark.slow
def test_the_whole_contract_passes(capsys):
    code, out, _ = run(capsys)
    assert code == 0 and " failed" not in out


@pytest.mark.slow
def test_only_gradients_load_jax():
    code = (
        "import sys; from vitreous.conformance.contract import contract; from vitreous.conformance.verdict import run_checks;"
        "run_checks(c for c in contract() if not c.needs and not c.id.startswith('c.10')); print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
