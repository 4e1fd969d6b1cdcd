"""cryoDRGN's tables: there and back, and what is refused."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.conventions import CtfState
from vitreous.errors import DataProblem, FormatProblem, OutputProblem
from vitreous.geometry.rotations import matrix_from_euler, random_rotations
from vitreous.io.cryodrgn import (
    read_ctf,
    read_latents,
    read_poses,
    with_ctf,
    with_poses,
    write_cryodrgn_inputs,
    write_latents,
)
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import ImageName, Particles
from vitreous.model.pose import Pose

COUNT = 6


def written(path: Path, *values) -> Path:
    with open(path, "wb") as stream:
        for value in values:
            pickle.dump(value, stream)
    return path


@pytest.fixture
def particles(rng) -> Particles:
    """Six particles of two optics groups that differ in voltage, spherical aberration and amplitude contrast."""
    names = ImageName(np.arange(COUNT), np.zeros(COUNT, dtype=np.int32), ("p.mrcs",))
    first = OpticsGroup("a", pixel_size=1.5, box=40, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
    second = replace(first, name="b", voltage=200e3, spherical_aberration=1.4e7, amplitude_contrast=0.07)
    euler = np.radians(rng.uniform((-180, 0, -180), (180, 180, 180), (COUNT, 3)))
    pose = Pose(euler, rng.normal(0, 5, (COUNT, 2)))
    defocus = rng.uniform(8e3, 2e4, COUNT)
    ctf = CtfParameters.of(defocus, defocus - 300, rng.uniform(-1.5, 1.5, COUNT), phase_shift=rng.uniform(0, 2, COUNT))
    return Particles(names, (first, second), np.array([0, 0, 1, 1, 0, 1]), pose, ctf)


def test_tables_there_and_back(particles, tmp_path):
    write_cryodrgn_inputs(tmp_path / "new", particles)
    bare = replace(
        particles, pose=None, ctf=None, optics=(OpticsGroup(box=40),), optics_index=np.zeros(COUNT, dtype=int)
    )
    table = read_ctf(tmp_path / "new" / "ctf.pkl")
    back = with_poses(with_ctf(bare, table, "ctf.pkl"), tmp_path / "new" / "poses.pkl")
    assert table.absent_phase_shifts == 0
    np.testing.assert_allclose(
        matrix_from_euler(back.pose.euler), matrix_from_euler(particles.pose.euler), atol=1e-12
    )  # double precision
    np.testing.assert_allclose(back.pose.shift, particles.pose.shift, rtol=1e-12)
    for name in ("defocus_u", "defocus_v", "defocus_angle", "phase_shift"):
        np.testing.assert_allclose(getattr(back.ctf, name), getattr(particles.ctf, name), rtol=1e-7)  # single precision
    np.testing.assert_array_equal(back.optics_index, particles.optics_index)
    for group, mine in zip(particles.optics, back.optics):
        for name in ("pixel_size", "box", "voltage", "spherical_aberration", "amplitude_contrast"):
            assert getattr(mine, name) == getattr(group, name), name  # 2.7 mm, not 2.7000000476


def test_a_table_in_words(particles, tmp_path):
    """Columns and units, one by one."""
    write_cryodrgn_inputs(tmp_path, particles)
    row = read_ctf(tmp_path / "ctf.pkl").values[2]
    ctf = particles.ctf
    wanted = [40, 1.5, ctf.defocus_u[2], ctf.defocus_v[2], np.degrees(ctf.defocus_angle[2]), 200, 1.4, 0.07]
    np.testing.assert_allclose(row, [*wanted, np.degrees(ctf.phase_shift[2])], rtol=1e-7)
    rotation, translation = read_poses(tmp_path / "poses.pkl")
    np.testing.assert_allclose(translation, particles.pose.shift / 60)  # of a box 60 angstrom wide
    np.testing.assert_allclose(rotation, matrix_from_euler(particles.pose.euler), atol=1e-15)
    with open(tmp_path / "poses.pkl", "rb") as stream:
        assert type(pickle.load(stream)) is tuple  # cryoDRGN takes no list
    with open(tmp_path / "ctf.pkl", "rb") as stream:
        assert pickle.load(stream).dtype == np.float32


def test_absent_phase_shifts_are_written_as_zero(particles, tmp_path):
    """NaN, which cryoDRGN's own parser writes there, ends its training."""
    ctf = CtfParameters.of(particles.ctf.defocus_u, particles.ctf.defocus_v, particles.ctf.defocus_angle)
    write_cryodrgn_inputs(tmp_path, replace(particles, ctf=ctf))
    np.testing.assert_array_equal(read_ctf(tmp_path / "ctf.pkl").values[:, 8], 0)


def test_nan_is_an_absent_phase_shift_and_nothing_else(tmp_path, particles):
    write_cryodrgn_inputs(tmp_path, particles)
    values = read_ctf(tmp_path / "ctf.pkl").values
    values[1:3, 8] = np.nan
    table = read_ctf(written(tmp_path / "a.pkl", values))
    assert table.absent_phase_shifts == 2
    np.testing.assert_array_equal(table.values[:, 8], np.nan_to_num(values[:, 8]))
    values[4, 2] = np.nan
    with pytest.raises(DataProblem, match="row 5"):
        read_ctf(written(tmp_path / "b.pkl", values))


