"""The figures of a 3D refinement, and the warnings that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitreous.alignment.refinement import Refinement, RefineSettings
from vitreous.geometry.orientation_grid import mean_spacing_deg
from vitreous.jobs.job import Finding
from vitreous.jobs.map_products import IDENTICAL, MapAnalysis
from vitreous.jobs.refine3d_files import effective_alternatives
from vitreous.reconstruction.fsc import FscCurves, correlation_at
from vitreous.reconstruction.local_resolution import LocalResolution
from vitreous.reconstruction.orientations import OrientationCoverage
from vitreous.units import DEGREE

# Half maps of one reference agree up to the resolution that it was filtered to, whatever the images hold, and a little beyond: the filter has an edge.
BEYOND_START = 0.85
DISAGREE = 0.9  # FSC that half maps of one particle have at low resolution
UNEVEN = 0.5  # of the view efficiency that as many random views would have
UNSURE = 0.05  # mean largest probability below which poses are not known


@dataclass(frozen=True)
class ClassResult:
    """One class: its `number` from 1, the particles most probably in it, its maps; `resolution` in angstrom as far as it is evidence, None otherwise."""

    number: int
    count: int
    share: float
    analysis: MapAnalysis
    resolution: float | None
    local: LocalResolution | None = None


def trusted_resolution(curves: FscCurves, start_resolution: float | None) -> float | None:
    """The resolution of half maps that both began with one map filtered to `start_resolution` (angstrom; None: they did not).

    What the half maps have in common up to there they may have from the reference. Only agreement that is clearly finer (by the edge of that
    filter, 15 %) can come from the images.
    """
    value = curves.resolution().value
    if value is None or start_resolution is None or value < BEYOND_START * start_resolution:
        return value
    return None


def finished_findings(
    state: Refinement,
    settings: RefineSettings,
    results: Sequence[ClassResult],
    views: OrientationCoverage,
) -> list[Finding]:
    """Every number of a refinement that is printed."""
    assignment, main = state.assignment, results[0]
    halves = [int((state.half_set == half).sum()) for half in (1, 2)]
    setting = [
        Finding(
            "particles",
            "particles",
            len(assignment),
            "",
            f"Images that were aligned: {halves[0]} in one half set, {halves[1]} in the other.",
        ),
        Finding(
            "iterations",
            "iterations",
            state.iteration,
            "",
            f"{'It has settled' if state.converged else 'It was stopped before it had settled'}; at most {settings.iterations} were asked for.",
        ),
        Finding("converged", "converged", bool(state.converged), "", "Whether neither map nor poses changed any more."),
        Finding("symmetry", "symmetry", settings.symmetry, "", "The point group that was imposed on the map."),
        Finding(
            "mask_diameter_angstrom",
            "mask diameter",
            float(settings.diameter),
            "Å",
            "Images are compared inside a soft disc of this diameter, maps inside such a sphere.",
            0,
        ),
    ]
    if len(results) == 1:
        maps = map_findings(main, independent=settings.half_sets)
    else:
        maps = class_findings(results)
    return [
        *maps,
        *setting,
        *step_findings(state),
        *certainty_findings(state),
        *view_findings(views),
        hand_finding(),
    ]


def map_findings(result: ClassResult, *, independent: bool) -> list[Finding]:
    """The figures of one map; its resolution is the one that is evidence."""
    meaning = (
        "Where the FSC of the half maps, corrected for the mask, falls below 0.143. Each half was refined by itself."
        if independent
        else "Where the FSC of the half maps falls below 0.143. Both halves were aligned to one map: this figure is too good."
    )
    if result.resolution is None:
        meaning = "None: the half maps agree no further than the reference that both began with."
    found = []
    for finding in result.analysis.findings():
        if finding.key == "resolution_angstrom":
            finding = replace(finding, value=result.resolution, meaning=meaning)
        elif finding.key.startswith("resolution") and result.resolution is None:
            finding = replace(finding, value=None)
        found.append(finding)
    return found + local_findings(result.local)


def local_findings(local: LocalResolution | None) -> list[Finding]:
    if local is None or not len(local.resolved):
        return []
    best, median, worst = (float(local.quantile(part) or 0) for part in (0.1, 0.5, 0.9))
    return [
        Finding(
            "local_resolution_median_angstrom",
            "local resolution",
            median,
            "Å",
            f"Of half the voxels in the mask, at FSC 0.5 in windows of {local.window:.0f} Å; of a tenth {best:.1f} Å or finer, of a tenth {worst:.1f} Å or coarser.",
        )
    ]


def class_findings(results: Sequence[ClassResult]) -> list[Finding]:
    """Population and resolution of each class, from 1."""
    found = []
    for result in results:
        key = f"class{result.number}"
        found += [
            Finding(
                f"{key}_particles",
                f"class {result.number}",
                result.count,
                "particles",
                f"Most probably in this class; its share is {result.share:.1%}.",
            ),
            Finding(
                f"{key}_resolution_angstrom",
                f"class {result.number} resolution",
                result.resolution,
                "Å",
                "Where the FSC of two halves of the class falls below 0.143; both were aligned to one map, so that it is a little too good.",
            ),
        ]
    return found


def step_findings(state: Refinement) -> list[Finding]:
    """The grid of the last iteration, and what it changed."""
    if not state.steps:
        return []
    last = state.steps[-1]
    return [
        Finding(
            "angle_step_deg",
            "angle step",
            mean_spacing_deg(last.order),
            "°",
            f"Mean distance of neighbouring orientations in the last search (HEALPix order {last.order}); the poses written lie between them.",
        ),
        Finding(
            "angle_change_deg",
            "angle change",
            _number(last.angle_change / DEGREE),
            "°",
            "Mean change in the last iteration.",
        ),
        Finding(
            "origin_change_angstrom",
            "origin change",
            _number(last.shift_change),
            "Å",
            "Mean change of the origins in the last iteration.",
        ),
        Finding(
            "log_likelihood",
            "log evidence",
            _number(last.log_likelihood),
            "nat",
            "How much better all images are explained by the map than by noise alone, summed over all poses.",
            0,
        ),
    ]


def certainty_findings(state: Refinement) -> list[Finding]:
    """Medians of what the posteriors say of the poses."""
    assignment = state.assignment
    return [
        Finding(
            "probability",
            "largest probability",
            _median(assignment.probability),
            "",
            "Posterior probability of a particle's best pose on the last grid, median.",
            3,
        ),
        Finding(
            "alternatives",
            "alternatives",
            _median(effective_alternatives(assignment)),
            "",
            "exp(entropy): how many poses of the last grid are in play for a particle, median.",
            1,
        ),
        Finding(
            "angle_deviation_deg",
            "angle uncertainty",
            _median(assignment.angle_deviation / DEGREE),
            "°",
            "Standard deviation of a particle's orientation by its posterior, median.",
        ),
        Finding(
            "origin_deviation_angstrom",
            "origin uncertainty",
            _median(assignment.shift_deviation),
            "Å",
            "Standard deviation of a particle's origin by its posterior, median.",
        ),
    ]


def view_findings(views: OrientationCoverage) -> list[Finding]:
    return [
        Finding(
            "orientation_efficiency",
            "view efficiency",
            views.efficiency,
            "",
            f"Sampling compensation factor: 1 if the views filled Fourier space evenly; as many views drawn at random would give {views.efficiency_if_even:.2f}.",
        )
    ]


def hand_finding() -> Finding:
    """Said every time: nothing in the images of untilted particles tells a map from its mirror image."""
    return Finding(
        "hand",
        "hand",
        "that of the reference",
        "",
        "Images of untilted particles fit a map and its mirror image equally well: compare with a known structure, or see whether helices turn to the right.",
    )


def refinement_warnings(
    state: Refinement,
    settings: RefineSettings,
    results: Sequence[ClassResult],
    views: OrientationCoverage,
) -> list[str]:
    """What must not be overlooked, a sentence or two each."""
    found: list[str] = []
    for result in results:
        name = "" if len(results) == 1 else f"Class {result.number}: "
        found += [name + sentence for sentence in map_warnings(result, settings)]
    if not state.converged:
        found.append(
            f"It had not settled after {state.iteration} iterations: what stands here can still change. "
            "Give more --iterations, or go on from state.npz with --continue-from."
        )
    if not settings.half_sets:
        found.append(
            "Both half sets were aligned to one map: their FSC is too good. For a resolution refine "
            + (
                "each class by itself (class1/particles.star and so on)."
                if len(results) > 1
                else "with --half-sets file."
            )
        )
    return found + pose_warnings(state, settings) + view_warnings(views)


def map_warnings(result: ClassResult, settings: RefineSettings) -> list[str]:
    """What is odd about the maps of one class."""
    curves, found = result.analysis.curves, list(result.analysis.mask.warnings())
    if curves.unmasked[1:].min() > IDENTICAL:
        return [*found, "The half maps are one and the same map: their FSC says nothing about resolution."]
    if result.resolution is None:
        seen = result.analysis.resolution
        found.append(
            f"No resolution: the half maps agree to {seen}, and up to {settings.start_resolution:g} Å both have that from the reference. "
            "The images add nothing of their own: they are noise, another particle, or their CTFs, pixel size or symmetry are wrong. "
            "`vitreous check` on particles.star tells what can be told."
        )
        return found
    coarse = correlation_at(curves.best, max(settings.start_resolution, 2 * result.resolution), curves.frequency)
    if coarse < DISAGREE:
        found.append(
            f"The half maps disagree already at {max(settings.start_resolution, 2 * result.resolution):.0f} Å (FSC {coarse:.2f}): "
            "the two halves went different ways, or the mask is too wide."
        )
    if result.analysis.resolution.limited_by == "nyquist":
        found.append(
            f"The resolution is that of the pixel size, {2 * result.analysis.pixel_size:.2f} Å: images with smaller pixels may hold more."
        )
    return found


def pose_warnings(state: Refinement, settings: RefineSettings) -> list[str]:
    """What is odd about the poses: hardly known, at the edge of the search, classes run empty."""
    assignment, found = state.assignment, []
    mean = float(np.mean(assignment.probability))
    if mean < UNSURE:
        found.append(
            f"The poses are hardly known: the best one has {mean:.1%} of the probability on average. Images may be too noisy for their size, or not of this particle."
        )
    empty = [number + 1 for number, share in enumerate(state.population) if share * len(assignment) < 1]
    if empty:
        found.append(f"No particle is left in class {', '.join(map(str, empty))}.")
    return found


def view_warnings(views: OrientationCoverage) -> list[str]:
    """Preferred orientations."""
    share = views.efficiency / max(views.efficiency_if_even, 1e-9)
    if share >= UNEVEN:
        return []
    return [
        f"Preferred orientations: the views are as good as {share:.0%} of as many random ones, and {views.unsampled:.0%} of the directions in Fourier "
        "space are reached by none. The map is smeared where views are missing, and its FSC does not show that."
    ]


def _median(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
