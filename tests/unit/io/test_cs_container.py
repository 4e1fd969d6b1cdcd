"""The two containers of .cs files, byte by byte, and datasets that lie in several files."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.errors import DataProblem, FileProblem, FormatProblem, OutputProblem
from vitreous.io.cs_container import dataset_container, read_dataset, write_dataset
from vitreous.io.cs_group import matching_rows, read_group, with_passthrough
from vitreous.model.table import Table, TextColumn

# A file that cryosparc-tools 5.0.3 wrote: Dataset.save(..., format=CSDAT_FORMAT) of the columns in FROM_TOOLS
TOOLS_CSDAT = (
    b'\x95CSDAT\xf2\x00\x00\x00{"length": 2, "dtype": [["uid", "<u8"], ["blob/path", "|O"], ["blob/idx", "<u4"], '
    b'["alignments3D/shift", "<f4", [2]], ["ctf/type", "|O"]], "compression": "lz4", '
    b'"compressed_fields": ["blob/path", "blob/idx", "alignments3D/shift", "ctf/type"]}'
    b"\x10\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80"
    b"\x12\x00\x00\x00\xf0\x01\x01\x00\x00\x00\x00\x00\x00\x00\n\x00\x00\x00\x00\x00\x00\x00"
    b"\t\x00\x00\x00\x80\x00\x00\x00\x00\x05\x00\x00\x00"
    b"\x12\x00\x00\x00\xf0\x01\x00\x00\xc0?\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00@@"
    b"\n\x00\x00\x00\x16\x00\x01\x00P\x00\x00\x00\x00\x00"
    b"\x00J1/a.mrc\x00J1/\xc3\xa9.mrc\x00"
)
FROM_TOOLS = {
    "uid": np.array([7, 1 << 63], dtype=np.uint64),
    "blob/path": ["J1/a.mrc", "J1/é.mrc"],
    "blob/idx": np.array([0, 5], dtype=np.uint32),
    "alignments3D/shift": np.array([[1.5, -2], [0, 3]], dtype=np.float32),
    "ctf/type": ["", ""],
}


def assert_equal(table: Table, columns) -> None:
    assert table.names == list(columns)
    for name, values in columns.items():
        if isinstance(values, list):
            assert isinstance(table[name], TextColumn) and table[name].tolist() == values
        else:
            assert table[name].dtype == values.dtype and np.array_equal(table[name], values), name


def dataset() -> Table:
    return Table(
        {
            name: np.array(values, dtype=object) if isinstance(values, list) else values
            for name, values in FROM_TOOLS.items()
        }
    )


def test_csdat_of_cryosparc_tools(tmp_path):
    (tmp_path / "tools.cs").write_bytes(TOOLS_CSDAT)
    assert_equal(read_dataset(tmp_path / "tools.cs"), FROM_TOOLS)
    assert dataset_container(tmp_path / "tools.cs") == "csdat"


def test_csdat_is_written_as_cryosparc_tools_writes_it(tmp_path):
    """The same bytes but for the lz4 blocks, where compressors may choose differently."""
    write_dataset(tmp_path / "ours.cs", dataset(), container="csdat")
    ours = (tmp_path / "ours.cs").read_bytes()
    assert ours[:272] == TOOLS_CSDAT[:272]  # magic, header, the column of identities
    assert ours.endswith(b"\x00J1/a.mrc\x00J1/\xc3\xa9.mrc\x00")
    assert_equal(read_dataset(tmp_path / "ours.cs"), FROM_TOOLS)


def test_numpy_container(tmp_path):
    write_dataset(tmp_path / "ours.cs", dataset())
    loaded = np.load(tmp_path / "ours.cs", allow_pickle=False)
    assert loaded.dtype.names == tuple(FROM_TOOLS) and loaded["blob/path"][0] == b"J1/a.mrc"
    assert_equal(read_dataset(tmp_path / "ours.cs"), FROM_TOOLS)
    assert dataset_container(tmp_path / "ours.cs") == "numpy"


@pytest.mark.parametrize("container", ["numpy", "csdat"])
def test_no_rows_and_many_columns(tmp_path, container):
    """A header beyond NumPy's usual limit of 10,000 characters, and beyond the 65,535 of its first version."""
    wide = Table({f"group{n}/a_rather_long_name_of_a_column": np.arange(2, dtype=np.float32) for n in range(2000)})
    write_dataset(tmp_path / "wide.cs", wide, container=container)
    assert len(read_dataset(tmp_path / "wide.cs").names) == 2000
    none = Table({name: column[:0] for name, column in dataset().columns.items()})
    write_dataset(tmp_path / "none.cs", none, container=container)
    assert len(read_dataset(tmp_path / "none.cs")) == 0 and read_dataset(tmp_path / "none.cs").names == none.names


