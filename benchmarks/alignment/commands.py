"""The commands of both programs, with the same sampling.

RELION's steps are those before oversampling: 12 degrees and 2 pixels become 6 degrees and 1 pixel with `--oversampling 1`, HEALPix order 2 (15 degrees)
becomes order 3. vitreous is told the fine steps: `--psi-step 6`, `--shift-step` of one pixel, `--order 2 --finest-order 3`. Its last origins are finer than
that in 3D, a quarter of a pixel.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from programs import Program, find, found

INSTALL = "apt-get install --no-install-recommends relion"
RANKS = 3
# Open MPI starts neither more ranks than there are cores nor anything for root unless it is told to.
MPI = {"OMPI_MCA_rmaps_base_oversubscribe": "1"}
MPI_OF_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


@dataclass(frozen=True)
class Task:
    """One job for both programs: particles, iterations, mask, sampling. Angstrom; offsets in pixels."""

    star: str
    pixel_size: float
    diameter: float
    iterations: int
    threads: int = 2
    offset_range: int = 5
    offset_step: int = 1  # the finest

    @property
    def shifts(self) -> list[str]:
        """vitreous' options."""
        step = self.offset_step * self.pixel_size
        return ["--shift-range", f"{self.offset_range * self.pixel_size:g}", "--shift-step", f"{step:g}"]


def relion_refine() -> Program | None:
    """RELION's program for classes and refinement, or None after a line that says how to get it."""
    return found(find("RELION", "relion_refine"), "RELION", INSTALL)


def relion_refine_mpi() -> Program | None:
    """The same for several processes; needs mpirun too."""
    program = found(find("RELION", "relion_refine_mpi"), "RELION (relion_refine_mpi)", INSTALL)
    if program is not None and find("Open MPI", "mpirun") is None:
        print(
            "mpirun is not installed, and RELION's auto-refine is left out; to install it: apt-get install openmpi-bin"
        )
        return None
    return program


def allow_ranks() -> None:
    """Let the programs started from now on use mpirun here."""
    os.environ.update(MPI | (MPI_OF_ROOT if os.geteuid() == 0 else {}))


def relion_common(task: Task, *, threads: int) -> list[str]:
    """What all of RELION's runs have in common."""
    words = "--ctf --flatten_solvent --zero_mask --oversampling 1 --norm --scale --dont_combine_weights_via_disc --pool 30 --pad 2"
    given = ["--i", task.star, "--particle_diameter", f"{task.diameter:g}", "--j", str(threads)]
    return [
        *given,
        *words.split(),
        "--offset_range",
        str(task.offset_range),
        "--offset_step",
        str(2 * task.offset_step),
    ]


def relion_2d(program: Program, task: Task, classes: int, out: Path) -> list[str]:
    words = f"--iter {task.iterations} --tau2_fudge 2 --K {classes} --psi_step 12"
    return [program.path, *relion_common(task, threads=task.threads), *words.split(), "--o", str(out / "run")]


def relion_3d(program: Program, task: Task, reference: str, out: Path, *, start: float) -> list[str]:
    words = (
        f"--ini_high {start:g} --firstiter_cc --iter {task.iterations} --tau2_fudge 4 --K 1 --healpix_order 2 --sym C1"
    )
    common = relion_common(task, threads=task.threads)
    return [program.path, *common, "--ref", reference, *words.split(), "--o", str(out / "run")]


def relion_auto_refine(
    program: Program, task: Task, reference: str, out: Path, *, symmetry: str, start: float, most: int | None
) -> list[str]:
    """Gold-standard refinement to convergence, or at most so many iterations."""
    mpirun = find("Open MPI", "mpirun")
    assert mpirun is not None
    words = f"--auto_refine --split_random_halves --low_resol_join_halves 40 --healpix_order 2 --auto_local_healpix_order 4 --ini_high {start:g} --firstiter_cc"
    words += f" --tau2_fudge 4 --sym {symmetry}" + ("" if most is None else f" --auto_iter_max {most}")
    started = [mpirun.path, "-n", str(RANKS), program.path]
    return [*started, *relion_common(task, threads=1), "--ref", reference, *words.split(), "--o", str(out / "run")]


def vitreous_2d(program: Program, task: Task, classes: int, out: Path) -> list[str]:
    words = f"--classes {classes} --iterations {task.iterations} --diameter {task.diameter:g} --psi-step 6 --tau-fudge 2 --workers {task.threads}"
    return [program.path, "classify2d", task.star, *words.split(), *task.shifts, "--out", str(out), "--force"]


def vitreous_3d(program: Program, task: Task, reference: str, out: Path, *, start: float) -> list[str]:
    words = f"--start-resolution {start:g} --iterations {task.iterations} --diameter {task.diameter:g} --tau-fudge 4 --half-sets none"
    words += f" --order 2 --finest-order 3 --workers {task.threads}"
    given = [program.path, "refine", task.star, "--reference", reference, "--symmetry", "C1"]
    return [*given, *words.split(), *task.shifts, "--out", str(out), "--force"]


def vitreous_refine(
    program: Program, task: Task, reference: str, out: Path, *, symmetry: str, start: float
) -> list[str]:
    """Gold-standard refinement to convergence, with the program's own choices of steps."""
    words = f"--start-resolution {start:g} --diameter {task.diameter:g} --symmetry {symmetry} --workers {task.threads}"
    given = [program.path, "refine", task.star, "--reference", reference]
    return [*given, *words.split(), "--out", str(out), "--force"]
