"""A refined map beside the truth that its particles were made from: turned, moved and, if need be, mirrored until they lie over each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.fourier.filters import apply_filter
from vitreous.fourier.shells import spread_shells
from vitreous.io.mrc import read_volume
from vitreous.io.star import read_star
from vitreous.jobs.job import Finding
from vitreous.model.volume import Volume
from vitreous.reconstruction.fsc import (
    HALF_MAPS,
    MODEL,
    ShellCorrelation,
    fourier_shell_correlation,
    reference_correlation,
    resolution_at,
)
from vitreous.reconstruction.map_alignment import Placement, align_maps, mirror, place
from vitreous.reconstruction.map_resampling import resampled_map

LEAST_SHELLS, SHELLS = 4, 20  # that maps are laid over each other by: three angles and a shift need no more
RADIUS = 0.85  # of half the box: the sphere that they are compared in


@dataclass(frozen=True)
class Comparison:
    """The map beside the truth, both under the map's own mask.

    `map` is the refined one in the hand of the truth (`mirrored`: it was refined as the mirror image), `truth` on its grid, laid over it by `placement`.
    `against_truth` is the FSC of the masked map with the masked truth, `other_hand` that of its mirror image with the truth laid over that as well as it can be;
    `half_maps` the corrected one of the half maps and `unmasked` theirs without a mask; `predicted` is what `half_maps` says that
    `against_truth` should be, `sqrt(2 FSC / (1 + FSC))`. `correlation` is over the voxels in the mask.
    """

    map: Volume
    truth: Volume
    mask: np.ndarray
    placement: Placement
    mirrored: bool
    against_truth: ShellCorrelation
    other_hand: ShellCorrelation
    half_maps: np.ndarray
    unmasked: np.ndarray
    correlation: float

    @property
    def predicted(self) -> np.ndarray:
        return reference_correlation(self.half_maps)

    @property
    def resolution(self) -> float | None:
        """By the half maps alone, as with real data: FSC 0.143."""
        return resolution_at(self.half_maps, HALF_MAPS, self.against_truth.frequency).value

    @property
    def true_resolution(self) -> float | None:
        """By comparison with the truth: FSC 0.5, the same criterion."""
        return self.against_truth.resolution(MODEL).value

    @property
    def hand(self) -> str:
        return "mirror image" if self.mirrored else "right"

    def findings(self) -> list[Finding]:
        return [
            Finding(
                "resolution_against_truth_angstrom",
                "against the truth",
                self.true_resolution,
                "Å",
                "Where the map's FSC with the truth falls below 0.5: how good the map really is.",
            ),
            Finding(
                "correlation_with_truth",
                "correlation",
                self.correlation,
                "",
                "Correlation of map and truth over the voxels of the mask; 1 would be a perfect copy.",
                3,
            ),
            Finding(
                "hand",
                "hand found",
                self.hand,
                "",
                "Images alone do not tell a particle from its mirror image: chance decides. The maps at the top of the folder are in the right hand.",
            ),
            Finding(
                "resolution_of_other_hand_angstrom",
                "in the other hand",
                self.other_hand.resolution(MODEL).value,
                "Å",
                "FSC of 0.5 with the truth for the mirror image of the map, laid over the truth as well as it can be.",
            ),
        ]

    def table(self) -> dict[str, np.ndarray]:
        return {
            "frequency": self.against_truth.frequency,
            "against_truth": self.against_truth.correlation,
            "other_hand_against_truth": self.other_hand.correlation,
            "predicted_from_half_maps": self.predicted,
        }


def compare(refined: Path, truth_map: Path) -> Comparison:
    """Compare the map that `refine` wrote into the folder `refined` with the truth that `simulate micrograph` wrote. Both hands are tried."""
    given, mask = read_volume(refined / "map.mrc"), read_volume(refined / "mask.mrc").data
    size = given.pixel_size
    true = read_volume(truth_map)
    truth = resampled_map(true.data, true.pixel_size, given.box, size).astype(np.float32)
    curves = read_star(refined / "fsc.star")["fsc"]
    unmasked = np.asarray(curves["unmasked"], dtype=np.float64)
    half_maps = np.asarray(curves["corrected"], dtype=np.float64) if "corrected" in curves else unmasked
    shells = shells_compared(half_maps)
    as_found = Overlay.of(given.data, mask, truth, size, shells)
    as_mirrored = Overlay.of(mirror(given.data), mirror(mask), truth, size, shells)
    mirrored = as_mirrored.placement.score > as_found.placement.score
    best, other = (as_mirrored, as_found) if mirrored else (as_found, as_mirrored)
    inside = best.mask > 0.5
    correlation = float(np.corrcoef(best.map[inside], best.truth[inside])[0, 1]) if inside.any() else 0.0
    return Comparison(
        Volume(best.map, size),
        Volume(best.truth, size),
        best.mask,
        best.placement,
        mirrored,
        best.curve,
        other.curve,
        half_maps,
        unmasked,
        correlation,
    )


@dataclass(frozen=True)
class Overlay:
    """A map in one hand, its mask, the truth laid over it, and their FSC in the mask."""

    map: np.ndarray
    mask: np.ndarray
    truth: np.ndarray
    placement: Placement
    curve: ShellCorrelation

    @staticmethod
    def of(volume: np.ndarray, mask: np.ndarray, truth: np.ndarray, pixel_size: float, shells: int) -> Overlay:
        radius = RADIUS * volume.shape[0] / 2
        placement = align_maps(truth, volume, shells=shells, radius=radius, hands=(False,))
        laid = place(truth, placement)
        curve = fourier_shell_correlation(volume * mask, laid * mask, pixel_size)
        return Overlay(np.ascontiguousarray(volume), mask, laid, placement, curve)


def shells_compared(half_maps: np.ndarray) -> int:
    """Up to which shell maps are laid over each other: as far as the half maps agree, but at most `SHELLS`, and never less than the search needs."""
    below = np.flatnonzero(half_maps[1:] < HALF_MAPS)
    last = int(below[0]) if len(below) else len(half_maps) - 2
    return max(LEAST_SHELLS, min(last, SHELLS))


def filtered_truth(comparison: Comparison) -> np.ndarray:
    """The truth with the amplitudes that are left in the Wiener-filtered map: times SNR / (1 + SNR) = 2 FSC / (1 + FSC)
    in each shell.

    The FSC is that of the half maps without a mask, from which the reconstruction knew the SNR.
    """
    gain = spread_shells(
        (reference_correlation(comparison.unmasked) ** 2).astype(np.float32), comparison.truth.data.shape
    )
    return apply_filter(comparison.truth.data, gain, 3)
