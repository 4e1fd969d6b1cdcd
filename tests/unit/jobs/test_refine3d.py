"""The job `refine` around its alignment: what goes in, what is kept, what comes out, and one line for every mistake.

The alignment itself is replaced by a stand-in that knows the poses; the last tests run the real one.
"""

from __future__ import annotations

import json
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vitreous.jobs.refine3d as job_module
from vitreous.alignment.assignment import unassigned
from vitreous.alignment.held_out import HeldOutEvidence
from vitreous.alignment.refinement import Refinement, RefineStep
from vitreous.cli import dispatch
from vitreous.engine.checkpoint import load_state, save_state
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.geometry.rotations import angular_distance, euler_from_matrix, matrix_from_euler, random_rotations
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import write_stack, write_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.io.star import read_star
from vitreous.jobs.folder import run_job
from vitreous.jobs.refine3d import Refine
from vitreous.jobs.refine3d_defocus import RefinedDefocus
from vitreous.jobs.refine3d_findings import explained_images, trusted_resolution
from vitreous.model.pose import Pose
from vitreous.model.volume import Volume
from vitreous.reconstruction.direct_inversion import InversionSettings, reconstruct
from vitreous.reconstruction.fsc import FscCurves, fourier_shell_correlation, shell_frequencies

COUNT = 300


MADE: dict[tuple, np.ndarray] = {}


