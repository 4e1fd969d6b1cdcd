"""The files that `landscape score` writes beside its report: a row for each image, each conformation, each frequency and each neighbourhood."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitreous.heterogeneity.map_scores import MapGrid
from vitreous.io.ensemble_truth import EnsembleTruth
from vitreous.io.star import StarFile, write_star
from vitreous.jobs.score_measures import ScoredMethod
from vitreous.model.particles import ImageName
from vitreous.model.table import Table

SCORES = "scores.star"
LATENTS_TO_DECODE = "latents.txt"


def write_tables(
    folder: Path, scored: list[ScoredMethod], truth: EnsembleTruth, images: ImageName, grid: MapGrid
) -> None:
    """Write scores.star: blocks `images`, `conformations`, `fsc` (mean over the images) and `neighbourhoods`, with a column that names the method."""
    blocks = {
        "images": [image_rows(one, truth, images) for one in scored],
        "conformations": [conformation_rows(one, truth) for one in scored],
        "fsc": [curve_rows(one, grid) for one in scored],
        "neighbourhoods": [neighbourhood_rows(one) for one in scored],
    }
    tables = {name: joined(parts) for name, parts in blocks.items()}
    write_star(folder / SCORES, StarFile({name: table for name, table in tables.items() if len(table)}))


def image_rows(one: ScoredMethod, truth: EnsembleTruth, images: ImageName) -> dict[str, np.ndarray]:
    """The chosen images and, where there are maps, their areas."""
    rows = np.concatenate([chosen.true_rows for chosen in one.chosen])
    areas = np.full(len(rows), np.nan) if one.maps is None or not one.maps.image_curves else one.maps.image_areas
    mean = np.full(len(rows), np.nan) if one.maps is None else one.maps.of_images(one.maps.mean_areas)
    return {
        "vitreousMethod": _same(one.name, len(rows)),
        "rlnImageName": np.array([images.text(row) for row in rows.tolist()], dtype=object),
        "vitreousConformation": truth.index[rows] + 1,
        "vitreousConformationValue": truth.values[truth.index[rows]].astype(np.float64),
        "vitreousFscArea": areas,
        "vitreousHomogeneousFscArea": mean,
    }


def conformation_rows(one: ScoredMethod, truth: EnsembleTruth) -> dict[str, np.ndarray]:
    """The conformations with the areas and resolutions of their maps."""
    if one.maps is None:
        return {}
    index = np.array([chosen.conformation for chosen in one.chosen])
    return {
        "vitreousMethod": _same(one.name, len(index)),
        "vitreousConformation": index + 1,
        "vitreousConformationValue": truth.values[index].astype(np.float64),
        "vitreousFscArea": one.maps.conformation_areas,
        "vitreousResolution": np.array([np.nan if r.value is None else r.value for r in one.maps.resolutions]),
    }


def curve_rows(one: ScoredMethod, grid: MapGrid) -> dict[str, np.ndarray]:
    """Mean and standard deviation of the curves over images (over conformations, without maps of images), and that of the mean of all true maps."""
    if one.maps is None:
        return {}
    curves = np.stack(one.maps.image_curves or one.maps.conformation_curves)
    return {
        "vitreousMethod": _same(one.name, curves.shape[1]),
        "rlnResolution": grid.frequency,
        "vitreousFsc": curves.mean(axis=0),
        "vitreousFscDeviation": curves.std(axis=0),
        "vitreousHomogeneousFsc": one.maps.of_images(one.maps.mean_curves).mean(axis=0),
    }


def neighbourhood_rows(one: ScoredMethod) -> dict[str, np.ndarray]:
    found = one.latents.similarity
    return {
        "vitreousMethod": _same(one.name, len(found.count)),
        "vitreousNeighbours": found.count,
        "vitreousSimilarity": found.similarity,
        "vitreousExpectedSimilarity": found.expected,
    }


def latents_to_decode(folder: Path, one: ScoredMethod, *, alone: bool) -> None:
    """Write the latents whose maps are wanted, one a line: those of the chosen images, then those of the conformations."""
    rows = np.concatenate([*(chosen.rows for chosen in one.chosen), [chosen.central for chosen in one.chosen]])
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in one.name)
    np.savetxt(
        folder / (LATENTS_TO_DECODE if alone else f"{safe}_{LATENTS_TO_DECODE}"), one.method.latents[rows], fmt="%.9g"
    )


def joined(parts: list[dict[str, np.ndarray]]) -> Table:
    """One table of several, one below the other; those without columns left out."""
    kept = [part for part in parts if part]
    if not kept:
        return Table()
    return Table({name: np.concatenate([part[name] for part in kept]) for name in kept[0]})


def _same(text: str, count: int) -> np.ndarray:
    return np.array([text] * count, dtype=object)