def test_faults(tmp_path):
    path = tmp_path / "bad.cs"
    for content in (TOOLS_CSDAT[:-30], TOOLS_CSDAT[:290], TOOLS_CSDAT[:100], TOOLS_CSDAT[:8]):
        path.write_bytes(content)
        with pytest.raises((FileProblem, FormatProblem), match=r"bad.cs"):
            read_dataset(path)
    write_dataset(path, dataset())
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(FileProblem, match="truncated"):
        read_dataset(path)
    np.save(tmp_path / "pickled.npy", np.array([("a", 1)], dtype=[("x", object), ("y", int)]), allow_pickle=True)
    with pytest.raises(FormatProblem, match="without pickled objects"):
        read_dataset(tmp_path / "pickled.npy")
    np.save(tmp_path / "plain.npy", np.zeros(3))
    with pytest.raises(FormatProblem, match="rows of named columns"):
        read_dataset(tmp_path / "plain.npy")
    path.write_bytes(b"hello world")
    with pytest.raises(FormatProblem, match=r"not a .cs file"):
        read_dataset(path)
    with pytest.raises(OutputProblem, match="called 'zip'"):
        write_dataset(path, dataset(), container="zip")
    with pytest.raises(OutputProblem, match="zero byte"):
        write_dataset(tmp_path / "new.cs", Table({"a/b": np.array(["x\0"], dtype=object)}))
    assert not (tmp_path / "new.cs").exists()


# ---- several files
# --------------------------------------------------------------------------------------------------------

MAIN = {"uid": np.array([30, 10, 20], dtype=np.uint64), "alignments3D/split": np.array([0, 1, 1], dtype=np.uint32)}
PASSTHROUGH = {
    "uid": np.array([10, 20, 30, 40], dtype=np.uint64),
    "blob/idx": np.array([1, 2, 3, 4], dtype=np.uint32),
    "blob/path": np.array(["a", "a", "b", "b"], dtype=object),
    "alignments3D/split": np.array([9, 9, 9, 9], dtype=np.uint32),
}


def test_passthrough_is_joined_by_uid(tmp_path):
    write_dataset(tmp_path / "passthrough.cs", Table(PASSTHROUGH))
    joined = with_passthrough(Table(MAIN), [tmp_path / "passthrough.cs"], "main")
    assert joined["blob/idx"].tolist() == [3, 1, 2] and joined["blob/path"].tolist() == ["b", "a", "a"]
    assert joined["alignments3D/split"].tolist() == [0, 1, 1]  # the file's own columns win
    with pytest.raises(DataProblem, match="lacks 1 of 4 rows, the first with uid 50"):
        matching_rows(np.array([10, 50, 20, 30]), PASSTHROUGH["uid"].astype(int), "other")
    with pytest.raises(DataProblem, match="has the uid 10 twice"):
        matching_rows(np.array([10]), np.array([10, 10, 11]), "other")
    with pytest.raises(DataProblem, match="lacks 1 of 1 rows"):
        matching_rows(np.array([10]), np.array([], dtype=int), "other")
    with pytest.raises(DataProblem, match="main has no column 'uid'"):
        with_passthrough(Table({"a/b": np.zeros(1)}), [tmp_path / "passthrough.cs"], "main")


def test_group(tmp_path):
    job = tmp_path / "J12"
    job.mkdir()
    write_dataset(job / "J12_passthrough_particles.cs", Table(PASSTHROUGH))
    write_dataset(job / "J12_particles.cs", Table(MAIN), container="csdat")
    group = job / "J12_particles.csg"
    text = "created: 2024-01-01\ngroup: {name: particles, type: particle}\nresults:\n  blob:\n"
    text += "    metafile: '>J12_passthrough_particles.cs'\n"
    text += "    num_items: 4\n  alignments3D:\n    metafile: J12/J12_particles.cs\n    num_items: 3\nversion: v4.4\n"
    group.write_text(text)
    table = read_group(group)
    assert table["uid"].tolist() == [30, 10, 20] and table["blob/idx"].tolist() == [3, 1, 2]
    assert table["alignments3D/split"].tolist() == [0, 1, 1]
    group.write_text(text.replace("J12_particles", "J13_particles"))
    with pytest.raises(FileProblem, match=r"names J12/J13_particles.cs, which is neither"):
        read_group(group)
    for bad in ("results: 5", "[1", "results: {}", "a: b", "results: {blob: {type: x}}"):
        group.write_text(bad)
        with pytest.raises(FormatProblem, match="csg"):
            read_group(group)
