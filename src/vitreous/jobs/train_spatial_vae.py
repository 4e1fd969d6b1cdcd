"""The job `landscape images`: particles without poses become a picture as a function of a latent (spatial-VAE)."""

# Annotations here are objects, not text: the command line reads them of classes that inherit fields from other modules.
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from vitreous.conventions import CtfState
from vitreous.engine.checkpoint import load_state, save_state
from vitreous.engine.compilation import use_persistent_cache
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.io.mrc_stack import write_stack
from vitreous.io.particles import write_particles
from vitreous.jobs.alignment_input import mask_diameter, particle_name, refuse_shifts, refuse_unusable_images
from vitreous.jobs.job import Desk, Outcome
from vitreous.jobs.landscape_folder import LATENTS, PARTICLES
from vitreous.jobs.landscape_input import fits_memory
from vitreous.jobs.particle_input import ImageInput, declared_contrast, header_warning, ready_particles, stacks_of
from vitreous.jobs.ranges import refuse_numbers
from vitreous.jobs.stack_names import lasting_names
from vitreous.model.particles import Particles
from vitreous.model.pose import Pose

DECODED, STATE = "decoded.mrcs", "training.npz"
SMALLEST_BOX = 16  # pixels
SHIFT_RANGE = 0.08  # of the box, unless a range is given
SHIFT_STEPS = 5  # to each side, at most, unless a step is given


