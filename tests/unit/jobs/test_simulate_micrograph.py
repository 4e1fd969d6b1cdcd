"""The job `simulate micrograph`: what the truth files say is what the images show; bad input has a clear answer."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.conventions import Contrast
from vitreous.detection.detectors import detector
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.nonuniform import transform_at
from vitreous.fourier.transforms import forward, frequencies, inverse, shift_phases
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.geometry.symmetry import point_group
from vitreous.io.bundled import load_bundled
from vitreous.io.micrograph_star import Coordinates, read_coordinates, read_micrographs
from vitreous.io.mrc import read_image, read_volume
from vitreous.io.mrc_stack import MrcStack, write_stack, write_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.folder import run_in_passing, run_job
from vitreous.jobs.micrograph_plan import MicrographPlan
from vitreous.jobs.reconstruct import Reconstruct
from vitreous.jobs.simulate_micrograph import SimulateMicrograph
from vitreous.model.particles import ImageName, LoadedImages, Particles
from vitreous.model.volume import Volume
from vitreous.optics.ctf import ctf_of_particles
from vitreous.optics.electrons import interaction_constant
from vitreous.reconstruction.direct_inversion import InversionSettings, reconstruct
from vitreous.reconstruction.fsc import fourier_shell_correlation
from vitreous.scattering.propagation import band
from vitreous.specimen.hydrogens import with_hydrogens
from vitreous.specimen.solvent import displaced_volume

KINASE = Path("bundled:4ake")
SMALL = {"pixel_size": 2.0, "size": (512, 384), "particles": 20, "seed": 11}
QUIET = {"detector": "none", "ice": "none", "energy_fwhm_ev": 0.0, "convergence_one_over_e_mrad": 0.0}
TILTED = {"tilt_deg": 40.0, "tilt_axis_deg": 60.0, "defocus_um": (0.6, 0.9), "b_factor": 40.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two noiseless micrographs of a tilted field."""
    out = tmp_path_factory.mktemp("micrographs") / "job"
    run_job(SimulateMicrograph(KINASE, count=2, **SMALL, **QUIET, **TILTED), out)
    return out


