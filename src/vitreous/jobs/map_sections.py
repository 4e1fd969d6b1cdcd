"""The sections that every report on a map has: what came out, how it looks, FSC, Guinier plot, orientations."""

from __future__ import annotations

import numpy as np

from vitreous.geometry.rotations import matrix_from_euler, view_direction
from vitreous.jobs.curves import Series, Threshold, line_plot, sphere_map
from vitreous.jobs.job import Finding, Outcome
from vitreous.jobs.map_products import MapAnalysis
from vitreous.jobs.pictures import isosurface_picture, slices_picture
from vitreous.jobs.report import Figure, Section
from vitreous.model.particles import Particles
from vitreous.reconstruction.mask import masked_for_display
from vitreous.reconstruction.orientations import orientation_coverage

SURFACE_SIZE = 280  # pixels of each view


def map_sections(outcome: Outcome, analysis: MapAnalysis) -> list[Section]:
    """Numbers, pictures, FSC and Guinier plot."""
    return [
        Section(
            "Result",
            "",
            figures=picture_figures(analysis),
            numbers=outcome.numbers([f.key for f in outcome.findings if f.key not in outcome.headline]),
        ),
        fsc_section(analysis),
        guinier_section(analysis),
    ]


def picture_figures(analysis: MapAnalysis) -> list[Figure]:
    """The surface of the sharpened map from three sides, and its slices and projections."""
    shown, level = masked_for_display(analysis.sharpened.volume, analysis.mask)
    figures = []
    if level is not None:
        caption = "The surface of the sharpened map inside its mask, seen along z and after quarter turns about the vertical and the horizontal axis."
        surface = isosurface_picture(shown, level, size=SURFACE_SIZE)
        figures.append(
            Figure(
                caption,
                png=surface,
                alt="Surface of the map from three sides",
                columns=("front", "side", "top"),
                wide=True,
            )
        )
    figures.append(
        Figure(
            "Central slices across z, y and x, and projections along them. Protein is white; nothing is masked.",
            png=slices_picture(analysis.sharpened.volume),
            alt="Slices and projections of the map",
            columns=("along z", "along y", "along x"),
            rows=("slices", "projections"),
            wide=True,
        )
    )
    return figures


def fsc_section(analysis: MapAnalysis) -> Section:
    curves = analysis.curves
    frequency = curves.frequency
    series = [Series("unmasked", frequency, curves.unmasked)]
    if curves.masked is not None:
        series.append(Series("masked", frequency, curves.masked))
    if curves.phase_randomised is not None:
        series.append(Series("phases randomised", frequency, curves.phase_randomised, style="dashed"))
    if curves.corrected is not None:
        series.append(Series("corrected", frequency, curves.corrected))
    plot = line_plot(
        series,
        x_label="spatial frequency (1/Å)",
        y_label="FSC",
        title="Fourier shell correlation of the half maps",
        description=f"The corrected curve falls below 0.143 at {analysis.resolution}.",
        y_limits=(-0.1, 1.02),
        resolution_axis=True,
        thresholds=[Threshold(0.143, "0.143"), Threshold(0.5, "0.5")],
    )
    text = (
        "Two maps from two halves of the particles agree where there is signal and differ where there is noise. A mask takes noise away, but its own shape "
        "correlates too: how much, the curve with randomised phases shows, and the corrected curve has it taken out."
    )
    return Section(
        "Fourier shell correlation",
        text,
        figures=[
            Figure(f"The half maps agree to {analysis.resolution} (FSC 0.143, corrected).", svg=plot, alt="FSC curves")
        ],
    )


def guinier_section(analysis: MapAnalysis) -> Section:
    plot = analysis.sharpened.guinier
    squared = plot.frequency**2
    series = [
        Series("map", squared[1:], plot.log_amplitude[1:]),
        Series("noise weighted", squared[1:], plot.weighted[1:], style="dashed"),
        Series(
            "sharpened",
            squared[1:],
            np.where(
                np.isfinite(analysis.sharpened.sharpened_amplitude), analysis.sharpened.sharpened_amplitude, np.nan
            )[1:],
        ),
    ]
    caption = plot.reason
    if plot.b_factor is not None and plot.fit is not None:
        line = plot.fit.intercept - plot.fit.b_factor / 4 * squared
        inside = (plot.frequency >= plot.fit.fit_from) & (plot.frequency <= plot.fit.fit_to)
        series.append(
            Series(f"B = {plot.fit.b_factor:.0f} Å²", squared[1:], np.where(inside, line, np.nan)[1:], style="dotted")
        )
        caption = f"The straight part falls by B = {plot.fit.b_factor:.0f} ± {plot.fit.standard_error:.0f} Å²."
    text = (
        "The logarithm of the mean amplitude of each shell against the square of its frequency. Beyond about 10 Å proteins give a "
        "straight line; its slope is the B factor."
    )
    if not any(np.isfinite(np.asarray(one.y)).any() for one in series):
        return Section("Amplitudes", f"{text} This map has none at any frequency: it is empty.")
    figure = line_plot(
        series, x_label="squared frequency (1/Å²)", y_label="ln |F|", title="Guinier plot", description=caption
    )
    return Section("Amplitudes", text, figures=[Figure(caption, svg=figure, alt="Guinier plot")])


def orientation_section(
    particles: Particles, operators: np.ndarray, coverage: np.ndarray | None, pixel_size: float
) -> tuple[Section, Finding]:
    """Where the views come from, and how evenly they fill Fourier space; `coverage` by shell is shown if given."""
    assert particles.pose is not None
    views = orientation_coverage(view_direction(matrix_from_euler(particles.pose.euler)), operators=operators)
    sphere = Figure(
        "Viewing directions, symmetry copies included; 1 is an even spread.",
        svg=sphere_map(views.density, title="Viewing directions"),
        alt="Map of viewing directions on the sphere",
    )
    finding = Finding(
        "orientation_efficiency",
        "view efficiency",
        views.efficiency,
        "",
        f"Sampling compensation factor: 1 if the views filled Fourier space evenly; as many views drawn at random would give {views.efficiency_if_even:.2f}.",
    )
    text = f"{views.unsampled:.1%} of the directions in Fourier space are reached by no view."
    figures = [sphere] if coverage is None else [sphere, coverage_figure(coverage, pixel_size)]
    return Section("Orientations", text, figures=figures), finding


def coverage_figure(coverage: np.ndarray, pixel_size: float) -> Figure:
    """Fraction of the voxels of each shell that is filled."""
    box = 2 * (len(coverage) - 1)
    frequency = np.arange(len(coverage)) / (box * pixel_size)
    curve = line_plot(
        [Series("voxels reached", frequency[1:], coverage[1:])],
        x_label="spatial frequency (1/Å)",
        y_label="fraction",
        title="Fourier coverage by shell",
        y_limits=(0, 1.05),
        resolution_axis=True,
    )
    return Figure(
        "Fraction of the voxels of each shell that some image reached.", svg=curve, alt="Coverage against frequency"
    )
