"""The sections of the demonstration's report on the refined map: beside the truth, its resolution by both ways, and its poses."""

from __future__ import annotations

import numpy as np

from vitreous.jobs.curves import Marker, Series, Threshold, histogram, line_plot
from vitreous.jobs.demo_truth import Truths
from vitreous.jobs.job import Outcome
from vitreous.jobs.pictures import image_gallery, isosurface_picture
from vitreous.jobs.report import Figure, Section, Source
from vitreous.jobs.truth_comparison import Comparison, filtered_truth
from vitreous.reconstruction.fsc import HALF_MAPS, MODEL
from vitreous.reconstruction.mask import level_enclosing
from vitreous.units import DEGREE

CONTOUR = 4  # surfaces hold one in so many voxels of the mask, which reaches well beyond the particle
MAP_NUMBERS = (
    "correlation_with_truth",
    "hand",
    "resolution_of_other_hand_angstrom",
    "particles",
    "poses_beyond_5_deg",
    "origin_error_angstrom",
)


def map_sections(outcome: Outcome, truths: Truths) -> list[Section]:
    """The map and the truth, the hand, the resolution, the poses."""
    return [
        result_section(outcome, truths.comparison),
        agreement_section(truths.comparison),
        pose_section(truths),
    ]


def result_section(outcome: Outcome, comparison: Comparison) -> Section:
    """Surfaces and slices of the map beside those of the truth."""
    text = (
        "The particles were divided into two halves. For each half, every particle was compared with the map in "
        "all orientations, coarse ones first, then finer and "
        "finer, and the map was made anew, until nothing changed. The first map of each half was that of step 7, "
        "blurred to 40 Å: what is finer was "
        "found twice, independently.\n\n" + hand_text(comparison)
    )
    voxels = max(1, int((comparison.mask > 0.5).sum()) // CONTOUR)
    maps = {
        "The refined map": comparison.map.data * comparison.mask,
        "The truth, filtered as the map is": filtered_truth(comparison) * comparison.mask,
    }
    figures = [
        Figure(
            f"{what}, seen along z and after quarter turns about the vertical and the horizontal axis.",
            png=isosurface_picture(volume, level_enclosing(volume, voxels)),
            alt=f"Surface of {what.lower()}",
            columns=("front", "side", "top"),
            wide=True,
        )
        for what, volume in maps.items()
    ]
    return Section(
        "8 · The refined map", text, figures=[*figures, slices_figure(comparison)], numbers=outcome.numbers(MAP_NUMBERS)
    )


def hand_text(comparison: Comparison) -> str:
    """Which hand came out, and why that is chance."""
    what = (
        "This time the mirror image came out, and was turned into the right hand before it was compared"
        if comparison.mirrored
        else "This time the right hand came out"
    )
    return (
        "A projection does not tell front from back. So a molecule and its mirror image make the same set of "
        "images, and whether the map "
        "is the one or the other is chance, as with two gloves that throw the same shadows. "
        f"{what}: here the truth says so. With real data one looks which way helices wind, once the map is fine enough to show it, or "
        "compares with a known structure."
    )


def slices_figure(comparison: Comparison) -> Figure:
    middle = comparison.truth.box // 2
    across = (np.s_[middle], np.s_[:, middle], np.s_[:, :, middle])
    rows = (comparison.map.data, filtered_truth(comparison), comparison.truth.data)
    return Figure(
        "Central slices. The finest detail of the truth is lost in noise; what is left agrees.",
        png=image_gallery([volume[axis] for volume in rows for axis in across], columns=3, size=240),
        alt="Slices of the map and of the truth",
        rows=("map", "truth, filtered", "truth"),
        columns=("across z", "across y", "across x"),
    )


def agreement_section(comparison: Comparison) -> Section:
    """The FSC with the truth, and what the half maps alone predict of it."""
    frequency, curve = comparison.against_truth.frequency, comparison.against_truth.correlation
    series = [
        Series("map and truth", frequency, curve),
        Series("the same, predicted from the half maps", frequency, comparison.predicted, style="dashed"),
        Series("half maps", frequency, comparison.half_maps, style="dotted"),
        Series("other hand and truth", frequency, comparison.other_hand.correlation),
    ]
    true = comparison.true_resolution
    markers = [Marker(1 / true, MODEL, f"{true:.1f} Å")] if true and curve.min() < MODEL else []
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
    halves = "no resolution" if comparison.resolution is None else f"{comparison.resolution:.1f} Å"
    truth = "no resolution" if true is None else f"{true:.1f} Å"
    nyquist = 2 * comparison.map.pixel_size
    limited = comparison.resolution is not None and comparison.resolution < 1.01 * nyquist
    limit = (
        f" That is all that pixels of {comparison.map.pixel_size:g} Å can show; smaller ones would show more."
        if limited
        else ""
    )
    text = (
        "With real data nobody knows the truth. There the two halves are compared, and their agreement says how "
        f"far the map can be believed: here to {halves}. This time "
        f"the truth is known, and the map agrees with it to {truth}.{limit}\n\n"
        "The curves are Fourier shell correlations: 1 where two maps are alike at that fineness, 0 where they have "
        "nothing in common. "
        "Each half map holds half of the particles, so the two agree less with each other than their average agrees "
        "with the truth. If their correlation is FSC, the average has the correlation sqrt(2 FSC / (1 + FSC)) with the "
        "truth: at FSC 0.143 it is 0.5. This is where the threshold 0.143 comes from. A dashed curve above the "
        "solid one would mean that both halves made the same mistake."
    )
    source = Source("Rosenthal PB, Henderson R (2003) J Mol Biol 333:721", "10.1016/j.jmb.2003.07.013")
    return Section(
        "Was the resolution honest?",
        text,
        figures=[Figure("Solid and dashed should lie on each other.", svg=plot, alt="FSC curves")],
        sources=[source],
    )


def pose_section(truths: Truths) -> Section:
    """How far orientations and centres are from the truth."""
    angle, centre = truths.poses.angle / DEGREE, truths.poses.centre
    figures = []
    for values, label, title in (
        (angle, "angle to the true orientation (°)", "Errors of the orientations"),
        (centre, "distance from the true centre (Å)", "Errors of the centres"),
    ):
        if len(values):
            most = 1.2 * float(np.percentile(values, 98))
            svg = histogram(np.minimum(values, most), x_label=label, y_label="particles", title=title)
            figures.append(Figure(f"{title}. The last bar holds all that lies beyond.", svg=svg))
    text = (
        "The map has its own idea of up and down, so it is laid over the truth first; then the refined orientation "
        "of each particle is compared with the "
        "one that it was simulated in. An error of 1° moves the rim of a ribosome by 2.6 Å."
    )
    return Section("Were the poses right?", text, figures=figures)
