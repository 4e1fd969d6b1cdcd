"""What simulated micrographs are to be: the options of the job, checked as far as they can be without the specimen."""

# Annotations here are objects, not text: the command line would look their names up in the modules of the jobs that inherit them.
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vitreous.errors import SettingsProblem
from vitreous.jobs.model_input import ModelInput
from vitreous.jobs.ranges import option, refuse_amplitude_contrast, refuse_defocus_range, refuse_numbers
from vitreous.jobs.specimen import Specimen

NO_DETECTOR = "none"
SMALLEST = 16  # pixels
STEEPEST = 75.0  # degrees


@dataclass(frozen=True)
class MicrographSettings(ModelInput):
    """What simulated micrographs are to be.

    Parameters
    ----------
    specimen
        Atomic model (.cif, .pdb), map in volts (.mrc, .map), or one of bundled:6zu5 (a ribosome), bundled:4ake and
        bundled:1ake (adenylate kinase, open and closed). Models get their hydrogens and displace ice.
    pixel_size
        Pixel size in angstrom. Needed for a model; for a map it replaces the one of its header.
    size
        Pixels of the field along x and y; one number for a square.
    count
        Number of micrographs.
    particles
        Particles in each micrograph.
    distance
        Least distance between the centres of two particles in projection, in angstrom. By default the particle's diameter.
    resolution
        Finest detail in angstrom that the micrographs must be able to show: a pixel size too coarse for it is refused.
    inner_potential
        Mean inner potential of the ice in volt, of which the particles displace their volume; 4.526 (ice of 0.93 g/cm³) unless
        given.
    model
        How electrons are scattered: projection (linear in the potential), weak_phase, phase_object, ewald,
        thick_phase_grating and rytov image each particle at its own height; multislice sends one wave through particles
        and ice, slab by slab.
    slice_thickness
        Thickness of a slab of multislice in angstrom, 10 unless given.
    volts_per_unit
        Volts that one unit of a map stands for, 1 unless given.
    ice_thickness
        Thickness of the ice in angstrom. By default 300, or 50 more than a large particle's diameter.
    ice
        Grain of the ice: random, or none (the ice is then a continuum, which the particles still displace).
    ice_b_factor
        B factor in angstrom² that blurs the molecules of the ice. By default 4.8 for each electron per square angstrom, which
        is how beam-induced motion fades their grain (McMullan et al. 2015); 0 without a detector.
    tilt_deg
        Tilt of the ice in degrees, a right-handed turn about the axis.
    tilt_axis_deg
        Direction of the tilt axis in degrees, from +x towards +y; 90 unless given.
    dose
        Electrons per square angstrom, 40 unless given.
    detector
        Detector by name (falcon4, k3, k2, ideal, ...), or none: the expected intensity per electron, without noise.
    frames
        Frames of a movie, which is written beside its sum. 1 makes none.
    drift
        Way in angstrom that the specimen moves during the movie; the sum is made of frames moved back.
    radiation_damage
        Let detail fade with the exposure (Grant and Grigorieff 2015).
    critical_exposure_scale
        Critical exposure relative to that at 300 kV, for radiation damage; known at 300 and 100 kV. 0.8 is in use at 200 kV.
    defocus_um
        Smallest and largest defocus in micrometre, positive for underfocus; each micrograph's is drawn evenly between
        them.
    astigmatism
        Root mean square of the difference between the largest and the smallest defocus of a micrograph, in angstrom.
    voltage_kv
        Voltage in kilovolt.
    cs_mm
        Spherical aberration in millimetre.
    cc_mm
        Chromatic aberration in millimetre.
    energy_fwhm_ev
        Full width at half maximum of the electrons' energies, in electronvolt; 0 for none.
    convergence_one_over_e_mrad
        Half-angle of the illumination at which it falls to 1/e, in milliradian; 0 for a parallel beam.
    amplitude_contrast
        Amplitude contrast, a fraction; 0.1 unless absorption is computed.
    inelastic
        Compute absorption by inelastic scattering from the mean free paths of this source, instead of an amplitude contrast.
    phase_shift_deg
        Phase shift of a phase plate in degrees.
    b_factor
        B factor in angstrom², blurring the specimen in addition to the B factors of its atoms.
    seed
        Seed of everything random. Particle i of micrograph m depends on the seed, on m and on i.
    """

    specimen: Path
    pixel_size: float | None = field(default=None, kw_only=True)
    size: tuple[int, ...] = field(default=(4096,), kw_only=True)
    count: int = field(default=1, kw_only=True)
    particles: int = field(default=50, kw_only=True)
    distance: float | None = field(default=None, kw_only=True)
    resolution: float | None = field(default=None, kw_only=True)
    inner_potential: float | None = field(default=None, kw_only=True)
    model: Literal[
        "projection", "weak_phase", "phase_object", "ewald", "thick_phase_grating", "rytov", "multislice"
    ] = field(default="projection", kw_only=True)
    slice_thickness: float | None = field(default=None, kw_only=True)
    volts_per_unit: float | None = field(default=None, kw_only=True)
    ice_thickness: float | None = field(default=None, kw_only=True)
    ice: Literal["random", "none"] = field(default="random", kw_only=True)
    ice_b_factor: float | None = field(default=None, kw_only=True)
    tilt_deg: float = field(default=0.0, kw_only=True)
    tilt_axis_deg: float | None = field(default=None, kw_only=True)
    dose: float | None = field(default=None, kw_only=True)
    detector: str = field(default="falcon4", kw_only=True)
    frames: int = field(default=1, kw_only=True)
    drift: float = field(default=0.0, kw_only=True)
    radiation_damage: bool = field(default=False, kw_only=True)
    critical_exposure_scale: float | None = field(default=None, kw_only=True)
    defocus_um: tuple[float, float] = field(default=(0.8, 2.0), kw_only=True)
    astigmatism: float = field(default=200.0, kw_only=True)
    voltage_kv: float = field(default=300.0, kw_only=True)
    cs_mm: float = field(default=2.7, kw_only=True)
    cc_mm: float = field(default=2.7, kw_only=True)
    energy_fwhm_ev: float = field(default=0.7, kw_only=True)
    convergence_one_over_e_mrad: float = field(default=0.03, kw_only=True)
    amplitude_contrast: float | None = field(default=None, kw_only=True)
    inelastic: Literal["none", "vulovic2013", "iakoubovskii2008", "malis1988"] = field(default="none", kw_only=True)
    phase_shift_deg: float = field(default=0.0, kw_only=True)
    b_factor: float = field(default=0.0, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        self.refuse_numbers()
        self.refuse_without_effect()

    def refuse_numbers(self) -> None:
        """Raise SettingsProblem for a number that cannot be."""
        positive = ("pixel_size", "count", "distance", "resolution", "slice_thickness", "ice_thickness", "dose")
        positive += ("critical_exposure_scale",)
        not_negative = ("particles", "drift", "astigmatism", "cs_mm", "cc_mm", "energy_fwhm_ev", "seed")
        refuse_numbers(
            self,
            positive=(*positive, "frames", "voltage_kv"),
            not_negative=(*not_negative, "convergence_one_over_e_mrad", "ice_b_factor"),
            finite=("b_factor", "phase_shift_deg", "tilt_deg", "tilt_axis_deg", "volts_per_unit", "inner_potential"),
        )
        if not 1 <= len(self.size) <= 2 or min(self.size) < SMALLEST:
            shown = " ".join(map(str, self.size))
            raise SettingsProblem(f"--size {shown}", f"one or two numbers of pixels, {SMALLEST} or more")
        if not abs(self.tilt_deg) < STEEPEST:
            raise SettingsProblem(f"--tilt-deg {self.tilt_deg:g}", f"less than {STEEPEST:g} degrees either way")
        refuse_defocus_range(self.defocus_um)
        refuse_amplitude_contrast(self.amplitude_contrast)

    def refuse_without_effect(self) -> None:
        """Raise SettingsProblem for an option that another makes meaningless."""
        noiseless = self.detector == NO_DETECTOR
        meaningless = [
            (self.inelastic != "none" and self.amplitude_contrast is not None, "amplitude_contrast", "--inelastic"),
            (noiseless and self.dose is not None, "dose", "--detector none"),
            (noiseless and self.frames > 1, "frames", "--detector none"),
            (
                not self.radiation_damage and self.critical_exposure_scale is not None,
                "critical_exposure_scale",
                "no damage",
            ),
            (noiseless and self.radiation_damage, "radiation_damage", "--detector none"),
            (self.frames == 1 and self.drift > 0, "drift", "--frames 1"),
            (self.tilt_deg == 0 and self.tilt_axis_deg is not None, "tilt_axis_deg", "--tilt-deg 0"),
            (
                self.model != "multislice" and self.slice_thickness is not None,
                "slice_thickness",
                f"--model {self.model}",
            ),
            (self.ice == "none" and self.ice_b_factor is not None, "ice_b_factor", "--ice none"),
            (not self.sample.is_map and self.volts_per_unit is not None, "volts_per_unit", "an atomic model"),
            (
                self.sample.is_map and self.inner_potential is not None,
                "inner_potential",
                "a map, which is above the ice",
            ),
            (self.sample.is_map and self.inelastic != "none", "inelastic", "a map, which does not say where matter is"),
            (self.sample.is_map and self.model == "multislice", "model multislice", "a map, which has no atoms"),
        ]
        for is_so, name, other in meaningless:
            if is_so:
                raise SettingsProblem(f"{option(name)} with {other}", "one or the other", "leave one of them out")

    @property
    def sample(self) -> Specimen:
        return Specimen(self.specimen, None, self.pixel_size, self.b_factor, self.from_file)

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x) pixels of the field."""
        return self.size[-1], self.size[0]

    def inputs(self) -> list[Path]:
        return [self.sample.file]
