"""What `extract` is given: picks, the micrographs that they lie in, and the optics and CTFs that both files know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.conventions import CtfState
from vitreous.errors import DataProblem, FileProblem
from vitreous.io.micrograph_table import (
    ORIGINAL_PIXEL_SIZE,
    PIXEL_SIZE,
    MicrographTable,
    read_micrograph_table,
    with_micrograph_pixel_size,
)
from vitreous.io.micrographs import Kind, MicrographFile, bare_name, find_micrograph, open_micrograph
from vitreous.io.mrc import MrcHeader
from vitreous.io.relion import IMAGE
from vitreous.io.relion_optics import NUMBER, numbers
from vitreous.jobs.apply_ctf_micrographs import LABEL as CORRECTED_LABEL
from vitreous.jobs.ctf_input import unique_names
from vitreous.jobs.ctf_particles import PlacedParticles, micrograph_names, placed_particles
from vitreous.jobs.ctf_tables import FOUND
from vitreous.jobs.extract_picks import OPTICS, read_picks
from vitreous.jobs.particle_input import HEADER_TOLERANCE
from vitreous.model.optics import OpticsGroup
from vitreous.model.table import Table

SAME = 1e-4  # relative difference of pixel sizes, and of lens parameters, that does not matter
NO_MAGNIFICATION = ((1.0, 0.0), (0.0, 1.0))


@dataclass(frozen=True)
class LeftOut:
    """A micrograph that gives no particles: how many picks it had, and why, in one line."""

    name: str
    picks: int
    reason: str


@dataclass(frozen=True)
class Sheet:
    """A micrograph to cut from. `name` is unique and what its stack is called, `micrograph` what STAR files call it; `place` its number
    among the micrographs of the particles, `optics` that of its group. `pixel_size` None: the header's, else `fallback`.
    """

    place: int
    name: str
    micrograph: str
    path: Path
    pixel_size: float | None
    fallback: float | None
    state: CtfState

    def open(self) -> MicrographFile:
        """The file, from its header. Raises DataProblem for what is no single image, whose pixel size nobody knows or two sources say
        differently, or whose own label says that the CTF has been dealt with otherwise than its STAR file does."""
        if self.pixel_size is not None or self.fallback is None:
            file = open_micrograph(self.path, pixel_size=self.pixel_size)
        else:
            file = open_micrograph(self.path, pixel_size=self.fallback)
            header = file.header_pixel_size
            if header is not None and abs(header / self.fallback - 1) >= HEADER_TOLERANCE:
                raise DataProblem(
                    f"the header of {self.path} says {header:.4g} A per pixel, the movie had {self.fallback:.4g} A",
                    "the pixel size of the micrograph",
                    "give --micrographs or --pixel-size",
                )
        if file.kind is not Kind.MICROGRAPH:
            what = "is a stored spectrum" if file.kind is Kind.SPECTRUM else f"holds {file.frames} sections"
            raise DataProblem(f"{self.path} {what}", "one image", "correct the motion of movies first")
        if isinstance(file.header, MrcHeader):
            self._refuse_other_state(file.header)
        return file

    def _refuse_other_state(self, header: MrcHeader) -> None:
        label = next((label for label in header.labels if label.startswith(CORRECTED_LABEL)), None)
        if label is not None and f"{CORRECTED_LABEL}: {self.state.value}" not in label:
            raise DataProblem(
                f"{self.path} says '{label}', and its STAR file {self.state.value.replace('_', ' ')}",
                "one state of the CTF",
                "give as --micrographs the micrographs.star that was written with it",
            )


@dataclass(frozen=True)
class ExtractInput:
    """`particles` are the picks whose micrograph is known, `optics` their groups as far as the files know them, `optics_index` [n] their
    group. `sheets` by place. `table` is the file of --micrographs, and `row` [places] the micrograph's row in it.
    """

    particles: PlacedParticles
    optics: tuple[OpticsGroup, ...]
    optics_index: np.ndarray
    sheets: dict[int, Sheet]
    table: MicrographTable | None
    foreign: int
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]

    @property
    def has_images(self) -> bool:
        """Whether the picks are particles that have been cut out before."""
        return IMAGE in self.particles.table

    def rows(self, selection: np.ndarray) -> ExtractInput:
        """The selected picks, in the order given."""
        return replace(self, particles=self.particles.rows(selection), optics_index=self.optics_index[selection])


def read_extract_input(
    picks: Sequence[Path],
    micrographs: Path | None = None,
    *,
    datadir: Sequence[Path] = (),
    pixel_size: float | None = None,
) -> ExtractInput:
    """Picks, matched with their micrographs, whose files are found but not read.

    Raises FileProblem naming a micrograph that is nowhere, DataProblem for pixel sizes that contradict each other, and what the readers raise.
    """
    table = None if micrographs is None else read_micrograph_table(micrographs)
    star = read_picks(picks, None if table is None else table.names, datadir)
    given = placed_particles(star, picks[0], None if table is None else table.names)
    names = micrograph_names(given.table)[0] if table is None else table.names
    particles, foreign, left_out = _with_micrograph(given, table)
    own = isinstance(star.get(OPTICS), Table)
    groups = _micrograph_groups(particles, pixel_size)
    optics, index, notes = _merged(groups, particles, table, own, pixel_size)
    source = picks[0] if micrographs is None else micrographs
    sheets = _sheets(particles, optics, index, names, source, datadir)
    return ExtractInput(particles, optics, index, sheets, table, foreign, left_out, tuple(notes))


def _with_micrograph(
    particles: PlacedParticles, table: MicrographTable | None
) -> tuple[PlacedParticles, int, tuple[LeftOut, ...]]:
    """The picks of micrographs that are given and have a CTF; the number of the others, and the micrographs without a CTF."""
    known = particles.micrograph >= 0
    foreign, left_out = int((~known).sum()), []
    if table is not None and FOUND in table.table:
        lost = np.flatnonzero(numbers(table.table, FOUND) == 0)
        for place in lost[np.isin(lost, particles.micrograph)].tolist():
            count = int((particles.micrograph == place).sum())
            left_out.append(LeftOut(table.names[place], count, "no CTF was found in it"))
        known &= ~np.isin(particles.micrograph, lost)
    if not known.any():
        raise DataProblem(f"none of the micrographs of {particles.path} has a CTF", "micrographs with a CTF")
    return (particles if known.all() else particles.rows(known)), foreign, tuple(left_out)


def _micrograph_groups(particles: PlacedParticles, pixel_size: float | None) -> tuple[OpticsGroup, ...]:
    """The optics groups of the picks with the pixel size of the micrographs, None where only their headers may know it.

    Of particles with images the file's pixel size is that of the images. What has been done about the CTF of these images says nothing of
    the micrographs.
    """
    groups = []
    for number, group in enumerate(particles.optics):
        size = group.pixel_size
        if IMAGE in particles.table:
            stated = replace(
                group, pixel_size=None, extra={PIXEL_SIZE: group.extra[PIXEL_SIZE]} if PIXEL_SIZE in group.extra else {}
            )
            size = with_micrograph_pixel_size(stated).pixel_size
        else:
            size = with_micrograph_pixel_size(group).pixel_size
        if number in particles.optics_index and size is not None and not size > 0:
            raise DataProblem(f"optics group '{group.name}' has pixel size {size}", "a positive number of angstrom")
        groups.append(replace(group, pixel_size=pixel_size or size))
    return tuple(groups)


def _merged(
    groups: Sequence[OpticsGroup],
    particles: PlacedParticles,
    table: MicrographTable | None,
    own: bool,
    pixel_size: float | None,
) -> tuple[tuple[OpticsGroup, ...], np.ndarray, list[str]]:
    """One group for each pair of a pick's and its micrograph's group, what the picks' file says first; and the index of each pick.

    The state of the CTF is the micrographs': their pixels are cut.
    """
    if table is None:
        if IMAGE in particles.table:
            for number in np.unique(particles.optics_index):
                _refuse_unknown_state(groups[number])
        return tuple(groups), particles.optics_index, []
    of_micrograph = table.optics_index[particles.micrograph]
    pairs, index = np.unique(np.stack([particles.optics_index, of_micrograph]), axis=1, return_inverse=True)
    merged, notes = [], list[str]()
    for mine, theirs in pairs.T.tolist():
        first, second = groups[mine], table.optics[theirs]
        if pixel_size is None:
            _refuse_other_pixels(first, second, particles.path)
        else:
            second = replace(second, pixel_size=pixel_size)
        merged.append(_merged_group(first, second, own))
        notes += [note for note in _lens_notes(first, second, particles.path) if note not in notes]
    return _distinct(merged, [table.optics[theirs].name for theirs in pairs[1].tolist()]), index.ravel(), notes


def _merged_group(first: OpticsGroup, second: OpticsGroup, own: bool) -> OpticsGroup:
    changes: dict[str, Any] = {
        name: getattr(first, name) if getattr(first, name) not in absent else getattr(second, name)
        for name, absent in {
            "pixel_size": (None,),
            "voltage": (None,),
            "spherical_aberration": (None,),
            "amplitude_contrast": (None,),
            "beam_tilt": ((0.0, 0.0),),
            "odd_zernike": ((),),
            "even_zernike": ((),),
            "magnification": (NO_MAGNIFICATION,),
        }.items()
    }
    return replace(
        first if own else second,
        **changes,
        ctf_state=second.ctf_state,
        wiener_snr=second.wiener_snr,
        extra={**second.extra, **first.extra},
    )


def _distinct(groups: Sequence[OpticsGroup], others: Sequence[str]) -> tuple[OpticsGroup, ...]:
    """The groups, told apart by name and number where two have become of one."""
    names = [group.name for group in groups]
    if len(set(names)) == len(names):
        return tuple(groups)
    joined = others if len(set(others)) == len(others) else [f"{name}_{other}" for name, other in zip(names, others)]
    return tuple(
        replace(group, name=name, extra={key: value for key, value in group.extra.items() if key != NUMBER})
        for group, name in zip(groups, joined)
    )


def _refuse_unknown_state(group: OpticsGroup) -> None:
    if group.ctf_state is not CtfState.RAW:
        raise DataProblem(
            f"the particles of optics group '{group.name}' are {group.ctf_state.value.replace('_', ' ')}, which says nothing of their micrographs",
            "what has been done about the CTF of the micrographs",
            "give their STAR file as --micrographs",
        )


def _refuse_other_pixels(picks: OpticsGroup, micrographs: OpticsGroup, path: Path) -> None:
    mine, theirs = picks.pixel_size, micrographs.pixel_size
    if mine is not None and theirs is not None and abs(mine / theirs - 1) >= HEADER_TOLERANCE:
        raise DataProblem(
            f"{path} was picked on micrographs of {mine:.4g} A per pixel, and those given have {theirs:.4g} A",
            "coordinates in pixels of the micrographs given",
            "give the micrographs that were picked, or the pixel size of the micrographs as --pixel-size",
        )


def _lens_notes(picks: OpticsGroup, micrographs: OpticsGroup, path: Path) -> list[str]:
    """A sentence for each parameter of the lens that both files give and that differs."""
    notes = []
    for name in ("voltage", "spherical_aberration", "amplitude_contrast"):
        mine, theirs = getattr(picks, name), getattr(micrographs, name)
        if mine is not None and theirs is not None and abs(mine - theirs) > SAME * max(abs(mine), abs(theirs)):
            notes.append(
                f"The {name.replace('_', ' ')} of optics group '{picks.name}' in {path} is not that of the micrographs: that of the picks was kept."
            )
    return notes


def _sheets(
    particles: PlacedParticles,
    optics: Sequence[OpticsGroup],
    index: np.ndarray,
    names: Sequence[str],
    source: Path,
    datadir: Sequence[Path],
) -> dict[int, Sheet]:
    """The micrographs that have picks, each found. Its optics are those of its first pick."""
    found, first = np.unique(particles.micrograph, return_index=True)
    places = [int(place) for place in found]
    written = unique_names([bare_name(names[place]) for place in places])
    sheets = {}
    for place, row, name in zip(places, first.tolist(), written):
        path = find_micrograph(names[place], source.parent, datadir)
        if path is None:
            raise FileProblem(
                f"the micrograph '{names[place]}' was not found beside {source}, above it, here, or in --datadir",
                "the images that the file names",
                "give the folder that the names start from as --datadir",
            )
        group = optics[int(index[row])]
        movie = group.extra.get(ORIGINAL_PIXEL_SIZE)
        fallback = float(movie) if isinstance(movie, int | float) and movie > 0 else None
        sheets[place] = Sheet(place, name, names[place], path, group.pixel_size, fallback, group.ctf_state)
    _refuse_mixed(particles, optics, index)
    return sheets


def _refuse_mixed(particles: PlacedParticles, optics: Sequence[OpticsGroup], index: np.ndarray) -> None:
    """Raise DataProblem if the picks of one micrograph belong to groups of different pixel sizes."""
    sizes = np.array([0.0 if group.pixel_size is None else group.pixel_size for group in optics])[index]
    order = np.argsort(particles.micrograph, kind="stable")
    micrograph, size = particles.micrograph[order], sizes[order]
    wrong = (micrograph[1:] == micrograph[:-1]) & (np.abs(size[1:] - size[:-1]) > SAME * size[1:])
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataProblem(
            f"rows of {particles.path} in one micrograph with pixel sizes of {size[at]:.4g} and {size[at + 1]:.4g} A",
            "one pixel size a micrograph",
            "give --pixel-size",
        )
