"""A reconstructed map beside the truth that its particles were made from."""

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


@dataclass(frozen=True)
class Comparison:
    """The map beside the truth, both under the map's own mask.

    `against_truth` is the FSC of the masked map with the masked truth, `half_maps` the corrected one of the half maps
    and `unmasked` theirs without a mask; `predicted` is what `half_maps` says that `against_truth` should be, `sqrt(2
    FSC / (1 + FSC))`. `correlation` is over the voxels in the mask.
    """

    map: Volume
    truth: Volume
    mask: np.ndarray
    against_truth: ShellCorrelation
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
        ]

    def table(self) -> dict[str, np.ndarray]:
        return {
            "frequency": self.against_truth.frequency,
            "against_truth": self.against_truth.correlation,
            "predicted_from_half_maps": self.predicted,
        }


def compare(folder: Path, truth_map: Path) -> Comparison:
    """Compare the map that `reconstruct` wrote into `folder` with the truth that `simulate particles` wrote."""
    whole, mask = read_volume(folder / "map.mrc"), read_volume(folder / "mask.mrc").data
    truth = read_volume(truth_map)
    against_truth = fourier_shell_correlation(whole.data * mask, truth.data * mask, whole.pixel_size)
    curves = read_star(folder / "fsc.star")["fsc"]
    unmasked = np.asarray(curves["unmasked"], dtype=np.float64)
    half_maps = np.asarray(curves["corrected"], dtype=np.float64) if "corrected" in curves else unmasked
    inside = mask > 0.5
    correlation = float(np.corrcoef(whole.data[inside], truth.data[inside])[0, 1]) if inside.any() else 0.0
    return Comparison(whole, truth, mask, against_truth, half_maps, unmasked, correlation)


def filtered_truth(comparison: Comparison) -> np.ndarray:
    """The truth with the amplitudes that are left in the Wiener-filtered map: times SNR / (1 + SNR) = 2 FSC / (1 + FSC)
    in each shell.

    The FSC is that of the half maps without a mask, from which the reconstruction knew the SNR.
    """
    gain = spread_shells(
        (reference_correlation(comparison.unmasked) ** 2).astype(np.float32), comparison.truth.data.shape
    )
    return apply_filter(comparison.truth.data, gain, 3)
