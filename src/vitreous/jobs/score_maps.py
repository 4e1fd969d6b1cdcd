"""The maps of methods beside the true ones: for single images, for whole conformations, and for a map that has learned nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vitreous.engine.local import Progress
from vitreous.heterogeneity.map_scores import MapComparison, MapGrid, fsc_area
from vitreous.io.ensemble_truth import EnsembleTruth
from vitreous.io.mrc import read_volume
from vitreous.jobs.scored_methods import Maps
from vitreous.model.volume import Volume
from vitreous.reconstruction.fsc import Resolution
from vitreous.reconstruction.map_alignment import Placement, align_maps, place
from vitreous.reconstruction.mask import Mask, automatic_mask, mask_from_values

ALIGNED_SHELLS = 20  # that maps are laid over each other by: three angles and a shift need no more
ALIGNED_RADIUS = 0.85  # of half the box


@dataclass(frozen=True)
class ChosenImages:
    """The images of one conformation that are scored: their rows in the latents and in the truth, and the row of the latents for the conformation."""

    conformation: int
    rows: np.ndarray
    true_rows: np.ndarray
    central: int


@dataclass(frozen=True)
class TrueMaps:
    """The true maps on the grid of the comparison, read when asked for."""

    paths: tuple[Path, ...]
    grid: MapGrid

    def read(self, conformation: int) -> np.ndarray:
        return self.grid.resampled(read_volume(self.paths[conformation]))

    def mean_and_extent(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The weighted mean of all maps, which a homogeneous reconstruction from endless data would give, and their largest value in each voxel."""
        mean, extent = np.zeros((self.grid.box,) * 3), np.full((self.grid.box,) * 3, -np.inf, dtype=np.float32)
        for conformation in np.flatnonzero(weights):
            volume = self.read(int(conformation))
            mean += volume * (weights[conformation] / weights.sum())
            np.maximum(extent, volume, out=extent)
        return mean.astype(np.float32), extent


@dataclass
class MapScores:
    """Curves and areas of one method, in the order of its chosen images and conformations. Empty where the method gives no maps for them.

    `image_curves` [m, s] of m images with the true map of their conformation. Of each of c conformations: `conformation_curves` [c, s] of the map at the
    latent in its middle with its true map, and `resolutions` [c]; `mean_curves` [c, s] of the mean of all true maps, `consensus_curves` [c, s] of the
    method's own map of all particles, with the same; and how many chosen images it has, `counts` [c].
    """

    image_curves: list[np.ndarray] = field(default_factory=list)
    mean_curves: list[np.ndarray] = field(default_factory=list)
    consensus_curves: list[np.ndarray] = field(default_factory=list)
    conformation_curves: list[np.ndarray] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    resolutions: list[Resolution] = field(default_factory=list)
    placement: Placement | None = None

    @property
    def image_areas(self) -> np.ndarray:
        return _areas(self.image_curves)

    @property
    def conformation_areas(self) -> np.ndarray:
        return _areas(self.conformation_curves)

    @property
    def mean_areas(self) -> np.ndarray:
        """Of each conformation."""
        return _areas(self.mean_curves)

    @property
    def consensus_areas(self) -> np.ndarray:
        """Of each conformation."""
        return _areas(self.consensus_curves)

    def of_images(self, values: np.ndarray | list[np.ndarray]) -> np.ndarray:
        """Values of the conformations, each repeated for its chosen images."""
        return np.repeat(values, self.counts, axis=0)


def _areas(curves: list[np.ndarray]) -> np.ndarray:
    return fsc_area(np.stack(curves)) if curves else np.zeros(0)


@dataclass(frozen=True)
class MapReader:
    """The maps of one method on the grid of the comparison, laid over the truth if they were aligned; `chosen` of its images."""

    maps: Maps
    chosen: list[ChosenImages]
    grid: MapGrid
    has_images: bool = True
    placement: Placement | None = None

    def image(self, number: int, row: int) -> np.ndarray:
        return self.laid(self.maps.of_image(number, row))

    def conformation(self, number: int, row: int) -> np.ndarray:
        return self.laid(self.maps.of_conformation(number, row))

    def mean(self) -> np.ndarray:
        """Of the maps of all conformations."""
        total = np.zeros((self.grid.box,) * 3, dtype=np.float32)
        for number, one in enumerate(self.chosen):
            total += self.conformation(number, one.central)
        return total / len(self.chosen)

    def laid(self, volume: Volume) -> np.ndarray:
        data = self.grid.resampled(volume)
        return data if self.placement is None else place(data, self.placement)


def comparison_of(true: TrueMaps, extent: np.ndarray, given: Path | None) -> tuple[MapComparison, Mask]:
    """Comparison in a given mask, or in one around all true maps."""
    if given is None:
        mask = automatic_mask(extent, true.grid.pixel_size)
        if mask.empty:
            mask = mask_from_values(np.ones_like(extent))
    else:
        volume = read_volume(given)
        values = volume.data if true.grid.fits(volume) else np.clip(true.grid.resampled(volume), 0, 1)
        mask = mask_from_values(values)
    return MapComparison(true.grid, mask.values), mask


def placement_over(fixed: np.ndarray, reader: MapReader) -> Placement:
    """How the maps of a method are laid over the truth: all of them as their mean over that of the truth; both hands are tried."""
    half = fixed.shape[0] // 2
    return align_maps(reader.mean(), fixed, shells=min(ALIGNED_SHELLS, half - 2), radius=ALIGNED_RADIUS * half)


def score_maps(
    true: TrueMaps,
    comparison: MapComparison,
    mean: np.ndarray,
    reader: MapReader,
    consensus: Path | None,
    progress: Progress,
) -> MapScores:
    """All maps of one method beside the true ones; one true map is in memory at a time."""
    scores = MapScores(placement=reader.placement)
    total, number = sum(len(one.rows) + 1 for one in reader.chosen), 0
    mean_transform = comparison.transform(mean)
    own = None if consensus is None else comparison.transform(reader.laid(read_volume(consensus)))
    done = 0
    for place_number, one in enumerate(reader.chosen):
        truth = comparison.transform(true.read(one.conformation))
        for row in one.rows.tolist() if reader.has_images else []:
            found = comparison.transform(reader.image(number, row))
            scores.image_curves.append(comparison.correlation(found, truth))
            number += 1
            progress(done := done + 1, total)
        baseline = comparison.correlation(mean_transform, truth)
        scores.mean_curves.append(baseline)
        if own is not None:
            scores.consensus_curves.append(comparison.correlation(own, truth))
        scores.counts.append(len(one.rows))
        found = comparison.transform(reader.conformation(place_number, one.central))
        curve = comparison.correlation(found, truth)
        scores.conformation_curves.append(curve)
        scores.resolutions.append(comparison.resolution(curve))
        progress(done := done + 1, total)
    progress(total, total)
    return scores


def weights_of(truth: EnsembleTruth) -> np.ndarray:
    """How many particles each conformation has."""
    return np.bincount(truth.index, minlength=len(truth)).astype(np.float64)