@dataclass(frozen=True)
class TrainSpatialVae(ImageInput):
    """Settings of a landscape of images.

    Parameters
    ----------
    particles
        Particle file: STAR (.star) or cryoSPARC (.cs, .csg). No poses are needed, and those it has are not used.
    latent
        Numbers that tell particles apart, besides their turn and origin.
    epochs
        Times that the networks see every particle.
    turns
        In-plane angles that are scored for each particle.
    width
        Units in each layer of the networks.
    layers
        Hidden layers of each network.
    waves
        Plane waves whose cosines and sines are the decoder's features of a place.
    batch
        Particles in each step of the training.
    rate
        Learning rate at the start; it falls to 0.
    beta
        Weight of the KL term of the latents; 1 is the likelihood bound.
    diameter
        Particle diameter in angstrom: the picture is 0 outside, where the noise is measured; by default 0.85 of the box.
    shift_range
        Origins are searched this far to each side, in angstrom; by default 0.08 of the box.
    shift_step
        Step of that search in angstrom; by default the pixel size, or a fifth of the range if that is more.
    finest
        Finest resolution in angstrom that is compared; by default Nyquist.
    ctf
        Correct for the CTF.
    seed
        Seed of everything random; the same seed gives the same landscape.
    """

    latent: int = field(default=2, kw_only=True)
    epochs: int = field(default=30, kw_only=True)
    turns: int = field(default=48, kw_only=True)
    width: int = field(default=64, kw_only=True)
    layers: int = field(default=2, kw_only=True)
    waves: int = field(default=48, kw_only=True)
    batch: int = field(default=16, kw_only=True)
    rate: float = field(default=3e-3, kw_only=True)
    beta: float = field(default=1.0, kw_only=True)
    diameter: float | None = field(default=None, kw_only=True)
    shift_range: float | None = field(default=None, kw_only=True)
    shift_step: float | None = field(default=None, kw_only=True)
    finest: float | None = field(default=None, kw_only=True)
    ctf: bool = field(default=True, kw_only=True)

    name: ClassVar[str] = "landscape images"
    resumable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        refuse_numbers(
            self,
            positive=(
                *("latent", "epochs", "turns", "width", "layers", "waves", "batch", "rate"),
                *("diameter", "shift_step", "finest", "pixel_size"),
            ),
            not_negative=("beta", "shift_range"),
        )
        if self.turns < 2:
            raise SettingsProblem(f"--turns {self.turns}", "at least 2 angles to choose from")

    def inputs(self) -> list[Path]:
        return [self.particles, *self.passthrough]

    def run(self, desk: Desk) -> Outcome:
        from vitreous.heterogeneity.spatial_vae_training import SpatialState, infer, train
        from vitreous.jobs.spatial_vae_sections import along_latents, images_outcome

        use_persistent_cache()
        particles = self.usable_particles(desk)
        data, settings = self.ground(particles, desk)
        kept = desk.folder / STATE
        state = train(
            data,
            settings,
            load_state(kept, SpatialState) if kept.is_file() else None,
            keep=lambda state: save_state(kept, state),
            progress=desk.progress("train"),
            name_of=lambda row: particle_name(particles, row, self.particles),
        )
        found = infer(state, data, settings, desk.progress("turns and latents"))
        walk = along_latents(state, data, settings, found.latents)
        save_state(desk.folder / LATENTS, found.latents)
        write_stack(desk.folder / DECODED, walk.images, particles.pixel_size)
        write_particles(desk.folder / PARTICLES, self.finished(particles, found, desk.place or desk.folder))
        kept.unlink(missing_ok=True)
        outcome = images_outcome(self.particles.name, particles, data.plane, settings, state, found, walk)
        outcome.warnings += header_warning(particles)
        if particles.pose is not None:
            outcome.warnings.append("The poses of the file were replaced by in-plane angles and origins.")
        outcome.inputs = stacks_of(particles)
        return outcome

    def usable_particles(self, desk: Desk) -> Particles:
        """The particles, or one line that says why they cannot be used."""
        particles = ready_particles(self, use_ctf=self.ctf, poses=False)
        assert particles.images is not None
        if self.latent >= len(particles):
            raise SettingsProblem(
                f"--latent {self.latent} for the {len(particles)} particles of {self.particles}",
                "fewer numbers than particles, which they must tell apart",
            )
        if particles.ctf_state in (CtfState.PREMULTIPLIED, CtfState.WIENER):
            raise DataProblem(
                f"the images of {self.particles} are multiplied by their CTF, and so is their noise",
                "images whose noise is the same in all of them",
                "use the images before that",
            )
        box = particles.images.shape[-1]
        if box < SMALLEST_BOX:
            raise DataProblem(f"images of {box} px in {self.particles}", f"at least {SMALLEST_BOX} px across")
        refuse_unusable_images(particles, self.particles, desk.progress("look at the images"))
        return particles

    def ground(self, particles: Particles, desk: Desk):
        """The particles in units of their noise, and every number that the training needs."""
        from vitreous.heterogeneity.background_noise import background_noise
        from vitreous.heterogeneity.consensus import whitened_reader
        from vitreous.heterogeneity.coordinate_network import NetworkSettings
        from vitreous.heterogeneity.slice_source import bytes_prepared, prepared
        from vitreous.heterogeneity.spatial_vae import image_plane
        from vitreous.heterogeneity.spatial_vae_training import SpatialData, SpatialSettings
        from vitreous.reconstruction.direct_inversion import InversionSettings

        assert particles.images is not None
        box, pixel_size, count = particles.images.shape[-1], particles.pixel_size, len(particles)
        radius = mask_diameter(self.diameter, box, pixel_size) / 2 / pixel_size
        reach, step = self.shifts(box, pixel_size)
        settings = SpatialSettings(
            NetworkSettings(self.latent, self.width, self.layers, self.waves),
            radius=self.compared(box, pixel_size),
            turns=self.turns,
            reach=reach,
            step=step,
            epochs=self.epochs,
            batch=min(self.batch, count),
            rate=self.rate,
            beta=self.beta,
            seed=self.seed,
        )
        noise = background_noise(particles, radius)
        unturned = replace(particles, pose=Pose(np.zeros((count, 3)), np.zeros((count, 2))))
        inversion = InversionSettings(
            np.eye(3)[None], use_ctf=self.ctf, contrast=declared_contrast(particles, self.contrast)
        )
        reader = whitened_reader(unturned, inversion, noise.sigma, settings.radius)
        fits = fits_memory(bytes_prepared(count, reader.grid))
        source = prepared(reader, folder=None if fits else desk.folder, progress=desk.progress("read"))
        return SpatialData(source, image_plane(reader.grid, radius, noise.signal)), settings

    def shifts(self, box: int, pixel_size: float) -> tuple[float, float]:
        """Range and step of the origins, in pixels."""
        width = box * pixel_size
        reach = SHIFT_RANGE * width if self.shift_range is None else self.shift_range
        refuse_shifts(reach, self.shift_step, width)
        step = max(pixel_size, reach / SHIFT_STEPS) if self.shift_step is None else self.shift_step
        return reach / pixel_size, step / pixel_size

    def compared(self, box: int, pixel_size: float) -> float:
        """Cycles per box up to which images are compared."""
        width = box * pixel_size
        if self.finest is None:
            return box / 2
        if not 2 * pixel_size <= self.finest <= width / 4:
            raise SettingsProblem(
                f"--finest {self.finest:g}",
                f"a resolution from {2 * pixel_size:.2f} (Nyquist) to {width / 4:.0f} angstrom",
            )
        return width / self.finest

    def finished(self, particles: Particles, found, place: Path) -> Particles:
        """What particles.star says: psi and origins as poses, the latents, and how probable the turn is, as columns."""
        datadir = () if self.datadir is None else (self.datadir,)
        named = lasting_names(particles, self.particles, place, datadir)
        count, mean = len(particles), found.latents.mean
        euler = np.zeros((count, 3))
        euler[:, 2] = found.turns.psi
        columns = {f"vitreousLatent{j + 1}": mean[:, j].astype(np.float64).round(6) for j in range(mean.shape[1])}
        columns["vitreousTurnProbability"] = found.turns.probability.round(6)
        pose = Pose(euler, found.turns.origin * particles.pixel_size)
        return replace(named, pose=pose, table=named.table.with_columns(columns))
