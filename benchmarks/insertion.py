"""CPU time per pixel of adding slices to a padded transform, in several orders and by several means.

    python benchmarks/insertion.py [--box 128] [--count 400] [--repeats 5] [--json FILE]

Each pixel of each slice adds its value and its weight to 8 voxels of the same random orientations' planes. Compared are
the scatter-add of XLA, compiled loops in two orders, and the kernel that `vitreous reconstruct` uses, with the particles
as they come and in the order of their viewing directions. All make the same sums, which is checked. Compilation does
not count; variants run in turn. docs/decisions/0003-slice-insertion.md draws the conclusions.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np

from measure import machine, print_machine, print_table, write_json
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.model.optics import OpticsGroup
from vitreous.reconstruction.backprojection import Accumulator
from vitreous.reconstruction.insertion_kernel import insert
from vitreous.reconstruction.projection import PADDING, SliceGrid, slice_grid
from vitreous.simulation.particles import ParticleDistribution, draw_particles

TOLERANCE = 1e-4  # of the largest sum: float32 sums of some hundred terms in another order


@dataclass(frozen=True)
class Slices:
    """Random slices, pixel-major: `values` and `weights` [p, n], `basis` [6, n] as the kernel takes it."""

    grid: SliceGrid
    values: np.ndarray
    weights: np.ndarray
    basis: np.ndarray

    @property
    def kx(self) -> np.ndarray:
        return self.grid.kx.astype(np.float32)

    @property
    def ky(self) -> np.ndarray:
        return self.grid.ky.astype(np.float32)

    def columns(self, order: np.ndarray) -> Slices:
        parts = (np.ascontiguousarray(part[:, order]) for part in (self.values, self.weights, self.basis))
        return Slices(self.grid, *parts)


@numba.njit(nogil=True, error_model="numpy", fastmath=True, inline="always")
def add_point(sums, size, width, value, weight, x, y, z):
    """What the kernel does with one pixel, with signed places."""
    one, middle = sums.dtype.type(1), sums.dtype.type(size // 2)
    real, imaginary = value.real, value.imag
    if x < 0:
        x, y, z, imaginary = -x, -y, -z, -imaginary
    y += middle
    z += middle
    ix, iy, iz = np.int32(x), np.int32(y), np.int32(z)
    fx, fy, fz = x - ix, y - iy, z - iz
    for neighbour in range(4):
        dz, dy = neighbour >> 1, neighbour & 1
        across = (fz if dz else one - fz) * (fy if dy else one - fy)
        place = 3 * (((iz + dz) * size + iy + dy) * width + ix)
        a, b = across * (one - fx), across * fx
        sums[place] += a * real
        sums[place + 1] += a * imaginary
        sums[place + 2] += a * weight
        sums[place + 3] += b * real
        sums[place + 4] += b * imaginary
        sums[place + 5] += b * weight


@numba.njit(nogil=True, error_model="numpy", fastmath=True)
def particle_by_particle(sums, size, width, data, weight, kx, ky, basis):
    """`data` and `weight` are [n, p] here."""
    for i in range(basis.shape[1]):
        for p in range(kx.shape[0]):
            x, y, z = (
                kx[p] * basis[0, i] + ky[p] * basis[3, i],
                kx[p] * basis[1, i] + ky[p] * basis[4, i],
                kx[p] * basis[2, i] + ky[p] * basis[5, i],
            )
            add_point(sums, size, width, data[i, p], weight[i, p], x, y, z)


@numba.njit(nogil=True, error_model="numpy", fastmath=True)
def pixel_by_pixel(sums, size, width, data, weight, kx, ky, basis):
    for p in range(kx.shape[0]):
        for i in range(basis.shape[1]):
            x, y, z = (
                kx[p] * basis[0, i] + ky[p] * basis[3, i],
                kx[p] * basis[1, i] + ky[p] * basis[4, i],
                kx[p] * basis[2, i] + ky[p] * basis[5, i],
            )
            add_point(sums, size, width, data[p, i], weight[p, i], x, y, z)


class XlaScatter:
    """XLA's scatter-add of the same terms, one particle at a time. With `windows` an index stands for the three numbers
    of a voxel, else for one number.
    """

    def __init__(self, slices: Slices, shape: tuple[int, ...], *, windows: bool):
        import jax
        import jax.numpy as jnp

        size, _, width, _ = shape
        kx, ky = jnp.asarray(slices.kx), jnp.asarray(slices.ky)

        def add(sums, slice_):
            values, weights, basis = slice_
            points = kx[:, None] * basis[:3] + ky[:, None] * basis[3:]
            mirrored = points[:, 0] < 0
            points = jnp.where(mirrored[:, None], -points, points)
            points = points + jnp.array([0, size // 2, size // 2], jnp.float32)
            corner = jnp.floor(points).astype(jnp.int32)
            fraction = points - corner
            imaginary = jnp.where(mirrored, -values.imag, values.imag)
            terms = jnp.stack([values.real, imaginary, weights], axis=-1)
            places, parts = [], []
            for dz, dy, dx in itertools.product((0, 1), repeat=3):
                kept = [fraction[:, axis] if d else 1 - fraction[:, axis] for axis, d in enumerate((dx, dy, dz))]
                places.append(((corner[:, 2] + dz) * size + corner[:, 1] + dy) * width + corner[:, 0] + dx)
                parts.append((kept[0] * kept[1] * kept[2])[:, None] * terms)
            place, part = jnp.concatenate(places), jnp.concatenate(parts)
            if windows:
                return sums.at[place].add(part, mode="promise_in_bounds"), None
            numbers = (3 * place[:, None] + jnp.arange(3)).reshape(-1)
            return sums.at[numbers].add(part.reshape(-1), mode="promise_in_bounds"), None

        self._add = jax.jit(lambda sums, *parts: jax.lax.scan(add, sums, parts)[0], donate_argnums=0)
        self._parts = [jnp.asarray(part.T) for part in (slices.values, slices.weights, slices.basis)]
        self._sums = jnp.zeros((size * size * width, 3) if windows else size * size * width * 3, jnp.float32)

    def run(self) -> None:
        self._sums = self._add(self._sums, *self._parts).block_until_ready()

    @property
    def sums(self) -> np.ndarray:
        return np.asarray(self._sums).reshape(-1)


class CompiledLoops:
    """A kernel, and the sums that it adds to."""

    def __init__(self, kernel: Callable, slices: Slices, shape: tuple[int, ...]):
        data, weight = slices.values, slices.weights
        if kernel is particle_by_particle:
            data, weight = np.ascontiguousarray(data.T), np.ascontiguousarray(weight.T)
        self.sums = np.zeros(int(np.prod(shape)), dtype=np.float32)
        self._kernel = kernel
        self._arguments = (self.sums, shape[0], shape[2], data, weight, slices.kx, slices.ky, slices.basis)

    def run(self) -> None:
        self._kernel(*self._arguments)


def random_slices(box: int, count: int) -> tuple[Slices, np.ndarray]:
    """Slices of random values in evenly spread orientations, and the order of their viewing directions: belt by belt around z."""
    optics = OpticsGroup(pixel_size=3.0, box=box, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
    particles = draw_particles(ParticleDistribution(optics, (1e4, 2e4)), count)
    assert particles.pose is not None
    rotation = matrix_from_euler(particles.pose.euler)
    basis = np.ascontiguousarray(rotation[:, :2].reshape(-1, 6).T * PADDING, dtype=np.float32)
    grid, rng = slice_grid(box), np.random.default_rng(0)
    parts = rng.standard_normal((2, len(grid), count), dtype=np.float32)
    weights = rng.random((len(grid), count), dtype=np.float32)
    rot, tilt = particles.pose.euler[:, 0], particles.pose.euler[:, 1]
    order = np.lexsort((rot, np.rint(np.cos(tilt) * 6)))
    return Slices(grid, (parts[0] + 1j * parts[1]).astype(np.complex64), weights, basis), order


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--box", type=int, default=128)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    facts = machine()
    print_machine(facts)
    slices, order = random_slices(options.box, options.count)
    shape = Accumulator(options.box).sums.shape
    variants = {
        "XLA scatter-add, an index for each number": XlaScatter(slices, shape, windows=False),
        "XLA scatter-add, an index for each voxel": XlaScatter(slices, shape, windows=True),
        "compiled, particle by particle": CompiledLoops(particle_by_particle, slices, shape),
        "compiled, pixel by pixel": CompiledLoops(pixel_by_pixel, slices, shape),
        "the kernel, particles as they come": CompiledLoops(insert, slices, shape),
        "the kernel, particles by viewing direction": CompiledLoops(insert, slices.columns(order), shape),
    }
    pixels = slices.values.size
    print(
        f"{options.count} particles of {options.box} px: {len(slices.grid):,} pixels each, sums of {shape[:3]} voxels"
    )
    for variant in variants.values():
        variant.run()
    expected = variants["the kernel, particles as they come"].sums
    for name, variant in variants.items():
        error = float(np.abs(variant.sums - expected).max() / np.abs(expected).max())
        if error > TOLERANCE:
            raise SystemExit(f"{name}: sums differ by {error:.1e} of the largest")
    spent: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(options.repeats):
        for name, variant in variants.items():
            started = time.process_time()
            variant.run()
            spent[name].append((time.process_time() - started) / pixels * 1e9)
    rows = [[n, f"{statistics.median(t):.0f} ({min(t):.0f}-{max(t):.0f})"] for n, t in spent.items()]
    print_table([["variant", "CPU ns per pixel"], *rows])
    write_json(options.json, {"machine": facts, "box": options.box, "count": options.count, "ns_per_pixel": spent})


if __name__ == "__main__":
    main()
