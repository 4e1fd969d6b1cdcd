"""Compiled inner loops of direct Fourier inversion. Imported only where a reconstruction runs: numba takes a second to load.

Why compiled and why in this order: docs/decisions/0003-slice-insertion.md. Each point adds to 8 neighbours of a volume far larger
than the cache, so the cost is memory latency. The points are visited pixel by pixel from the centre outwards with the particles
innermost: consecutive points lie on one thin shell of the volume, which stays in cache.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True, error_model="numpy")
def mask_discs(images, centre_x, centre_y, radius, edge, masked):
    """Keep a soft disc around each particle: `masked = (image - background) * disc`.

    The disc is 1 up to `radius` pixels from the particle's centre, falls as a raised cosine over `edge` pixels and is 0 beyond.
    The background is the mean of the pixels beyond the disc, 0 where there are none.
    """
    height, width = images.shape[1:]
    outer_square, inner_square = (radius + edge) ** 2, radius**2
    for i in range(images.shape[0]):
        total, count = 0.0, 0
        for y in range(height):
            dy = (y - centre_y[i]) ** 2
            for x in range(width):
                if dy + (x - centre_x[i]) ** 2 >= outer_square:
                    total += images[i, y, x]
                    count += 1
        background = np.float32(total / max(count, 1))
        for y in range(height):
            dy = (y - centre_y[i]) ** 2
            for x in range(width):
                square = dy + (x - centre_x[i]) ** 2
                value = images[i, y, x] - background
                if square >= outer_square:
                    masked[i, y, x] = 0
                elif square <= inner_square:
                    masked[i, y, x] = value
                else:
                    masked[i, y, x] = value * (0.5 + 0.5 * np.cos(np.pi * (np.sqrt(square) - radius) / edge))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def weigh(transforms, row, column, phase_x, phase_y, factor, antisymmetric, multiply, data, weight):
    """Shift, multiply by the CTF and transpose to pixel-major order.

    `data[p, i] = F_i(p) * phase_y[i] * phase_x[i] * antisymmetric[p] * factor[i, p]` and `weight[p, i] = factor[i, p]^2`;
    without `multiply` the factor is left out of `data` (images that carry their CTF already).
    """
    block = 16  # particles at a time: their rows of output share cache lines, their transforms fit the cache
    for start in range(0, transforms.shape[0], block):
        stop = min(start + block, transforms.shape[0])
        for p in range(row.shape[0]):
            y, x = row[p], column[p]
            for i in range(start, stop):
                value = transforms[i, y, x] * (phase_y[i, y] * phase_x[i, x]) * antisymmetric[p]
                f = factor[i, p]
                data[p, i] = value * f if multiply else value
                weight[p, i] = f * f


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
def insert(accumulator, data, weight, kx, ky, basis):
    """Add slices to `accumulator` [z, y, x, 3] = (real, imaginary, weight) with trilinear weights.

    Point p of slice i lies at `kx[p] * basis[:3, i] + ky[p] * basis[3:, i]` (x, y, z), in voxels of the padded transform. The
    half with x < 0 is the conjugate of the other. Axes z and y have their zero at the middle, x at 0.
    """
    middle = np.float32(accumulator.shape[0] // 2)
    for p in range(kx.shape[0]):
        kx_p, ky_p = kx[p], ky[p]
        for i in range(basis.shape[1]):
            x = kx_p * basis[0, i] + ky_p * basis[3, i]
            y = kx_p * basis[1, i] + ky_p * basis[4, i]
            z = kx_p * basis[2, i] + ky_p * basis[5, i]
            value = data[p, i]
            real, imaginary, w = value.real, value.imag, weight[p, i]
            if x < 0:
                x, y, z, imaginary = -x, -y, -z, -imaginary
            y += middle
            z += middle
            ix, iy, iz = int(x), int(y), int(z)
            fx, fy, fz = x - ix, y - iy, z - iz
            for dz in range(2):
                weight_z = fz if dz else 1 - fz
                for dy in range(2):
                    weight_zy = weight_z * (fy if dy else 1 - fy)
                    cell = accumulator[iz + dz, iy + dy]
                    a = weight_zy * (1 - fx)
                    b = weight_zy * fx
                    cell[ix, 0] += a * real
                    cell[ix, 1] += a * imaginary
                    cell[ix, 2] += a * w
                    cell[ix + 1, 0] += b * real
                    cell[ix + 1, 1] += b * imaginary
                    cell[ix + 1, 2] += b * w
