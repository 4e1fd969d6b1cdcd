"""`extract`: images of the right places with the right signs, the same whoever cuts them and in how many runs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.conventions import Contrast
from vitreous.errors import DataProblem
from vitreous.fourier.filters import background_statistics
from vitreous.fourier.transforms import fourier_crop, frequencies, pad_real, translate
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.io.mrc import read_header, read_image, read_volume
from vitreous.io.mrc_stack import MrcStack
from vitreous.io.particles import read_particles
from vitreous.io.star import read_star
from vitreous.jobs import extract_micrograph
from vitreous.jobs.extract import Extract
from vitreous.jobs.extract_micrograph import CutTask
from vitreous.jobs.folder import run_job
from vitreous.jobs.simulate_micrograph import SimulateMicrograph
from vitreous.model.table import Table
from vitreous.optics.ctf import ctf_of_particles
from vitreous.picking.extraction import Recipe
from vitreous.reconstruction.projection import fourier_volume, half_plane, project, slice_grid

BOX = 32


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.corrcoef(left.ravel(), right.ravel())[0, 1])


# --- images -----------------------------------------------------------------------------------------------------------


def test_each_row_has_the_image_of_its_particle(scene, extracted):
    """Moved by its origin, each image is the bright particle in the middle. Half a pixel off, or inverted, it is not."""
    particles = read_particles(extracted / "particles.star")
    table = particles.table
    assert particles.contrast is Contrast.INVERTED and len(particles) == len(scene.micrograph)
    assert np.asarray(table["rlnMicrographName"]).tolist() == [scene.names[number] for number in scene.micrograph]
    size = np.array(scene.pixel_size)[scene.micrograph]
    origin = np.stack([table["rlnOriginXAngst"], table["rlnOriginYAngst"]], axis=-1)
    pixel = np.stack([table["rlnCoordinateX"], table["rlnCoordinateY"]], axis=-1)
    assert np.array_equal(pixel, pixel.round())
    assert np.abs(pixel - origin / size[:, None] - scene.centre).max() < 1e-8  # nine decimals in the file
    images = particles.images.read(slice(None)).astype(np.float64)
    middle, truth = slice(6, 26), scene.particle((BOX, BOX), BOX // 2, BOX // 2)[6:26, 6:26]
    moved = translate(images, origin / size[:, None])[:, middle, middle]
    right = np.array([correlation(one, truth) for one in moved])
    assert right.min() > 0.97  # the noise has 0.05 of the particle's height
    for shift in ((0.5, 0.0), (0.0, 0.5), (-0.5, -0.5)):
        off = translate(images, origin / size[:, None] + shift)[:, middle, middle]
        assert np.mean([correlation(one, truth) for one in off]) < right.mean() - 0.01
    still = np.array([correlation(one[middle, middle], truth) for one in images])
    back = translate(images, -origin / size[:, None])[:, middle, middle]
    assert (
        right.mean() > still.mean() + 0.005
        and still.mean() > np.mean([correlation(one, truth) for one in back]) + 0.005
    )
    assert (
        np.array([correlation(one[::-1], truth) for one in moved]).max() < 0.95
    )  # rows in the order of the micrograph


def test_images_are_normalised_and_say_their_pixel_size(scene, extracted):
    for name, size in zip(scene.stacks, scene.pixel_size):
        stack = MrcStack(extracted / "particles" / f"{name}.mrcs")
        assert stack.header.mode == 2 and stack.pixel_size == pytest.approx(size)
        mean, deviation = background_statistics(stack.read(slice(None)), 0.75 * BOX / 2)
        assert np.abs(mean).max() < 1e-4 and np.abs(deviation - 1).max() < 1e-4  # single precision
    result = json.loads((extracted / "result.json").read_text())
    assert result["brightness"] > 10 * result["brightness_error"] > 0


@pytest.mark.parametrize(
    "options", [{"invert": False}, {"contrast": "inverted"}, {"contrast": "inverted", "invert": False}]
)
def test_contrast_is_what_the_file_says(scene, extracted, tmp_path, options):
    """These micrographs are dark: told that they are bright, or not to invert, the images stay dark, and the first is told."""
    outcome = scene.extract(tmp_path / "job", **options)
    images = MrcStack(tmp_path / "job" / "particles" / "a.mrcs").read(slice(None))
    bright = MrcStack(extracted / "particles" / "a.mrcs").read(slice(None))
    assert np.allclose(images, -bright, atol=2e-4)  # single precision of counts of 300, in deviations of 1
    declared = Contrast.RAW if options.get("contrast") is None else Contrast.INVERTED
    assert read_particles(tmp_path / "job" / "particles.star").contrast is declared
    assert any("darker" in warning for warning in outcome.warnings) == (declared is Contrast.INVERTED)


def test_a_reduced_box_is_the_cropped_transform(scene, tmp_path):
    plain = {"ramp": False, "normalise": False, "invert": False}
    scene.extract(tmp_path / "whole", **plain)
    scene.extract(tmp_path / "small", scale_to=20, **plain)
    for name, size in zip(scene.stacks, scene.pixel_size):
        whole, small = (MrcStack(tmp_path / job / "particles" / f"{name}.mrcs") for job in ("whole", "small"))
        cropped, pixel_size = fourier_crop(whole.read(slice(None)), 20, 2, size)
        assert np.array_equal(small.read(slice(None)), cropped)
        assert small.pixel_size == pytest.approx(pixel_size) == pytest.approx(size * BOX / 20)
    before, after = (read_particles(tmp_path / job / "particles.star") for job in ("whole", "small"))
    assert [group.pixel_size for group in after.optics] == pytest.approx([1.5 * 1.6, 2.0 * 1.6])
    assert [group.box for group in after.optics] == [20, 20] and [group.box for group in before.optics] == [32, 32]
    assert [group.extra["rlnMicrographPixelSize"] for group in after.optics] == [1.5, 2.0]
    for name in ("rlnOriginXAngst", "rlnCoordinateY"):  # angstrom, and pixels of the micrograph: neither changes
        assert np.array_equal(before.table[name], after.table[name])


def test_raw_boxes_are_the_pixels_of_the_micrograph(scene, tmp_path):
    scene.extract(tmp_path / "job", ramp=False, normalise=False, invert=False)
    particles = read_particles(tmp_path / "job" / "particles.star")
    for row, image in enumerate(particles.images.read(slice(None))):
        x, y = (int(particles.table[name][row]) - BOX // 2 for name in ("rlnCoordinateX", "rlnCoordinateY"))
        micrograph = read_image(scene.folder / scene.names[scene.micrograph[row]])
        assert np.array_equal(image, micrograph[y : y + BOX, x : x + BOX])


def test_half_precision_keeps_eleven_bits(scene, extracted, tmp_path):
    scene.extract(tmp_path / "job", float16=True)
    full, half = (MrcStack(job / "particles" / "b.mrcs") for job in (extracted, tmp_path / "job"))
    assert half.header.mode == 12
    assert np.allclose(half.read(slice(None)), full.read(slice(None)), rtol=2.0**-11, atol=1e-6)
    with pytest.raises(DataProblem, match="65504"):
        bright = scene.folder / "bright.mrc"
        scene.write_image(bright, np.linspace(0, 1e6, 100 * 100).reshape(100, 100), 1.0)
        lone = scene.write_picks(
            tmp_path / "lone.star",
            Table(
                {
                    "rlnMicrographName": np.array([str(bright)], dtype=object),
                    "rlnCoordinateX": [50.0],
                    "rlnCoordinateY": [50.0],
                }
            ),
        )
        run_job(Extract((lone,), box=32, float16=True, normalise=False, ramp=False), tmp_path / "overflow")


def test_dust_is_replaced_the_same_way_each_time(scene, tmp_path):
    image = np.random.default_rng(0).normal(50, 2, (90, 90))
    image[40, 52] = 9e4
    scene.write_image(tmp_path / "a.mrc", image.astype(np.float32), 1.5)
    names = np.array(["a.mrc", "a.mrc"], dtype=object)
    table = Table({"rlnMicrographName": names, "rlnCoordinateX": [20.0, 50.0], "rlnCoordinateY": [60.0, 50.0]})
    picks = scene.write_picks(tmp_path / "picks.star", table)
    outcomes = [
        run_job(Extract((picks,), box=BOX, dust=8.0, seed=seed), tmp_path / str(number))
        for number, seed in enumerate((1, 1, 2))
    ]
    first, again, other = ((tmp_path / str(number) / "particles" / "a.mrcs").read_bytes() for number in range(3))
    assert first == again != other
    assert next(finding.value for finding in outcomes[0].findings if finding.key == "dust") == 1
    run_job(Extract((picks,), box=BOX), tmp_path / "spoiled")
    spoiled, clean = (MrcStack(tmp_path / job / "particles" / "a.mrcs").read(slice(None)) for job in ("spoiled", "0"))
    assert np.abs(spoiled).max() > 20 > 6 > np.abs(clean).max()


def test_simulated_particles_come_back_as_their_true_projections(tmp_path):
    """From atoms to a tilted micrograph and out again: pose, origin, CTF with the particle's own defocus, contrast, pixel size."""
    settings = {"pixel_size": 2.0, "size": (640, 512), "particles": 12, "distance": 160.0, "seed": 5, "tilt_deg": 20.0}
    optics = {"detector": "none", "ice": "none", "defocus_um": (0.6, 0.9)}
    run_job(SimulateMicrograph(Path("bundled:4ake"), **settings, **optics), tmp_path / "truth")
    picks, micrographs = (tmp_path / "truth" / name for name in ("coordinates.star", "micrographs.star"))
    plain = {"box": 64, "normalise": False, "ramp": False, "micrographs": micrographs, "ctf_from": "micrographs"}
    run_job(Extract((picks,), **plain), tmp_path / "job")
    particles, truth = (
        read_particles(tmp_path / "job" / "particles.star"),
        read_volume(tmp_path / "truth" / "truth_map.mrc"),
    )
    given = read_star(picks)["particles"]
    assert (
        np.abs(particles.ctf.defocus_u - given["rlnDefocusU"]).max() < 1e-5
    )  # micrograph, tilt and height give the true defocus
    grid, rotation = slice_grid(64), matrix_from_euler(particles.pose.euler).astype(np.float32)
    slices = half_plane(project(fourier_volume(pad_real(truth.data, 64, 3)), rotation, grid), grid)
    kx, ky = frequencies((64, 64), 2.0)
    expected = np.fft.fftshift(
        np.fft.irfft2(slices * ctf_of_particles(particles.optics[0], particles.ctf, kx, ky)), axes=(1, 2)
    )
    images, origin = particles.images.read(slice(None)), particles.pose.shift / particles.pixel_size
    seen = slice(8, 56)

    def agreement(shift: np.ndarray) -> np.ndarray:
        moved = translate(images, shift)
        return np.array([correlation(a[seen, seen], b[seen, seen]) for a, b in zip(moved, expected)])

    right = agreement(origin)
    assert right.min() > 0.98  # linear interpolation of slices is good to a percent or two
    assert np.abs(origin).max() > 0.3
    for wrong in (origin + np.array([0.5, 0.0]), origin - np.array([0.0, 0.5]), -origin):
        assert agreement(wrong).mean() < right.mean() - 0.05


