"""The report of a 3D refinement: the map, how far it can be trusted, how it came about, and how sure the poses are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitreous.alignment.refinement import Refinement
from vitreous.geometry.orientation_grid import mean_spacing_deg
from vitreous.jobs.curves import Series, Threshold, histogram, line_plot, sphere_map
from vitreous.jobs.job import Outcome
from vitreous.jobs.localres_sections import colour_bar, distribution_section, limits, resolution_slices
from vitreous.jobs.map_products import MapAnalysis
from vitreous.jobs.map_sections import map_sections, picture_figures
from vitreous.jobs.pictures import isosurface_picture
from vitreous.jobs.refine3d_files import PICTURES, effective_alternatives, picture_name
from vitreous.jobs.refine3d_findings import ClassResult, Finished
from vitreous.jobs.report import Figure, Gallery, Section, Source, Table, Thumbnail, Tile
from vitreous.jobs.surface import FRONT
from vitreous.reconstruction.fsc import HALF_MAPS, MODEL, fourier_shell_correlation
from vitreous.reconstruction.local_resolution import LocalResolution
from vitreous.reconstruction.mask import masked_for_display
from vitreous.reconstruction.orientations import OrientationCoverage
from vitreous.units import DEGREE

HEADLINE = ("resolution_angstrom", "iterations", "angle_deviation_deg", "orientation_efficiency")
THUMBNAIL = 160  # pixels
LEAST_MICROGRAPHS = 20  # fewer make no histogram
SOURCES = (
    Source("Scheres 2012, regularisation by the power of the signal", "10.1016/j.jmb.2011.11.010"),
    Source("Scheres & Chen 2012, independent half sets", "10.1038/nmeth.2115"),
    Source("Rosenthal & Henderson 2003, FSC 0.143", "10.1016/j.jmb.2003.07.013"),
    Source("Henderson 2013, maps from noise", "10.1073/pnas.1314449110"),
)


def refinement_sections(outcome: Outcome, finished: Finished, folder: Path) -> list[Section]:
    """Everything after the headline; `folder` holds the pictures of the iterations."""
    results = finished.results
    if len(results) == 1:
        result, correlation, amplitudes = map_sections(outcome, results[0].analysis)
        first = [result, correlation]
        last = [amplitudes]
    else:
        shown = [f.key for f in outcome.findings if f.key not in outcome.headline and not f.key.startswith("class")]
        first = [Section("Classes", CLASSES_TEXT, tables=[class_table(results)])]
        first += [*(class_section(result) for result in results), class_curves(results)]
        first.append(Section("Result", "", numbers=outcome.numbers(shown)))
        last = []
    if len(results) == 1 and results[0].local is not None:
        first.append(local_section(results[0].local))
    history = history_sections(finished.state, len(results), folder)
    return [*first, *history, pose_section(finished), view_section(finished.views), *last]


CLASSES_TEXT = (
    "All classes began with nearly the same map and were refined together: each particle counts in every class by its probability. Classes that differ in "
    "more than noise show it in their maps at a resolution that both have; classes that differ only in resolution have sorted the particles by quality."
)


def class_table(results: Sequence[ClassResult]) -> Table:
    """A row a class: how it looks, how many particles, resolution, and how far it is like the largest class."""
    largest = max(results, key=lambda result: result.count)
    rows = []
    for result in results:
        shown, level = masked_for_display(result.analysis.sharpened.volume, result.analysis.mask)
        front: Thumbnail | None = None
        if level is not None:
            picture = isosurface_picture(shown, level, views=(FRONT,), size=THUMBNAIL)
            front = Thumbnail(picture, f"Surface of class {result.number} from the front")
        rows.append(
            [
                result.number,
                front,
                result.count,
                f"{result.share:.1%}",
                None if result.resolution is None else round(result.resolution, 2),
                None if result is largest else alike_to(result.analysis, largest.analysis),
            ]
        )
    headings = ("class", "front", "particles", "share", "resolution Å", f"like class {largest.number} to Å")
    caption = f"The last column: where the FSC of a class with class {largest.number}, in the mask of both, falls below 0.5. Coarser than its resolution: they differ."
    return Table(headings, rows, caption)


def alike_to(one: MapAnalysis, other: MapAnalysis) -> float | None:
    """The resolution in angstrom to which two maps are alike: FSC 0.5 inside both masks; None if they are not."""
    mask = np.maximum(one.mask.values, other.mask.values)
    if not mask.any():
        return None
    curve = fourier_shell_correlation(one.map * mask, other.map * mask, one.pixel_size)
    value = curve.resolution(MODEL).value
    return None if value is None else round(value, 2)


def class_section(result: ClassResult) -> Section:
    """Pictures of one class."""
    seen = "none" if result.resolution is None else f"{result.resolution:.1f} Å"
    text = f"{result.count:,} particles ({result.share:.1%}), resolution {seen}."
    return Section(f"Class {result.number}", text, figures=picture_figures(result.analysis))


def class_curves(results: Sequence[ClassResult]) -> Section:
    """The FSC of all classes in one plot."""
    series = [
        Series(f"class {result.number}", result.analysis.curves.frequency, result.analysis.curves.best)
        for result in results
    ]
    plot = line_plot(
        series,
        x_label="spatial frequency (1/Å)",
        y_label="FSC",
        title="Fourier shell correlation of the classes",
        y_limits=(-0.1, 1.02),
        resolution_axis=True,
        thresholds=[Threshold(HALF_MAPS, "0.143")],
    )
    caption = "Corrected FSC of two halves of each class, which were aligned to one map."
    return Section("Fourier shell correlation", "", figures=[Figure(caption, svg=plot, alt="FSC curves")])


def local_section(local: LocalResolution) -> Section:
    """How resolution differs within the map."""
    text = (
        "How far the half maps agree around each voxel: flexible or rarely occupied parts are coarser than the core. Each value belongs to a window of "
        f"{local.window:.0f} Å and is read at FSC {local.threshold:g}. `vitreous localres` has more to say, and filters the map by it."
    )
    if not len(local.resolved):
        return Section("Local resolution", text + " Here no part of the map has one.")
    figures = [resolution_slices(local), colour_bar(*limits(local)), *distribution_section(local).figures]
    return Section("Local resolution", text.replace("`", ""), figures=figures)


# --- how it came about ------------------------------------------------------------------------------------------------


def history_sections(state: Refinement, classes: int, folder: Path) -> list[Section]:
    """Curves over the iterations, a table of them, and the map after each."""
    if not state.steps:
        return []
    text = (
        "In each iteration every image is compared with projections of the map of its own half set, and the map is made anew from all images in all "
        "poses, weighted by their probability. What the half maps agree on decides how fine the next comparison is. It has settled when neither improves."
    )
    figures = [resolution_figure(state), likelihood_figure(state), *change_figures(state)]
    galleries = map_galleries(state, classes, folder)
    return [Section("How it went", text, figures=figures, galleries=galleries, tables=[history_table(state)])]


def resolution_figure(state: Refinement) -> Figure:
    number = np.arange(1, len(state.steps) + 1)
    reached = np.array([step.resolution for step in state.steps])
    band = np.array([step.band for step in state.steps])
    series = [Series("half maps, FSC 0.143", number, np.where(np.isfinite(reached), reached, np.nan))]
    if not np.isfinite(series[0].y).any():
        series = []
    series.append(Series("finest compared", number, np.where(np.isfinite(band), band, np.nan), style="dashed"))
    caption = (
        "Resolution of the half maps after each iteration, and the finest that images and map were compared at in it."
    )
    plot = line_plot(series, x_label="iteration", y_label="resolution (Å)", title="Resolution", description=caption)
    return Figure(caption, svg=plot)


def likelihood_figure(state: Refinement) -> Figure:
    number = np.arange(1, len(state.steps) + 1)
    values = np.array([step.log_likelihood for step in state.steps]) / max(1, len(state.assignment))
    caption = (
        "Log evidence of an image, mean: how much better it is explained by the map, in any pose, than by noise alone. It grows as the map gets better, and jumps where "
        "finer detail enters the comparison."
    )
    plot = line_plot(
        [Series("log evidence", number, values)],
        x_label="iteration",
        y_label="log evidence (nat)",
        title="Likelihood",
        description=caption,
    )
    return Figure(caption, svg=plot)


def change_figures(state: Refinement) -> list[Figure]:
    """Changes of poses beside the steps of the grid."""
    steps = state.steps
    number = np.arange(1, len(steps) + 1)
    shown = (
        (
            "Orientations",
            "angle (°)",
            np.array([step.angle_change for step in steps]) / DEGREE,
            np.array([mean_spacing_deg(step.order) for step in steps]),
            "Mean change of the orientations, and the distance of neighbouring ones in the search.",
        ),
        (
            "Origins",
            "shift (Å)",
            np.array([step.shift_change for step in steps]),
            np.array([step.shift_step for step in steps]),
            "Mean change of the origins, and the step of their search.",
        ),
    )
    figures = []
    for title, label, change, step, caption in shown:
        series = [Series("change", number, change)] if np.isfinite(change).any() else []
        series.append(Series("step", number, step, style="dashed"))
        plot = line_plot(series, x_label="iteration", y_label=label, title=title, description=caption)
        figures.append(Figure(caption, svg=plot))
    classes = np.array([step.class_change for step in steps])
    if state.half_maps.shape[1] > 1 and np.isfinite(classes).any():
        caption = "Particles whose most probable class changed."
        plot = line_plot(
            [Series("changed", number, 100 * classes)],
            x_label="iteration",
            y_label="particles (%)",
            title="Classes",
            description=caption,
        )
        figures.append(Figure(caption, svg=plot))
    return figures


def map_galleries(state: Refinement, classes: int, folder: Path) -> list[Gallery]:
    """The central slice of the map after each iteration, as far as pictures were kept."""
    galleries = []
    for number in range(1, classes + 1):
        reached = ["reference"]
        reached += [f"{step.resolution:.1f} Å" if np.isfinite(step.resolution) else "none" for step in state.steps]
        tiles = [
            Tile(path.read_bytes(), f"Slice after iteration {iteration}", (str(iteration), label))
            for iteration, label in enumerate(reached)
            if (path := folder / PICTURES / picture_name(iteration, number)).is_file()
        ]
        if tiles:
            heading = "The map" if classes == 1 else f"Class {number}"
            caption = "Central slice across z of the map that images are compared with, after each iteration, and the resolution of the half maps."
            galleries.append(Gallery(tiles, heading, caption))
    return galleries


def history_table(state: Refinement) -> Table:
    rows = [
        [
            number,
            None if not np.isfinite(step.resolution) else round(step.resolution, 2),
            round(step.band, 2) if np.isfinite(step.band) else None,
            round(mean_spacing_deg(step.order), 2),
            round(step.shift_step, 2),
            f"{step.log_likelihood:,.0f}" if np.isfinite(step.log_likelihood) else None,
            round(step.probability, 3),
            _rounded(step.angle_change / DEGREE, 2),
            _rounded(step.shift_change, 2),
            _rounded(100 * step.class_change, 1),
            round(step.seconds, 1),
        ]
        for number, step in enumerate(state.steps, start=1)
    ]
    headings = (
        "iteration",
        "resolution Å",
        "band Å",
        "angle step °",
        "origin step Å",
        "log evidence",
        "largest p",
        "angle change °",
        "origin change Å",
        "class change %",
        "seconds",
    )
    if state.half_maps.shape[1] == 1:
        place = headings.index("class change %")
        headings = tuple(name for index, name in enumerate(headings) if index != place)
        rows = [row[:place] + row[place + 1 :] for row in rows]
    return Table(headings, rows, folded=f"All {len(rows)} iterations")


# --- poses ------------------------------------------------------------------------------------------------------------


def pose_section(finished: Finished) -> Section:
    """How sure the poses are, and which images the map explains."""
    state, explained = finished.state, finished.explained
    assignment = state.assignment
    text = (
        "The posterior of a particle is spread over the poses that explain its image nearly as well. Its width is an uncertainty of the pose from the image alone: "
        "it does not know of errors of the map."
    )
    shown = (
        (
            assignment.log_evidence,
            "log evidence (nat)",
            "Evidence of the particles",
            "How much better each image is explained by the map than by noise alone. Images without a particle lie at the left end.",
        ),
        (
            assignment.probability,
            "largest probability",
            "Largest probabilities",
            "Posterior probability of the best pose on the last grid. Near 1 the grid is coarser than what the image can tell; near 0 many poses explain it as well.",
        ),
        (
            np.log10(effective_alternatives(assignment)),
            "log₁₀ of the poses in play",
            "Alternatives",
            "exp(entropy) of the posterior: 0 is one pose, 2 are a hundred.",
        ),
        (
            assignment.angle_deviation / DEGREE,
            "standard deviation (°)",
            "Uncertainty of the orientations",
            "Standard deviation of each orientation about the one written, by its posterior.",
        ),
        (
            assignment.shift_deviation,
            "standard deviation (Å)",
            "Uncertainty of the origins",
            "Standard deviation of each origin about the one written, by its posterior.",
        ),
    )
    figures = []
    for values, label, title, caption in shown:
        if np.isfinite(values).any():
            level = explained if values is assignment.log_evidence else None
            levels = [] if level is None else [Threshold(level.level, f"{level.count:,} below", vertical=True)]
            plot = histogram(
                values, x_label=label, y_label="particles", title=title, description=caption, thresholds=levels
            )
            figures.append(Figure(caption, svg=plot))
    if len(state.scale) >= LEAST_MICROGRAPHS and np.ptp(state.scale) > 0:
        caption = "Contrast of each micrograph relative to the mean: thick ice and energy losses make it small."
        plot = histogram(
            state.scale,
            x_label="contrast",
            y_label="micrographs",
            title="Contrast of the micrographs",
            description=caption,
        )
        figures.append(Figure(caption, svg=plot))
    return Section("How sure the poses are", text, figures=figures, sources=SOURCES)


def view_section(views: OrientationCoverage) -> Section:
    """Where the views come from."""
    sphere = Figure(
        "Viewing directions, symmetry copies included; 1 is an even spread.",
        svg=sphere_map(views.density, title="Viewing directions"),
        alt="Map of viewing directions on the sphere",
    )
    text = (
        f"{views.unsampled:.1%} of the directions in Fourier space are reached by no view. "
        f"The views are as good as {views.efficiency / max(views.efficiency_if_even, 1e-9):.0%} of as many random ones."
    )
    return Section("Orientations", text, figures=[sphere])


def _rounded(value: float, digits: int) -> float | None:
    return round(value, digits) if np.isfinite(value) else None
