"""The tables of a CTF refinement: which particle is of which micrograph, error bars beside the CTFs, a row a micrograph."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vitreous.estimation.ctf_refinement import CtfRefinement
from vitreous.model.particles import Particles
from vitreous.model.table import Table, TextColumn
from vitreous.units import DEGREE

NAME = "rlnMicrographName"
COLUMNS = (NAME, "location/micrograph_path")  # RELION's and cryoSPARC's
COORDINATES = ("rlnCoordinateX", "rlnCoordinateY")
# Our own names: no RELION label says how sure a CTF is.
SIGMA, CHANGE, GAIN = "vitreousDefocusError", "vitreousDefocusChange", "vitreousLogLikelihoodGain"


@dataclass(frozen=True)
class Micrographs:
    """The micrograph `names[index[i]]` of each particle i."""

    index: np.ndarray
    names: tuple[str, ...]


def micrographs_of(particles: Particles) -> Micrographs | None:
    """The micrographs that the file names, None if it names none."""
    column = next((particles.table[name] for name in COLUMNS if name in particles.table), None)
    if column is None:
        return None
    if isinstance(column, TextColumn) and column.numbers is None:
        used, index = np.unique(column.codes, return_inverse=True)
        return Micrographs(index, tuple(str(column.values[code]) for code in used))
    texts = [text.decode() if isinstance(text, bytes) else str(text) for text in column]
    names, index = np.unique(np.array(texts), return_inverse=True)
    return Micrographs(index, tuple(str(name) for name in names))


def coordinates_of(particles: Particles) -> np.ndarray | None:
    """Positions (x, y) [n, 2] of the particles in their micrographs, in the file's pixels; None if it gives none."""
    if not all(name in particles.table for name in COORDINATES):
        return None
    return np.stack([np.asarray(particles.table[name], dtype=np.float64) for name in COORDINATES], axis=1)


def with_errors(refined: CtfRefinement) -> Particles:
    """The refined particles with columns for the change of defocus, its standard deviation (angstrom) and the gain."""
    particles = refined.particles
    columns = {}
    if np.isfinite(refined.defocus_sigma).all():
        columns = {CHANGE: refined.defocus_change.round(3), SIGMA: refined.defocus_sigma.round(3)}
    columns[GAIN] = refined.gain.round(4)
    return replace(particles, table=particles.table.with_columns(columns))


def micrograph_rows(refined: CtfRefinement, micrographs: Micrographs | None) -> Table:
    """One row a micrograph (and optics group): its mean CTF, what changed, and how sure that is. Angstrom and degrees."""
    particles, count = refined.particles, len(refined.common)
    assert particles.ctf is not None
    number = np.bincount(refined.unit, minlength=count)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(refined.unit, values, minlength=count) / number

    defocus, astigmatism = mean(particles.ctf.defocus), [mean(part) for part in particles.ctf.astigmatism.T]
    half = np.hypot(*astigmatism)
    own = mean(refined.defocus_change**2) - mean(refined.defocus_change) ** 2
    columns = {
        "vitreousParticles": number,
        "rlnDefocusU": defocus + half,
        "rlnDefocusV": defocus - half,
        "rlnDefocusAngle": np.arctan2(astigmatism[1], astigmatism[0]) / 2 / DEGREE,
        CHANGE: mean(refined.defocus_change),
        SIGMA: refined.common_sigma[:, 0],
        "vitreousDefocusSpread": np.sqrt(np.maximum(own, 0)),
        "vitreousAstigmatismChangeAlong": refined.common[:, 1],
        "vitreousAstigmatismChangeAcross": refined.common[:, 2],
        "vitreousAstigmatismSigma": np.sqrt((refined.common_sigma[:, 1:] ** 2).mean(axis=1)),
        GAIN: np.bincount(refined.unit, refined.gain, minlength=count),
    }
    table = Table({name: values for name, values in columns.items() if np.isfinite(values).all()})
    table = Table({name: np.round(values, 3) for name, values in table.columns.items()})
    if micrographs is None:
        return table
    first = np.zeros(count, dtype=np.int64)
    first[refined.unit[::-1]] = np.arange(len(particles))[::-1]
    names = np.array([micrographs.names[micrographs.index[row]] for row in first], dtype=object)
    return Table({NAME: names, **table.columns})
