"""Computes the structure factor of amorphous ice that `vitreous.specimen.ice` declares, from molecular dynamics.

    python docs/make_ice_structure.py [--molecules 2744] [--quenches 2] [--seed 1] [--table table.npz]

The monatomic water model mW (Molinero & Moore 2009, J. Phys. Chem. B 113, 4008: a Stillinger-Weber potential, one
particle a molecule) is equilibrated as a liquid at 320 K and cooled to 80 K at constant density, 0.94 g/cm^3, and 0.4
K/ps, fast enough to stay a glass. S(k) = <|sum_j exp(2 pi i k.r_j)|^2> / N is averaged over all wave vectors of the periodic box,
over frames at 80 K and over independent quenches. Printed are k, S, the standard error of S and S smoothed over 0.005 1/A,
which is the table of the program; the first two maxima of S; and the first maximum of g(r); two quenches of 2744 molecules take about ten minutes on one core.
"""

from __future__ import annotations

import argparse
import math
import sys

import numpy as np
from numba import njit

EPSILON, SIGMA = 6.189, 2.3925  # kcal/mol, angstrom
LAMBDA, GAMMA, COSINE = 23.15, 1.20, -1.0 / 3.0
TWO_A, TWO_B = 7.049556277, 0.6022245584
CUTOFF = 1.80 * SIGMA
MASS = 18.015  # g/mol
BOLTZMANN = 0.00198720426  # kcal/mol/K
TIME_UNIT_FS = 48.88821  # sqrt(g/mol angstrom^2 / (kcal/mol))
SKIN = 0.7  # angstrom: neighbours are listed this far beyond the cutoff
DENSITY = 0.94  # g/cm^3
STEP_FS = 10.0
FRICTION = 1.0  # 1/ps, of the Langevin thermostat
HOT, COLD = 320.0, 80.0  # kelvin
COOLING = 0.4  # kelvin/ps
LARGEST_K, SHELL = 1.2, 0.01  # 1/angstrom
BLUR, LOWEST = 0.005, 0.065  # 1/angstrom: of the smoothing; below it too few waves fit the box, and S is their mean


@njit(cache=False, fastmath=True)
def neighbours(position, box, reach, most):
    count = len(position)
    listed = np.empty((count, most), dtype=np.int32)
    number = np.zeros(count, dtype=np.int32)
    cells = max(3, int(box / reach))
    head = np.full(cells * cells * cells, -1, dtype=np.int32)
    following = np.empty(count, dtype=np.int32)
    cell = np.empty((count, 3), dtype=np.int32)
    for i in range(count):
        for d in range(3):
            cell[i, d] = int(position[i, d] / box * cells) % cells
        c = (cell[i, 0] * cells + cell[i, 1]) * cells + cell[i, 2]
        following[i] = head[c]
        head[c] = i
    for i in range(count):
        for a in range(-1, 2):
            for b in range(-1, 2):
                for e in range(-1, 2):
                    x = (cell[i, 0] + a) % cells
                    y = (cell[i, 1] + b) % cells
                    z = (cell[i, 2] + e) % cells
                    j = head[(x * cells + y) * cells + z]
                    while j >= 0:
                        if j != i:
                            square = 0.0
                            for d in range(3):
                                r = position[j, d] - position[i, d]
                                r -= box * round(r / box)
                                square += r * r
                            if square < reach * reach:
                                listed[i, number[i]] = j
                                number[i] += 1
                        j = following[j]
    return listed, number


