"""The sections of the demonstration's report, written for someone who sees such a report for the first time."""

from __future__ import annotations

import numpy as np

from vitreous.jobs.curves import Marker, Series, Threshold, line_plot
from vitreous.jobs.job import Outcome
from vitreous.jobs.pictures import image_gallery, isosurface_picture
from vitreous.jobs.report import Figure, Section, Source
from vitreous.jobs.simulate_particles import SimulateParticles
from vitreous.jobs.truth_comparison import Comparison, filtered_truth
from vitreous.reconstruction.fsc import HALF_MAPS, MODEL
from vitreous.reconstruction.mask import level_enclosing


def story_section(settings: SimulateParticles, comparison: Comparison) -> Section:
    """The first thing to read."""
    true, halves = (
        f"{value:.1f} Å" if value else "no resolution" for value in (comparison.true_resolution, comparison.resolution)
    )
    text = (
        f"A computer played the microscope: from an atomic model it made {settings.count:,} images, each of the same "
        "particle in a random orientation, blurred by the optics and buried in noise "
        f"{1 / settings.signal_to_noise:.0f} times as strong as the signal. From these images and their orientations the map below "
        "was reconstructed.\n\n"
        "With real data nobody knows the truth. There the particles are divided into two halves, a map is made from "
        f"each, and their agreement says how far the map can be believed: here to {halves}. This time the truth is "
        f"known, and the map agrees with it to {true}. The two answers should be the same, because no particle was "
        "used twice and no orientation was fitted to noise."
    )
    return Section("What happened", text)


def images_text(settings: SimulateParticles, model: str) -> str:
    low, high = settings.defocus_um
    text = (
        "The electrostatic potential of the atoms, projected along random directions; the contrast transfer function "
        f"of a {settings.voltage_kv:g} kV microscope at {low:g} to {high:g} µm underfocus; offsets of "
        f"{settings.shift:g} Å from the box centre; white noise. Reconstruction undoes all of these but the noise: "
        "that it averages away."
    )
    if model in ("4ake", "1ake"):
        text += (
            "\n\nReal images of a protein this small hold too little signal to find its orientation: here the "
            "orientations are given."
        )
    return text


def result_section(outcome: Outcome, comparison: Comparison) -> Section:
    """Surfaces and slices of the map beside those of the truth."""
    voxels = max(1, int((comparison.mask > 0.5).sum() // 2))
    maps = {
        "The reconstructed map": comparison.map.data,
        "The truth, filtered as the map is": filtered_truth(comparison),
    }
    figures = [
        Figure(
            f"{what}, seen along z and after quarter turns about the vertical and the horizontal axis.",
            png=isosurface_picture(volume, level_enclosing(volume, voxels)),
            alt=f"Surface of {what.lower()}",
        )
        for what, volume in maps.items()
    ]
    middle = comparison.truth.box // 2
    across = (np.s_[middle], np.s_[:, middle], np.s_[:, :, middle])
    slices = image_gallery(
        [volume[axis] for volume in (*maps.values(), comparison.truth.data) for axis in across], columns=3, size=240
    )
    caption = "Central slices. The finest detail of the truth is lost in noise; what is left agrees."
    figures.append(
        Figure(
            caption,
            png=slices,
            alt="Slices of the map and of the truth",
            rows=("map", "truth, filtered", "truth"),
            columns=("across z", "across y", "across x"),
        )
    )
    return Section("The map and the truth", "", figures=figures, numbers=outcome.numbers())


def agreement_section(comparison: Comparison) -> Section:
    """The FSC with the truth, and what the half maps alone predict of it."""
    frequency, curve = comparison.against_truth.frequency, comparison.against_truth.correlation
    series = [
        Series("map and truth", frequency, curve),
        Series("the same, predicted from the half maps", frequency, comparison.predicted, style="dashed"),
        Series("half maps", frequency, comparison.half_maps, style="dotted"),
    ]
    true = comparison.true_resolution
    markers = [Marker(1 / true, 0.5, f"{true:.1f} Å")] if true else []
    plot = line_plot(
        series,
        x_label="spatial frequency (1/Å)",
        y_label="FSC",
        title="Agreement of the map with the truth",
        y_limits=(-0.1, 1.02),
        resolution_axis=True,
        thresholds=[Threshold(HALF_MAPS, "0.143"), Threshold(MODEL, "0.5")],
        markers=markers,
    )
    text = (
        "Each half map holds half of the particles, so the two agree less with each other than their average agrees "
        "with the truth. If their correlation is FSC, the average has the correlation sqrt(2 FSC / (1 + FSC)) with the "
        "truth: at FSC 0.143 it is 0.5. This is where the threshold 0.143 comes from, and here it can be seen to hold."
    )
    source = Source("Rosenthal PB, Henderson R (2003) J Mol Biol 333:721", "10.1016/j.jmb.2003.07.013")
    return Section(
        "Was the resolution honest?",
        text,
        figures=[Figure("Solid and dashed should lie on each other.", svg=plot, alt="FSC curves")],
        sources=[source],
    )


def next_section() -> Section:
    text = (
        "simulated/particles.star holds the orientations, shifts and defoci that the images were made with, "
        "simulated/particles_unposed.star all but the orientations and shifts. map.mrc, half1.mrc, half2.mrc and "
        "sharpened.mrc open in any molecular viewer.\n\n"
        "The same two steps on your own: `vitreous simulate particles model.cif --pixel-size 2 --out simulated`, then "
        "`vitreous reconstruct simulated/particles.star --out map`. `vitreous check particles.star` finds out what is "
        "wrong with a particle file."
    )
    return Section("Where to go on", text)
