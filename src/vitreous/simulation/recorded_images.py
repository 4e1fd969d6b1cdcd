"""From noiseless images to those of a stack: noise or a detector, contrast, and what has been done about the CTF.

Noiseless images come bright and raw, on any scale (`wave_images`, or `images` of bright, raw particles). Then

    noise:      image + noise                                     `simulation.noise`
    counts:     E - record(1 - image / E)                         `detection.recording`

E is the mean count of a pixel where nothing scatters: an image on the scale `E * (1 - I)` becomes counts, less those of an
empty pixel, protein bright. Raw contrast is the negative. The CTF state acts on what was recorded, noise included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.conventions import Contrast, CtfState
from vitreous.detection.detector import Detector
from vitreous.detection.recording import record
from vitreous.errors import DataProblem
from vitreous.fourier.transforms import forward, frequencies, inverse
from vitreous.model.particles import ImageName, Particles
from vitreous.simulation.images import Projector, contrast_transfer, simulate_images, state_factors
from vitreous.simulation.noise import Noise, noise_images
from vitreous.simulation.streams import Quantity, image_stream, stream_key
from vitreous.simulation.wave_images import AtomicScene, wave_images

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Recording:
    """A detector, the electrons that fall on one of its pixels where nothing scatters, and the seed of their arrivals."""

    detector: Detector
    electrons: float
    seed: int = 0

    @property
    def empty(self) -> float:
        """E, the mean count of a pixel where nothing scatters."""
        return self.detector.gain * self.electrons


def bright_and_raw(particles: Particles) -> Particles:
    """The same particles with bright protein and nothing done about the CTF: as noiseless images are made."""
    optics = tuple(replace(group, ctf_state=CtfState.RAW) for group in particles.optics)
    return replace(particles, optics=optics, contrast=Contrast.INVERTED)


def finished_images(
    noiseless: Iterable[Float[np.ndarray, "n y x"]], particles: Particles, noise: Noise | Recording | None
) -> Iterator[Float[np.ndarray, "n y x"]]:
    """The images of the stack from the noiseless, bright, raw images of the same particles, a chunk at a time.

    What is random in an image depends on the seed and on its place in the stack (`particles.names`), nothing else.
    """
    start = 0
    for images in noiseless:
        part = particles.rows(slice(start, start + len(images)))
        start += len(images)
        if isinstance(noise, Recording):
            images = _counted(images, part.names, noise)
        elif noise is not None:
            images = images + noise_images(noise, part.names, images.shape[-1])
        images = _with_ctf_state(images, part)
        yield images if part.contrast is Contrast.INVERTED else -images


def _counted(images: np.ndarray, names: ImageName, recording: Recording) -> np.ndarray:
    key = stream_key(recording.seed, Quantity.RECORDING)
    intensity = 1 - images / np.float32(recording.empty)
    if intensity.min() < 0:
        raise DataProblem(
            f"intensities down to {intensity.min():.2f} of the incident beam, which cannot be recorded",
            "a weak specimen, or a model of scattering that keeps intensities positive",
            "use --model multislice (or phase_object), or --solvent displaced",
        )
    counts = np.empty_like(intensity)
    for count, image, index, stack in zip(counts, intensity, names.index, names.path_code):
        count[...] = record(image, recording.electrons, recording.detector, image_stream(key, int(index), int(stack)))
    return np.float32(recording.empty) - counts


def _with_ctf_state(images: np.ndarray, part: Particles) -> np.ndarray:
    if part.ctf_state is CtfState.RAW:
        return images
    box = images.shape[-1]
    transfer = contrast_transfer(part, frequencies((box, box), part.pixel_size))
    return inverse(forward(images, 2) * state_factors(part, transfer), (box, box))


@dataclass(frozen=True)
class ParticleImages:
    """How the images of a set are made: from projections of the `projector`'s volume or, with a `scene`, by its waves;
    then `noise`. `threads` waves are computed at a time.
    """

    projector: Projector
    scene: AtomicScene | None = None
    noise: Noise | Recording | None = None
    threads: int = 1

    def written(self, particles: Particles) -> Iterator[Float[np.ndarray, "n y x"]]:
        """The images of the stack, a chunk at a time."""
        if self.scene is None and not isinstance(self.noise, Recording):
            return simulate_images(self.projector, particles, self.noise)
        plain = bright_and_raw(particles)
        if self.scene is None:
            images = simulate_images(self.projector, plain)
        else:
            images = wave_images(self.scene, plain, threads=self.threads)
        return finished_images(images, particles, self.noise)

    def noiseless(self, particles: Particles) -> Iterator[Float[np.ndarray, "n y x"]]:
        """The same without noise."""
        return replace(self, noise=None).written(particles)

    def projections(self, particles: Particles) -> Iterator[Float[np.ndarray, "n y x"]]:
        """Bare projections, bright, before any lens."""
        return simulate_images(self.projector, particles, use_ctf=False)

    def linear(self, particles: Particles) -> Iterator[Float[np.ndarray, "n y x"]]:
        """What the model `projection` would give, without noise."""
        return simulate_images(self.projector, particles)
