"""The sections of the report on simulated particles: images, spectrum, defocus, the truth, and the files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vitreous.conventions import Contrast
from vitreous.fourier.shells import power_spectrum
from vitreous.jobs.curves import Series, histogram, line_plot
from vitreous.jobs.job import Outcome
from vitreous.jobs.pictures import image_gallery, slices_picture
from vitreous.jobs.report import Figure, Section, Source, Table
from vitreous.model.particles import Particles
from vitreous.model.volume import Volume
from vitreous.simulation.noise import Noise
from vitreous.simulation.recorded_images import ParticleImages, Recording
from vitreous.units import MICROMETRE

SHOWN = 8
SPECTRUM_IMAGES = 64


def simulation_sections(
    outcome: Outcome, truth: Volume, images: ParticleImages, particles: Particles, sources: Sequence[Source] = ()
) -> list[Section]:
    """All sections. The images that are shown are made again, from the first particles; the projector of `images` is
    that of the truth.
    """
    return [
        Section("Result", "", figures=[gallery_figure(images, particles)], numbers=outcome.numbers()),
        spectrum_section(images, particles),
        defocus_section(particles),
        Section("The truth", truth_text(images), figures=[truth_figure(truth)], sources=sources),
        files_section(particles, images),
    ]


def gallery_figure(images: ParticleImages, particles: Particles) -> Figure:
    """The first particles in three rows: as written, without noise, and as bare projections."""
    first = particles.rows(slice(0, SHOWN))
    rows = {
        "as written": _all(images.written(first)),
        "without noise": _all(images.noiseless(first)),
        "projection": _all(images.projections(first)),
    }
    if images.noise is None:
        del rows["without noise"]
    png = image_gallery(np.concatenate(list(rows.values())), columns=len(first), size=96)
    caption = (
        "The first particles. Top: the images of the stack. Bottom: the bare projections of the specimen, before the "
        "microscope's contrast transfer function"
    )
    caption += "." if images.noise is None else ", which the middle row has, and the noise."
    return Figure(
        caption,
        png=png,
        alt="Simulated particle images with noise, without it, and without the CTF",
        rows=list(rows),
        wide=True,
    )


def spectrum_section(images: ParticleImages, particles: Particles) -> Section:
    """Power of signal and noise per shell, from the first particles."""
    sample = particles.rows(slice(0, SPECTRUM_IMAGES if images.scene is None else SHOWN))
    signal = _mean_power(_all(images.noiseless(sample)))
    frequency = np.arange(len(signal)) / (images.projector.box * images.projector.pixel_size)
    shells = slice(1, len(signal) - 1)  # shell 0 is the mean; the last holds only the signal's end
    series = [Series("signal", frequency[shells], _log10(signal[shells]))]
    if images.noise is not None:
        whole = _mean_power(_all(images.written(sample)))
        series += [
            Series("images", frequency[shells], _log10(whole[shells])),
            Series("noise", frequency[shells], _log10((whole - signal)[shells]), style="dashed"),
        ]
    level = " White noise of variance 1 is at 0." if isinstance(images.noise, Noise) else ""
    plot = line_plot(
        series,
        x_label="spatial frequency (1/Å)",
        y_label="log10 power",
        title="Power of the images by frequency",
        description=f"Mean of {len(sample)} images.{level}",
        resolution_axis=True,
    )
    text = "The signal falls off with frequency, and it dips where the CTFs of many particles have their zeros. "
    if images.noise is not None:
        text += (
            "Where the curve of the noise lies far above that of the signal, nothing can be seen in one image: only "
            "the average of many particles brings it back."
        )
    return Section(
        "Signal and noise",
        text,
        figures=[Figure(f"Power per Fourier pixel, mean of {len(sample)} images.", svg=plot, alt="Power spectra")],
    )


def truth_text(images: ParticleImages) -> str:
    if images.scene is None:
        return "The map whose projections the images are."
    return (
        f"The images were made by wave optics (model {images.scene.model.value.replace('_', ' ')}) from the atoms. Of a "
        "specimen that scatters weakly they would be the projections of this map under the CTF; what they are beyond "
        "that is the physics that a reconstruction leaves out."
    )


def defocus_section(particles: Particles) -> Section:
    assert particles.ctf is not None
    defocus = particles.ctf.defocus / MICROMETRE
    svg = histogram(defocus, x_label="defocus (µm)", y_label="particles", title="Defocus of the particles")
    text = (
        "Different defoci have the zeros of their CTFs at different frequencies: no frequency is lost in all particles."
    )
    return Section(
        "Defocus",
        text,
        figures=[
            Figure("Mean defocus of each particle, positive for underfocus.", svg=svg, alt="Histogram of defocus")
        ],
    )


def truth_figure(truth: Volume) -> Figure:
    caption = "Above: central slices of the specimen across z, y and x. Below: projections along them."
    return Figure(caption, png=slices_picture(truth.data), alt="Slices and projections of the truth")


def files_section(particles: Particles, images: ParticleImages) -> Section:
    protein = "bright" if particles.contrast is Contrast.INVERTED else "dark"
    unit = (
        f", counts less the {images.noise.empty:.4g} of an empty pixel" if isinstance(images.noise, Recording) else ""
    )
    truth = "The map whose projections the images are" + ("" if images.scene is None else ", in the weak limit")
    state = particles.ctf_state.value.replace("_", " ")
    rows = [
        ("particles.mrcs", f"The images, float32{unit}, protein {protein}, CTF state: {state}"),
        ("particles.star", "The truth about each image: orientation, shift, defocus, half set"),
        ("particles_unposed.star", "The same without orientations and shifts, to find them anew"),
        ("truth_map.mrc", f"{truth}, on the scale of the images"),
    ]
    return Section("Files", "", tables=[Table(("file", "content"), rows)])


def _all(images: Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(images))


def _mean_power(images: np.ndarray) -> np.ndarray:
    return power_spectrum(images, 2).mean(axis=0)


def _log10(power: np.ndarray) -> np.ndarray:
    return np.where(power > 0, np.log10(np.where(power > 0, power, 1)), np.nan)
