"""How well maps agree: half maps with each other, a map with the truth, whatever frame and hand it is in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.io.mrc import read_volume
from vitreous.model.volume import Volume
from vitreous.reconstruction.fsc import MODEL, ShellCorrelation, fourier_shell_correlation
from vitreous.reconstruction.map_alignment import EDGE, Placement, align_maps, place
from vitreous.reconstruction.mask import spherical_mask

ALIGN_TO = 12.0  # angstrom: detail that decides the hand of a map that has it; at least two pixels


@dataclass(frozen=True)
class Agreement:
    """FSC of two maps at some resolutions, and the resolution at FSC 0.5 (None: below from the first shell; `limited` by "nyquist" where it never falls so low)."""

    fsc: dict[float, float]
    resolution: float | None
    limited: str
    mirrored: bool = False
    turned_deg: float = 0.0

    @property
    def text(self) -> str:
        """The resolution in words, and whether the other hand fitted."""
        value = "none" if self.resolution is None else f"{self.resolution:.2f} A"
        value += " (Nyquist)" if self.limited == "nyquist" else ""
        return value + (" (mirror image)" if self.mirrored else "")


def sphere_correlation(first: Volume, second: Volume, radius: float) -> ShellCorrelation:
    """FSC inside a soft sphere of `radius` pixels, which is nobody's own mask."""
    mask = spherical_mask(first.box, radius, EDGE).values
    return fourier_shell_correlation(first.data * mask, second.data * mask, first.pixel_size)


def half_map_correlations(half_maps: Sequence[Path], radius: float, resolutions: Sequence[float]) -> list[float]:
    """FSC of two half maps inside the sphere at these resolutions."""
    curve = sphere_correlation(*(read_volume(path) for path in half_maps), radius)
    return [curve.at(resolution) for resolution in resolutions]


def agreement(found: Volume, truth: Volume, radius: float, resolutions: Sequence[float]) -> Agreement:
    """A map against another one after it has been laid over it: any rotation, shift and hand. The scale has no say."""
    shells = int(truth.box * truth.pixel_size / max(ALIGN_TO, 2.5 * truth.pixel_size))
    placement = align_maps(found.data, truth.data, shells=shells, radius=radius)
    return placed_agreement(found, truth, placement, radius, resolutions)


def placed_agreement(
    found: Volume, truth: Volume, placement: Placement, radius: float, resolutions: Sequence[float]
) -> Agreement:
    """The agreement of a map laid over another as `placement` says."""
    moved = Volume(place(found.data, placement), truth.pixel_size)
    curve = sphere_correlation(moved, truth, radius)
    end = curve.resolution(MODEL)
    turned = np.degrees(np.arccos(np.clip((np.trace(placement.rotation) - 1) / 2, -1, 1)))
    return Agreement(
        {r: curve.at(r) for r in resolutions}, end.value, end.limited_by, placement.mirrored, float(turned)
    )


def mean_beyond(curve: ShellCorrelation, resolution: float) -> float:
    """The mean FSC of all shells finer than a resolution in angstrom."""
    return float(curve.correlation[curve.frequency > 1 / resolution].mean())


def mean_up_to(curve: ShellCorrelation, resolution: float) -> float:
    """The mean FSC of the shells up to a resolution in angstrom, the mean value left out."""
    inside = (curve.frequency <= 1 / resolution) & (np.arange(len(curve.frequency)) > 0)
    return float(curve.correlation[inside].mean())
