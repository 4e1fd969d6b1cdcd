"""A stack of weak-phase images of a model against one multislice calculation for each image.

    python benchmarks/wave_stack.py [--count 2000] [--slice-thickness 5.0] [--measured 16] [--threads 2] [--json FILE]

Both make the same noiseless images of 128 px (`simulate particles --model weak_phase` and `--model multislice`): poses, shifts,
defocus, astigmatism, displaced solvent; of a large particle (bundled:6zu5, 3 A pixels) and of a small one (bundled:4ake, 1 A
pixels). The weak-phase stack is made whole, and with it the potential's map that it is made from. Of multislice a few images
are made and the time of the stack is extrapolated from them, which the table says. Compiled code is warm for both.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from measure import machine, print_machine, print_table, write_json
from vitreous.jobs.specimen import Choices, Specimen
from vitreous.model.optics import OpticsGroup
from vitreous.model.particles import Particles
from vitreous.scattering.ladder import ScatteringModel
from vitreous.simulation.particles import ParticleDistribution, draw_particles
from vitreous.simulation.wave_images import AtomicScene, wave_images
from vitreous.specimen.potential import centre_of_mass
from vitreous.specimen.profiles import atom_profiles

GOAL = 10.0
BOX = 128
MODELS = {"bundled:6zu5": 3.0, "bundled:4ake": 1.0}  # name: pixel size, angstrom


def seconds_for(scene: AtomicScene, particles: Particles, threads: int) -> tuple[float, np.ndarray]:
    started = time.perf_counter()
    images = np.concatenate(list(wave_images(scene, particles, threads=threads)))
    return time.perf_counter() - started, images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--slice-thickness", type=float, default=5.0)
    parser.add_argument("--measured", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    facts = machine()
    print_machine(facts)
    results = [compare(name, pixel_size, options) for name, pixel_size in MODELS.items()]
    write_json(options.json, {"machine": facts, "box": BOX, "count": options.count, "wave_stack": results})


def compare(name: str, pixel_size: float, options: argparse.Namespace) -> dict[str, object]:
    """Both stacks of one model: a table, and its numbers."""
    specimen = Specimen(Path(name), BOX, pixel_size, 0.0, Choices(hydrogens="implicit", solvent="displaced"))
    atoms = specimen.atoms()
    assert atoms is not None
    specimen.model_volume(atoms.rows(slice(0, 100)))  # loads what is needed
    started = time.perf_counter()
    volume = specimen.model_volume(atoms)
    map_seconds = time.perf_counter() - started
    weak = AtomicScene(
        np.asarray(atoms.position - centre_of_mass(atoms), dtype=np.float64),
        atom_profiles(atoms, displaced=specimen.displaced(atoms)),
        BOX,
        pixel_size,
        ScatteringModel.WEAK_PHASE,
        options.slice_thickness,
        volume=volume,
    )
    full = replace(weak, model=ScatteringModel.MULTISLICE)
    particles = particles_of(pixel_size, options.count)
    few = particles.rows(slice(0, min(options.measured, options.count)))
    for scene in (weak, full):
        seconds_for(scene, few.rows(slice(0, 2)), options.threads)
    stack_seconds, images = seconds_for(weak, particles, options.threads)
    few_seconds, some = seconds_for(full, few, options.threads)
    return report(name, options, map_seconds, stack_seconds, few_seconds, len(few), (images[: len(few)], some))


def particles_of(pixel_size: float, count: int) -> Particles:
    optics = OpticsGroup(
        pixel_size=pixel_size, box=BOX, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1
    )
    return draw_particles(ParticleDistribution(optics, (3e3, 6e3), astigmatism=200.0, shift=3.0), count)


def report(
    name: str,
    options: argparse.Namespace,
    map_seconds: float,
    stack_seconds: float,
    few_seconds: float,
    measured: int,
    images: tuple[np.ndarray, np.ndarray],
) -> dict[str, object]:
    weak, multislice = map_seconds + stack_seconds, few_seconds / measured * options.count
    ratio, likeness = multislice / weak, float(np.corrcoef(*(each.ravel() for each in images))[0, 1])
    note = f"extrapolated from {measured} images, slabs of {options.slice_thickness:g} A"
    rows = [
        [f"{name}, {options.count} images", "seconds", "ms an image", ""],
        ["weak phase", f"{weak:.1f}", f"{1e3 * weak / options.count:.2f}", f"{map_seconds:.1f} s are the map"],
        ["multislice", f"{multislice:.1f}", f"{1e3 * multislice / options.count:.2f}", note],
    ]
    print_table(rows)
    print(f"ratio {ratio:.1f} (goal {GOAL:g}); the images correlate with {likeness:.4f}")
    return {
        "model": name,
        "weak_phase_seconds": weak,
        "map_seconds": map_seconds,
        "multislice_seconds_extrapolated": multislice,
        "multislice_images_measured": measured,
        "ratio": ratio,
        "correlation": likeness,
    }


if __name__ == "__main__":
    main()
