"""Particles of which everything is known: a small ribosomal subunit, long and bent, whose views can be told apart.

A set is a folder with particles.mrcs, particles.star (with the truth), particles_unposed.star and truth_map.mrc, made by `vitreous simulate particles` from a map
of the subunit's atoms in ice. It is made once and follows from its seed; particle i is the same in a set of any size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from measure import measure, say
from programs import Program
from vitreous.io.bundled import load_bundled
from vitreous.io.mrc_stack import write_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.model.atoms import Atoms
from vitreous.model.volume import Volume
from vitreous.specimen.potential import potential_volume
from vitreous.specimen.solvent import displaced_solvent

WIDTH = 320.0  # angstrom, of the box
DIAMETER = 280.0  # angstrom, of the disc that holds the subunit: its atoms reach 133 from their centre
SHIFT = 1.5  # pixels of a box of 64, standard deviation along x and along y: 95 % lie within 3
SEED = 5
POSED, UNPOSED, STACK, TRUTH = "particles.star", "particles_unposed.star", "particles.mrcs", "truth_map.mrc"


@dataclass(frozen=True)
class SimulatedSet:
    """How many particles of how many pixels, and how noisy: `snr` is the variance of a noiseless image over that of the noise."""

    count: int
    box: int
    snr: float = 0.1
    seed: int = SEED

    @property
    def pixel_size(self) -> float:
        return WIDTH / self.box

    @property
    def name(self) -> str:
        return f"{self.count}x{self.box}_snr{self.snr:g}_seed{self.seed}"


def small_subunit() -> Atoms:
    """The atoms of the chains S... of the bundled ribosome."""
    atoms = load_bundled("6zu5")
    rows = np.char.startswith(atoms.chain.astype(str), "S")
    columns = {name: getattr(atoms, name)[rows] for name in atoms.__dataclass_fields__}
    return replace(atoms, **columns)


def subunit_map(box: int) -> Volume:
    """Its potential above that of the ice around it."""
    atoms = small_subunit()
    atoms = replace(atoms, position=np.asarray(atoms.position, dtype=np.float32))
    return potential_volume(atoms, box, WIDTH / box, displaced=displaced_solvent(atoms))


def make(program: Program, wanted: SimulatedSet, folder: Path) -> Path:
    """The folder of this set inside `folder`: as it stands there, or made now, a chunk of images at a time."""
    target = folder / wanted.name
    if (target / "result.json").is_file():  # written last
        return target
    folder.mkdir(parents=True, exist_ok=True)
    say(f"simulating {wanted.count:,} particles of {wanted.box} px into {target}")
    source = folder / f"subunit_{wanted.box}.mrc"
    write_volume(source, subunit_map(wanted.box))
    command = [program.path, "simulate", "particles", str(source), "--out", str(target), "--force"]
    command += ["--count", str(wanted.count), "--snr", f"{wanted.snr:g}", "--noise", "falling"]
    command += ["--shift", f"{SHIFT * WIDTH / 64:g}", "--seed", str(wanted.seed)]
    measure(command, folder, folder / "simulate.log")
    return target


def first(folder: Path, count: int) -> Path:
    """A STAR file, beside the others, of the first `count` particles without poses: the same stack."""
    star = folder / f"first_{count}.star"
    if not star.is_file():
        particles = read_particles(folder / UNPOSED, load_images=False)
        if count > len(particles):
            raise ValueError(f"{count} of {len(particles)} particles")
        write_particles(star, particles.rows(slice(0, count)))
    return star


def pure_noise(program: Program, like: SimulatedSet, folder: Path) -> Path:
    """A set with the CTFs and the noise of another one and nothing else: its signal is a thousand billion times weaker."""
    return make(program, replace(like, snr=like.snr * 1e-12), folder)
