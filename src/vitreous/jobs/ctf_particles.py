"""Every particle's own defocus, from where it lies in its micrograph: the output of `vitreous ctf --per-particle`.

In angstrom, with x and y from the middle pixel N // 2 of the micrograph to the particle's centre,

    defocus = defocus of the micrograph + height,    height = the fitted plane at (x, y)

and (x, y) = (coordinate - origin / pixel size - N // 2) * pixel size: RELION's coordinates count pixels from 0, its origins bring
the particle to the middle of its box. Where a file gives rlnCoordinateZ (in pixels, positive towards the detector, above z = 0 of the
micrograph as `vitreous simulate micrograph` writes it), the height is that, and the plane is not added: it would count twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np

from vitreous.errors import DataProblem, FormatProblem
from vitreous.io.micrograph_table import MICROGRAPH
from vitreous.io.micrographs import SPECTRUM_ENDING, bare_name
from vitreous.io.relion_optics import NUMBER, group_index, groups_of_block, groups_of_particles, numbers
from vitreous.io.star import StarFile, read_star, write_star
from vitreous.jobs.ctf_row import CtfRow
from vitreous.model.optics import OpticsGroup
from vitreous.model.table import Table, TextColumn
from vitreous.optics.tilted_plane import TiltedPlane
from vitreous.units import DEGREE, KILOVOLT, MILLIMETRE

WRITTEN = "particles_ctf.star"
X, Y, Z = "rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"
OUTSIDE = 0.05  # of the micrograph's size: so far beyond its border a coordinate may lie
SAME = 1e-4  # relative difference of lens parameters that do not matter


class LocalDefocus(Protocol):
    """What is known of the defocus at each place of a micrograph; a `CtfRow` is one. `covariance` is that of the fitted parameters `names`."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def pixel_size(self) -> float: ...
    @property
    def defocus(self) -> float: ...
    @property
    def plane(self) -> TiltedPlane | None: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def covariance(self) -> Any: ...


@dataclass(frozen=True)
class PlacedParticles:
    """n particles of a STAR file: `micrograph` [n] points into the micrographs of the job, -1 for one that is not among them.

    `coordinate` [n, 2] (x, y) in pixels; `origin` [n, 2] in angstrom; `height` [n] in pixels, None if the file has none.
    """

    path: Path
    star: StarFile
    block: str
    optics: tuple[OpticsGroup, ...]
    optics_index: np.ndarray
    micrograph: np.ndarray
    coordinate: np.ndarray
    origin: np.ndarray
    height: np.ndarray | None

    def __len__(self) -> int:
        return len(self.micrograph)

    @property
    def table(self) -> Table:
        table = self.star[self.block]
        assert isinstance(table, Table)
        return table

    def rows(self, selection: np.ndarray) -> PlacedParticles:
        """The selected particles, in the order given."""
        star = StarFile({**self.star, self.block: self.table.rows(selection)})
        star.version = self.star.version
        return replace(
            self,
            star=star,
            optics_index=self.optics_index[selection],
            micrograph=self.micrograph[selection],
            coordinate=self.coordinate[selection],
            origin=self.origin[selection],
            height=None if self.height is None else self.height[selection],
        )


def read_placed_particles(path: Path, micrographs: Sequence[str]) -> PlacedParticles:
    """The particles of a STAR file (RELION's of any generation, or our coordinates.star), matched with the micrographs by name.

    Raises FormatProblem for a file without coordinates, DataProblem if none of its micrographs is among those given.
    """
    return placed_particles(read_star(path), path, micrographs)


def placed_particles(star: StarFile, path: Path, micrographs: Sequence[str] | None = None) -> PlacedParticles:
    """`read_placed_particles` of a file that has been read already. Without `micrographs` they are those that it names: `micrograph_names`."""
    block = particle_block(star, path)
    table = star[block]
    assert isinstance(table, Table)
    optics = star.get("optics")
    if isinstance(optics, Table) and NUMBER in optics:
        groups, index = groups_of_block(optics), group_index(optics, table)
    else:
        groups, index = groups_of_particles(table)
    names, code = micrograph_names(table)
    micrographs = names if micrographs is None else micrographs
    places = match_names(names, micrographs)
    if (places < 0).all():
        raise DataProblem(
            f"{path} has particles of '{names[0]}'"
            + (f" and {len(names) - 1} other micrographs" if len(names) > 1 else ""),
            f"particles of the micrographs given, such as '{micrographs[0]}'",
        )
    height = numbers(table, Z) if Z in table else None
    return PlacedParticles(
        path,
        star,
        block,
        groups,
        index,
        places[code],
        np.stack([numbers(table, X), numbers(table, Y)], axis=-1),
        _origins(table, groups, index),
        height if height is not None and height.any() else None,
    )


