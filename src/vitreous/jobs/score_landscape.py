"""The job `landscape score`: what a method says of a simulated ensemble, beside what is true."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.heterogeneity.map_scores import MapGrid, central_row, chosen_images, common_grid
from vitreous.io.ensemble_truth import PARTICLES, EnsembleTruth, read_truth
from vitreous.io.mrc import read_volume
from vitreous.jobs.job import Desk, Outcome
from vitreous.jobs.score_latents import score_latents
from vitreous.jobs.score_maps import (
    ChosenImages,
    MapReader,
    MapScores,
    TrueMaps,
    comparison_of,
    placement_over,
    score_maps,
    weights_of,
)
from vitreous.jobs.score_matching import ListedImages, matched_rows
from vitreous.jobs.score_measures import ScoredMethod
from vitreous.jobs.score_sections import score_outcome
from vitreous.jobs.score_tables import LATENTS_TO_DECODE, latents_to_decode, write_tables
from vitreous.jobs.scored_methods import CRYODRGN, GivenMaps, Method, given_maps, method_of_folder, method_of_latents

IMAGES = 100  # about so many are chosen, as in CryoBench


@dataclass(frozen=True)
class ScoreLandscape:
    """Settings of a comparison with the truth.

    Parameters
    ----------
    folders
        Folders of methods to score side by side: of `vitreous landscape train`, of cryoDRGN, of RELION's Class3D.
    truth
        Folder that `vitreous simulate ensemble` has written, or a particle file in it.
    latents
        A method's latents alone: .npy, .txt (a line a particle), .pkl, or a .star or .cs with columns of latents.
    volumes
        Folder with the maps (.mrc) of a method that has none in its own folder (of cryoDRGN also in place of those of
        its network): one for each line of the latents.txt
        that a run without this option writes, in that order, or one for each conformation.
    particles
        Particle file (.star, .cs) that says which images the latents belong to; by default those of the truth in its
        order. For latents without names of images.
    pixel_size
        Pixel size of the maps of --volumes in angstrom, where their headers are wrong.
    images_per_conformation
        How many images of each conformation have their maps compared; by default as many as make about 100 in all.
    mask
        Soft mask to compare maps in, values from 0 to 1; by default one is made around all true maps.
    align
        Lay the maps of each method over the truth first, all in one way, in the better of both hands. For methods that
        have found the poses themselves.
    neighbour_particles
        At most so many particles, drawn at random, enter the measures of neighbours.
    seed
        Seed of all choices made at random.
    """

    folders: tuple[Path, ...] = ()
    truth: Path = field(kw_only=True)
    latents: Path | None = field(default=None, kw_only=True)
    volumes: Path | None = field(default=None, kw_only=True)
    particles: Path | None = field(default=None, kw_only=True)
    pixel_size: float | None = field(default=None, kw_only=True)
    images_per_conformation: int | None = field(default=None, kw_only=True)
    mask: Path | None = field(default=None, kw_only=True)
    align: bool = field(default=False, kw_only=True)
    neighbour_particles: int = field(default=10_000, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    name: ClassVar[str] = "landscape score"

    def __post_init__(self) -> None:
        if not self.folders and self.latents is None:
            raise SettingsProblem("nothing to score", "the folder of a method, or --latents")
        if self.images_per_conformation is not None and self.images_per_conformation < 1:
            raise SettingsProblem(f"--images-per-conformation {self.images_per_conformation}", "at least 1")
        if self.neighbour_particles < 100:
            raise SettingsProblem(f"--neighbour-particles {self.neighbour_particles}", "at least 100")
        for option, given in (("--volumes", self.volumes), ("--particles", self.particles)):
            if given is not None and self.latents is None and len(self.folders) > 1:
                raise SettingsProblem(f"{option} beside {len(self.folders)} folders", "one folder, or --latents")
        if self.pixel_size is not None and (self.volumes is None or not self.pixel_size > 0):
            raise SettingsProblem(f"--pixel-size {self.pixel_size}", "a positive number, with --volumes")

    def inputs(self) -> list[Path]:
        return [path for path in (self.latents, self.particles, self.mask) if path is not None]

    def run(self, desk: Desk) -> Outcome:
        truth = read_truth(self.truth)
        file = self.truth / PARTICLES if self.truth.is_dir() else self.truth
        images = ListedImages.of(file)
        one_map = read_volume(truth.maps[0])
        methods = self.methods(one_map.box * one_map.pixel_size)
        given = [None] * (len(methods) - 1) + [self.volumes]  # the maps of --volumes are those of the last
        matched = [self.matched(*pair, truth, images) for pair in zip(methods, given)]
        readers, grid = readers_of(matched, truth)
        scored = self.scored(matched, readers, truth, grid, desk)
        outcome = score_outcome(scored, truth, grid, self.align)
        outcome.title = f"Scores of {', '.join(one.name for one in scored)}"
        outcome.inputs = [file, *truth.maps, *(path for one in scored for path in one.method.files)]
        write_tables(desk.folder, scored, truth, images.names, grid)
        for one in scored:
            if one.maps is None:
                latents_to_decode(desk.folder, one, alone=len(scored) == 1)
                outcome.warnings.append(
                    f"{one.method.note} {one.name} has no maps here, and so no scores of maps: decode the latents in {LATENTS_TO_DECODE}, a map a line, "
                    "and give their folder as --volumes.".lstrip()
                )
        return outcome

    def methods(self, width: float) -> list[Method]:
        """The methods to score, the one of --latents last, each with a name of its own. Images are `width` angstrom wide."""
        found = [method_of_folder(folder, width) for folder in self.folders]
        if self.latents is not None:
            found.append(method_of_latents(self.latents))
        if self.particles is not None:
            found[-1] = found[-1].with_particles(self.particles)
        paths = [*self.folders, *([] if self.latents is None else [self.latents])]
        names = [method.name for method in found]
        return [
            replace(method, name=str(path)) if names.count(method.name) > 1 else method
            for method, path in zip(found, paths)
        ]

    def matched(self, method: Method, volumes: Path | None, truth: EnsembleTruth, images: ListedImages) -> Matched:
        """The particles that a method and the truth share, and those whose maps are compared: its own, or those in `volumes`."""
        if volumes is not None and method.maps is not None and method.kind != CRYODRGN:
            raise SettingsProblem(f"--volumes for {method.name}, which has maps", "a method without maps of its own")
        if method.images is not None:
            own, true = matched_rows(method.images, images, method.name)
        elif len(method.latents) == len(images):
            own = true = np.arange(len(images))
        else:
            raise DataProblem(
                f"{len(method.latents):,} latents in {method.name} and {len(images):,} particles in the truth",
                "as many",
                "give --particles, a file that says which images they belong to",
            )
        conformation = truth.index[true]
        count = self.images_per_conformation or math.ceil(IMAGES / len(np.unique(conformation)))
        chosen = [
            ChosenImages(
                one,
                own[rows],
                true[rows],
                central_row(method.latents, own[conformation == one]),
            )
            for one, rows in chosen_images(conformation, count, np.random.default_rng(self.seed))
        ]
        if volumes is not None:
            maps = given_maps(volumes, sum(len(one.rows) for one in chosen), len(chosen), self.pixel_size)
            method = replace(method, maps=maps, files=(*method.files, *maps.images, *maps.conformations))
        return Matched(method, own, true, chosen)

    def scored(
        self, matched: list[Matched], readers: list[MapReader | None], truth: EnsembleTruth, grid: MapGrid, desk: Desk
    ) -> list[ScoredMethod]:
        """All scores of all methods."""
        maps: list[MapScores | None] = [None] * len(matched)
        if any(reader is not None for reader in readers):
            true = TrueMaps(truth.maps, grid)
            mean, extent = true.mean_and_extent(weights_of(truth))
            comparison, _ = comparison_of(true, extent, self.mask)
            for number, (one, reader) in enumerate(zip(matched, readers)):
                if reader is not None:
                    placed = replace(reader, placement=placement_over(mean, reader)) if self.align else reader
                    progress = desk.progress(f"maps of {one.method.name}")
                    maps[number] = score_maps(true, comparison, mean, placed, one.method.consensus, progress)
        return [
            ScoredMethod(
                one.method,
                one.method.name,
                one.rows,
                one.true_rows,
                one.chosen,
                score_latents(
                    one.method.latents[one.rows],
                    truth,
                    one.true_rows,
                    None if one.method.labels is None else one.method.labels[one.rows],
                    most=self.neighbour_particles,
                    seed=self.seed,
                ),
                scores,
            )
            for one, scores in zip(matched, maps)
        ]


@dataclass(frozen=True)
class Matched:
    """A method, the rows of its latents that have a truth and the rows of that, and the chosen ones among them."""

    method: Method
    rows: np.ndarray
    true_rows: np.ndarray
    chosen: list[ChosenImages]


def readers_of(matched: list[Matched], truth: EnsembleTruth) -> tuple[list[MapReader | None], MapGrid]:
    """The maps of each method, None where it has none, all on the one grid that they and the true maps can be shown on."""
    true = read_volume(truth.maps[0])
    grids = [MapGrid(true.box, true.pixel_size), *(one.method.maps.grid for one in matched if one.method.maps)]
    grid = common_grid(grids)
    readers: list[MapReader | None] = []
    for one in matched:
        maps = one.method.maps
        images = not isinstance(maps, GivenMaps) or bool(maps.images)
        readers.append(None if maps is None else MapReader(maps, one.chosen, grid, images))
    return readers, grid
