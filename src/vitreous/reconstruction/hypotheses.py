"""What a file of poses and CTFs may mean other than what it says: the mistakes that are made, each as a change to the particles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vitreous.conventions import CtfState
from vitreous.geometry.rotations import compose, euler_from_matrix, matrix_from_euler, transpose
from vitreous.model.optics import CtfParameters
from vitreous.model.particles import Particles
from vitreous.model.pose import Pose

# Defoci (angstrom) tried for all particles alike, to see whether any CTF serves better than the file's.
COMMON_DEFOCI = (5e3, 8e3, 1e4, 1.25e4, 1.6e4, 2e4, 2.5e4, 3.2e4)


@dataclass(frozen=True)
class Hypothesis:
    """One reading of a file: `name` as the doctor says it, `change` what it does to the particles, `use_ctf` for the inversion."""

    name: str
    change: Callable[[Particles], Particles]
    use_ctf: bool = True


AS_WRITTEN = Hypothesis("as written", lambda particles: particles)


def rotation_hypotheses() -> list[Hypothesis]:
    """Matrices transposed; y axis of the images upside down."""
    turn = np.diag(
        [1.0, -1.0, -1.0]
    )  # the first two rows of diag(1, -1, -1) R span the slice of an image that is upside down
    return [
        Hypothesis("transposed (R and its inverse exchanged)", lambda p: _turned(p, transpose)),
        Hypothesis(
            "images upside down (y axis reversed)",
            lambda p: _turned(p, lambda r: compose(np.broadcast_to(turn, r.shape), r)),
        ),
    ]


def shift_hypotheses(pixel_size: float) -> list[Hypothesis]:
    """Sign, unit, and order of the shifts; none at all."""
    return [
        Hypothesis("negated", lambda p: _shifted(p, lambda s: -s)),
        Hypothesis("in pixels, read as angstrom", lambda p: _shifted(p, lambda s: s * pixel_size)),
        Hypothesis("in angstrom, read as pixels", lambda p: _shifted(p, lambda s: s / pixel_size)),
        Hypothesis("x and y exchanged", lambda p: _shifted(p, lambda s: s[:, ::-1])),
        Hypothesis("not to be applied", lambda p: _shifted(p, np.zeros_like)),
    ]


def ctf_value_hypotheses() -> list[Hypothesis]:
    """Columns exchanged or angles mirrored: the mistakes of conversion."""
    return [
        Hypothesis(
            "defocus U and V exchanged",
            lambda p: _with_ctf(p, lambda c: replace(c, defocus_u=c.defocus_v, defocus_v=c.defocus_u)),
        ),
        Hypothesis(
            "astigmatism angle negated", lambda p: _with_ctf(p, lambda c: replace(c, defocus_angle=-c.defocus_angle))
        ),
    ]


def ctf_state_hypotheses(state: CtfState) -> list[Hypothesis]:
    """Images that are phase-flipped though the file says raw, or the reverse."""
    other = CtfState.RAW if state is CtfState.PHASE_FLIPPED else CtfState.PHASE_FLIPPED
    return [Hypothesis(f"{other.value.replace('_', '-')} images", lambda p: _with_state(p, other))]


def unrelated_ctf_hypotheses() -> list[Hypothesis]:
    """CTFs that owe nothing to the file: none, or one common defocus. A file's CTFs must explain more than each of them."""
    none = Hypothesis("no CTF at all", lambda p: p, use_ctf=False)
    return [none, *(Hypothesis(f"one defocus of {d:,.0f} A for all", _common_defocus(d)) for d in COMMON_DEFOCI)]


def shuffled_poses(seed: int) -> Hypothesis:
    """Orientations exchanged between particles at random: what a map without any orientation information explains."""

    def change(particles: Particles) -> Particles:
        assert particles.pose is not None
        order = np.random.default_rng(seed).permutation(len(particles))
        return replace(particles, pose=Pose(particles.pose.euler[order], particles.pose.shift))

    return Hypothesis("orientations shuffled between particles", change)


def _turned(particles: Particles, change: Callable[[np.ndarray], np.ndarray]) -> Particles:
    assert particles.pose is not None
    euler = euler_from_matrix(change(matrix_from_euler(particles.pose.euler)))
    return replace(particles, pose=Pose(np.asarray(euler), particles.pose.shift))


def _shifted(particles: Particles, change: Callable[[np.ndarray], np.ndarray]) -> Particles:
    assert particles.pose is not None
    return replace(particles, pose=Pose(particles.pose.euler, change(particles.pose.shift)))


def _with_ctf(particles: Particles, change: Callable[[CtfParameters], CtfParameters]) -> Particles:
    assert particles.ctf is not None
    return replace(particles, ctf=change(particles.ctf))


def _common_defocus(defocus: float) -> Callable[[Particles], Particles]:
    def change(particles: Particles) -> Particles:
        value = np.full(len(particles), defocus)
        return _with_ctf(particles, lambda c: replace(c, defocus_u=value, defocus_v=value))

    return change


def _with_state(particles: Particles, state: CtfState) -> Particles:
    return replace(particles, optics=tuple(replace(group, ctf_state=state) for group in particles.optics))
