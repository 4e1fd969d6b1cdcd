"""Slices per second of the projector, and images per second of the simulation that stands on it.

    python benchmarks/projection.py [--boxes 64 96 128 256] [--repeats 5] [--json FILE]

A slice is one projection of a random volume, padded twice, along a random direction: the transform's pixels inside the
inscribed circle, by trilinear interpolation. An image is a slice with its CTF, its shift and white noise, back in real
space. Compilation and the volume's own transform are not counted; each figure is the median of the repeats with the
smallest and the largest.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from measure import machine, print_machine, print_table, write_json
from vitreous.engine.compilation import use_persistent_cache
from vitreous.model.optics import OpticsGroup
from vitreous.model.particles import Particles
from vitreous.model.volume import Volume
from vitreous.reconstruction.projection import slice_grid
from vitreous.simulation.images import IMAGES_PER_CHUNK, Projector, simulate_images
from vitreous.simulation.noise import Noise
from vitreous.simulation.particles import ParticleDistribution, draw_particles

WIDTH = 365.0  # angstrom
GOAL = {128: 2500}  # slices/s on two cores


def rates(work: Callable[[], None], count: int, repeats: int) -> tuple[float, float, float]:
    """(median, smallest, largest) of `count` over the seconds that the work takes, after one run that does not
    count.
    """
    work()
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        found.append(count / (time.perf_counter() - started))
    return statistics.median(found), min(found), max(found)


def particles_of(box: int, count: int) -> Particles:
    optics = OpticsGroup(
        pixel_size=WIDTH / box, box=box, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1
    )
    return draw_particles(ParticleDistribution(optics, (8e3, 2e4), astigmatism=200.0, shift=3.0), count)


def measure_box(box: int, repeats: int) -> dict[str, float]:
    count = IMAGES_PER_CHUNK * max(1, round(8 * (128 / box) ** 2))
    volume = Volume(np.random.default_rng(0).standard_normal((box, box, box), dtype=np.float32), WIDTH / box)
    projector, particles = Projector(volume), particles_of(box, count)

    def slices() -> None:
        for start in range(0, count, IMAGES_PER_CHUNK):
            projector.start(
                particles.rows(slice(start, start + IMAGES_PER_CHUNK)), IMAGES_PER_CHUNK
            ).block_until_ready()

    def images() -> None:
        for _ in simulate_images(projector, particles, Noise(1.0)):
            pass

    result: dict[str, float] = {"box": box, "pixels": len(slice_grid(box))}
    for name, work in (("slices", slices), ("images", images)):
        result[name], result[f"{name}_least"], result[f"{name}_most"] = rates(work, count, repeats)
    return result


def row(result: dict[str, float]) -> list[str]:
    """A line of the table: each rate with its spread, and how the goal is met."""
    spans = [
        f"{result[name]:,.0f} ({result[f'{name}_least']:,.0f} to {result[f'{name}_most']:,.0f})"
        for name in ("slices", "images")
    ]
    goal = GOAL.get(int(result["box"]))
    return [f"{result['box']:.0f} px", *spans, f"{result['slices'] / goal:.2f} x {goal:,}" if goal else ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--boxes", type=int, nargs="+", default=[64, 96, 128, 256])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    facts = machine()
    print_machine(facts)
    use_persistent_cache()
    results = [measure_box(box, options.repeats) for box in options.boxes]
    print_table([["box", "slices/s", "images/s", "goal for slices"], *(row(result) for result in results)])
    write_json(options.json, {"machine": facts, "projection": results})


if __name__ == "__main__":
    main()
