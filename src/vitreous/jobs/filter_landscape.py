"""The job `landscape filter`: the particles of a part of a landscape."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.heterogeneity.latent_maps import principal_components
from vitreous.heterogeneity.latents import Latents
from vitreous.heterogeneity.polygon import inside_polygon
from vitreous.io.particles import write_particles
from vitreous.jobs.analyze_landscape import usable_landscape
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.landscape_folder import PARTICLES, Landscape
from vitreous.jobs.latent_table import FILE, LATENT, LatentTable, latent_columns, read_latent_table
from vitreous.jobs.ranges import refuse_numbers
from vitreous.jobs.report import Section
from vitreous.jobs.stack_names import lasting_names
from vitreous.model.particles import Particles

Plane = Literal["pca", "umap", "latent"]


@dataclass(frozen=True)
class FilterLandscape:
    """Settings of a choice of particles by where they lie. One way of choosing at a time: --cluster, --polygon or --range.

    Parameters
    ----------
    landscape
        Folder of a finished `vitreous landscape train`.
    cluster
        Numbers of the clusters to keep, as the report of --analysis has them.
    clustering
        Whose clusters: kmeans or mixture (Gaussians).
    analysis
        Folder of a finished `vitreous landscape analyze` of this landscape: its clusters and its UMAP.
    polygon
        Corners of a polygon to keep, x1 y1 x2 y2 ..., in the plane of --plane.
    plane
        Plane of the polygon: pca (first two principal components), latent (its first two numbers), or umap.
    range
        Keep what lies between two values of one number of the latent: which number, from, to.
    invert
        Keep all the others instead.
    format
        Write particles.star alone (star), or particles.cs for cryoSPARC beside it (cs).
    """

    landscape: Path
    cluster: tuple[int, ...] = field(default=(), kw_only=True)
    clustering: Literal["kmeans", "mixture"] = field(default="kmeans", kw_only=True)
    analysis: Path | None = field(default=None, kw_only=True)
    polygon: tuple[float, ...] = field(default=(), kw_only=True)
    plane: Plane = field(default="pca", kw_only=True)
    range: tuple[int, float, float] | None = field(default=None, kw_only=True)
    invert: bool = field(default=False, kw_only=True)
    format: Literal["star", "cs"] = field(default="star", kw_only=True)

    name: ClassVar[str] = "landscape filter"

    def __post_init__(self) -> None:
        ways = [name for name in ("cluster", "polygon", "range") if getattr(self, name)]
        if len(ways) != 1:
            given = " and ".join(f"--{way}" for way in ways) or "no way of choosing"
            raise SettingsProblem(given, "one of --cluster, --polygon and --range", "filter the result again for more")
        refuse_numbers(self, finite=("polygon", "range"))
        if self.polygon and (len(self.polygon) % 2 or len(self.polygon) < 6):
            raise SettingsProblem(
                f"--polygon with {len(self.polygon)} numbers", "two for each of at least 3 corners: x1 y1 x2 y2 x3 y3"
            )
        if self.range and not self.range[1] < self.range[2]:
            raise SettingsProblem(f"--range from {self.range[1]:g} to {self.range[2]:g}", "the smaller value first")
        if self.analysis is None and (self.cluster or (self.polygon and self.plane == "umap")):
            option = "--cluster" if self.cluster else "--plane umap"
            raise SettingsProblem(f"{option} without --analysis", "the folder of `vitreous landscape analyze`")

    def inputs(self) -> list[Path]:
        return [self.landscape / PARTICLES]

    def run(self, desk: Desk) -> Outcome:
        landscape = usable_landscape(self.landscape)
        table = None if self.analysis is None else read_latent_table(self.analysis, landscape.latents)
        kept = self.chosen(landscape.latents, table) != self.invert
        if not kept.any():
            raise DataProblem(
                f"no particle is kept by {self.rule()}", "a choice that keeps some", "look at the report of analyze"
            )
        particles = with_latents(landscape.particles, landscape.latents)
        place = desk.place or desk.folder
        named = lasting_names(particles.rows(kept), self.landscape / PARTICLES, place)
        write_particles(desk.folder / PARTICLES, named)
        if self.format == "cs":
            write_particles((desk.folder / PARTICLES).with_suffix(".cs"), named)
        return self.outcome(landscape, kept, table)

    def chosen(self, latents: Latents, table: LatentTable | None) -> np.ndarray:
        """Whether each particle lies in the part that is named."""
        if self.range:
            axis, low, high = self.range
            if not 1 <= axis <= latents.dimensions:
                raise SettingsProblem(f"--range {axis}", f"a number of the latent, 1 to {latents.dimensions}")
            values = latents.mean[:, axis - 1].astype(np.float64)
            return (low <= values) & (values <= high)
        if self.polygon:
            return inside_polygon(self.coordinates(latents, table), self.corners)
        assert table is not None
        labels = table.labels[self.clustering]
        unknown = [number for number in self.cluster if number not in labels]
        if unknown:
            raise SettingsProblem(
                f"--cluster {unknown[0]}", f"numbers from 1 to {labels.max()}, the clusters of {self.clustering}"
            )
        return np.isin(labels, self.cluster)

    @property
    def corners(self) -> np.ndarray:
        """[m, 2]."""
        return np.reshape(self.polygon, (-1, 2))

    def coordinates(self, latents: Latents, table: LatentTable | None) -> np.ndarray:
        """The particles in the plane [n, 2]."""
        if latents.dimensions < 2:
            raise SettingsProblem(
                "--polygon in a latent of one number", "a latent of at least two", "choose with --range"
            )
        if self.plane == "pca":
            return principal_components(latents.mean).scores[:, :2]
        if self.plane == "latent":
            return latents.mean[:, :2].astype(np.float64)
        assert table is not None
        if table.umap is None:
            raise SettingsProblem(f"--plane umap, and {self.analysis} has no UMAP", "an analysis without --no-umap")
        return table.umap

    def rule(self) -> str:
        """What is kept, in words."""
        if self.range:
            text = f"latent {self.range[0]} from {self.range[1]:g} to {self.range[2]:g}"
        elif self.polygon:
            text = f"a polygon of {len(self.corners)} corners in the plane {self.plane}"
        else:
            text = f"{self.clustering} cluster {', '.join(map(str, self.cluster))}"
        return f"all but {text}" if self.invert else text

    def outcome(self, landscape: Landscape, kept: np.ndarray, table: LatentTable | None) -> Outcome:
        from vitreous.jobs.landscape_filter_figures import kept_figures

        findings = [
            Finding("kept", "particles kept", int(kept.sum()), "", f"In {PARTICLES}, with columns {LATENT}1 and on."),
            Finding("rejected", "particles left out", int((~kept).sum()), "", "With --invert they are kept."),
            Finding("kept_share", "share kept", 100 * float(kept.mean()), "%", "Of all particles.", 1),
            Finding("rule", "rule", self.rule(), "", "What was asked for."),
        ]
        outcome = Outcome(findings, title=f"Part of {landscape.folder.resolve().name}")
        outcome.subtitle = f"Kept: {self.rule()}"
        outcome.headline = ("kept", "rejected", "kept_share")
        if kept.all():
            outcome.warnings.append("Every particle was kept.")
        text = (
            "Latents are uncertain: near the border of a choice particles of both sides are mixed. What was chosen by its images looks like what it was "
            "chosen for, also when it is noise; refine the particles anew, with half sets, and believe what both halves show."
        )
        figures = kept_figures(self, landscape.latents, kept, table)
        outcome.sections = [Section("What was kept", text, figures=figures)]
        outcome.inputs = landscape.files()[1:] + ([] if self.analysis is None else [self.analysis / FILE])
        return outcome


def with_latents(particles: Particles, latents: Latents) -> Particles:
    """The particles with their latents in columns; those of a former landscape go."""
    former = [name for name in particles.table if name.startswith(LATENT) and name[len(LATENT) :].isdigit()]
    return replace(particles, table=particles.table.without(*former).with_columns(latent_columns(latents)))
