"""Particles of many conformations: which one each has, the micrographs they lie on, and their images.

Everything that is drawn for a particle depends on the seed and on its number alone, as in `particles`. Particles lie on micrographs of
`per_micrograph` each, in order. A micrograph has one defocus and one astigmatism, drawn as `particles` draws those of a particle; a particle lies
higher or lower in its ice by a Gaussian of `height` angstrom rms, which adds to its defocus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import SettingsProblem
from vitreous.model.optics import CtfParameters
from vitreous.model.particles import Particles
from vitreous.model.volume import Volume
from vitreous.simulation.images import Projector, signal_variance, simulate_images
from vitreous.simulation.noise import Noise
from vitreous.simulation.particles import ParticleDistribution, draw_particles
from vitreous.simulation.streams import Quantity, stream

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@dataclass(frozen=True)
class Micrographs:
    """How particles lie on micrographs: `per_micrograph` on each, `height` angstrom rms above or below its middle."""

    per_micrograph: int
    height: float = 0.0

    def __post_init__(self) -> None:
        if self.per_micrograph < 1 or not self.height >= 0:
            raise SettingsProblem(
                f"{self.per_micrograph} particles in a micrograph, {self.height} A rms above or below its middle",
                "at least one, and 0 or more",
            )

    def of(self, count: int) -> Int[np.ndarray, " n"]:
        """The micrograph of each particle, from 0."""
        return np.arange(count) // self.per_micrograph


def draw_ensemble(
    distribution: ParticleDistribution, micrographs: Micrographs, count: int, stack: str = "particles.mrcs"
) -> Particles:
    """The first `count` particles of the set, as images 1 ... count of the stack called `stack`; no image is made."""
    particles = draw_particles(distribution, count, stack)
    micrograph = micrographs.of(count)
    fields = draw_particles(distribution, int(micrograph[-1]) + 1).ctf
    assert fields is not None
    ctf = fields.rows(micrograph)
    height = micrographs.height * stream(distribution.seed, Quantity.HEIGHT).standard_normal(count)
    return replace(particles, ctf=CtfParameters.of(ctf.defocus_u + height, ctf.defocus_v + height, ctf.defocus_angle))


def draw_conformations(populations: Float[np.ndarray, " k"], count: int, seed: int) -> Int[np.ndarray, " n"]:
    """The conformation of each particle, from 0, drawn with these probabilities (which add up to 1).

    >>> few, many = (draw_conformations(np.array([0.2, 0.8]), n, seed=1) for n in (5, 10_000))
    >>> bool((few == many[:5]).all()), round(float(many.mean()), 2)
    (True, 0.8)
    """
    edges = np.cumsum(populations)
    chosen = np.searchsorted(edges / edges[-1], stream(seed, Quantity.CONFORMATION).random(count), side="right")
    return np.minimum(chosen, len(edges) - 1)


def preferred_views(count: int, concentration: float, seed: int) -> Float[np.ndarray, "n 3"]:
    """Euler angles of particles that like to be seen along +z: rot and psi are even, the tilt t has the density of von Mises and Fisher.

    p(t) ~ sin t exp(c cos t), with c the `concentration`: 0 is every direction alike, at 5 half of the views lie within 30 degrees. With
    u even in 0 ... 1, cos t = 1 + ln(u + (1 - u) exp(-2 c)) / c. Source: Fisher 1953, doi:10.1098/rspa.1953.0064.
    """
    if not 0 < concentration < np.inf:
        raise SettingsProblem(f"views concentrated by {concentration}", "a positive number")
    around, tilt, within = stream(seed, Quantity.ORIENTATION).random((count, 3)).T
    cosine = 1 + np.log(tilt + (1 - tilt) * np.exp(-2 * concentration)) / concentration
    return np.stack([2 * np.pi * around - np.pi, np.arccos(np.clip(cosine, -1, 1)), 2 * np.pi * within - np.pi], axis=1)


def ensemble_variance(volume: Callable[[int], Volume], index: np.ndarray, particles: Particles) -> float:
    """Mean over the particles of the variance of the noiseless raw image of each, CTF included (`images.signal_variance`).

    `index` [n] is the conformation of each particle, `volume(k)` the map of conformation k.
    """
    total = 0.0
    for conformation in np.unique(index):
        rows = np.flatnonzero(index == conformation)
        total += len(rows) * signal_variance(Projector(volume(int(conformation))), particles.rows(rows))
    return total / len(index)


def ensemble_images(
    volume: Callable[[int], Volume], index: np.ndarray, particles: Particles, noise: Noise | None = None
) -> Iterator[tuple[Int[np.ndarray, " m"], Float[np.ndarray, "m y x"]]]:
    """The rows and the images of all particles, a chunk of one conformation after the other: each map is prepared once, and one held at a time.

    The image of a particle is that of `simulate_images` with the map of its conformation.
    """
    for conformation in np.unique(index):
        rows = np.flatnonzero(index == conformation)
        done = 0
        for images in simulate_images(Projector(volume(int(conformation))), particles.rows(rows), noise):
            yield rows[done : done + len(images)], images
            done += len(images)
