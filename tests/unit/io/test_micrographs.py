"""Micrographs as files: every mode, sums of movies, TIFF turned over, pixel sizes that are known or asked for, spectra."""

from __future__ import annotations

import bz2
import gzip
import tracemalloc
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tifffile
from mrcfile import new as new_mrc
from PIL import Image

from vitreous.errors import DataProblem, FileProblem, FormatProblem
from vitreous.io.micrographs import Kind, bare_name, find_micrograph, open_micrograph
from vitreous.io.mrc_stack import write_stack

SHAPE = (20, 30)
MODES = {"i1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12}


@pytest.fixture
def image(rng) -> np.ndarray:
    return rng.integers(0, 100, SHAPE).astype(np.float32)


def write_mrc(path: Path, data: np.ndarray, voxel_size=1.5) -> Path:
    with new_mrc(path, overwrite=True) as mrc:
        mrc.set_data(data)
        mrc.voxel_size = voxel_size
    return path


@pytest.mark.parametrize("dtype", MODES)
def test_every_mode_is_read(dtype, image, tmp_path):
    path = write_mrc(tmp_path / "m.mrc", image.astype(dtype))
    file = open_micrograph(path)
    assert (file.kind, file.shape, file.frames) == (Kind.MICROGRAPH, SHAPE, 1)
    assert file.pixel_size == pytest.approx(1.5) == file.header_pixel_size
    assert file.read().dtype == np.float32 and np.array_equal(file.read(), image)


@pytest.mark.parametrize(("pack", "ending"), [(gzip.compress, ".gz"), (bz2.compress, ".bz2")])
def test_packed_movies_are_summed(pack, ending, rng, tmp_path):
    frames = rng.integers(0, 9, (5, *SHAPE)).astype(np.int16)
    plain = write_mrc(tmp_path / "movie.mrcs", frames)
    packed = tmp_path / f"movie.mrcs{ending}"
    packed.write_bytes(pack(plain.read_bytes()))
    for path in (plain, packed):
        file = open_micrograph(path)
        assert (file.kind, file.frames, file.shape) == (Kind.MOVIE, 5, SHAPE)
        assert np.array_equal(file.read(), frames.sum(axis=0))


@pytest.mark.parametrize("kind", ["mrc", "mrc.gz", "tif"])
def test_a_movie_takes_the_memory_of_one_frame(kind, tmp_path):
    frame = np.random.default_rng(0).integers(0, 200, (256, 256)).astype(np.uint8)
    frames = np.broadcast_to(frame, (64, 256, 256))
    path = tmp_path / f"movie.{kind}"
    if kind == "tif":
        tifffile.imwrite(path, frames, metadata=None, resolution=(1e8, 1e8), resolutionunit="CENTIMETER")
    else:
        plain = write_mrc(tmp_path / "plain.mrc", frames.astype(np.int8))
        path.write_bytes(gzip.compress(plain.read_bytes(), 1) if kind == "mrc.gz" else plain.read_bytes())
    file = open_micrograph(path)
    tracemalloc.start()
    total = file.read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total.shape == (256, 256)
    # The sum takes 4 bytes a pixel; frames, their copies and buffers of the unpacking are allowed as much again twice, 64 frames are not.
    assert peak < 3 * total.nbytes + 2**20 < frames.nbytes


def test_the_other_byte_order(image, tmp_path):
    path = write_mrc(tmp_path / "m.mrc", image.astype(">f4"))
    assert np.array_equal(open_micrograph(path).read(), image)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "f4"])
def test_tiff_images_are_turned_over(order, dtype, image, tmp_path):
    """As RELION and IMOD do: agreement/test_ctf_files_relion.py."""
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, image.astype(dtype), byteorder=order, resolution=(1e8 / 1.25, 1e8 / 1.25), resolutionunit=3)
    file = open_micrograph(path)
    assert file.pixel_size == pytest.approx(1.25, rel=1e-6)
    assert np.array_equal(file.read(), image[::-1])
    assert not np.array_equal(file.read(), image)


def test_pages_of_a_tiff_are_frames(rng, tmp_path):
    frames = rng.integers(0, 9, (4, *SHAPE)).astype(np.uint8)
    path = tmp_path / "movie.tif"
    tifffile.imwrite(
        path, frames, photometric="minisblack", compression="zlib", resolution=(1e8, 1e8), resolutionunit=3
    )
    file = open_micrograph(path)
    assert (file.kind, file.frames) == (Kind.MOVIE, 4)
    assert np.array_equal(file.read(), frames.sum(axis=0)[::-1])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"resolution": (1e8 / 0.66, 1e8 / 0.66), "resolutionunit": "CENTIMETER"}, 0.66),
        ({"resolution": (2.54e8 / 0.66, 2.54e8 / 0.66), "resolutionunit": "INCH"}, 0.66),
        ({"imagej": True, "resolution": (10 / 0.66, 10 / 0.66), "metadata": {"unit": "nm"}}, 0.66),
        ({"imagej": True, "resolution": (1e4 / 0.66, 1e4 / 0.66), "metadata": {"unit": "um"}}, 0.66),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),  # a screen's
        ({"resolution": (1e8, 2e8), "resolutionunit": "CENTIMETER"}, None),  # not square
        ({"resolution": (1e8, 1e8), "resolutionunit": "NONE"}, None),
        ({"imagej": True, "resolution": (1.0, 1.0), "metadata": {"unit": "pixel"}}, None),
        ({}, None),
    ],
)
def test_pixel_size_of_tiff_tags(options, expected, image, tmp_path):
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, image.astype(np.uint16), **options)
    if expected is None:
        with pytest.raises(DataProblem, match=r"does not say its pixel size.*--pixel-size"):
            open_micrograph(path)
        assert open_micrograph(path, pixel_size=0.7).pixel_size == 0.7
    else:
        assert open_micrograph(path).pixel_size == pytest.approx(expected, rel=1e-6)


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="with imagecodecs these files can be read")
def test_a_compression_without_its_package_is_one_line(image, tmp_path):
    path = tmp_path / "m.tif"
    Image.fromarray(image.astype(np.uint8)).save(path, compression="tiff_lzw")
    with pytest.raises(FileProblem, match=r"imagecodecs.*install imagecodecs") as caught:
        open_micrograph(path, pixel_size=1.0).read()
    assert "\n" not in caught.value.line()


