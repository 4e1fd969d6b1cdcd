"""What the job `ctf` is to estimate: one item a micrograph, with all that is known of its lens beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitreous.errors import DataProblem, FileProblem, SettingsProblem
from vitreous.estimation.ctf_estimate import Lens
from vitreous.io.files import require_file
from vitreous.io.micrograph_table import MicrographTable, micrograph_table, read_micrograph_table
from vitreous.io.micrographs import MicrographFile, bare_name, find_micrograph, is_spectrum_name, open_micrograph
from vitreous.jobs.ranges import option
from vitreous.model.optics import OpticsGroup
from vitreous.units import KILOVOLT, MILLIMETRE

POWER_SPECTRUM = "rlnCtfPowerSpectrum"
USUAL_AMPLITUDE_CONTRAST = 0.1
SAME = 1e-6  # relative difference of numbers that say the same
OF_LENS = {  # option: (field of the optics group, factor to the inside unit, unit)
    "voltage_kv": ("voltage", KILOVOLT, "kV"),
    "cs_mm": ("spherical_aberration", MILLIMETRE, "mm"),
    "amplitude_contrast": ("amplitude_contrast", 1.0, ""),
}


@dataclass(frozen=True)
class Microscope:
    """What the command line says of the microscope, None where it does not: kV, mm, a fraction, angstrom."""

    voltage_kv: float | None = None
    cs_mm: float | None = None
    amplitude_contrast: float | None = None
    pixel_size: float | None = None


@dataclass(frozen=True)
class CtfItem:
    """One micrograph to estimate. `name` is unique and what its files are called, `micrograph` what STAR files call it. `path` is the
    file to read; None if it was not found, and `missing` then says where it should have been. `pixel_size` None: the header's.
    """

    name: str
    micrograph: str
    path: Path | None
    spectrum: bool
    lens: Lens
    pixel_size: float | None
    group_number: int = 1
    missing: str = ""

    def open(self) -> MicrographFile:
        """The file, as far as its header says. Raises as `open_micrograph`, and FileProblem if it was not found."""
        if self.path is None:
            raise FileProblem(
                f"'{self.micrograph}' was not found {self.missing}",
                "a file",
                "give the folder that its name starts from as --datadir",
            )
        return open_micrograph(self.path, spectrum=self.spectrum, pixel_size=self.pixel_size)


@dataclass(frozen=True)
class CtfInput:
    """All micrographs, the STAR file that they come from and its table (None for plain files), and what a person should know."""

    items: tuple[CtfItem, ...]
    star: Path | None = None
    table: MicrographTable | None = None
    notes: tuple[str, ...] = field(default=())


def read_ctf_input(
    micrographs: Sequence[Path], microscope: Microscope, *, spectra: bool = False, datadir: Path | None = None
) -> CtfInput:
    """From a STAR file of micrographs, or from any number of plain files.

    Raises SettingsProblem for a mixture and for what neither files nor options say (voltage, Cs), and what readers of STAR files raise.
    """
    stars = [path for path in micrographs if path.suffix.lower() == ".star"]
    if not stars:
        return _plain_input(micrographs, microscope, spectra)
    if len(micrographs) > 1:
        raise SettingsProblem(
            f"{stars[0]} among {len(micrographs)} files",
            "one STAR file alone, or micrographs",
            "run the command once for each",
        )
    return _star_input(stars[0], microscope, spectra, datadir)


def _plain_input(paths: Sequence[Path], microscope: Microscope, spectra: bool) -> CtfInput:
    group, notes = _known(OpticsGroup(), microscope, "the micrographs")
    lens, names = _lens(group), unique_names([bare_name(path) for path in paths])
    items = tuple(
        CtfItem(name, str(path), path, spectra or is_spectrum_name(path), lens, microscope.pixel_size)
        for name, path in zip(names, paths)
    )
    if any(item.spectrum for item in items):
        notes.append(
            "Stored spectra do not say which micrograph they are of: micrographs_ctf.star names the spectra, with their own pixel size."
        )
    return CtfInput(items, notes=tuple(notes))


def _star_input(star: Path, microscope: Microscope, spectra: bool, datadir: Path | None) -> CtfInput:
    table = read_micrograph_table(star)
    if spectra and POWER_SPECTRUM not in table.table:
        raise DataProblem(
            f"{star} has no column {POWER_SPECTRUM}",
            "the spectrum of each micrograph, for --spectra",
            "leave --spectra out",
        )
    # of spectra, --pixel-size is that of the spectra; the file's, that of the micrographs, stays
    of_table = replace(microscope, pixel_size=None) if spectra else microscope
    groups, notes = [], []
    used = set(table.optics_index.tolist())
    for number, group in enumerate(table.optics):
        known, said = _known(group, of_table, f"optics group '{group.name}' of {star}", needed=number in used)
        groups.append(known)
        notes += [note for note in said if note not in notes]
    table = replace(table, optics=tuple(groups))
    files = [str(name) for name in table.table[POWER_SPECTRUM]] if spectra else table.names
    folders = () if datadir is None else (datadir,)
    items, group_numbers = [], table.group_numbers
    for name, micrograph, file, index in zip(
        unique_names([bare_name(name) for name in table.names]), table.names, files, table.optics_index.tolist()
    ):
        path = find_micrograph(file, star.parent, folders)
        missing = f"as '{file}' " if file != micrograph else ""
        missing += f"beside {star}, above it, here, or in --datadir"
        pixel_size = microscope.pixel_size if spectra else groups[index].pixel_size
        items.append(
            CtfItem(
                name, micrograph, path, spectra, _lens(groups[index]), pixel_size, int(group_numbers[index]), missing
            )
        )
    if all(item.path is None for item in items):
        other = (
            "; it names stored spectra, which --spectra reads" if not spectra and POWER_SPECTRUM in table.table else ""
        )
        raise FileProblem(
            f"none of the {len(items)} files that {star} names was found, the first of them '{files[0]}'{other}",
            "the files beside it, above it, here, or in --datadir",
        )
    return CtfInput(tuple(items), star, table, tuple(notes))


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, with _2, _3, ... where one comes again (capitals make no difference: some disks have none).

    >>> unique_names(["a", "b", "a", "a_2", "A"])
    ['a', 'b', 'a_2', 'a_2_2', 'A_3']
    """
    taken: set[str] = set()
    unique = []
    for name in names:
        candidate, number = name, 1
        while candidate.lower() in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate.lower())
        unique.append(candidate)
    return unique