def match_names(names: Sequence[str], micrographs: Sequence[str]) -> np.ndarray:
    """For each name the micrograph that is meant, -1 for none: the same name, else the same file name without folder and endings.

    Raises DataProblem where the file name alone could mean several micrographs.
    """
    exact = {_normal(name): place for place, name in reversed(list(enumerate(micrographs)))}
    short: dict[str, list[int]] = {}
    for place, name in enumerate(micrographs):
        short.setdefault(bare_name(name).removesuffix(SPECTRUM_ENDING), []).append(place)
    found = np.full(len(names), -1, dtype=np.int64)
    for number, name in enumerate(names):
        place = exact.get(_normal(name))
        candidates = [place] if place is not None else short.get(bare_name(name), [])
        if len(candidates) > 1:
            raise DataProblem(
                f"'{name}' could be {len(candidates)} of the micrographs, such as '{micrographs[candidates[0]]}' and "
                f"'{micrographs[candidates[1]]}'",
                "names that agree with those of the micrographs",
            )
        found[number] = candidates[0] if candidates else -1
    return found


def refuse_outside(particles: PlacedParticles, shapes: Mapping[int, tuple[int, int]]) -> None:
    """Raise DataProblem for a coordinate well beyond its micrograph: it is one of another pixel size. `shapes` (rows, columns)."""
    known = np.isin(particles.micrograph, list(shapes))
    size = np.array([shapes.get(place, (1, 1))[::-1] for place in particles.micrograph.tolist()])
    margin = OUTSIDE * size
    outside = known & ((particles.coordinate < -margin) | (particles.coordinate > size + margin)).any(axis=1)
    if outside.any():
        row = int(np.argmax(outside))
        x, y = particles.coordinate[row]
        raise DataProblem(
            f"row {row + 1} of {particles.path} lies at ({x:g}, {y:g}), outside its micrograph of {size[row, 0]} x {size[row, 1]} pixels",
            "coordinates in pixels of the micrographs given",
            "use the micrographs on which the particles were picked",
        )


def particle_defocus(particles: PlacedParticles, rows: Mapping[int, LocalDefocus]) -> tuple[np.ndarray, np.ndarray]:
    """Mean defocus of each particle in angstrom and its standard deviation, float64 [n] each. Each must have a row."""
    defocus, sigma = np.empty(len(particles)), np.empty(len(particles))
    for place in np.unique(particles.micrograph).tolist():
        row, these = rows[place], np.flatnonzero(particles.micrograph == place)
        x, y = position(particles.coordinate[these], particles.origin[these], row).T
        if particles.height is not None:
            slopes = np.zeros((2, len(these)))
            height = particles.height[these] * row.pixel_size
        else:
            slopes = np.stack([x, y])
            height = np.zeros(len(these)) if row.plane is None else row.plane.height(x, y)
        defocus[these] = row.defocus + height
        sigma[these] = _sigma(row, slopes)
    return defocus, sigma