def test_broken_and_foreign_tiff_files_are_one_line(image, tmp_path):
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, np.zeros((*SHAPE, 3), dtype=np.uint8), photometric="rgb")
    with pytest.raises(DataProblem, match="grey values"):
        open_micrograph(path)
    tifffile.imwrite(path, image, resolution=(1e8, 1e8), resolutionunit=3)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises((FileProblem, FormatProblem)) as caught:
        open_micrograph(path).read()
    assert "\n" not in caught.value.line()
    path.write_bytes(b"II*\0" + bytes(20))
    with pytest.raises((FileProblem, FormatProblem)):
        open_micrograph(path)


def test_a_pixel_size_of_0_is_asked_for(image, tmp_path):
    path = write_mrc(tmp_path / "m.mrc", image, voxel_size=0.0)
    with pytest.raises(DataProblem, match=r"pixel size 0.*--pixel-size"):
        open_micrograph(path)
    file = open_micrograph(path, pixel_size=1.1)
    assert file.pixel_size == 1.1 and file.header_pixel_size is None


def test_pixels_that_are_not_square_are_refused(image, tmp_path):
    path = write_mrc(tmp_path / "m.mrc", image, voxel_size=(1.0, 1.2, 1.0))
    with pytest.raises(DataProblem, match="square"):
        open_micrograph(path)
    assert open_micrograph(path, pixel_size=1.1).pixel_size == 1.1


def test_spectra_are_known_by_name_or_by_being_told(image, tmp_path):
    named, other = tmp_path / "a_PS.mrc", tmp_path / "a.mrc"
    for path in (named, other):
        write_stack(path, image[None], 2.0)
    assert open_micrograph(named).kind is Kind.SPECTRUM and open_micrograph(other).kind is Kind.MICROGRAPH
    assert open_micrograph(other, spectrum=True).kind is Kind.SPECTRUM
    write_stack(named, np.stack([image, image]), 2.0)
    with pytest.raises(DataProblem, match="one spectrum"):
        open_micrograph(named)


def test_transforms_and_maps_are_refused(tmp_path):
    with pytest.raises(DataProblem, match="complex"):
        open_micrograph(write_mrc(tmp_path / "f.mrc", np.zeros(SHAPE, dtype=np.complex64)))
    with pytest.raises(DataProblem, match="cube"):
        open_micrograph(write_mrc(tmp_path / "v.mrc", np.zeros((24, 24, 24), dtype=np.float32)))


def test_a_movie_that_ends_early_is_named(rng, tmp_path):
    path = write_mrc(tmp_path / "m.mrc", rng.integers(0, 9, (3, *SHAPE)).astype(np.int16))
    packed = tmp_path / "m.mrc.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()[:-100]))
    with pytest.raises(FileProblem, match="section 3"):
        open_micrograph(packed).read()
    packed.write_bytes(gzip.compress(path.read_bytes())[:-300])
    with pytest.raises(FileProblem):
        open_micrograph(packed).read()


def test_names_lead_to_files(image, tmp_path, monkeypatch):
    for folder in ("job/inside", "data", "here"):
        (tmp_path / folder).mkdir(parents=True)
    for place in ("job/inside/a.mrc", "job/b.mrc", "data/c.mrc", "here/d.mrc"):
        write_stack(tmp_path / place, image[None], 1.0)
    monkeypatch.chdir(tmp_path / "here")
    star, data = tmp_path / "job" / "inside", [tmp_path / "data"]
    found = {name: find_micrograph(f"{name}.mrc:mrc", star, data) for name in "abcde"}
    assert [None if path is None else path.resolve().name for path in found.values()] == [
        "a.mrc",
        "b.mrc",
        "c.mrc",
        "d.mrc",
        None,
    ]


def test_bare_names():
    assert [bare_name(name) for name in ("a/x.mrc", "x.tif.gz", "x.01.mrcs", "x_PS.mrc")] == ["x", "x", "x.01", "x_PS"]


def test_a_real_micrograph(shared_data):
    file = open_micrograph(shared_data / "micrograph" / "fei-extended.mrc.gz")
    # its README: 3838 x 3710 pixels of 0.85378 A, mode 6, an extended header, pixel size 0 along z
    assert file.shape == (3838, 3710) and file.pixel_size == pytest.approx(0.85378, abs=1e-5)
    image = file.read()
    assert image.dtype == np.float32 and 1000 < image.mean() < 10000 and image.min() >= 0


def test_real_spectra(shared_data):
    file = open_micrograph(shared_data / "spectra" / "20170629_00021_frameImage_PS.mrc")
    assert file.kind is Kind.SPECTRUM and file.pixel_size == pytest.approx(1.39955, abs=1e-5)
    amplitudes = file.read()
    assert amplitudes.argmax() == np.ravel_multi_index((256, 256), amplitudes.shape)
