"""MRC headers, volumes and images against the mrcfile package and against headers made by hand."""

from __future__ import annotations

import bz2
import gzip

import mrcfile
import numpy as np
import pytest
from mrcfile.dtypes import HEADER_DTYPE

from vitreous.errors import DataProblem, FileProblem, FormatProblem, OutputProblem
from vitreous.io.mrc import read_data, read_header, read_image, read_volume
from vitreous.io.mrc_stack import MrcStack, StackWriter, write_stack, write_volume
from vitreous.model.volume import Volume

VALUES = {0: "i1", 1: "i2", 2: "f4", 4: "c8", 6: "u2", 12: "f2"}


def mrc_bytes(data: np.ndarray, *, order: str = "<", extended: bytes = b"", **fields) -> bytes:
    """An MRC file made by hand: mrcfile writes neither every mode in both byte orders nor damaged headers."""
    header = np.zeros((), dtype=HEADER_DTYPE.newbyteorder(order))
    for axis, size in zip("zyx", data.shape):
        header["n" + axis] = header["m" + axis] = size
        header["cella"][axis] = size * 1.5
    header["mode"] = {"i1": 0, "i2": 1, "f4": 2, "c8": 4, "u2": 6, "f2": 12}[data.dtype.str[1:]]
    header["mapc"], header["mapr"], header["maps"], header["ispg"] = 1, 2, 3, 1
    header["map"], header["machst"] = b"MAP ", (0x44, 0x44, 0, 0) if order == "<" else (0x11, 0x11, 0, 0)
    header["nsymbt"] = len(extended)
    for name, value in fields.items():
        header[name] = value
    return header.tobytes() + extended + data.astype(data.dtype.newbyteorder(order)).tobytes()


def numbers(shape, kind: str) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 100, shape)
    return (values + 1j * values[::-1]).astype("c8") if kind == "c8" else values.astype(kind)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("mode", VALUES)
def test_every_mode_in_both_byte_orders(tmp_path, mode, order):
    data = numbers((3, 4, 5), VALUES[mode])
    path = tmp_path / "file.mrc"
    path.write_bytes(mrc_bytes(data, order=order, extended=b"E" * 100, exttyp=b"FEI1"))
    header = read_header(path)
    assert (header.mode, header.shape, header.byte_order) == (mode, (3, 4, 5), "little" if order == "<" else "big")
    assert (header.extended_type, header.extended_bytes, header.data_offset) == ("FEI1", 100, 1124)
    assert np.array_equal(read_data(header), data)
    assert isinstance(read_data(header), np.memmap)


def test_a_wrong_machine_stamp_does_not_matter(tmp_path):
    """Byte order is told by what makes sense; many old files carry the stamp of another machine."""
    data = numbers((3, 4, 5), "f4")
    for order, stamp in (("<", (0x11, 0x11, 0, 0)), (">", (0x44, 0x44, 0, 0)), (">", (0, 0, 0, 0))):
        path = tmp_path / "file.mrc"
        path.write_bytes(mrc_bytes(data, order=order, machst=stamp, map=b"\0\0\0\0"))
        assert np.array_equal(read_data(read_header(path)), data)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_packed_files(tmp_path, pack):
    data = numbers((4, 4, 4), "f4")
    path = tmp_path / "packed.mrc"  # told by content, whatever the suffix
    path.write_bytes(pack(mrc_bytes(data)))
    assert np.array_equal(read_volume(path).data, data)
    path.write_bytes(pack(mrc_bytes(data))[:-20])
    with pytest.raises(FileProblem, match=r"packed.mrc (unpacks to|cannot be unpacked)"):
        read_volume(path)
    path.write_bytes(pack(mrc_bytes(data)[:-20]))
    with pytest.raises(FileProblem, match=f"unpacks to {1024 + 256 - 20} bytes; expected {1024 + 256} bytes"):
        read_volume(path)


