"""What every job on an atomic model is told about its file: which copies, which model of an ensemble, what becomes of ions."""

# Annotations here are objects, not text: the command line would look their names up in the modules of the jobs that inherit them.
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vitreous.jobs.specimen import Choices


@dataclass(frozen=True)
class ModelInput:
    """The options that jobs on atomic models share.

    Parameters
    ----------
    specimen
        Atomic model, or what else the job takes.
    assembly
        Assembly of the model's file to build, such as 1; ncs for the copies of its non-crystallographic symmetry,
        unit_cell for one cell of its crystal. By default the atoms as they stand in the file.
    ensemble_model
        Number of the model to take of an ensemble; by default the first.
    ions
        What to do with charged atoms that stand alone, for which there are no scattering factors: refuse, neutral (the
        factors of neutral atoms), or omit.
    """

    specimen: Path
    assembly: str | None = field(default=None, kw_only=True)
    ensemble_model: int | None = field(default=None, kw_only=True)
    ions: Literal["refuse", "neutral", "omit"] = field(default="refuse", kw_only=True)

    @property
    def from_file(self) -> Choices:
        """What is taken of the file."""
        return Choices(self.assembly, self.ensemble_model, self.ions)
