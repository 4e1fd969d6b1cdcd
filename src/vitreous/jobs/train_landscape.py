"""The job `landscape train`: particles with poses become a landscape, a map as a function of a latent and each particle's latent."""

# Annotations here are objects, not text: the command line reads them of classes that inherit fields from other modules.
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from vitreous.engine.compilation import use_persistent_cache
from vitreous.io.mrc_stack import write_volume
from vitreous.jobs.alignment_input import refuse_unusable_images
from vitreous.jobs.job import Desk, Outcome
from vitreous.jobs.landscape_folder import CONSENSUS, write_landscape
from vitreous.jobs.landscape_ground import ground_of
from vitreous.jobs.landscape_input import LandscapeInput, available_bytes, refuse_few_particles, refuse_memory
from vitreous.jobs.particle_input import header_warning, ready_particles, stacks_of, with_half_sets
from vitreous.model.particles import Particles
from vitreous.model.volume import Volume


@dataclass(frozen=True)
class TrainLandscape(LandscapeInput):
    __doc__ = LandscapeInput.__doc__

    name: ClassVar[str] = "landscape train"
    resumable: ClassVar[bool] = True
    without_effect: ClassVar[tuple[str, ...]] = ("lazy",)

    def inputs(self) -> list[Path]:
        return [self.particles, *self.passthrough]

    def run(self, desk: Desk) -> Outcome:
        from vitreous.jobs.landscape_training import (
            SUBSPACE_STATE,
            TRAINING_STATE,
            fit_baseline,
            slice_source,
            train_network,
        )
        from vitreous.jobs.landscape_training_sections import training_outcome

        use_persistent_cache()
        particles = self.usable_particles(desk)
        particles, split_note = with_half_sets(particles, "file", self.seed)
        ground = ground_of(particles, self, desk.progress("consensus"))
        source = slice_source(ground, self, desk)
        baseline, trained = fit_baseline(ground, source, self, desk), None
        if self.model == "subspace":
            baseline = baseline.isometric()
        else:
            trained = train_network(ground, source, baseline, self, desk)
        found = baseline if trained is None else trained
        if trained is not None and trained.poses is not None:
            particles = replace(particles, pose=trained.poses)
        datadir = () if self.datadir is None else (self.datadir,)
        write_landscape(
            desk.folder,
            particles,
            found.latents,
            found.decoder,
            source=self.particles,
            place=desk.place,
            datadir=datadir,
        )
        write_volume(
            desk.folder / CONSENSUS,
            Volume(ground.consensus.map, particles.pixel_size),
            label="vitreous map of all particles",
        )
        for state in (SUBSPACE_STATE, TRAINING_STATE):
            (desk.folder / state).unlink(missing_ok=True)
        outcome = training_outcome(self, ground, baseline, trained)
        outcome.warnings += header_warning(particles) + ([split_note] if split_note else [])
        outcome.inputs = stacks_of(particles)
        return outcome

    def usable_particles(self, desk: Desk) -> Particles:
        """The particles, or one line that says why they cannot be used."""
        particles = ready_particles(self, use_ctf=self.ctf)
        refuse_few_particles(len(particles), self)
        assert particles.images is not None
        box = particles.images.shape[-1]
        refuse_memory(box, int(0.4 * box**2), self, available_bytes())
        refuse_unusable_images(particles, self.particles, desk.progress("look at the images"))
        return particles
