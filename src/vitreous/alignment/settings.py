"""What 2D classification, refinement and ab-initio search are told alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vitreous.conventions import Contrast
from vitreous.errors import SettingsProblem


@dataclass(frozen=True)
class AlignmentSettings:
    """How particles are aligned. Angstrom, radian.

    `diameter` of the mask on the images. Origins within `shift_range` of those in the file are searched on a grid of `shift_step`. `use_ctf`: correct for it.
    `contrast` of the particles in images that do not say so themselves.
    """

    classes: int = 1
    iterations: int = 20
    diameter: float = 200.0
    shift_range: float = 20.0
    shift_step: float = 4.0
    use_ctf: bool = True
    contrast: Contrast = Contrast.INVERTED
    seed: int = 0

    counts: ClassVar[tuple[str, ...]] = ("classes", "iterations")  # that are at least 1

    def __post_init__(self) -> None:
        for name in self.counts:
            if getattr(self, name) < 1:
                raise SettingsProblem(f"{getattr(self, name)} {name}", "at least 1")
