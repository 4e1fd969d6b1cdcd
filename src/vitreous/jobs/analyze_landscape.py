"""The job `landscape analyze`: where the particles of a trained landscape lie, and the maps there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.jobs.job import Desk, Outcome
from vitreous.jobs.landscape_folder import PARTICLES, Landscape, read_landscape
from vitreous.jobs.ranges import refuse_numbers
from vitreous.jobs.stack_names import lasting_names


@dataclass(frozen=True)
class AnalyzeLandscape:
    """Settings of an analysis of a landscape.

    Parameters
    ----------
    landscape
        Folder of a finished `vitreous landscape train`.
    clusters
        Clusters of k-means.
    mixture
        Components of the Gaussian mixture; by default as many as clusters.
    at
        Numbers of particles (their rows in particles.star, from 1) at which maps are wanted too.
    through
        Numbers of two or more particles that the paths visit in turn; by default the centres at both ends of the first principal component.
    components
        Principal components along which maps are made.
    steps
        Maps along each component, from its 5 % to its 95 % percentile.
    frames
        Maps along each path.
    neighbours
        Nearest neighbours to which the path through the data may go from each particle.
    box
        Voxels of the maps along an edge, over the same field of view; by default as many as the images have pixels.
    pictures
        What pictures and movies show of a map: its surface or its central section.
    umap
        Make a UMAP of latents of two numbers or more.
    seed
        Seed of clusters and UMAP; the same seed gives the same result.
    """

    landscape: Path
    clusters: int = field(default=8, kw_only=True)
    mixture: int | None = field(default=None, kw_only=True)
    at: tuple[int, ...] = field(default=(), kw_only=True)
    through: tuple[int, ...] = field(default=(), kw_only=True)
    components: int = field(default=2, kw_only=True)
    steps: int = field(default=5, kw_only=True)
    frames: int = field(default=12, kw_only=True)
    neighbours: int = field(default=10, kw_only=True)
    box: int | None = field(default=None, kw_only=True)
    pictures: Literal["surface", "sections"] = field(default="surface", kw_only=True)
    umap: bool = field(default=True, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    name: ClassVar[str] = "landscape analyze"

    def __post_init__(self) -> None:
        refuse_numbers(self, positive=("clusters", "mixture", "neighbours", "box"), not_negative=("components",))
        for name, least in (("steps", 2), ("frames", 2)):
            if getattr(self, name) < least:
                raise SettingsProblem(f"--{name} {getattr(self, name)}", f"{least} or more")
        if self.through and len(set(self.through)) < max(2, len(self.through)):
            numbers = " ".join(map(str, self.through))
            raise SettingsProblem(f"--through {numbers}", "two or more different particles")
        if len(set(self.at)) < len(self.at):
            raise SettingsProblem(f"--at {' '.join(map(str, self.at))}", "different particles")

    def inputs(self) -> list[Path]:
        return [self.landscape / PARTICLES]

    def run(self, desk: Desk) -> Outcome:
        from vitreous.jobs.landscape_analysis import analysed, places_of
        from vitreous.jobs.landscape_analysis_sections import analysis_outcome
        from vitreous.jobs.landscape_volumes import drawn, refuse_box, write_movie, write_volumes
        from vitreous.jobs.latent_table import FILE, write_latent_table

        landscape = usable_landscape(self.landscape)
        refuse_box(self.box, landscape.decoder)
        analysis = analysed(landscape, self)
        places = places_of(landscape, self, analysis)
        largest = write_volumes(desk.folder, landscape.decoder, places, self.box, desk.progress("maps"))
        typical = int(analysis.clusters["kmeans"].count.argmax())
        pictures = drawn(desk.folder, places, typical, largest, self.pictures, desk.progress("pictures"))
        groups: dict[str, list] = {}
        for place, frame in zip(places, pictures.frames, strict=True):
            groups.setdefault(place.group, []).append(frame)
        for name in analysis.paths:
            write_movie(desk.folder, name, groups[name])
        for axis in range(1, min(self.components, landscape.latents.dimensions) + 1):
            write_movie(desk.folder, f"component{axis}", groups[f"component{axis}"])
        named = lasting_names(landscape.particles, self.landscape / PARTICLES, desk.place or desk.folder)
        write_latent_table(
            desk.folder / FILE,
            named.names,
            landscape.latents,
            analysis.components.scores,
            analysis.umap,
            analysis.clusters,
        )
        outcome = analysis_outcome(self, landscape, analysis, places, pictures)
        outcome.inputs = landscape.files()[1:]
        return outcome


def usable_landscape(folder: Path) -> Landscape:
    """The landscape in a folder; DataProblem for one that tells no particles apart."""
    landscape = read_landscape(folder)
    if landscape.latents.dimensions == 0:
        raise DataProblem(
            f"the landscape in {folder} has no latent: one map for all",
            "a latent of at least one number",
            "train with --latent 1 or more",
        )
    return landscape
