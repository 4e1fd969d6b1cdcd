"""The job `select`: what was asked for is kept with all its columns, the rest is put apart, and nothing is lost."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from vitreous.errors import DataProblem, FileProblem, FormatProblem, SettingsProblem
from vitreous.io.mrc_stack import MrcStack
from vitreous.io.particles import read_particles
from vitreous.io.star import read_star, write_star
from vitreous.jobs.classify2d_tables import read_classes
from vitreous.jobs.folder import run_job
from vitreous.jobs.select import Select
from vitreous.jobs.select_kinds import two_kinds
from vitreous.jobs.select_rule import Candidates, SelectionRule, class_numbers


def selected(class_files, out, **settings):
    outcome = run_job(Select(class_files, **settings), out)
    kept = read_star(out / "particles.star")["particles"]
    rejected = read_star(out / "rejected.star")["particles"] if (out / "rejected.star").is_file() else None
    return outcome, kept, rejected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"classes": ("1,4",)}, [1, 4]),
        ({"classes": ("2", "3-4")}, [2, 3, 4]),
        ({"best": 2}, [1, 2]),
        ({"resolution": 10.0}, [1, 2]),
        ({"resolution": 11.9, "classes": ("2-4",)}, [2]),  # all that is asked for must hold
        ({"quality": 0.6}, [1, 2, 3]),
        ({"best": 5}, [1, 2, 3, 4]),  # an empty class is never kept
    ],
    ids=str,
)
def test_classes_are_kept_as_asked(class_files, tmp_path, settings, expected):
    outcome, kept, rejected = selected(class_files, tmp_path / "s", **settings)
    whole = read_star(class_files / "particles.star")["particles"]
    assert sorted(set(kept["rlnClassNumber"])) == expected
    inside = np.isin(whole["rlnClassNumber"], expected)
    for part, rows in ((kept, inside), (rejected, ~inside)):
        if part is None:
            assert not rows.any()
            continue
        assert part.names == whole.names
        for name in whole.names:
            assert np.array_equal(np.asarray(part[name]), np.asarray(whole[name])[rows]), name
    assert outcome.as_json()["kept"] == inside.sum() and outcome.as_json()["kept_classes"] == expected


def test_particles_need_the_evidence_that_is_asked_for(class_files, tmp_path):
    _, kept, rejected = selected(class_files, tmp_path / "s", least_evidence=17.0, classes=("1-3",))
    whole = read_star(class_files / "particles.star")["particles"]
    good = (whole["rlnLogLikeliContribution"] >= 17) & (whole["rlnClassNumber"] <= 3)
    assert 200 < good.sum() < 600 and len(kept) == good.sum() and len(kept) + len(rejected) == 900
    assert kept["rlnLogLikeliContribution"].min() >= 17


def test_averages_of_the_classes_kept_come_along(class_files, tmp_path):
    selected(class_files, tmp_path / "s", classes=("1,3",))
    whole, kept = read_classes(class_files), read_classes(tmp_path / "s")
    assert list(kept.quality.count) == [300, 200] and kept.share == pytest.approx([0.6, 0.4])
    assert list(kept.number) == [1, 3] and np.array_equal(kept.average, whole.average[[0, 2]])
    assert MrcStack(tmp_path / "s" / "averages.mrcs").pixel_size == pytest.approx(4.0)
    names = read_star(tmp_path / "s" / "classes.star")["model_classes"]["rlnReferenceImage"]
    assert list(names) == [f"00000{i}@{tmp_path / 's' / 'averages.mrcs'}" for i in (1, 2)]


def test_a_selection_can_be_selected_from(class_files, tmp_path):
    selected(class_files, tmp_path / "a", best=3)
    _, kept, _ = selected(tmp_path / "a", tmp_path / "b", classes=("2",))
    assert len(kept) == 250
    images = read_particles(tmp_path / "b" / "particles.star").images
    assert images is not None and images.shape == (250, 32, 32)


def test_the_report_shows_kept_and_rejected_side_by_side(class_files, tmp_path):
    run_job(Select(class_files, classes=("3", "1")), tmp_path / "s")
    page = (tmp_path / "s" / "report.html").read_text()
    assert page.index("<h3>Kept</h3>") < page.index("<h3>Rejected</h3>")
    shown = re.findall(r"<span>class (\d)</span>", page)
    assert shown == ["1", "3", "2", "4"]  # each side from the best to the worst; empty ones are not shown
    result = json.loads((tmp_path / "s" / "result.json").read_text())
    assert result["kept"] == 500 and result["rejected"] == 400
    assert result["rule"] == "classes 1, 3"


def test_the_automatic_rule_keeps_what_agrees_with_views(class_files, agreement, classification, tmp_path):
    """The streak is left out, and of the views the tenth of their particles that does not agree."""
    outcome, kept, rejected = selected(class_files, tmp_path / "s")
    assert outcome.as_json()["kept_classes"] == [1, 2, 3] and outcome.as_json()["separation"] > 3
    truth = (classification.assignment.class_index < 3) & (np.arange(900) % 10 > 0)
    whole = list(read_star(class_files / "particles.star")["particles"]["rlnImageName"])
    chosen = np.isin(whole, list(kept["rlnImageName"]))
    # the kinds are 5 deviations apart: 0.6 % of each lie beyond the middle
    assert (chosen == truth).mean() > 0.98 and len(kept) + len(rejected) == 900


def test_what_is_kept_with_a_probability_has_it(class_files, tmp_path):
    counts = []
    for probability in (0.0, 0.5, 0.999):
        job = Select(class_files, least_probability=probability)
        counts.append(run_job(job, tmp_path / str(probability)).as_json()["kept"])
    assert counts[0] == 900 and counts[0] > counts[1] > counts[2]


def test_one_kind_is_not_torn_apart(class_files, tmp_path):
    """Where all particles agree alike, the automatic rule keeps every class that could be a view, whole, and says so."""
    shutil.copytree(class_files, tmp_path / "c")
    star = read_star(tmp_path / "c" / "particles.star")
    same = np.random.default_rng(3).normal(0.5, 0.06, 900)
    star["particles"] = star["particles"].with_columns({"vitreousAgreement": same})
    write_star(tmp_path / "c" / "particles.star", star)
    outcome, kept, _ = selected(tmp_path / "c", tmp_path / "s")
    assert outcome.as_json()["kept_classes"] == [1, 2, 3] and len(kept) == 750
    assert any("of one kind" in warning for warning in outcome.warnings)


def test_two_kinds_are_found_with_their_shares():
    """Means, spread and shares of a made mixture, within four of their standard errors."""
    rng = np.random.default_rng(5)
    member = np.repeat(np.arange(4), 500)
    truth = np.array([0.95, 0.7, 0.3, 0.02])
    upper = rng.random(2000) < truth[member]
    agreement = np.where(upper, 0.5, 0.32) + rng.normal(0, 0.06, 2000)
    kinds = two_kinds(agreement, member, 4)
    assert kinds.told_apart and kinds.separation == pytest.approx(3.0, abs=0.3)
    assert kinds.means == pytest.approx((0.32, 0.5), abs=0.012) and kinds.deviation == pytest.approx(0.06, abs=0.005)
    # sqrt(0.25 / 500) = 0.022, a little more for what overlaps
    assert kinds.share == pytest.approx(truth, abs=0.1)
    assert ((kinds.probability > 0.5) == upper).mean() > 0.93
    # calibrated: of those given 0.5 to 0.9 about so many are of the upper kind
    unsure = (kinds.probability > 0.5) & (kinds.probability < 0.9)
    assert upper[unsure].mean() == pytest.approx(kinds.probability[unsure].mean(), abs=0.15)


def test_one_kind_has_one_hump():
    rng = np.random.default_rng(6)
    member = rng.integers(0, 5, 1500)
    assert not two_kinds(rng.normal(0.4, 0.06, 1500), member, 5).told_apart
    # views that agree differently, but all alike within each
    views = np.array([0.36, 0.4, 0.42, 0.45, 0.46])[member] + rng.normal(0, 0.06, 1500)
    assert not two_kinds(views, member, 5).told_apart
    # and some that agree less: a tail is no hump
    tailed = views - 0.05 * (rng.exponential(1.0, 1500) - 1)
    assert not two_kinds(tailed, member, 5).told_apart
    assert not two_kinds(np.full(20, 0.3), np.zeros(20, dtype=int), 1).told_apart


def test_a_streak_or_an_odd_mass_is_left_out_whatever_its_particles_say(class_files):
    classes = read_classes(class_files)
    number = np.repeat([1, 2, 3, 4], 50)
    everyone = Candidates(number, np.full(200, 10.0), np.full(200, 0.5))
    assert list(SelectionRule().select(classes, everyone).classes) == [True, True, True, False, False]
    heavy = replace(classes.quality, mass=np.array([0.6, 1, 1, 1, 1]), compactness=np.array([1, 1, 0.4, 1, 1]))
    assert list(SelectionRule().select(replace(classes, quality=heavy), everyone).classes) == [
        False,
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [(["1", "3"], (1, 3)), (["5,2,2"], (2, 5)), (["2-4", "9"], (2, 3, 4, 9)), (["1,", "2"], (1, 2))],
)
def test_numbers_of_classes_are_understood(words, numbers):
    assert class_numbers(words) == numbers


BAD = {
    "no such class": ({"classes": ("1", "9")}, SettingsProblem, "--classes 9"),
    "no number": ({"classes": ("1;2",)}, SettingsProblem, "1;2"),
    "backwards": ({"classes": ("4-2",)}, SettingsProblem, "4-2"),
    "open range": ({"classes": ("4-",)}, SettingsProblem, "4-"),
    "nothing left": ({"resolution": 1.0}, DataProblem, "no particle is kept by classes of 1 Å or finer"),
    "no evidence": ({"least_evidence": 1e6}, DataProblem, "no particle"),
    "quality above 1": ({"quality": 1.5}, SettingsProblem, "from 0 to 1"),
    "probability above 1": ({"least_probability": 1.5}, SettingsProblem, "--least-probability 1.5"),
    "none best": ({"best": 0}, SettingsProblem, "--best 0"),
    "negative resolution": ({"resolution": -3.0}, SettingsProblem, "--resolution"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_refused(name, class_files, tmp_path):
    settings, error, words = BAD[name]
    with pytest.raises(error) as caught:
        run_job(Select(class_files, **settings), tmp_path / "s")
    assert words in caught.value.line() and "\n" not in caught.value.line()
    assert list(tmp_path.iterdir()) == []


def test_folders_of_other_jobs_are_refused(blob_files, class_files, tmp_path):
    with pytest.raises(FileProblem, match=r"no classes\.star"):
        run_job(Select(blob_files), tmp_path / "s")
    shutil.copytree(class_files, tmp_path / "c")
    star = read_star(tmp_path / "c" / "particles.star")
    star["particles"] = star["particles"].without("rlnClassNumber")
    write_star(tmp_path / "c" / "particles.star", star)
    with pytest.raises(FormatProblem, match="rlnClassNumber"):
        run_job(Select(tmp_path / "c"), tmp_path / "s")
