"""What a set of simulated micrographs will be, decided and checked before anything is computed: where every particle
lies, what the lens does in each micrograph, what the ice and the detector are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vitreous.detection.detector import Detector
from vitreous.detection.detectors import detector
from vitreous.detection.dose import Exposure
from vitreous.detection.movie import Drift, smooth_drift
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.io.atoms import AtomicModel
from vitreous.io.micrograph_star import Coordinates
from vitreous.jobs.micrograph_settings import NO_DETECTOR, MicrographSettings
from vitreous.jobs.specimen import ROOM
from vitreous.model.atoms import Atoms
from vitreous.model.microscope import Microscope
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.pose import Pose
from vitreous.optics.delocalisation import largest_defocus_that_fits
from vitreous.optics.electrons import wavelength
from vitreous.optics.envelopes import focal_spread
from vitreous.optics.tilted_plane import TiltedPlane
from vitreous.scattering.ladder import ScatteringModel
from vitreous.scattering.propagation import BAND_LIMIT
from vitreous.simulation.particle_potential import (
    ParticlePotential,
    centred_atoms,
    even_box,
    potential_of_atoms,
    potential_of_map,
    radius_of_atoms,
)
from vitreous.simulation.placement import Field, Placement, Slab, check_ice, place_particles
from vitreous.simulation.streams import Quantity, image_stream, stream_key
from vitreous.specimen.ice import IceField
from vitreous.specimen.inelastic import emerging_amplitude_contrast, imaginary_potential, mean_free_path
from vitreous.specimen.materials import ICE, PROTEIN
from vitreous.units import DEGREE, KILOVOLT, MICROMETRE, MILLIMETRE

FOLDER = "micrographs"
AMPLITUDE_CONTRAST = 0.1
DOSE = 40.0  # e/A^2
LEAST_ICE = 300.0  # angstrom
ROOM_IN_ICE = 50.0  # angstrom of ice more than a large particle's diameter
SLICE_THICKNESS = 10.0  # angstrom
# Water molecules move by a mean square of 1.1 A^2 for each e/A^2 at 300 kV (McMullan et al. 2015, arXiv:1504.00947). A walk
# with a third of that along each axis, averaged over the dose D, fades power by exp(-B k^2/2) at low k, B = 4 pi^2 (1.1/3) D/3.
ICE_B_PER_DOSE = 4 * math.pi**2 * 1.1 / 9
VOLTAGE_SCALES = {300e3: 1.0, 100e3: 1 / 1.57}  # of the critical exposure, where it was measured: see detection.dose


@dataclass(frozen=True)
class MicrographPlan:
    """Settings and the specimen that they name, and all that follows. Properties are computed once."""

    settings: MicrographSettings
    atoms: Atoms | None  # centred, with hydrogens
    map_potential: ParticlePotential | None
    model_of_file: AtomicModel | None = None

    @staticmethod
    def of(settings: MicrographSettings) -> MicrographPlan:
        """The plan, checked: nothing that can be known now fails later."""
        sample = settings.sample
        if not sample.is_map and settings.pixel_size is None:
            raise SettingsProblem(
                f"no pixel size for the model {settings.specimen}", "angstrom per pixel", "give --pixel-size"
            )
        model = sample.atomic_model()
        if model is None:
            potential = potential_of_map(sample.map(), settings.volts_per_unit or 1.0)
            plan = MicrographPlan(settings, None, potential)
        else:
            plan = MicrographPlan(settings, centred_atoms(model.atoms), None, model)
        plan.check()
        return plan

    def check(self) -> None:
        """Raise SettingsProblem for what cannot be simulated, in the order in which a user would mend it."""
        self.check_resolution()
        check_ice(self.slab, self.radius)
        self.detector  # noqa: B018 - refuses unknown detectors
        self.exposure  # noqa: B018 - and voltages without a measured radiation damage
        self.placements  # noqa: B018 - and particles that do not fit
        self.check_defocus()

    def check_resolution(self) -> None:
        """Raise SettingsProblem if the pixels, or the band of the wave, end before the resolution asked for."""
        asked, pixel_size = self.settings.resolution, self.field.pixel_size
        finest = 2 * pixel_size / (BAND_LIMIT if self.model is ScatteringModel.MULTISLICE else 1.0)
        if asked is not None and asked < finest * (1 - 1e-9):
            largest = pixel_size * asked / finest
            raise SettingsProblem(
                f"pixels of {pixel_size:g} A for a resolution of {asked:g} A with the model {self.model.value}",
                f"pixels of {largest:.4g} A or smaller",
                f"{pixel_size:g} A reach {finest:.4g} A",
            )

    def check_defocus(self) -> None:
        """Raise SettingsProblem if a CTF oscillates faster than the field samples it."""
        size = min(self.field.shape)
        largest = largest_defocus_that_fits(size, self.field.pixel_size, wavelength(self.voltage))
        heights = np.concatenate([placement.position[:, 2] for placement in self.placements] or [np.zeros(1)])
        heights = np.append(heights, 0.0)
        for microscope in self.microscopes:
            for height in (float(heights.min()), float(heights.max())):
                defocus = abs(microscope.defocus + height) + math.hypot(*microscope.astigmatism)
                if defocus > largest:
                    raise SettingsProblem(
                        f"a defocus of {defocus / MICROMETRE:.2f} um in a field of {size} pixels of {self.field.pixel_size:g} A",
                        f"at most {largest / MICROMETRE:.2f} um (N p^2 / lambda), beyond which the CTF is aliased",
                        "give a larger --size or --pixel-size, or a smaller --defocus-um",
                    )

    # --- specimen -----------------------------------------------------------------------------------------------------

    @cached_property
    def field(self) -> Field:
        if self.map_potential is not None:
            return Field(self.settings.shape, self.map_potential.pixel_size)
        assert self.settings.pixel_size is not None
        return Field(self.settings.shape, self.settings.pixel_size)

    @cached_property
    def radius(self) -> float:
        """Of the particle, in angstrom."""
        if self.map_potential is not None:
            return self.map_potential.radius
        assert self.atoms is not None
        return radius_of_atoms(self.atoms)

    @cached_property
    def slab(self) -> Slab:
        settings = self.settings
        thickness = settings.ice_thickness
        if thickness is None:
            thickness = max(LEAST_ICE, math.ceil(2 * self.radius + ROOM_IN_ICE))
        axis = 90.0 if settings.tilt_axis_deg is None else settings.tilt_axis_deg
        return Slab(thickness, TiltedPlane(settings.tilt_deg * DEGREE, axis * DEGREE))

    @cached_property
    def placements(self) -> list[Placement]:
        """Of each micrograph."""
        settings = self.settings
        return [
            place_particles(
                self.field,
                self.slab,
                self.radius,
                settings.particles,
                distance=settings.distance,
                seed=settings.seed,
                micrograph=number,
            )
            for number in range(settings.count)
        ]

    def potential(self) -> ParticlePotential:
        """The particle's volumes: computed at each call, for they are large."""
        if self.map_potential is not None:
            return self.map_potential
        assert self.atoms is not None
        return potential_of_atoms(
            self.atoms,
            self.field.pixel_size,
            extra_b_factor=self.settings.b_factor,
            inner_potential=self.settings.inner_potential,
            absorption=self.absorption,
        )

    def grains(self, micrograph: int) -> tuple[IceField, IceField] | None:
        """Two independent random fields of this micrograph's ice: slabs of it for multislice, of its whole depth otherwise."""
        settings = self.settings
        if settings.ice == "none":
            return None
        seeds = image_stream(stream_key(settings.seed, Quantity.ICE), micrograph).integers(2**63, size=2)
        sliced = self.model is ScatteringModel.MULTISLICE
        first, second = (
            IceField(
                self.field.shape,
                self.field.pixel_size,
                self.slice_thickness if sliced else self.slab.depth,
                seed=int(seed),
                b_factor=self.ice_b_factor,
                pixel_average=sliced,
            )
            for seed in seeds
        )
        return first, second

    @property
    def ice_b_factor(self) -> float:
        """B factor in angstrom^2 that blurs the molecules of the ice."""
        given = self.settings.ice_b_factor
        if given is not None:
            return given
        return 0.0 if self.settings.detector == NO_DETECTOR else ICE_B_PER_DOSE * self.dose

    # --- electrons ----------------------------------------------------------------------------------------------------

    @cached_property
    def model(self) -> ScatteringModel:
        return ScatteringModel(self.settings.model)

    @property
    def voltage(self) -> float:
        return self.settings.voltage_kv * KILOVOLT

    @property
    def slice_thickness(self) -> float:
        return self.settings.slice_thickness or SLICE_THICKNESS

    @property
    def inelastic(self) -> str | None:
        return None if self.settings.inelastic == "none" else self.settings.inelastic

    @cached_property
    def absorption(self) -> float:
        """Imaginary potential in volt of protein above that of ice; 0 unless absorption is computed."""
        if self.inelastic is None:
            return 0.0
        return imaginary_potential(PROTEIN, self.voltage, self.inelastic) - self.ice_absorption

    @cached_property
    def ice_absorption(self) -> float:
        """Imaginary potential in volt of ice; 0 unless absorption is computed."""
        return 0.0 if self.inelastic is None else imaginary_potential(ICE, self.voltage, self.inelastic)

    @cached_property
    def transmitted(self) -> float:
        """The part of the beam that leaves the ice without having lost energy, 1 unless absorption is computed."""
        if self.inelastic is None:
            return 1.0
        return math.exp(-self.slab.depth / mean_free_path(ICE, self.voltage, self.inelastic))

    @cached_property
    def amplitude_contrast(self) -> float:
        """That of the truth: as given, or what the computed absorption of protein in ice amounts to."""
        if self.inelastic is not None:
            return emerging_amplitude_contrast(voltage=self.voltage, source=self.inelastic)
        given = self.settings.amplitude_contrast
        return AMPLITUDE_CONTRAST if given is None else given

    @cached_property
    def microscopes(self) -> list[Microscope]:
        """Of each micrograph, its defocus that of z = 0."""
        settings = self.settings
        key = stream_key(settings.seed, Quantity.MICROGRAPH_CTF)
        low, high = (value * MICROMETRE for value in settings.defocus_um)
        sigma = focal_spread(settings.cc_mm * MILLIMETRE, fwhm_ev=settings.energy_fwhm_ev, voltage=self.voltage)
        found = []
        for number in range(settings.count):
            rng = image_stream(key, number)
            defocus = low + (high - low) * rng.random()
            # U - V is twice the length of the astigmatism, whose two components have a variance of (rms/2)^2 / 2 each.
            astigmatism = settings.astigmatism / math.sqrt(8) * rng.standard_normal(2)
            found.append(
                Microscope(
                    self.voltage,
                    settings.cs_mm * MILLIMETRE,
                    defocus,
                    astigmatism=(float(astigmatism[0]), float(astigmatism[1])),
                    amplitude_contrast=0.0 if self.inelastic else self.amplitude_contrast,
                    phase_shift=settings.phase_shift_deg * DEGREE,
                    one_over_e_mrad=settings.convergence_one_over_e_mrad,
                    focal_sigma=sigma,
                )
            )
        return found

    # --- detection ----------------------------------------------------------------------------------------------------

    @property
    def dose(self) -> float:
        """e/A^2."""
        return DOSE if self.settings.dose is None else self.settings.dose

    @cached_property
    def detector(self) -> Detector | None:
        """None for the expected intensity."""
        name = self.settings.detector
        if name == NO_DETECTOR:
            return None
        try:
            return detector(name, self.voltage)
        except SettingsProblem as problem:
            remedy = "give --detector ideal, which any voltage has, or none"
            raise SettingsProblem(problem.got, problem.expected, problem.remedy or remedy) from None

    @cached_property
    def exposure(self) -> Exposure:
        given = self.settings.critical_exposure_scale
        scale = VOLTAGE_SCALES.get(self.voltage) if given is None else given
        if not self.settings.radiation_damage:
            scale = 1.0
        if scale is None:
            known = " or ".join(f"{voltage / KILOVOLT:g}" for voltage in VOLTAGE_SCALES)
            raise SettingsProblem(
                f"--radiation-damage at {self.settings.voltage_kv:g} kV",
                f"{known} kV, for which the critical exposure was measured",
                "give --critical-exposure-scale, its ratio to that at 300 kV",
            )
        return Exposure.even(self.dose, self.settings.frames, voltage_scale=scale)

    def drift(self, micrograph: int) -> Drift | None:
        if self.settings.drift == 0:
            return None
        rng = image_stream(stream_key(self.settings.seed, Quantity.DRIFT), micrograph)
        return smooth_drift(self.exposure, self.settings.drift, rng)

    # --- truth --------------------------------------------------------------------------------------------------------

    @cached_property
    def names(self) -> list[str]:
        """Of the micrographs, without folder and suffix."""
        digits = max(4, len(str(self.settings.count)))
        return [f"micrograph_{number + 1:0{digits}d}" for number in range(self.settings.count)]

    @cached_property
    def optics(self) -> OpticsGroup:
        return OpticsGroup(
            pixel_size=self.field.pixel_size,
            voltage=self.voltage,
            spherical_aberration=self.settings.cs_mm * MILLIMETRE,
            amplitude_contrast=self.amplitude_contrast,
            box=even_box(ROOM * 2 * self.radius / self.field.pixel_size),
        )

    @cached_property
    def ctf(self) -> CtfParameters:
        """Of the micrographs, at z = 0."""
        return _ctf_at(self.microscopes, np.arange(self.settings.count), np.zeros(self.settings.count))

    @cached_property
    def coordinates(self) -> Coordinates:
        """Of all particles, micrograph by micrograph."""
        if self.settings.particles == 0:
            raise DataProblem("micrographs without particles", "at least one for a file of coordinates")
        micrograph = np.repeat(np.arange(self.settings.count), self.settings.particles)
        position = np.concatenate([placement.position for placement in self.placements])
        place = self.field.pixels(position[:, :2])
        pixel = np.rint(place).astype(np.int64)
        origin = (pixel - place) * self.field.pixel_size
        euler = np.concatenate([placement.euler for placement in self.placements])
        return Coordinates(
            names=tuple(f"{FOLDER}/{name}.mrc" for name in self.names),
            micrograph=micrograph,
            pixel=pixel,
            height=position[:, 2],
            pose=Pose(euler, origin),
            ctf=_ctf_at(self.microscopes, micrograph, position[:, 2]),
            optics=self.optics,
        )


def _ctf_at(microscopes: list[Microscope], micrograph: np.ndarray, height: np.ndarray) -> CtfParameters:
    """CTF parameters of things at these heights in these micrographs."""
    astigmatism = np.array([one.astigmatism for one in microscopes])[micrograph]
    defocus = np.array([one.defocus for one in microscopes])[micrograph] + height
    half = np.hypot(astigmatism[:, 0], astigmatism[:, 1])
    angle = np.arctan2(astigmatism[:, 1], astigmatism[:, 0]) / 2
    return CtfParameters.of(defocus + half, defocus - half, angle, phase_shift=microscopes[0].phase_shift)
