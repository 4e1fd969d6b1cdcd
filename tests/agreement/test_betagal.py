"""Real particles: beta-galactosidase of EMPIAR-10204, 1,468 particles with poses found by others, and the negative controls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.fourier.filters import soft_sphere
from vitreous.geometry.rotations import euler_from_matrix, matrix_from_euler
from vitreous.geometry.symmetry import point_group
from vitreous.io.mrc import read_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.check import Check
from vitreous.jobs.folder import run_in_passing
from vitreous.model.particles import Particles
from vitreous.model.pose import Pose
from vitreous.reconstruction.direct_inversion import InversionSettings, reconstruct
from vitreous.reconstruction.fsc import fourier_shell_correlation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(shared_data) -> Path:
    return shared_data / "betagal"


@pytest.fixture(scope="module")
def particles(folder) -> Particles:
    return read_particles(folder / "particles_posed.star")


@pytest.fixture(scope="module")
def with_wrong_ctf(folder, particles) -> Particles:
    """The poses with the CTFs of the negative control, joined by image name."""
    wrong = read_particles(folder / "particles_wrong_ctf.star", load_images=False)
    place = {
        (wrong.names.paths[c], i): row
        for row, (c, i) in enumerate(zip(wrong.names.path_code, wrong.names.index, strict=True))
    }
    rows = np.array(
        [
            place[particles.names.paths[c], i]
            for c, i in zip(particles.names.path_code, particles.names.index, strict=True)
        ]
    )
    return replace(particles, ctf=wrong.ctf.rows(rows))


def sphere_fsc(first: np.ndarray, second: np.ndarray, resolution: float) -> float:
    """Half-map FSC inside a sphere of 26 pixels with an edge of 3 beyond it: the mask in which RELION's figures below were taken."""
    mask = soft_sphere(64, 26, 3, dtype=np.float32)
    return fourier_shell_correlation(first * mask, second * mask, 3.54).at(resolution)


def d2() -> InversionSettings:
    return InversionSettings(point_group("D2").operators)


def test_half_maps_agree_better_than_relions(folder, tmp_path):
    """relion_reconstruct 3.1.3 (--ctf --sym D2 --subset 1 and 2) on the same particles: 0.870 at 11.9 A, 0.627 at 8.4 A, 0.619 at 7.8 A."""
    assert (
        dispatch(
            ["reconstruct", str(folder / "particles_posed.star"), "--symmetry", "D2", "--out", str(tmp_path / "map")]
        )
        == 0
    )
    first, second = (read_volume(tmp_path / "map" / f"half{half}.mrc").data for half in (1, 2))
    assert sphere_fsc(first, second, 11.9) > 0.885
    assert sphere_fsc(first, second, 8.4) > 0.70
    assert sphere_fsc(first, second, 7.8) > 0.68


def test_the_image_disc_removes_noise_and_adds_nothing(particles):
    """If masking the images correlated the half maps by itself, a masked half map would agree with an unmasked one less than the
    geometric mean of masked pairs and unmasked pairs says: that is what independent noise on a common signal gives."""
    plain = reconstruct(particles, d2()).half_maps
    masked = reconstruct(particles, replace(d2(), mask_radius=26.0)).half_maps
    for resolution in (11.9, 8.4, 7.8):
        pairs = sphere_fsc(*masked, resolution), sphere_fsc(*plain, resolution)
        mixed = (sphere_fsc(masked[0], plain[1], resolution) + sphere_fsc(plain[0], masked[1], resolution)) / 2
        assert pairs[0] > pairs[1]
        assert mixed == pytest.approx(np.sqrt(pairs[0] * pairs[1]), abs=0.01)


def reconstructed(particles: Particles, folder: Path, tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Half maps of the command, with its defaults, from a changed copy of the particle file."""
    write_particles(tmp_path / "copy.star", particles)
    words = ["--symmetry", "D2", "--datadir", str(folder), "--out", str(tmp_path / "map")]
    assert dispatch(["reconstruct", str(tmp_path / "copy.star"), *words]) == 0
    first, second = (read_volume(tmp_path / "map" / f"half{half}.mrc").data for half in (1, 2))
    return first, second


def test_wrong_ctfs_ruin_the_map(folder, with_wrong_ctf, tmp_path):
    assert sphere_fsc(*reconstructed(with_wrong_ctf, folder, tmp_path), 11.9) < 0.3


def test_shuffled_poses_ruin_the_map(folder, particles, tmp_path):
    order = np.random.default_rng(0).permutation(len(particles))
    shuffled = replace(particles, pose=Pose(particles.pose.euler[order], particles.pose.shift))
    assert sphere_fsc(*reconstructed(shuffled, folder, tmp_path), 11.9) < 0.3


def transposed(p: Particles) -> Particles:
    return replace(p, pose=Pose(euler_from_matrix(np.swapaxes(matrix_from_euler(p.pose.euler), 1, 2)), p.pose.shift))


PLANTED = {
    "nothing": (lambda p: p, set()),
    "negated shifts": (lambda p: replace(p, pose=Pose(p.pose.euler, -p.pose.shift)), {"shift sign and unit"}),
    "transposed rotations": (transposed, {"rotation convention"}),
    "swapped defocus": (
        lambda p: replace(p, ctf=replace(p.ctf, defocus_u=p.ctf.defocus_v, defocus_v=p.ctf.defocus_u)),
        {"CTF values"},
    ),
}


@pytest.mark.parametrize("symmetry", ["D2", "C1"])
@pytest.mark.parametrize("fault", PLANTED)
def test_the_doctor_names_the_planted_fault_and_nothing_else(folder, particles, tmp_path, fault, symmetry):
    change, expected = PLANTED[fault]
    write_particles(tmp_path / "copy.star", change(particles))
    outcome = run_in_passing(Check(tmp_path / "copy.star", symmetry=symmetry, datadir=folder))
    assert set(outcome.tables["faults"]) == expected


@pytest.mark.parametrize("symmetry", ["D2", "C1"])
def test_the_doctor_names_wrong_ctfs(folder, with_wrong_ctf, tmp_path, symmetry):
    write_particles(tmp_path / "copy.star", with_wrong_ctf)
    outcome = run_in_passing(Check(tmp_path / "copy.star", symmetry=symmetry, datadir=folder))
    assert outcome.tables["faults"] == ["CTF values"]


def test_the_doctor_names_inverted_contrast(folder, particles, tmp_path):
    """The same stacks with dark protein, written out under the same names."""
    from vitreous.io.mrc_stack import MrcStack, write_stack

    for name in particles.names.paths:
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        stack = MrcStack(folder / name)
        write_stack(target, -stack.read(slice(None)), 3.54)
    write_particles(tmp_path / "copy.star", particles)
    outcome = run_in_passing(Check(tmp_path / "copy.star", symmetry="D2"))
    assert outcome.tables["faults"] == ["contrast sign"]
