"""The job `simulate micrograph`: many copies of a particle in ice become micrographs of which everything is known."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from vitreous.detection.movie import movie_frames, sum_frames
from vitreous.detection.recording import dose_per_pixel, record, sparse_dose
from vitreous.engine.local import Progress
from vitreous.io.micrograph_star import write_coordinates, write_micrographs
from vitreous.io.mrc_stack import StackWriter, write_volume
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.micrograph_plan import FOLDER, MicrographPlan
from vitreous.jobs.micrograph_sections import micrograph_sections
from vitreous.jobs.micrograph_settings import MicrographSettings
from vitreous.jobs.report import Source
from vitreous.jobs.simulation_findings import b_factor_warning, model_findings
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

STEPS = 100  # of the progress of one micrograph


@dataclass(frozen=True)
class SimulateMicrograph(MicrographSettings):
    """Settings of simulated micrographs."""

    name: ClassVar[str] = "simulate micrograph"
    resumable: ClassVar[bool] = True

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