# places of dark blobs in the micrograph of shared/data, the largest minima of a difference of Gaussians 35 and 60 A wide
BLOBS = np.array(
    [
        (269, 1042),
        (2400, 572),
        (768, 3344),
        (1000, 895),
        (3266, 757),
        (2153, 1446),
        (3464, 2748),
        (2868, 2594),
        (443, 2798),
        (1885, 2600),
        (2622, 694),
        (2031, 1160),
    ]
)


def test_particles_of_a_real_micrograph(scene, shared_data, tmp_path):
    """Packed, counts of 16 bits, extended header: raw boxes are its pixels, and its dark blobs become bright particles."""
    name = np.array(["fei-extended.mrc.gz"] * len(BLOBS), dtype=object)
    table = Table(
        {"rlnMicrographName": name, "rlnCoordinateX": BLOBS[:, 0] + 0.25, "rlnCoordinateY": BLOBS[:, 1] - 0.25}
    )
    picks, options = (
        scene.write_picks(tmp_path / "picks.star", table),
        {"box": 320, "datadir": shared_data / "micrograph"},
    )
    outcome = run_job(Extract((picks,), scale_to=80, dust=8.0, **options), tmp_path / "job")
    found = {finding.key: finding.value for finding in outcome.findings}
    assert found["particles"] == 12 and found["pixel_size_angstrom"] == pytest.approx(0.85378 * 4, rel=1e-4)
    assert found["brightness"] > 5 * found["brightness_error"] > 0
    assert 0 < found["dust"] < 100  # of 1.2 million pixels; its brightest pixel is 69 deviations above the mean
    run_job(Extract((picks,), ramp=False, normalise=False, invert=False, **options), tmp_path / "raw")
    image = read_image(shared_data / "micrograph" / "fei-extended.mrc.gz")
    for box, (x, y) in zip(
        MrcStack(tmp_path / "raw" / "particles" / "fei-extended.mrcs").read(slice(None)), BLOBS - 160
    ):
        assert np.array_equal(box, image[y : y + 320, x : x + 320])


