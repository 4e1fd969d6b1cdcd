"""`extract`: images of the right places with the right signs, every column kept, and what is left out counted and named."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem, FileProblem, FormatProblem, SettingsProblem
from vitreous.fourier.filters import background_statistics
from vitreous.fourier.transforms import fourier_crop, frequencies, pad_real, translate
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.io.micrograph_star import ctf_columns
from vitreous.io.micrograph_table import micrograph_table, write_micrograph_table
from vitreous.io.mrc import read_header, read_image, read_volume
from vitreous.io.mrc_stack import MrcStack, StackWriter
from vitreous.io.particles import read_particles
from vitreous.io.star import StarFile, read_star, write_star
from vitreous.jobs import extract_micrograph
from vitreous.jobs.extract import Extract
from vitreous.jobs.extract_micrograph import CutTask
from vitreous.jobs.folder import run_job
from vitreous.jobs.simulate_micrograph import SimulateMicrograph
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.table import Table
from vitreous.optics.ctf import ctf_of_particles
from vitreous.optics.tilted_plane import TiltedPlane
from vitreous.picking.extraction import Recipe
from vitreous.reconstruction.projection import fourier_volume, half_plane, project, slice_grid

SHAPE = (240, 200)
NAMES = ("raw/a.mrc", "raw/b.mrc", "other/a.mrc")
STACKS = ("a", "b", "a_2")
PIXEL = (1.5, 1.5, 2.0)
BOX = 32
GROUPS = (
    OpticsGroup("first", pixel_size=1.5, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1),
    OpticsGroup("second", pixel_size=2.0, voltage=200e3, spherical_aberration=1.4e7, amplitude_contrast=0.07),
)
DEFOCUS = np.array([(12500.0, 11500.0, 20.0), (15000.0, 14800.0, 0.0), (10000.0, 9000.0, -40.0)])
NOISE = 0.05  # of a particle's height


@dataclass(frozen=True)
class Scene:
    """A folder with three micrographs, micrographs.star, and picks.star whose rows are in no order of micrographs."""

    folder: Path
    micrograph: np.ndarray  # of each pick
    centre: np.ndarray  # (x, y) in pixels, with fractions

    @property
    def micrographs(self) -> Path:
        return self.folder / "micrographs.star"

    @property
    def picks(self) -> Path:
        return self.folder / "picks.star"


def particle(shape: tuple[int, int], x: float, y: float) -> np.ndarray:
    """Lopsided, so that a mirrored or turned image is another one."""
    rows, columns = np.indices(shape)
    parts = ((1.0, 1.6, -0.6, 2.0), (0.7, -2.6, 1.6, 1.6), (0.5, 0.4, -4.0, 1.6))
    return sum(
        weight * np.exp(-((columns - x - dx) ** 2 + (rows - y - dy) ** 2) / (2 * sigma**2))
        for weight, dx, dy, sigma in parts
    )


def table_of_picks(scene: Scene, **more) -> Table:
    names = np.array(NAMES, dtype=object)[scene.micrograph]
    columns = {
        "rlnMicrographName": names,
        "rlnCoordinateX": scene.centre[:, 0],
        "rlnCoordinateY": scene.centre[:, 1],
        "rlnAutopickFigureOfMerit": np.arange(len(names)) / 8,
        "rlnClassNumber": np.arange(len(names)) % 3,
        "somebodysNote": np.array([f"pick {i}" for i in range(len(names))], dtype=object),
    }
    return Table({**columns, **more})


def write_picks(path: Path, table: Table, optics: Table | None = None) -> Path:
    star = StarFile({"particles": table} if optics is None else {"optics": optics, "particles": table})
    star.version = "30001"
    write_star(path, star)
    return path


def write_micrographs_star(path: Path, **more) -> Path:
    u, v, angle = DEFOCUS.T
    ctf = CtfParameters.of(u, v, np.radians(angle), phase_shift=np.radians([0.0, 90.0, 0.0]))
    table = micrograph_table(NAMES, GROUPS, np.array([0, 0, 1]))
    write_micrograph_table(
        path, table.with_columns({**ctf_columns(ctf), "rlnCtfMaxResolution": np.array([3.1, 3.2, 3.3]), **more})
    )
    return path


def write_image(path: Path, image: np.ndarray, pixel_size: float) -> None:
    path.parent.mkdir(exist_ok=True)
    with StackWriter(path, pixel_size, label="detector") as writer:
        writer.append(image)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Scene:
    """Not to be modified."""
    folder, rng = tmp_path_factory.mktemp("scene"), np.random.default_rng(3)
    grid = np.stack(np.meshgrid(np.arange(30, 180, 40), np.arange(30, 220, 40)), axis=-1).reshape(-1, 2)
    micrograph, centre = [], []
    for number, name in enumerate(NAMES):
        places = grid[: 12 + number] + rng.uniform(-3, 3, (12 + number, 2))
        image = 300 + 20 * NOISE * rng.standard_normal(SHAPE)
        for x, y in places:
            image -= 20 * particle(SHAPE, x, y)  # dark, as a detector sees it
        write_image(folder / name, image.astype(np.float32), PIXEL[number])
        micrograph += [number] * len(places)
        centre += places.tolist()
    order = rng.permutation(len(micrograph))
    scene = Scene(folder, np.array(micrograph)[order], np.array(centre)[order])
    write_micrographs_star(scene.micrographs)
    write_picks(scene.picks, table_of_picks(scene))
    return scene


def extract(scene: Scene, out: Path, **options):
    settings = {"box": BOX, "micrographs": scene.micrographs, **options}
    return run_job(Extract((scene.picks,), **settings), out)


@pytest.fixture(scope="module")
def extracted(scene, tmp_path_factory) -> Path:
    """The scene extracted with nothing but a box. Not to be modified."""
    out = tmp_path_factory.mktemp("extracted") / "job"
    extract(scene, out)
    return out


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.corrcoef(left.ravel(), right.ravel())[0, 1])


# --- images -----------------------------------------------------------------------------------------------------------


def test_each_row_has_the_image_of_its_particle(scene, extracted):
    """Moved by its origin, each image is the bright particle in the middle. Half a pixel off, or inverted, it is not."""
    particles = read_particles(extracted / "particles.star")
    table = particles.table
    assert particles.contrast is Contrast.INVERTED and len(particles) == len(scene.micrograph)
    assert np.asarray(table["rlnMicrographName"]).tolist() == [NAMES[number] for number in scene.micrograph]
    size = np.array(PIXEL)[scene.micrograph]
    origin = np.stack([table["rlnOriginXAngst"], table["rlnOriginYAngst"]], axis=-1)
    pixel = np.stack([table["rlnCoordinateX"], table["rlnCoordinateY"]], axis=-1)
    assert np.array_equal(pixel, pixel.round())
    assert np.abs(pixel - origin / size[:, None] - scene.centre).max() < 1e-8  # nine decimals in the file
    images = particles.images.read(slice(None)).astype(np.float64)
    middle, truth = slice(6, 26), particle((BOX, BOX), BOX // 2, BOX // 2)[6:26, 6:26]
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


def test_images_are_normalised_and_say_their_pixel_size(extracted):
    for name, size in zip(STACKS, PIXEL):
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
    outcome = extract(scene, tmp_path / "job", **options)
    images = MrcStack(tmp_path / "job" / "particles" / "a.mrcs").read(slice(None))
    bright = MrcStack(extracted / "particles" / "a.mrcs").read(slice(None))
    assert np.allclose(images, -bright, atol=2e-4)  # single precision of counts of 300, in deviations of 1
    declared = Contrast.RAW if options.get("contrast") is None else Contrast.INVERTED
    assert read_particles(tmp_path / "job" / "particles.star").contrast is declared
    assert any("darker" in warning for warning in outcome.warnings) == (declared is Contrast.INVERTED)


def test_a_reduced_box_is_the_cropped_transform(scene, tmp_path):
    plain = {"ramp": False, "normalise": False, "invert": False}
    extract(scene, tmp_path / "whole", **plain)
    extract(scene, tmp_path / "small", scale_to=20, **plain)
    for name, size in zip(STACKS, PIXEL):
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
    extract(scene, tmp_path / "job", ramp=False, normalise=False, invert=False)
    particles = read_particles(tmp_path / "job" / "particles.star")
    for row, image in enumerate(particles.images.read(slice(None))):
        x, y = (int(particles.table[name][row]) - BOX // 2 for name in ("rlnCoordinateX", "rlnCoordinateY"))
        micrograph = read_image(scene.folder / NAMES[scene.micrograph[row]])
        assert np.array_equal(image, micrograph[y : y + BOX, x : x + BOX])


def test_half_precision_keeps_eleven_bits(scene, extracted, tmp_path):
    extract(scene, tmp_path / "job", float16=True)
    full, half = (MrcStack(job / "particles" / "b.mrcs") for job in (extracted, tmp_path / "job"))
    assert half.header.mode == 12
    assert np.allclose(half.read(slice(None)), full.read(slice(None)), rtol=2.0**-11, atol=1e-6)
    with pytest.raises(DataProblem, match="65504"):
        bright = scene.folder / "bright.mrc"
        write_image(bright, np.linspace(0, 1e6, 100 * 100).reshape(100, 100), 1.0)
        lone = write_picks(
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


def test_dust_is_replaced_the_same_way_each_time(tmp_path):
    image = np.random.default_rng(0).normal(50, 2, (90, 90))
    image[40, 52] = 9e4
    write_image(tmp_path / "a.mrc", image.astype(np.float32), 1.5)
    names = np.array(["a.mrc", "a.mrc"], dtype=object)
    table = Table({"rlnMicrographName": names, "rlnCoordinateX": [20.0, 50.0], "rlnCoordinateY": [60.0, 50.0]})
    picks = write_picks(tmp_path / "picks.star", table)
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


def test_particles_of_a_real_micrograph(shared_data, tmp_path):
    """Packed, counts of 16 bits, extended header: raw boxes are its pixels, and its dark blobs become bright particles."""
    name = np.array(["fei-extended.mrc.gz"] * len(BLOBS), dtype=object)
    table = Table(
        {"rlnMicrographName": name, "rlnCoordinateX": BLOBS[:, 0] + 0.25, "rlnCoordinateY": BLOBS[:, 1] - 0.25}
    )
    picks, options = write_picks(tmp_path / "picks.star", table), {"box": 320, "datadir": shared_data / "micrograph"}
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


# --- columns ----------------------------------------------------------------------------------------------------------


def test_every_other_column_is_kept(scene, extracted):
    picks, written = read_star(scene.picks)["particles"], read_star(extracted / "particles.star")["particles"]
    for name in ("rlnAutopickFigureOfMerit", "rlnClassNumber", "somebodysNote"):
        assert np.array_equal(np.asarray(picks[name]), np.asarray(written[name]))
    assert "vitreousFilledFraction" not in written  # none reaches over the border


def test_ctf_and_optics_are_those_of_the_micrograph(scene, extracted):
    particles = read_particles(extracted / "particles.star")
    u, v, angle = DEFOCUS[scene.micrograph].T
    assert np.array_equal(particles.ctf.defocus_u, u) and np.array_equal(particles.ctf.defocus_v, v)
    assert np.allclose(np.degrees(particles.ctf.defocus_angle), angle)
    assert np.allclose(np.degrees(particles.ctf.phase_shift), np.where(scene.micrograph == 1, 90, 0))
    assert np.array_equal(particles.table["rlnCtfMaxResolution"], np.array([3.1, 3.2, 3.3])[scene.micrograph])
    assert [particles.optics[i].name for i in particles.optics_index] == [
        ("first", "first", "second")[m] for m in scene.micrograph
    ]
    assert [(group.voltage, group.amplitude_contrast) for group in particles.optics] == [(300e3, 0.1), (200e3, 0.07)]


def test_tilted_micrographs_give_each_particle_its_own_defocus(scene, tmp_path):
    """By the plane of `TiltedPlane`, its hand included, about the middle of the micrograph."""
    tilt, axis = np.array([30.0, 0.0, -20.0]), np.array([90.0, 0.0, 15.0])
    star = write_micrographs_star(tmp_path / "tilted.star", vitreousTiltDeg=tilt, vitreousTiltAxisDeg=axis)
    options = {"micrographs": star, "datadir": scene.folder}
    outcome = extract(scene, tmp_path / "job", **options)
    particles = read_particles(tmp_path / "job" / "particles.star")
    expected, mirrored = np.empty((2, len(particles)))
    for row, number in enumerate(scene.micrograph):
        x, y = (scene.centre[row] - np.array([100, 120])) * PIXEL[number]  # SHAPE is (240, 200)
        plane = TiltedPlane(np.radians(tilt[number]), np.radians(axis[number]))
        expected[row], mirrored[row] = (DEFOCUS[number, 0] + sign * plane.height(x, y) for sign in (1, -1))
    assert (
        np.abs(particles.ctf.defocus_u - expected).max() < 1e-5 < 50 < np.abs(particles.ctf.defocus_u - mirrored).max()
    )
    assert np.allclose(
        particles.ctf.defocus_u - particles.ctf.defocus_v, (DEFOCUS[:, 0] - DEFOCUS[:, 1])[scene.micrograph]
    )
    assert next(f.value for f in outcome.findings if f.key == "ctf_source").endswith("place")
    extract(scene, tmp_path / "flat", per_particle_defocus=False, **options)
    flat = read_particles(tmp_path / "flat" / "particles.star")
    assert np.array_equal(flat.ctf.defocus_u, DEFOCUS[scene.micrograph, 0])
    with pytest.raises(SettingsProblem, match="without a tilt"):
        extract(scene, tmp_path / "none", per_particle_defocus=True)


def test_the_ctf_of_the_picks_is_theirs_unless_told_otherwise(scene, tmp_path):
    own = np.linspace(8000, 9000, len(scene.micrograph))
    table = table_of_picks(scene, rlnDefocusU=own, rlnDefocusV=own - 100, rlnDefocusAngle=own * 0)
    picks = write_picks(scene.folder / "with_ctf.star", table)
    settings = {"box": BOX, "micrographs": scene.micrographs}
    run_job(Extract((picks,), **settings), tmp_path / "own")
    assert np.allclose(read_particles(tmp_path / "own" / "particles.star").ctf.defocus_u, own)
    run_job(Extract((picks,), ctf_from="micrographs", **settings), tmp_path / "theirs")
    assert np.array_equal(
        read_particles(tmp_path / "theirs" / "particles.star").ctf.defocus_u, DEFOCUS[scene.micrograph, 0]
    )
    with pytest.raises(SettingsProblem, match="--ctf-from micrographs"):
        run_job(Extract((picks,), per_particle_defocus=True, **settings), tmp_path / "x")
    with pytest.raises(DataProblem, match="gives no defocus"):
        extract(scene, tmp_path / "y", ctf_from="picks")


def test_a_copy_of_the_micrographs_ctf_is_not_the_particles_own(scene, tmp_path):
    """As `vitreous pick` writes it: one defocus a micrograph. The tilt that --micrographs knows then counts; another defocus is told."""
    star = write_micrographs_star(
        tmp_path / "tilted.star",
        vitreousTiltDeg=np.array([30.0, 0.0, np.nan]),
        vitreousTiltAxisDeg=np.array([90.0, 0.0, np.nan]),
    )
    u, v, angle = DEFOCUS[scene.micrograph].T
    for name, shift in (("copy", 0.0), ("older", 40.0)):
        columns = {
            "rlnDefocusU": u + shift,
            "rlnDefocusV": v + shift,
            "rlnDefocusAngle": angle,
            "vitreousDefocusError": u * 0 + 9.0,
        }
        picks = write_picks(scene.folder / f"{name}.star", table_of_picks(scene, **columns))
        outcome = run_job(Extract((picks,), box=BOX, micrographs=star, datadir=scene.folder), tmp_path / name)
        written = read_particles(tmp_path / name / "particles.star")
        off = np.abs(written.ctf.defocus_u - u)
        assert off[scene.micrograph == 0].max() > 30 and off[scene.micrograph > 0].max() == 0
        assert "vitreousDefocusError" not in written.table
        assert any("up to 40 Å" in warning for warning in outcome.warnings) == (name == "older")
        run_job(
            Extract((picks,), box=BOX, micrographs=star, datadir=scene.folder, ctf_from="picks"),
            tmp_path / f"{name}_kept",
        )
        kept = read_particles(tmp_path / f"{name}_kept" / "particles.star")
        assert np.array_equal(kept.ctf.defocus_u, u + shift) and "vitreousDefocusError" in kept.table


def test_without_micrographs_the_picks_say_all(scene, tmp_path):
    """No STAR file of micrographs: images from the names, pixel sizes from headers, no CTF, which is told."""
    table = table_of_picks(scene).rows(scene.micrograph < 2)
    outcome = run_job(Extract((write_picks(scene.folder / "alone.star", table),), box=BOX), tmp_path / "job")
    particles = read_particles(tmp_path / "job" / "particles.star")
    assert particles.pixel_size == pytest.approx(1.5) and particles.ctf is None
    assert any("No CTF is known" in warning for warning in outcome.warnings)


def test_defoci_that_the_box_does_not_hold_are_told(scene, tmp_path):
    """32 pixels of 1.5 A at 1.2 um: Nyquist is displaced by 80 A, the box reaches 24 A."""
    outcome = extract(scene, tmp_path / "job")
    assert any("larger box" in warning and "39 particles" in warning for warning in outcome.warnings)
    wide = extract(scene, tmp_path / "wide", box=180, scale_to=20)  # 13 A and more a pixel: displaced by 10 A
    assert not any("larger box" in warning for warning in wide.warnings)


# --- where the coordinates come from ----------------------------------------------------------------------------------


def coordinate_files(scene: Scene, folder: Path) -> list[Path]:
    """One file a micrograph, without its name, as RELION's pickers write them; that of the last has no rows."""
    folder.mkdir(exist_ok=True)
    paths = []
    for number, stem in enumerate(("a_autopick", "b_autopick")):
        rows = table_of_picks(scene).rows(scene.micrograph == number).without("rlnMicrographName", "somebodysNote")
        star = StarFile({"": rows})
        star.version = "50001"
        write_star(folder / f"{stem}.star", star)
        paths.append(folder / f"{stem}.star")
    (folder / "c_autopick.star").write_text("# version 50001\n\ndata_\n\n")
    return [*paths, folder / "c_autopick.star"]