def position(coordinate: np.ndarray, origin: np.ndarray, row: LocalDefocus) -> np.ndarray:
    """(x, y) in angstrom from the middle pixel of the micrograph to the particles' centres: [n, 2]."""
    middle = np.array([row.shape[1] // 2, row.shape[0] // 2])
    return (coordinate - middle) * row.pixel_size - origin


def with_defocus(particles: PlacedParticles, rows: Mapping[int, CtfRow]) -> PlacedParticles:
    """The particles with the CTF columns of their micrographs and their own defocus; all other columns are kept."""
    defocus, sigma = particle_defocus(particles, rows)
    own = [rows[place] for place in particles.micrograph.tolist()]
    amplitude = np.array([row.amplitude for row in own])
    columns = {
        "rlnDefocusU": np.round(defocus + amplitude, 6),
        "rlnDefocusV": np.round(defocus - amplitude, 6),
        "rlnDefocusAngle": np.round([row.angle / DEGREE for row in own], 6),
        "rlnCtfFigureOfMerit": np.round([row.score for row in own], 6),
        "rlnCtfMaxResolution": np.round([row.fit_resolution or 0.0 for row in own], 6),
        "vitreousDefocusError": np.round(sigma, 6),
    }
    phase = np.array([row.phase_shift / DEGREE for row in own])
    if phase.any() or "rlnPhaseShift" in particles.table:
        columns["rlnPhaseShift"] = np.round(phase, 6)
    star = StarFile({**particles.star, particles.block: particles.table.with_columns(columns)})
    star.version = particles.star.version
    return replace(particles, star=star)


def write_particles_ctf(folder: Path, particles: PlacedParticles) -> None:
    """particles_ctf.star in a folder."""
    write_star(folder / WRITTEN, particles.star)


def lens_notes(particles: PlacedParticles, rows: Mapping[int, CtfRow]) -> list[str]:
    """Sentences for optics groups that say of the microscope something else than what the CTFs were estimated with."""
    notes = []
    for place, index in sorted(set(zip(particles.micrograph.tolist(), particles.optics_index.tolist()))):
        row, group = rows[place], particles.optics[index]
        for name, unit, factor in (
            ("voltage", "kV", KILOVOLT),
            ("spherical_aberration", "mm", MILLIMETRE),
            ("amplitude_contrast", "", 1.0),
        ):
            own, used = getattr(group, name), getattr(row, name)
            if own is not None and abs(own - used) > SAME * max(abs(own), abs(used)):
                notes.append(
                    f"Optics group '{group.name}' of {particles.path} has a {name.replace('_', ' ')} of {own / factor:g} {unit}".rstrip()
                    + f", but the CTFs were estimated with {used / factor:g}: this defocus does not belong to that lens."
                )
    return list(dict.fromkeys(notes))


def height_note(particles: PlacedParticles, rows: Mapping[int, LocalDefocus]) -> str | None:
    """A sentence if the file's own heights were used, with how far they lie from the fitted planes."""
    if particles.height is None:
        return None
    off = []
    for place, row in rows.items():
        these = particles.micrograph == place
        x, y = position(particles.coordinate[these], particles.origin[these], row).T
        if row.plane is not None:
            off.append(particles.height[these] * row.pixel_size - row.plane.height(x, y))
    apart = float(np.sqrt(np.mean(np.concatenate(off) ** 2))) if off else 0.0
    return (
        f"{particles.path} has heights ({Z}): they were added to the defocus of each micrograph instead of the height of the fitted "
        f"plane, from which they differ by {apart:.0f} Å (rms)."
    )


def _sigma(row: LocalDefocus, slopes: np.ndarray) -> np.ndarray:
    """sqrt(g^T C g) for g = (1, x, y) of (defocus, slope_x, slope_y)."""
    gradient = np.zeros((len(row.names), slopes.shape[1]))
    for name, values in (("defocus", 1.0), ("slope_x", slopes[0]), ("slope_y", slopes[1])):
        if name in row.names:
            gradient[row.names.index(name)] = values
    covariance = np.asarray(row.covariance, dtype=np.float64)
    return np.sqrt(np.maximum(np.einsum("in,ij,jn->n", gradient, covariance, gradient), 0.0))


def particle_block(star: StarFile, path: Path) -> str:
    for name, table in star.tables():
        if MICROGRAPH in table and X in table and Y in table:
            if len(table) == 0:
                raise DataProblem(f"{path} has no particles in its block '{name}'", "at least one row")
            return name
    raise FormatProblem(
        f"{path} has no block with the columns {MICROGRAPH}, {X} and {Y}", "particles with their places in micrographs"
    )


def micrograph_names(table: Table) -> tuple[list[str], np.ndarray]:
    """The names of micrographs, and which of them each particle has."""
    column = table[MICROGRAPH]
    if isinstance(column, TextColumn) and column.numbers is None:
        return list(column.values), np.asarray(column.codes)
    names, code = np.unique(np.asarray(column, dtype=object).astype(str), return_inverse=True)
    return [str(name) for name in names], code


def _origins(table: Table, groups: Sequence[OpticsGroup], index: np.ndarray) -> np.ndarray:
    """Origins in angstrom [n, 2], 0 where the file has none; before 3.1 they are in pixels of the particle images."""
    origin = np.zeros((len(table), 2))
    for axis, letter in enumerate("XY"):
        new, old = f"rlnOrigin{letter}Angst", f"rlnOrigin{letter}"
        if new in table:
            origin[:, axis] = numbers(table, new)
        elif old in table and (pixels := numbers(table, old)).any():
            for number in np.unique(index):
                groups[number].require("pixel_size")
            sizes = np.array([group.pixel_size or 0.0 for group in groups])
            origin[:, axis] = pixels * sizes[index]
    return origin


def _normal(name: str) -> str:
    return str(PurePosixPath(name.removesuffix(":mrc")))
