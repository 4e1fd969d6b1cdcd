"""Correction of an image for its CTF, as a definition."""

from __future__ import annotations

import numpy as np

from vitreous.reference.dft import dft, frequency_numbers, idft


def correction(ctf: np.ndarray, state: str, snr: float = 1.0) -> np.ndarray:
    """What multiplies the transform of a raw image to make it "raw", "phase_flipped", "premultiplied" or "wiener_filtered"."""
    return {
        "raw": np.ones_like(ctf),
        "phase_flipped": np.where(ctf < 0, -1.0, 1.0),
        "premultiplied": ctf,
        "wiener_filtered": ctf
        / (ctf**2 + 1 / snr),  # least error where the object has snr times the power of the noise
    }[state]


def corrected(image: np.ndarray, ctf: np.ndarray, state: str, odd_phase: np.ndarray, snr: float = 1.0) -> np.ndarray:
    """The image [y, x] times the correction and exp(-i odd_phase), all frequencies [y, x] in the order of `frequency_numbers`.

    The Nyquist frequency of an even size stands for two, of which the CTF may differ: it is dropped.
    """
    transform = dft(image, 2) * correction(ctf, state, snr) * np.exp(-1j * odd_phase)
    rows, columns = (2 * np.abs(frequency_numbers(size)) == size for size in image.shape)
    transform[rows] = 0
    transform[:, columns] = 0
    return np.real(idft(transform, 2))