def test_lists_and_single_files_give_the_same_images(scene, tmp_path):
    files = coordinate_files(scene, scene.folder / "pick")
    names = ("raw/a.mrc", "raw/b.mrc", "other/a.mrc")
    relative = [str(path.relative_to(scene.folder)) for path in files]
    listed = Table(
        {
            "rlnMicrographName": np.array(names, dtype=object),
            "rlnMicrographCoordinates": np.array(relative, dtype=object),
        }
    )
    write_star(scene.folder / "pick" / "autopick.star", StarFile({"coordinate_files": listed}))
    run_job(
        Extract((scene.folder / "pick" / "autopick.star",), box=BOX, micrographs=scene.micrographs), tmp_path / "list"
    )
    one = Extract((files[1],), box=BOX, micrographs=scene.micrographs)
    run_job(one, tmp_path / "one")
    extract(scene, tmp_path / "all")
    for job in ("list", "one"):
        assert (tmp_path / job / "particles" / "b.mrcs").read_bytes() == (
            tmp_path / "all" / "particles" / "b.mrcs"
        ).read_bytes()
    written = read_star(tmp_path / "list" / "particles.star")["particles"]
    assert len(written) == (scene.micrograph < 2).sum() and "rlnAutopickFigureOfMerit" in written
    # two micrographs are called a.mrc: the file's name alone does not say which is meant
    with pytest.raises(DataProblem, match="2 micrographs"):
        run_job(Extract((files[0], files[1]), box=BOX, micrographs=scene.micrographs), tmp_path / "two")
    with pytest.raises(DataProblem, match="--micrographs"):
        run_job(Extract((files[0],), box=BOX), tmp_path / "nameless")
    with pytest.raises(DataProblem, match="no coordinates"):
        run_job(Extract((files[2],), box=BOX, micrographs=scene.micrographs), tmp_path / "empty")
    files[1].unlink()
    with pytest.raises(FileProblem, match="b_autopick"):
        run_job(Extract((scene.folder / "pick" / "autopick.star",), box=BOX), tmp_path / "missing")


