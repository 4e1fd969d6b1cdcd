"""Particles: everything known about a set of particle images. Columns are arrays; the pixels stay on disk until asked
for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.pose import Pose
from vitreous.model.table import Table


class ImageSource(Protocol):
    """A lazy stack of square images, all of one box."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def __len__(self) -> int: ...

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        """The images of these rows, float32 [m, y, x]."""
        ...

    def rows(self, selection: slice | np.ndarray) -> ImageSource:
        """A lazy stack of the selected rows."""
        ...


@dataclass(frozen=True)
class ImageName:
    """Where the pixels of each particle are: `index` (from 0) in the stack `paths[path_code]`."""

    index: np.ndarray  # int64 [n]
    path_code: np.ndarray  # int32 [n]
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, selection: np.ndarray | slice) -> ImageName:
        return ImageName(self.index[selection], self.path_code[selection], self.paths)

    def text(self, row: int) -> str:
        """The name of one image as files write it: its number, from 1, and its stack."""
        return f"{int(self.index[row]) + 1}@{self.paths[int(self.path_code[row])]}"


@dataclass(frozen=True)
class Particles:
    """A set of particles: image names, optics groups, and per-particle columns, all of one length n.

    `optics_index` [n] points into `optics`. `pose`, `ctf`, `half_set` (1 or 2), `images` are None when the file has
    none. `table` holds every column of the file as read, so that what has no field here survives a round trip;
    `origin` says which format and version it came from and `blocks` holds the file's other blocks.
    """

    names: ImageName
    optics: tuple[OpticsGroup, ...]
    optics_index: np.ndarray
    pose: Pose | None = None
    ctf: CtfParameters | None = None
    half_set: np.ndarray | None = None
    contrast: Contrast = Contrast.UNKNOWN
    images: ImageSource | None = None
    table: Table = field(default_factory=Table)
    origin: str = ""
    blocks: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {"image names": len(self.names), "optics groups": len(self.optics_index)}
        for name in ("pose", "ctf", "half_set", "images"):
            if getattr(self, name) is not None:
                lengths[name] = len(getattr(self, name))
        if self.table.columns:
            lengths["table"] = len(self.table)
        if len(set(lengths.values())) > 1:
            raise DataProblem(f"columns of different lengths: {lengths}", "one row per particle in each")

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, selection: np.ndarray | slice) -> Particles:
        """The selected particles, in the order given."""
        pick = {
            name: None if (part := getattr(self, name)) is None else part.rows(selection)
            for name in ("pose", "ctf", "images")
        }
        half = None if self.half_set is None else self.half_set[selection]
        return replace(
            self,
            names=self.names.rows(selection),
            optics_index=self.optics_index[selection],
            half_set=half,
            table=self.table.rows(selection),
            **pick,
        )

    @property
    def pixel_size(self) -> float:
        """The one pixel size, angstrom. Raises DataProblem when groups differ or none is known."""
        sizes = sorted({group.pixel_size for group in self.used_optics() if group.pixel_size is not None})
        if len(sizes) != 1:
            raise DataProblem(
                f"pixel sizes {sizes or 'unknown'}",
                "one pixel size for all particles",
                "split the file by optics group, or give --pixel-size",
            )
        return sizes[0]

    @property
    def ctf_state(self) -> CtfState:
        """The one CTF state of all images. Raises DataProblem when groups differ."""
        states = sorted({group.ctf_state for group in self.used_optics()})
        if len(states) != 1:
            raise DataProblem(f"CTF states {states}", "one state for all particles", "split the file by optics group")
        return states[0]

    def used_optics(self) -> list[OpticsGroup]:
        """The optics groups that have at least one particle."""
        return [self.optics[i] for i in np.unique(self.optics_index)]


@dataclass(frozen=True)
class LoadedImages:
    """A stack that is in memory already, as an ImageSource."""

    pixels: np.ndarray  # [n, y, x]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.pixels.shape  # type: ignore[return-value]

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        return self.pixels[rows].astype(np.float32, copy=False)

    def rows(self, selection: slice | np.ndarray) -> LoadedImages:
        return LoadedImages(self.pixels[selection])
