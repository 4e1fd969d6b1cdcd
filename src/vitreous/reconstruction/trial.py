"""Trial reconstructions: how well does one half of a data set predict the other under a hypothesis about its conventions?

Half A is reconstructed under the hypothesis, `X = N_A / (D_A + lambda)`, and predicts the images of half B. The power it explains,

    gain = sum over B of [|F|^2 - |F - a c P|^2] / sigma^2 = 2 a p - a^2 q,   p = sum c Re(F* P) / sigma^2,   q = sum c^2 |P|^2 / sigma^2,

is the gain in log-likelihood (nats) over predicting nothing, with one scale `a = p / q` per shell. P is the slice of X, c the CTF, sigma^2
the power of the images in the shell. Because slicing and insertion are transposes of each other, both sums run over the voxels of
the sums of half B, `p = Re sum N_B* X` and `q = sum D_B |X|^2`: no image is ever projected.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitreous.engine.local import Counter, side_by_side
from vitreous.fourier.shells import power_spectrum
from vitreous.model.particles import Particles
from vitreous.reconstruction.direct_inversion import InversionSettings, Sums, accumulate


@dataclass(frozen=True)
class Trial:
    """What a hypothesis explains: `gain` [s] in nats per shell, and the sums it was found from."""

    gain: np.ndarray
    halves: tuple[Sums, Sums]

    @property
    def total(self) -> float:
        return float(self.gain.sum())


def run_trial(particles: Particles, settings: InversionSettings, noise_power: np.ndarray) -> Trial:
    """Reconstruct both halves and let each predict the other. `noise_power` [s] is `image_power` of the images."""
    assert particles.half_set is not None
    members = [np.flatnonzero(particles.half_set == half) for half in (1, 2)]
    counter = Counter(len(particles))

    def task(rows: np.ndarray):
        return lambda: accumulate(particles.rows(rows), settings, counter)

    first, second = side_by_side([task(rows) for rows in members], counter)
    gain = predicted_power(first, second) + predicted_power(second, first)
    return Trial(gain / noise_power / len(settings.operators), (first, second))


def predicted_power(source: Sums, target: Sums) -> np.ndarray:
    """Power of the target's images that the source's map predicts, per shell: `p |p| / q`, negative if it predicts the opposite."""
    shell = shell_index(source.values.shape[0], source.padding).ravel()
    shells = source.box // 2 + 1
    inside = shell < shells
    shell = shell[inside]

    def per_shell(values: np.ndarray) -> np.ndarray:
        return np.bincount(shell, weights=values, minlength=shells)

    values, weights = source.values.ravel()[inside], source.weights.ravel()[inside]
    mean = per_shell(weights) / np.maximum(np.bincount(shell, minlength=shells), 1)
    # A prior of the shell's mean weight: the scale `a` makes good for it, what remains is that empty voxels predict nothing.
    map_values = values / (weights + np.maximum(mean, np.finfo(np.float32).tiny)[shell])
    seen, seen_weights = target.values.ravel()[inside], target.weights.ravel()[inside]
    p = per_shell(np.real(seen * np.conj(map_values)))
    q = per_shell(seen_weights * np.abs(map_values) ** 2)
    return p * np.abs(p) / np.maximum(q, np.finfo(np.float64).tiny)


def shell_index(size: int, padding: int) -> np.ndarray:
    """Shell of the unpadded box, round(|k|), of each voxel of a folded half transform."""
    centred = np.arange(-(size // 2), size - size // 2, dtype=np.float32)
    squares = centred**2
    half = np.arange(size // 2 + 1, dtype=np.float32) ** 2
    radius = np.sqrt(squares[:, None, None] + squares[None, :, None] + half[None, None, :])
    return np.rint(radius / padding).astype(np.int32)


def image_power(images: np.ndarray) -> np.ndarray:
    """Mean power of the images' transforms per shell, [box // 2 + 1]: noise, since a single particle is mostly noise."""
    box = images.shape[-1]
    total = np.zeros(box // 2 + 1)
    for start in range(0, len(images), 256):
        total += power_spectrum(images[start : start + 256], 2).sum(axis=0, dtype=np.float64)
    return np.maximum(total * (box * box / len(images)), np.finfo(np.float64).tiny)
