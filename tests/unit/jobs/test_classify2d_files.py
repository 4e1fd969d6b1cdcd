"""The files and the scores of a 2D classification: every number at its place, in RELION's words, with lasting image names."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.errors import FileProblem, FormatProblem
from vitreous.io.mrc_stack import MrcStack, write_stack
from vitreous.io.particles import read_particles, write_particles
from vitreous.io.star import read_star, write_star
from vitreous.jobs.classify2d_gallery import class_gallery, within_mask
from vitreous.jobs.classify2d_quality import PARTS, class_quality, compactness, information, mass
from vitreous.jobs.classify2d_tables import assigned_particles, classes_of, read_classes
from vitreous.jobs.stack_names import lasting_names
from vitreous.model.table import Table

PIXEL_SIZE, DIAMETER = 4.0, 104.0


def test_particles_star_says_what_was_found(class_files, classification, agreement, blob_files):
    table = read_star(class_files / "particles.star")["particles"]
    found = classification.assignment
    assert np.array_equal(table["rlnClassNumber"], found.class_index + 1)  # from 1
    turn = np.deg2rad(table["rlnAnglePsi"]) - found.pose.euler[:, 2]
    assert np.abs(np.exp(1j * turn) - 1).max() < 1e-8  # 9 decimals of a degree are written
    assert np.abs(np.exp(1j * (turn + 4 * found.pose.euler[:, 2])) - 1).max() > 1  # the sign matters
    assert (table["rlnAngleRot"] == 0).all() and (table["rlnAngleTilt"] == 0).all()
    assert table["rlnOriginXAngst"] == pytest.approx(found.pose.shift[:, 0], abs=1e-8)
    assert table["rlnOriginYAngst"] == pytest.approx(found.pose.shift[:, 1], abs=1e-8)
    assert table["rlnMaxValueProbDistribution"] == pytest.approx(found.probability, abs=1e-6)
    assert table["rlnLogLikeliContribution"] == pytest.approx(found.log_evidence, abs=1e-4)
    assert np.array_equal(table["rlnNrOfSignificantSamples"], np.rint(np.exp(found.entropy)))
    assert table["rlnNormCorrection"] == pytest.approx(found.norm, abs=1e-6)
    assert np.deg2rad(table["vitreousPsiError"]) == pytest.approx(found.angle_deviation, abs=1e-6)
    assert table["vitreousOriginError"] == pytest.approx(found.shift_deviation, abs=1e-4)
    assert table["vitreousAgreement"] == pytest.approx(agreement, abs=1e-6)
    before = read_star(blob_files / "particles.star")["particles"]
    for column in ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnRandomSubset"):
        assert np.array_equal(table[column], before[column]), column


def test_particles_without_a_class_are_in_class_0(blob_particles, classification, agreement):
    found = classification.assignment
    few = replace(found, class_index=np.where(np.arange(900) < 5, -1, found.class_index))
    table = assigned_particles(blob_particles, few, agreement).table
    assert (table["rlnClassNumber"][:5] == 0).all() and (table["rlnClassNumber"][5:] > 0).all()


def test_image_names_lead_to_the_images_from_the_new_place(class_files, blob_particles):
    read = read_particles(class_files / "particles.star")
    rows = np.array([0, 17, 899])
    assert np.array_equal(read.images.read(rows), blob_particles.images.pixels[rows])


def test_names_are_changed_only_if_they_must_be(blob_files, blob_particles, tmp_path, monkeypatch):
    source = blob_files / "particles.star"
    beside = lasting_names(blob_particles, source, blob_files / "job")
    assert beside.names.paths == ("p.mrcs",)  # found from a folder below the particle file's
    away = lasting_names(blob_particles, source, tmp_path / "job")
    assert away.names.paths == (str(blob_files / "p.mrcs"),)
    (tmp_path / "data").mkdir()
    shutil.copy(blob_files / "p.mrcs", tmp_path / "data" / "p.mrcs")
    monkeypatch.chdir(tmp_path)
    inside = lasting_names(blob_particles, tmp_path / "data" / "particles.star", Path("jobs/class"))
    assert inside.names.paths == ("data/p.mrcs",)  # as RELION has it: from the project's folder
    shutil.copy(blob_files / "p.mrcs", tmp_path / "p.mrcs")  # another file of the same name in the way
    shadowed = lasting_names(blob_particles, tmp_path / "data" / "particles.star", Path("jobs/class"))
    assert shadowed.names.paths == ("data/p.mrcs",)
    lost = lasting_names(blob_particles, tmp_path / "nowhere" / "x" / "particles.star", Path("/jobs"))
    assert lost.names.paths[0].endswith("p.mrcs")


def test_classes_come_back_from_their_files(class_files, classification, agreement):
    classes, made = read_classes(class_files), classes_of(classification, agreement, PIXEL_SIZE, DIAMETER)
    assert np.array_equal(classes.average, classification.averages)
    assert classes.pixel_size == PIXEL_SIZE and classes.diameter == DIAMETER
    assert list(classes.number) == [1, 2, 3, 4, 5] and list(classes.quality.count) == [300, 250, 200, 150, 0]
    assert classes.share == pytest.approx([1 / 3, 250 / 900, 200 / 900, 150 / 900, 0], abs=1e-8)
    assert list(classes.resolution) == [9, 10, 12, 40, np.inf]
    for name in ("score", *PARTS, "mean_agreement", "mean_evidence"):
        assert getattr(classes.quality, name) == pytest.approx(getattr(made.quality, name), abs=1e-5)


def test_averages_have_their_pixel_size_and_star_their_spectra(class_files, classification):
    stack = MrcStack(class_files / "averages.mrcs")
    assert stack.pixel_size == pytest.approx(PIXEL_SIZE) and stack.shape == (5, 32, 32)
    star = read_star(class_files / "classes.star")
    assert star["model_classes"]["rlnReferenceImage"][2] == f"000003@{class_files / 'averages.mrcs'}"
    spectrum = star["model_class_2"]
    assert spectrum["rlnSsnrMap"] == pytest.approx(classification.signal_to_noise[1], abs=1e-6)
    assert spectrum["rlnAngstromResolution"][4] == pytest.approx(32 * PIXEL_SIZE / 4)


@pytest.mark.skipif(shutil.which("relion_star_handler") is None, reason="RELION is not installed")
def test_relion_reads_the_files(class_files, tmp_path):
    """One program that knows the labels' types and keeps a class, one that prints a table, one that reads the averages."""
    chosen = ("--select", "rlnClassNumber", "--minval", "1.5", "--maxval", "2.5")
    done = subprocess.run(
        ["relion_star_handler", "--i", class_files / "particles.star", "--o", tmp_path / "two.star", *chosen],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    kept = read_star(tmp_path / "two.star")["particles"]
    assert len(kept) == 250 and (kept["rlnClassNumber"] == 2).all()
    whole = read_star(class_files / "particles.star")["particles"]
    second = whole.rows(np.asarray(whole["rlnClassNumber"]) == 2)
    for name in ("rlnAnglePsi", "rlnLogLikeliContribution", "rlnNrOfSignificantSamples"):
        assert kept[name] == pytest.approx(second[name], abs=1e-5)  # RELION prints 5 decimals of numbers above 100
    printed = subprocess.run(
        ["relion_star_printtable", class_files / "classes.star", "data_model_classes", "_rlnClassDistribution"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert [float(word) for word in printed.stdout.split()] == pytest.approx(
        [0.333333, 0.277778, 0.222222, 0.166667, 0], abs=1e-5
    )
    done = subprocess.run(
        ["relion_image_handler", "--i", class_files / "averages.mrcs", "--stats"], capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 5 and all("angpix = 4" in line for line in lines)
    means = [float(line.partition("avg=")[2].split()[0]) for line in lines]
    assert means == pytest.approx(MrcStack(class_files / "averages.mrcs").read(slice(None)).mean(axis=(1, 2)), abs=1e-5)


def test_other_folders_are_refused(tmp_path, class_files):
    with pytest.raises(FileProblem, match=r"no classes\.star"):
        read_classes(tmp_path)
    shutil.copytree(class_files, tmp_path / "c")
    write_stack(tmp_path / "c" / "averages.mrcs", np.zeros((4, 32, 32)), PIXEL_SIZE)
    with pytest.raises(FormatProblem, match="4 averages"):
        read_classes(tmp_path / "c")
    write_star(tmp_path / "c" / "classes.star", {"model_classes": Table({"rlnClassNumber": np.arange(5)})})
    with pytest.raises(FormatProblem, match="lacks columns"):
        read_classes(tmp_path / "c")


# --- quality ----------------------------------------------------------------------------------------------------------


def test_views_are_better_than_streaks_and_empty_classes_worth_nothing(classification, agreement):
    quality = class_quality(classification, agreement, PIXEL_SIZE, DIAMETER)
    assert list(quality.order) == [0, 1, 2, 3, 4]
    assert quality.score[4] == 0 and quality.score[3] < 0.6 * quality.score[2]
    parts = [getattr(quality, name) for name in PARTS]
    assert all((part >= 0).all() and (part <= 1).all() for part in parts)
    assert quality.score == pytest.approx(np.prod(parts, axis=0) ** 0.2)


def test_each_part_counts(classification, agreement):
    """A class that loses in one part, all else equal, loses in quality."""
    before = class_quality(classification, agreement, PIXEL_SIZE, DIAMETER).score[2]
    found = classification.assignment
    third = found.class_index == 2
    axis = np.arange(32) - 16
    ring = 8.0 * (np.abs(np.hypot(axis[:, None], axis) - 12) < 0.7) * np.cos(6 * np.arctan2(axis[:, None], axis))
    ringed, heavy = (classification.averages.copy() for _ in range(2))
    ratio = classification.signal_to_noise.copy()
    ringed[2] += ring.astype(np.float32)
    heavy[2] *= 2
    ratio[2] /= 4
    certain = np.where(third, 0.3, found.class_probability)
    worse = {
        "information": (replace(classification, signal_to_noise=ratio), agreement),
        "agreement": (classification, np.where(third, 0.2, agreement)),
        "mass": (replace(classification, averages=heavy), agreement),
        "compactness": (replace(classification, averages=ringed), agreement),
        "certainty": (replace(classification, assignment=replace(found, class_probability=certain)), agreement),
    }
    assert tuple(worse) == PARTS
    for name, (state, agrees) in worse.items():
        after = class_quality(state, agrees, PIXEL_SIZE, DIAMETER)
        assert after.score[2] < before - 0.01, name


def test_quality_does_not_depend_on_the_scale_or_the_order_of_classes(classification, agreement):
    quality = class_quality(classification, agreement, PIXEL_SIZE, DIAMETER)
    louder = replace(classification, averages=7 * classification.averages)
    # averages are float32
    assert class_quality(louder, agreement, PIXEL_SIZE, DIAMETER).score == pytest.approx(quality.score, rel=1e-5)
    turned = np.array([3, 0, 4, 2, 1])  # new place -> old place
    place = np.argsort(turned)
    found = classification.assignment
    other = replace(
        classification,
        averages=classification.averages[turned],
        resolution=classification.resolution[turned],
        signal_to_noise=classification.signal_to_noise[turned],
        assignment=replace(found, class_index=place[found.class_index]),
    )
    assert class_quality(other, agreement, PIXEL_SIZE, DIAMETER).score == pytest.approx(quality.score[turned])


def test_mass_of_known_images():
    """Three discs of one integral, one of twice as much, one dark: the median is that of the most particles, the level does not count."""
    axis = np.arange(64) - 32
    distance = np.hypot(axis[:, None], axis)
    disc = (distance < 10) / (distance < 10).sum()
    small = (distance < 5) / (distance < 5).sum()
    images = np.stack([disc, small + 3, disc, 2 * disc, -disc])
    found = mass(images, np.array([10, 10, 10, 10, 5]), 30.0)
    assert found == pytest.approx([1, 1, 1, 0.5, 0])
    assert mass(-images, np.array([10, 10, 10, 10, 5]), 30.0) == pytest.approx(0)  # the sign of the protein


def test_information_of_known_ratios():
    ratio = np.zeros((2, 4))
    ratio[1] = [9, 1, 0, 3]  # shell 0 does not count
    assert information(ratio) == pytest.approx([0, 2 * np.pi * (np.log(2) + 3 * np.log(4))])


def test_compactness_of_known_images():
    axis = np.arange(64) - 32
    distance = np.hypot(axis[:, None], axis)
    compact = np.exp(-(distance**2) / (2 * 6**2))
    ring = ((distance > 26) & (distance < 30)) * np.cos(8 * np.arctan2(axis[:, None], axis))
    level = np.full((64, 64), 3.0)
    one, streak, flat, moved = compactness(np.stack([compact, ring, level, compact + 5]), 30.0)
    assert one > 0.999 and streak == 0 and flat == 1  # a level alone has no variance anywhere
    assert moved == pytest.approx(one)


# --- gallery ----------------------------------------------------------------------------------------------------------


def test_the_gallery_names_population_and_resolution(classification, agreement):
    classes = classes_of(classification, agreement, PIXEL_SIZE, DIAMETER)
    gallery = class_gallery(classes, [1, 4])
    assert gallery.tiles[0].lines == ("class 2", "250 · 10 Å") and gallery.tiles[1].lines == ("class 5", "0")
    partly = class_gallery(classes, [0, 1], kept=np.array([300, 7, 0, 0, 0]))
    assert partly.tiles[0].lines[1] == "300 · 9 Å" and partly.tiles[1].lines[1] == "7 of 250 · 10 Å"
    assert "250 particles" in gallery.tiles[0].alt and gallery.tiles[0].png.startswith(b"\x89PNG")


def test_tiles_are_cut_to_the_mask():
    image = np.arange(1024.0).reshape(32, 32)
    assert within_mask(image, 26).shape == (26, 26) and within_mask(image, 26)[13, 13] == image[16, 16]
    assert within_mask(image, 200).shape == (32, 32)


def test_a_particle_file_with_poses_loses_none_of_its_other_columns(
    blob_particles, classification, agreement, tmp_path
):
    """Also RELION's 3.0 columns in pixels, whose successors replace them."""
    table = blob_particles.table.with_columns({"rlnOriginX": np.ones(900), "someColumn": np.arange(900)})
    particles = assigned_particles(replace(blob_particles, table=table), classification.assignment, agreement)
    write_particles(tmp_path / "p.star", particles)
    columns = read_star(tmp_path / "p.star")["particles"].names
    assert "someColumn" in columns and "rlnOriginX" not in columns and "rlnOriginXAngst" in columns
