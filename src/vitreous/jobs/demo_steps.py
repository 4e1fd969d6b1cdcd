"""The steps of the demonstration: the settings of each command, one after the other, and what to type to do the same by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitreous.io.bundled import PREFIX
from vitreous.jobs.abinitio import Abinitio
from vitreous.jobs.classify2d import Classify2D
from vitreous.jobs.estimate_ctf import EstimateCtf
from vitreous.jobs.extract import Extract
from vitreous.jobs.job import Job
from vitreous.jobs.pick import Pick
from vitreous.jobs.ranges import option
from vitreous.jobs.refine3d import Refine
from vitreous.jobs.select import Select
from vitreous.jobs.simulate_micrograph import SimulateMicrograph

MODEL = "6zu5"
PIXEL_SIZE = 3.0  # angstrom, of the micrographs: Thon rings to 6 A, which is enough to find the defocus
FIELD = 1536  # pixels of a micrograph, each way
DEFOCUS_UM = (1.5, 2.5)  # where rings up to 6 A leave no doubt about the defocus
CUT = 128  # pixels of it that a particle is cut out with: 384 A about a ribosome of some 300 A
DIAMETERS = (220.0, 300.0)  # angstrom, of ribosomes as one sees them: from the narrowest view to the widest
THRESHOLD = 2.5  # of picks, in standard deviations of noise: so low that some are noise, which the classification then puts apart
MICROGRAPHS, CTF, PICKS, PARTICLES, CLASSES, SELECTED, INITIAL, REFINED = FOLDERS = (
    "01_micrographs",
    "02_ctf",
    "03_picks",
    "04_particles",
    "05_classes",
    "06_selected",
    "07_initial",
    "08_refined",
)


@dataclass(frozen=True)
class Scale:
    """How much the demonstration does.

    `micrographs` with `particles` each; the `box` that images of a particle are reduced to, in pixels; `classes` and `iterations` of the 2D classification; at
    most `starts` random starts for a first map, of `start_iterations` with `batch` particles; the finest HEALPix order of the refinement.
    """

    micrographs: int
    particles: int
    box: int
    classes: int
    iterations: int
    starts: int
    start_iterations: int
    batch: int
    finest_order: int

    @property
    def pixel_size(self) -> float:
        """Of the images of particles, in angstrom."""
        return PIXEL_SIZE * CUT / self.box


WHOLE = Scale(10, 60, 80, 12, 12, 4, 25, 100, 5)
QUICK = Scale(4, 60, 48, 6, 10, 2, 20, 60, 4)


@dataclass(frozen=True)
class Step:
    """One command of the way: the folder that it leaves, and its settings."""

    folder: str
    job: Job


def steps(scale: Scale, seed: int, root: Path) -> tuple[Step, ...]:
    """All steps, in their order, with their folders in `root`."""
    at = {name: root / name for name in FOLDERS}
    micrographs = at[CTF] / "micrographs_ctf.star"
    particles = at[SELECTED] / "particles.star"
    jobs: tuple[Job, ...] = (
        SimulateMicrograph(
            Path(PREFIX + MODEL),
            pixel_size=PIXEL_SIZE,
            size=(FIELD,),
            count=scale.micrographs,
            particles=scale.particles,
            defocus_um=DEFOCUS_UM,
            seed=seed,
        ),
        EstimateCtf((at[MICROGRAPHS] / "micrographs.star",)),
        Pick((micrographs,), diameter=DIAMETERS, threshold=THRESHOLD, datadir=at[MICROGRAPHS]),
        Extract(
            picks=(at[PICKS] / "picks.star",),
            micrographs=micrographs,
            datadir=at[MICROGRAPHS],
            box=CUT,
            scale_to=scale.box,
            seed=seed,
        ),
        Classify2D(
            particles=at[PARTICLES] / "particles.star", classes=scale.classes, iterations=scale.iterations, seed=seed
        ),
        Select(at[CLASSES]),
        Abinitio(
            particles=particles,
            starts=scale.starts,
            iterations=scale.start_iterations,
            batch=scale.batch,
            start_resolution=80.0,
            end_resolution=30.0,
            seed=seed,
        ),
        Refine(
            particles=particles,
            reference=(at[INITIAL] / "map.mrc",),
            finest_order=scale.finest_order,
            seed=seed,
        ),
    )
    return tuple(Step(folder, job) for folder, job in zip(FOLDERS, jobs))


# --- by hand ----------------------------------------------------------------------------------------------------------


def command(step: Step, root: Path) -> str:
    """What to type in the folder `root` to have this step done again, into a folder of another name."""
    words = ["vitreous", *step.job.name.split(), *positional(step.job, root)]
    words += [word for pair in options(step.job, root) for word in pair]
    return " ".join([*words, "--out", f"my_{step.folder[3:]}"])


def positional(job: Job, root: Path) -> Iterator[str]:
    """The settings that have their place before all options."""
    for one in dataclasses.fields(job):  # type: ignore[arg-type]
        if not one.kw_only:
            yield from shown(getattr(job, one.name), root)


def options(job: Job, root: Path) -> Iterator[tuple[str, ...]]:
    """The settings that differ from their defaults, as options."""
    for one in dataclasses.fields(job):  # type: ignore[arg-type]
        value = getattr(job, one.name)
        if one.kw_only and value != one.default:
            yield option(one.name), *shown(value, root)


def shown(value: Any, root: Path) -> Iterator[str]:
    """A setting as words of a command line; paths as they are told in the folder `root`."""
    if isinstance(value, tuple):
        for one in value:
            yield from shown(one, root)
    elif isinstance(value, Path):
        yield str(value.relative_to(root) if value.is_relative_to(root) else value)
    else:
        yield f"{value:g}" if isinstance(value, float) else str(value)