@pytest.mark.parametrize("axes", [(1, 2, 3), (1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2), (3, 2, 1)])
def test_axis_order_is_normalised(tmp_path, axes):
    """mapc, mapr, maps name the axis (1 = x) along columns, rows, sections: element (x, y, z) is found by that
    definition."""
    stored = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    path = tmp_path / "map.mrc"
    path.write_bytes(mrc_bytes(stored, mapc=axes[0], mapr=axes[1], maps=axes[2]))
    data = read_volume(path).data
    for section, row, column in np.ndindex(3, 3, 3):
        place = {axes[0]: column, axes[1]: row, axes[2]: section}
        assert data[place[3], place[2], place[1]] == stored[section, row, column]


def test_pixel_size(tmp_path):
    path = tmp_path / "map.mrc"
    data = numbers((4, 4, 4), "f4")
    path.write_bytes(mrc_bytes(data))
    assert read_volume(path).pixel_size == 1.5 and read_volume(path, pixel_size=2.0).pixel_size == 2.0
    path.write_bytes(mrc_bytes(data, cella=(0, 0, 0)))
    assert read_header(path).pixel_size is None
    with pytest.raises(DataProblem, match=r"pixel size 0.*--pixel-size"):
        read_volume(path)
    assert read_volume(path, pixel_size=2.0).pixel_size == 2.0
    path.write_bytes(mrc_bytes(data, mx=8))  # the sampling counts, not the number of columns
    assert read_header(path).pixel_size == (0.75, 1.5, 1.5)
    with pytest.raises(DataProblem, match="one size along x, y and z"):
        read_volume(path)


def test_images(tmp_path):
    data = numbers((1, 4, 6), "u2")
    path = tmp_path / "image.mrc"
    path.write_bytes(mrc_bytes(data))
    image = read_image(path)
    assert image.dtype == np.float32 and np.array_equal(image, data[0])
    path.write_bytes(mrc_bytes(numbers((1, 4, 6), "c8")))
    assert read_image(path).dtype == np.complex64
    with pytest.raises(DataProblem, match="one image"):
        read_volume(path)
    path.write_bytes(mrc_bytes(numbers((2, 4, 6), "f4")))
    with pytest.raises(DataProblem, match="2 sections"):
        read_image(path)
    with pytest.raises(DataProblem, match="a cubic map"):
        read_volume(path)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"", FileProblem, "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", FileProblem, "git-LFS"),
        (b"abc", FileProblem, "3 bytes"),
        (b"text " * 500, FormatProblem, "no valid MRC header"),
        (bytes(2000), FormatProblem, "no valid MRC header"),
        (mrc_bytes(numbers((3, 4, 5), "f4"))[:-1], FileProblem, f"{1024 + 239} bytes; expected {1024 + 240} bytes"),
        (mrc_bytes(numbers((3, 4, 5), "f4"), nsymbt=-4), FormatProblem, "-4 bytes of extended header"),
        (mrc_bytes(numbers((3, 4, 5), "f4"), nx=2**31 - 1, ny=2**31 - 1, nz=2**31 - 1), FileProblem, "expected 396"),
        (mrc_bytes(numbers((3, 4, 5), "f4"), nx=-5), FormatProblem, "no valid MRC header"),
        (mrc_bytes(numbers((3, 4, 5), "f4"), mode=101), FormatProblem, "packed 4-bit"),
        (mrc_bytes(numbers((3, 4, 5), "f4"), mode=3), FormatProblem, "complex int16"),
    ],
)
def test_bad_files(tmp_path, content, error, words):
    path = tmp_path / "bad.mrc"
    path.write_bytes(content)
    with pytest.raises(error, match=words):
        read_header(path)


