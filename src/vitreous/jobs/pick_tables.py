"""The STAR files of the job `pick`.

`picks.star`: blocks `optics` and `particles`, one row a pick, with the CTF of its micrograph where that is known. For RELION also
`autopick.star`, a list of micrographs, and for each a file of coordinates named after it.

    rlnCoordinateX, rlnCoordinateY    the centre, in pixels of the micrograph, counted from 0
    rlnAutopickFigureOfMerit          the score
    vitreousPickSignificance          how many standard deviations of the noise it stands out
    rlnAnglePsi, rlnClassNumber       of the best template, in degrees and counted from 1
    vitreousPickDiameter              of the blob, in angstrom

rlnImageSize in the optics block is a box that suits the particles, not that of images that exist.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from vitreous.io.micrograph_table import MICROGRAPH, MicrographTable, optics_table
from vitreous.io.relion_optics import NUMBER
from vitreous.io.star import StarFile, write_star
from vitreous.jobs.ctf_particles import X, Y
from vitreous.jobs.extract_picks import COORDINATES
from vitreous.jobs.pick_micrograph import PickRow
from vitreous.model.table import Table, TextColumn
from vitreous.picking.picks import Picks
from vitreous.units import DEGREE

PICKS, LIST, FOLDER, ENDING = "picks.star", "autopick.star", "coordinates", "_autopick.star"
SCORE, SIGNIFICANCE, DIAMETER = "rlnAutopickFigureOfMerit", "vitreousPickSignificance", "vitreousPickDiameter"
IMAGE_SIZE = "rlnImageSize"
BOX = 1.5  # diameters
# of a micrograph's CTF, what its particles have too
CTF = (
    "rlnDefocusU",
    "rlnDefocusV",
    "rlnDefocusAngle",
    "rlnPhaseShift",
    "rlnCtfBfactor",
    "rlnCtfScalefactor",
    "rlnCtfFigureOfMerit",
    "rlnCtfMaxResolution",
    "vitreousDefocusError",
)


def coordinate_columns(picks: Picks) -> dict[str, np.ndarray]:
    """The columns that every file of coordinates has."""
    columns: dict[str, np.ndarray] = {
        X: np.round(picks.position[:, 0], 2),
        Y: np.round(picks.position[:, 1], 2),
        SCORE: np.round(picks.score, 5),
    }
    if picks.psi is not None and picks.template is not None:
        columns["rlnAnglePsi"] = np.round(picks.psi / DEGREE, 3)
        columns["rlnClassNumber"] = picks.template.astype(np.int64) + 1
    columns[SIGNIFICANCE] = np.round(picks.significance, 4)
    if picks.diameter is not None:
        columns[DIAMETER] = np.round(picks.diameter, 2)
    return columns


def write_picks(
    folder: Path, table: MicrographTable, rows: Sequence[PickRow | None], *, place: Path, diameter: float
) -> None:
    """All files. `rows` are those of the table's micrographs, None where nothing could be looked for; `place` is the name that the folder
    will have, and `diameter` that of the largest particle, in angstrom. Micrographs without picks have no file of coordinates.
    """
    found = [(number, row) for number, row in enumerate(rows) if row is not None and len(row.picks)]
    code = np.repeat([number for number, _ in found], [len(row.picks) for _, row in found]).astype(np.int32)
    parts = [coordinate_columns(row.picks) for _, row in found]
    columns = {
        MICROGRAPH: TextColumn(code, tuple(table.names)),
        NUMBER: table.group_numbers[table.optics_index[code]],
        **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
        **{name: np.asarray(table.table[name])[code] for name in CTF if name in table.table},
    }
    star = StarFile({"optics": with_boxes(table, diameter), "particles": Table(columns)})
    star.version = "30001"
    write_star(folder / PICKS, star)
    files = [coordinate_file(row.micrograph, row.name) for _, row in found]
    for name, part in zip(files, parts):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_star(folder / name, StarFile({"": Table(part)}))
    listed = {
        MICROGRAPH: np.array([row.micrograph for _, row in found], dtype=object),
        COORDINATES: np.array([str(place / name) for name in files], dtype=object),
    }
    star = StarFile({"coordinate_files": Table(listed)})
    star.version = "30001"
    write_star(folder / LIST, star)


def with_boxes(table: MicrographTable, diameter: float) -> Table:
    """The optics block with an rlnImageSize that suits the particles, without which RELION does not take the file for its extraction."""
    block = optics_table(table)
    if IMAGE_SIZE in block:
        return block
    sizes = [1.0 if group.pixel_size is None else group.pixel_size for group in table.optics]
    boxes = [2 * math.ceil(BOX * diameter / size / 2) for size in sizes]
    return block.with_columns({IMAGE_SIZE: np.array(boxes, dtype=np.int64)})


def coordinate_file(micrograph: str, name: str) -> str:
    """Where RELION looks for the coordinates of a micrograph, below its folder of coordinates: the micrograph's own path without the two
    folders of the job that made it, and with another ending. A path that leads out of the folder is replaced by `name`.

    >>> coordinate_file("MotionCorr/job002/Movies/x.mrc", "x"), coordinate_file("../x.mrc", "x")
    ('coordinates/Movies/x_autopick.star', 'coordinates/x_autopick.star')
    """
    parts = [part for part in PurePosixPath(micrograph.removesuffix(":mrc")).parts if part != "/"]
    if ".." in parts:
        return f"{FOLDER}/{name}{ENDING}"
    job = next((index for index, part in enumerate(parts) if _is_job(part)), None)
    own = parts if job is None or job + 1 == len(parts) else parts[job + 1 :]
    return f"{FOLDER}/{PurePosixPath(*own).with_suffix('')}{ENDING}"


def _is_job(part: str) -> bool:
    """Whether a folder is called as RELION calls those of jobs: job002."""
    return part.startswith("job") and len(part) >= 6 and part[3:].isdigit()
