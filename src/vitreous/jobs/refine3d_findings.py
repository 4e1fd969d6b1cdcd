"""The figures of a 3D refinement, and the warnings that go with them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.held_out import HeldOutEvidence
from vitreous.alignment.refinement import Refinement, RefineSettings
from vitreous.geometry.orientation_grid import mean_spacing_deg
from vitreous.jobs.job import Finding
from vitreous.jobs.map_products import IDENTICAL, MapAnalysis
from vitreous.jobs.refine3d_files import effective_alternatives
from vitreous.reconstruction.fsc import FscCurves, correlation_at
from vitreous.reconstruction.local_resolution import LocalResolution
from vitreous.reconstruction.orientations import OrientationCoverage
from vitreous.units import DEGREE

if TYPE_CHECKING:
    from jaxtyping import Float

# Half maps of one reference agree up to the resolution that it was filtered to, whatever the images hold, and a little beyond: the filter has an edge.
BEYOND_START = 0.85
DISAGREE = 0.9  # FSC that half maps of one particle have at low resolution
UNEVEN = 0.5  # of the view efficiency that as many random views would have
MANY_UNEXPLAINED = 0.1  # of the images
APART, LEAST_IMAGES = (
    4.0,
    50,
)  # two heaps of images: standard deviations between their means, and how many images show them
UNSURE = 20.0  # degrees: median uncertainty of orientations beyond which they are guesses
WELL_ABOVE = 1.3  # times the finest resolution that the pixels allow
MANY_CHANGING = 0.05  # of the particles, in the last iteration


@dataclass(frozen=True)
class ClassResult:
    """One class: its `number` from 1, the particles most probably in it, its maps; `resolution` in angstrom as far as it is evidence, None otherwise."""

    number: int
    count: int
    share: float
    analysis: MapAnalysis
    resolution: float | None
    local: LocalResolution | None = None


@dataclass(frozen=True)
class Finished:
    """A finished refinement: its last state, what was asked for, its classes, where the views come from, and what the map of each half says of the images
    of the other (None where both were aligned to one map).
    """

    state: Refinement
    settings: RefineSettings
    results: Sequence[ClassResult]
    views: OrientationCoverage
    evidence: HeldOutEvidence | None

    @property
    def explained(self) -> Explained | None:
        return explained_images(self.state.assignment.log_evidence)


@dataclass(frozen=True)
class Explained:
    """Images parted by their log evidence into two heaps: `level` in nat between them, `count` of images below it."""

    level: float
    count: int


def explained_images(evidence: Float[np.ndarray, " n"]) -> Explained | None:
    """The level that parts images which the map explains from those that it does not; None if they are one heap.

    Otsu's level (1979, doi:10.1109/TSMC.1979.4310076) makes the variance between two groups largest. Two heaps are seen if their means are 4 standard
    deviations apart: the halves of one Gaussian are 2.7 apart, those of an even spread 3.5.
    """
    values = np.sort(evidence[np.isfinite(evidence)])
    count = len(values)
    if count < LEAST_IMAGES or values[0] == values[-1]:
        return None
    below = np.arange(1, count)
    total = np.cumsum(values)[:-1]
    low, high = total / below, (values.sum() - total) / (count - below)
    split = int(np.argmax(below * (count - below) * (high - low) ** 2))
    deviation = np.sqrt((values[: split + 1].var() + values[split + 1 :].var()) / 2)
    if high[split] - low[split] < APART * deviation:
        return None
    return Explained(float((values[split] + values[split + 1]) / 2), split + 1)


def trusted_resolution(
    curves: FscCurves, start_resolution: float | None, evidence: HeldOutEvidence | None = None
) -> float | None:
    """The resolution in angstrom of half maps, None where their agreement is no evidence of anything in the images.

    Two halves that begin with one map filtered to `start_resolution` (None: they did not) agree up to there, and by the edge of that filter (15 %) beyond,
    whatever the images hold. And if the map of one half says nothing about the images of the other, `evidence`,
    then whatever the halves agree on did not come from the images.
    """
    value = curves.resolution().value
    if value is None or (evidence is not None and not evidence.shows_signal):
        return None
    return value if start_resolution is None or value < BEYOND_START * start_resolution else None


def finished_findings(finished: Finished) -> list[Finding]:
    """Every number of a refinement that is printed."""
    state, settings, results = finished.state, finished.settings, finished.results
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
        *evidence_findings(finished),
        *setting,
        *step_findings(state),
        *certainty_findings(state),
        *view_findings(finished.views),
        hand_finding(),
    ]


def map_findings(result: ClassResult, *, independent: bool) -> list[Finding]:
    """The figures of one map; its resolution is the one that is evidence."""
    meaning = (
        "Where the FSC of the half maps, corrected for the mask, falls below 0.143. Each half was refined by itself."
        if independent
        else "Where the FSC of the half maps falls below 0.143. Both halves were aligned to one map: this figure is too good."
    )
    if result.resolution is not None and result.resolution > WELL_ABOVE * 2 * result.analysis.pixel_size:
        meaning += " If you expected more: vitreous check, on particles.star, tests CTFs, pixel size and conventions."
    if result.resolution is None:
        meaning = "None: what the half maps agree on did not come from the images."
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


def evidence_findings(finished: Finished) -> list[Finding]:
    """What the images say of the map."""
    evidence, explained, found = finished.evidence, finished.explained, []
    if evidence is not None:
        found.append(
            Finding(
                "held_out_evidence",
                "held-out evidence",
                evidence.mean,
                "nat",
                f"How much better the map of the other half set explains an image than noise does: mean of {evidence.count}, ± {evidence.error:.2g}. "
                "Of images without the particle it is 0 or less.",
            )
        )
    if explained is not None:
        found.append(
            Finding(
                "unexplained_images",
                "unexplained images",
                explained.count,
                "",
                f"They are a heap of their own, below a log evidence of {explained.level:.0f} nat: the map explains them hardly better than noise does.",
            )
        )
    return found


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


def refinement_warnings(finished: Finished) -> list[str]:
    """What must not be overlooked, a sentence or two each."""
    state, settings, results = finished.state, finished.settings, finished.results
    evidence, explained = finished.evidence, finished.explained
    found: list[str] = []
    if evidence is not None and not evidence.shows_signal:
        found.append(
            "The images do not show this particle: the map of the other half set explains them no better than noise does "
            f"({evidence.mean:.2f} ± {evidence.error:.2f} nat an image). "
            "What the half maps agree on, they have from the reference."
        )
    said = [(result.number, sentence) for result in results for sentence in map_warnings(result, settings)]
    found += [sentence for _, sentence in said] if len(results) == 1 else by_class(said)
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
    if explained is not None and explained.count > MANY_UNEXPLAINED * len(state.assignment):
        found.append(
            f"{explained.count:,} of {len(state.assignment):,} images are hardly better explained by the map than by noise: ice, carbon, broken particles. "
            "`vitreous classify2d` tells them without a map."
        )
    return found + pose_warnings(state) + view_warnings(finished.views)


def by_class(said: Sequence[tuple[int, str]]) -> list[str]:
    """What was said of each class (number, sentence), once for all classes of which it is the same but for the numbers in it.

    >>> by_class([(1, "FSC 0.42 at 49 Å."), (2, "No mask."), (4, "FSC 0.3 at 50 Å.")])
    ['Classes 1, 4: FSC 0.42 at 49 Å. (Numbers of class 1.)', 'Class 2: No mask.']
    """
    alike: dict[str, list[tuple[int, str]]] = {}
    for number, sentence in said:
        alike.setdefault(re.sub(r"\d[\d.]*", "#", sentence), []).append((number, sentence))
    found = []
    for group in alike.values():
        (first, sentence), numbers = group[0], ", ".join(str(number) for number, _ in group)
        differ = len({other for _, other in group}) > 1
        name = "Class" if len(group) == 1 else "Classes"
        found.append(f"{name} {numbers}: {sentence}" + (f" (Numbers of class {first}.)" if differ else ""))
    return found


def map_warnings(result: ClassResult, settings: RefineSettings) -> list[str]:
    """What is odd about the maps of one class."""
    curves, found = result.analysis.curves, list(result.analysis.mask.warnings())
    if curves.unmasked[1:].min() > IDENTICAL:
        return [*found, "The half maps are one and the same map: their FSC says nothing about resolution."]
    if result.resolution is None:
        seen = result.analysis.resolution
        found.append(
            f"No resolution: the half maps agree to {seen}, which they may have from the reference that both began with ({settings.start_resolution:g} Å). "
            "The images are noise or of another particle, or their CTFs, pixel size or symmetry are wrong: `vitreous check` on particles.star tells what can be told."
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


def pose_warnings(state: Refinement) -> list[str]:
    """What is odd about the poses: hardly known, at the edge of the search, classes run empty."""
    assignment, found = state.assignment, []
    angle = _median(assignment.angle_deviation / DEGREE)
    if angle is not None and angle > UNSURE:
        found.append(
            f"The orientations are hardly known: half of them to {angle:.0f}° at best. The images may be too noisy for the size of the particle, or not of this particle."
        )
    changed = state.steps[-1].class_change if state.steps else 0.0
    if len(state.population) > 1 and changed > MANY_CHANGING:
        found.append(
            f"{changed:.0%} of the particles changed class in the last iteration: the classes have not settled, or do not differ."
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
