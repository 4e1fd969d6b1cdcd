"""Signal subtraction: what a map says of the parts of no interest is taken out of each image.

    image' = image - s * I[ V (1 - M) ],        V the map, M the mask of the part to keep

I makes the image of a map as `simulation.images` does: projection along the particle's pose, its origin, its CTF with
all aberrations, its contrast and the state of the stack. What is left is the image of the part, V M, in the noise of the
whole image: it can be classified and refined by itself (Bai et al. 2015, doi:10.7554/eLife.11182).

The scale s is measured, for an image weaker than the map says would be left with a negative of the rest. It is the least
squares fit of the whole map's image P to the recorded image X,

    s = sum_k w Re(X conj P) / sum_k w |P|^2,      variance of s = 1 / sum_k w |P|^2,

over all Fourier pixels but the zeroth, weighted by w = 1 / (pixels * power of the images in the shell). The power is that of
signal and noise, of which noise is all but a few percent; the variance is that much too large. The scale may be
one number for a group of particles (sums over its members), or each particle's own.

Half maps: each particle is compared with the map of its own half set, and has that taken out; the spectra behind the
weights are those of its half set too. Nothing of one half enters the images of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.engine.chunks import chunks
from vitreous.engine.local import Progress, silent
from vitreous.errors import DataProblem
from vitreous.fourier.shells import power_spectrum, shell_sum
from vitreous.fourier.transforms import forward
from vitreous.model.particles import Particles
from vitreous.model.table import Table
from vitreous.model.volume import Volume
from vitreous.reconstruction.direct_inversion import check_pixels
from vitreous.simulation.images import IMAGES_PER_CHUNK, Projector, simulate_images

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Images whose mean power stands for that of an optics group: known to 1 % in shells of more than a few pixels.
SPECTRUM_IMAGES = 256
# Shells whose power is less than this part of the strongest one's hold the rounding of images that were filtered.
FAINT = 1e-9


@dataclass(frozen=True)
class SubtractionMaps:
    """The map that the particles are images of, or one for each half set, and the mask of the part to keep.

    `whole` one or two maps [z, y, x] on the images' scale, `keep` [z, y, x] from 0 to 1. Raises DataProblem if nothing would be
    kept or taken away.
    """

    whole: tuple[Volume, ...]
    keep: np.ndarray

    def __post_init__(self) -> None:
        if len(self.whole) not in (1, 2):
            raise DataProblem(f"{len(self.whole)} maps", "one map, or two half maps")
        for volume in self.whole:
            if volume.data.shape != self.keep.shape:
                raise DataProblem(
                    f"a mask of shape {self.keep.shape} for a map of shape {volume.data.shape}", "both on one grid"
                )
        if not self.keep.any():
            raise DataProblem("a mask that is 0 everywhere", "a mask of the part to keep")
        if not any(volume.data.any() for volume in self.whole):
            raise DataProblem("a map that is 0 everywhere", "a map of the particle")
        if not any((volume.data * (1 - self.keep)).any() for volume in self.whole):
            raise DataProblem(
                "a mask that covers the whole map", "a mask of the part to keep", "nothing is left to subtract"
            )

    @property
    def box(self) -> int:
        return self.whole[0].box

    @property
    def pixel_size(self) -> float:
        return self.whole[0].pixel_size

    @cached_property
    def whole_projectors(self) -> tuple[Projector, ...]:
        return tuple(Projector(volume) for volume in self.whole)

    @cached_property
    def removed_projectors(self) -> tuple[Projector, ...]:
        """Of what is taken away, V (1 - M)."""
        return tuple(Projector(replace(volume, data=volume.data * (1 - self.keep))) for volume in self.whole)

    @cached_property
    def kept_projectors(self) -> tuple[Projector, ...]:
        """Of what stays, V M."""
        return tuple(Projector(replace(volume, data=volume.data * self.keep)) for volume in self.whole)

    def rows(self, particles: Particles) -> list[tuple[int, Int[np.ndarray, " m"]]]:
        """(map, rows of the particles that it belongs to) for each map: half set 1 has the first of two."""
        if len(self.whole) == 1:
            return [(0, np.arange(len(particles)))]
        if particles.half_set is None:
            raise DataProblem("two half maps for particles without half sets", "a half set (1 or 2) for each particle")
        return [(half, np.flatnonzero(particles.half_set == half + 1)) for half in (0, 1)]


@dataclass(frozen=True)
class ScaleFit:
    """The sums behind the scales: `cross` [n] = sum w Re(X conj P) and `power` [n] = sum w |P|^2 of each particle."""

    cross: Float[np.ndarray, " n"]
    power: Float[np.ndarray, " n"]

    @property
    def scale(self) -> Float[np.ndarray, " n"]:
        """Each particle's own scale, by least squares."""
        return self.cross / self.power

    @property
    def error(self) -> Float[np.ndarray, " n"]:
        """Its standard deviation."""
        return 1 / np.sqrt(self.power)

    def of_groups(self, group: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """One scale for all particles of a group, by least squares over its members; `group` [n] names them 0, 1, ..."""
        return (np.bincount(group, self.cross) / np.bincount(group, self.power))[group]


def fit_scales(particles: Particles, maps: SubtractionMaps, progress: Progress = silent) -> ScaleFit:
    """Compare every image with that of the whole map. Raises DataProblem for images that the map says nothing of."""
    particles = _bare(particles)
    cross, power = np.zeros(len(particles)), np.zeros(len(particles))
    done = 0
    for half, rows in maps.rows(particles):
        own = particles.rows(rows)
        weight = _weights(own)
        predicted = simulate_images(maps.whole_projectors[half], own)
        for some, model in zip(chunks(rows, IMAGES_PER_CHUNK), predicted):
            part = particles.rows(some)
            recorded, model, shells = forward(_pixels(part), 2), forward(model, 2), weight[part.optics_index]
            cross[some], power[some] = _inner(recorded, model, shells), _inner(model, model, shells)
            done += len(some)
            progress(done, len(particles))
    empty = np.flatnonzero(power <= 0)
    if len(empty):
        raise DataProblem(f"a map whose image {empty[0] + 1} is empty", "a map with density on the scale of the images")
    return ScaleFit(cross, power)


def subtracted_images(
    particles: Particles, projector: Projector, scale: Float[np.ndarray, " n"]
) -> Iterator[Float[np.ndarray, "m y x"]]:
    """The images of all particles less `scale` times the image of the projector's map, float32, a chunk at a time in the
    order of the rows.
    """
    particles = _bare(particles)
    predicted = simulate_images(projector, particles)
    for rows, model in zip(chunks(np.arange(len(particles)), IMAGES_PER_CHUNK), predicted):
        yield _pixels(particles.rows(rows)) - scale[rows, None, None].astype(np.float32) * model


@dataclass(frozen=True)
class Remains:
    """How much of the two parts is in some images, fitted together: 1 is as much as the map says, times the scale.

    `removed` and `kept` [2]: before and after the subtraction.
    """

    removed: tuple[float, float]
    kept: tuple[float, float]


def measure_remains(particles: Particles, maps: SubtractionMaps, scale: Float[np.ndarray, " n"]) -> Remains:
    """What is left of the part that was taken out, and of the part that was kept, over these particles.

    One least squares fit of the images of both parts to all images, weighted as the scales are: not exactly (1, 0) for
    `removed` where the map is not what the particles show, as in flexible parts.
    """
    particles = _bare(particles)
    normal, before, after = np.zeros((2, 2)), np.zeros(2), np.zeros(2)
    for half, rows in maps.rows(particles):
        own = particles.rows(rows)
        weight = _weights(own)
        streams = (simulate_images(each[half], own) for each in (maps.removed_projectors, maps.kept_projectors))
        for some, removed, kept in zip(chunks(rows, IMAGES_PER_CHUNK), *streams):
            part, factor = particles.rows(some), scale[some, None, None].astype(np.float32)
            shells, images = weight[part.optics_index], _pixels(part)
            parts = [forward(factor * each, 2) for each in (removed, kept)]
            old, new = forward(images, 2), forward(images - factor * removed, 2)
            normal += [[_inner(a, b, shells).sum() for b in parts] for a in parts]
            before += [_inner(a, old, shells).sum() for a in parts]
            after += [_inner(a, new, shells).sum() for a in parts]
    (removed_before, kept_before), (removed_after, kept_after) = (np.linalg.solve(normal, b) for b in (before, after))
    return Remains((float(removed_before), float(removed_after)), (float(kept_before), float(kept_after)))


def _inner(a: Any, b: Any, weight: Float[np.ndarray, "n s"]) -> Float[np.ndarray, " n"]:
    """sum_k w Re(a conj b) over all frequencies, for the transforms [n, y, xh] of n images and weights per shell."""
    size = a.shape[-2]
    return (shell_sum(a.real * b.real + a.imag * b.imag, (size, size)) * weight).sum(axis=1)


def _bare(particles: Particles) -> Particles:
    """Without what else the file says, which would be copied with every chunk."""
    if particles.images is None:
        raise DataProblem("particles without images", "a file with image names")
    return replace(particles, table=Table(), blocks={})


def _pixels(part: Particles) -> Float[np.ndarray, "n y x"]:
    assert part.images is not None
    pixels = part.images.read(slice(None))
    check_pixels(pixels, part)
    return pixels


def _weights(particles: Particles) -> Float[np.ndarray, "g s"]:
    """1 / (pixels * power) per shell of each optics group, 0 in shell 0 and in shells without power."""
    assert particles.images is not None
    box = particles.images.shape[-1]
    weights = np.zeros((len(particles.optics), box // 2 + 1))
    for number in np.unique(particles.optics_index):
        members = np.flatnonzero(particles.optics_index == number)
        chosen = members[:: max(1, len(members) // SPECTRUM_IMAGES)]
        power = power_spectrum(_pixels(particles.rows(chosen)), 2).mean(axis=0, dtype=np.float64)
        present = power > FAINT * power.max()
        weights[number] = np.where(present, 1 / (box**2 * np.where(present, power, 1.0)), 0.0)
    weights[:, 0] = 0.0  # the mean of an image is a matter of normalisation
    return weights