def test_aligned_particles_are_cut_again_about_their_centres(scene, tmp_path):
    """From a particle file whose images are reduced: coordinates stay pixels of the micrographs, origins angstrom."""
    extract(scene, tmp_path / "first", scale_to=16)
    star = read_star(tmp_path / "first" / "particles.star")
    known = np.array(PIXEL)[scene.micrograph]
    found = np.random.default_rng(2).uniform(-9, 9, (len(known), 2))  # what an alignment says, in angstrom
    moved = {f"rlnOrigin{letter}Angst": found[:, axis] for axis, letter in enumerate("XY")}
    prior = {"rlnOriginXPriorAngst": found[:, 0] + 1.0}
    angles = {f"rlnAngle{name}": np.linspace(0, 90, len(known)) for name in ("Rot", "Tilt", "Psi")}
    star["particles"] = star["particles"].with_columns({**moved, **prior, **angles})
    write_star(tmp_path / "aligned.star", star)
    before = read_particles(tmp_path / "aligned.star", load_images=False)
    centre = (
        np.stack([before.table["rlnCoordinateX"], before.table["rlnCoordinateY"]], axis=-1) - found / known[:, None]
    )
    for recentre in (False, True):
        out = tmp_path / f"recentre_{recentre}"
        run_job(Extract((tmp_path / "aligned.star",), box=BOX, micrographs=scene.micrographs, recentre=recentre), out)
        after = read_particles(out / "particles.star")
        pixel = np.stack([after.table["rlnCoordinateX"], after.table["rlnCoordinateY"]], axis=-1)
        assert np.abs(pixel - after.pose.shift / known[:, None] - centre).max() < 1e-7
        assert np.array_equal(after.pose.euler, before.pose.euler)
        assert [group.pixel_size for group in after.optics] == pytest.approx([1.5, 2.0])
        assert (np.abs(after.pose.shift).max() <= 1.0 + 1e-9) == recentre  # half a pixel of 2 A
        assert np.allclose(after.table["rlnOriginXPriorAngst"] - after.pose.shift[:, 0], 1.0)
        assert np.array_equal(pixel, np.floor((centre if recentre else pixel) + 0.5))
    # without the micrographs' STAR file the headers say the pixel size, not that of the small images
    run_job(Extract((tmp_path / "aligned.star",), box=BOX, datadir=scene.folder), tmp_path / "headers")
    assert [
        group.pixel_size for group in read_particles(tmp_path / "headers" / "particles.star").optics
    ] == pytest.approx([1.5, 2.0])


