"""The folder of a trained landscape: what `landscape train` leaves, and every command after it reads.

particles.star   the particles, in the order of the latents
latents.npz      where each lies (Latents)
decoder.npz      the map as a function of the latent (one of DECODERS)
consensus.mrc    the map of all particles together
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitreous.engine.checkpoint import load_state, save_state, saved_class
from vitreous.errors import DataProblem
from vitreous.heterogeneity.decoder import Decoder
from vitreous.heterogeneity.latents import Latents
from vitreous.heterogeneity.network_decoder import NetworkDecoder
from vitreous.heterogeneity.subspace_decoder import SubspaceDecoder
from vitreous.io.files import require_file
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.folder import FINISHED
from vitreous.jobs.stack_names import lasting_names
from vitreous.model.particles import Particles

PARTICLES, LATENTS, DECODER, CONSENSUS = "particles.star", "latents.npz", "decoder.npz", "consensus.mrc"
DECODERS: dict[str, Any] = {kind.__name__: kind for kind in (SubspaceDecoder, NetworkDecoder)}


@dataclass(frozen=True)
class Landscape:
    """A trained landscape, as read from its folder."""

    folder: Path
    particles: Particles
    latents: Latents
    decoder: Decoder

    def files(self) -> list[Path]:
        """The files read, for provenance."""
        return [self.folder / name for name in (PARTICLES, LATENTS, DECODER)]


def write_landscape(
    folder: Path,
    particles: Particles,
    latents: Latents,
    decoder: Any,
    *,
    source: Path,
    place: Path | None = None,
    datadir: Sequence[Path] = (),
) -> None:
    """Write particles, latents and decoder into `folder`. `source` is the particle file that was read, `place` the name that the folder will have."""
    write_particles(folder / PARTICLES, lasting_names(particles, source, place or folder, datadir))
    save_state(folder / LATENTS, latents)
    save_state(folder / DECODER, decoder)


def read_landscape(folder: Path, *, load_images: bool = False) -> Landscape:
    """The landscape in a folder that `landscape train` has finished.

    Raises FileProblem or DataProblem, in one line, for a folder that is none, or whose files do not belong together.
    """
    if not (folder / FINISHED).is_file() or not (folder / DECODER).is_file():
        raise DataProblem(f"{folder} holds no trained landscape", "the folder of a finished `vitreous landscape train`")
    kind = saved_class(folder / DECODER)
    if kind not in DECODERS:
        raise DataProblem(f"{folder / DECODER} holds a {kind}", f"one of {', '.join(DECODERS)}")
    decoder = load_state(folder / DECODER, DECODERS[kind])
    latents = load_state(folder / LATENTS, Latents)
    particles = read_particles(require_file(folder / PARTICLES), load_images=load_images)
    if len(particles) != len(latents):
        raise DataProblem(
            f"{len(latents)} latents and {len(particles)} particles in {folder}", "one for each", "train anew"
        )
    if latents.dimensions != decoder.dimensions:
        raise DataProblem(
            f"latents of {latents.dimensions} numbers and a decoder of {decoder.dimensions} in {folder}", "as many"
        )
    return Landscape(folder, particles, latents, decoder)