def test_written_volume_is_what_mrcfile_calls_valid(tmp_path, capsys):
    path = tmp_path / "map.mrc"
    data = np.random.default_rng(2).normal(3, 2, (6, 6, 6)).astype(np.float32)
    write_volume(path, Volume(data, 1.37), label="half map 1")
    assert mrcfile.validate(str(path)), capsys.readouterr().out
    with mrcfile.open(path) as mrc:
        assert np.array_equal(mrc.data, data)
        # float32 header fields: 6 * 1.37 / 6 within one rounding
        assert mrc.voxel_size.x == pytest.approx(1.37, rel=1e-7)
        assert (mrc.header.mode, mrc.header.ispg, mrc.header.mz) == (2, 1, 6)
        assert mrc.header.dmean == pytest.approx(data.mean(), rel=1e-6) and mrc.header.rms == pytest.approx(
            data.std(), rel=1e-6
        )
        assert bytes(mrc.header.label[0]).rstrip(b"\0 ") == b"half map 1"
    volume = read_volume(path)
    assert np.array_equal(volume.data, data) and volume.pixel_size == pytest.approx(1.37, rel=1e-7)


@pytest.mark.parametrize(("mode", "dtype"), [(2, np.float32), (12, np.float16)])
def test_written_stack_is_what_mrcfile_calls_valid(tmp_path, capsys, mode, dtype):
    path = tmp_path / "particles.mrcs"
    images = np.random.default_rng(3).normal(size=(7, 5, 5))
    with StackWriter(path, 1.2, mode=mode) as writer:
        for chunk in (images[:3], images[3], images[4:4], images[4:]):
            writer.append(chunk)
        assert not path.exists()
    assert mrcfile.validate(str(path)), capsys.readouterr().out
    with mrcfile.open(path) as mrc:
        assert mrc.is_image_stack() and mrc.data.dtype == dtype and np.array_equal(mrc.data, images.astype(dtype))
        stored = images.astype(dtype).astype(float)
        assert mrc.header.dmin == pytest.approx(stored.min(), rel=1e-6) and mrc.header.rms == pytest.approx(
            stored.std(), rel=1e-6
        )
    whole = tmp_path / "whole.mrcs"
    write_stack(whole, images, 1.2, mode=mode)
    # the deviation is summed chunk by chunk: its last bit may differ, everything else is equal
    assert whole.read_bytes()[1024:] == path.read_bytes()[1024:]


def test_stack_writer_leaves_nothing_behind(tmp_path):
    path = tmp_path / "particles.mrcs"
    with pytest.raises(ZeroDivisionError), StackWriter(path, 1.2) as writer:
        writer.append(np.zeros((2, 4, 4)))
        raise ZeroDivisionError
    with pytest.raises(DataProblem, match="no images"), StackWriter(path, 1.2):
        pass
    with pytest.raises(DataProblem, match=r"\(1, 4, 5\)"), StackWriter(path, 1.2) as writer:
        writer.append(np.zeros((2, 4, 4)))
        writer.append(np.zeros((1, 4, 5)))
    with pytest.raises(DataProblem, match="65504"):
        write_stack(path, np.full((1, 4, 4), 1e6), 1.2, mode=12)
    with pytest.raises(OutputProblem, match="mode 6"):
        write_stack(path, np.zeros((1, 4, 4)), 1.2, mode=6)
    with pytest.raises(OutputProblem, match="pixel size 0"):
        write_stack(path, np.zeros((1, 4, 4)), 0)
    assert list(tmp_path.iterdir()) == []


def test_stack_as_image_source(tmp_path):
    path = tmp_path / "particles.mrcs"
    images = np.random.default_rng(4).normal(size=(6, 5, 5)).astype(np.float32)
    write_stack(path, images, 1.2)
    stack = MrcStack(path)
    assert stack.shape == (6, 5, 5) and len(stack) == 6 and stack.pixel_size == pytest.approx(1.2)
    assert np.array_equal(stack.read(slice(1, 4)), images[1:4])
    assert np.array_equal(stack.read(np.array([5, 0, 5])), images[[5, 0, 5]])
    part = stack.rows(np.array([4, 2, 0])).rows(slice(1, None))
    assert part.shape == (2, 5, 5) and np.array_equal(part.read(slice(None)), images[[2, 0]])
    write_stack(path, images[0][None], 1.2)
    assert MrcStack(path).shape == (1, 5, 5)
    write_stack(path, np.zeros((2, 4, 5)), 1.2)
    with pytest.raises(DataProblem, match="5 x 4 pixels"):
        MrcStack(path)
