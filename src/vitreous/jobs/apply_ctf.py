"""The job `ctf apply`: a micrograph, the micrographs of a STAR file, or particles are corrected for their CTF."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from vitreous.errors import OutputProblem, SettingsProblem
from vitreous.io.atomic import atomic_path
from vitreous.jobs.apply_ctf_micrographs import CORRECTED, correct_one, correct_set
from vitreous.jobs.apply_ctf_particles import correct_particles, is_particle_file
from vitreous.jobs.apply_ctf_settings import CorrectionSettings
from vitreous.jobs.job import Desk, Outcome, ProgressOf, quiet


@dataclass(frozen=True)
class ApplyCtf(CorrectionSettings):
    """Settings of the correction of images for their CTF."""

    name: ClassVar[str] = "ctf apply"
    resumable: ClassVar[bool] = True

    def run(self, desk: Desk) -> Outcome:
        if not self.of_many:
            return correct_one(self, desk)
        if not is_particle_file(self.source):
            return correct_set(self, desk)
        if self.plane is not None:
            raise SettingsProblem(
                f"--tilt-deg for the particles of {self.source}",
                "it only for micrographs",
                "particles have a defocus each",
            )
        return correct_particles(self, desk)


def correct_to_file(job: ApplyCtf, out: Path, *, force: bool = False, progress: ProgressOf = quiet) -> Outcome:
    """Run the job on one micrograph and keep only the corrected image, as the file `out`."""
    if job.of_many:
        raise SettingsProblem(f"--out {out} for the images of {job.source}", "a folder")
    if out.exists() and not force:
        raise OutputProblem(f"{out} exists", "a new file name", "choose another --out, or give --force")
    with atomic_path(out) as temporary, tempfile.TemporaryDirectory(prefix=".vitreous-", dir=out.parent) as folder:
        outcome = job.run(Desk(Path(folder), progress))
        os.replace(Path(folder) / CORRECTED, temporary)
    return outcome