@njit(cache=False, fastmath=True)
def forces(position, box, listed, number, force):
    """Stillinger-Weber forces into `force`; the potential energy."""
    force[:] = 0.0
    energy = 0.0
    vector = np.empty((128, 3))
    length = np.empty(128)
    decay = np.empty(128)
    slope = np.empty(128)
    which = np.empty(128, dtype=np.int32)
    for i in range(len(position)):
        near = 0
        for n in range(number[i]):
            j = listed[i, n]
            square = 0.0
            for d in range(3):
                r = position[j, d] - position[i, d]
                r -= box * round(r / box)
                vector[near, d] = r
                square += r * r
            if square < (CUTOFF - 1e-3) ** 2:
                r = math.sqrt(square)
                length[near] = r
                decay[near] = math.exp(GAMMA * SIGMA / (r - CUTOFF))
                slope[near] = -GAMMA * SIGMA / (r - CUTOFF) ** 2
                which[near] = j
                near += 1
        for n in range(near):
            j, r = which[n], length[n]
            if j > i:
                tail = math.exp(SIGMA / (r - CUTOFF))
                steep = TWO_B * (SIGMA / r) ** 4
                energy += TWO_A * EPSILON * (steep - 1) * tail
                gradient = TWO_A * EPSILON * tail * (-4 * steep / r - (steep - 1) * SIGMA / (r - CUTOFF) ** 2)
                for d in range(3):
                    pull = gradient * vector[n, d] / r
                    force[i, d] += pull
                    force[j, d] -= pull
            for m in range(n):
                k, s = which[m], length[m]
                dot = 0.0
                for d in range(3):
                    dot += vector[n, d] * vector[m, d]
                cosine = dot / (r * s)
                excess = cosine - COSINE
                product = LAMBDA * EPSILON * decay[n] * decay[m]
                energy += product * excess * excess
                for d in range(3):
                    u, v = vector[n, d] / r, vector[m, d] / s
                    first = product * excess * (2 * (v - cosine * u) / r + excess * slope[n] * u)
                    second = product * excess * (2 * (u - cosine * v) / s + excess * slope[m] * v)
                    force[j, d] -= first
                    force[k, d] -= second
                    force[i, d] += first + second
    return energy


@njit(cache=False, fastmath=True)
def run(position, velocity, box, steps, start, stop, seed):
    """Langevin dynamics (BAOAB) while the temperature goes from `start` to `stop`; positions and velocities change."""
    np.random.seed(seed)  # noqa: NPY002 - the stream of compiled code
    step = STEP_FS / TIME_UNIT_FS
    keep = math.exp(-FRICTION * STEP_FS * 1e-3)
    force = np.zeros_like(position)
    reference = position.copy()
    listed, number = neighbours(position, box, CUTOFF + SKIN, 128)
    energy = forces(position, box, listed, number, force)
    for s in range(steps):
        temperature = start + (stop - start) * s / steps
        kick = math.sqrt((1 - keep * keep) * BOLTZMANN * temperature / MASS)
        farthest = 0.0
        for i in range(len(position)):
            moved = 0.0
            for d in range(3):
                v = velocity[i, d] + 0.5 * step * force[i, d] / MASS
                position[i, d] += 0.5 * step * v
                v = keep * v + kick * np.random.normal()  # noqa: NPY002
                position[i, d] += 0.5 * step * v
                velocity[i, d] = v
                moved += (position[i, d] - reference[i, d]) ** 2
            farthest = max(farthest, moved)
        if farthest > (SKIN / 2) ** 2:
            position -= box * np.floor(position / box)
            reference[:] = position
            listed, number = neighbours(position, box, CUTOFF + SKIN, 128)
        energy = forces(position, box, listed, number, force)
        for i in range(len(position)):
            for d in range(3):
                velocity[i, d] += 0.5 * step * force[i, d] / MASS
    return energy / len(position)


def structure_factor(position: np.ndarray, box: float) -> tuple[np.ndarray, np.ndarray]:
    """Sum of |sum_j exp(2 pi i k.r_j)|^2 / N and number of wave vectors in each shell of width SHELL."""
    from vitreous.fourier.nonuniform import transform_of_points

    size = 2 * math.ceil(LARGEST_K * box) + 2
    pixel = box / size
    transform = transform_of_points(position - box / 2, np.ones(len(position)), (size,) * 3, pixel, eps=1e-6)
    full = np.fft.fftfreq(size, pixel)
    k = np.sqrt(full[:, None, None] ** 2 + full[:, None] ** 2 + np.fft.rfftfreq(size, pixel) ** 2)
    shell = np.rint(k / SHELL).astype(int)
    inside = (shell <= round(LARGEST_K / SHELL)) & (k > 0)
    power = np.abs(transform[inside]) ** 2 / len(position)
    length = round(LARGEST_K / SHELL) + 1
    return np.bincount(shell[inside], power, length), np.bincount(shell[inside], minlength=length)