def test_the_pixel_size_follows_the_box(tmp_path, particles):
    """cryoDRGN keeps the table of the full images for images that were downsampled."""
    write_cryodrgn_inputs(tmp_path, particles)
    small = replace(particles, optics=(OpticsGroup(box=20),), optics_index=np.zeros(COUNT, dtype=int))
    table = read_ctf(tmp_path / "ctf.pkl")
    halved = with_ctf(small, table, "ctf.pkl")
    assert halved.pixel_size == 3.0
    back = with_poses(halved, tmp_path / "poses.pkl")
    np.testing.assert_allclose(back.pose.shift, particles.pose.shift, rtol=1e-12)  # angstrom
    assert with_ctf(small, table, "ctf.pkl", pixel_size=3.1).pixel_size == 3.1


def test_a_file_of_rotations_alone(tmp_path, rng):
    rotation = random_rotations(4, rng)
    for value in (rotation, (rotation,), (rotation.astype(np.float32), np.zeros((4, 2), np.float32))):
        read, translation = read_poses(written(tmp_path / "p.pkl", value))
        np.testing.assert_allclose(read, rotation, atol=1e-6)
        np.testing.assert_array_equal(translation, np.zeros((4, 2)))


def test_latents_there_and_back(tmp_path, rng):
    mean, variance = rng.normal(size=(5, 3)).astype(np.float32), rng.uniform(0.1, 2, (5, 3)).astype(np.float32)
    write_latents(tmp_path / "z.pkl", mean, variance)
    read, spread = read_latents(tmp_path / "z.pkl")
    np.testing.assert_array_equal(read, mean)
    np.testing.assert_allclose(spread, variance, rtol=1e-6)
    alone, none = read_latents(written(tmp_path / "one.pkl", mean))  # of an autodecoder
    np.testing.assert_array_equal(alone, mean)
    assert none is None


ROTATIONS = np.broadcast_to(np.eye(3), (4, 3, 3)).copy()
WRONG_POSES = {
    "an image index": np.arange(4),
    "no rotation": 2 * ROTATIONS,
    "a mirror": -ROTATIONS,
    "NaN": ROTATIONS * np.nan,
    "pixels": (ROTATIONS, np.full((4, 2), 3.0)),
    "fewer translations": (ROTATIONS, np.zeros((3, 2))),
    "text": "poses",
    "no rows": ROTATIONS[:0],
    "three parts": (ROTATIONS, ROTATIONS, ROTATIONS),
}


@pytest.mark.parametrize("kind", WRONG_POSES)
def test_wrong_poses_are_refused(tmp_path, kind):
    with pytest.raises(DataProblem) as refused:
        read_poses(written(tmp_path / "p.pkl", WRONG_POSES[kind]))
    assert "p.pkl" in refused.value.line() and "\n" not in refused.value.line()


def test_wrong_ctfs_are_refused(tmp_path, particles):
    write_cryodrgn_inputs(tmp_path, particles)
    values = read_ctf(tmp_path / "ctf.pkl").values
    for wrong in (values[:, :8], values[0], np.zeros_like(values), {"ctf": values}, values.astype(complex)):
        with pytest.raises(DataProblem, match=r"c\.pkl"):
            read_ctf(written(tmp_path / "c.pkl", wrong))
    with pytest.raises(FormatProblem):
        (tmp_path / "c.pkl").write_bytes(b"garbage")
        read_ctf(tmp_path / "c.pkl")


def test_tables_of_other_particles_are_refused(particles, tmp_path):
    write_cryodrgn_inputs(tmp_path, particles)
    fewer = particles.rows(slice(0, 4))
    with pytest.raises(DataProblem, match="6 rows and there are 4 images"):
        with_poses(fewer, tmp_path / "poses.pkl")
    with pytest.raises(DataProblem, match="6 rows and there are 4 images"):
        with_ctf(fewer, read_ctf(tmp_path / "ctf.pkl"), tmp_path / "ctf.pkl")


def changed(particles: Particles, **fields) -> Particles:
    return replace(particles, optics=(replace(particles.optics[0], **fields), particles.optics[1]))


REFUSED = {
    "poses": lambda p: replace(p, pose=None),
    "CTFs": lambda p: replace(p, ctf=None),
    "pixel size": lambda p: changed(p, pixel_size=1.6),
    "boxes": lambda p: changed(p, box=64),
    "voltage": lambda p: changed(p, voltage=None),
    "magnification": lambda p: changed(p, magnification=((1.01, 0.0), (0.0, 1.0))),
    "CTF states": lambda p: changed(p, ctf_state=CtfState.PHASE_FLIPPED),
    "phase_flipped": lambda p: replace(
        p.rows(slice(0, 2)), optics=(replace(p.optics[0], ctf_state=CtfState.PHASE_FLIPPED),)
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_cryodrgn_cannot_take_is_refused_and_nothing_written(particles, tmp_path, said):
    with pytest.raises(DataProblem, match=said):
        write_cryodrgn_inputs(tmp_path / "new", REFUSED[said](particles))
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made(particles, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputProblem):
        write_cryodrgn_inputs(tmp_path / "file", particles)
