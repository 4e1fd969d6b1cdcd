"""Whatever bytes a file holds, a reader ends in a value or in one VitreousError, and never allocates what a broken
header asks for."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import lz4.block
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitreous.errors import VitreousError
from vitreous.io import cryosparc, relion, star_fast
from vitreous.io.atoms import read_atoms
from vitreous.io.cs_container import CSDAT, read_dataset, write_dataset
from vitreous.io.cs_group import read_group
from vitreous.io.info import describe
from vitreous.io.mrc import read_data, read_header, read_image, read_volume
from vitreous.io.mrc_stack import MrcStack, write_stack, write_volume
from vitreous.io.star import parse_star, read_star
from vitreous.model.table import Table, TextColumn
from vitreous.model.volume import Volume

FUZZ = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ALLOWED = 64 << 20  # bytes: far above what these files of a few kilobytes need, far below what a wild header asks for


def outcome(reader, *arguments):
    """Run the reader; anything but a value or a VitreousError is a failure of the test."""
    tracemalloc.start()
    try:
        reader(*arguments)
    except VitreousError as error:
        assert "\n" not in str(error), "one line"
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < ALLOWED


def mutated(content: bytes):
    """The content with some bytes replaced, and perhaps cut short."""
    change = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    edits = st.lists(change, max_size=12)
    return st.builds(
        lambda edits, cut: _edit(content, edits)[:cut],
        edits,
        st.one_of(st.just(len(content)), st.integers(0, len(content))),
    )


def _edit(content: bytes, edits) -> bytes:
    edited = bytearray(content)
    for place, value in edits:
        edited[place] = value
    return bytes(edited)


# ---- STAR
# -----------------------------------------------------------------------------------------------------------------

PARTICLES = b"""
# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
_rlnImageSize #7
_rlnOddZernike #8
opticsGroup1 1 300.0 2.7 0.1 1.25 64 [0.1,0,-2]

data_particles

