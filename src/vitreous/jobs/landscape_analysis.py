"""What `landscape analyze` computes of the latents, and the places whose maps it wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import SettingsProblem
from vitreous.geometry.rotations import matrix_from_euler, view_direction
from vitreous.heterogeneity.latent_clusters import Clusters, k_means_clusters, mixture_clusters
from vitreous.heterogeneity.latent_density import (
    Density,
    Occupancy,
    kernel_density,
    line_of,
    occupancy,
    scott_bandwidth,
)
from vitreous.heterogeneity.latent_maps import (
    UMAP_LEAST,
    PrincipalComponents,
    principal_components,
    umap_coordinates,
)
from vitreous.heterogeneity.latent_nuisance import NuisanceCorrelations, nuisance_correlations
from vitreous.heterogeneity.latent_paths import LatentPath, geodesic_path, neighbour_distance, straight_path
from vitreous.jobs.landscape_folder import Landscape
from vitreous.jobs.landscape_volumes import Place
from vitreous.jobs.refine_ctf_tables import micrographs_of
from vitreous.model.particles import Particles

if TYPE_CHECKING:
    from vitreous.jobs.analyze_landscape import AnalyzeLandscape

LINE_POINTS, PLANE_POINTS = 161, 40
DENSITY_MOST = 50_000  # particles: their error bars are small enough
COMPONENTS_SHOWN = 6
PERCENTILES = (5.0, 95.0)
NEAR_PERCENT = 99


@dataclass(frozen=True)
class LatentDensity:
    """Density and occupancy along a component, or (`points` [m, 2], row by row of a square grid) in the plane of the first two."""

    density: Density
    occupancy: Occupancy


@dataclass(frozen=True)
class Analysis:
    """All that is said of the latents. `paths` by name, `through` the rows that they visit; `near` is how far NEAR_PERCENT of
    the particles are, at most, from their nearest other."""

    components: PrincipalComponents
    umap: np.ndarray | None
    clusters: dict[str, Clusters]
    lines: tuple[LatentDensity, ...]
    plane: LatentDensity | None
    through: tuple[int, ...]
    paths: dict[str, LatentPath]
    near: float
    nuisances: NuisanceCorrelations


def analysed(landscape: Landscape, job: AnalyzeLandscape) -> Analysis:
    """Everything that needs no map."""
    mean = landscape.latents.mean.astype(np.float64)
    components = principal_components(mean)
    clusters = {
        "kmeans": k_means_clusters(mean, job.clusters, job.seed),
        "mixture": mixture_clusters(mean, job.mixture or job.clusters, job.seed),
    }
    through = path_rows(job, len(mean), clusters["kmeans"])
    paths = {}
    if through:
        paths["geodesic"] = geodesic_path(mean, through, job.frames, neighbours=job.neighbours)
        paths["straight"] = straight_path(mean, through, job.frames)
    lines, plane = densities(landscape, components)
    can_map = job.umap and mean.shape[1] >= 2 and len(mean) >= UMAP_LEAST
    return Analysis(
        components,
        umap_coordinates(mean, seed=job.seed) if can_map else None,
        clusters,
        lines,
        plane,
        through,
        paths,
        neighbour_distance(mean, NEAR_PERCENT),
        nuisances(landscape.particles, components.scores, job.seed),
    )


def path_rows(job: AnalyzeLandscape, count: int, clusters: Clusters) -> tuple[int, ...]:
    """The rows that paths visit: those asked for, else the extreme centres along the first component; none where all are one."""
    if job.through:
        return tuple(row_of(number, count, "--through") for number in job.through)
    return (int(clusters.row[0]), int(clusters.row[-1])) if len(clusters) > 1 else ()


def row_of(number: int, count: int, option: str) -> int:
    """The row of a particle number."""
    if not 1 <= number <= count:
        raise SettingsProblem(f"{option} {number}", f"a particle from 1 to {count}")
    return number - 1


def densities(
    landscape: Landscape, components: PrincipalComponents
) -> tuple[tuple[LatentDensity, ...], LatentDensity | None]:
    """Along the first two components, and in their plane."""
    latents = landscape.latents
    some = slice(None, None, -(-len(latents) // DENSITY_MOST))
    shown = components.axes[:2]
    scores = components.scores[some, : len(shown)]
    covariance = np.einsum("ai,nij,bj->nab", shown, latents.covariance[some].astype(np.float64), shown)
    lines, places = [], []
    for axis in range(len(shown)):
        own, variance = scores[:, axis : axis + 1], covariance[:, axis : axis + 1, axis : axis + 1]
        bandwidth = scott_bandwidth(own)
        ends = line_of(own[:, 0], variance[:, 0, 0], float(bandwidth[0, 0]), LINE_POINTS)
        places.append(np.linspace(ends[0], ends[-1], PLANE_POINTS))
        lines.append(density_at(own, variance, ends[:, None], bandwidth))
    if len(shown) < 2:
        return tuple(lines), None
    x, y = np.meshgrid(*places)
    grid = np.stack([x.ravel(), y.ravel()], axis=-1)
    return tuple(lines), density_at(scores, covariance, grid, scott_bandwidth(scores))


def density_at(mean: np.ndarray, covariance: np.ndarray, points: np.ndarray, bandwidth: np.ndarray) -> LatentDensity:
    found = kernel_density(mean, covariance, points, bandwidth)
    return LatentDensity(found, occupancy(mean, covariance, found, bandwidth))


def nuisances(particles: Particles, scores: np.ndarray, seed: int) -> NuisanceCorrelations:
    """Components beside how each particle was imaged, as far as the file tells; numbers that are the same for all are left out."""
    known: dict[str, np.ndarray] = {}
    view = None
    if particles.ctf is not None:
        known["defocus"] = particles.ctf.defocus
        known["astigmatism"] = np.linalg.norm(particles.ctf.astigmatism, axis=1)
    if particles.pose is not None:
        view = view_direction(matrix_from_euler(particles.pose.euler))
        known |= {f"view, {axis} of its direction": column for axis, column in zip("xyz", view.T, strict=True)}
        known |= {f"origin, {axis}": column for axis, column in zip("xy", particles.pose.shift.T, strict=True)}
    micrographs = micrographs_of(particles)
    if micrographs is not None:
        known["micrograph, in order of names"] = micrographs.index.astype(np.float64)
    varied = {name: values for name, values in known.items() if np.ptp(values) > 0}
    return nuisance_correlations(scores[:, :COMPONENTS_SHOWN], varied, view, seed=seed)


def places_of(landscape: Landscape, job: AnalyzeLandscape, analysis: Analysis) -> list[Place]:
    """Where maps are wanted: centres, chosen particles, percentiles of components, paths."""
    mean, components = landscape.latents.mean, analysis.components
    places = []
    for kind, name in (("kmeans", "k-means centre"), ("mixture", "mixture centre")):
        rows = analysis.clusters[kind].row
        places += [Place(kind, number, f"{name} {number}", mean[row]) for number, row in enumerate(rows, start=1)]
    rows = [row_of(number, len(mean), "--at") for number in job.at]
    places += [Place("particle", row + 1, f"particle {row + 1}", mean[row]) for row in rows]
    percentiles = np.linspace(*PERCENTILES, job.steps)
    for axis in range(min(job.components, mean.shape[1])):
        scores = np.zeros((job.steps, axis + 1))
        scores[:, axis] = np.percentile(components.scores[:, axis], percentiles)
        for number, (latent, percent) in enumerate(zip(components.latents(scores), percentiles, strict=True), start=1):
            label = f"component {axis + 1}, {percent:.3g} % percentile"
            places.append(Place(f"component{axis + 1}", number, label, latent))
    for name, path in analysis.paths.items():
        places += [Place(name, n, f"{name} path, frame {n}", point) for n, point in enumerate(path.points, start=1)]
    return places
