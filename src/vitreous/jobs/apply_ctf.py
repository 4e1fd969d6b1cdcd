"""The job `ctf apply`: a micrograph of known defocus, flat or tilted, is corrected for its CTF."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vitreous.conventions import CtfState
from vitreous.errors import DataProblem, OutputProblem, SettingsProblem
from vitreous.fourier.transforms import crop_real, pad_real
from vitreous.io.atomic import atomic_path
from vitreous.io.mrc import read_header, read_image
from vitreous.io.mrc_stack import StackWriter
from vitreous.jobs.ctf_sections import ctf_sections
from vitreous.jobs.job import Desk, Finding, Outcome, ProgressOf, quiet
from vitreous.jobs.ranges import refuse_amplitude_contrast, refuse_numbers
from vitreous.optics.delocalisation import delocalisation, is_aliased
from vitreous.optics.tilt import TiltedCtf, tilted_contrast_adjoint
from vitreous.optics.tilt_correction import phase_flipped, wiener_filtered
from vitreous.optics.tilted_plane import TiltedPlane
from vitreous.units import DEGREE, KILOVOLT, MICROMETRE, MILLIMETRE

CORRECTED = "corrected.mrc"
LABEL = "vitreous ctf apply"
STATES = {
    "flip": CtfState.PHASE_FLIPPED.value,
    "wiener": "wiener_filtered",
    "premultiply": CtfState.PREMULTIPLIED.value,
}
MEANINGS = {
    "flip": "The sign of the CTF is undone; what had the transfer CTF has |CTF|.",
    "wiener": "The specimen that explains the micrograph best at the signal-to-noise ratio given.",
    "premultiply": "The micrograph times the CTF; what had the transfer CTF has its square.",
}


@dataclass(frozen=True)
class ApplyCtf:
    """Settings of the correction of a micrograph for its CTF. Contrast stays: dark protein stays dark.

    Parameters
    ----------
    micrograph
        Micrograph as recorded, one image (.mrc).
    defocus_um
        Largest and smallest defocus U V in the middle of the micrograph, in micrometre, positive for underfocus.
    angle_deg
        Direction of the defocus U, in degrees from x towards y.
    voltage_kv
        Voltage in kilovolt.
    cs_mm
        Spherical aberration in millimetre.
    amplitude_contrast
        Amplitude contrast, a fraction.
    phase_shift_deg
        Phase shift of a phase plate, in degrees.
    tilt_deg
        Tilt of the specimen in degrees, right-handed about the axis: about y, the side of +x is less underfocused.
    tilt_axis_deg
        Direction of the tilt axis in the image, in degrees from x towards y.
    method
        What is done: flip (the sign of the CTF), wiener (least squares), premultiply (times the CTF).
    snr
        Power of the signal over that of the noise, for wiener.
    pixel_size
        Pixel size in angstrom, instead of the header's.
    """

    micrograph: Path
    defocus_um: tuple[float, float] = field(kw_only=True)
    angle_deg: float = field(default=0.0, kw_only=True)
    voltage_kv: float = field(default=300.0, kw_only=True)
    cs_mm: float = field(default=2.7, kw_only=True)
    amplitude_contrast: float = field(default=0.1, kw_only=True)
    phase_shift_deg: float = field(default=0.0, kw_only=True)
    tilt_deg: float = field(default=0.0, kw_only=True)
    tilt_axis_deg: float = field(default=90.0, kw_only=True)
    method: Literal["flip", "wiener", "premultiply"] = field(default="flip", kw_only=True)
    snr: float = field(default=0.1, kw_only=True)
    pixel_size: float | None = field(default=None, kw_only=True)

    name: ClassVar[str] = "ctf apply"

    def __post_init__(self) -> None:
        refuse_numbers(
            self,
            positive=("voltage_kv", "snr", "pixel_size"),
            not_negative=("cs_mm",),
            finite=("defocus_um", "angle_deg", "phase_shift_deg", "tilt_axis_deg"),
        )
        if max(abs(defocus) for defocus in self.defocus_um) > 100:
            raise SettingsProblem(
                f"--defocus-um {self.defocus_um[0]:g} {self.defocus_um[1]:g}", "micrometres below 100"
            )
        refuse_amplitude_contrast(self.amplitude_contrast)
        if not abs(self.tilt_deg) <= 85:
            raise SettingsProblem(f"--tilt-deg {self.tilt_deg}", "an angle from -85 to 85")

    def inputs(self) -> list[Path]:
        return [self.micrograph]

    @property
    def lens(self) -> TiltedCtf:
        u, v = (defocus * MICROMETRE for defocus in self.defocus_um)
        turn = 2 * self.angle_deg * DEGREE
        return TiltedCtf(
            TiltedPlane(self.tilt_deg * DEGREE, self.tilt_axis_deg * DEGREE),
            (u + v) / 2,
            self.voltage_kv * KILOVOLT,
            self.cs_mm * MILLIMETRE,
            self.amplitude_contrast,
            astigmatism=((u - v) / 2 * math.cos(turn), (u - v) / 2 * math.sin(turn)),
            phase_shift=self.phase_shift_deg * DEGREE,
        )

    def run(self, desk: Desk) -> Outcome:
        image, pixel_size = read_micrograph(self.micrograph, self.pixel_size)
        corrected = self.corrected(image, pixel_size, desk)
        label = f"{LABEL}: {STATES[self.method]}"
        label += f", tilt {self.tilt_deg:g} about {self.tilt_axis_deg:g} deg" if self.tilt_deg else ""
        with StackWriter(desk.folder / CORRECTED, pixel_size, label=label) as writer:
            writer.append(corrected)
        outcome = self.outcome(image.shape, pixel_size)
        outcome.warnings = self.warnings(image.shape, pixel_size)
        outcome.sections = ctf_sections(outcome, image, corrected, pixel_size, self.lens)
        return outcome

    def corrected(self, image: np.ndarray, pixel_size: float, desk: Desk) -> np.ndarray:
        """The deviation from the mean, in a frame of zeros that what the lens spreads cannot cross; the mean is put back."""
        mean = image.mean(dtype=np.float64)
        frame = pad_real((image - mean).astype(np.float32), self.frame(image.shape, pixel_size), 2)
        progress = desk.progress("correct")
        if self.method == "flip":
            result = phase_flipped(frame, pixel_size, self.lens, progress=progress)
        elif self.method == "wiener":
            result = wiener_filtered(frame, pixel_size, self.lens, snr=self.snr, progress=progress)
        else:
            result = tilted_contrast_adjoint(frame, pixel_size, self.lens)
        return crop_real(result, image.shape, 2) + np.float32(mean)

    def frame(self, shape: tuple[int, ...], pixel_size: float) -> tuple[int, int]:
        """The size in pixels that is transformed: a margin as wide as the lens spreads the signal at half of Nyquist."""
        from scipy.fft import next_fast_len

        defocus = max(abs(value) for value in self.defocus_range(shape, pixel_size))
        spread = abs(delocalisation(0.25 / pixel_size, defocus=defocus, voltage=self.lens.voltage))
        margin = math.ceil(spread / pixel_size)
        rows, columns = (int(next_fast_len(size + margin, real=True) or size) for size in shape)
        return rows, columns

    def defocus_range(self, shape: tuple[int, ...], pixel_size: float) -> tuple[float, float]:
        """Smallest and largest defocus in angstrom at the corners of the micrograph."""
        x, y = (np.array([-1, 1]) * size * pixel_size / 2 for size in shape[::-1])
        corners = self.lens.plane.local_defocus(x[None, :], y[:, None], self.lens.defocus)
        return float(corners.min()), float(corners.max())

    def warnings(self, shape: tuple[int, ...], pixel_size: float) -> list[str]:
        low, high = self.defocus_range(shape, pixel_size)
        found = []
        if low < 0 < high:
            found.append(
                f"The defocus goes from {low / MICROMETRE:.2f} to {high / MICROMETRE:.2f} µm: part of the micrograph is "
                "overfocused. Check the tilt and the defocus."
            )
        worst = max(abs(low), abs(high))
        if is_aliased(
            min(shape),
            pixel_size,
            defocus=worst,
            voltage=self.lens.voltage,
            spherical_aberration=self.cs_mm * MILLIMETRE,
        ):
            found.append(
                f"At a defocus of {worst / MICROMETRE:.2f} µm the lens spreads the signal near Nyquist over more than half of "
                "this image: much of it lies outside and cannot be brought back."
            )
        return found

    def outcome(self, shape: tuple[int, ...], pixel_size: float) -> Outcome:
        low, high = (value / MICROMETRE for value in self.defocus_range(shape, pixel_size))
        middle = sum(self.defocus_um) / 2
        findings = [
            Finding("ctf_state", "CTF state", STATES[self.method], "", MEANINGS[self.method]),
            Finding(
                "defocus_um", "defocus", middle, "µm", "Mean of U and V in the middle, positive for underfocus.", 3
            ),
            Finding("defocus_lowest_um", "lowest defocus", low, "µm", "At the corner that is least underfocused.", 3),
            Finding("defocus_highest_um", "highest defocus", high, "µm", "At the corner that is most underfocused.", 3),
            Finding(
                "tilt_deg", "tilt", self.tilt_deg, "°", f"About an axis {self.tilt_axis_deg:g}° from x towards y.", 1
            ),
        ]
        if self.method == "wiener":
            findings.append(
                Finding("snr", "signal-to-noise", self.snr, "", "Signal power over noise power, as given.", 3)
            )
        outcome = Outcome(findings, title=f"CTF correction of {self.micrograph.name}")
        outcome.subtitle = f"{shape[1]} x {shape[0]} px of {pixel_size:.4g} Å, {self.voltage_kv:g} kV, {self.method}"
        outcome.tables = {"pixel_size_angstrom": pixel_size, "shape": list(shape)}
        return outcome


def read_micrograph(path: Path, pixel_size: float | None) -> tuple[np.ndarray, float]:
    """The micrograph and its pixel size in angstrom, or an error that says what is wrong with it."""
    header = read_header(path)
    if header.mode == 4:
        raise DataProblem(f"{path} holds complex numbers (mode 4)", "a micrograph")
    if any(LABEL in label for label in header.labels):
        raise DataProblem(
            f"{path} is corrected already ('{next(label for label in header.labels if LABEL in label)}')",
            "a micrograph as recorded",
            "a CTF is applied once",
        )
    image = read_image(path)
    if pixel_size is None:
        if header.pixel_size is None:
            raise DataProblem(
                f"{path} has pixel size 0 in its header (unknown)", "a pixel size in angstrom", "give --pixel-size"
            )
        if abs(header.pixel_size[0] / header.pixel_size[1] - 1) > 1e-3:
            raise DataProblem(f"{path} has pixels of {header.pixel_size[:2]} A", "square pixels", "give --pixel-size")
        pixel_size = header.pixel_size[0]
    if min(image.shape) < 16:
        raise DataProblem(f"{path} has {image.shape[1]} x {image.shape[0]} pixels", "at least 16 x 16")
    if not np.isfinite(image).all():
        raise DataProblem(f"{path} holds NaN or infinite pixels", "finite numbers")
    if image.min() == image.max():
        raise DataProblem(f"every pixel of {path} has the value {image.min():g}", "an image")
    return image, float(pixel_size)


def correct_to_file(job: ApplyCtf, out: Path, *, force: bool = False, progress: ProgressOf = quiet) -> Outcome:
    """Run the job and keep only the corrected micrograph, as the file `out`."""
    if out.exists() and not force:
        raise OutputProblem(f"{out} exists", "a new file name", "choose another --out, or give --force")
    with atomic_path(out) as temporary, tempfile.TemporaryDirectory(prefix=".vitreous-", dir=out.parent) as folder:
        outcome = job.run(Desk(Path(folder), progress))
        os.replace(Path(folder) / CORRECTED, temporary)
    return outcome
