"""The expected intensity of a micrograph: particles and ice, each with the defocus of its own height.

    I(r) = exp(-t / Lambda) [ 1 + c_particles(r) + c_ice(r) ]

the first factor being 1 where inelastic scattering is left out. The contrasts of particles are added one by one (`patches`).
That of the ice is linear in its random projected potential. Ice is made of unrelated layers, one defocus each, and has no
structure that one would want to find again, so its image is defined by its power spectrum (`optics.thickness`):

    <sin^2 gamma> = s sin^2 gamma + (1 - s)/2,       s = sinc(pi lambda k^2 t)

which a sum of two independent fields has exactly: one of amplitude sqrt|s|, seen by the lens at the middle of the ice (turned by a
quarter where s < 0, because there rings come back with sine and cosine exchanged), and one of amplitude sqrt((1 - |s|)/2), without
rings. Tilted ice has the first one seen by a tilted plane (`optics.tilt`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.engine.local import Progress, silent
from vitreous.fourier.transforms import forward, frequencies, inverse
from vitreous.model.microscope import Microscope
from vitreous.optics.electrons import interaction_constant, wavelength
from vitreous.optics.lens import coherence_of, sine_of
from vitreous.optics.tilt import TiltedCtf, tilted_contrast
from vitreous.scattering.ladder import ScatteringModel
from vitreous.simulation.particle_potential import ParticlePotential
from vitreous.simulation.patches import occupied_depth, particle_contrast
from vitreous.simulation.placement import Field, Placement, Slab

if TYPE_CHECKING:
    from jaxtyping import Float

    Spectrum = Float[np.ndarray, "y xh"]

ROWS = 512  # of the transform that are filtered at a time


def expected_intensity(
    field: Field,
    slab: Slab,
    potential: ParticlePotential,
    placement: Placement,
    microscope: Microscope,
    model: ScatteringModel = ScatteringModel.PROJECTION,
    *,
    ice: tuple[Float[np.ndarray, "y x"], Float[np.ndarray, "y x"]] | None = None,
    transmitted: float = 1.0,
    threads: int = 2,
    progress: Progress = silent,
) -> Float[np.ndarray, "y x"]:
    """The intensity at the camera per incident electron, float32.

    `ice`: two independent random fields of the projected potential (V A) of the whole depth of the ice, None for
    ice without grain. `transmitted`: the part of the beam that leaves the ice without losing energy, 1 without inelastic scattering.
    """
    intensity = particle_contrast(field, potential, placement, microscope, model, threads=threads, progress=progress)
    if ice is not None:
        free = ice_share(field, slab, potential, placement)
        intensity += ice_contrast([grain * free for grain in ice], field, slab, microscope, threads=threads)
    intensity += np.float32(1)
    intensity *= np.float32(transmitted)
    return intensity


def ice_share(field: Field, slab: Slab, potential: ParticlePotential, placement: Placement) -> Float[np.ndarray, "y x"]:
    """Square root of the part of the ice's depth that no particle takes, at each pixel: how much grain is left."""
    if potential.occupied is None:
        return np.ones(field.shape, dtype=np.float32)
    taken = occupied_depth(field, potential, placement)
    taken /= np.float32(-slab.depth)
    taken += np.float32(1)
    return np.sqrt(np.maximum(taken, 0, out=taken), out=taken)


def ice_contrast(
    grain: list[Float[np.ndarray, "y x"]], field: Field, slab: Slab, microscope: Microscope, *, threads: int = 2
) -> Float[np.ndarray, "y x"]:
    """c of the ice: two independent fields `grain` of its projected potential (V A) become one image, as said above."""
    ringing, plain = grain
    strength = 2 * interaction_constant(microscope.voltage)
    transform = _filtered(forward(plain, 2, workers=threads), field, slab, microscope, strength, "plain")
    if slab.plane.tilt == 0:
        transform += _filtered(forward(ringing, 2, workers=threads), field, slab, microscope, strength, "ringing")
        return inverse(transform, field.shape, workers=threads)
    image = inverse(transform, field.shape, workers=threads)
    source = forward(ringing, 2, workers=threads)
    for turned in (False, True):
        part = _filtered(source.copy(), field, slab, microscope, strength, "turned" if turned else "straight")
        if not part.any():  # no frequency so high that s is below 0
            continue
        lens = TiltedCtf(
            slab.plane,
            microscope.defocus,
            microscope.voltage,
            microscope.spherical_aberration,
            microscope.amplitude_contrast,
            microscope.astigmatism,
            microscope.phase_shift + (math.pi / 2 if turned else 0.0),
        )
        objects = inverse(part, field.shape, workers=threads)
        image += tilted_contrast(objects, field.pixel_size, lens, contrast="raw", threads=threads)
    return image


def _filtered(
    transform: np.ndarray, field: Field, slab: Slab, microscope: Microscope, strength: float, kind: str
) -> np.ndarray:
    """A transform times one of the amplitudes of the formula, in place, some rows at a time.

    `plain`: sqrt((1 - |s|)/2). `ringing`: sqrt|s| and the CTF of an untilted lens. `straight`, `turned`: sqrt|s| alone, where s is
    positive or negative. All with the envelope of the microscope.
    """
    kx, all_ky = frequencies(field.shape, field.pixel_size)
    for start in range(0, len(transform), ROWS):
        rows = slice(start, start + ROWS)
        ky = all_ky[rows]
        square = kx * kx + ky * ky
        damping = np.sinc(wavelength(microscope.voltage) * slab.depth * square)
        amplitude = strength * envelope(microscope, kx, ky)
        if kind == "plain":
            amplitude *= np.sqrt((1 - np.abs(damping)) / 2)
        else:
            amplitude *= np.sqrt(np.abs(damping))
        if kind == "straight":
            amplitude *= damping >= 0
        if kind == "turned":
            amplitude *= damping < 0
        if kind == "ringing":
            amplitude *= np.where(
                damping >= 0,
                sine_of(microscope, kx, ky, contrast="raw"),
                sine_of(_turned(microscope), kx, ky, contrast="raw"),
            )
        transform[rows] *= amplitude.astype(np.float32)
    return transform


def envelope(microscope: Microscope, kx: np.ndarray, ky: np.ndarray) -> np.ndarray:
    """What coherence and B factor leave of the amplitude at each frequency, at the defocus of z = 0."""
    square = kx * kx + ky * ky
    found = np.exp(-0.25 * microscope.b_factor * square)
    coherence = coherence_of(microscope, kx, ky)
    return found if coherence is None else found * coherence


def _turned(microscope: Microscope) -> Microscope:
    return replace(microscope, phase_shift=microscope.phase_shift + math.pi / 2)