def half_maps(particles: Particles, classes: int, number: int) -> np.ndarray:
    """[2, k, z, y, x]: reconstructions of the classes, made once for all tests."""
    key = (number, classes, particles.half_set.tobytes(), particles.images.read(slice(0, 1)).tobytes())
    if key not in MADE:
        settings, of_class = (
            InversionSettings(np.eye(3)[None], mask_radius=12.0),
            (np.arange(len(particles)) // 2) % classes,
        )
        pairs = [reconstruct(particles.rows(of_class == index), settings).half_maps for index in range(classes)]
        MADE[key] = np.stack([np.stack(pair) for pair in pairs], axis=1)
    return MADE[key]


class StandIn:
    """Called as `refine3d`: iteration i turns the true angles by up to 20/i degrees (seeded by i), settles after `settles`, and remembers its calls."""

    def __init__(self, truth: Pose, settles: int = 4, fails_at: int = 0, error: BaseException | None = None):
        self.truth, self.settles, self.fails_at, self.error = truth, settles, fails_at, error
        self.calls: list[dict] = []

    def __call__(self, particles, references, settings, *, state=None, mask=None, workers, progress, on_iteration):
        self.calls.append(
            {"settings": settings, "references": references, "state": state, "particles": particles, "mask": mask}
        )
        number = 0 if state is None else state.iteration
        steps = () if state is None else state.steps
        while True:
            number += 1
            if number == self.fails_at:
                assert self.error is not None
                raise self.error
            state = self.made(particles, references, settings, number, steps)
            steps = state.steps
            on_iteration(state)
            progress(number, settings.iterations)
            if state.converged or number >= settings.iterations:
                return state

    def made(self, particles, references, settings, number, steps) -> Refinement:
        count, classes = len(particles), settings.classes
        rng = np.random.default_rng(number)
        spread = np.deg2rad(20.0 / number)
        pose = Pose(self.truth.euler + rng.uniform(-spread, spread, (count, 3)), self.truth.shift)
        posed = replace(particles, pose=pose)
        maps = half_maps(posed, classes, number)
        fsc = np.stack(
            [
                fourier_shell_correlation(maps[0, k], maps[1, k], particles.pixel_size).correlation
                for k in range(classes)
            ]
        )
        assignment = replace(
            unassigned(count, pose),
            class_index=((np.arange(count) // 2) % classes).astype(np.int32),
            probability=rng.uniform(0.1, 0.9, count),
            entropy=rng.uniform(0.2, 3.0, count),
            log_evidence=rng.normal(50, 20, count),
            class_probability=np.full(count, 0.9),
            angle_deviation=np.full(count, np.deg2rad(2.0)),
            shift_deviation=np.full(count, 1.5),
        )
        step = RefineStep(
            40.0 / number,
            min(2 + number // 2, 5),
            4.0 / number,
            30.0 / number,
            1e4 * number,
            0.4,
            spread,
            2.0 / number,
            0.1,
            0.5,
        )
        return Refinement(
            number,
            maps,
            maps.copy(),
            np.full(classes, 1 / classes),
            fsc,
            np.ones((2, 1, maps.shape[-1] // 2 + 1)),
            np.ones(1),
            assignment,
            particles.half_set,
            (*steps, step),
            number >= self.settles,
        )


@pytest.fixture(scope="module")
def folder(blob_particles, blob_map, tmp_path_factory) -> Path:
    """300 particles without poses and half sets, and the map that they are of."""
    folder = tmp_path_factory.mktemp("refine")
    few = blob_particles.rows(slice(0, COUNT))
    write_stack(folder / "p.mrcs", few.images.pixels, 4.0)
    write_particles(folder / "unposed.star", replace(few, pose=None, half_set=None))
    write_particles(folder / "posed.star", few)
    write_volume(folder / "map.mrc", Volume(blob_map, 4.0))
    return folder


@pytest.fixture
def align(monkeypatch, blob_particles):
    """Puts a stand-in into the place of the alignment and returns it; call it to change its ways."""

    def use(evidence: float = 20.0, **ways) -> StandIn:
        module = types.ModuleType("vitreous.alignment.refine3d")
        monkeypatch.setattr(job_module, "held_out_evidence", lambda *_, **__: HeldOutEvidence(evidence, 0.5, 100))
        module.refine3d = StandIn(blob_particles.pose.rows(slice(0, COUNT)), **ways)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return module.refine3d

    return use


@pytest.fixture(autouse=True)
def no_drawings(request, monkeypatch):
    """Pictures of maps take most of the time of these small jobs: only tests of the report draw them."""
    if "page" not in request.fixturenames:
        monkeypatch.setattr(job_module, "refinement_sections", lambda *_: [])


@pytest.fixture
def page():
    """Asks for the whole report; reads that of a job."""
    return lambda out: (out / "report.html").read_text(encoding="utf-8")


def job(folder: Path, name: str = "unposed.star", **options) -> Refine:
    options.setdefault("reference", (folder / "map.mrc",))
    return Refine(folder / name, **options)


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_one_map_with_everything_that_belongs_to_it(folder, align, tmp_path):
    stand_in = align()
    outcome = run_job(job(folder), tmp_path / "job")
    names = {path.name for path in (tmp_path / "job").iterdir()}
    assert names >= {
        *("half1.mrc", "half2.mrc", "map.mrc", "sharpened.mrc", "mask.mrc", "local_resolution.mrc", "fsc.star"),
        *("particles.star", "model.star", "state.npz", "report.html", "result.json", "settings.yaml"),
    }
    state = load_state(tmp_path / "job" / "state.npz", Refinement)
    assert state.iteration == 4 and state.converged and len(stand_in.calls) == 1
    for half in (0, 1):  # as the alignment left them: unmasked, unfiltered
        written = read_volume(tmp_path / "job" / f"half{half + 1}.mrc")
        assert np.array_equal(written.data, state.half_maps[half, 0].astype(np.float32)) and written.pixel_size == 4.0
    result = json.loads((tmp_path / "job" / "result.json").read_text())
    curve = np.array(result["fsc"]["corrected"])
    first = int(np.argmax(curve < 0.143))
    assert 128 / first < result["resolution_angstrom"] < 128 / (first - 1)  # the shells on both sides of the crossing
    assert result["converged"] is True and result["iterations"] == 4
    local = read_volume(tmp_path / "job" / "local_resolution.mrc").data
    inside = local[(read_volume(tmp_path / "job" / "mask.mrc").data > 0.5) & (local < local.max())]
    assert inside.min() >= 8  # Nyquist
    assert np.median(inside) == pytest.approx(result["local_resolution_median_angstrom"], rel=1e-4)
    assert not outcome.warnings


def test_particles_have_poses_and_how_sure_they_are(folder, align, tmp_path):
    align()
    run_job(job(folder, half_sets="random", seed=3), tmp_path / "job")
    state = load_state(tmp_path / "job" / "state.npz", Refinement)
    before, after = read_particles(folder / "unposed.star"), read_particles(tmp_path / "job" / "particles.star")
    found = matrix_from_euler(after.pose.euler)
    assert angular_distance(found, matrix_from_euler(state.assignment.pose.euler)).max() < 1e-6
    assert angular_distance(found, matrix_from_euler(-state.assignment.pose.euler)).max() > 0.5  # a sign would be seen
    np.testing.assert_allclose(after.pose.shift, state.assignment.pose.shift, atol=1e-6)
    assert np.abs(after.pose.euler).max() <= np.pi + 1e-9
    assert np.array_equal(after.half_set, state.half_set) and sorted(np.bincount(after.half_set)[1:]) == [150, 150]
    np.testing.assert_allclose(after.table["vitreousAngleError"], 2.0)  # degrees
    np.testing.assert_allclose(after.table["vitreousOriginError"], 1.5)  # angstrom
    np.testing.assert_allclose(after.table["rlnMaxValueProbDistribution"], state.assignment.probability, atol=1e-6)
    samples = np.asarray(after.table["rlnNrOfSignificantSamples"])
    assert (samples == np.rint(np.exp(state.assignment.entropy))).all() and (samples >= 1).all()
    assert set(np.asarray(after.table["rlnClassNumber"])) == {1}
    # The names lead to the images from the job's folder, wherever that is.
    assert np.array_equal(after.images.read(slice(0, 5)), before.images.read(slice(0, 5)))


def test_the_history_is_a_table(folder, align, tmp_path):
    align()
    run_job(job(folder), tmp_path / "job")
    star = read_star(tmp_path / "job" / "model.star")
    assert star.version == "30001" and star["model_general"]["rlnNrClasses"] == "1"
    assert list(star["iterations"]["vitreousResolution"]) == pytest.approx([40, 20, 40 / 3, 10])
    assert list(star["iterations"]["vitreousAngleChange"]) == pytest.approx([20, 10, 20 / 3, 5])  # degrees
    assert star["model_classes"]["rlnReferenceImage"][0] == str(tmp_path / "job" / "map.mrc")
    assert Path(star["model_classes"]["rlnReferenceImage"][0]).is_file()
    assert star["model_class_1"]["rlnGoldStandardFsc"][1] > 0.9 and "rlnSigma2Noise" in star["model_optics_group_1"]


def test_the_report_shows_how_it_went(folder, align, page, tmp_path):
    align()
    run_job(job(folder), tmp_path / "job")
    page = page(tmp_path / "job")
    for word in (
        "How it went",
        "How sure the poses are",
        "Local resolution",
        "Orientations",
        "All 4 iterations",
        "hand",
    ):
        assert word in page, word
    assert page.count("Slice after iteration") == 5  # the reference and four iterations
    assert "http://" not in page.replace("http://www.w3.org", "") and 'src="http' not in page


def test_classes_have_maps_and_particles_of_their_own(folder, align, page, tmp_path):
    stand_in = align()
    outcome = run_job(job(folder, classes=2), tmp_path / "job")
    settings, references = stand_in.calls[0]["settings"], stand_in.calls[0]["references"]
    assert settings.classes == 2 and not settings.half_sets and references.shape == (2, 32, 32, 32)
    likeness = np.corrcoef(references[0].ravel(), references[1].ravel())[0, 1]
    assert 0.5 < likeness < 0.99  # one map, but not twice the same
    kept = read_particles(tmp_path / "job" / "particles.star")
    for number in (1, 2):
        own = read_particles(tmp_path / "job" / f"class{number}" / "particles.star")
        assert len(own) == 150 and set(np.asarray(own.table["rlnClassNumber"])) == {number}
        assert own.images is not None and read_volume(tmp_path / "job" / f"class{number}" / "map.mrc").box == 32
    assert sorted(np.bincount(np.asarray(kept.table["rlnClassNumber"]))[1:]) == [150, 150]
    result = json.loads((tmp_path / "job" / "result.json").read_text())
    assert result["class1_particles"] == 150 and result["class2_resolution_angstrom"] > 8
    assert any("too good" in warning for warning in outcome.warnings)
    assert any("10% of the particles changed class" in warning for warning in outcome.warnings)
    page = page(tmp_path / "job")
    assert "Class 2" in page and "3D classification" in page


# --- what goes in -----------------------------------------------------------------------------------------------------


def test_a_reference_of_another_grid_and_grey_is_fitted_and_said(folder, align, blob_map, tmp_path):
    from vitreous.reconstruction.map_resampling import resampled_map

    plain = align()
    run_job(job(folder), tmp_path / "plain")
    other = align()
    write_volume(tmp_path / "other.mrc", Volume(50 * resampled_map(blob_map, 4.0, 45, 3.1) + 7, 3.1))
    outcome = run_job(job(folder, reference=(tmp_path / "other.mrc",), diameter=90.0), tmp_path / "job")
    said = next(finding.value for finding in outcome.findings if finding.key == "reference")
    assert said.startswith("other.mrc, resampled from 45 voxels of 3.1 Å to 32 of 4 Å, its contrast multiplied by 0.0")
    one, two = (stand_in.calls[0]["references"][0] for stand_in in (plain, other))
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.999
    # Both scales were measured on the same noisy images, in discs of nearly the same size.
    slope = np.polyfit(one.ravel(), two.ravel(), 1)[0]
    assert slope == pytest.approx(1, abs=0.05)


def test_settings_reach_the_alignment(folder, align, tmp_path):
    stand_in = align()
    options = {
        "symmetry": "C2",
        "order": 1,
        "finest_order": 4,
        "tau_fudge": 2.0,
        "finest": 9.0,
        "iterations": 2,
        "seed": 5,
    }
    run_job(job(folder, diameter=100.0, shift_range=12.0, shift_step=3.0, **options), tmp_path / "job")
    settings = stand_in.calls[0]["settings"]
    for name, value in options.items():
        assert getattr(settings, name) == value
    assert (settings.diameter, settings.shift_range, settings.shift_step) == (100.0, 12.0, 3.0)
    assert settings.half_sets and settings.use_ctf and not settings.local
    assert stand_in.calls[0]["particles"].pose is None
    state = load_state(tmp_path / "job" / "state.npz", Refinement)
    assert state.iteration == 2 and not state.converged
    warnings = json.loads((tmp_path / "job" / "result.json").read_text())["warnings"]
    assert any("not settled after 2 iterations" in warning for warning in warnings)
    assert any("no C2 symmetry" in warning for warning in warnings)


def test_half_sets_are_the_files_or_drawn(folder, align, blob_particles, tmp_path):
    align()
    own = blob_particles.half_set[:COUNT]
    cases = {"file": ("posed.star", True), "random": ("posed.star", False), None: ("posed.star", True)}
    for option, (name, same) in cases.items():
        run_job(job(folder, name, half_sets=option, iterations=1), tmp_path / f"job{option}")
        found = read_particles(tmp_path / f"job{option}" / "particles.star").half_set
        assert np.array_equal(found, own) == same
    write_particles(
        tmp_path / "one.star", replace(read_particles(folder / "posed.star"), half_set=np.ones(COUNT, np.int8))
    )
    with pytest.raises(DataProblem, match=r"in half set 1.*--half-sets random"):
        run_job(Refine(tmp_path / "one.star", reference=(folder / "map.mrc",), datadir=folder), tmp_path / "bad")


def test_local_searches_start_from_the_files_poses(folder, align, blob_particles, tmp_path):
    stand_in = align()
    run_job(job(folder, "posed.star", local=True, iterations=1), tmp_path / "job")
    given = stand_in.calls[0]
    assert given["settings"].local
    truth = blob_particles.pose.rows(slice(0, COUNT))
    turned = angular_distance(matrix_from_euler(given["particles"].pose.euler), matrix_from_euler(truth.euler))
    assert turned.max() < 1e-6
    stand_in = align()
    run_job(job(folder, "posed.star", iterations=1), tmp_path / "global")  # origins are kept, angles are not
    start = stand_in.calls[0]["particles"].pose
    assert not start.euler.any() and np.allclose(start.shift, truth.shift, atol=1e-6)
    with pytest.raises(DataProblem, match="gives no orientations"):
        run_job(job(folder, local=True), tmp_path / "none")


def test_a_mask_of_the_user_is_resampled_and_used(folder, align, tmp_path):
    from vitreous.fourier.filters import soft_sphere

    stand_in = align()
    write_volume(tmp_path / "mask.mrc", Volume(soft_sphere(64, 20, 6).astype(np.float32), 2.0))
    run_job(job(folder, mask=tmp_path / "mask.mrc", iterations=1), tmp_path / "job")
    mask = stand_in.calls[0]["mask"]
    assert mask.shape == (32, 32, 32) and mask.min() >= 0 and mask.max() <= 1
    np.testing.assert_allclose(mask, soft_sphere(32, 10, 3), atol=0.06)  # ringing of the half as many voxels
    with pytest.raises(DataProblem, match="values from 0 to 1"):
        run_job(job(folder, mask=folder / "map.mrc"), tmp_path / "bad")


# --- states -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), DataProblem("image 7@p.mrcs holds NaN", "numbers")], ids=["killed", "bad"]
)
def test_what_was_interrupted_goes_on_to_the_same_answer(folder, align, tmp_path, error):
    align()
    run_job(job(folder), tmp_path / "whole")
    align(fails_at=3, error=error)
    with pytest.raises(type(error)):
        run_job(job(folder), tmp_path / "broken")
    assert not (tmp_path / "broken").exists()
    stand_in = align()
    run_job(job(folder), tmp_path / "broken")
    assert stand_in.calls[0]["state"].iteration == 2
    for name in ("half1.mrc", "half2.mrc", "map.mrc", "local_resolution.mrc", "mask.mrc"):
        one, two = (read_volume(tmp_path / where / name).data for where in ("whole", "broken"))
        assert np.array_equal(one, two), name
    one, two = (read_particles(tmp_path / where / "particles.star", load_images=False) for where in ("whole", "broken"))
    assert np.array_equal(one.pose.euler, two.pose.euler) and np.array_equal(one.half_set, two.half_set)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_state_with_nan_is_refused_by_the_name_of_its_particle(folder, align, tmp_path):
    stand_in = align()
    made = stand_in.made

    def spoilt(particles, references, settings, number, steps):
        state = made(particles, references, settings, number, steps)
        if number == 2:
            evidence = state.assignment.log_evidence.copy()
            evidence[[6, 9]] = np.nan
            state = replace(state, assignment=replace(state.assignment, log_evidence=evidence))
        return state

    stand_in.made = spoilt
    with pytest.raises(
        DataProblem, match=r"row 7 of .*unposed.star .*iteration 2 \(2 such.*last good iteration is kept"
    ):
        run_job(job(folder), tmp_path / "job")
    (kept,) = (path for path in tmp_path.iterdir() if path.name.endswith(".partial"))
    assert load_state(kept / "state.npz", Refinement).iteration == 1


def test_an_earlier_state_can_be_continued(folder, align, tmp_path):
    align()
    run_job(job(folder, iterations=2), tmp_path / "first")
    stand_in = align()
    state = tmp_path / "first" / "state.npz"
    run_job(Refine(folder / "unposed.star", continue_from=state, iterations=6), tmp_path / "second")
    assert stand_in.calls[0]["state"].iteration == 2
    assert load_state(tmp_path / "second" / "state.npz", Refinement).iteration == 4
    write_particles(tmp_path / "fewer.star", read_particles(folder / "unposed.star").rows(slice(0, 100)))
    with pytest.raises(DataProblem, match="is of 300 particles, 1 classes"):
        run_job(Refine(tmp_path / "fewer.star", datadir=folder, continue_from=state), tmp_path / "third")
    save_state(tmp_path / "pose.npz", Pose(np.zeros((1, 3)), np.zeros((1, 2))))
    with pytest.raises(DataProblem, match="class Pose; expected Refinement"):
        run_job(Refine(folder / "unposed.star", continue_from=tmp_path / "pose.npz"), tmp_path / "fourth")


@pytest.mark.parametrize("fails_at", [0, 6])
def test_new_defoci_between_two_rounds(folder, align, tmp_path, monkeypatch, fails_at):
    """The second round has the new CTFs and local searches only; killed in it, the defoci are not fitted again."""
    fitted = []

    def better(particles, state, settings, progress):
        fitted.append(state.iteration)
        ctf = replace(particles.ctf, defocus_u=particles.ctf.defocus_u + 100, defocus_v=particles.ctf.defocus_v + 100)
        return RefinedDefocus(ctf, state.iteration)

    monkeypatch.setattr(job_module, "better_defoci", better)
    stand_in = align(settles=4, fails_at=fails_at, error=KeyboardInterrupt())
    made = stand_in.made

    def settling(particles, references, settings, number, steps):
        return replace(made(particles, references, settings, number, steps), converged=number in (4, 7))

    stand_in.made = settling
    if fails_at:
        with pytest.raises(KeyboardInterrupt, match="goes on from there"):
            run_job(job(folder, refine_defocus=True), tmp_path / "job")
        stand_in.fails_at = 0
    run_job(job(folder, refine_defocus=True), tmp_path / "job")
    assert fitted == [4]
    last = stand_in.calls[-1]
    before = read_particles(folder / "unposed.star").ctf
    assert last["settings"].local and np.allclose(last["particles"].ctf.defocus, before.defocus + 100)
    after = read_particles(tmp_path / "job" / "particles.star")
    assert np.allclose(after.ctf.defocus, before.defocus + 100)
    assert load_state(tmp_path / "job" / "state.npz", Refinement).iteration == 7


# --- honesty ----------------------------------------------------------------------------------------------------------


def curves(values) -> FscCurves:
    values = np.asarray(values, dtype=float)
    return FscCurves(shell_frequencies(2 * (len(values) - 1), 4.0), np.ones(len(values)), values)


def test_agreement_up_to_the_common_reference_is_no_evidence():
    falls = np.where(np.arange(17) <= 4, 1.0, 0.0)  # between 32 and 25.6 angstrom
    reached = curves(falls).resolution().value
    assert 25.6 < reached < 32
    assert trusted_resolution(curves(falls), 30.0) is None
    assert trusted_resolution(curves(falls), reached) is None
    assert trusted_resolution(curves(falls), 40.0) == reached
    assert trusted_resolution(curves(falls), None) == reached
    assert trusted_resolution(curves(np.zeros(17)), 40.0) is None
    # Half maps of aligned noise agree further than that; what the images say of the other half's map decides.
    assert trusted_resolution(curves(falls), 40.0, HeldOutEvidence(2.0, 0.5, 600)) == reached
    assert trusted_resolution(curves(falls), 40.0, HeldOutEvidence(1.4, 0.5, 600)) is None
    assert trusted_resolution(curves(falls), None, HeldOutEvidence(-2.0, 0.1, 600)) is None


def test_two_heaps_of_images_are_told_apart_and_one_is_not(rng):
    particles, junk = rng.normal(50, 12, 1700), rng.normal(2, 8, 600)
    explained = explained_images(rng.permutation(np.concatenate([particles, junk])))
    # Half-way between the means, where 3 % of the wider heap (two standard deviations below its mean) lie too.
    assert 20 < explained.level < 30 and abs(explained.count - 600) < 70
    for heap in (particles, rng.uniform(0, 60, 2000), rng.normal(0, 1, 60), np.ones(100), junk[:20]):
        assert explained_images(heap) is None


def test_images_of_nothing_have_no_resolution(folder, align, rng, tmp_path):
    """Random images in random poses: the half maps agree nowhere, and the report says none."""
    noise = rng.normal(size=(COUNT, 32, 32)).astype(np.float32)
    write_stack(tmp_path / "p.mrcs", noise, 4.0)
    write_particles(tmp_path / "unposed.star", read_particles(folder / "unposed.star", load_images=False))
    align(evidence=-1.0)
    outcome = run_job(Refine(tmp_path / "unposed.star", reference=(folder / "map.mrc",)), tmp_path / "job")
    assert any("do not show this particle" in warning for warning in outcome.warnings)
    found = {finding.key: finding.value for finding in outcome.findings}
    assert found["resolution_angstrom"] is None and found["resolution_at_0.5_angstrom"] is None
    assert any(warning.startswith("No resolution") for warning in outcome.warnings)
    assert any("no more power" in warning for warning in outcome.warnings)
    assert not (tmp_path / "job" / "local_resolution.mrc").exists()


def test_preferred_views_and_unknown_poses_are_warned_of(folder, align, blob_particles, tmp_path):
    stand_in = align()
    made = stand_in.made

    def from_one_side(*arguments):
        state = made(*arguments)
        tilted = random_rotations(COUNT, np.random.default_rng(1))
        euler = euler_from_matrix(tilted)
        euler[:, 1] *= 0.1
        changed = replace(
            state.assignment, pose=Pose(euler, state.assignment.pose.shift), angle_deviation=np.full(COUNT, 0.6)
        )
        return replace(state, assignment=changed)

    stand_in.made = from_one_side
    outcome = run_job(job(folder, iterations=1), tmp_path / "job")
    assert any("Preferred orientations" in warning for warning in outcome.warnings)
    assert any("hardly known" in warning for warning in outcome.warnings)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": ()}, "no reference"),
        ({"continue_from": Path("state.npz")}, "--reference and --continue-from"),
        ({"classes": 0}, "--classes 0"),
        ({"classes": 3, "reference": (Path("a"), Path("b"))}, "2 references for 3 classes"),
        ({"order": 4, "finest_order": 3}, "--order 4 and --finest-order 3"),
        ({"finest_order": 8}, "--finest-order 8"),
        ({"diameter": -1.0}, "--diameter"),
        ({"start_resolution": float("nan")}, "--start-resolution"),
        ({"refine_defocus": True, "ctf": False}, "--refine-defocus with --no-ctf"),
        ({"refine_defocus": True, "half_sets": "none"}, "--refine-defocus without half sets"),
        ({"workers": 0}, "--workers 0"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(SettingsProblem, match=message):
        Refine(Path("p.star"), **{"reference": (Path("map.mrc"),), **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"diameter": 500.0}, "--diameter 500 for images of 32 px"),
        ({"diameter": 10.0}, "--diameter 10"),
        ({"start_resolution": 5.0}, "--start-resolution 5"),
        ({"finest": 400.0}, "--finest 400"),
        ({"shift_range": 100.0}, "--shift-range 100"),
        ({"classes": 200}, "--classes 200 for the 300 particles"),
        ({"symmetry": "Q7"}, "point group 'Q7'"),
    ],
)
def test_numbers_that_do_not_fit_the_images(folder, align, tmp_path, options, message):
    align()
    with pytest.raises(SettingsProblem, match=message):
        run_job(job(folder, **options), tmp_path / "job")
    assert list(tmp_path.iterdir()) == []


def test_images_and_maps_that_cannot_be_used(folder, align, blob_particles, tmp_path, capsys):
    align()
    pixels = blob_particles.images.pixels[:COUNT].copy()
    particles = read_particles(folder / "unposed.star", load_images=False)
    write_particles(tmp_path / "bad.star", particles)
    for row, value, words in ((11, 3.0, "has one value"), (40, np.nan, "NaN")):
        spoilt = pixels.copy()
        spoilt[row] = value
        write_stack(tmp_path / "p.mrcs", spoilt, 4.0)
        with pytest.raises(DataProblem, match=f"row {row + 1} of .*bad.star.*{words}"):
            run_job(Refine(tmp_path / "bad.star", reference=(folder / "map.mrc",)), tmp_path / "job")
    write_stack(tmp_path / "p.mrcs", pixels, 4.0)
    write_particles(tmp_path / "one.star", particles.rows(slice(0, 1)))
    with pytest.raises(DataProblem, match="holds one particle"):
        run_job(Refine(tmp_path / "one.star", reference=(folder / "map.mrc",)), tmp_path / "job")
    for name, data, words in (
        ("flat.mrc", np.ones((32, 32, 32), np.float32), "one value in all voxels"),
        ("nan.mrc", np.full((32, 32, 32), np.nan, np.float32), "NaN"),
    ):
        write_volume(tmp_path / name, Volume(data, 4.0))
        with pytest.raises(DataProblem, match=words):
            run_job(Refine(tmp_path / "bad.star", reference=(tmp_path / name,)), tmp_path / "job")
    code = dispatch(["refine", str(tmp_path / "bad.star"), "--reference", str(tmp_path / "flat.mrc"), "--out", "x"])
    error = capsys.readouterr().err
    assert code == 2 and len(error.strip().splitlines()) == 1 and "flat.mrc" in error
