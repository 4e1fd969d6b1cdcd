"""Micrographs are corrected for their CTF: one, or those of a STAR file, each with its own, a few at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitreous.conventions import CtfState
from vitreous.engine.items import over_items
from vitreous.engine.local import Progress, silent
from vitreous.errors import DataProblem, FileProblem, FormatProblem, SettingsProblem
from vitreous.io.micrograph_table import MICROGRAPH, MicrographTable, read_micrograph_table, write_micrograph_table
from vitreous.io.micrographs import Kind, MicrographFile, bare_name, find_micrograph, open_micrograph
from vitreous.io.mrc import MrcHeader
from vitreous.io.mrc_stack import StackWriter
from vitreous.io.relion import as_folders, ctf_of_table
from vitreous.io.relion_optics import numbers
from vitreous.jobs.apply_ctf_settings import CorrectionSettings
from vitreous.jobs.ctf_input import unique_names
from vitreous.jobs.ctf_sections import MicrographPair, micrograph_sections, set_sections
from vitreous.jobs.ctf_tables import FOUND
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.particle_input import HEADER_TOLERANCE, STACKS_RECORDED
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.optics.ctf_correction import corrected_optics, refuse_corrected
from vitreous.optics.delocalisation import is_aliased
from vitreous.optics.micrograph_correction import MicrographLens, corrected_micrograph
from vitreous.optics.tilted_plane import TiltedPlane
from vitreous.units import DEGREE, KILOVOLT, MICROMETRE

CORRECTED = "corrected.mrc"  # of one micrograph
FOLDER, STAR = "micrographs", "micrographs.star"  # of many
LABEL = "vitreous ctf apply"
AT_ONCE = 8  # micrographs, at most: each takes up to ten times its pixels in memory
SMALLEST = 16  # pixels
SHOWN = 3
# Degrees, in the hand of `TiltedPlane`: as `vitreous ctf` and `simulate micrograph` write a tilt.
TILT = ("vitreousTiltDeg", "vitreousTiltAxisDeg")
MEANINGS = {
    CtfState.PHASE_FLIPPED: "The sign of the CTF is undone; what had the transfer CTF has |CTF|.",
    CtfState.WIENER: "The specimen that explains the images best at the signal-to-noise ratio given.",
    CtfState.PREMULTIPLIED: "The images times the CTF; what had the transfer CTF has its square.",
}
NO_LABEL = (
    "RELION has no label for Wiener-filtered images: it would apply the CTF to them again. Use them there without CTF "
    "correction."
)
# what the report says of programs that follow
FOLLOWS = {
    CtfState.PHASE_FLIPPED: "RELION 3.1.3 does not look at its own label rlnCtfDataArePhaseFlipped: give it the option --ctf_phase_flipped.",
    CtfState.WIENER: "The columns vitreousCtfState and vitreousWienerSnr say it; RELION does not know them.",
    CtfState.PREMULTIPLIED: "RELION knows it by rlnCtfDataAreCtfPremultiplied.",
}


@dataclass(frozen=True)
class Recorded:
    """One micrograph to be corrected: `written` is its file in the job folder. The optics may lack the pixel size, which its
    header then gives.
    """

    name: str
    path: Path
    written: str
    optics: OpticsGroup
    ctf: CtfParameters
    plane: TiltedPlane

    def open(self) -> MicrographFile:
        """The file, from its header. Raises DataProblem for what is no single micrograph as recorded."""
        file = open_micrograph(self.path, pixel_size=self.optics.pixel_size)
        if isinstance(file.header, MrcHeader) and any(LABEL in label for label in file.header.labels):
            label = next(label for label in file.header.labels if LABEL in label)
            raise DataProblem(
                f"{self.path} is corrected already ('{label}')", "a micrograph as recorded", "a CTF is applied once"
            )
        if file.kind is not Kind.MICROGRAPH:
            what = "is a stored spectrum" if file.kind is Kind.SPECTRUM else f"holds {file.frames} sections"
            raise DataProblem(f"{self.path} {what}", "one image", "name a single micrograph")
        if min(file.shape) < SMALLEST:
            raise DataProblem(
                f"{self.path} has {file.shape[1]} x {file.shape[0]} pixels", f"at least {SMALLEST} x {SMALLEST}"
            )
        return file

    def lens(self, pixel_size: float) -> MicrographLens:
        return MicrographLens(replace(self.optics, pixel_size=pixel_size), self.ctf, self.plane)


@dataclass(frozen=True)
class Done:
    """What is known of a micrograph that has been corrected."""

    recorded: Recorded
    lens: MicrographLens
    shape: tuple[int, int]
    header_pixel_size: float | None


@dataclass(frozen=True)
class LeftOut:
    """A micrograph that could not be corrected, and why, in one line."""

    name: str
    reason: str


def correct_one(settings: CorrectionSettings, desk: Desk) -> Outcome:
    """One micrograph whose CTF the options give, to the file `CORRECTED`."""
    optics, ctf = settings.own_ctf()
    recorded = Recorded(
        settings.source.name, settings.source, CORRECTED, optics, ctf, settings.plane or TiltedPlane(0.0)
    )
    done = correct(recorded, settings, desk.folder, desk.progress("correct"))
    outcome = Outcome(findings_of_one(done, settings), title=f"CTF correction of {recorded.name}")
    lens, (height, width) = done.lens, done.shape
    outcome.subtitle = (
        f"{width} x {height} px of {lens.pixel_size:.4g} Å, {lens.voltage / KILOVOLT:g} kV, {in_words(settings)}"
    )
    outcome.tables = {"pixel_size_angstrom": lens.pixel_size, "shape": [height, width]}
    outcome.warnings = lens_warnings([done])
    outcome.sections = micrograph_sections(outcome, pair_of(done, desk.folder))
    return outcome


def correct_set(settings: CorrectionSettings, desk: Desk) -> Outcome:
    """The micrographs of a STAR file, to the folder `FOLDER` and the file `STAR`."""
    table, left_out = with_ctf_found(read_micrograph_table(settings.source), settings.source)
    all_recorded = recorded_of(table, settings)
    (desk.folder / FOLDER).mkdir(exist_ok=True)
    for unfinished in (desk.folder / FOLDER).glob(".*"):  # of a run that was killed
        unfinished.unlink()

    def one(recorded: Recorded) -> Done | LeftOut:
        try:
            return correct(recorded, settings, desk.folder, silent)
        except (FileProblem, FormatProblem, DataProblem) as error:
            return LeftOut(recorded.name, error.line())

    workers = min(os.cpu_count() or 1, AT_ONCE)
    results = over_items(one, all_recorded, workers=workers, progress=desk.progress("correct"))
    done = [result for result in results if isinstance(result, Done)]
    left_out += [result for result in results if isinstance(result, LeftOut)]
    if not done:
        raise DataProblem(
            f"none of {len(results)} micrographs could be corrected; the first: {left_out[-len(results)].reason}"
        )
    write_micrograph_table(desk.folder / STAR, corrected_table(table, results, settings, desk.place or Path()))
    outcome = set_outcome(done, left_out, settings)
    outcome.sections = set_sections(
        outcome,
        [pair_of(one, desk.folder) for one in shown(done)],
        defocus=np.array([one.lens.defocus for one in done]),
        follows=FOLLOWS[settings.state],
        left_out=[(one.name, one.reason) for one in left_out],
        files=[
            (f"{FOLDER}/", f"The corrected micrographs, {settings.mode}"),
            (STAR, "The columns of the file that was read, with the names of these micrographs and their CTF state"),
        ],
    )
    return outcome


def with_ctf_found(table: MicrographTable, source: Path) -> tuple[MicrographTable, list[LeftOut]]:
    """The rows in which `vitreous ctf` has found a CTF, and the others."""
    if FOUND not in table.table:
        return table, []
    found = numbers(table.table, FOUND) != 0
    if not found.any():
        raise DataProblem(f"no CTF was found in any micrograph of {source}", "micrographs with a CTF")
    return table.rows(found), [LeftOut(name, "no CTF was found in it") for name in table.rows(~found).names]


def recorded_of(table: MicrographTable, settings: CorrectionSettings) -> list[Recorded]:
    """Every micrograph of the table, found, with its CTF. Raises FileProblem naming one that is nowhere, DataProblem if the file
    has no CTFs or its micrographs are not as recorded."""
    source = settings.source
    ctf = ctf_of_table(table.table)
    if ctf is None:
        raise DataProblem(f"{source} gives no defocus", "the CTF of each micrograph", "estimate it first")
    optics = settings.completed(table.optics)
    if settings.pixel_size is not None:
        optics = tuple(replace(group, pixel_size=settings.pixel_size) for group in optics)
    for number in np.unique(table.optics_index):
        refuse_corrected(optics[number])
        optics[number].require("voltage", "spherical_aberration", "amplitude_contrast")
    planes, written = planes_of(table, settings), unique_names([bare_name(name) for name in table.names])
    recorded = []
    for row, name in enumerate(table.names):
        path = find_micrograph(name, source.parent, as_folders(settings.datadir))
        if path is None:
            raise FileProblem(
                f"the micrograph '{name}' (row {row + 1} of {source}) was not found beside that file, above it, or in --datadir",
                "the images that the file names",
                "give the folder that the names start from as --datadir",
            )
        group = optics[table.optics_index[row]]
        recorded.append(
            Recorded(name, path, f"{FOLDER}/{written[row]}.mrc", group, ctf.rows(slice(row, row + 1)), planes[row])
        )
    return recorded


def planes_of(table: MicrographTable, settings: CorrectionSettings) -> list[TiltedPlane]:
    """The plane of the specimen in each micrograph: of the file, else of the options, else flat."""
    if TILT[0] not in table.table:
        return [settings.plane or TiltedPlane(0.0)] * len(table)
    if settings.plane is not None:
        raise SettingsProblem(
            f"--tilt-deg for {settings.source}", f"the tilts that it gives ({TILT[0]})", "leave it out"
        )
    tilts, axes = (numbers(table.table, column) * DEGREE for column in TILT)
    return [TiltedPlane(float(tilt), float(turn)) for tilt, turn in zip(tilts, axes)]


def correct(recorded: Recorded, settings: CorrectionSettings, folder: Path, progress: Progress) -> Done:
    """Write the corrected micrograph, whole or not at all, unless an interrupted run has written it."""
    file = recorded.open()
    lens = recorded.lens(file.pixel_size)
    done = Done(recorded, lens, file.shape, file.header_pixel_size)
    if (folder / recorded.written).is_file():
        return done
    image = checked(file)
    corrected = corrected_micrograph(image, lens, settings.state, snr=settings.wiener_snr, progress=progress)
    label = f"{LABEL}: {settings.state.value}"
    if lens.plane.tilt:
        label += f", tilt {lens.plane.tilt / DEGREE:.4g} about {lens.plane.axis_angle / DEGREE:.4g} deg"
    with StackWriter(folder / recorded.written, lens.pixel_size, mode=settings.mrc_mode, label=label) as writer:
        writer.append(corrected)
    return done


def checked(file: MicrographFile) -> np.ndarray:
    """The pixels. Raises DataProblem if they are no image."""
    image = file.read()
    if not np.isfinite(image).all():
        raise DataProblem(f"{file.path} holds NaN or infinite pixels", "finite numbers")
    if image.min() == image.max():
        raise DataProblem(f"every pixel of {file.path} has the value {image.min():g}", "an image")
    return image


def corrected_table(
    table: MicrographTable, results: Sequence[Done | LeftOut], settings: CorrectionSettings, place: Path
) -> MicrographTable:
    """The rows that were corrected, named as files of the folder `place`, with optics groups that say what has been done."""
    kept = np.array([isinstance(result, Done) for result in results])
    sizes: dict[int, float] = {}
    for index, result in zip(table.optics_index, results):
        if isinstance(result, Done) and sizes.setdefault(int(index), result.lens.pixel_size) != result.lens.pixel_size:
            raise DataProblem(
                f"micrographs of {sizes[int(index)]:.4g} and {result.lens.pixel_size:.4g} A in one optics group",
                "one pixel size",
                "give --pixel-size",
            )
    optics = tuple(
        corrected_optics(
            replace(group, pixel_size=sizes.get(number, group.pixel_size)), settings.state, snr=settings.wiener_snr
        )
        for number, group in enumerate(settings.completed(table.optics))
    )
    names = [str(place / result.recorded.written) for result in results if isinstance(result, Done)]
    return replace(table.rows(kept), optics=optics, block=None).with_columns(
        {MICROGRAPH: np.array(names, dtype=object)}
    )


def shown(done: Sequence[Done]) -> list[Done]:
    """Some of them for the report, from the least to the greatest defocus; the most tilted first of all, if any is tilted."""
    order = sorted(done, key=lambda one: one.lens.defocus)
    chosen = [order[place] for place in sorted({0, len(order) // 2, len(order) - 1})][:SHOWN]
    steepest = max(done, key=lambda one: abs(one.lens.plane.tilt))
    return [steepest, *(one for one in chosen if one is not steepest)][:SHOWN] if steepest.lens.plane.tilt else chosen


def pair_of(done: Done, folder: Path) -> MicrographPair:
    return MicrographPair(done.recorded.name, done.recorded.path, folder / done.recorded.written, done.lens)


def findings_of_one(done: Done, settings: CorrectionSettings) -> list[Finding]:
    low, high = (value / MICROMETRE for value in done.lens.defocus_range(done.shape))
    plane = done.lens.plane
    about = f"About an axis {plane.axis_angle / DEGREE:g}° from x towards y."
    return [
        state_finding(settings),
        Finding(
            "defocus_um",
            "defocus",
            done.lens.defocus / MICROMETRE,
            "µm",
            "Mean of U and V in the middle, positive for underfocus.",
            3,
        ),
        Finding("defocus_lowest_um", "lowest defocus", low, "µm", "At the corner that is least underfocused.", 3),
        Finding("defocus_highest_um", "highest defocus", high, "µm", "At the corner that is most underfocused.", 3),
        Finding("tilt_deg", "tilt", plane.tilt / DEGREE, "°", about, 1),
        *snr_finding(settings),
    ]


def set_outcome(done: Sequence[Done], left_out: Sequence[LeftOut], settings: CorrectionSettings) -> Outcome:
    ranges = np.array([one.lens.defocus_range(one.shape) for one in done]) / MICROMETRE
    tilted = sum(one.lens.plane.tilt != 0 for one in done)
    findings = [
        Finding("micrographs", "micrographs", len(done), "", "Corrected, each for its own CTF."),
        Finding("left_out", "left out", len(left_out), "", "Micrographs that could not be corrected."),
        state_finding(settings),
        Finding("defocus_lowest_um", "lowest defocus", float(ranges.min()), "µm", "At any place of any micrograph.", 3),
        Finding(
            "defocus_highest_um", "highest defocus", float(ranges.max()), "µm", "At any place of any micrograph.", 3
        ),
        Finding("tilted", "tilted", tilted, "", "Micrographs corrected with a defocus that changes along them."),
        *snr_finding(settings),
    ]
    outcome = Outcome(findings, title=f"CTF correction of {settings.source.name}")
    outcome.subtitle = f"{len(done):,} micrographs, {in_words(settings)}"
    outcome.headline = ("micrographs", "left_out", "defocus_lowest_um", "defocus_highest_um")
    outcome.tables = {"left_out_because": {one.name: one.reason for one in left_out}}
    outcome.inputs = [one.recorded.path for one in done[:STACKS_RECORDED]]
    outcome.warnings = lens_warnings(done) + header_warnings(done)
    if left_out:
        outcome.warnings.append(f"{len(left_out)} micrographs were left out, the first because {left_out[0].reason}.")
    if settings.state is CtfState.WIENER:
        outcome.warnings.append(NO_LABEL)
    return outcome


def in_words(settings: CorrectionSettings) -> str:
    return settings.state.value.replace("_", " ")


def state_finding(settings: CorrectionSettings) -> Finding:
    return Finding("ctf_state", "CTF state", settings.state.value, "", MEANINGS[settings.state])


def snr_finding(settings: CorrectionSettings) -> list[Finding]:
    if settings.wiener_snr is None:
        return []
    return [Finding("snr", "signal-to-noise", settings.wiener_snr, "", "Signal power over noise power.", 3)]


def lens_warnings(done: Sequence[Done]) -> list[str]:
    """What the defocus says of some of the micrographs: partly overfocused, or spread too far."""
    found = []
    over = [one for one in done if (reach := one.lens.defocus_range(one.shape))[0] < 0 < reach[1]]
    if over:
        low, high = (value / MICROMETRE for value in over[0].lens.defocus_range(over[0].shape))
        found.append(
            f"The defocus of {over[0].recorded.name}{others(over)} goes from {low:.2f} to {high:.2f} µm: part of the micrograph "
            "is overfocused. Check the tilt and the defocus."
        )
    spread = [one for one in done if spreads_too_far(one)]
    if spread:
        worst = largest_defocus(spread[0]) / MICROMETRE
        found.append(
            f"At a defocus of {worst:.2f} µm the lens spreads the signal near Nyquist over more than half of "
            f"{spread[0].recorded.name}{others(spread)}: much of it lies outside and cannot be brought back."
        )
    return found


def others(some: Sequence[Done]) -> str:
    return "" if len(some) == 1 else f" (and of {len(some) - 1} more)"


def largest_defocus(done: Done) -> float:
    return max(abs(value) for value in done.lens.defocus_range(done.shape))


def spreads_too_far(done: Done) -> bool:
    return is_aliased(
        min(done.shape),
        done.lens.pixel_size,
        defocus=largest_defocus(done),
        voltage=done.lens.voltage,
        spherical_aberration=done.lens.optics.spherical_aberration or 0.0,
    )


def header_warnings(done: Sequence[Done]) -> list[str]:
    """A sentence if headers give another pixel size than the STAR file, which is believed."""
    for one in done:
        header, size = one.header_pixel_size, one.lens.pixel_size
        if header is not None and abs(header / size - 1) >= HEADER_TOLERANCE:
            return [
                f"The header of {one.recorded.name} says {header:.4g} Å per pixel, the STAR file {size:.4g} Å: the file is believed."
            ]
    return []
