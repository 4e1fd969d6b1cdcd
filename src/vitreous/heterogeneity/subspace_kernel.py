"""Compiled inner loops of the subspace. Imported only where one is fitted: numba takes a second to load.

A FourierBall lists the voxels of a padded transform: `index` [z, y, x] says which row a voxel has, the last row if it is not in the ball. The
numbers of a voxel lie side by side, so that one visit serves all components.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
def place(kx, ky, basis, middle):
    """(side, lowest corner x, y, z, fractions x, y, z) of a point; side -1 where the point opposite was taken, so that x >= 0."""
    x = kx * basis[0, 0] + ky * basis[1, 0]
    y = kx * basis[0, 1] + ky * basis[1, 1]
    z = kx * basis[0, 2] + ky * basis[1, 2]
    side = np.float32(1)
    if x < 0:
        x, y, z, side = -x, -y, -z, np.float32(-1)
    x0, y0, z0 = np.floor(x), np.floor(y), np.floor(z)
    return side, int(x0), int(y0) + middle, int(z0) + middle, x - x0, y - y0, z - z0


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
def interpolated(values, index, x, y, z, fx, fy, fz, both):
    """Write into `both` the numbers of a point, from the eight voxels around it."""
    both[:] = 0
    for dz in range(2):
        wz = fz if dz else 1 - fz
        for dy in range(2):
            wzy = wz * (fy if dy else 1 - fy)
            for dx in range(2):
                weight = wzy * (fx if dx else 1 - fx)
                voxel = values[index[z + dz, y + dy, x + dx]]
                for j in range(len(both)):
                    both[j] += weight * voxel[j]


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
def slices(values, index, basis, kx, ky, found):
    """The transforms of the k components at each pixel of each particle, into `found` [n, p, k]."""
    components, middle = values.shape[1] // 2, index.shape[0] // 2
    both = np.empty(2 * components, np.float32)
    for i in range(len(basis)):
        for p in range(len(kx)):
            side, x, y, z, fx, fy, fz = place(kx[p], ky[p], basis[i], middle)
            interpolated(values, index, x, y, z, fx, fy, fz, both)
            for j in range(components):
                found[i, p, j] = complex(both[j], side * both[components + j])


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
def moments(values, index, residual, transfer, basis, kx, ky, gram, projection):
    """For each particle `gram[j, l] = Re sum_p C^2 conj(u_j) u_l` and `projection[j] = Re sum_p conj(C u_j) r`, u_j the slices of the k components.

    `values` [v + 1, 2k] holds the real parts of all components, then the imaginary ones; its last row is 0.
    """
    count, pixels = residual.shape
    components, middle = values.shape[1] // 2, index.shape[0] // 2
    seen = np.zeros((2 * pixels, components), np.float32)
    image = np.empty(2 * pixels, np.float32)
    both = np.empty(2 * components, np.float32)
    for i in range(count):
        for p in range(pixels):
            c = transfer[i, p]
            side, x, y, z, fx, fy, fz = place(kx[p], ky[p], basis[i], middle)
            interpolated(values, index, x, y, z, fx, fy, fz, both)
            for j in range(components):
                seen[p, j] = c * both[j]
                seen[pixels + p, j] = c * both[components + j]
            image[p] = residual[i, p].real
            image[pixels + p] = side * residual[i, p].imag
        gram[i] = np.dot(seen.T, seen)
        projection[i] = np.dot(seen.T, image)


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
def insert(normal, start, index, residual, transfer, basis, kx, ky, mean, second):
    """Add particles to the normal equations of the rows of the ball from `start` on, with trilinear weights.

    `normal[v]`, for row `start + v`, holds the packed lower triangle of `sum C^2 E[z z']`, then the real and the imaginary parts of `sum C E[z] r`. Arrays are
    pixel-major, [p, n]; `second` [n, k (k + 1) / 2] is packed alike. A voxel with x = 0 stands for its mirror image as well.
    """
    pixels, count = residual.shape
    components, middle = mean.shape[1], index.shape[0] // 2
    packed, last, rows = second.shape[1], 2 * middle, normal.shape[0]
    row = np.empty(packed + 2 * components, np.float32)
    mirror = np.empty(packed + 2 * components, np.float32)
    for p in range(pixels):
        for i in range(count):
            c = transfer[p, i]
            if c == 0:
                continue
            side, x, y, z, fx, fy, fz = place(kx[p], ky[p], basis[i], middle)
            square = c * c
            for j in range(packed):
                row[j] = square * second[i, j]
            real, imaginary = c * residual[p, i].real, side * c * residual[p, i].imag
            for j in range(components):
                row[packed + j] = real * mean[i, j]
                row[packed + components + j] = imaginary * mean[i, j]
            if x == 0:
                mirror[:] = row
                mirror[packed + components :] *= -1
            for dz in range(2):
                wz = fz if dz else 1 - fz
                for dy in range(2):
                    wzy = wz * (fy if dy else 1 - fy)
                    for dx in range(2):
                        weight = wzy * (fx if dx else 1 - fx)
                        at = index[z + dz, y + dy, x + dx] - start
                        if 0 <= at < rows:
                            voxel = normal[at]
                            for j in range(row.shape[0]):
                                voxel[j] += weight * row[j]
                        if x + dx == 0:
                            at = index[last - z - dz, last - y - dy, 0] - start
                            if 0 <= at < rows:
                                voxel = normal[at]
                                for j in range(row.shape[0]):
                                    voxel[j] += weight * mirror[j]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def solve(normal, shell, regularisation, floor, values):
    """Solve `(A + diag regularisation[:, s]) u = b` for each row by Cholesky, into `values` [v, 2k]; where the trace is at most floor[s], u stays 0."""
    components = values.shape[1] // 2
    packed = components * (components + 1) // 2
    factor = np.zeros((components, components))
    right = np.zeros((components, 2))
    for v in range(normal.shape[0]):
        s = shell[v]
        at, trace = 0, 0.0
        for j in range(components):
            for m in range(j + 1):
                factor[j, m] = normal[v, at]
                at += 1
            trace += factor[j, j]
            right[j, 0], right[j, 1] = normal[v, packed + j], normal[v, packed + components + j]
        if trace <= floor[s]:
            continue
        for j in range(components):
            factor[j, j] += regularisation[j, s] + 1e-6 * trace
        for j in range(components):
            for m in range(j):
                total = factor[j, m]
                for q in range(m):
                    total -= factor[j, q] * factor[m, q]
                factor[j, m] = total / factor[m, m]
            total = factor[j, j]
            for q in range(j):
                total -= factor[j, q] ** 2
            factor[j, j] = np.sqrt(max(total, 1e-12 * trace))
        for side in range(2):
            for j in range(components):
                total = right[j, side]
                for q in range(j):
                    total -= factor[j, q] * right[q, side]
                right[j, side] = total / factor[j, j]
            for back in range(components):
                j = components - 1 - back
                total = right[j, side]
                for q in range(j + 1, components):
                    total -= factor[q, j] * right[q, side]
                right[j, side] = total / factor[j, j]
        for j in range(components):
            values[v, j], values[v, components + j] = right[j, 0], right[j, 1]
