"""Compiled inner loops of direct Fourier inversion. Imported only where a reconstruction runs: numba takes a second to load.

Why compiled and why in this order: docs/decisions/0003-slice-insertion.md. Each point adds to 8 neighbours of a volume far larger
than the cache, so the cost is memory latency. The points are visited pixel by pixel from the centre outwards with the particles
innermost: consecutive points lie on one thin shell of the volume, which stays in cache.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
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
def insert(sums, size, width, data, weight, kx, ky, basis):
    """Add slices to `sums`, [size, size, width, 3] = (real, imaginary, weight) as one flat array, with trilinear weights.

    Point p of slice i lies at `kx[p] * basis[:3, i] + ky[p] * basis[3:, i]` (x, y, z), in voxels of the padded transform. The
    half with x < 0 is the conjugate of the other. Axes z and y have their zero at the middle, x at 0.
    """
    middle, one = sums.dtype.type(size // 2), sums.dtype.type(1)
    # Unsigned places: a signed index would be tested for counting from the end.
    step, row, plane, nothing = np.uint64(3), np.uint64(3 * width), np.uint64(3 * width * size), np.uint64(0)
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
            ix, iy, iz = np.int32(x), np.int32(y), np.int32(z)
            fx, fy, fz = x - ix, y - iy, z - iz
            corner = np.uint64((np.int64(iz) * size + iy) * width + ix) * step
            for neighbour in range(4):
                weight_zy = (fz if neighbour & 2 else one - fz) * (fy if neighbour & 1 else one - fy)
                place = corner + (plane if neighbour & 2 else nothing) + (row if neighbour & 1 else nothing)
                a = weight_zy * (one - fx)
                b = weight_zy * fx
                sums[place] += a * real
                sums[place + np.uint64(1)] += a * imaginary
                sums[place + np.uint64(2)] += a * w
                sums[place + np.uint64(3)] += b * real
                sums[place + np.uint64(4)] += b * imaginary
                sums[place + np.uint64(5)] += b * w


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
def extract(data, kx, ky, basis, slices):
    """Read slices [n, p] from a padded transform `data` [size, size, width] (complex) with trilinear weights: what `insert` transposes.

    Point p of slice i lies at `kx[p] * basis[:3, i] + ky[p] * basis[3:, i]` (x, y, z), in voxels.
    """
    size, width = data.shape[0], data.shape[2]
    middle, one = basis.dtype.type(size // 2), basis.dtype.type(1)
    flat = data.reshape(-1)
    row, plane, nothing = np.uint64(width), np.uint64(width * size), np.uint64(0)
    for p in range(kx.shape[0]):
        kx_p, ky_p = kx[p], ky[p]
        for i in range(basis.shape[1]):
            x = kx_p * basis[0, i] + ky_p * basis[3, i]
            y = kx_p * basis[1, i] + ky_p * basis[4, i]
            z = kx_p * basis[2, i] + ky_p * basis[5, i]
            mirrored = x < 0
            if mirrored:
                x, y, z = -x, -y, -z
            y += middle
            z += middle
            ix, iy, iz = np.int32(x), np.int32(y), np.int32(z)
            fx, fy, fz = x - ix, y - iy, z - iz
            corner = np.uint64((np.int64(iz) * size + iy) * width + ix)
            real, imaginary = basis.dtype.type(0), basis.dtype.type(0)
            for neighbour in range(4):
                weight = (fz if neighbour & 2 else one - fz) * (fy if neighbour & 1 else one - fy)
                place = corner + (plane if neighbour & 2 else nothing) + (row if neighbour & 1 else nothing)
                near, far = flat[place], flat[place + np.uint64(1)]
                real += weight * ((one - fx) * near.real + fx * far.real)
                imaginary += weight * ((one - fx) * near.imag + fx * far.imag)
            slices[i, p] = complex(real, -imaginary if mirrored else imaginary)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def shell_statistics(values, weights, box, floors):
    """Per shell of two half transforms: voxels, sums of the weights, and of power and cross power of `values / (weights + floors[shell])`.

    `values` and `weights` are pairs of arrays [P, P, h], centred in their first two axes. Returns [shells, 7]: voxels, weight 1 and 2, power 1 and
    2, cross power, and the number of voxels of at least the floor's weight in either half together.
    """
    size, shells = values[0].shape[0], box // 2 + 1
    scale = box / size
    sums = np.zeros((shells, 7))
    for z in range(size):
        for y in range(size):
            square = float(z - size // 2) ** 2 + float(y - size // 2) ** 2
            for x in range(values[0].shape[2]):
                shell = int(np.sqrt(square + float(x) ** 2) * scale + 0.5)
                if shell >= shells:
                    break
                first, second = weights[0][z, y, x], weights[1][z, y, x]
                a = values[0][z, y, x] / max(first + floors[0, shell], 1e-30)
                b = values[1][z, y, x] / max(second + floors[1, shell], 1e-30)
                sums[shell, 0] += 1
                sums[shell, 1] += first
                sums[shell, 2] += second
                sums[shell, 3] += a.real * a.real + a.imag * a.imag
                sums[shell, 4] += b.real * b.real + b.imag * b.imag
                sums[shell, 5] += a.real * b.real + a.imag * b.imag
                sums[shell, 6] += first + second > floors[0, shell] + floors[1, shell]
    return sums


@numba.njit(nogil=True, cache=True, error_model="numpy")
def divide(values, weights, box, regularisation, gain, result):
    """`result = values * gain[shell] / (weights + regularisation[shell])`, 0 beyond the last shell."""
    size, shells = values.shape[0], box // 2 + 1
    scale = box / size
    for z in range(size):
        for y in range(size):
            square = float(z - size // 2) ** 2 + float(y - size // 2) ** 2
            for x in range(values.shape[2]):
                shell = int(np.sqrt(square + float(x) ** 2) * scale + 0.5)
                if shell < shells:
                    result[z, y, x] = values[z, y, x] * np.float32(
                        gain[shell] / max(weights[z, y, x] + regularisation[shell], 1e-30)
                    )
                else:
                    result[z, y, x] = 0
