"""The job `abinitio` around its search: what goes in, what is kept, what is said of the starts, and one line for every mistake.

The search itself is replaced by a stand-in that knows the map; the last tests run the real one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vitreous.alignment.start_agreement as agreement_module
import vitreous.jobs.abinitio as job_module
from vitreous.alignment.abinitio import AbinitioSettings, Search, Start, abinitio, ranked, rounds
from vitreous.alignment.start_agreement import PairAgreement, StartAgreement, start_agreement
from vitreous.cli import dispatch
from vitreous.engine.processes import ProcessWorkers
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.geometry.rotations import random_rotations
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import write_stack
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.abinitio import Abinitio
from vitreous.jobs.abinitio_input import drawn_rows, working_box, working_particles
from vitreous.jobs.folder import run_job
from vitreous.model.particles import LoadedImages, Particles
from vitreous.reconstruction.fsc import fourier_shell_correlation
from vitreous.reconstruction.map_alignment import Placement, align_maps, mirror, place
from vitreous.reconstruction.map_resampling import resampled_map

BOX, PIXEL_SIZE = 32, 4.0


@pytest.fixture(scope="module")
def folder(blob_files, blob_particles, tmp_path_factory) -> Path:
    """particles.star without poses, and its images."""
    made = tmp_path_factory.mktemp("unposed")
    shutil.copy(blob_files / "p.mrcs", made)
    write_particles(made / "particles.star", replace(blob_particles, pose=None, half_set=None))
    return made


def job(folder: Path, **options) -> Abinitio:
    settings = {"starts": 2, "iterations": 3, "batch": 100, "end_resolution": 16.0, **options}
    return Abinitio(folder / "particles.star", **settings)


class StandIn:
    """In place of the search: start `i` finds `maps[i]` (on the grid of the particles) with `scores[i]`; the last `left` of them go half the way."""

    def __init__(self, maps: Sequence[np.ndarray], scores: Sequence[float], fails_at: int | None = None, left: int = 0):
        self.maps, self.scores, self.fails_at, self.left = maps, scores, fails_at, left
        self.made: list[int] = []
        self.particles: Particles | None = None
        self.settings: AbinitioSettings | None = None

    def __call__(self, particles, settings, *, known=(), workers, progress, on_start) -> Search:
        self.particles, self.settings = particles, settings
        box, done = particles.images.shape[-1], {start.number: start for start in known}
        finished = settings.starts - self.left
        for number in range(settings.starts):
            if number == self.fails_at:
                raise KeyboardInterrupt
            if number in done:
                continue
            self.made.append(number)
            # On the scale of the working images, whose voxels are larger.
            maps = [
                resampled_map(volume, PIXEL_SIZE, box, particles.pixel_size)
                * np.float32(particles.pixel_size / PIXEL_SIZE)
                for volume in np.atleast_1d(self.maps[number]).reshape(-1, BOX, BOX, BOX)
            ]
            share = np.linspace(0.6, 0.4, len(maps)) if len(maps) > 1 else np.ones(1)
            evidence = np.arange(float(settings.iterations if number < finished else settings.halfway)) + number
            done[number] = Start(number, np.stack(maps), share, evidence, self.scores[number], 0.5)
            on_start(done[number])
        whole = ranked([done[number] for number in range(finished)])
        agreement = start_agreement(
            [start.maps for start in whole],
            [start.score for start in whole],
            whole[0].population,
            particles.pixel_size,
            least_score=whole[0].score - 1.5,
            radius=settings.diameter / 2 / particles.pixel_size,
            coarsest=settings.start_resolution,
            finest=settings.end_resolution,
        )
        return Search(tuple(whole), tuple(done[number] for number in range(finished, settings.starts)), agreement)


ALIGNED: dict[tuple, Placement] = {}


@pytest.fixture(autouse=True)
def aligned_once(monkeypatch):
    """The same two maps are laid over each other once for all tests."""

    def aligned(moving: np.ndarray, fixed: np.ndarray, **options) -> Placement:
        key = (moving.tobytes(), fixed.tobytes(), *options.items())
        if key not in ALIGNED:
            ALIGNED[key] = align_maps(moving, fixed, **options)
        return ALIGNED[key]

    monkeypatch.setattr(agreement_module, "align_maps", aligned)


@pytest.fixture
def search(monkeypatch, blob_map):
    """Puts a stand-in in place of the search; by default both starts find the map, the second its mirror image, turned."""
    turned = place(blob_map, Placement(random_rotations(1, np.random.default_rng(1))[0], np.ones(3), True, 1.0))

    def put(maps=(blob_map, turned), scores=(8.0, 7.0), fails_at=None, left=0) -> StandIn:
        stand_in = StandIn(maps, scores, fails_at, left)
        monkeypatch.setattr(job_module, "abinitio", stand_in)
        return stand_in

    return put


@pytest.fixture
def other_map() -> np.ndarray:
    """Another particle of the same size."""
    rng = np.random.default_rng(77)
    z, y, x = np.meshgrid(*(np.arange(BOX) - BOX // 2,) * 3, indexing="ij")
    centres = rng.uniform(-7, 7, (9, 3))
    parts = (np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / (2 * 1.3**2)) for a, b, c in centres)
    return sum(parts).astype(np.float32)


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_starts_that_agree_give_one_map_without_a_warning(folder, search, blob_map, tmp_path):
    stand_in = search()
    outcome = run_job(job(folder), tmp_path / "out")
    found = {finding.key: finding.value for finding in outcome.findings}
    assert found["starts_agreeing"] == 2 and found["best_agreement"] > 0.9 and found["shows_signal"] is True
    assert found["best_start"] == 1 and found["score"] == 8.0 and found["hand"] == "unknown"
    assert outcome.warnings == []
    assert stand_in.particles is not None and stand_in.particles.images.shape[-1] < BOX  # fewer pixels than the file's
    volume = read_volume(tmp_path / "out" / "map.mrc")
    assert volume.box == BOX and volume.pixel_size == pytest.approx(PIXEL_SIZE)
    # The greys are those of the particles' own grid; what is beyond the working Nyquist is lost.
    inside = fourier_shell_correlation(volume.data, blob_map, PIXEL_SIZE).frequency < 1 / 16
    curve = fourier_shell_correlation(volume.data, blob_map, PIXEL_SIZE).correlation
    assert curve[inside].min() > 0.99
    assert np.vdot(volume.data, blob_map) / np.vdot(blob_map, blob_map) == pytest.approx(1, abs=0.1)
    names = {path.name for path in (tmp_path / "out" / "starts").iterdir()}
    assert names == {"start1.mrc", "start2.mrc", "start1.npz", "start2.npz"}
    assert not (tmp_path / "out" / "particles.star").exists()
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["start"] == [1, 2] and result["agreement"] == [1, found["best_agreement"]]
    assert result["start_iterations"] == [3, 3]


def test_the_best_start_is_the_result_whichever_it_was(folder, search, blob_map, other_map, tmp_path):
    search(maps=(other_map, blob_map), scores=(3.0, 8.0))
    outcome = run_job(job(folder), tmp_path / "out")
    volume = read_volume(tmp_path / "out" / "map.mrc").data
    assert (
        np.corrcoef(volume.ravel(), blob_map.ravel())[0, 1] > 0.9 > np.corrcoef(volume.ravel(), other_map.ravel())[0, 1]
    )
    found = {finding.key: finding.value for finding in outcome.findings}
    assert found["best_start"] == 2 and found["starts_agreeing"] == 1


def test_starts_that_disagree_are_said_to(folder, search, blob_map, other_map, tmp_path):
    search(maps=(blob_map, other_map), scores=(8.0, 7.9))
    warnings = run_job(job(folder), tmp_path / "near").warnings
    assert len(warnings) == 1 and warnings[0].startswith("The starts disagree: ") and "may be as wrong" in warnings[0]
    assert "hand is undetermined" in warnings[0]
    search(maps=(blob_map, other_map), scores=(8.0, 2.0))
    assert "speaks for it" in run_job(job(folder), tmp_path / "ahead").warnings[0]


def test_starts_that_were_left_are_shown_as_such(folder, search, blob_map, other_map, tmp_path):
    search(maps=(blob_map, blob_map, other_map), scores=(8.0, 7.5, 3.0), left=1)
    outcome = run_job(job(folder, starts=3), tmp_path / "out")
    assert outcome.as_json()["starts"] == 3 and outcome.as_json()["start_iterations"] == [3, 3, 2]
    assert outcome.as_json()["starts_agreeing"] == 2 and outcome.warnings == []
    names = {path.name for path in (tmp_path / "out" / "starts").iterdir()}
    assert {"start3.mrc", "start3_half.npz"} <= names and "start3.npz" not in names
    page = (tmp_path / "out" / "report.html").read_text()
    assert "1 left half-way" in page and "Start 3: score" not in page  # half a start is laid over nothing


@pytest.mark.parametrize("score", [1.4, -5.0])
def test_a_score_no_better_than_noise_is_said_to_be(folder, search, score, tmp_path):
    search(scores=(score, score - 1))  # with a standard error of 0.5
    outcome = run_job(job(folder), tmp_path / "out")
    assert any(warning.startswith("No better than noise: ") for warning in outcome.warnings)
    assert outcome.as_json()["shows_signal"] is False


def test_one_start_alone_is_no_proof(folder, search, blob_map, tmp_path):
    search(maps=(blob_map,), scores=(8.0,))
    outcome = run_job(job(folder, starts=1), tmp_path / "out")
    assert len(outcome.warnings) == 1 and "one start only" in outcome.warnings[0]
    assert outcome.as_json()["best_agreement"] is None


def test_maps_of_nothing_can_be_reported(folder, search, tmp_path):
    """What the real search makes of noise: nothing is left of the map when nothing is trusted."""
    nothing = np.zeros((BOX,) * 3, dtype=np.float32)
    search(maps=(nothing, nothing), scores=(-9.0, -9.1))
    outcome = run_job(job(folder), tmp_path / "out")
    assert {warning.split(":")[0] for warning in outcome.warnings} == {"No better than noise", "The starts disagree"}
    assert not read_volume(tmp_path / "out" / "map.mrc").data.any()


@pytest.mark.slow
def test_classes_have_maps_of_their_own(folder, search, blob_map, other_map, tmp_path):
    both = np.stack([blob_map, other_map])
    search(maps=(both, both[::-1]), scores=(8.0, 7.0))
    outcome = run_job(job(folder, classes=2), tmp_path / "out")
    assert outcome.as_json()["class1_share"] == pytest.approx(0.6) and outcome.as_json()["starts_agreeing"] == 2
    for number, truth in enumerate(both, start=1):
        volume = read_volume(tmp_path / "out" / f"class{number}" / "map.mrc").data
        assert np.corrcoef(volume.ravel(), truth.ravel())[0, 1] > 0.9
    assert (tmp_path / "out" / "starts" / "start2_class2.mrc").is_file() and not (tmp_path / "out" / "map.mrc").exists()


def test_the_report_shows_every_start(folder, search, tmp_path):
    search()
    run_job(job(folder), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    for words in (
        "Start 1: score 8.00",
        "Start 2: score 7.00",
        "mirrored",
        "like the best",
        "Log evidence of the subsets",
        "undetermined",
    ):
        assert words in page, words
    assert page.count("data:image/png") >= 4  # surface and slices of the map, slices of each start


# --- what goes in -----------------------------------------------------------------------------------------------------


def test_settings_reach_the_search(folder, search, tmp_path):
    stand_in = search()
    options = {"symmetry": "D2", "batch": 70, "start_resolution": 50.0, "diameter": 100.0, "seed": 4, "contrast": "raw"}
    run_job(job(folder, **options), tmp_path / "out")
    settings = stand_in.settings
    assert settings is not None and stand_in.particles is not None
    for name, value in options.items():
        assert getattr(settings, name) == value
    assert settings.shift_range == pytest.approx(10) and settings.shift_step == pytest.approx(3.2)
    assert len(stand_in.particles) == 210  # three subsets of 70 are all that a start can look at
    run_job(job(folder, shift_range=15.0), tmp_path / "wide")
    assert stand_in.settings.shift_range == 15 and stand_in.settings.symmetry == "C1"


def test_working_images_are_the_files_images_with_fewer_pixels(folder):
    particles = read_particles(folder / "particles.star")
    rows = drawn_rows(len(particles), 50, 3)
    assert len(rows) == 50 and (np.diff(rows) > 0).all() and not np.array_equal(rows, drawn_rows(len(particles), 50, 4))
    small = working_particles(particles, 24, rows, folder / "particles.star")
    assert small.pixel_size == pytest.approx(PIXEL_SIZE * 32 / 24) and small.half_set is None
    np.testing.assert_array_equal(small.ctf.defocus_u, particles.ctf.defocus_u[rows])
    there, here = (p.images.read(slice(None)) for p in (particles.rows(rows), small))
    np.testing.assert_allclose(here.mean(axis=(1, 2)), there.mean(axis=(1, 2)), atol=1e-5)  # one scale of grey


@pytest.mark.parametrize(
    ("box", "size", "finest"), [(64, 3.54, 15.0), (400, 0.8, 20.0), (300, 1.2, 7.0), (32, 4.0, 8.5)]
)
def test_the_working_box_holds_what_is_compared(box, size, finest):
    made = working_box(box, size, finest)
    assert made % 2 == 0 and made <= box
    # Nyquist at two thirds of the finest resolution, or as far as the file goes; not much beyond.
    nyquist = 2 * box * size / made
    assert nyquist <= max(2 / 3 * finest, 2 * size) + 1e-9
    assert made == box or nyquist > 0.5 * finest


# --- interrupted runs -------------------------------------------------------------------------------------------------


def test_what_was_interrupted_goes_on_with_the_starts_it_has(folder, search, tmp_path):
    search()
    run_job(job(folder), tmp_path / "whole")
    search(fails_at=1)
    with pytest.raises(KeyboardInterrupt, match="goes on from there"):
        run_job(job(folder), tmp_path / "broken")
    assert not (tmp_path / "broken").exists()
    stand_in = search()
    run_job(job(folder, workers=1), tmp_path / "broken")
    assert stand_in.made == [1]
    for name in ("map.mrc", "starts/start1.mrc", "starts/start2.mrc"):
        one, two = (read_volume(tmp_path / where / name).data for where in ("whole", "broken"))
        np.testing.assert_array_equal(one, two)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"starts": 0}, "--starts 0"),
        ({"classes": 0}, "--classes 0"),
        ({"batch": -1}, "--batch -1"),
        ({"end_resolution": 50.0}, "--end-resolution 50"),
        ({"shift_range": -1.0}, "--shift-range -1"),
        ({"symmetry": "Q7"}, "Q7"),
        ({"workers": 0}, "--workers 0"),
    ],
)
def test_options_that_cannot_be(folder, options, message):
    with pytest.raises(SettingsProblem, match=message):
        job(folder, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 46}, "--classes 46 for the 900 particles"),
        ({"end_resolution": 7.9}, "8.00 angstrom"),
        ({"diameter": 200.0}, "--diameter 200"),
        ({"diameter": 39.0}, "--start-resolution 40"),
        ({"shift_range": 65.0}, "--shift-range 65"),
    ],
)
def test_numbers_that_do_not_fit_the_images(folder, tmp_path, options, message):
    with pytest.raises(SettingsProblem, match=message):
        run_job(job(folder, **options), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("value", "words"), [(np.nan, "NaN"), (1.0, "one value")])
def test_an_unusable_image_is_named_by_its_row(folder, blob_particles, tmp_path, value, words, capsys):
    pixels = blob_particles.images.pixels.copy()
    pixels[41] = value
    write_stack(tmp_path / "p.mrcs", pixels, PIXEL_SIZE)
    shutil.copy(folder / "particles.star", tmp_path)
    code = dispatch(["abinitio", str(tmp_path / "particles.star"), "--out", str(tmp_path / "out")])
    message = capsys.readouterr().err
    assert code == 2 and "row 42 of" in message and words in message and len(message.strip().splitlines()) == 1


def test_too_few_particles_and_no_ctf(folder, blob_particles, tmp_path, capsys):
    shutil.copy(folder / "p.mrcs", tmp_path)
    write_particles(tmp_path / "few.star", replace(blob_particles, pose=None).rows(slice(0, 19)))
    write_particles(tmp_path / "bare.star", replace(blob_particles, pose=None, ctf=None))
    for name, words in (("few.star", "19 particles"), ("bare.star", "no defocus")):
        assert dispatch(["abinitio", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
        assert words in capsys.readouterr().err


# --- the search itself ------------------------------------------------------------------------------------------------


def settings_of_blobs(**options) -> AbinitioSettings:
    return AbinitioSettings(
        **{"starts": 1, "iterations": 3, "batch": 60, "diameter": 108.0, "end_resolution": 20.0, **options}
    )


def noise_of(particles: Particles) -> Particles:
    """Images of noise with the power of these."""
    assert particles.images is not None
    images = particles.images.read(slice(None))
    noise = np.random.default_rng(6).standard_normal(images.shape) * images.std()
    return replace(particles, pose=None, images=LoadedImages(noise.astype(np.float32)))


def made_by(particles: Particles, settings: AbinitioSettings, **options) -> tuple[Search, list[tuple[int, int]]]:
    """The search, and what was made for it: (number, iterations), in order."""
    made: list[tuple[int, int]] = []
    found = abinitio(
        particles, settings, on_start=lambda start: made.append((start.number, len(start.evidence))), **options
    )
    return found, made


def same(one: Search, two: Search) -> bool:
    pairs = zip((*one.finished, *one.left), (*two.finished, *two.left), strict=True)
    return len(one.finished) == len(two.finished) and all(
        a.number == b.number and a.score == b.score and np.array_equal(a.maps, b.maps) for a, b in pairs
    )


def test_two_of_a_round_go_all_the_way_and_what_is_known_is_not_made_again(blob_particles):
    particles = replace(blob_particles, pose=None).rows(slice(0, 120))
    settings = settings_of_blobs(starts=3, batch=40)
    whole, made = made_by(particles, settings)
    assert made[:3] == [(0, 2), (1, 2), (2, 2)] and {iterations for _, iterations in made[3:]} == {3}
    assert len(made) == 5 and len(whole.finished) == 2 and len(whole.left) == 1
    assert whole.best.score == max(start.score for start in whole.finished)
    # Those go on that were the best half-way.
    halves: list[Start] = []
    abinitio(particles, settings, on_start=lambda start: halves.append(start))
    best = sorted(halves[:3], key=lambda start: -start.score)
    assert [start.number for start in best[:2]] == [number for number, _ in made[3:]]
    assert best[2].number == whole.left[0].number
    again, made = made_by(particles, settings, known=(halves[0], halves[2], halves[3]))
    assert made == [(1, 2), (halves[4].number, 3)] and same(whole, again)


def test_starts_in_processes_are_those_of_one_after_another(blob_particles):
    particles = replace(blob_particles, pose=None).rows(slice(0, 120))
    settings = settings_of_blobs(starts=2, batch=40)
    one, _ = made_by(particles, settings)
    two, made = made_by(particles, settings, workers=ProcessWorkers(2))
    assert made == [(0, 3), (1, 3)] and same(one, two)


def test_rounds_go_on_until_a_second_start_has_found_the_map(blob_particles, monkeypatch):
    """Whether starts agree is what `start_agreement` says; here it says so in the second round."""
    import vitreous.alignment.abinitio as search_module

    asked: list[list[float]] = []

    def agreement(maps, scores, *numbers, least_score, **options) -> StartAgreement:
        asked.append(list(scores))
        alike = PairAgreement(0, 1, 0.9, (0,), (Placement(np.eye(3), np.zeros(3), False, 0.9),), scored=len(asked) > 1)
        return StartAgreement((alike,))

    monkeypatch.setattr(search_module, "start_agreement", agreement)
    particles = replace(blob_particles, pose=None).rows(slice(0, 80))
    found, made = made_by(particles, settings_of_blobs(starts=12, batch=20, iterations=2))
    assert [len(group) for group in rounds(12)] == [4, 4, 4] and [len(group) for group in rounds(6)] == [4, 2]
    assert {number for number, _ in made} == set(range(8))  # no third round
    assert len(found.finished) == 4 and len(found.left) == 4 and len(asked) == 2
    assert asked[1] == sorted(asked[1], reverse=True)


def test_images_that_starts_are_scored_on_have_no_part_in_the_maps(blob_particles):
    from vitreous.alignment.abinitio import RandomStart
    from vitreous.alignment.refine3d import Task

    settings = settings_of_blobs()
    task = Task.of(replace(blob_particles, pose=None), settings.refine_settings())
    one, two = (RandomStart(task, settings, number) for number in (0, 1))
    scored, aligned = one.shares
    assert len(scored) == 180 and len(np.intersect1d(scored, aligned)) == 0 and len(scored) + len(aligned) == 900
    np.testing.assert_array_equal(scored, two.shares[0])  # the same for all starts
    for iteration in range(5):
        assert np.isin(one.subset(iteration), aligned).all()
    assert not np.array_equal(one.subset(0), two.subset(0)) and not np.array_equal(one.subset(0), one.subset(1))


def test_too_few_particles_and_images_that_are_no_numbers(blob_particles):
    with pytest.raises(DataProblem, match="9 particles"):
        abinitio(blob_particles.rows(slice(0, 9)), settings_of_blobs())


@pytest.mark.slow
def test_blobs_are_found_from_nothing(blob_particles, blob_map):
    """Up to hand, turn and shift: 900 images of a known map, poses unknown. A few subsets of 200 make a map as good as a few hundred noisy images can."""
    settings = settings_of_blobs(starts=1, iterations=12, batch=200, end_resolution=15.0)
    best = abinitio(replace(blob_particles, pose=None, half_set=None), settings).best
    assert best.shows_signal
    placement = align_maps(best.maps[0], blob_map, shells=7, radius=13)
    curve = fourier_shell_correlation(place(best.maps[0], placement), blob_map, PIXEL_SIZE)
    assert curve.at(40.0) > 0.8 and curve.at(20.0) > 0.65
    assert fourier_shell_correlation(-place(best.maps[0], placement), blob_map, PIXEL_SIZE).at(20.0) < -0.65
    wrong = mirror(place(best.maps[0], placement))  # the other hand, in the same place
    assert fourier_shell_correlation(wrong, blob_map, PIXEL_SIZE).at(20.0) < 0.5


@pytest.mark.slow
def test_noise_gives_a_score_of_noise(blob_particles):
    best = abinitio(noise_of(blob_particles), settings_of_blobs(iterations=8, batch=200)).best
    assert best.score < 0 and not best.shows_signal
