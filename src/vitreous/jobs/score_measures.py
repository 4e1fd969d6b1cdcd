"""The measures of a landscape by name: what each says, what a method that has learned nothing gets, and the best there can be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitreous.heterogeneity.latent_correlation import Estimate
from vitreous.jobs.score_latents import LatentScores
from vitreous.jobs.score_maps import ChosenImages, MapScores
from vitreous.jobs.scored_methods import Method

NEAR = 0.05  # of the particles: the neighbourhood of which one number is given


@dataclass(frozen=True)
class Measure:
    """One figure of one method: a number or an Estimate with its interval, None if it could not be had. `chance` is what a method that has learned
    nothing gets on the same particles, `best` what the truth itself gets."""

    key: str
    label: str
    value: float | Estimate | None
    chance: float | None
    best: float | None
    meaning: str
    unit: str = ""
    digits: int = 3
    deviation: float | None = None  # between the images or conformations that the value is the mean of

    @property
    def number(self) -> float | None:
        return self.value.value if isinstance(self.value, Estimate) else self.value

    @property
    def text(self) -> str:
        """The value, with its interval or deviation."""
        if self.value is None:
            return "–"
        unit = f" {self.unit}" if self.unit else ""
        if isinstance(self.value, Estimate):
            low, value, high = (f"{v:.{self.digits}f}" for v in (self.value.low, self.value.value, self.value.high))
            return f"{value} ({low} to {high}){unit}"
        spread = "" if self.deviation is None else f" ± {self.deviation:.{self.digits}f}"
        return f"{self.value:.{self.digits}f}{spread}{unit}"


@dataclass(frozen=True)
class ScoredMethod:
    """A method with everything that was found out about it. `rows` of its latents are the particles `true_rows` of the truth; `chosen` of them had their maps
    compared, `maps` are the scores of these, None without maps."""

    method: Method
    name: str
    rows: np.ndarray
    true_rows: np.ndarray
    chosen: list[ChosenImages]
    latents: LatentScores
    maps: MapScores | None

    def measures(self) -> list[Measure]:
        return [*_map_measures(self.maps), *_latent_measures(self.latents)]

    def as_json(self) -> dict[str, Any]:
        """Everything, for result.json."""
        measures = self.measures()
        found: dict[str, Any] = {"kind": self.method.kind, "particles": len(self.rows)}
        found["latent_dimensions"] = self.method.latents.shape[1]
        found |= {one.key: one.number for one in measures}
        found |= {f"{one.key}_std": one.deviation for one in measures if one.deviation is not None}
        found["intervals"] = {
            one.key: [one.value.low, one.value.high] for one in measures if isinstance(one.value, Estimate)
        }
        found["chance"] = {one.key: one.chance for one in measures}
        found["best"] = {one.key: one.best for one in measures}
        found["neighbourhoods"] = {
            "neighbours": self.latents.similarity.count,
            "similarity": self.latents.similarity.similarity,
            "expected_of_random": self.latents.similarity.expected,
            "particles": self.latents.used,
        }
        if self.latents.coordinate is not None:
            found["best_coordinate"] = self.latents.coordinate + 1
        if self.latents.groups is not None:
            found |= {"groups": self.latents.groups, "grouped_by": self.latents.grouped_by}
        if self.maps is not None:
            found |= _curves(self.maps, self.chosen)
        return found


def _curves(maps: MapScores, chosen: list[ChosenImages]) -> dict[str, Any]:
    return {
        "images": {
            "row": np.concatenate([one.true_rows for one in chosen]) + 1,
            "conformation": np.repeat([one.conformation + 1 for one in chosen], [len(one.rows) for one in chosen]),
            "fsc_auc": maps.image_areas,
            "homogeneous_fsc_auc": maps.of_images(maps.mean_areas),
        },
        "conformations": {
            "conformation": [one.conformation + 1 for one in chosen],
            "fsc_auc": maps.conformation_areas,
            "homogeneous_fsc_auc": maps.mean_areas,
            "resolution_angstrom": [one.value for one in maps.resolutions],
            "fsc": np.stack(maps.conformation_curves).round(5),
        },
    }


def _map_measures(maps: MapScores | None) -> Iterator[Measure]:
    if maps is None:
        return
    chance = float(maps.of_images(maps.mean_areas).mean())
    if maps.image_curves:
        areas = maps.image_areas
        yield Measure(
            "image_fsc_auc",
            "per-image FSC AUC",
            float(areas.mean()),
            chance,
            1.0,
            f"Area under the FSC of the map at an image's latent with the true map of that image, mean and standard deviation over {len(areas):,} images: 1 is "
            "perfect. With nothing learned: the mean of all true maps, a perfect homogeneous reconstruction.",
            deviation=float(areas.std()),
        )
        yield Measure(
            "image_fsc_gain",
            "gain over one map for all",
            float((areas.mean() - chance) / (1 - chance)) if chance < 1 else None,
            0.0,
            1.0,
            "The same on a scale from the mean of all true maps (0) to the true maps (1); below 0 the maps are worse than one map for all.",
        )
    if maps.consensus_curves:
        yield Measure(
            "consensus_fsc_auc",
            "AUC of its consensus",
            float(maps.of_images(maps.consensus_areas).mean()),
            chance,
            1.0,
            "The same for the method's own map of all particles: what it had before it learned.",
        )
    yield Measure(
        "conformation_fsc_auc",
        "per-conformation FSC AUC",
        float(maps.conformation_areas.mean()),
        float(maps.mean_areas.mean()),
        1.0,
        "Area under the FSC of the map at the latent in the middle of each conformation with its true map, mean and standard deviation over "
        f"{len(maps.counts):,} conformations.",
        deviation=float(maps.conformation_areas.std()),
    )
    resolutions = [one.value for one in maps.resolutions if one.value is not None]
    yield Measure(
        "conformation_resolution_angstrom",
        "per-conformation resolution",
        float(np.median(resolutions)) if len(resolutions) == len(maps.resolutions) else None,
        None,
        None,
        "Where the FSC of these maps with the truth falls below 0.5, the median; none if some of them never reach it.",
        "Å",
        2,
    )


def _latent_measures(latents: LatentScores) -> Iterator[Measure]:
    similarity = latents.similarity
    near = int(np.abs(similarity.count - NEAR * latents.used).argmin())
    yield Measure(
        "imbalance_latent_to_truth",
        "imbalance, latent to truth",
        latents.latent_to_truth,
        1.0,
        latents.least_imbalance,
        "Information imbalance: twice the mean rank, by the truth, of the nearest neighbour by latent, over the number of particles. Small if latents "
        "foretell the truth.",
    )
    yield Measure(
        "imbalance_truth_to_latent",
        "imbalance, truth to latent",
        latents.truth_to_latent,
        1.0,
        latents.least_imbalance,
        "The other way round. Large while the first is small: the latents hold the truth and other things too (poses, noise).",
    )
    yield Measure(
        "neighbourhood_similarity",
        f"shared of {similarity.count[near]:,} neighbours",
        float(similarity.similarity[near]),
        float(similarity.expected[near]),
        1.0,
        f"Neighbourhood similarity: the part of the nearest {similarity.count[near] / latents.used:.0%} by latent that are among the nearest by truth.",
    )
    found = (
        (
            latents.component_correlation,
            "spearman_first_component",
            "|Spearman|, first component",
            "Rank correlation of the direction in which the latents spread most with the true coordinate; its sign is chance.",
        ),
        (
            latents.coordinate_correlation,
            "spearman_best_coordinate",
            "|Spearman|, best coordinate",
            f"Of the single coordinate of the latent that correlates best, number {(latents.coordinate or 0) + 1}: the best of several, so never quite 0.",
        ),
        (
            latents.explained,
            "explained_variance",
            "variance explained",
            "R² of the true coordinate as the mean of those of the 20 nearest latents of other particles (5-fold cross-validation): all the latents hold, "
            "in whatever direction.",
        ),
        (
            latents.rand_index,
            "adjusted_rand_index",
            "adjusted Rand index",
            f"Agreement of {latents.groups} groups of latents ({latents.grouped_by}) with the species: pairs that are together in both.",
        ),
        (
            latents.mutual_information,
            "mutual_information",
            "mutual information",
            "What the group tells of the species, from 0 to 1 (normalised by the mean of the entropies).",
        ),
    )
    for value, key, label, meaning in found:
        if value is not None:
            yield Measure(key, label, value, 0.0, 1.0, meaning)
