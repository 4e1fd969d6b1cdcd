"""The decoder of a trained network: a consensus map and what the network adds to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.fourier.nonuniform import transform_at
from vitreous.fourier.shells import power_spectrum
from vitreous.heterogeneity.coordinate_network import NetworkWeights, network_values

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

POINTS_AT_ONCE = 1 << 13  # their hidden units stay near the cache


@dataclass(frozen=True)
class NetworkDecoder:
    """`F(k, z) = F_0(k) + a(|k|) network(k, z)` below `radius` cycles per box: a Decoder.

    `consensus` [z, y, x] is the map of F_0, `amplitude` [s] is a at whole |k|, linear between them; voxels of `pixel_size` angstrom. The
    network's arrays are fields of their own, as in NetworkWeights, because saved states hold arrays and tuples of them.
    """

    consensus: np.ndarray
    amplitude: np.ndarray
    pixel_size: float
    radius: float
    points: np.ndarray
    waves: np.ndarray
    latent: np.ndarray
    bias: np.ndarray
    hidden: tuple[tuple[np.ndarray, np.ndarray], ...]
    last: np.ndarray
    last_bias: np.ndarray

    @staticmethod
    def of(
        weights: NetworkWeights, consensus: np.ndarray, amplitude: np.ndarray, pixel_size: float, radius: float
    ) -> NetworkDecoder:
        """A decoder of these weights, as NumPy arrays."""
        hidden = tuple((np.asarray(matrix), np.asarray(bias)) for matrix, bias in weights.hidden)
        arrays = {name: np.asarray(getattr(weights, name)) for name in weights._fields if name != "hidden"}
        return NetworkDecoder(consensus, amplitude, pixel_size, radius, hidden=hidden, **arrays)

    @property
    def weights(self) -> NetworkWeights:
        return NetworkWeights(**{name: getattr(self, name) for name in NetworkWeights._fields})

    @property
    def box(self) -> int:
        return self.consensus.shape[0]

    @property
    def dimensions(self) -> int:
        return self.latent.shape[0]

    def transform(self, points: Float[np.ndarray, "p 3"], latent: Float[np.ndarray, " d"]) -> Complex[np.ndarray, " p"]:
        """The map's transform at these frequencies."""
        points, latent = np.asarray(points, np.float32), np.asarray(latent, np.float32)
        values = np.asarray(transform_at(self.consensus, points / self.box), dtype=np.complex64)
        for start in range(0, len(points), POINTS_AT_ONCE):
            some = points[start : start + POINTS_AT_ONCE]
            scale = amplitude_at(self.amplitude, np.linalg.norm(some, axis=1))
            added = network_values(self.weights, some, latent, self.box)
            values[start : start + len(some)] += scale * added
        return values


def amplitude_at(amplitude: Float[np.ndarray, " s"], k: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
    """a(|k|): linear between whole |k|, constant beyond the last."""
    return np.interp(k, np.arange(len(amplitude)), amplitude).astype(np.float32)


def shell_amplitude(volume: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, " s"]:
    """Root mean square of a map's transform in each shell up to the Nyquist frequency; at least a thousandth of the largest, so that a network can
    say something in every shell."""
    rms = np.sqrt(power_spectrum(volume, 3) * volume.size)
    rms[0] = rms[1]  # the mean of a map depends on how its images were normalised, and tells nothing of the particle
    return np.maximum(rms, 1e-3 * rms.max()).astype(np.float32)
