"""The truth of a simulated ensemble: what is written is read, and what does not belong together is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.errors import DataProblem, FileProblem
from vitreous.io.ensemble_truth import EnsembleTruth, map_name, particle_columns, read_truth, write_conformations
from vitreous.io.mrc_stack import StackWriter, write_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.io.star import read_star, write_star
from vitreous.model.optics import OpticsGroup
from vitreous.model.table import Table
from vitreous.model.volume import Volume
from vitreous.simulation.particles import ParticleDistribution, draw_particles

OPTICS = OpticsGroup(pixel_size=2.0, box=8, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)


@pytest.fixture
def truth(tmp_path) -> EnsembleTruth:
    """Three conformations of seven particles, written into tmp_path."""
    (tmp_path / "conformations").mkdir()
    maps = tuple(tmp_path / map_name(number) for number in (1, 2, 3))
    for path in maps:
        write_volume(path, Volume(np.zeros((8, 8, 8), np.float32), 2.0))
    truth = EnsembleTruth(
        "mixture",
        np.array([0.0, 1 / 3, 20.25]),
        ("*", "the lid open", "3"),
        maps,
        np.array([0.5, 0.25, 0.25]),
        np.array([2, 0, 0, 1, 2, 2, 1]),
    )
    write_conformations(tmp_path, truth)
    write_rows(tmp_path / "particles.star", truth, slice(None))
    return truth


def write_rows(path: Path, truth: EnsembleTruth, rows) -> None:
    particles = draw_particles(ParticleDistribution(OPTICS, (8e3, 2e4)), len(truth.index))
    write_particles(path, replace(particles, table=Table(particle_columns(truth))).rows(rows))


def test_what_is_written_is_read(truth, tmp_path):
    for path in (tmp_path, tmp_path / "particles.star", str(tmp_path)):
        again = read_truth(path)
        assert again.kind == "mixture" and again.names == truth.names and again.maps == truth.maps
        assert np.array_equal(again.values, truth.values) and np.array_equal(again.index, truth.index)
        assert np.array_equal(again.populations, truth.populations)
        assert np.array_equal(again.particle_values, truth.values[[2, 0, 0, 1, 2, 2, 1]])


def test_columns_are_those_of_the_contract(truth, tmp_path):
    """Other programs read these names: the index counts from 1, maps are named relative to the folder."""
    table = read_particles(tmp_path / "particles.star", load_images=False).table
    assert table["vitreousConformation"].tolist() == [3, 1, 1, 2, 3, 3, 2]
    assert table["vitreousConformationValue"].tolist() == truth.particle_values.tolist()
    star = read_star(tmp_path / "conformations.star")
    assert star["conformations"]["rlnReferenceImage"].tolist() == [f"conformations/00{n}.mrc" for n in (1, 2, 3)]
    assert star["ensemble"] == {"vitreousEnsembleKind": "mixture"}


def test_a_selection_of_the_particles_keeps_its_truth(truth, tmp_path):
    write_rows(tmp_path / "selected.star", truth, np.array([6, 1]))
    assert read_truth(tmp_path / "selected.star").index.tolist() == [1, 0]


def test_what_does_not_belong_together_is_refused(truth, tmp_path):
    table = read_star(tmp_path / "conformations.star")["conformations"]
    with pytest.raises(DataProblem, match="another ensemble"):
        write_conformations(tmp_path, replace(truth, values=truth.values + 1))
        read_truth(tmp_path)
    with pytest.raises(DataProblem, match="conformations 1 to 3; expected 1 to 2"):
        write_star(tmp_path / "conformations.star", {"conformations": table.rows(slice(0, 2))})
        read_truth(tmp_path)
    write_star(tmp_path / "conformations.star", {"conformations": table.without("rlnReferenceImage")})
    with pytest.raises(DataProblem, match="no column rlnReferenceImage"):
        read_truth(tmp_path)


def test_what_is_missing_is_named(truth, tmp_path):
    truth.maps[1].unlink()
    with pytest.raises(FileProblem, match=r"002\.mrc does not exist"):
        read_truth(tmp_path)
    write_particles(tmp_path / "plain.star", draw_particles(ParticleDistribution(OPTICS, (8e3, 2e4)), 3))
    with pytest.raises(DataProblem, match="no column vitreousConformation;"):
        read_truth(tmp_path / "plain.star")
    with pytest.raises(FileProblem, match="does not exist"):
        read_truth(tmp_path / "nowhere")


def test_images_written_in_any_order_lie_in_their_places(tmp_path, rng):
    images = rng.standard_normal((7, 6, 6)).astype(np.float32)
    order = rng.permutation(7)
    with StackWriter(tmp_path / "placed.mrcs", 2.0) as writer:
        for rows in (order[:3], order[3:]):
            writer.place(rows, images[rows])
    with StackWriter(tmp_path / "appended.mrcs", 2.0) as writer:
        writer.append(images)
    placed, appended = ((tmp_path / f"{name}.mrcs").read_bytes() for name in ("placed", "appended"))
    assert placed[1024:] == appended[1024:] == images.tobytes()
    assert placed[:76] == appended[:76]  # the header before its statistics, which differ by rounding
    with pytest.raises(DataProblem, match="6 images for the 7 places"), StackWriter(tmp_path / "hole.mrcs", 2.0) as w:
        w.place(np.arange(1, 7), images[1:])
    assert not (tmp_path / "hole.mrcs").exists()