def cut(image: np.ndarray, pixel: np.ndarray, box: int) -> np.ndarray | None:
    """The square whose pixel N // 2 is the one given, None if it reaches beyond the image."""
    left, top = (int(c) - box // 2 for c in pixel)
    inside = left >= 0 and top >= 0 and left + box <= image.shape[1] and top + box <= image.shape[0]
    return image[top : top + box, left : left + box] if inside else None


def predicted(volume: Volume, truth: Coordinates, row: int, box: int, more_defocus: float = 0.0) -> np.ndarray:
    """What the truth says the contrast of a particle is: -2 sigma x projection x CTF, on a box."""
    kx, ky = frequencies((box, box), volume.pixel_size)
    plane = np.stack(np.broadcast_arrays(kx, ky, 0.0), axis=-1).reshape(-1, 3) * volume.pixel_size
    rotation = matrix_from_euler(truth.pose.euler[row])
    projection = transform_at(volume.data.astype(np.float64), plane @ rotation, eps=1e-8).reshape(box, box // 2 + 1)
    ctf = truth.ctf.rows(slice(row, row + 1))
    ctf = replace(ctf, defocus_u=ctf.defocus_u + more_defocus, defocus_v=ctf.defocus_v + more_defocus)
    transfer = ctf_of_particles(truth.optics, ctf, kx, ky, contrast=Contrast.RAW)[0]
    moved = shift_phases(-truth.pose.shift[row], (kx, ky))
    strength = 2 * interaction_constant(truth.optics.voltage) * volume.pixel_size
    return inverse(strength * projection * transfer * moved, (box, box))


def images_of(folder: Path, truth: Coordinates) -> list[np.ndarray]:
    return [read_image(folder / name) for name in truth.names]


# --- truth against images ---------------------------------------------------------------------------------------------


def test_each_particle_is_where_and_how_the_truth_says(folder):
    """Cut at its coordinates a particle is its own reprojection under its own CTF, in sign and in size."""
    truth, volume, box = read_coordinates(folder / "coordinates.star"), read_volume(folder / "truth_map.mrc"), 96
    images, seen = images_of(folder, truth), 0
    for row in range(len(truth)):
        found = cut(images[truth.micrograph[row]], truth.pixel[row], box)
        if found is None:
            continue
        # Neighbours reach in at the corners: what is compared is the disc of the particle.
        radius = np.hypot(*np.meshgrid(np.arange(box) - box // 2, np.arange(box) - box // 2))
        inside = radius < 20
        expected = predicted(volume, truth, row, box)
        match = np.corrcoef(found[inside], expected[inside])[0, 1]
        assert match > 0.95  # what is missing are ripples of neighbours
        assert np.polyfit(expected[inside], found[inside] - 1, 1)[0] == pytest.approx(1.0, abs=0.06)
        for wrong in (300.0, -2 * truth.height[row] if abs(truth.height[row]) > 150 else -300.0):
            assert np.corrcoef(found[inside], predicted(volume, truth, row, box, wrong)[inside])[0, 1] < match - 0.005
        seen += 1
    assert seen > 15


def test_the_tilt_has_its_hand(folder):
    """Defocus grows by tan(40) per angstrom at right angles to the axis, as physics.md has it, in images and in files."""
    truth = read_coordinates(folder / "coordinates.star")
    _, _, ctf, table = read_micrographs(folder / "micrographs.star")
    x, y = (truth.pixel - np.array([256, 192])).T * 2.0
    local = truth.ctf.defocus - ctf.defocus[truth.micrograph]
    assert np.allclose(local, truth.height, atol=1e-5)
    design = np.stack([x, y, np.ones_like(x)], axis=1)
    slope = np.linalg.lstsq(design, local, rcond=None)[0][:2]
    steep, axis = math.tan(math.radians(40)), math.radians(60)
    # Heights in 300 A of ice scatter by 85 A over positions of 250 A rms: five standard errors of 40 particles.
    assert np.allclose(slope, [-steep * math.sin(axis), steep * math.cos(axis)], atol=5 * 85 / 250 / math.sqrt(40))
    assert (table["vitreousTiltDeg"] == 40).all() and (table["vitreousTiltAxisDeg"] == 60).all()
    assert np.allclose(ctf.defocus, np.clip(ctf.defocus, 6000, 9000)) and len(set(ctf.defocus)) == 2


def test_the_folder_is_complete(folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"micrographs/micrograph_0001.mrc", "micrographs/micrograph_0002.mrc", "coordinates.star"} <= names
    assert {"micrographs.star", "truth_map.mrc", "settings.yaml", "result.json", "report.html"} <= names
    assert not [name for name in names if "/." in name or "partial" in name]
    result = json.loads((folder / "result.json").read_text())
    assert result["micrographs"] == 2 and result["particles"] == 40 and result["mean"] == pytest.approx(1, abs=0.02)
    page = (folder / "report.html").read_text()
    for word in ("Thon rings", "coordinates.star", "Heights", "Conditions"):
        assert word in page
    image = read_image(folder / "micrographs" / "micrograph_0001.mrc")
    assert image.shape == (384, 512) and image.dtype == np.float32


def test_star_files_say_the_same_twice(folder, tmp_path):
    from vitreous.io.micrograph_star import write_coordinates

    truth = read_coordinates(folder / "coordinates.star")
    write_coordinates(tmp_path / "again.star", truth)
    again = read_coordinates(tmp_path / "again.star")
    assert (tmp_path / "again.star").read_text() == (folder / "coordinates.star").read_text()
    assert again.names == truth.names and np.array_equal(again.pixel, truth.pixel)
    assert np.abs(truth.pose.shift).max() <= 1.0 < 1.5 * np.abs(truth.pose.shift).max()  # half a pixel of 2 A


# --- electrons --------------------------------------------------------------------------------------------------------


def test_counts_are_electrons(tmp_path):
    settings = SimulateMicrograph(KINASE, dose=12.0, detector="ideal", ice="none", **SMALL)
    run_job(settings, tmp_path / "job")
    image = read_image(tmp_path / "job" / "micrographs" / "micrograph_0001.mrc").astype(np.float64)
    quiet = SimulateMicrograph(KINASE, detector="none", ice="none", **SMALL)
    run_job(quiet, tmp_path / "quiet")
    intensity = read_image(tmp_path / "quiet" / "micrographs" / "micrograph_0001.mrc").astype(np.float64)
    expected = 12.0 * 4 * intensity.sum()
    assert image.sum() == pytest.approx(expected, abs=5 * math.sqrt(expected))
    assert (image == np.rint(image)).all() and image.min() >= 0
    # Poisson noise has a variance of its mean, 48 electrons; specimen contrast adds a little.
    assert image.var() == pytest.approx(48, rel=0.03)
    assert np.corrcoef((image / 48).ravel(), intensity.ravel())[0, 1] > 0.05


def test_a_detector_passes_its_dqe_and_ice_absorbs(tmp_path):
    settings = {**SMALL, "particles": 0, "ice": "none", "ice_thickness": 500.0}
    run_job(SimulateMicrograph(KINASE, detector="k2", dose=20.0, **settings), tmp_path / "clear")
    clear = read_image(tmp_path / "clear" / "micrographs" / "micrograph_0001.mrc")
    expected = 80 * detector("k2", 300e3).dqe_at_zero
    assert clear.mean() == pytest.approx(expected, rel=5 / math.sqrt(80 * clear.size))
    assert not (tmp_path / "clear" / "coordinates.star").exists()
    run_job(SimulateMicrograph(KINASE, detector="none", inelastic="vulovic2013", **settings), tmp_path / "thick")
    dim = read_image(tmp_path / "thick" / "micrographs" / "micrograph_0001.mrc")
    assert np.allclose(dim, math.exp(-500 / 3754), rtol=1e-4)  # physics.md b4


def test_a_movie_is_the_sum_of_its_frames(tmp_path):
    common = {**SMALL, "size": (256,), "particles": 5, "detector": "ideal", "dose": 3000.0}  # little noise
    run_job(SimulateMicrograph(KINASE, frames=4, **common), tmp_path / "still")
    still = MrcStack(tmp_path / "still" / "micrographs" / "micrograph_0001_frames.mrcs").read(slice(None))
    image = read_image(tmp_path / "still" / "micrographs" / "micrograph_0001.mrc")
    assert still.shape == (4, 256, 256) and np.array_equal(still.sum(axis=0), image)
    assert len({frame.tobytes() for frame in still}) == 4
    run_job(SimulateMicrograph(KINASE, frames=4, drift=20.0, **common), tmp_path / "moving")
    moving = MrcStack(tmp_path / "moving" / "micrographs" / "micrograph_0001_frames.mrcs").read(slice(None))
    moved_back = read_image(tmp_path / "moving" / "micrographs" / "micrograph_0001.mrc")
    back, still_moved = (np.corrcoef(i.ravel(), image.ravel())[0, 1] for i in (moved_back, moving.sum(axis=0)))
    assert back > still_moved + 0.02  # most of the way lies within the first frame, where it is a smear
    _, _, _, table = read_micrographs(tmp_path / "moving" / "micrographs.star")
    assert table["rlnMicrographMovieName"][0] == "micrographs/micrograph_0001_frames.mrcs"


def test_grain_and_damage_show(tmp_path):
    common = {**SMALL, "size": (256,), "particles": 3, "ice_thickness": 400.0}
    run_job(SimulateMicrograph(KINASE, detector="none", **common), tmp_path / "grain")
    run_job(SimulateMicrograph(KINASE, detector="none", ice_b_factor=400.0, **common), tmp_path / "blurred")
    run_job(SimulateMicrograph(KINASE, detector="none", **{**common, "ice": "none"}), tmp_path / "plain")
    grain, blurred, plain = (
        read_image(tmp_path / name / "micrographs" / "micrograph_0001.mrc") for name in ("grain", "blurred", "plain")
    )
    assert (grain - plain).std() > 3 * (blurred - plain).std() > 0
    assert np.corrcoef((grain - plain).ravel(), plain.ravel())[0, 1] == pytest.approx(0, abs=0.05)


# --- seeds, chunks, resuming ------------------------------------------------------------------------------------------


def test_the_critical_exposure_is_scaled_as_asked_where_it_was_not_measured():
    scales = {}
    for voltage_kv, given in ((300.0, None), (200.0, 0.8), (300.0, 0.5)):
        settings = SimulateMicrograph(
            KINASE, voltage_kv=voltage_kv, radiation_damage=True, critical_exposure_scale=given, **SMALL
        )
        scales[voltage_kv, given] = MicrographPlan.of(settings).exposure.voltage_scale
    assert scales == {(300.0, None): 1.0, (200.0, 0.8): 0.8, (300.0, 0.5): 0.5}


def test_seeds_and_longer_sets(tmp_path):
    common = {**SMALL, "size": (256,), "particles": 6}
    for name, changes in {
        "one": {},
        "again": {},
        "two": {"count": 2},
        "more": {"particles": 9},
        "other": {"seed": 12},
    }.items():
        run_job(SimulateMicrograph(KINASE, **{**common, **changes}), tmp_path / name)
    images = {
        n: read_image(tmp_path / n / "micrographs" / "micrograph_0001.mrc") for n in ("one", "again", "two", "other")
    }
    assert np.array_equal(images["one"], images["again"]) and np.array_equal(images["one"], images["two"])
    assert abs(np.corrcoef(images["one"].ravel(), images["other"].ravel())[0, 1]) < 0.05
    truth = {name: read_coordinates(tmp_path / name / "coordinates.star") for name in ("one", "two", "more", "other")}
    for longer in ("two", "more"):
        assert np.array_equal(truth[longer].pixel[:6], truth["one"].pixel)
        assert np.array_equal(truth[longer].pose.euler[:6], truth["one"].pose.euler)
    assert not np.array_equal(truth["two"].pixel[6:], truth["one"].pixel)
    assert not np.array_equal(truth["other"].pixel, truth["one"].pixel)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    settings = SimulateMicrograph(KINASE, count=3, **{**SMALL, "size": (256,), "particles": 6})
    run_job(settings, tmp_path / "whole")

    def stop_in_the_second(stage):
        def report(done, total):
            if done > total / 3:
                raise KeyboardInterrupt

        return report

    with pytest.raises(KeyboardInterrupt, match="goes on from there"):
        run_job(settings, tmp_path / "job", progress=stop_in_the_second)
    assert not (tmp_path / "job").exists()
    kept = sorted(tmp_path.glob(".job.*.partial/micrographs/*.mrc"))
    assert [path.name for path in kept] == ["micrograph_0001.mrc"]
    marked = kept[0].stat().st_mtime_ns
    run_job(settings, tmp_path / "job")
    assert (tmp_path / "job" / "micrographs" / "micrograph_0001.mrc").stat().st_mtime_ns == marked
    assert not list(tmp_path.glob(".job.*"))
    for name in ("micrographs/micrograph_0001.mrc", "micrographs/micrograph_0003.mrc", "coordinates.star"):
        assert (tmp_path / "job" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    # Other settings do not find what is not theirs.
    with pytest.raises(KeyboardInterrupt):
        run_job(settings, tmp_path / "other", progress=stop_in_the_second)
    run_job(replace(settings, seed=12), tmp_path / "other")
    changed = read_image(tmp_path / "other" / "micrographs" / "micrograph_0001.mrc")
    assert not np.array_equal(changed, read_image(tmp_path / "whole" / "micrographs" / "micrograph_0001.mrc"))


# --- models and maps --------------------------------------------------------------------------------------------------


def test_a_map_is_imaged_as_the_model_it_was_made_of(folder, tmp_path):
    """The truth map, in volt above the ice, put in as a specimen gives the same contrast at the same places."""
    settings = {
        **SMALL,
        **QUIET,
        **TILTED,
        "pixel_size": None,
        "b_factor": 0.0,
        "ice_thickness": 300.0,
        "distance": 76.0,
    }
    run_job(SimulateMicrograph(folder / "truth_map.mrc", **settings), tmp_path / "map")
    truth, again = (read_coordinates(f / "coordinates.star") for f in (folder, tmp_path / "map"))
    volume = read_volume(folder / "truth_map.mrc")
    image = read_image(tmp_path / "map" / again.names[0])
    inside = np.hypot(*np.meshgrid(np.arange(96) - 48, np.arange(96) - 48)) < 20
    rows = [row for row in range(20) if cut(image, again.pixel[row], 96) is not None]
    for row in rows[:5]:
        expected = predicted(volume, again, row, 96)[inside]
        found = cut(image, again.pixel[row], 96)[inside] - 1
        assert np.corrcoef(found, expected)[0, 1] > 0.98
        assert np.polyfit(expected, found, 1)[0] == pytest.approx(1.0, abs=0.06)
    half = {**settings, "volts_per_unit": 0.5}
    run_job(SimulateMicrograph(folder / "truth_map.mrc", **half), tmp_path / "half")
    weaker = read_image(tmp_path / "half" / again.names[0])
    assert np.allclose(2 * (weaker - 1), image - 1, atol=2e-4 * np.abs(image - 1).max())
    assert len(truth) == 40


@pytest.mark.parametrize("model", ["phase_object", "ewald", "multislice"])
def test_other_models_show_the_same_particles(folder, tmp_path, model):
    run_job(SimulateMicrograph(KINASE, model=model, **SMALL, **QUIET, **TILTED), tmp_path / "job")
    image = read_image(tmp_path / "job" / "micrographs" / "micrograph_0001.mrc")
    linear = read_image(folder / "micrographs" / "micrograph_0001.mrc")
    keep = band(image.shape, half=True)  # the wave of multislice ends at 2/3 of Nyquist
    seen, expected = (inverse(forward(each, 2) * keep, each.shape).ravel() for each in (image, linear))
    assert np.corrcoef(seen, expected)[0, 1] > 0.97
    assert (tmp_path / "job" / "coordinates.star").read_text().splitlines()[30:50] == (
        folder / "coordinates.star"
    ).read_text().splitlines()[30:50]


@pytest.mark.slow
def test_particles_cut_out_reconstruct_to_the_truth(tmp_path):
    """Micrographs with ice and a detector; particles cut out by the truth file give the particle back."""
    settings = SimulateMicrograph(
        KINASE,
        pixel_size=2.5,
        size=(1024,),
        particles=250,
        count=3,
        defocus_um=(0.6, 1.4),
        dose=60.0,
        seed=4,
        b_factor=20.0,
    )
    run_job(settings, tmp_path / "job")
    truth, box = read_coordinates(tmp_path / "job" / "coordinates.star"), 64
    images = [read_image(tmp_path / "job" / name) for name in truth.names]
    cuts = [cut(images[m], pixel, box) for m, pixel in zip(truth.micrograph, truth.pixel)]
    rows = np.array([row for row, image in enumerate(cuts) if image is not None])
    stack = np.stack([cuts[row] for row in rows])
    # As extraction does: the background to 0, its noise to 1.
    outside = np.hypot(*np.meshgrid(np.arange(box) - box // 2, np.arange(box) - box // 2)) > 26
    stack = (stack - stack[:, outside].mean(axis=1)[:, None, None]) / stack[:, outside].std(axis=1)[:, None, None]
    write_stack(tmp_path / "particles.mrcs", stack.astype(np.float32), 2.5)
    chosen = truth.rows(rows)
    particles = Particles(
        ImageName(np.arange(len(rows)), np.zeros(len(rows), dtype=np.int32), ("particles.mrcs",)),
        (replace(truth.optics, box=box),),
        np.zeros(len(rows), dtype=np.int64),
        chosen.pose,
        chosen.ctf,
        (np.arange(len(rows)) % 2 + 1).astype(np.int8),
        images=LoadedImages(stack),
        contrast=Contrast.RAW,
    )
    write_particles(tmp_path / "particles.star", particles)
    assert len(read_particles(tmp_path / "particles.star")) == len(rows) > 650
    outcome = run_job(Reconstruct(tmp_path / "particles.star", contrast="raw"), tmp_path / "map")
    found = read_volume(tmp_path / "map" / "map.mrc")
    expected = read_volume(tmp_path / "job" / "truth_map.mrc")
    start = (box - expected.box) // 2
    padded = np.zeros((box,) * 3, dtype=np.float32)
    padded[start : start + expected.box, start : start + expected.box, start : start + expected.box] = expected.data
    curve = fourier_shell_correlation(found.data, padded, 2.5).correlation
    # 700 images of 24 kDa at 60 e/A^2: shells to 20 A (8 of 64 x 2.5 A) are sure, whatever the noise does further out.
    assert curve[1:8].min() > 0.6
    mirrored = fourier_shell_correlation(found.data, padded[::-1].copy(), 2.5).correlation
    assert mirrored[4:8].mean() < curve[4:8].mean() - 0.2
    inverted = reconstruct(
        replace(particles, pose=replace(particles.pose, shift=particles.pose.shift + 25.0)),
        InversionSettings(point_group("C1").operators, contrast=Contrast.RAW),
    )
    moved = fourier_shell_correlation(inverted.map, padded, 2.5).correlation
    assert moved[4:8].mean() < curve[4:8].mean() - 0.2  # the truth of the places matters
    assert outcome.as_json()["particles"] == len(rows)


# --- bad input --------------------------------------------------------------------------------------------------------

BAD = {
    "no pixel size": ({"pixel_size": None}, "--pixel-size"),
    "thin ice": ({"ice_thickness": 40.0}, r"ice 40 A thick for a particle 76 A across"),
    "too many particles": ({"particles": 500}, r"500 particles .* at most \d+"),
    "small field": ({"size": (32,)}, "32 x 32 pixels"),
    "tiny field": ({"size": (4,)}, "--size 4"),
    "three sizes": ({"size": (64, 64, 64)}, "--size 64 64 64"),
    "coarse pixels": ({"resolution": 3.0}, r"pixels of 2 A for a resolution of 3 A .* pixels of 1\.5 A"),
    "coarse pixels for a wave": ({"resolution": 5.0, "model": "multislice"}, r"pixels of 1\.667 A"),
    "aliased defocus": ({"defocus_um": (8.0, 9.0)}, r"at most 7\.80 um \(N p\^2 / lambda\)"),
    "defocus upside down": ({"defocus_um": (2.0, 1.0)}, "smaller first"),
    "absorption twice": ({"inelastic": "vulovic2013", "amplitude_contrast": 0.1}, "--amplitude-contrast"),
    "dose of no detector": ({"detector": "none", "dose": 40.0}, "--dose with --detector none"),
    "movie of no detector": ({"detector": "none", "frames": 5}, "--frames with --detector none"),
    "drift without a movie": ({"drift": 5.0}, "--drift with --frames 1"),
    "axis without a tilt": ({"tilt_axis_deg": 10.0}, "--tilt-axis-deg with --tilt-deg 0"),
    "slabs without multislice": ({"slice_thickness": 5.0}, "--slice-thickness with --model projection"),
    "volts of a model": ({"volts_per_unit": 2.0}, "--volts-per-unit with an atomic model"),
    "blur of no grain": ({"ice": "none", "ice_b_factor": 10.0}, "--ice-b-factor with --ice none"),
    "steep": ({"tilt_deg": 80.0}, "75 degrees"),
    "unknown detector": ({"detector": "film"}, "film.* expected .*falcon4"),
    "unmeasured voltage": ({"voltage_kv": 120.0}, "120 kV.*ideal"),
    "unknown damage": (
        {"voltage_kv": 120.0, "detector": "ideal", "radiation_damage": True},
        "--radiation-damage at 120.*--critical-exposure-scale",
    ),
    "unmeasured damage": ({"voltage_kv": 200.0, "radiation_damage": True}, "--radiation-damage at 200"),
    "scale of no damage": ({"critical_exposure_scale": 0.8}, "--critical-exposure-scale with no damage"),
    "negative dose": ({"dose": -1.0}, "--dose -1"),
    "negative seed": ({"seed": -1}, "--seed -1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_any_work(name, tmp_path):
    changes, message = BAD[name]
    with pytest.raises(SettingsProblem, match=message):
        run_job(SimulateMicrograph(KINASE, **{**SMALL, **changes}), tmp_path / "job")
    assert list(tmp_path.iterdir()) == []


ION = """\
ATOM      1  CA  ALA A   1      11.104   6.134  -6.504  1.00  0.00           C
ATOM      2  CB  ALA A   1      12.604   6.134  -6.504  1.00  0.00           C
HETATM    3 MG    MG A   2      14.104   6.134  -6.504  1.00  0.00          MG2+
"""


def test_what_is_taken_of_a_model_is_asked_and_told(tmp_path):
    model = tmp_path / "ion.pdb"
    model.write_text(ION)
    settings = {"pixel_size": 2.0, "size": (256,), "particles": 2, "defocus_um": (0.3, 0.3), **QUIET}
    with pytest.raises(DataProblem, match=r"1 Mg2\+.*") as refusal:
        run_in_passing(SimulateMicrograph(model, **settings))
    assert "--ions neutral" in refusal.value.line()
    outcome = run_in_passing(SimulateMicrograph(model, ions="neutral", **settings))
    notes = next(finding.value for finding in outcome.findings if finding.key == "model_notes")
    assert "1 Mg2+" in notes and "B factor 0" in notes
    assert any("no B factors" in warning for warning in outcome.warnings)


def test_the_ice_has_the_inner_potential_asked_for(tmp_path):
    """The truth map is the atoms less V0 times what they displace: its sum is linear in V0."""
    sums = {}
    for volts in (3.5, 4.5):
        out = tmp_path / str(volts)
        run_job(SimulateMicrograph(KINASE, inner_potential=volts, **SMALL | {"particles": 1}, **QUIET), out)
        sums[volts] = float(read_volume(out / "truth_map.mrc").data.sum(dtype=np.float64)) * SMALL["pixel_size"] ** 3
    volume = displaced_volume(with_hydrogens(load_bundled("4ake")))
    assert sums[3.5] - sums[4.5] == pytest.approx(volume, rel=1e-4)  # sums of float32 voxels


def test_what_a_map_cannot_do_is_refused(tmp_path):
    write_volume(tmp_path / "map.mrc", Volume(np.ones((24, 24, 24), np.float32), 2.0))
    for changes in ({"model": "multislice"}, {"inelastic": "vulovic2013"}):
        with pytest.raises(SettingsProblem, match="a map"):
            SimulateMicrograph(tmp_path / "map.mrc", **changes)


def test_few_electrons_a_flat_model_and_dark_pixels_are_told(tmp_path, folder):
    common = {**SMALL, "particles": 3, "size": (256,), "ice": "none"}
    sparse = run_job(SimulateMicrograph(KINASE, dose=0.1, resolution=4.0, **common), tmp_path / "sparse")
    assert any("0.4 electrons per pixel" in warning for warning in sparse.warnings)
    fine = run_job(SimulateMicrograph(KINASE, dose=10.0, **common), tmp_path / "fine")
    assert fine.warnings == []
    strong = SimulateMicrograph(
        folder / "truth_map.mrc", **{**common, "pixel_size": None, "volts_per_unit": 40.0, "detector": "none"}
    )
    dark = run_job(strong, tmp_path / "dark")
    assert any("darker than no electrons" in warning for warning in dark.warnings)
    assert read_image(tmp_path / "dark" / "micrographs" / "micrograph_0001.mrc").min() == 0
    thin = {**common, "pixel_size": 0.5, "defocus_um": (0.1, 0.2), "size": (320,), "particles": 1}
    for model, expected in (("projection", True), ("ewald", False)):
        settings = SimulateMicrograph(KINASE, resolution=1.0, model=model, **thin)
        told = settings.warnings(MicrographPlan.of(settings), [{"mean": 1.0, "negative": 0}])
        assert any("depth of field at 1 Å" in warning for warning in told) is expected
    wave = run_job(SimulateMicrograph(KINASE, model="multislice", **common), tmp_path / "wave")
    assert any("nothing finer than 6.00 Å" in warning for warning in wave.warnings)
