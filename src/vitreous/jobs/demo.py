"""The job `demo`: the whole way once, with known truth. Micrographs of a bundled model become a map without a pose being told, and everything that was
found on the way is compared with what was true.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from vitreous.errors import InputError
from vitreous.geometry.rotations import euler_from_matrix, matrix_from_euler
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import write_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.demo_sections import HEADLINE, demo_findings, demo_sections
from vitreous.jobs.demo_steps import (
    CTF,
    FOLDERS,
    MICROGRAPHS,
    MODEL,
    PICKS,
    QUICK,
    REFINED,
    SELECTED,
    WHOLE,
    Scale,
    Step,
    command,
    steps,
)
from vitreous.jobs.demo_truth import Truths, defocus_errors, picked, pose_errors
from vitreous.jobs.folder import run_job
from vitreous.jobs.job import Desk, Outcome, ProgressOf
from vitreous.jobs.ranges import refuse_numbers
from vitreous.jobs.truth_comparison import Comparison, compare
from vitreous.model.pose import Pose
from vitreous.model.volume import Volume
from vitreous.reconstruction.map_alignment import mirror, other_hand

TRUTH = "truth.mrc"
MAPS = ("map.mrc", "sharpened.mrc", "half1.mrc", "half2.mrc", "mask.mrc")
TEXTS = (".star", ".json", ".yaml", ".html")


@dataclass(frozen=True)
class Demo:
    """Settings of the demonstration.

    Parameters
    ----------
    quick
        Fewer and smaller images: done within a minute, at a lower resolution.
    seed
        Seed of everything random. The same seed gives the same map.
    """

    quick: bool = field(default=False, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    name: ClassVar[str] = "demo"

    def __post_init__(self) -> None:
        refuse_numbers(self, not_negative=("seed",))

    @property
    def scale(self) -> Scale:
        return QUICK if self.quick else WHOLE

    def inputs(self) -> list[Path]:
        return steps(self.scale, self.seed, Path())[0].job.inputs()

    def run(self, desk: Desk) -> Outcome:
        way = steps(self.scale, self.seed, desk.folder)
        done = [run_step(number, step, desk) for number, step in enumerate(way)]
        desk.progress("compare with the truth")(0, 1)
        comparison = compare(desk.folder / REFINED, desk.folder / MICROGRAPHS / "truth_map.mrc")
        truths = self.truths(desk.folder, comparison)
        write_results(desk.folder, comparison)
        return self.outcome(way, done, truths, desk.folder)

    def truths(self, folder: Path, comparison: Comparison) -> Truths:
        """All that was found beside all that was true."""
        micrographs, coordinates = (folder / MICROGRAPHS / name for name in ("micrographs.star", "coordinates.star"))
        return Truths(
            comparison,
            picked(folder / PICKS / "picks.star", coordinates),
            picked(folder / SELECTED / "particles.star", coordinates),
            defocus_errors(folder / CTF / "micrographs_ctf.star", micrographs),
            pose_errors(
                folder / REFINED / "particles.star",
                coordinates,
                comparison.placement,
                comparison.map.pixel_size,
                mirrored=comparison.mirrored,
            ),
        )

    def outcome(self, way: tuple[Step, ...], done: list[Done], truths: Truths, folder: Path) -> Outcome:
        """Findings, sections, and what result.json has besides."""
        outcomes = {step.folder: one.outcome for step, one in zip(way, done)}
        outcome = Outcome(demo_findings(outcomes, truths))
        outcome.title = f"From {self.scale.micrographs} micrographs to a map: {MODEL.upper()}"
        outcome.subtitle = "A demonstration with known truth, from simulated micrographs, without a pose being told"
        outcome.headline = HEADLINE
        seconds = {step.folder: round(one.seconds, 1) for step, one in zip(way, done)}
        commands = {step.folder: command(step, folder) for step in way}
        outcome.tables = {"seconds": seconds, "commands": commands, "truth_fsc": truths.comparison.table()}
        outcome.sections = demo_sections(outcome, outcomes, truths, self.scale, folder)
        return outcome


@dataclass(frozen=True)
class Done:
    """What a step had to say, and how long it took."""

    outcome: Outcome
    seconds: float


def run_step(number: int, step: Step, desk: Desk) -> Done:
    """Run a step into its own folder, complete with a report of its own. An error says which step it was."""
    where = f"step {number + 1} of {len(FOLDERS)}, {step.job.name}"
    started = time.perf_counter()
    try:
        told = command(step, desk.folder).split()
        outcome = run_job(step.job, desk.folder / step.folder, progress=renamed(desk.progress, where), command=told)
    except InputError as error:
        raise type(error)(f"{where}: {error.got}", error.expected, error.remedy) from error
    forget_folder(desk.folder / step.folder, desk.folder)
    return Done(outcome, time.perf_counter() - started)


def renamed(progress: ProgressOf, where: str) -> ProgressOf:
    """Progress whose stages begin with the name of the step."""
    return lambda stage: progress(f"{where}: {stage}")


def write_results(folder: Path, comparison: Comparison) -> None:
    """What the way led to, at the top of the folder: maps and poses in the hand of the truth, and the truth laid over them."""
    refined = folder / REFINED
    for name in MAPS:
        volume = read_volume(refined / name)
        data = mirror(volume.data) if comparison.mirrored else volume.data
        write_volume(folder / name, Volume(data, volume.pixel_size), label=f"vitreous demo {name}")
    write_volume(folder / TRUTH, comparison.truth, label="vitreous demo: the truth, laid over the map")
    shutil.copyfile(refined / "fsc.star", folder / "fsc.star")
    particles = read_particles(refined / "particles.star", load_images=False)
    assert particles.pose is not None
    if comparison.mirrored:
        euler = euler_from_matrix(other_hand(matrix_from_euler(particles.pose.euler)))
        particles = replace(particles, pose=Pose(euler, particles.pose.shift))
    write_particles(folder / "particles.star", particles)


def forget_folder(folder: Path, root: Path) -> None:
    """Let the files of a step name others from `root` on, the demonstration's folder: that has a passing name while the work goes on, and may be moved afterwards.
    Names of images are looked for in the folders above a particle file too, so that they lead to their files all the time.
    """
    for path in sorted(folder.rglob("*")):
        if path.suffix in TEXTS and path.is_file():
            text = path.read_text(encoding="utf-8")
            if str(root) in text:
                path.write_text(text.replace(f"{root}/", "").replace(str(root), "."), encoding="utf-8")
