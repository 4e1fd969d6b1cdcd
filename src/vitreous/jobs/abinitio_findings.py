"""The figures of a search for a map from nothing, and the warnings that go with them."""

from __future__ import annotations

from vitreous.alignment.abinitio import AbinitioSettings, Search, Start
from vitreous.alignment.start_agreement import AGREE
from vitreous.jobs.job import Finding

HEADLINE = ("score", "starts_agreeing", "best_agreement", "hand")


def abinitio_findings(
    count: int,
    used: int,
    box: int,
    pixel_size: float,
    settings: AbinitioSettings,
    search: Search,
) -> list[Finding]:
    """Every number that is printed; `count` particles in the file, `used` of them, on `box` pixels of `pixel_size` angstrom."""
    best = search.best
    return [
        Finding(
            "score",
            "score",
            best.score,
            "nat",
            f"How much better the best map explains particles that had no part in any map than noise does: their mean log evidence, ± {best.score_error:.2g}. "
            "Of images without the particle it is 0 or less.",
        ),
        Finding(
            "shows_signal",
            "better than noise",
            best.shows_signal,
            "",
            "Whether the score is above 0 by three standard errors.",
        ),
        *agreement_findings(search, settings),
        Finding(
            "best_start",
            "best start",
            best.number + 1,
            "",
            "The start whose map is map.mrc: the one with the highest score.",
        ),
        *class_findings(best),
        Finding(
            "hand",
            "hand",
            "unknown",
            "",
            "Images of untilted particles fit a map and its mirror image equally well: compare with a known structure, or see later whether helices turn to the right.",
        ),
        Finding(
            "particles", "particles", count, "", f"Images in the file; {used:,} of them, drawn at random, were used."
        ),
        Finding(
            "iterations",
            "iterations",
            settings.iterations,
            "",
            f"Of each start, on {min(settings.batch, used):,} particles at a time.",
        ),
        Finding("symmetry", "symmetry", settings.symmetry, "", "The point group that was imposed on the maps."),
        Finding(
            "end_resolution_angstrom",
            "compared to",
            settings.end_resolution,
            "Å",
            f"Finest resolution that images and maps were compared at, on {box} px of {pixel_size:.3g} Å. It is no resolution of the map: `vitreous refine` finds that.",
            1,
        ),
        Finding(
            "mask_diameter_angstrom",
            "mask diameter",
            settings.diameter,
            "Å",
            "Images are compared inside a soft disc of this diameter, maps inside such a sphere.",
            0,
        ),
    ]


def agreement_findings(search: Search, settings: AbinitioSettings) -> list[Finding]:
    """How many starts found the map of the best one."""
    agreement, finished, left = search.agreement, len(search.finished), len(search.left)
    others = [pair.correlation for pair in agreement.pairs]
    return [
        Finding(
            "starts",
            "starts",
            finished + left,
            "",
            f"Random starts that were made, of {settings.starts} at most: {finished} to the end, {left} left half-way because others of their round scored higher. "
            "No more are made once two have found one map.",
        ),
        Finding(
            "starts_agreeing",
            "starts that agree",
            len(agreement.with_best),
            f"of {finished}",
            f"Of the starts made to the end, those whose map is that of the best one, itself included: mean FSC of {AGREE:g} or more after turning, shifting and "
            "mirroring, and a score less than three standard errors below.",
        ),
        Finding(
            "best_agreement",
            "agreement",
            max(others) if others else None,
            "",
            f"Mean FSC from {settings.start_resolution:g} to {settings.end_resolution:g} Å of the best start with the one that is most like it.",
        ),
    ]


def class_findings(best: Start) -> list[Finding]:
    """The share of each of several classes."""
    if len(best.population) == 1:
        return []
    return [
        Finding(
            f"class{number}_share",
            f"class {number}",
            float(share),
            "",
            "Its share of the particles of the last subsets.",
            3,
        )
        for number, share in enumerate(best.population, start=1)
    ]


def abinitio_warnings(search: Search) -> list[str]:
    """What must not be overlooked, a sentence or two each."""
    best, found = search.best, []
    if not best.shows_signal:
        found.append(
            f"No better than noise: the best map explains particles that had no part in it by {best.score:.2f} ± {best.score_error:.2f} nat an image, "
            "and images without any particle give as much. The map is made of noise: do not refine against it. The images may hold no particle, "
            "or their CTFs, contrast or --diameter are wrong."
        )
    if len(search.finished) == 1:
        found.append(
            "There is one start only: nothing tells whether another one would have found the same map. Give --starts 4."
        )
    if search.agreement.disagree:
        closest = max(search.agreement.pairs, key=lambda pair: pair.correlation)
        behind = ", but its score lags behind" if closest.correlation >= AGREE else ""
        found.append(
            f"The starts disagree: no other of the {len(search.finished)} that were made to the end found the map of the best one (start {best.number + 1}; "
            f"mean FSC with the most similar {closest.correlation:.2f}{behind}; the same map has {AGREE:g} or more), and its hand is undetermined. "
            f"{lead(*search.finished[:2])} Give more --starts or --iterations, and look at all maps in starts/ before going on."
        )
    return found


def lead(best: Start, second: Start) -> str:
    """How far the best start leads."""
    ahead, error = best.score - second.score, best.score_error
    if ahead > 3 * error:
        return f"Its score is ahead by {ahead:.2f} nat, which speaks for it."
    return f"Its score is ahead by {ahead:.2f} nat only, less than three standard errors: it may be as wrong as the others."
