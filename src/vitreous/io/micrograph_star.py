"""STAR files of micrographs, and of particles by their place in a micrograph, in RELION's names.

`micrographs.star`: a block `optics` and a block `micrographs`, one row each. `coordinates.star`: `optics` and `particles`, one
row a particle, without images:

    rlnCoordinateX, rlnCoordinateY    the pixel nearest to the particle's centre, counted from 0
    rlnOriginXAngst, rlnOriginYAngst  what is left: the centre lies at `coordinate - origin / pixel size` (conventions.md)
    rlnCoordinateZ                    height of the centre above z = 0, in pixels, positive towards the detector
    rlnAngleRot, Tilt, Psi            the pose
    rlnDefocusU, V, Angle             the CTF of this particle, its height included: `df + z`

Images cut out about the whole pixels have, with these angles, origins and defoci, everything that a reconstruction needs.
The optics block gives rlnImageSize, without which RELION does not take the file for its extraction: a box that suits the
particle, not that of images that exist.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitreous.errors import FormatProblem
from vitreous.io.micrograph_table import MICROGRAPH, micrograph_table, new_optics_block, write_micrograph_table
from vitreous.io.relion_optics import NUMBER, group_index, groups_of_block, numbers
from vitreous.io.star import StarFile, read_star, write_star
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.pose import Pose
from vitreous.model.table import Table, TextColumn
from vitreous.units import DEGREE


@dataclass(frozen=True)
class Coordinates:
    """n particles in micrographs: `micrograph` [n] points into `names`; `pixel` [n, 2] (x, y) is the whole pixel nearest to
    the centre, `pose.shift` the rest of the way; `height` [n] in angstrom, positive towards the detector.
    """

    names: tuple[str, ...]
    micrograph: np.ndarray
    pixel: np.ndarray
    height: np.ndarray
    pose: Pose
    ctf: CtfParameters
    optics: OpticsGroup

    def __len__(self) -> int:
        return len(self.micrograph)

    def rows(self, selection: np.ndarray | slice) -> Coordinates:
        columns = ("micrograph", "pixel", "height")
        return replace(
            self,
            **{name: getattr(self, name)[selection] for name in columns},
            pose=self.pose.rows(selection),
            ctf=self.ctf.rows(selection),
        )


def write_micrographs(
    path: str | os.PathLike[str],
    optics: OpticsGroup,
    names: list[str],
    ctf: CtfParameters,
    more: Mapping[str, Any] | None = None,
) -> None:
    """One row a micrograph: its name, its CTF at z = 0, and `more` columns."""
    micrographs = micrograph_table(names, [optics], np.zeros(len(names), dtype=np.int32))
    astigmatism = {"rlnCtfAstigmatism": ctf.defocus_u - ctf.defocus_v}
    write_micrograph_table(path, micrographs.with_columns({**ctf_columns(ctf), **astigmatism, **(more or {})}))


def write_coordinates(path: str | os.PathLike[str], coordinates: Coordinates) -> None:
    """One row a particle."""
    pixel_size = coordinates.optics.pixel_size
    columns = {
        MICROGRAPH: TextColumn(coordinates.micrograph, coordinates.names),
        NUMBER: np.ones(len(coordinates), dtype=np.int64),
        "rlnCoordinateX": coordinates.pixel[:, 0].astype(np.float64),
        "rlnCoordinateY": coordinates.pixel[:, 1].astype(np.float64),
        "rlnCoordinateZ": np.round(coordinates.height / pixel_size, 9),
        **{
            name: np.round(coordinates.pose.euler[:, axis] / DEGREE, 9)
            for axis, name in enumerate(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"))
        },
        "rlnOriginXAngst": np.round(coordinates.pose.shift[:, 0], 9),
        "rlnOriginYAngst": np.round(coordinates.pose.shift[:, 1], 9),
        **ctf_columns(coordinates.ctf),
    }
    star = StarFile({"optics": new_optics_block([coordinates.optics]), "particles": Table(columns)})
    star.version = "30001"
    write_star(path, star)


def read_micrographs(path: str | os.PathLike[str]) -> tuple[OpticsGroup, tuple[str, ...], CtfParameters, Table]:
    """Optics, names, CTFs at z = 0 and the whole table of `write_micrographs`."""
    optics, table = _read(path, "micrographs")
    return optics, tuple(str(name) for name in table[MICROGRAPH]), _ctf(table), table


def read_coordinates(path: str | os.PathLike[str]) -> Coordinates:
    """What `write_coordinates` has written. Raises FormatProblem if a column is missing."""
    optics, table = _read(path, "particles", "rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ", "rlnAngleRot")
    optics.require("pixel_size")
    assert optics.pixel_size is not None
    names, micrograph = np.unique(np.asarray(table[MICROGRAPH], dtype=object).astype(str), return_inverse=True)
    columns = {name: numbers(table, name) for name in table if name not in (MICROGRAPH, NUMBER)}
    euler = np.stack([columns[f"rlnAngle{angle}"] for angle in ("Rot", "Tilt", "Psi")], axis=-1) * DEGREE
    shift = np.stack([columns["rlnOriginXAngst"], columns["rlnOriginYAngst"]], axis=-1)
    return Coordinates(
        names=tuple(str(name) for name in names),
        micrograph=micrograph,
        pixel=np.stack([columns["rlnCoordinateX"], columns["rlnCoordinateY"]], axis=-1).round().astype(np.int64),
        height=columns["rlnCoordinateZ"] * optics.pixel_size,
        pose=Pose(euler, shift),
        ctf=_ctf(table),
        optics=optics,
    )


def ctf_columns(ctf: CtfParameters) -> dict[str, np.ndarray]:
    """Defocus and angle in RELION's units; phase shift and B factor where there are any."""
    columns = {
        "rlnDefocusU": np.round(ctf.defocus_u, 6),
        "rlnDefocusV": np.round(ctf.defocus_v, 6),
        "rlnDefocusAngle": np.round(ctf.defocus_angle / DEGREE, 9),
    }
    if ctf.phase_shift.any():
        columns["rlnPhaseShift"] = np.round(ctf.phase_shift / DEGREE, 9)
    if ctf.b_factor.any():
        columns["rlnCtfBfactor"] = np.round(ctf.b_factor, 9)
    return columns


def _ctf(table: Table) -> CtfParameters:
    def column(name: str) -> np.ndarray | None:
        return numbers(table, name) if name in table else None

    phase = column("rlnPhaseShift")
    return CtfParameters.of(
        numbers(table, "rlnDefocusU"),
        numbers(table, "rlnDefocusV"),
        numbers(table, "rlnDefocusAngle") * DEGREE,
        phase_shift=None if phase is None else phase * DEGREE,
        b_factor=column("rlnCtfBfactor"),
    )


def _read(path: str | os.PathLike[str], name: str, *required: str) -> tuple[OpticsGroup, Table]:
    star = read_star(path)
    blocks = [star.get("optics"), star.get(name)]
    optics, table = blocks
    if not isinstance(optics, Table) or not isinstance(table, Table):
        raise FormatProblem(f"{path} has no blocks 'optics' and '{name}'", "both, each a table")
    for column in (MICROGRAPH, "rlnDefocusU", *required):
        if column not in table:
            raise FormatProblem(f"the block '{name}' of {path} has no column {column}", "one value a row")
    return groups_of_block(optics)[int(group_index(optics, table)[0])], table
