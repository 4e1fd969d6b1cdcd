"""The commands of both programs: networks of the same number of layers of the same width, as many latents, as many epochs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from programs import Program

PARTICLES, STACK, POSES, CTF = "particles.star", "particles.mrcs", "cryodrgn/poses.pkl", "cryodrgn/ctf.pkl"


@dataclass(frozen=True)
class Network:
    """Layers, their width, latents, and epochs of the training."""

    epochs: int
    latent: int = 8
    width: int = 256
    layers: int = 3
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.layers} x {self.width}, {self.latent} latents, {self.epochs} epochs"


def cryodrgn_train(program: Program, network: Network, out: Path) -> list[str]:
    """In the folder of a set. What cryoDRGN does by itself otherwise: batches of 16, whole images, single precision on a CPU."""
    width, layers = str(network.width), str(network.layers)
    words = [program.path, "train_vae", STACK, "--poses", POSES, "--ctf", CTF, "--zdim", str(network.latent)]
    words += ["-n", str(network.epochs), "--enc-dim", width, "--enc-layers", layers, "--dec-dim", width]
    words += ["--dec-layers", layers, "--seed", str(network.seed), "--shuffle-seed", str(network.seed)]
    return [*words, "--no-analysis", "--no-amp", "-o", str(out)]


def vitreous_train(program: Program, network: Network, out: Path, *more: str) -> list[str]:
    """The network, in the folder of a set."""
    words = f"--model drgn --latent {network.latent} --epochs {network.epochs} --width {network.width} --layers {network.layers} --seed {network.seed}"
    return [program.path, "landscape", "train", PARTICLES, *words.split(), *more, "--out", str(out), "--force"]


def vitreous_subspace(program: Program, latent: int, iterations: int, out: Path) -> list[str]:
    """The linear subspace, in the folder of a set."""
    words = f"--model subspace --latent {latent} --epochs {iterations}"
    return [program.path, "landscape", "train", PARTICLES, *words.split(), "--out", str(out), "--force"]


def vitreous_score(program: Program, folders: list[Path], truth: Path, images: int, out: Path) -> list[str]:
    """Maps and latents of all folders beside the truth, `images` of each conformation."""
    words = ["--truth", str(truth), "--images-per-conformation", str(images)]
    return [program.path, "landscape", "score", *map(str, folders), *words, "--out", str(out), "--force"]