def test_what_a_refinement_knows_of_the_optics_stays(scene, tmp_path):
    """Beam tilt of the particles' group, state of the CTF of the micrographs'."""
    extract(scene, tmp_path / "first")
    star = read_star(tmp_path / "first" / "particles.star")
    star["optics"] = star["optics"].with_columns(
        {"rlnBeamTiltX": np.array([0.25, 0.0]), "rlnCtfDataAreCtfPremultiplied": np.array([1, 1])}
    )
    write_star(tmp_path / "refined.star", star)
    run_job(Extract((tmp_path / "refined.star",), box=BOX, micrographs=scene.micrographs), tmp_path / "job")
    groups = read_particles(tmp_path / "job" / "particles.star").optics
    assert [group.beam_tilt[0] for group in groups] == pytest.approx([0.25e-3, 0.0])
    assert {group.ctf_state for group in groups} == {CtfState.RAW}
    with pytest.raises(DataProblem, match="says nothing of their micrographs"):
        run_job(Extract((tmp_path / "refined.star",), box=BOX, datadir=scene.folder), tmp_path / "unknown")


def test_corrected_micrographs_say_so(scene, tmp_path):
    from vitreous.jobs.apply_ctf import ApplyCtf

    run_job(ApplyCtf(scene.micrographs, method="premultiply"), tmp_path / "corrected")
    options = {"box": BOX, "datadir": tmp_path}
    names = read_star(tmp_path / "corrected" / "micrographs.star")["micrographs"]["rlnMicrographName"]
    table = table_of_picks(scene).with_columns({"rlnMicrographName": np.asarray(names)[scene.micrograph]})
    picks = write_picks(tmp_path / "picks.star", table)
    run_job(Extract((picks,), micrographs=tmp_path / "corrected" / "micrographs.star", **options), tmp_path / "job")
    assert {group.ctf_state for group in read_particles(tmp_path / "job" / "particles.star").optics} == {
        CtfState.PREMULTIPLIED
    }
    with pytest.raises(DataProblem, match="premultiplied"):  # the label of each micrograph is not what the picks say
        run_job(Extract((picks,), **options), tmp_path / "silent")


