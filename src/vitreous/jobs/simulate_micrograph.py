"""The job `simulate micrograph`: many copies of a particle in ice become micrographs of which everything is known."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vitreous.detection.movie import movie_frames, sum_frames
from vitreous.detection.recording import dose_per_pixel, record, sparse_dose
from vitreous.engine.local import Progress
from vitreous.errors import SettingsProblem
from vitreous.io.micrograph_star import write_coordinates, write_micrographs
from vitreous.io.mrc_stack import StackWriter, write_volume
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.micrograph_plan import FOLDER, NO_DETECTOR, MicrographPlan
from vitreous.jobs.micrograph_sections import micrograph_sections
from vitreous.jobs.ranges import option, refuse_amplitude_contrast, refuse_defocus_range, refuse_numbers
from vitreous.jobs.report import Source
from vitreous.jobs.simulation_findings import b_factor_warning, model_findings
from vitreous.jobs.specimen import Choices, Specimen
from vitreous.model.volume import Volume
from vitreous.optics.depth import depth_of_field
from vitreous.scattering.ladder import FLAT, ScatteringModel
from vitreous.scattering.propagation import BAND_LIMIT
from vitreous.simulation.field_multislice import FieldStack, multislice_intensity
from vitreous.simulation.micrograph import expected_intensity
from vitreous.simulation.particle_potential import ParticlePotential
from vitreous.simulation.streams import Quantity, image_stream, stream_key
from vitreous.specimen.ice import ice_slabs
from vitreous.units import DEGREE, MICROMETRE

SMALLEST = 16  # pixels
STEEPEST = 75.0  # degrees
STEPS = 100  # of the progress of one micrograph


@dataclass(frozen=True)
class SimulateMicrograph:
    """Settings of simulated micrographs.

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
    assembly
        Assembly of the model's file to build, such as 1; ncs for the copies of its non-crystallographic symmetry,
        unit_cell for one cell of its crystal. By default the atoms as they stand in the file.
    ensemble_model
        Number of the model to take of an ensemble; by default the first.
    ions
        What to do with charged atoms that stand alone, for which there are no scattering factors: refuse, neutral (the
        factors of neutral atoms), or omit.
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
    assembly: str | None = field(default=None, kw_only=True)
    ensemble_model: int | None = field(default=None, kw_only=True)
    ions: Literal["refuse", "neutral", "omit"] = field(default="refuse", kw_only=True)
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

    name: ClassVar[str] = "simulate micrograph"
    resumable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.refuse_numbers()
        self.refuse_without_effect()

    def refuse_numbers(self) -> None:
        """Raise SettingsProblem for a number that cannot be."""
        positive = ("pixel_size", "count", "distance", "resolution", "slice_thickness", "ice_thickness", "dose")
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
        choices = Choices(self.assembly, self.ensemble_model, self.ions)
        return Specimen(self.specimen, None, self.pixel_size, self.b_factor, choices)

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x) pixels of the field."""
        return self.size[-1], self.size[0]

    def inputs(self) -> list[Path]:
        return [self.sample.file]

    def run(self, desk: Desk) -> Outcome:
        plan = MicrographPlan.of(self)
        potential = plan.potential()
        (desk.folder / FOLDER).mkdir(exist_ok=True)
        for unfinished in (desk.folder / FOLDER).glob(".*"):  # of a run that was killed
            unfinished.unlink()
        progress = desk.progress("simulate")
        for number, name in enumerate(plan.names):
            if not (desk.folder / FOLDER / f"{name}.mrc").is_file():  # one that an interrupted run has finished stays
                write_micrograph(plan, potential, number, desk.folder / FOLDER, share_of(progress, number, self.count))
            progress((number + 1) * STEPS, self.count * STEPS)
        write_truth(plan, potential, desk.folder)
        outcome = self.outcome(plan, desk.folder)
        sources = [Source(self.sample.source)] if self.sample.bundled else []
        outcome.sections = micrograph_sections(outcome, plan, desk.folder, sources)
        return outcome

    def outcome(self, plan: MicrographPlan, folder: Path) -> Outcome:
        statistics = [json.loads((folder / FOLDER / f"{name}.json").read_text()) for name in plan.names]
        mean = float(np.mean([one["mean"] for one in statistics]))
        defocus = plan.ctf.defocus / MICROMETRE
        pixel_size = plan.field.pixel_size
        unit = "" if plan.detector is None else "counts/px"
        findings = [
            Finding("micrographs", "micrographs", self.count, "", "Images in the folder micrographs."),
            Finding("particles", "particles", self.count * self.particles, "", "In all; coordinates.star has each."),
            Finding(
                "ice_thickness", "ice thickness", plan.slab.thickness, "Å", "Across the ice, not along the beam.", 0
            ),
            Finding("particle_diameter", "particle diameter", 2 * plan.radius, "Å", "Of a sphere that holds it.", 0),
            Finding("defocus_lowest_um", "lowest defocus", float(defocus.min()), "µm", "Of a micrograph, at z = 0."),
            Finding("defocus_highest_um", "highest defocus", float(defocus.max()), "µm", "Of a micrograph, at z = 0."),
            Finding(
                "mean", "mean of the images", mean, unit, "Where no ice is, it would be 1 electron for each that comes."
            ),
        ]
        if plan.detector is not None:
            electrons = dose_per_pixel(plan.dose, pixel_size)
            findings.append(Finding("electrons_per_pixel", "electrons per pixel", electrons, "", "Before the ice.", 3))
        if plan.inelastic is not None:
            findings.append(Finding("transmitted", "beam left by the ice", plan.transmitted, "", TRANSMITTED, 3))
        if plan.model_of_file is not None:
            findings += model_findings(plan.model_of_file)
        outcome = Outcome(findings, title=f"Simulated micrographs of {self.sample.name}")
        height, width = plan.field.shape
        outcome.subtitle = (
            f"{self.count} of {width} x {height} px of {pixel_size:.4g} Å, {self.voltage_kv:g} kV, {plan.model.value}"
        )
        outcome.tables = {"pixel_size_angstrom": pixel_size, "specimen": self.sample.source}
        outcome.warnings = self.warnings(plan, statistics)
        return outcome

    def warnings(self, plan: MicrographPlan, statistics: list[dict[str, float]]) -> list[str]:
        found = [] if plan.model_of_file is None else b_factor_warning(plan.model_of_file, self.b_factor)
        if plan.detector is not None:
            electrons = dose_per_pixel(plan.dose, plan.field.pixel_size) / self.frames
            sparse = sparse_dose(electrons, "micrograph" if self.frames == 1 else "frame")
            found += [sparse] if sparse is not None else []
        dark = sum(one["negative"] for one in statistics)
        if dark:
            found.append(
                f"{dark:.0f} pixels would have been darker than no electrons at all and were set to 0: the model "
                f"{plan.model.value} is linear in the potential, and this specimen is too strong for it. Use phase_object or more."
            )
        if plan.model is ScatteringModel.MULTISLICE:
            finest = 2 * plan.field.pixel_size / BAND_LIMIT
            found.append(
                f"The wave of multislice ends at 2/3 of the Nyquist frequency: nothing finer than {finest:.2f} Å is shown."
            )
        if plan.model in FLAT and self.resolution is not None:
            depth = depth_of_field(self.resolution, plan.voltage)
            if 2 * plan.radius > depth:
                found.append(
                    f"The model {plan.model.value} images a particle {2 * plan.radius:.0f} Å thick as if it were flat, and the "
                    f"depth of field at {self.resolution:g} Å (d² / λ) is {depth:.0f} Å. Use ewald or more."
                )
        return found


def write_micrograph(
    plan: MicrographPlan, potential: ParticlePotential, number: int, folder: Path, progress: Progress
) -> None:
    """Micrograph `number`, its movie and its statistics; the micrograph is written last, whole or not at all."""
    settings, field, name = plan.settings, plan.field, plan.names[number]
    intensity = plan_intensity(plan, potential, number, progress)
    negative = int(np.count_nonzero(intensity < 0))
    np.maximum(intensity, 0, out=intensity)
    key = stream_key(settings.seed, Quantity.RECORDING)
    if plan.detector is None:
        image = intensity
    elif settings.frames == 1 and not settings.radiation_damage:
        rng = image_stream(key, 0, number)
        image = record(intensity, dose_per_pixel(plan.dose, field.pixel_size), plan.detector, rng)
    else:
        drift = plan.drift(number)
        frames = movie_frames(
            intensity,
            field.pixel_size,
            plan.exposure,
            plan.detector,
            lambda frame: image_stream(key, frame, number),
            drift=drift,
            fading=settings.radiation_damage,
        )
        if settings.frames == 1:
            image = next(frames)
        else:
            with StackWriter(folder / f"{name}_frames.mrcs", field.pixel_size) as writer:
                image = sum_frames(_kept(frames, writer), field.pixel_size, drift=drift)
    record_of = {"mean": float(image.mean(dtype=np.float64)), "negative": negative}
    (folder / f"{name}.json").write_text(json.dumps(record_of) + "\n", encoding="utf-8")
    with StackWriter(folder / f"{name}.mrc", field.pixel_size) as writer:
        writer.append(image)


def plan_intensity(plan: MicrographPlan, potential: ParticlePotential, number: int, progress: Progress) -> np.ndarray:
    """The expected intensity of micrograph `number`, by the model that the plan names."""
    microscope, placement = plan.microscopes[number], plan.placements[number]
    grains = plan.grains(number)
    if plan.model is not ScatteringModel.MULTISLICE:
        ice = None if grains is None else (next(ice_slabs(grains[0], 1)), next(ice_slabs(grains[1], 1)))
        return expected_intensity(
            plan.field,
            plan.slab,
            potential,
            placement,
            microscope,
            plan.model,
            ice=ice,
            transmitted=plan.transmitted,
            threads=os.cpu_count() or 1,
            progress=progress,
        )
    assert plan.atoms is not None
    stack = FieldStack(
        plan.field,
        plan.slab,
        plan.atoms,
        placement,
        plan.slice_thickness,
        None if grains is None else grains[0],
        extra_b_factor=plan.settings.b_factor,
        inner_potential=plan.settings.inner_potential,
        absorption=plan.absorption,
        ice_absorption=plan.ice_absorption,
        amplitude_contrast=0.0 if plan.inelastic else plan.amplitude_contrast,
        threads=os.cpu_count() or 1,
        progress=progress,
    )
    return multislice_intensity(stack, microscope)


def write_truth(plan: MicrographPlan, potential: ParticlePotential, folder: Path) -> None:
    """micrographs.star, coordinates.star and the map of the particle."""
    settings, count = plan.settings, plan.settings.count
    more = {
        "vitreousIceThickness": np.full(count, plan.slab.thickness),
        "vitreousTiltDeg": np.full(count, settings.tilt_deg),
        "vitreousTiltAxisDeg": np.full(count, round(plan.slab.plane.axis_angle / DEGREE, 9)),
    }
    if settings.frames > 1:
        movies = [f"{FOLDER}/{name}_frames.mrcs" for name in plan.names]
        more["rlnMicrographMovieName"] = np.array(movies, dtype=object)
    names = [f"{FOLDER}/{name}.mrc" for name in plan.names]
    write_micrographs(folder / "micrographs.star", plan.optics, names, plan.ctf, more)
    if settings.particles:
        write_coordinates(folder / "coordinates.star", plan.coordinates)
    label = "vitreous truth: potential in volt above that of the ice"
    write_volume(folder / "truth_map.mrc", Volume(potential.volts, potential.pixel_size), label=label)


def _kept(frames: Iterator[np.ndarray], writer: StackWriter) -> Iterator[np.ndarray]:
    """The frames, each written as it passes."""
    for frame in frames:
        writer.append(frame)
        yield frame


def share_of(progress: Progress, number: int, count: int) -> Progress:
    """The progress of one micrograph of several as a part of the whole."""
    return lambda done, total: progress(number * STEPS + done * STEPS // max(1, total), count * STEPS)


TRANSMITTED = "The part of the electrons that pass the ice without losing energy: exp(-t / mean free path)."
