"""What the job `simulate particles` says about its result: findings and warnings."""

from __future__ import annotations

import math

import numpy as np

from vitreous.io.atoms import AtomicModel
from vitreous.jobs.job import Finding
from vitreous.model.particles import Particles
from vitreous.optics.electrons import wavelength
from vitreous.scattering.ladder import FLAT
from vitreous.simulation.recorded_images import ParticleImages, Recording
from vitreous.simulation.wave_images import AtomicScene
from vitreous.units import MICROMETRE

COMPARED = 8  # images by which a model of waves is compared with projections
LARGEST_PHASE = 0.45  # radian within a slab, which takes 10 % off what its far half scatters


def simulation_findings(
    images: ParticleImages, particles: Particles, *, scale: float, snr: float | None
) -> list[Finding]:
    """The figures of a simulated set. `snr` is None where the noise was not chosen by it."""
    assert particles.ctf is not None
    box, pixel_size = images.projector.box, images.projector.pixel_size
    low, high = (float(f(particles.ctf.defocus)) / MICROMETRE for f in (np.min, np.max))
    recording = images.noise if isinstance(images.noise, Recording) else None
    findings = [
        Finding(
            "particles",
            "particles",
            len(particles),
            "",
            "Images in particles.mrcs; the STAR file says how each was made.",
        ),
        Finding("box", "box", box, "px", f"Pixels of {pixel_size:.4g} Å: nothing finer than {2 * pixel_size:.2f} Å."),
        Finding("snr", "signal-to-noise", snr, "", SNR_MEANING, 3),
        Finding("defocus_lowest_um", "lowest defocus", low, "µm", "Low defocus: weak contrast, detail in its place."),
        Finding(
            "defocus_highest_um", "highest defocus", high, "µm", "High defocus: contrast, detail carried far away."
        ),
        Finding("scale", "scale", scale, "", COUNTS_SCALE_MEANING if recording else SCALE_MEANING, 6),
    ]
    if recording is not None:
        findings += [
            Finding("detector", "detector", recording.detector.name, "", "Its MTF is in the images, not in the truth."),
            Finding("electrons_per_pixel", "electrons per pixel", recording.electrons, "", ELECTRONS_MEANING, 3),
            Finding("empty_pixel", "empty pixel", recording.empty, "counts", EMPTY_MEANING, 3),
        ]
    if images.scene is not None:
        findings += [
            Finding(
                "scattering_model",
                "scattering model",
                images.scene.model.value,
                "",
                "How the wave went through the atoms.",
            ),
            Finding("beyond_projection", "beyond projection", beyond_projection(images, particles), "", BEYOND, 3),
        ]
    return findings


def model_findings(model: AtomicModel) -> list[Finding]:
    """What was chosen in the file of the model."""
    if not model.notes:
        return []
    return [
        Finding("model_notes", "of the model", "; ".join(model.notes), "", "What was chosen or missing in the model.")
    ]


def b_factor_warning(model: AtomicModel, b_factor: float) -> list[str]:
    """That the model has no B factors and none were given."""
    if model.atoms.b_factor.any() or b_factor > 0:
        return []
    return [
        "The model has no B factors: its atoms are sharper than those of any recorded image. --b-factor adds one "
        "number to the B factors of all atoms."
    ]


def hydrogen_warning(model: AtomicModel) -> list[str]:
    """That a model in solvent has no hydrogens."""
    if np.isin(np.char.upper(model.atoms.element.astype(str)), ["H", "D"]).any():
        return []
    return [
        "The model has no hydrogens: it scatters too little and displaces too little solvent. Use --hydrogens implicit."
    ]


def slab_warning(scene: AtomicScene, voltage: float) -> list[str]:
    """That the slabs of a rung with depth are too thick for the finest detail of the images."""
    turn = math.pi / 2 * wavelength(voltage) * scene.slice_thickness / (2 * scene.pixel_size) ** 2
    if scene.model in FLAT or turn <= LARGEST_PHASE:
        return []
    return [
        f"Within slabs of {scene.slice_thickness:g} Å the phase at the finest detail turns by up to {turn:.2f} radian, "
        "which is neglected: use a smaller --slice-thickness."
    ]


def beyond_projection(images: ParticleImages, particles: Particles) -> float:
    """Root mean square of what the first images differ by from those of the model `projection`, over that of the latter."""
    first = particles.rows(slice(0, COMPARED))
    waves, linear = (np.concatenate(list(made(first))) for made in (images.noiseless, images.linear))
    fluctuation = linear - linear.mean(axis=(1, 2), keepdims=True)
    difference = (waves - linear) - (waves - linear).mean(axis=(1, 2), keepdims=True)
    return float(np.linalg.norm(difference) / np.linalg.norm(fluctuation))


SNR_MEANING = (
    "Variance of a noiseless projection image over all its pixels, CTF included, divided by the variance of the noise."
)
SCALE_MEANING = (
    "truth_map.mrc is the specimen times this number: the noise of the images then has standard deviation 1 (without "
    "noise, the signal of projections has)."
)
COUNTS_SCALE_MEANING = (
    "truth_map.mrc is the specimen in volt times this number, counts of an empty pixel x 2 sigma x pixel size: its "
    "projections under the CTF are counts."
)
ELECTRONS_MEANING = "Electrons that arrive on a pixel where nothing scatters: dose times the area of a pixel."
EMPTY_MEANING = "Mean count of such a pixel. It is subtracted from the images, so that the background is 0."
BEYOND = (
    "Root mean square difference of the noiseless images from those of --model projection, relative to these; 0.01 to "
    "0.02 of it is the interpolation of the projections."
)
