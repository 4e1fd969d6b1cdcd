"""The job `abinitio`: particles without poses become a first map, and several random starts say whether it can be believed."""

# Annotations here are objects, not text: the command line reads them of classes that inherit fields from other modules.
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from vitreous.alignment.abinitio import AbinitioSettings, Search, Start, abinitio
from vitreous.engine.checkpoint import load_state, save_state
from vitreous.engine.processes import ProcessWorkers
from vitreous.errors import SettingsProblem
from vitreous.geometry.symmetry import point_group
from vitreous.io.mrc_stack import write_volume
from vitreous.jobs.abinitio_findings import HEADLINE, abinitio_findings, abinitio_warnings
from vitreous.jobs.abinitio_input import drawn_rows, refuse_band, refuse_few_particles, working_box, working_particles
from vitreous.jobs.abinitio_sections import abinitio_sections
from vitreous.jobs.alignment_input import mask_diameter, refuse_shifts
from vitreous.jobs.cluster import ClusterOptions, workers_of
from vitreous.jobs.job import Desk, Outcome
from vitreous.jobs.particle_input import ParticleInput, declared_contrast, header_warning, ready_particles, stacks_of
from vitreous.jobs.ranges import refuse_numbers
from vitreous.jobs.refine3d_files import class_folder
from vitreous.model.particles import Particles
from vitreous.model.volume import Volume
from vitreous.reconstruction.map_resampling import resampled_map

MAP, STARTS = "map.mrc", "starts"
SHIFT_RANGE = 0.1  # of the mask's diameter, unless a range is given
SHIFT_STEP = 0.2  # of the finest resolution
# Diameter of the mask, of the box, unless one is given: a mask that cuts the ends of a long particle can cost the map.
MASK = 0.95