# --- the work ---------------------------------------------------------------------------------------------------------


def products(job: Path) -> dict[str, bytes]:
    """What must be the same whoever did the work, and in how many runs."""
    stacks = {path.name: path.read_bytes() for path in sorted((job / "particles").glob("*.mrcs"))}
    return {**stacks, "star": (job / "particles.star").read_bytes().replace(str(job).encode(), b"JOB")}


def test_any_number_of_workers_gives_the_same_bytes(scene, extracted, tmp_path):
    for workers in (1, 3):
        scene.extract(tmp_path / str(workers), workers=workers, dust=9.0)
    assert products(tmp_path / "1") == products(tmp_path / "3")
    assert len(products(extracted)) == 4


def test_chunks_make_no_difference(scene, extracted, tmp_path, monkeypatch):
    monkeypatch.setattr(extract_micrograph, "CUT_BYTES", 5 * 4 * BOX**2)
    scene.extract(tmp_path / "job")
    for name in scene.stacks:  # sums of a matrix product depend on its shape in the last bits
        whole, parts = (
            MrcStack(job / "particles" / f"{name}.mrcs").read(slice(None)) for job in (extracted, tmp_path / "job")
        )
        assert np.abs(whole - parts).max() < 1e-4


def test_a_stopped_run_is_finished_by_the_same_command(scene, extracted, tmp_path, monkeypatch):
    """It does again only what was not finished, and what has changed since."""
    cut, done = CutTask._cut, []

    def stopping(task, item, file):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(item.sheet.name)
        return cut(task, item, file)

    monkeypatch.setattr(CutTask, "_cut", stopping)
    with pytest.raises(KeyboardInterrupt, match="goes on from there"):
        scene.extract(tmp_path / "job", workers=1)
    assert not (tmp_path / "job").exists() and done == ["a", "b"]
    again = []
    monkeypatch.setattr(
        CutTask, "_cut", lambda task, item, file: (again.append(item.sheet.name), cut(task, item, file))[1]
    )
    scene.extract(tmp_path / "job", workers=1)
    assert again == ["a_2"]
    assert products(tmp_path / "job") == products(extracted)