def table_of_files(items: Sequence[CtfItem], pixel_sizes: Sequence[float]) -> MicrographTable:
    """Plain files as a table: one optics group for each pixel size (of the items, in angstrom), in order of appearance."""
    sizes = list(dict.fromkeys(round(size, 6) for size in pixel_sizes))
    groups = []
    for number, size in enumerate(sizes, 1):
        lens = items[0].lens
        groups.append(
            OpticsGroup(
                f"opticsGroup{number}",
                pixel_size=size,
                voltage=lens.voltage,
                spherical_aberration=lens.spherical_aberration,
                amplitude_contrast=lens.amplitude_contrast,
            )
        )
    index = [sizes.index(round(size, 6)) for size in pixel_sizes]
    return micrograph_table([item.micrograph for item in items], groups, index)  # type: ignore[arg-type]


def readable(paths: Sequence[Path]) -> list[Path]:
    """Those of the files that are there and not empty."""
    kept = []
    for path in paths:
        try:
            kept.append(require_file(path))
        except FileProblem:
            continue
    return kept


def _known(
    group: OpticsGroup, microscope: Microscope, where: str, *, needed: bool = True
) -> tuple[OpticsGroup, list[str]]:
    """The group with what the command line says, and sentences about what it replaced or what was assumed."""
    changes: dict[str, Any] = {}
    notes = []
    for name, (attribute, factor, unit) in OF_LENS.items():
        given, own = getattr(microscope, name), getattr(group, attribute)
        if given is not None:
            changes[attribute] = given * factor
            if own is not None and abs(own - given * factor) > SAME * max(abs(own), abs(given * factor)):
                notes.append(
                    f"{option(name)} {given:g} was used instead of the {own / factor:g} {unit}".rstrip()
                    + f" of {where}."
                )
        elif own is None and name == "amplitude_contrast":
            changes[attribute] = USUAL_AMPLITUDE_CONTRAST
            if needed:
                notes.append(
                    f"The amplitude contrast of {where} is not known: {USUAL_AMPLITUDE_CONTRAST:g} was assumed."
                )
        elif own is None and needed:
            options = " and ".join(
                f"{option(key)}" for key in ("voltage_kv", "cs_mm") if _lacks(group, microscope, key)
            )
            raise SettingsProblem(
                f"no {attribute.replace('_', ' ')} of {where} is known", "that of the microscope", f"give {options}"
            )
    size = microscope.pixel_size
    if size is not None:
        if group.pixel_size is not None and abs(size / group.pixel_size - 1) > SAME:
            notes.append(f"--pixel-size {size:g} was used instead of the {group.pixel_size:g} A of {where}.")
        changes["pixel_size"] = size
    return replace(group, **changes), notes


def _lacks(group: OpticsGroup, microscope: Microscope, name: str) -> bool:
    return getattr(microscope, name) is None and getattr(group, OF_LENS[name][0]) is None


def _lens(group: OpticsGroup) -> Lens:
    assert group.voltage is not None and group.spherical_aberration is not None and group.amplitude_contrast is not None
    return Lens(group.voltage, group.spherical_aberration, group.amplitude_contrast)
