"""latents.star: a row for each particle of a landscape, in the order of its particles.star, with all that `landscape analyze` says of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.errors import DataProblem, FileProblem
from vitreous.heterogeneity.latent_clusters import Clusters
from vitreous.heterogeneity.latents import Latents
from vitreous.io.relion_optics import numbers
from vitreous.io.star import read_star, write_star
from vitreous.jobs.job import Finding
from vitreous.model.particles import ImageName
from vitreous.model.table import Table, TextColumn

FILE, BLOCK = "latents.star", "latents"
PARTICLE, IMAGE = "vitreousParticle", "rlnImageName"
LATENT, DEVIATION, COMPONENT, UMAP = "vitreousLatent", "vitreousLatentError", "vitreousComponent", "vitreousUmap"
K_MEANS, MIXTURE = "vitreousCluster", "vitreousMixture"
CLUSTERINGS = {"kmeans": K_MEANS, "mixture": MIXTURE}


@dataclass(frozen=True)
class LatentTable:
    """What an analysis says of each particle: the labels of each clustering, from 1, and `umap` [n, 2] if it made one."""

    labels: dict[str, np.ndarray]
    umap: np.ndarray | None


def latent_finding(dimensions: int) -> Finding:
    """How long the latent is, as reports say it."""
    unit = "number" if dimensions == 1 else "numbers"
    return Finding("latent", "latent", dimensions, unit, "How many numbers tell particles apart.")


def latent_columns(latents: Latents) -> dict[str, np.ndarray]:
    """vitreousLatent1 ... of each particle."""
    return numbered(LATENT, latents.mean)


def numbered(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of an array as `name1`, `name2`, ...; float32 with the digits that tell it from its neighbours."""
    columns = np.asarray(values, dtype=np.float32).astype(str).astype(np.float64)
    return {f"{name}{number}": column for number, column in enumerate(columns.T, start=1)}


def write_latent_table(
    path: Path,
    names: ImageName,
    latents: Latents,
    scores: np.ndarray,
    umap: np.ndarray | None,
    clusters: dict[str, Clusters],
) -> None:
    """Write the table: particle, image, latent with its standard deviation, principal components, UMAP, clusters."""
    columns: dict = {PARTICLE: np.arange(1, len(names) + 1)}
    columns[IMAGE] = TextColumn(names.path_code, names.paths, names.index + 1, np.full(len(names), 6, dtype=np.int8))
    columns |= latent_columns(latents) | numbered(DEVIATION, latents.deviation) | numbered(COMPONENT, scores)
    if umap is not None:
        columns |= numbered(UMAP, umap)
    columns |= {CLUSTERINGS[kind]: found.label + 1 for kind, found in clusters.items()}
    write_star(path, {BLOCK: Table(columns)})


def read_latent_table(folder: Path, latents: Latents) -> LatentTable:
    """What the analysis in `folder` says of the particles with these latents.

    FileProblem if it holds none, DataProblem if it is that of another landscape.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileProblem(f"{folder} holds no {FILE}", "the folder of a finished `vitreous landscape analyze`")
    star = read_star(path)
    table = star.get(BLOCK)
    names = [f"{LATENT}{number}" for number in range(1, latents.dimensions + 1)]
    if not isinstance(table, Table) or any(name not in table for name in (*names, *CLUSTERINGS.values())):
        raise DataProblem(
            f"{path} is not a table of latents", "what `vitreous landscape analyze` wrote of this landscape"
        )
    same = len(table) == len(latents) and np.allclose(
        np.stack([numbers(table, name) for name in names], axis=1), latents.mean, rtol=1e-5, atol=1e-6
    )
    if not same:
        raise DataProblem(
            f"{path} has the latents of another landscape",
            "an analysis of this one",
            "run `vitreous landscape analyze`",
        )
    labels = {kind: numbers(table, name).astype(np.int64) for kind, name in CLUSTERINGS.items()}
    has_map = all(f"{UMAP}{axis}" in table for axis in (1, 2))
    umap = np.stack([numbers(table, f"{UMAP}{axis}") for axis in (1, 2)], axis=1) if has_map else None
    return LatentTable(labels, umap)