def smoothed(k: np.ndarray, mean: np.ndarray, waves: np.ndarray) -> np.ndarray:
    """S(k) blurred by a Gaussian, each shell counting by its number of waves, and constant where they are few."""
    kernel = np.exp(-((k[:, None] - k) ** 2) / (2 * BLUR**2)) * waves
    blurred = kernel @ mean / np.maximum(kernel.sum(axis=1), 1e-30)
    few = k < LOWEST
    return np.where(k < LOWEST - 2 * SHELL, (mean[few] * waves[few]).sum() / waves[few].sum(), blurred)


def nearest_neighbours(position: np.ndarray, box: float) -> np.ndarray:
    """Distances of all pairs closer than 4 angstrom."""
    listed, number = neighbours(position, box, 5.0, 256)
    rows = np.repeat(np.arange(len(position)), number)
    columns = np.concatenate([listed[i, :n] for i, n in enumerate(number)])
    step = position[rows] - position[columns]
    step -= box * np.round(step / box)
    distance = np.linalg.norm(step, axis=1)
    return distance[distance < 4.0]


def quench(molecules: int, seed: int) -> tuple[list[np.ndarray], float]:
    """Frames at 80 K of a quenched liquid, and the side of its box in angstrom."""
    box = (molecules * MASS / (DENSITY * 0.602214076)) ** (1 / 3)
    rng = np.random.default_rng(seed)
    side = math.ceil(molecules ** (1 / 3) - 1e-9)
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    chosen = np.sort(rng.permutation(len(grid))[:molecules])
    position = (grid[chosen] + 0.5 + rng.uniform(-0.1, 0.1, (molecules, 3))) * box / side
    velocity = rng.standard_normal(position.shape) * math.sqrt(BOLTZMANN * HOT / MASS)
    per_ps = round(1000 / STEP_FS)
    run(position, velocity, box, 20 * per_ps, HOT * 1.5, HOT, seed)
    run(position, velocity, box, 20 * per_ps, HOT, HOT, seed + 1000)
    energy = run(position, velocity, box, round((HOT - COLD) / COOLING) * per_ps, HOT, COLD, seed + 2000)
    frames = []
    for frame in range(5):
        energy = run(position, velocity, box, 4 * per_ps, COLD, COLD, seed + 3000 + frame)
        frames.append(position - box * np.floor(position / box))
    print(f"quench {seed}: potential energy {energy:.3f} kcal/mol", file=sys.stderr, flush=True)
    return frames, box


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=2744)
    parser.add_argument("--quenches", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", help="write k, S and the standard error of S to this .npz file")
    options = parser.parse_args()
    each, distances = [], []
    for seed in range(options.seed, options.seed + options.quenches):
        frames, box = quench(options.molecules, seed)
        sums = [structure_factor(frame, box) for frame in frames]
        each.append(sum(s for s, _ in sums) / np.maximum(sum(n for _, n in sums), 1))
        distances.append(nearest_neighbours(frames[-1], box))
    k = np.arange(len(each[0])) * SHELL
    mean = np.mean(each, axis=0)
    error = np.std(each, axis=0, ddof=1) / math.sqrt(len(each)) if len(each) > 1 else np.full(len(k), np.nan)
    counts, edges = np.histogram(np.concatenate(distances), bins=200, range=(2.4, 4.0))
    middle = (edges[1:] + edges[:-1]) / 2
    for row in zip(k, mean, error, smoothed(k, mean, sums[0][1])):
        print("{:.2f} {:.4f} {:.4f} {:.3f}".format(*row))
    low, high = k < 0.4, (k > 0.4) & (k < 0.65)
    for name, part in (("first", low), ("second", high)):
        top = np.argmax(np.where(part, mean, 0))
        print(f"{name} maximum {mean[top]:.2f} at k = {k[top]:.2f} 1/A")
    print(f"g(r) has its first maximum at {middle[np.argmax(counts / middle**2)]:.2f} A")
    if options.table:
        np.savez(options.table, k=k, structure_factor=mean, standard_error=error)


if __name__ == "__main__":
    main()