def test_the_task_travels(scene):
    task = CutTask(scene.folder, Recipe(BOX, 12.0), 2, 0)
    assert pickle.loads(pickle.dumps(task)) == task


def test_memory_does_not_grow_with_the_number_of_particles(scene, tmp_path):
    """The job holds a few megabytes of boxes at a time; 4,000 of 64 pixels are 65 MB."""
    import tracemalloc

    rng = np.random.default_rng(0)
    peaks = []
    for count in (2000, 6000):
        names = np.array([scene.names[0]] * count, dtype=object)
        x, y = rng.integers(40, 160, (2, count)).astype(float)
        picks = scene.write_picks(
            scene.folder / f"many{count}.star",
            Table({"rlnMicrographName": names, "rlnCoordinateX": x, "rlnCoordinateY": y}),
        )
        tracemalloc.start()
        run_job(Extract((picks,), box=64, workers=1), tmp_path / str(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 10e6


def test_the_report_shows_particles_and_reasons(extracted):
    page = (extracted / "report.html").read_text()
    for words in (
        "Particles",
        "Average",
        "underfocus",
        "Radial profile",
        "Defocus of the particles",
        "particles.star",
        "Noise of each",
    ):
        assert words in page
    assert page.count("data:image/png") >= 4  # a gallery for each micrograph, and the average
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_command_prints_what_the_job_found(scene, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(scene.folder)
    words = [
        "extract",
        "picks.star",
        "--box",
        "32",
        "--scale-to",
        "24",
        "--micrographs",
        "micrographs.star",
        "--edge",
        "drop",
    ]
    assert dispatch([*words, "--no-ramp", "--float16", "--out", str(tmp_path / "job"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["particles"] == 39 and printed["pixel_sizes_angstrom"] == [2.0, pytest.approx(2.666667)]
    assert printed["contrast"] == "inverted" and read_header(tmp_path / "job" / "particles" / "b.mrcs").mode == 12
    assert dispatch(["extract", "picks.star", "--out", str(tmp_path / "x")]) == 2 and "--box" in capsys.readouterr().err