# --- borders ----------------------------------------------------------------------------------------------------------

BORDER = np.array([[100.0, 120.0], [5.0, 120.0], [100.4, 238.6], [-3.0, 50.0], [16.0, 16.0], [15.0, 16.0]])


@pytest.fixture
def border(scene, tmp_path) -> Path:
    """Picks of one micrograph at its border: whole, cut on the left, cut below, outside, just whole, just cut."""
    table = Table(
        {
            "rlnMicrographName": np.array([NAMES[0]] * 6, dtype=object),
            "rlnCoordinateX": BORDER[:, 0],
            "rlnCoordinateY": BORDER[:, 1],
        }
    )
    return write_picks(scene.folder / "border.star", table)


def test_boxes_over_the_border_are_filled_with_the_nearest_pixel(scene, border, tmp_path):
    outcome = run_job(Extract((border,), box=BOX, ramp=False, normalise=False, invert=False), tmp_path / "job")
    written = read_star(tmp_path / "job" / "particles.star")["particles"]
    assert len(written) == 5  # the one whose middle is no pixel is left out
    image, cut = (
        read_image(scene.folder / NAMES[0]),
        MrcStack(tmp_path / "job" / "particles" / "a.mrcs").read(slice(None)),
    )
    padded = np.pad(image, BOX, mode="edge")
    for box, (x, y) in zip(cut, np.floor(BORDER[[0, 1, 2, 4, 5]] + 0.5).astype(int) + BOX // 2):
        assert np.array_equal(box, padded[y : y + BOX, x : x + BOX])
    assert np.allclose(written["vitreousFilledFraction"], [0, 11 / 32, 15 / 32, 0, 1 / 32], atol=1e-4)  # four decimals
    found = {finding.key: finding.value for finding in outcome.findings}
    assert (found["particles"], found["left_out"], found["at_edge"]) == (5, 1, 3)
    assert any("1 picks lie outside" in warning for warning in outcome.warnings)


def test_boxes_over_the_border_are_dropped_when_asked(scene, border, tmp_path):
    outcome = run_job(Extract((border,), box=BOX, edge="drop"), tmp_path / "job")
    written = read_star(tmp_path / "job" / "particles.star")["particles"]
    assert written["rlnCoordinateX"].tolist() == [100.0, 16.0] and "vitreousFilledFraction" not in written
    assert any("3 picks whose boxes reach over" in warning for warning in outcome.warnings)


# --- faults -----------------------------------------------------------------------------------------------------------


def copied(scene: Scene, tmp_path: Path, **changes) -> Path:
    """The picks of the scene with other columns."""
    return write_picks(scene.folder / f"{tmp_path.name}.star", table_of_picks(scene).with_columns(changes))


def test_coordinates_of_another_pixel_size_are_refused(scene, tmp_path):
    far = copied(scene, tmp_path, rlnCoordinateX=scene.centre[:, 0] * 2)
    with pytest.raises(DataProblem, match="outside its micrograph of 200 x 240"):
        run_job(Extract((far,), box=BOX, micrographs=scene.micrographs), tmp_path / "job")
    optics = Table(
        {"rlnOpticsGroupName": np.array(["x"], dtype=object), "rlnOpticsGroup": [1], "rlnMicrographPixelSize": [3.0]}
    )
    binned = write_picks(
        scene.folder / "binned.star", table_of_picks(scene).with_columns({"rlnOpticsGroup": np.ones(39, int)}), optics
    )
    with pytest.raises(DataProblem, match="picked on micrographs of 3 A"):
        run_job(Extract((binned,), box=BOX, micrographs=scene.micrographs), tmp_path / "job")
    assert not (tmp_path / "job").exists()


def test_headers_that_say_another_pixel_size_are_told(scene, tmp_path):
    outcome = run_job(Extract((scene.picks,), box=BOX, micrographs=scene.micrographs, pixel_size=1.5), tmp_path / "job")
    assert any("The headers of 1 micrographs" in warning and "2 Å" in warning for warning in outcome.warnings)
    assert read_particles(tmp_path / "job" / "particles.star").pixel_size == 1.5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_coordinates_that_are_no_numbers_are_named(scene, tmp_path, value):
    broken = scene.centre[:, 1].copy()
    broken[4] = value
    with pytest.raises(DataProblem, match="row 5 of column rlnCoordinateY"):
        run_job(Extract((copied(scene, tmp_path, rlnCoordinateY=broken),), box=BOX), tmp_path / "job")


def test_a_missing_micrograph_ends_the_job_before_it_begins(scene, tmp_path):
    names = np.array(["gone.mrc" if number == 1 else NAMES[number] for number in scene.micrograph], dtype=object)
    with pytest.raises(FileProblem, match=r"gone\.mrc"):
        run_job(Extract((copied(scene, tmp_path, rlnMicrographName=names),), box=BOX), tmp_path / "job")
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize("box", [201, 400])
def test_a_box_larger_than_the_micrograph_is_refused(scene, tmp_path, box):
    with pytest.raises(SettingsProblem, match="200 x 240"):
        extract(scene, tmp_path / "job", box=box)


@pytest.fixture
def broken(scene, tmp_path) -> Path:
    """picks.star with micrographs a (good), nan, flat and short."""
    good = read_image(scene.folder / NAMES[0])
    spoiled = good.copy()
    spoiled[7, 9] = np.nan
    for name, image in {"good": good, "nan": spoiled, "flat": np.ones_like(good), "short": good}.items():
        write_image(tmp_path / f"{name}.mrc", image, 1.5)
    content = (tmp_path / "short.mrc").read_bytes()
    (tmp_path / "short.mrc").write_bytes(content[: len(content) // 2])
    names = np.array(
        [name for name in ("good.mrc", "nan.mrc", "flat.mrc", "short.mrc") for _ in range(2)], dtype=object
    )
    return write_picks(
        tmp_path / "picks.star",
        Table({"rlnMicrographName": names, "rlnCoordinateX": np.full(8, 60.0), "rlnCoordinateY": np.arange(8) + 60.0}),
    )


def test_micrographs_that_are_no_images_are_left_out_and_named(broken, tmp_path):
    outcome = run_job(Extract((broken,), box=BOX), tmp_path / "job")
    result = json.loads((tmp_path / "job" / "result.json").read_text())
    assert result["particles"] == 2 and result["left_out"] == 6
    reasons = result["left_out_because"]
    assert "NaN" in reasons["nan.mrc"] and "every pixel" in reasons["flat.mrc"] and "truncated" in reasons["short.mrc"]
    assert any("3 micrographs with 6 picks were left out" in warning for warning in outcome.warnings)
    written = read_particles(tmp_path / "job" / "particles.star")
    assert len(written) == 2 and set(np.asarray(written.table["rlnMicrographName"])) == {"good.mrc"}
    assert sorted(path.name for path in (tmp_path / "job" / "particles").iterdir()) == ["good.json", "good.mrcs"]
    page = (tmp_path / "job" / "report.html").read_text()
    assert "Left out" in page and "nan.mrc" in page
    (tmp_path / "good.mrc").unlink()
    (tmp_path / "flat.mrc").rename(tmp_path / "good.mrc")
    (tmp_path / "good.mrc").with_name("flat.mrc").write_bytes((tmp_path / "good.mrc").read_bytes())
    with pytest.raises(DataProblem, match="none of 3 micrographs gave particles"):
        run_job(Extract((broken,), box=BOX), tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_picks_on_a_dead_part_of_the_detector_are_left_out(scene, tmp_path):
    """Their images would be constant. The others keep their rows and their places in the stack."""
    image = read_image(scene.folder / NAMES[0])
    image[:80, :80] = 0
    write_image(tmp_path / "dead.mrc", image, 1.5)
    centre = np.array([[100.0, 120.0], [40.0, 40.0], [120.0, 160.0]])
    table = Table(
        {
            "rlnMicrographName": np.array(["dead.mrc"] * 3, dtype=object),
            "rlnCoordinateX": centre[:, 0],
            "rlnCoordinateY": centre[:, 1],
        }
    )
    outcome = run_job(Extract((write_picks(tmp_path / "picks.star", table),), box=BOX), tmp_path / "job")
    written = read_particles(tmp_path / "job" / "particles.star")
    assert written.table["rlnCoordinateX"].tolist() == [100.0, 120.0] and written.names.index.tolist() == [0, 1]
    assert any("1 picks whose background is constant" in warning for warning in outcome.warnings)


def test_picks_of_micrographs_without_a_ctf_are_left_out(scene, tmp_path):
    star = write_micrographs_star(tmp_path / "m.star", vitreousCtfFound=np.array([1, 0, 1]))
    outcome = extract(scene, tmp_path / "job", micrographs=star, datadir=scene.folder)
    result = json.loads((tmp_path / "job" / "result.json").read_text())
    assert (
        result["left_out"] == (scene.micrograph == 1).sum()
        and "no CTF was found" in result["left_out_because"][NAMES[1]]
    )
    few = read_star(scene.micrographs)
    few["micrographs"] = few["micrographs"].rows(np.array([0, 2]))
    write_star(tmp_path / "few.star", few)
    outcome = extract(scene, tmp_path / "few", micrographs=tmp_path / "few.star", datadir=scene.folder)
    assert any("13 picks in micrographs that --micrographs does not name" in warning for warning in outcome.warnings)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"box": 1}, "--box 1"),
        ({"scale_to": 40}, "--scale-to 40"),
        ({"diameter": 40.0}, "1.5 to 2 A per pixel"),
        ({"diameter": 49.0, "pixel_size": 1.5}, "48 angstrom wide"),
        ({"diameter": -3.0}, "--diameter"),
        ({"dust": 0.0}, "--dust"),
        ({"workers": 0}, "--workers"),
        ({"pixel_size": -1.0}, "--pixel-size"),
    ],
)
def test_settings_that_cannot_be_are_refused(scene, tmp_path, options, words):
    with pytest.raises(SettingsProblem, match=words):
        extract(scene, tmp_path / "job", **options)


