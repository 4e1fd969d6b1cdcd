"""What `ctf apply` is told: the images, their CTF where no file gives it, and the correction."""

# Annotations here are objects, not text: the command line would look their names up in the modules of the job that inherits them.
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from vitreous.conventions import CtfState
from vitreous.errors import SettingsProblem
from vitreous.io.particles import SUFFIXES
from vitreous.jobs.ranges import option, refuse_amplitude_contrast, refuse_numbers
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.optics.tilted_plane import TiltedPlane
from vitreous.units import DEGREE, KILOVOLT, MICROMETRE, MILLIMETRE

STATES = {"flip": CtfState.PHASE_FLIPPED, "wiener": CtfState.WIENER, "premultiply": CtfState.PREMULTIPLIED}
MODES = {"float32": 2, "float16": 12}
SNR = 0.1
VOLTAGE_KV, CS_MM, AMPLITUDE_CONTRAST, AXIS_DEG = 300.0, 2.7, 0.1, 90.0
OF_EACH_IMAGE = ("defocus_um", "angle_deg", "phase_shift_deg")  # what a STAR or .cs file gives itself
OF_THE_MICROSCOPE = {  # option: (field of an optics group, its unit)
    "voltage_kv": ("voltage", KILOVOLT),
    "cs_mm": ("spherical_aberration", MILLIMETRE),
    "amplitude_contrast": ("amplitude_contrast", 1.0),
}