@dataclass(frozen=True)
class Abinitio(ClusterOptions, ParticleInput):
    """Settings of a search for a map from nothing.

    Parameters
    ----------
    particles
        Particle file: STAR (.star) or cryoSPARC (.cs, .csg). No poses are needed; origins are used as start values.
    classes
        Number of maps that are made together, of a mixture of particles.
    starts
        Largest number of random starts. They are made until a second one has found the map of the best one.
    iterations
        Number of iterations of each start.
    batch
        Particles drawn for each iteration and map.
    start_resolution
        Finest resolution in angstrom that is compared at the beginning.
    end_resolution
        Finest resolution in angstrom that is compared at the end.
    diameter
        Diameter in angstrom of the mask on images and maps; by default 0.95 of the box.
    shift_range
        Origins are searched this far to each side, in angstrom; by default a tenth of the mask's diameter.
    ctf
        Correct for the CTF.
    seed
        Seed of the random starts and of everything that they draw.
    """

    classes: int = field(default=1, kw_only=True)
    starts: int = field(default=12, kw_only=True)
    iterations: int = field(default=80, kw_only=True)
    batch: int = field(default=100, kw_only=True)
    start_resolution: float = field(default=40.0, kw_only=True)
    end_resolution: float = field(default=20.0, kw_only=True)
    diameter: float | None = field(default=None, kw_only=True)
    shift_range: float | None = field(default=None, kw_only=True)
    ctf: bool = field(default=True, kw_only=True)

    name: ClassVar[str] = "abinitio"
    resumable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        positive = (
            "classes",
            "starts",
            "iterations",
            "batch",
            "start_resolution",
            "end_resolution",
            "diameter",
            "pixel_size",
        )
        refuse_numbers(self, positive=positive, not_negative=("shift_range",))
        if not self.end_resolution < self.start_resolution:
            raise SettingsProblem(
                f"--start-resolution {self.start_resolution:g} and --end-resolution {self.end_resolution:g}",
                "an end that is finer than the start",
            )
        point_group(self.symmetry)

    def inputs(self) -> list[Path]:
        return [self.particles, *self.passthrough]

    def run(self, desk: Desk) -> Outcome:
        particles = ready_particles(self, use_ctf=self.ctf, poses=False)
        settings = self.settings(particles)
        small = self.working(particles, desk)
        search = self.find(small, settings, desk)
        self.save(search, particles, small.pixel_size, desk.folder)
        return self.outcome(particles, small, settings, search)

    # --- what it starts from ---

    def settings(self, particles: Particles) -> AbinitioSettings:
        """Every number that the search needs, in the inside units; refused where it cannot be."""
        assert particles.images is not None
        refuse_few_particles(len(particles), self.classes, self.particles)
        box, pixel_size = particles.images.shape[-1], particles.pixel_size
        diameter = mask_diameter(self.diameter, box, pixel_size, fraction=MASK)
        refuse_band(self.start_resolution, self.end_resolution, diameter, pixel_size)
        reach = SHIFT_RANGE * diameter if self.shift_range is None else self.shift_range
        refuse_shifts(reach, None, box * pixel_size)
        return AbinitioSettings(
            symmetry=self.symmetry,
            classes=self.classes,
            starts=self.starts,
            iterations=self.iterations,
            batch=self.batch,
            diameter=diameter,
            start_resolution=self.start_resolution,
            end_resolution=self.end_resolution,
            shift_range=reach,
            shift_step=SHIFT_STEP * self.end_resolution,
            use_ctf=self.ctf,
            contrast=declared_contrast(particles, self.contrast),
            seed=self.seed,
        )

    def working(self, particles: Particles, desk: Desk) -> Particles:
        """As many particles as one start can look at, on few pixels."""
        assert particles.images is not None
        rows = drawn_rows(len(particles), self.batch * self.classes * self.iterations, self.seed)
        box = working_box(particles.images.shape[-1], particles.pixel_size, self.end_resolution)
        return working_particles(particles, box, rows, self.particles, desk.progress("look at the images"))

    # --- the search ---

    def find(self, small: Particles, settings: AbinitioSettings, desk: Desk) -> Search:
        """The search; how far an interrupted run had come with its starts is taken from the folder."""
        folder = desk.folder / STARTS
        folder.mkdir(exist_ok=True)
        known = tuple(load_state(path, Start) for path in sorted(folder.glob("start*.npz")))
        with workers_of(self, local=ProcessWorkers) as workers:
            return abinitio(
                small,
                settings,
                known=known,
                workers=workers,
                progress=desk.progress("random starts"),
                on_start=partial(keep_start, folder=folder, settings=settings),
            )

    # --- what comes of it ---

    def save(self, search: Search, particles: Particles, pixel_size: float, folder: Path) -> None:
        """The best start on the grid of the particles, all starts as far as they came on that of the search."""
        assert particles.images is not None
        box, own = particles.images.shape[-1], particles.pixel_size
        for number, volume in enumerate(search.best.maps, start=1):
            # Projections are sums over voxels: the same image needs less in each of smaller ones.
            full = resampled_map(volume, pixel_size, box, own) * np.float32(own / pixel_size)
            label = f"vitreous ab-initio map {number} of {self.classes}"
            write_volume(class_folder(folder, number, self.classes) / MAP, Volume(full, own), label=label)
        for start in (*search.finished, *search.left):
            for number, volume in enumerate(start.maps, start=1):
                name = f"start{start.number + 1}" + (f"_class{number}" if self.classes > 1 else "")
                write_volume(
                    folder / STARTS / f"{name}.mrc", Volume(volume, pixel_size), label=f"vitreous random {name}"
                )

    def outcome(
        self,
        particles: Particles,
        small: Particles,
        settings: AbinitioSettings,
        search: Search,
    ) -> Outcome:
        assert particles.images is not None and small.images is not None
        box, working = particles.images.shape[-1], small.images.shape[-1]
        outcome = Outcome(abinitio_findings(len(particles), len(small), working, small.pixel_size, settings, search))
        starts = (*search.finished, *search.left)
        outcome.title = f"Ab-initio map of {self.particles.name}"
        outcome.subtitle = (
            f"{len(particles):,} particles, {self.symmetry}, {box} px of {particles.pixel_size:.4g} Å, {len(starts)} random "
            + ("start" if len(starts) == 1 else "starts")
            + ("" if self.classes == 1 else f", {self.classes} classes")
        )
        outcome.headline = HEADLINE
        outcome.warnings = [*abinitio_warnings(search), *header_warning(particles)]
        outcome.inputs = stacks_of(particles)
        outcome.tables = {
            "start": [start.number + 1 for start in starts],
            "start_iterations": [len(start.evidence) for start in starts],
            "score": [start.score for start in starts],
            "score_error": [start.score_error for start in starts],
            "agreement": search.agreement.correlation,
            "pixel_size_angstrom": particles.pixel_size,
        }
        outcome.sections = abinitio_sections(outcome, small.pixel_size, settings, search)
        return outcome


def keep_start(start: Start, *, folder: Path, settings: AbinitioSettings) -> None:
    """Keep a start that is half-way or finished, which an interrupted run need not make again."""
    name = f"start{start.number + 1}" + ("" if len(start.evidence) == settings.iterations else "_half")
    save_state(folder / f"{name}.npz", start)