def test_files_that_are_no_picks_are_refused(scene, tmp_path):
    with pytest.raises(FormatProblem, match="rlnCoordinateX"):
        run_job(Extract((scene.micrographs,), box=BOX), tmp_path / "job")
    with pytest.raises(FileProblem, match="does not exist"):
        run_job(Extract((scene.folder / "nothing.star",), box=BOX), tmp_path / "job")
    movie = scene.folder / "movie.mrc"
    with StackWriter(movie, 1.5) as writer:
        writer.append(np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32))
    table = Table(
        {"rlnMicrographName": np.array(["movie.mrc"], dtype=object), "rlnCoordinateX": [30.0], "rlnCoordinateY": [30.0]}
    )
    with pytest.raises(DataProblem, match="3 sections"):
        run_job(Extract((write_picks(scene.folder / "movie.star", table),), box=BOX), tmp_path / "job")


# --- the work ---------------------------------------------------------------------------------------------------------


def products(job: Path) -> dict[str, bytes]:
    """What must be the same whoever did the work, and in how many runs."""
    stacks = {path.name: path.read_bytes() for path in sorted((job / "particles").glob("*.mrcs"))}
    return {**stacks, "star": (job / "particles.star").read_bytes().replace(str(job).encode(), b"JOB")}


def test_any_number_of_workers_gives_the_same_bytes(scene, extracted, tmp_path):
    for workers in (1, 3):
        extract(scene, tmp_path / str(workers), workers=workers, dust=9.0)
    assert products(tmp_path / "1") == products(tmp_path / "3")
    assert len(products(extracted)) == 4


def test_chunks_make_no_difference(scene, extracted, tmp_path, monkeypatch):
    monkeypatch.setattr(extract_micrograph, "CUT_BYTES", 5 * 4 * BOX**2)
    extract(scene, tmp_path / "job")
    for name in STACKS:  # sums of a matrix product depend on its shape in the last bits
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
        extract(scene, tmp_path / "job", workers=1)
    assert not (tmp_path / "job").exists() and done == ["a", "b"]
    again = []
    monkeypatch.setattr(
        CutTask, "_cut", lambda task, item, file: (again.append(item.sheet.name), cut(task, item, file))[1]
    )
    extract(scene, tmp_path / "job", workers=1)
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
        names = np.array([NAMES[0]] * count, dtype=object)
        x, y = rng.integers(40, 160, (2, count)).astype(float)
        picks = write_picks(
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