@dataclass(frozen=True)
class CorrectionSettings:
    """Settings of the correction of images for their CTF. Contrast stays: dark protein stays dark.

    Parameters
    ----------
    source
        One micrograph as recorded (.mrc, .tif), a STAR file of micrographs with their CTFs, or particles (.star, .cs, .csg).
    defocus_um
        Largest and smallest defocus U V in the middle of the micrograph, in micrometre, positive for underfocus. Needed for
        one micrograph; STAR and .cs files give the CTF of each image.
    angle_deg
        Direction of the defocus U, in degrees from x towards y; 0 unless given.
    voltage_kv
        Voltage in kilovolt; of one micrograph 300 unless given, of a file that does not give it.
    cs_mm
        Spherical aberration in millimetre; of one micrograph 2.7 unless given, of a file that does not give it.
    amplitude_contrast
        Amplitude contrast, a fraction; of one micrograph 0.1 unless given, of a file that does not give it.
    phase_shift_deg
        Phase shift of a phase plate, in degrees; 0 unless given.
    tilt_deg
        Tilt of the specimen in degrees, right-handed about the axis: about y, the side of +x is less underfocused. Of all
        micrographs of a STAR file that gives no tilts.
    tilt_axis_deg
        Direction of the tilt axis in the image, in degrees from x towards y; 90 unless given.
    method
        What is done: flip (the sign of the CTF), wiener (least squares), premultiply (times the CTF).
    snr
        Power of the signal over that of the noise, for wiener; 0.1 unless given.
    mode
        Numbers of the pixels that are written.
    pixel_size
        Pixel size in angstrom, instead of the file's.
    datadir
        Folder in which the image paths of a STAR or .cs file start, if not beside the file.
    passthrough
        cryoSPARC files with the columns that a .cs file lacks, merged by uid.
    """

    source: Path
    defocus_um: tuple[float, float] | None = field(default=None, kw_only=True)
    angle_deg: float | None = field(default=None, kw_only=True)
    voltage_kv: float | None = field(default=None, kw_only=True)
    cs_mm: float | None = field(default=None, kw_only=True)
    amplitude_contrast: float | None = field(default=None, kw_only=True)
    phase_shift_deg: float | None = field(default=None, kw_only=True)
    tilt_deg: float | None = field(default=None, kw_only=True)
    tilt_axis_deg: float | None = field(default=None, kw_only=True)
    method: Literal["flip", "wiener", "premultiply"] = field(default="flip", kw_only=True)
    snr: float | None = field(default=None, kw_only=True)
    mode: Literal["float32", "float16"] = field(default="float32", kw_only=True)
    pixel_size: float | None = field(default=None, kw_only=True)
    datadir: Path | None = field(default=None, kw_only=True)
    passthrough: tuple[Path, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        refuse_numbers(
            self,
            positive=("voltage_kv", "snr", "pixel_size"),
            not_negative=("cs_mm",),
            finite=("defocus_um", "angle_deg", "phase_shift_deg", "tilt_axis_deg"),
        )
        if self.defocus_um is not None and max(abs(defocus) for defocus in self.defocus_um) > 100:
            raise SettingsProblem(
                f"--defocus-um {self.defocus_um[0]:g} {self.defocus_um[1]:g}", "micrometres below 100"
            )
        refuse_amplitude_contrast(self.amplitude_contrast)
        if self.tilt_deg is not None and not abs(self.tilt_deg) <= 85:
            raise SettingsProblem(f"--tilt-deg {self.tilt_deg}", "an angle from -85 to 85")
        if self.tilt_axis_deg is not None and self.tilt_deg is None:
            raise SettingsProblem(f"--tilt-axis-deg {self.tilt_axis_deg:g} without a tilt", "--tilt-deg")
        if self.snr is not None and self.method != "wiener":
            raise SettingsProblem(f"--snr {self.snr:g} with --method {self.method}", "--method wiener")
        self.refuse_what_the_file_says()

    def refuse_what_the_file_says(self) -> None:
        """Options of one micrograph beside a file of many, and the reverse."""
        if not self.of_many:
            if self.defocus_um is None:
                raise SettingsProblem(
                    f"{self.source} without a defocus",
                    "--defocus-um U V",
                    "give it, or a STAR file of micrographs with their CTFs",
                )
            for name in ("datadir", "passthrough"):
                if getattr(self, name):
                    raise SettingsProblem(f"{option(name)} for one micrograph", "it only for STAR and .cs files")
            return
        for name in OF_EACH_IMAGE:
            if getattr(self, name) is not None:
                raise SettingsProblem(
                    f"{option(name)} for {self.source}", "the CTF of each image, which that file gives", "leave it out"
                )

    def inputs(self) -> list[Path]:
        return [self.source, *self.passthrough]

    @property
    def of_many(self) -> bool:
        """Whether the source lists images, each with its CTF."""
        return self.source.suffix.lower() in SUFFIXES

    @property
    def state(self) -> CtfState:
        return STATES[self.method]

    @property
    def wiener_snr(self) -> float | None:
        """The ratio that is filtered with, None for methods without."""
        if self.method != "wiener":
            return None
        return SNR if self.snr is None else self.snr

    @property
    def mrc_mode(self) -> int:
        return MODES[self.mode]

    @property
    def plane(self) -> TiltedPlane | None:
        """The tilt that the options give; None if they give none."""
        if self.tilt_deg is None:
            return None
        axis = AXIS_DEG if self.tilt_axis_deg is None else self.tilt_axis_deg
        return TiltedPlane(self.tilt_deg * DEGREE, axis * DEGREE)

    def own_ctf(self) -> tuple[OpticsGroup, CtfParameters]:
        """The microscope and the CTF of one micrograph, as the options give them."""
        assert self.defocus_um is not None
        u, v = (defocus * MICROMETRE for defocus in self.defocus_um)
        optics = OpticsGroup(
            pixel_size=self.pixel_size,
            voltage=(VOLTAGE_KV if self.voltage_kv is None else self.voltage_kv) * KILOVOLT,
            spherical_aberration=(CS_MM if self.cs_mm is None else self.cs_mm) * MILLIMETRE,
            amplitude_contrast=AMPLITUDE_CONTRAST if self.amplitude_contrast is None else self.amplitude_contrast,
        )
        angle, phase = ((value or 0.0) * DEGREE for value in (self.angle_deg, self.phase_shift_deg))
        return optics, CtfParameters.of(u, v, angle, phase_shift=phase)

    def completed(self, groups: tuple[OpticsGroup, ...]) -> tuple[OpticsGroup, ...]:
        """Optics groups of a file with what they lack and the options give. An option for what the file gives is refused."""
        for name, (attribute, unit) in OF_THE_MICROSCOPE.items():
            value = getattr(self, name)
            if value is None:
                continue
            if any(getattr(group, attribute) is not None for group in groups):
                raise SettingsProblem(
                    f"{option(name)} {value:g} for {self.source}", "it only where the file does not give it"
                )
            groups = tuple(replace(group, **{attribute: value * unit}) for group in groups)
        return groups
