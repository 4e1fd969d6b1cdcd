"""The doctor's checks of the file itself: paths, duplicates, half sets, pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.errors import SettingsProblem
from vitreous.io.mrc_stack import write_stack
from vitreous.io.particles import write_particles
from vitreous.jobs.check import Check, duplicate_names, half_set_verdict, readable_rows, same_pixels
from vitreous.jobs.folder import run_in_passing, run_job
from vitreous.model.particles import LoadedImages
from vitreous.reconstruction.diagnosis import Status


@pytest.fixture
def few(blob_particles):
    return blob_particles.rows(np.arange(100))


def renamed(particles, index):
    return replace(particles, names=replace(particles.names, index=np.asarray(index)))


def test_distinct_names_pass_and_repeated_ones_are_counted(few):
    assert duplicate_names(few).status is Status.PASS
    index = few.names.index.copy()
    index[[40, 70]] = index[3]
    verdict = duplicate_names(renamed(few, index))
    assert verdict.status is Status.FAULT and verdict.evidence.startswith("2 rows") and "row 41" in verdict.evidence


def test_the_same_number_in_another_stack_is_no_duplicate(few):
    names = replace(
        few.names,
        index=few.names.index // 2,
        path_code=(few.names.index % 2).astype(np.int32),
        paths=("a.mrcs", "b.mrcs"),
    )
    assert duplicate_names(replace(few, names=names)).status is Status.PASS


def test_half_sets(few):
    assert half_set_verdict(few).status is Status.PASS
    assert half_set_verdict(replace(few, half_set=None)).status is Status.UNKNOWN
    assert half_set_verdict(replace(few, half_set=np.ones(100, dtype=np.int8))).status is Status.FAULT
    lopsided = np.where(np.arange(100) < 90, 1, 2).astype(np.int8)
    assert half_set_verdict(replace(few, half_set=lopsided)).status is Status.FAULT


def test_an_image_in_both_halves_is_a_fault(few):
    index = few.names.index.copy()
    index[1] = index[0]  # rows 0 and 1 are in different halves
    verdict = half_set_verdict(renamed(few, index))
    assert verdict.status is Status.FAULT and "1 images in both" in verdict.evidence


def test_equal_pixels_under_different_names_are_found(few):
    assert same_pixels(few).status is Status.PASS
    pixels = few.images.pixels.copy()
    pixels[9] = pixels[4]
    copied = replace(few, images=LoadedImages(pixels))
    assert same_pixels(copied).status is Status.FAULT
    index = few.names.index.copy()
    index[9] = index[4]  # one name, one image: the other check's business
    assert same_pixels(renamed(copied, index)).status is Status.PASS


def test_paths_that_lead_nowhere_are_named_and_left_out(few, tmp_path):
    names = replace(few.names, path_code=(np.arange(100) >= 60).astype(np.int32), paths=("p.mrcs", "lost/q.mrcs"))
    write_stack(tmp_path / "p.mrcs", few.images.pixels[:50], 4.0)
    rows, verdict = readable_rows(replace(few, names=names), tmp_path, None)
    # 50 images are in the stack, rows 50 to 59 point beyond it, 60 to 99 into a stack that is not there
    assert np.array_equal(rows, np.arange(50))
    assert verdict.status is Status.FAULT and "50 of 100" in verdict.evidence and "lost/q.mrcs" in verdict.evidence


def test_constant_images_are_found_and_left_out_of_the_trials(few, tmp_path):
    pixels = few.images.pixels.copy()
    pixels[[5, 6]] = 1.5
    write_stack(tmp_path / "p.mrcs", pixels, 4.0)
    write_particles(tmp_path / "p.star", few)
    outcome = run_in_passing(Check(tmp_path / "p.star"))
    assert "2 constant" in outcome.tables["evidence"]["pixels"] and "row 6" in outcome.tables["evidence"]["pixels"]
    assert set(outcome.tables["faults"]) == {"pixels", "repeated images"}


def test_a_file_without_poses_is_checked_as_far_as_it_goes(few, tmp_path):
    write_stack(tmp_path / "p.mrcs", few.images.pixels, 4.0)
    write_particles(tmp_path / "p.star", replace(few, pose=None))
    outcome = run_in_passing(Check(tmp_path / "p.star"))
    assert outcome.tables["faults"] == []
    assert "no orientations" in outcome.tables["evidence"]["rotation_convention"]


def test_the_report_holds_every_verdict(blob_files, tmp_path):
    outcome = run_job(Check(blob_files / "particles.star", subset=200), tmp_path / "job")
    page = (tmp_path / "job" / "report.html").read_text()
    for finding in outcome.findings:
        assert finding.label in page


def test_large_images_are_cropped_for_the_trials(few, tmp_path):
    """128 px: the trials run on 96, and the verdicts stay."""
    from vitreous.fourier.transforms import fourier_pad

    large = fourier_pad(few.images.pixels, 128, 2)[0].astype(np.float32)
    write_stack(tmp_path / "p.mrcs", large, 1.0)
    optics = tuple(replace(g, box=128, pixel_size=1.0) for g in few.optics)
    write_particles(tmp_path / "p.star", replace(few, optics=optics, images=LoadedImages(large)))
    outcome = run_in_passing(Check(tmp_path / "p.star"))
    assert outcome.tables["faults"] == []


def test_a_subset_too_small_for_a_trial_is_refused(blob_files):
    with pytest.raises(SettingsProblem, match="subset"):
        run_in_passing(Check(blob_files / "particles.star", subset=5))
