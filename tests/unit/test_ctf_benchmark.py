"""The CTF benchmark scores what it says: angles without a side, signed errors, intervals; its data follow from seeds."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.jobs.micrograph_plan import MicrographPlan
from vitreous.jobs.simulate_micrograph import SimulateMicrograph
from vitreous.optics.tilted_plane import TiltedPlane

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "ctf"
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]
try:
    import answers
    import make
    import real
    import run
    import tables
    from controls import controls
    from recipes import KINASE, NEAR, Recipe, every, recipes
    from scoring import Answer, Coverage, Lens, Summary, angle_between, axis_between, errors
finally:
    sys.path.remove(str(FOLDER))
    sys.path.remove(str(FOLDER.parent))

TRUTH = Lens(10250.0, 9750.0, 80.0, 20.0, 30.0, 1000.0)


# --- scoring ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("angle", "other", "apart"),
    [(10, 5, 5), (5, 10, -5), (89, -89, -2), (-89, 89, 2), (179, 0, -1), (0, 179, 1), (725, 3, 2), (45, -45, 90)],
)
def test_directions_without_a_side_wrap_at_180_degrees(angle, other, apart):
    assert angle_between(angle, other) == pytest.approx(apart, abs=1e-12)
    assert angle_between(angle + 180, other) == pytest.approx(apart, abs=1e-9)


@pytest.mark.parametrize(("angle", "other", "apart"), [(350, 10, -20), (10, 350, 20), (-170, 170, 20), (190, 10, 180)])
def test_axes_have_a_side(angle, other, apart):
    assert axis_between(angle, other) == pytest.approx(apart, abs=1e-12)


def test_errors_are_found_minus_true():
    found = errors(Lens(10320.0, 9780.0, -99.0, 22.0, 30.0, 950.0), TRUTH)
    assert found["mean"] == 50 and found["size"] == 40 and found["thickness"] == -50
    assert found["angle"] == pytest.approx(1)  # -99 is 81
    assert found["tilt"] == pytest.approx(2) and found["axis"] == pytest.approx(0, abs=1e-9)
    assert found["normal"] == pytest.approx(2)


def test_errors_of_the_components_make_the_vector_of_the_error():
    found = errors(replace(TRUTH, angle_deg=-10.0), TRUTH)  # across the truth: twice 90 degrees apart
    assert found["size"] == 0 and found["angle"] == 90
    assert math.hypot(found["along"], found["across"]) == pytest.approx(500)  # two vectors of 250 back to back
    swapped = replace(TRUTH, defocus_u=TRUTH.defocus_v, defocus_v=TRUTH.defocus_u, angle_deg=-10.0)  # the same lens
    same = errors(swapped, TRUTH)
    assert math.hypot(same["along"], same["across"]) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("tilt", "axis"), [(20.0, 30.0), (-20.0, 210.0), (20.0, 390.0)])
def test_a_tilt_may_be_written_in_several_ways(tilt, axis):
    found = errors(replace(TRUTH, tilt_deg=tilt, tilt_axis_deg=axis), TRUTH)
    for name in ("tilt", "axis", "normal", "slope_x", "slope_y"):
        assert found[name] == pytest.approx(0, abs=1e-9)


def test_a_tilt_to_the_other_side_is_wrong_by_twice_its_size():
    found = errors(replace(TRUTH, tilt_deg=-20.0), TRUTH)
    assert found["tilt"] == pytest.approx(0) and abs(found["axis"]) == pytest.approx(180)
    assert found["normal"] == pytest.approx(40)


@pytest.mark.parametrize(("tilt", "axis"), [(20.0, 30.0), (-35.0, 100.0), (10.0, 90.0)])
def test_slopes_are_those_of_the_program(tilt, axis):
    slope = TiltedPlane(math.radians(tilt), math.radians(axis)).slope
    assert replace(TRUTH, tilt_deg=tilt, tilt_axis_deg=axis).slope == pytest.approx(slope, abs=1e-12)


def test_what_was_not_estimated_has_no_error():
    found = errors(Lens(1e4, 1e4, 0.0), TRUTH)
    assert not {"tilt", "axis", "normal", "slope_x", "thickness"} & set(found)


def test_summaries_keep_the_sign_in_the_mean_alone():
    summary = Summary.of([3.0, -4.0])
    assert (summary.count, summary.mean, summary.worst) == (2, -0.5, 4.0)
    assert summary.rms == pytest.approx(math.sqrt(12.5))
    assert math.isnan(Summary.of([]).worst)
    assert tables.median([1.0, -2.0, 30.0]) == 2.0 and tables.median([1.0, -2.0]) == 1.5


def test_right_error_bars_hold_68_percent():
    rng = np.random.default_rng(0)
    sigma = rng.uniform(1, 5, 4000)
    pairs = list(zip((sigma * rng.standard_normal(4000)).tolist(), sigma.tolist()))
    coverage = Coverage.of(pairs)
    assert coverage.percent == pytest.approx(68.3, abs=3 * coverage.uncertainty)
    assert Coverage.of([(2 * error, sigma) for error, sigma in pairs]).percent < 45  # bars half as long hold 38 %


# --- tables and targets -----------------------------------------------------------------------------------------------


def subjects(*groups: str) -> list[tables.Subject]:
    return [tables.Subject(Path(f"{number}.mrc"), group, TRUTH) for number, group in enumerate(groups)]


def answer(mean: float, *, found: bool = True, **changes: float) -> Answer:
    lens = Lens(mean + 250, mean - 250, 80.0)
    return Answer(replace(lens, **changes), found, {"defocus": 10.0, "astigmatism_along": 5.0})


def test_only_answers_count_and_missing_ones_are_said():
    chosen = subjects("a", "a", "a", "a")
    given = {Path("0.mrc"): answer(10010), Path("1.mrc"): answer(9970), Path("2.mrc"): answer(5e4, found=False)}
    assert tables.quantity(chosen, given, "mean") == [10, -30]
    assert tables.quantity_table("mean", chosen, ("a", "b"), {"p": given}, "mean") == [
        ["mean", "n", "p"],
        ["a", "4", "20 / 22 / 30 (2 of 4)"],
    ]


@pytest.mark.parametrize(("means", "met"), [([10020, 9980], True), ([10021, 10000], False), ([9979, 10000], False)])
def test_a_target_is_met_by_the_worst_of_both_signs(means, met):
    chosen = subjects("a", "a")
    given = {one.path: answer(mean) for one, mean in zip(chosen, means)}
    assert tables.worst_check("mean", tables.quantity(chosen, given, "mean"), 2, 20, "A").met is met


def test_a_target_is_missed_where_a_micrograph_was_not_answered():
    check = tables.worst_check("mean", [1.0], 2, 20, "A")
    assert check.met is False and "1 of 2 not found" in check.reached
    assert tables.worst_check("mean", [], 0, 20, "A").met is None


def test_a_peer_whose_axis_has_no_side_is_given_the_better_one():
    chosen = subjects("tilted")
    given = {chosen[0].path: answer(10000, tilt_deg=21.0, tilt_axis_deg=210.0)}
    assert tables.quantity(chosen, given, "normal", sided=False)[0] == pytest.approx(1)
    assert tables.quantity(chosen, given, "normal")[0] == pytest.approx(41)


def test_coverage_counts_each_error_against_its_own_interval():
    chosen = subjects("a")
    given = {chosen[0].path: answer(10009)}  # 9 of a sigma of 10; the astigmatism is exact
    assert tables.covered(chosen, given, ("mean",)) == Coverage(1, 1)
    assert tables.covered(chosen, given, ("mean", "along", "across")) == Coverage(2, 2)  # no interval for `across`
    given = {chosen[0].path: answer(9989)}
    assert tables.covered(chosen, given, ("mean",)) == Coverage(0, 1)


def test_the_slower_advantage_over_the_peers_counts():
    assert run.faster("x", [9.0, 2.9]).met is False
    assert run.faster("x", [9.0, 3.0]).met is True
    assert run.faster("x", []).met is None


# --- the programs -----------------------------------------------------------------------------------------------------


def test_a_runner_that_fails_on_an_image_gives_no_answer():
    assert answers.answer_of({"failed": "no", "seconds": 1.0}) == Answer(None, False, seconds=1.0, failure="no")
    nothing = {"defocus_u": math.nan, "defocus_v": 1.0, "angle_deg": 0.0, "seconds": 1.0}
    assert answers.answer_of(nothing).lens is None


def test_rows_of_the_job_are_read_in_degrees_with_their_error_bars():
    row = {"defocus_u": 2e4, "defocus_v": 1e4, "angle": math.radians(-30), "tilt": math.radians(20), "found": True}
    row |= {"axis": None, "thickness": 900.0, "covariance": [[4.0, 0.0], [0.0, 9.0]], "seconds": 2.0, "evidence": "e"}
    found = answers.answer_of_job(json.loads(json.dumps(row | {"names": ["defocus", "thickness"]})))
    assert found.lens is not None
    assert found.lens.angle_deg == pytest.approx(-30) and found.lens.tilt_deg == pytest.approx(20)
    assert found.sigma == {"defocus": 2.0, "thickness": 3.0}


def test_a_peer_that_is_not_installed_is_left_out_and_the_line_says_how_to_get_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(answers, "PEERS", tmp_path)
    monkeypatch.delenv("ASPIRE_PYTHON", raising=False)
    assert answers.ASPIRE.found(None) == []
    line = capsys.readouterr().out
    assert "pip install torch==2.13.0 aspire==0.14.3" in line and "ASPIRE_PYTHON" in line


# --- the data ---------------------------------------------------------------------------------------------------------


def test_recipes_have_seeds_of_their_own_and_another_set_has_others():
    published, other = ([recipe.seed for recipe in recipes(seed)] for seed in (0, 1))
    assert len(set(published)) == len(published)
    assert not set(published) & set(other)


def test_the_first_micrograph_of_a_recipe_with_an_angle_has_the_astigmatism_that_was_asked_for():
    for recipe in recipes():
        if recipe.angle_deg is None or recipe.group == "round":
            continue
        settings = SimulateMicrograph(
            Path(KINASE), pixel_size=1.0, size=(64,), particles=0, seed=recipe.seed, astigmatism=recipe.root_mean_square
        )
        along, across = MicrographPlan(settings, None, None).microscopes[0].astigmatism
        assert 2 * math.hypot(along, across) == pytest.approx(recipe.astigmatism, rel=1e-9)
        angle = math.degrees(math.atan2(across, along)) / 2
        assert abs(angle_between(angle, recipe.angle_deg)) <= NEAR


def test_words_are_options_of_the_command():
    recipe = Recipe("tilted", KINASE, (1.5, 1.5), 64, tilt_deg=-20.0, tilt_axis_deg=100.0, ice_thickness=300.0, seed=5)
    words = recipe.words
    given = dict(zip(words[4::2], words[5::2]))
    assert words[:4] == [KINASE, "--defocus-um", "1.5", "1.5"]
    names = {name.removeprefix("--").replace("-", "_") for name in given}
    assert names <= set(SimulateMicrograph.__dataclass_fields__)
    assert (given["--tilt-deg"], given["--tilt-axis-deg"], given["--size"]) == ("-20", "100", "64")


def test_a_part_of_the_set_keeps_every_group():
    whole = recipes()
    part = every(5, whole)
    assert {recipe.group for recipe in part} == {recipe.group for recipe in whole}
    assert sum(recipe.count for recipe in part) < sum(recipe.count for recipe in whole) / 3


def test_controls_follow_from_their_seed_and_differ_from_each_other():
    first, again, other = (dict(controls(seed, 512)) for seed in (0, 0, 1))
    for name, image in first.items():
        assert image.dtype == np.float32 and np.isfinite(image).all()
        np.testing.assert_array_equal(image, again[name])
        assert name == "constant" or not np.array_equal(image, other[name])
    assert first["constant"].std() == 0


def test_truth_is_read_as_it_was_made(tmp_path):
    row = {"group": "tilted", "defocus": [2e4, 19e3, 0.5], "vitreousIceThickness": 300.0, "vitreousTiltDeg": -30.0}
    made = {"tilted_01": row | {"vitreousTiltAxisDeg": 100.0}}
    made["nothing_x"] = {"group": "nothing", "defocus": [0.0, 0.0, 0.0], **dict.fromkeys(make.MORE, 0.0)}
    make.write_truth(tmp_path / "truth.star", made)
    tilted, nothing = run.read_truth(tmp_path / "truth.star")
    assert nothing.truth is None and nothing.group == "nothing"
    assert tilted.path == tmp_path / "micrographs" / "tilted_01.mrc" and tilted.group == "tilted"
    assert tilted.truth == Lens(2e4, 19e3, pytest.approx(math.degrees(0.5)), -30.0, 100.0, 300.0)


def test_a_checksum_is_of_the_pixels_and_not_of_the_date(tmp_path):
    pixels = np.arange(4096, dtype=np.float32).tobytes()
    for name, header in (("a", b"1"), ("b", b"2")):
        (tmp_path / name).write_bytes(header * 1024 + pixels)
    (tmp_path / "c").write_bytes(b"1" * 1024 + pixels[::-1])
    one, same, other = (make.checksum(tmp_path / name) for name in "abc")
    assert one == same != other


@pytest.mark.parametrize("shape", [(64, 48), (62, 50)])
def test_half_sampling_keeps_the_low_frequencies(shape):
    image = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    small = real.half_sampled(image)
    assert small.shape == (shape[0] // 2, shape[1] // 2)
    assert small.mean() == pytest.approx(image.mean(), abs=1e-6)  # float32
    # `forward` unnormalised: a quarter of the pixels; the highest frequency of an even size is shared by two signs
    ours, whole = np.fft.fft2(small), np.fft.fft2(image.astype(np.float64))
    for row in range(-8, 9):
        for column in range(-8, 9):
            assert ours[row, column] == pytest.approx(whole[row, column] / 4, abs=1e-4)


def test_the_digest_of_the_truth_does_not_depend_on_the_order_but_on_every_number():
    chosen = [*subjects("a", "b"), tables.Subject(Path("x.mrc"), "nothing", None)]
    changed = [replace(chosen[0], truth=replace(TRUTH, tilt_axis_deg=30.01)), *chosen[1:]]
    assert run.truth_digest(chosen) == run.truth_digest(chosen[1::-1])
    assert run.truth_digest(chosen) != run.truth_digest(changed)