loop_
_rlnImageName #1
_rlnOpticsGroup #2
_rlnAngleRot #3
_rlnAngleTilt #4
_rlnAnglePsi #5
_rlnOriginXAngst #6
_rlnDefocusU #7
_rlnRandomSubset #8
_rlnGroupName #9
000001@a.mrcs 1 10.5 20.5 30.5 -1.5 10000.0 1 'group one'
000002@a.mrcs 1 11.5 21.5 31.5 -2.5 11000.0 2 ""
"""
STAR_WORDS = [
    "data_",
    "data_x",
    "loop_",
    "_rlnImageName",
    "_a",
    "#1",
    "# version 30001",
    "'",
    '"',
    "''",
    '""',
    ";",
    "\n;",
    "\n",
    " ",
    "\t",
    "1",
    "1@a.mrcs",
    "0@",
    "-",
    "nan",
    "inf",
    "1e999",
    "[1,2]",
    "[",
    "save_",
    "\r",
    "\x0b",
    "é",
    "_rlnOpticsGroup",
    "_rlnVoltage",
    "x y",
    "kk= 1 local resolution=",
]


def read_all_star(path: Path) -> None:
    read_star(path)
    relion.read_particles(path, load_images=False)


@FUZZ
@given(
    content=st.one_of(
        st.binary(max_size=400),
        mutated(PARTICLES),
        st.lists(st.sampled_from(STAR_WORDS), max_size=40).map(lambda w: " ".join(w).encode()),
    )
)
def test_star(tmp_path, content):
    path = tmp_path / "fuzz.star"
    path.write_bytes(content)
    outcome(read_all_star, path)


@FUZZ
@given(
    body=st.one_of(
        st.binary(max_size=300), st.lists(st.sampled_from(STAR_WORDS), max_size=40).map(lambda w: " ".join(w).encode())
    ),
    count=st.integers(1, 4),
)
def test_compiled_reader_takes_any_bytes(body, count):
    """The compiled reader gives columns of one length, or declines."""
    content = b"data_\nloop_\n" + b"".join(b"_c%d\n" % n for n in range(count))
    found = star_fast.read_columns(content + body, len(content), count)
    if found is not None:
        columns, position, _ = found
        assert len(columns) == count and len({len(column) for column in columns}) == 1
        assert len(content) <= position <= len(content + body) + 1


# ---- MRC
# ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mrc_bytes(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("mrc")
    rng = np.random.default_rng(1)
    write_volume(folder / "volume.mrc", Volume(rng.normal(size=(6, 6, 6)).astype(np.float32), 1.5))
    write_stack(folder / "stack.mrcs", rng.normal(size=(5, 6, 6)), 1.5, mode=12)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read_all_mrc(path: Path) -> None:
    header = read_header(path)
    read_data(header).tobytes()
    for reader in (read_volume, read_image, lambda p: MrcStack(p).read(slice(None)), describe):
        try:
            reader(path)
        except VitreousError:
            continue


WILD = st.sampled_from([-1, 0, 1, 2, 3, 6, 12, 101, 1 << 16, (1 << 31) - 1, -(1 << 31), 0x41414141])


@FUZZ
@given(data=st.data())
def test_mrc(tmp_path, mrc_bytes, data):
    content = mrc_bytes[data.draw(st.sampled_from(sorted(mrc_bytes)))]
    words = (
        np.frombuffer(content, dtype="<i4").copy()
        if len(content) % 4 == 0
        else np.frombuffer(content[: len(content) // 4 * 4], dtype="<i4").copy()
    )
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, 55), WILD), max_size=6)):
        words[place] = value
    content = data.draw(st.one_of(st.just(words.tobytes()), mutated(content), st.binary(max_size=1500)))
    path = tmp_path / "fuzz.mrc"
    path.write_bytes(content)
    outcome(read_all_mrc, path)


@FUZZ
@given(data=st.data())
def test_packed_mrc(tmp_path, mrc_bytes, data):
    import bz2
    import gzip

    pack = data.draw(st.sampled_from([gzip.compress, bz2.compress]))
    words = np.frombuffer(mrc_bytes["volume.mrc"], dtype="<i4").copy()
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, 55), WILD), max_size=3)):
        words[place] = value
    path = tmp_path / "fuzz.mrc.gz"
    path.write_bytes(data.draw(st.one_of(st.just(pack(words.tobytes())), mutated(pack(mrc_bytes["volume.mrc"])))))
    outcome(read_all_mrc, path)


# ---- .cs
# ------------------------------------------------------------------------------------------------------------------

DATASET = Table(
    {
        "uid": np.array([3, 1 << 63, 7], dtype=np.uint64),
        "blob/path": TextColumn(np.array([0, 1, 0]), (">J1/a.mrc", "J1/b.mrc")),
        "blob/idx": np.array([0, 1, 2], dtype=np.uint32),
        "blob/shape": np.full((3, 2), 64, dtype=np.uint32),
        "blob/psize_A": np.full(3, 1.5, dtype=np.float32),
        "alignments3D/pose": np.ones((3, 3), dtype=np.float32),
        "alignments3D/shift": np.ones((3, 2), dtype=np.float32),
        "alignments3D/split": np.array([0, 1, 0], dtype=np.uint32),
        "ctf/df1_A": np.full(3, 1e4, dtype=np.float32),
    }
)


@pytest.fixture(scope="module")
def cs_bytes(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("cs")
    for container in ("numpy", "csdat"):
        write_dataset(folder / container, DATASET, container=container)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read_all_cs(path: Path) -> None:
    read_dataset(path)
    cryosparc.read_particles(path, load_images=False)


@FUZZ
@given(data=st.data())
def test_cs(tmp_path, cs_bytes, data):
    content = cs_bytes[data.draw(st.sampled_from(sorted(cs_bytes)))]
    path = tmp_path / "fuzz.cs"
    path.write_bytes(data.draw(st.one_of(mutated(content), st.binary(max_size=300).map(lambda b: content[:6] + b))))
    outcome(read_all_cs, path)


def numpy_header(text: str) -> bytes:
    header = text.encode()
    return b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': [('uid', '<u8')], 'fortran_order': False, 'shape': (1000000000000,), }",
        "{'descr': [('uid', '<u8')], 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': [('uid', '<u8')], 'fortran_order': False, 'shape': (3, 4), }",
        "{'descr': [('uid', '|O')], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': [('uid', '<u8', (1000000, 1000000))], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': [], 'fortran_order': False, 'shape': (1,), }",
        "(" * 5000,
        "{'descr': [('uid', 'S0')], 'fortran_order': False, 'shape': (5,), }",
    ],
)
def test_wild_numpy_headers(tmp_path, header):
    path = tmp_path / "wild.cs"
    path.write_bytes(numpy_header(header) + bytes(64))
    with pytest.raises(VitreousError):
        read_dataset(path)


@pytest.mark.parametrize(
    "header",
    [
        '{"length": 1000000000000, "dtype": [["uid", "<u8"]], "compression": "lz4", "compressed_fields": ["uid"]}',
        '{"length": 2, "dtype": [["u", "<u8", [1000000, 1000000]]], "compression": "lz4", "compressed_fields": ["u"]}',
        '{"length": -2, "dtype": [["uid", "<u8"]], "compression": null, "compressed_fields": []}',
        '{"length": 2, "dtype": [["uid", "<q9"]], "compression": null, "compressed_fields": []}',
        '{"length": 2, "dtype": 7, "compression": null, "compressed_fields": []}',
        '{"length": 2.5, "dtype": [["uid", "<u8"]], "compression": null, "compressed_fields": []}',
        '{"length": 2, "dtype": [["a", "|O"]], "compression": null, "compressed_fields": []}',
        '{"length": 2, "dtype": [["a", "<f4"], ["a", "<f4"]], "compression": null, "compressed_fields": []}',
        "[" * 100000,
        "[1]",
    ],
)
def test_wild_csdat_headers(tmp_path, header):
    path = tmp_path / "wild.cs"
    packed = lz4.block.compress(b"\xff" * 16, store_size=False)
    path.write_bytes(
        CSDAT + len(header).to_bytes(4, "little") + header.encode() + len(packed).to_bytes(4, "little") + packed
    )
    tracemalloc.start()
    with pytest.raises(VitreousError):
        read_dataset(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < ALLOWED


@FUZZ
@given(
    content=st.one_of(
        st.binary(max_size=200),
        mutated(b"group:\n  type: particle\nresults:\n  blob:\n    metafile: '>a.cs'\n  ctf:\n    metafile: b.cs\n"),
    )
)
def test_group(tmp_path, content):
    path = tmp_path / "fuzz.csg"
    path.write_bytes(content)
    outcome(read_group, path)


# ---- atoms
# ----------------------------------------------------------------------------------------------------------------

PDB = b"""\
ATOM      1  N   MET A   1      27.340  24.430   2.614  1.00  9.67           N
ATOM      2  CA AMET A   1      26.266  25.413   2.842  0.60 10.38           C
ATOM      3  CA BMET A   1      26.913  26.639   3.531  0.40  9.62           C
HETATM    4 ZN    ZN A 101      25.112  24.880   3.649  1.00 13.79          ZN
END
"""
CIF = b"""data_X
loop_
_atom_site.group_PDB
_atom_site.id
_atom_site.type_symbol
_atom_site.label_atom_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_seq_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
ATOM 1 N N MET A 1 27.3 24.4 2.6
ATOM 2 C CA MET A 1 26.2 25.4 2.8
"""


@FUZZ
@given(content=st.one_of(st.binary(max_size=300), mutated(PDB), mutated(CIF)), suffix=st.sampled_from([".pdb", ".cif"]))
def test_atoms(tmp_path, content, suffix):
    path = tmp_path / f"fuzz{suffix}"
    path.write_bytes(content)
    outcome(read_atoms, path)


def test_parse_star_needs_no_file():
    with pytest.raises(VitreousError):
        parse_star(b"not a star file")
