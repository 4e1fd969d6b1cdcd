"""What is drawn for each particle of a simulated set: orientation, shift, defocus, astigmatism, half set.

Every quantity has its own stream of random numbers (`streams.py`): particle i is the same in a set of ten and in one of
a million.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vitreous.conventions import Contrast
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.geometry.rotations import euler_from_matrix, random_rotations
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import ImageName, Particles
from vitreous.model.pose import Pose
from vitreous.simulation.streams import Quantity, stream


@dataclass(frozen=True)
class ParticleDistribution:
    """How the particles of a set vary. Angstrom; the optics group gives box, pixel size, microscope and CTF state.

    `defocus`: the mean defocus of a particle is uniform between the two. `astigmatism`: root mean square of U - V; its
    two Cartesian components are Gaussian, so that its direction is uniform. `shift`: standard deviation of the origin
    along x and along y. `euler` [m, 3] in radian: orientations to use in turn; by default each is drawn uniformly from
    SO(3).
    """

    optics: OpticsGroup
    defocus: tuple[float, float]
    astigmatism: float = 0.0
    shift: float = 0.0
    contrast: Contrast = Contrast.INVERTED
    seed: int = 0
    euler: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.optics.require("pixel_size", "box", "voltage", "spherical_aberration", "amplitude_contrast")
        if not self.defocus[0] <= self.defocus[1]:
            raise SettingsProblem(f"defocus from {self.defocus[0]} to {self.defocus[1]} A", "the smaller value first")
        for name in ("astigmatism", "shift"):
            if not getattr(self, name) >= 0:
                raise SettingsProblem(f"{name} of {getattr(self, name)} A", "0 or more")
        if self.contrast is Contrast.UNKNOWN:
            raise SettingsProblem("images of unknown contrast", "inverted (bright protein) or raw (dark)")
        if self.euler is not None and (len(self.euler) == 0 or not np.isfinite(self.euler).all()):
            raise DataProblem("orientations that are missing or not numbers", "three finite angles each")


def draw_particles(distribution: ParticleDistribution, count: int, stack: str = "particles.mrcs") -> Particles:
    """The first `count` particles of the set, as images 1 ... count of the stack called `stack`; no image is made.

    >>> optics = OpticsGroup(pixel_size=2.0, box=64, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
    >>> few, many = (draw_particles(ParticleDistribution(optics, (8e3, 2e4)), n) for n in (3, 100))
    >>> bool((few.pose.euler == many.pose.euler[:3]).all())
    True
    """
    if count < 1:
        raise SettingsProblem(f"{count} particles", "at least one")
    return Particles(
        names=ImageName(np.arange(count, dtype=np.int64), np.zeros(count, dtype=np.int32), (stack,)),
        optics=(distribution.optics,),
        optics_index=np.zeros(count, dtype=np.int64),
        pose=Pose(_orientations(distribution, count), _shifts(distribution, count)),
        ctf=_defoci(distribution, count),
        half_set=_half_sets(distribution.seed, count),
        contrast=distribution.contrast,
        origin="simulated",
    )


def _orientations(distribution: ParticleDistribution, count: int) -> np.ndarray:
    if distribution.euler is not None:
        return np.asarray(distribution.euler, dtype=np.float64)[np.arange(count) % len(distribution.euler)]
    return euler_from_matrix(random_rotations(count, stream(distribution.seed, Quantity.ORIENTATION)))


def _shifts(distribution: ParticleDistribution, count: int) -> np.ndarray:
    return distribution.shift * stream(distribution.seed, Quantity.SHIFT).standard_normal((count, 2))


def _defoci(distribution: ParticleDistribution, count: int) -> CtfParameters:
    low, high = distribution.defocus
    mean = low + (high - low) * stream(distribution.seed, Quantity.DEFOCUS).random(count)
    # Two components of variance a^2/2 each: their length has mean square a^2.
    components = (
        np.sqrt(0.5)
        * distribution.astigmatism
        * stream(distribution.seed, Quantity.ASTIGMATISM).standard_normal((count, 2))
    )
    half = np.hypot(components[:, 0], components[:, 1]) / 2
    angle = np.arctan2(components[:, 1], components[:, 0]) / 2
    return CtfParameters.of(mean + half, mean - half, angle)


def _half_sets(seed: int, count: int) -> np.ndarray:
    """1 or 2 at random, but one of each in every two successive particles: halves of equal size at any count."""
    first = stream(seed, Quantity.HALF_SET).integers(0, 2, size=(count + 1) // 2)
    return (np.stack([first, 1 - first], axis=1).ravel()[:count] + 1).astype(np.int8)
