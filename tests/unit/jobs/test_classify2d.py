"""The job `classify2d`: settings in the right units, what cannot be is refused, an interrupted run goes on, the report shows all."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace

import numpy as np
import pytest

from vitreous.alignment.assignment import unassigned
from vitreous.alignment.classification import Classification
from vitreous.conventions import Contrast
from vitreous.engine.checkpoint import load_state
from vitreous.errors import DataProblem, InputError, SettingsProblem
from vitreous.io.mrc_stack import MrcStack, write_stack
from vitreous.io.particles import read_particles, write_particles
from vitreous.io.star import read_star
from vitreous.jobs.classify2d import Classify2D
from vitreous.jobs.folder import run_job

job_module = importlib.import_module("vitreous.jobs.classify2d")


class Engine:
    """Stands in for the classification: goes to the made result in `iterations` steps, and notes what it was asked."""

    def __init__(self, result: Classification, *, stop_after: int | None = None, broken: int | None = None):
        self.result, self.stop_after, self.broken = result, stop_after, broken
        self.calls: list[dict] = []

    def __call__(self, particles, settings, *, state=None, workers, progress, on_iteration):
        self.calls.append({"particles": particles, "settings": settings, "state": state})
        for iteration in range(1 if state is None else state.iteration + 1, settings.iterations + 1):
            state = self.after(iteration, len(particles))
            if iteration == self.broken:
                evidence = state.assignment.log_evidence.copy()
                evidence[5] = np.nan
                state = replace(state, assignment=replace(state.assignment, log_evidence=evidence))
            on_iteration(state)
            progress(iteration, settings.iterations)
            if iteration == self.stop_after:
                raise KeyboardInterrupt
        return state

    def after(self, iteration: int, count: int) -> Classification:
        """The made result, with averages that tell the iteration."""
        return replace(
            self.result,
            iteration=iteration,
            averages=self.result.averages * np.float32(iteration),
            assignment=self.result.assignment.rows(slice(count)),
            log_likelihood=self.result.log_likelihood[:iteration],
            changed=self.result.changed[:iteration],
        )


@pytest.fixture
def stand_in(monkeypatch, classification, agreement):
    """Puts an engine in the place of the real one, and the made agreement in the place of the real comparison."""
    monkeypatch.setattr(job_module, "class_agreement", lambda particles, *_, **__: agreement[: len(particles), None])

    def put(**behaviour) -> Engine:
        engine = Engine(classification, **behaviour)
        monkeypatch.setattr(job_module, "classify2d", engine)
        return engine

    return put


@pytest.fixture
def unposed(blob_particles, tmp_path):
    """The blob particles without poses, in a folder that may be spoiled."""
    write_stack(tmp_path / "p.mrcs", blob_particles.images.pixels, 4.0)
    write_particles(tmp_path / "particles.star", replace(blob_particles, pose=None))
    return tmp_path


def test_settings_arrive_in_the_inside_units(unposed, stand_in):
    engine = stand_in()
    given = {"classes": 5, "iterations": 6, "psi_step": 12.0, "shift_range": 14.0, "shift_step": 3.0, "diameter": 100.0}
    more = {"finest": 12.0, "exact": True, "batch": 300, "tau_fudge": 3.0, "seed": 9, "ctf": False, "contrast": "raw"}
    run_job(Classify2D(unposed / "particles.star", **given, **more), unposed / "job")
    settings = engine.calls[0]["settings"]
    assert settings.psi_step == pytest.approx(np.pi / 15)
    assert (settings.classes, settings.iterations, settings.diameter) == (5, 6, 100.0)
    assert (settings.shift_range, settings.shift_step, settings.finest) == (14.0, 3.0, 12.0)
    assert (settings.exact, settings.batch, settings.tau_fudge, settings.seed) == (True, 300, 3.0, 9)
    assert settings.use_ctf is False and settings.contrast is Contrast.RAW
    assert read_particles(unposed / "job" / "particles.star", load_images=False).contrast is Contrast.RAW


def test_numbers_that_are_not_given_follow_from_the_images(unposed, stand_in):
    engine = stand_in()
    run_job(Classify2D(unposed / "particles.star", classes=5, iterations=1), unposed / "a")
    settings = engine.calls[0]["settings"]
    assert settings.diameter == pytest.approx(0.85 * 32 * 4.0) and settings.shift_range == pytest.approx(21.76)
    assert settings.shift_step == 4.0 and settings.contrast is Contrast.INVERTED and settings.use_ctf is True
    run_job(Classify2D(unposed / "particles.star", classes=5, iterations=1, pixel_size=0.9), unposed / "b")
    assert engine.calls[1]["settings"].shift_step == pytest.approx(2.7)  # the first multiple of 0.9 from 2 angstrom on


def test_poses_of_the_file_are_start_values_only_if_asked_for(blob_particles, blob_files, tmp_path, stand_in):
    engine = stand_in()
    outcome = run_job(Classify2D(blob_files / "particles.star", classes=5, iterations=1), tmp_path / "a")
    assert engine.calls[0]["particles"].pose is None
    assert any("replaced" in warning for warning in outcome.warnings)
    job = Classify2D(blob_files / "particles.star", classes=5, iterations=1, keep_shifts=True)
    run_job(job, tmp_path / "b")
    pose = engine.calls[1]["particles"].pose
    assert (pose.euler == 0).all() and pose.shift == pytest.approx(blob_particles.pose.shift, abs=1e-8)


def test_an_interrupted_run_goes_on_where_it_was(unposed, stand_in):
    """The same command gives the files of an unbroken run; what is finished is not done again."""
    job = Classify2D(unposed / "particles.star", classes=5, iterations=6)
    stand_in()
    run_job(job, unposed / "unbroken")
    stand_in(stop_after=3)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        run_job(job, unposed / "job")
    assert not (unposed / "job").exists()
    work = next(path for path in unposed.iterdir() if path.name.startswith(".job."))
    assert load_state(work / "state.npz", Classification).iteration == 3
    assert MrcStack(work / "averages.mrcs").shape == (5, 32, 32)  # to be looked at meanwhile
    engine = stand_in()
    run_job(job, unposed / "job")
    assert engine.calls[0]["state"].iteration == 3
    for name in ("averages.mrcs", "state.npz"):
        assert (unposed / "job" / name).read_bytes() == (unposed / "unbroken" / name).read_bytes()
    for name in ("particles", "model_classes"):
        file = "particles.star" if name == "particles" else "classes.star"
        left, right = (read_star(unposed / folder / file)[name] for folder in ("job", "unbroken"))
        for column in set(left.names) - {"rlnReferenceImage"}:
            assert np.array_equal(np.asarray(left[column]), np.asarray(right[column])), column


def test_other_settings_do_not_go_on_from_that_state(unposed, stand_in):
    stand_in(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        run_job(Classify2D(unposed / "particles.star", classes=5, iterations=6), unposed / "job")
    engine = stand_in()
    run_job(Classify2D(unposed / "particles.star", classes=5, iterations=6, seed=1), unposed / "job")
    assert engine.calls[0]["state"] is None


def test_nan_on_the_way_names_the_particle_and_keeps_the_last_good_state(unposed, stand_in):
    stand_in(broken=4)
    with pytest.raises(DataProblem) as caught:
        run_job(Classify2D(unposed / "particles.star", classes=5, iterations=6), unposed / "job")
    line = caught.value.line()
    assert "row 6 of" in line and f"image 6 of {unposed / 'p.mrcs'}" in line and "iteration 4" in line
    kept = next(path for path in unposed.iterdir() if path.name.startswith(".job.")) / "state.npz"
    assert str(kept) in line and load_state(kept, Classification).iteration == 3
    assert np.isfinite(load_state(kept, Classification).assignment.log_evidence).all()


def test_a_broken_first_iteration_leaves_nothing(unposed, stand_in):
    stand_in(broken=1)
    before = set(unposed.iterdir())
    with pytest.raises(DataProblem):
        run_job(Classify2D(unposed / "particles.star", classes=5, iterations=6), unposed / "job")
    assert set(unposed.iterdir()) == before


def test_the_report_shows_classes_from_best_to_worst(unposed, stand_in):
    stand_in()
    outcome = run_job(Classify2D(unposed / "particles.star", classes=5, iterations=6), unposed / "job")
    page = (unposed / "job" / "report.html").read_text()
    assert re.findall(r"<span>class (\d)</span>", page) == ["1", "2", "3", "4"]
    assert re.findall(r"<span>(\d+ · [\d.]+ Å)</span>", page) == ["300 · 9 Å", "250 · 10 Å", "200 · 12 Å", "150 · 40 Å"]
    for words in (
        "Log-likelihood by iteration",
        "Changes of class",
        "Entropy",
        "loss by pruning",
        "Not shown: 1 empty",
    ):
        assert words in page, words
    result = outcome.as_json()
    assert result["classes_used"] == 4 and result["finest_resolution_angstrom"] == 9.0
    assert result["changed"] == pytest.approx(5.0) and result["pruning_loss"] == pytest.approx(0.01)
    # a perplexity: exp(-sum p log p) of shares 1/3, 5/18, 2/9, 1/6
    assert result["effective_classes"] == pytest.approx(3.877, abs=1e-3)


def test_what_has_not_settled_or_lies_at_the_edge_is_said(unposed, stand_in, classification):
    stand_in()
    job = Classify2D(unposed / "particles.star", classes=5, iterations=2, shift_range=3.0)
    warnings = " ".join(run_job(job, unposed / "job").warnings)
    assert "50% of the particles changed class" in warnings and "--shift-range" in warnings


def with_image(unposed, pixels):
    images = read_particles(unposed / "particles.star").images.read(slice(None))
    images[41] = pixels
    write_stack(unposed / "p.mrcs", images, 4.0)


def nan_image(unposed):
    with_image(unposed, np.nan)


def flat_image(unposed):
    with_image(unposed, 3.0)


def one_particle(unposed):
    particles = read_particles(unposed / "particles.star")
    write_particles(unposed / "particles.star", particles.rows(slice(0, 1)))


def no_defocus(unposed):
    particles = read_particles(unposed / "particles.star")
    write_particles(unposed / "particles.star", replace(particles, ctf=None))


def nothing(unposed):
    pass


BAD = {
    "NaN image": (nan_image, {}, "the image of row 42"),
    "image without variance": (flat_image, {}, "one value in all its pixels"),
    "one particle": (one_particle, {"classes": 1}, "one particle"),
    "fewer particles than classes": (nothing, {"classes": 901}, "--classes 901 for the 900 particles"),
    "no classes": (nothing, {"classes": 0}, "--classes 0"),
    "no iterations": (nothing, {"iterations": 0}, "--iterations 0"),
    "mask wider than the box": (nothing, {"diameter": 129.0}, "--diameter 129"),
    "mask of a few pixels": (nothing, {"diameter": 20.0}, "from 32 to 128 angstrom"),
    "negative mask": (nothing, {"diameter": -5.0}, "--diameter -5"),
    "no defocus": (no_defocus, {}, "--no-ctf"),
    "step of a turn": (nothing, {"psi_step": 360.0}, "--psi-step 360"),
    "range beyond the box": (nothing, {"shift_range": 65.0}, "half the box"),
    "finer than Nyquist": (nothing, {"finest": 7.0}, "Nyquist"),
    "coarser than the mask": (nothing, {"finest": 120.0}, "--finest 120"),
    "batch of all": (nothing, {"batch": 900}, "--batch 900"),
    "batch below the classes": (nothing, {"batch": 20}, "--batch 20"),
    "start from origins that are not there": (nothing, {"keep_shifts": True}, "--keep-shifts"),
    "no workers": (nothing, {"workers": 0}, "--workers 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_refused(name, unposed, stand_in):
    spoil, settings, words = BAD[name]
    engine = stand_in()
    spoil(unposed)
    before = set(unposed.iterdir())
    with pytest.raises(InputError) as caught:
        run_job(Classify2D(unposed / "particles.star", **settings), unposed / "job")
    assert words in caught.value.line() and "\n" not in caught.value.line()
    assert set(unposed.iterdir()) == before and not engine.calls


def test_a_state_before_any_iteration_can_be_told(classification, unposed, stand_in):
    """Particles that an online run has not looked at yet have no class; nothing of the report falls over it."""
    engine = stand_in()
    found = classification.assignment
    engine.result = replace(classification, assignment=found.with_rows(np.arange(50), unassigned(50)))
    run_job(Classify2D(unposed / "particles.star", classes=5, iterations=1), unposed / "job")
    table = read_star(unposed / "job" / "particles.star")["particles"]
    assert (np.asarray(table["rlnClassNumber"])[:50] == 0).all()


def test_settings_problems_are_told_before_any_work():
    with pytest.raises(SettingsProblem, match="--tau-fudge"):
        Classify2D("particles.star", tau_fudge=0.0)  # type: ignore[arg-type]
