"""The CTF of each extracted particle: its own, that of its micrograph, or that of its place in a tilted micrograph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.io.micrograph_table import MicrographTable
from vitreous.io.relion import ctf_of_table
from vitreous.io.relion_optics import numbers
from vitreous.jobs.apply_ctf_micrographs import TILT
from vitreous.jobs.ctf_particles import height_note, particle_defocus
from vitreous.jobs.extract_plan import Plan
from vitreous.model.optics import CtfParameters
from vitreous.optics.tilted_plane import TiltedPlane
from vitreous.units import DEGREE

ERROR = "vitreousDefocusError"  # of the defocus in the middle of the micrograph
# what an estimate of a micrograph's CTF says of each particle in it
CTF_COLUMNS = (
    "rlnDefocusU",
    "rlnDefocusV",
    "rlnDefocusAngle",
    "rlnPhaseShift",
    "rlnCtfBfactor",
    "rlnCtfScalefactor",
    "rlnCtfFigureOfMerit",
    "rlnCtfMaxResolution",
    ERROR,
)
STALE_CTF = (*CTF_COLUMNS, "rlnCtfAstigmatism", "rlnCtfImage")
SAME_DEFOCUS = 0.01  # angstrom: files round


@dataclass(frozen=True)
class ParticleCtf:
    """The CTF `columns` that the picks of a plan get ({}: they keep what they have), `notes` for a person, and `source`: "picks", "micrographs",
    "places" (of the micrographs, each particle with its own defocus) or "none".
    """

    source: str
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MicrographDefocus:
    """The defocus of a micrograph as its STAR file gives it: a `ctf_particles.LocalDefocus` without the errors of a fit."""

    shape: tuple[int, int]
    pixel_size: float
    defocus: float
    plane: TiltedPlane | None
    names: tuple[str, ...] = ()
    covariance: Any = field(default_factory=lambda: np.zeros((0, 0)))


def particle_ctf(plan: Plan, source: str | None, per_particle: bool | None) -> ParticleCtf:
    """The CTF of each pick, from `source` ("picks" or "micrographs").

    None: that of the picks if it differs within some micrograph, so that it is the particles' own, or if there is no other; else that of the micrographs,
    of which the picks may have a copy. `per_particle` None: where tilts or heights are known.

    Raises SettingsProblem and DataProblem for what the files do not give.
    """
    table, picks = plan.given.table, plan.given.particles
    own, theirs = ctf_of_table(picks.table), None if table is None else ctf_of_table(table.table)
    if source == "micrographs" and theirs is None:
        raise SettingsProblem("--ctf-from micrographs without their CTFs", "micrographs_ctf.star as --micrographs")
    if source == "picks" and own is None:
        raise DataProblem(
            f"--ctf-from picks, and {picks.path} gives no defocus", "a defocus of each pick", "leave it out"
        )
    notes = ()
    if source is None:
        shared = own is None or not _differs_within(own, plan)
        source = "micrographs" if theirs is not None and shared else "none" if own is None else "picks"
        if source == "micrographs" and own is not None and theirs is not None:
            notes = _replaced_note(own, theirs, picks.micrograph)
    if source == "micrographs":
        assert table is not None
        return _of_micrographs(plan, table, per_particle, notes)
    if per_particle:
        raise SettingsProblem(
            "--per-particle-defocus without the CTFs of micrographs",
            "micrographs_ctf.star as --micrographs" + (", and --ctf-from micrographs" if own is not None else ""),
        )
    return ParticleCtf(source)


def _differs_within(ctf: CtfParameters, plan: Plan) -> bool:
    """Whether particles of one micrograph have different defoci."""
    return any(np.ptp(ctf.defocus[rows]) > SAME_DEFOCUS for rows in plan.rows)


def _replaced_note(own: CtfParameters, theirs: CtfParameters, micrograph: np.ndarray) -> tuple[str, ...]:
    off = np.abs(own.defocus - theirs.defocus[micrograph])
    if not (off > SAME_DEFOCUS).any():
        return ()
    return (
        f"The picks have one defocus a micrograph, up to {off.max():.0f} Å from that of --micrographs, which was taken: --ctf-from picks keeps the other.",
    )


def _of_micrographs(
    plan: Plan, table: MicrographTable, per_particle: bool | None, notes: tuple[str, ...]
) -> ParticleCtf:
    particles = plan.given.particles
    places, row = np.unique(particles.micrograph, return_inverse=True)
    selected = table.rows(places)
    ctf = ctf_of_table(selected.table)
    assert ctf is not None
    columns = {name: numbers(selected.table, name)[row] for name in CTF_COLUMNS if name in selected.table}
    columns = {"rlnDefocusU": ctf.defocus_u[row], "rlnDefocusV": ctf.defocus_v[row]} | columns
    planes = _planes(selected)
    known = any(plane is not None for plane in planes) or particles.height is not None
    if per_particle and not known:
        raise SettingsProblem(
            "--per-particle-defocus for micrographs without a tilt",
            f"a column {TILT[0]}, which `vitreous ctf --tilt` writes, or heights of the particles",
        )
    if per_particle is False or not known:
        return ParticleCtf("micrographs", columns, notes)
    rows = {
        item.sheet.place: MicrographDefocus(item.shape, item.pixel_size, float(ctf.defocus[number]), planes[number])
        for number, item in enumerate(plan.items)
    }
    defocus, _ = particle_defocus(particles, rows)
    own = defocus != ctf.defocus[row]
    if not own.any():
        return ParticleCtf("micrographs", columns, notes)
    apart = ((ctf.defocus_u - ctf.defocus_v) / 2)[row]
    columns["rlnDefocusU"] = np.where(own, np.round(defocus + apart, 6), ctf.defocus_u[row])
    columns["rlnDefocusV"] = np.where(own, np.round(defocus - apart, 6), ctf.defocus_v[row])
    columns.pop(ERROR, None)  # away from the middle the tilt adds its own
    note = height_note(particles, rows)
    return ParticleCtf("places", columns, notes if note is None else (*notes, note))


def _planes(table: MicrographTable) -> list[TiltedPlane | None]:
    """The plane of the specimen in each micrograph, None where the file has no tilt."""
    if TILT[0] not in table.table:
        return [None] * len(table)
    tilts, axes = (np.asarray(table.table[column], dtype=np.float64) * DEGREE for column in TILT)
    known = np.isfinite(tilts) & np.isfinite(axes)  # `vitreous ctf` writes nan where it fitted none
    return [TiltedPlane(float(tilt), float(turn)) if here else None for tilt, turn, here in zip(tilts, axes, known)]
