"""What a training of a landscape is told, and what it refuses."""

# Annotations here are objects, not text: the command line would look their names up in the modules of the jobs that inherit them.
import os
from dataclasses import dataclass, field
from typing import Literal

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.jobs.particle_input import ImageInput
from vitreous.jobs.ranges import refuse_numbers

SHARE_OF_MEMORY = 0.5  # of what is free, that particles may take
MODELS = ("drgn", "subspace")


@dataclass(frozen=True)
class LandscapeInput(ImageInput):
    """Settings of a landscape.

    Parameters
    ----------
    particles
        Particle file with poses: STAR (.star) or cryoSPARC (.cs, .csg).
    model
        drgn: a coordinate network (cryoDRGN); subspace: a mean and eigenvolumes (PPCA, 3D variability).
    latent
        Numbers that tell particles apart; 0 with drgn makes one map for all.
    epochs
        Times that the network sees every particle; iterations of the subspace.
    width
        Units in each layer of the networks.
    layers
        Hidden layers of each network.
    waves
        Plane waves whose cosines and sines are the network's features of a frequency.
    batch
        Particles in each step of the training.
    rate
        Learning rate at first; it falls to 0 as a cosine over the epochs.
    beta
        Weight of the KL term; 1 is the likelihood bound.
    share
        Fraction of the pixels, drawn anew for each batch, that a step looks at.
    encoder
        What the encoder sees of a particle: where the subspace has found it, or its pixels.
    autodecoder
        Give every particle a latent of its own instead of an encoder.
    refine_poses
        Refine orientations and origins along with the network.
    components
        Eigenvolumes of the subspace beside a network: its encoder's eye, part of its decoder, and the baseline; by default 8, or as many as latents.
    finest
        Finest resolution in angstrom that is compared; by default a tenth beyond where the half maps of all particles agree.
    diameter
        Particle diameter in angstrom: images are masked by a soft disc of this size. 0 keeps whole images; by default it is measured on a trial map.
    ctf
        Correct for the CTF.
    lazy
        Keep prepared particles in temporary files beside the result instead of in memory; without it, only if they take more than half of what is free.
    seed
        Seed of everything random; the same seed gives the same landscape.
    """

    model: Literal["drgn", "subspace"] = field(default="drgn", kw_only=True)
    latent: int = field(default=8, kw_only=True)
    epochs: int = field(default=20, kw_only=True)
    width: int = field(default=256, kw_only=True)
    layers: int = field(default=3, kw_only=True)
    waves: int = field(default=96, kw_only=True)
    batch: int = field(default=8, kw_only=True)
    rate: float = field(default=2e-3, kw_only=True)
    beta: float = field(default=1.0, kw_only=True)
    share: float = field(default=0.4, kw_only=True)
    encoder: Literal["subspace", "pixels"] = field(default="subspace", kw_only=True)
    autodecoder: bool = field(default=False, kw_only=True)
    refine_poses: bool = field(default=False, kw_only=True)
    components: int | None = field(default=None, kw_only=True)
    finest: float | None = field(default=None, kw_only=True)
    diameter: float | None = field(default=None, kw_only=True)
    ctf: bool = field(default=True, kw_only=True)
    lazy: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        refuse_numbers(
            self,
            positive=(
                "epochs",
                "width",
                "layers",
                "waves",
                "batch",
                "rate",
                "share",
                "components",
                "finest",
                "pixel_size",
            ),
            not_negative=("latent", "beta", "diameter"),
        )
        if self.share > 1:
            raise SettingsProblem(f"--share {self.share:g}", "a fraction up to 1")
        if self.model == "subspace" and self.latent == 0:
            raise SettingsProblem(
                "--latent 0 with --model subspace", "at least one eigenvolume", "`vitreous reconstruct` makes one map"
            )
        if self.latent == 0 and self.autodecoder:
            raise SettingsProblem("--autodecoder with --latent 0", "latents to give to the particles")

    @property
    def baseline_components(self) -> int:
        """Eigenvolumes of the subspace that is fitted."""
        if self.model == "subspace":
            return self.latent
        return self.components or max(8, self.latent)


def refuse_few_particles(count: int, settings: LandscapeInput) -> None:
    """Raise SettingsProblem where there are more latents than particles could tell apart."""
    for name, number in (("--latent", settings.latent), ("--components", settings.baseline_components)):
        if 2 * number >= count:
            raise SettingsProblem(
                f"{name} {number} for the {count} particles of {settings.particles}",
                "fewer numbers than half of the particles: each half set must tell them apart",
                f"give at most {name} {max(0, (count - 1) // 2)}",
            )


def available_bytes() -> int | None:
    """Memory that is free for a program, as far as the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # other systems
        return None


def fits_memory(needed: int) -> bool:
    """Whether particles of so many bytes may stay in memory: within SHARE_OF_MEMORY of what is free, or where that is not known."""
    free = available_bytes()
    return free is None or needed <= SHARE_OF_MEMORY * free


def refuse_memory(box: int, pixels: int, settings: LandscapeInput, available: int | None) -> None:
    """Raise DataProblem for a box whose maps, or a batch of it, memory cannot hold; the message says what fits."""
    if available is None:
        return
    volumes = (settings.baseline_components + 6) * 8 * box**3 * 8  # padded transforms, complex single precision
    step = settings.batch * pixels * 4 * (3 * settings.width * (settings.layers + 2) + 8 * settings.waves)
    if volumes > available:
        fits = int(box * (available / volumes) ** (1 / 3)) // 2 * 2
        raise DataProblem(
            f"images of {box} px, whose {settings.baseline_components} eigenvolumes take {volumes / 2**30:.1f} GiB of memory",
            f"at most the {available / 2**30:.1f} GiB that are free: a box of {fits} px",
            "downsample the images, or give fewer --components",
        )
    if settings.model == "drgn" and step > available:
        fits = int(settings.batch * available / step)
        raise DataProblem(
            f"a batch of {settings.batch} images of {box} px, which takes {step / 2**30:.1f} GiB of memory",
            f"at most the {available / 2**30:.1f} GiB that are free",
            f"give --batch {fits}" if fits else "give a smaller --width or --share, or downsample the images",
        )
