"""The job `simulate ensemble`: images of a particle in many conformations, with the truth about each: a benchmark of heterogeneity."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from vitreous.engine.compilation import use_persistent_cache
from vitreous.errors import DataProblem
from vitreous.io.ensemble_truth import (
    MAPS,
    PARTICLES,
    EnsembleTruth,
    map_name,
    particle_columns,
    write_conformations,
)
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import StackWriter, write_volume
from vitreous.io.particles import write_particles
from vitreous.jobs.ensemble_conformations import Conformations, Frame, conformations_of, frame_of
from vitreous.jobs.ensemble_input import EnsembleInput
from vitreous.jobs.ensemble_sections import EnsembleReport, ensemble_sections, extremes
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.report import Source
from vitreous.jobs.simulation_findings import SCALE_MEANING, SNR_MEANING
from vitreous.model.particles import Particles
from vitreous.model.table import Table
from vitreous.model.volume import Volume
from vitreous.simulation.ensemble import (
    Micrographs,
    draw_conformations,
    draw_ensemble,
    ensemble_images,
    ensemble_variance,
    preferred_views,
)
from vitreous.simulation.images import TRIAL_IMAGES
from vitreous.simulation.noise import Noise, falling_power

STACK, MEAN_MAP, UNPOSED = "particles.mrcs", "mean_map.mrc", "particles_unposed.star"
MICROGRAPH = "rlnMicrographName"


@dataclass(frozen=True)
class SimulateEnsemble(EnsembleInput):
    """Settings of a simulated ensemble: those of EnsembleInput."""

    name: ClassVar[str] = "simulate ensemble"

    def run(self, desk: Desk) -> Outcome:
        use_persistent_cache()
        conformations = conformations_of(self)
        frame = frame_of(self, conformations)
        self.write_maps(desk, conformations, frame)
        scale = self.scale(desk, conformations, frame)
        self.scale_maps(desk, conformations, scale)
        index = draw_conformations(conformations.populations, self.count, self.seed)
        particles = self.particles(frame, self.count)
        truth = EnsembleTruth(
            conformations.kind,
            conformations.values,
            conformations.names,
            tuple(desk.folder / map_name(number) for number in range(1, len(conformations) + 1)),
            conformations.populations,
            index,
        )
        self.write_images(desk, truth, particles)
        write_conformations(desk.folder, truth)
        self.write_particles(desk.folder, truth, particles)
        return self.outcome(conformations, frame, truth, particles, scale)

    def write_maps(self, desk: Desk, conformations: Conformations, frame: Frame) -> None:
        """The potential of each conformation, in volt."""
        progress = desk.progress("conformations")
        (desk.folder / MAPS).mkdir(exist_ok=True)
        for number, volume in enumerate(frame.maps(conformations), start=1):
            write_volume(desk.folder / map_name(number), volume)
            progress(number, len(conformations))

    def scale(self, desk: Desk, conformations: Conformations, frame: Frame) -> float:
        """What the maps are multiplied by: the noise of the images then has standard deviation 1 (without noise, the signal has)."""
        index = draw_conformations(conformations.populations, TRIAL_IMAGES, self.seed)
        variance = ensemble_variance(_maps(desk.folder), index, self.particles(frame, TRIAL_IMAGES))
        if not variance > 0:
            raise DataProblem(f"{self.sample.name} gives images without any signal", "a model with atoms in the box")
        return math.sqrt((1.0 if self.noise == "none" else self.signal_to_noise) / variance)

    def scale_maps(self, desk: Desk, conformations: Conformations, scale: float) -> None:
        """The maps on the scale of the images, and their mean over the populations."""
        mean = 0.0
        for number, share in enumerate(conformations.populations, start=1):
            path = desk.folder / map_name(number)
            volume = read_volume(path)
            volume = Volume(volume.data * np.float32(scale), volume.pixel_size)
            write_volume(path, volume, label=f"vitreous truth: conformation {number}, {conformations.kind}")
            mean = mean + share * volume.data.astype(np.float64)
        label = "vitreous truth: mean of the conformations"
        write_volume(desk.folder / MEAN_MAP, Volume(np.asarray(mean, np.float32), volume.pixel_size), label=label)

    def particles(self, frame: Frame, count: int) -> Particles:
        """The first particles of the set, without images."""
        views = preferred_views(count, self.view_concentration, self.seed) if self.view_concentration > 0 else None
        distribution = self.particle_distribution(frame.box, frame.pixel_size, views)
        return draw_ensemble(distribution, self.micrographs, count, STACK)

    @property
    def micrographs(self) -> Micrographs:
        return Micrographs(self.per_micrograph, self.height)

    def noise_of(self, box: int, pixel_size: float) -> Noise | None:
        if self.noise == "none":
            return None
        return Noise(1.0, falling_power(box, pixel_size) if self.noise == "falling" else None, self.seed)

    def write_images(self, desk: Desk, truth: EnsembleTruth, particles: Particles) -> None:
        """The stack, a chunk at a time, conformation by conformation."""
        progress, done = desk.progress("simulate"), 0
        box, pixel_size = int(particles.optics[0].box or 0), particles.pixel_size
        with StackWriter(desk.folder / STACK, pixel_size) as writer:
            noise = self.noise_of(box, pixel_size)
            for rows, images in ensemble_images(_maps(desk.folder), truth.index, particles, noise):
                writer.place(rows, images)
                done += len(rows)
                progress(done, len(particles))

    def write_particles(self, folder: Path, truth: EnsembleTruth, particles: Particles) -> None:
        """The particle file with the truth, and one without poses and without the truth."""
        number = self.micrographs.of(len(particles)) + 1
        names = Table({MICROGRAPH: np.array([f"micrographs/{one:05d}.mrc" for one in number], dtype=object)})
        write_particles(folder / PARTICLES, replace(particles, table=names.with_columns(particle_columns(truth))))
        write_particles(folder / UNPOSED, replace(particles, table=names, pose=None))

    def outcome(
        self, conformations: Conformations, frame: Frame, truth: EnsembleTruth, particles: Particles, scale: float
    ) -> Outcome:
        pair = extremes(truth)
        snr = None if self.noise == "none" else self.signal_to_noise
        micrographs = int(self.micrographs.of(self.count)[-1]) + 1
        findings = [
            Finding("particles", "particles", self.count, "", f"Images in {STACK}, of {micrographs:,} micrographs."),
            Finding("conformations", "conformations", len(truth), "", "A map of each is in conformations/."),
            Finding("box", "box", frame.box, "px", f"The ensemble is {2 * frame.radius:.0f} Å across."),
            Finding(
                "pixel_size", "pixel size", frame.pixel_size, "Å", f"Nothing finer than {2 * frame.pixel_size:.2f} Å."
            ),
            Finding("snr", "signal-to-noise", snr, "", SNR_MEANING, 3),
            *conformations.findings,
            Finding("extremes_fsc", "FSC of the extremes", pair.mean_fsc, "", EXTREMES_MEANING.format(*pair.names), 3),
            Finding("scale", "scale", scale, "", SCALE_MEANING.replace("truth_map.mrc is", "The maps are"), 6),
        ]
        outcome = Outcome(findings, title=f"Simulated {self.kind} of {self.sample.name}")
        outcome.headline = ("particles", "conformations", "snr", "extremes_fsc")
        outcome.subtitle = (
            f"{self.count:,} particles, {frame.box} px of {frame.pixel_size:.4g} Å, {self.voltage_kv:g} kV"
        )
        counts = np.bincount(truth.index, minlength=len(truth))
        outcome.tables = {
            "kind": self.kind,
            "specimen": self.sample.source,
            "values": truth.values,
            "particles_of_conformation": counts,
            **conformations.facts,
        }
        outcome.warnings = [*conformations.warnings, *self.box_warnings(frame.box, frame.pixel_size, frame.radius)]
        if (counts == 0).any():
            outcome.warnings.append(f"{int((counts == 0).sum())} of {len(truth)} conformations have no particle.")
        samples = [self.sample, self.last] if self.kind == "path" else [self.sample]
        sources = [Source(sample.source) for sample in samples if sample.bundled]
        noise = self.noise_of(frame.box, frame.pixel_size)
        report = EnsembleReport(truth, particles, pair, noise, conformations.towards, sources)
        outcome.sections = ensemble_sections(outcome, report)
        return outcome


def _maps(folder: Path):
    """The map of a conformation, by its number from 0."""
    return lambda conformation: read_volume(folder / map_name(conformation + 1))


EXTREMES_MEANING = (
    "Mean over the shells of the Fourier shell correlation of the two most different of the first conformation and another: "
    "{} and {}. At 1 there is nothing to tell apart."
)
