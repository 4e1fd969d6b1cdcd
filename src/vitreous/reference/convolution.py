"""Convolution of two images as four loops: over the pixels of the result and over the taps of the kernel.

    full:      c[m] = sum_j kernel[j] image[m - j],                 zero outside the image
    same:      c[i] = sum_j kernel[j] image[i - j + centre],        the result lies on the image
    circular:  the same, the image repeated without end
    valid:     only where every tap meets the image

Each formula holds along y and along x. `centre` is the tap that stands on the pixel itself.
"""

from __future__ import annotations

import numpy as np


def convolve_full(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Every place where image and kernel overlap: size N + K - 1 along each axis."""
    (rows, columns), (kernel_rows, kernel_columns) = image.shape, kernel.shape
    result = np.zeros((rows + kernel_rows - 1, columns + kernel_columns - 1), np.result_type(image, kernel))
    for y in range(rows):
        for x in range(columns):
            for v in range(kernel_rows):
                for u in range(kernel_columns):
                    result[y + v, x + u] += kernel[v, u] * image[y, x]
    return result


def convolve_same(image: np.ndarray, kernel: np.ndarray, centre: tuple[int, int]) -> np.ndarray:
    """The part of the full convolution that lies on the image when tap `centre` stands on the pixel."""
    full = convolve_full(image, kernel)
    return full[centre[0] : centre[0] + image.shape[0], centre[1] : centre[1] + image.shape[1]]


def convolve_valid(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The part of the full convolution in which every tap meets the image: size N - K + 1."""
    full = convolve_full(image, kernel)
    return full[kernel.shape[0] - 1 : image.shape[0], kernel.shape[1] - 1 : image.shape[1]]


def convolve_circular(image: np.ndarray, kernel: np.ndarray, centre: tuple[int, int]) -> np.ndarray:
    """The image repeats without end: what leaves on the right comes back on the left."""
    rows, columns = image.shape
    result = np.zeros(image.shape, np.result_type(image, kernel))
    for y in range(rows):
        for x in range(columns):
            for v in range(kernel.shape[0]):
                for u in range(kernel.shape[1]):
                    result[y, x] += kernel[v, u] * image[(y - v + centre[0]) % rows, (x - u + centre[1]) % columns]
    return result


def correlate_same(image: np.ndarray, template: np.ndarray, centre: tuple[int, int]) -> np.ndarray:
    """c[i] = sum_j image[i + j - centre] conj(template[j]): largest where the image shows the template's centre tap."""
    rows, columns = image.shape
    result = np.zeros(image.shape, np.result_type(image, template))
    for y in range(rows):
        for x in range(columns):
            for v in range(template.shape[0]):
                for u in range(template.shape[1]):
                    row, column = y + v - centre[0], x + u - centre[1]
                    if 0 <= row < rows and 0 <= column < columns:
                        result[y, x] += image[row, column] * np.conj(template[v, u])
    return result
