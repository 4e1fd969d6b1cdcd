"""The decoder of a trained network: a consensus map, eigenvolumes in amounts that depend on the latent, and what the network adds to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.errors import DataProblem
from vitreous.fourier.nonuniform import transform_at
from vitreous.fourier.shells import power_spectrum
from vitreous.heterogeneity.coordinate_network import NetworkWeights, network_values
from vitreous.heterogeneity.perceptron import Perceptron, answer

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

# Adam moves the answer of a network by a like amount in every step, whatever the gradient: in this unit a step that noise has led is small beside
# what differs between maps.
UNIT = 0.1
POINTS_AT_ONCE = 1 << 13  # their hidden units stay near the cache


@dataclass(frozen=True)
class NetworkDecoder:
    """`F(k, z) = F_0(k) + sum_j g_j(z) U_j(k) + a(|k|) network(k, z)` below `radius` cycles per box: a Decoder.

    `maps` [m + 1, z, y, x] are those of F_0 and of the eigenvolumes U_j, `amplitude` [s] is a (`network_amplitude`) at whole |k|, linear between them;
    voxels of `pixel_size` angstrom. The arrays of the network and of the perceptron g are fields of their own, as in NetworkWeights and Perceptron,
    because saved states hold arrays and tuples of them.
    """

    maps: np.ndarray
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
    mixture_direct: np.ndarray
    mixture_layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    @staticmethod
    def of(
        weights: NetworkWeights,
        mixture: Perceptron | None,
        maps: np.ndarray,
        amplitude: np.ndarray,
        pixel_size: float,
        radius: float,
    ) -> NetworkDecoder:
        """A decoder of these weights, as NumPy arrays. Without a mixture `maps` is the consensus alone."""
        if len(maps) != 1 + (0 if mixture is None else mixture.direct.shape[1]):
            raise DataProblem(f"{len(maps)} maps", "the consensus and as many eigenvolumes as the mixture has amounts")
        arrays = {name: np.asarray(getattr(weights, name)) for name in weights._fields if name != "hidden"}
        if mixture is None:
            mixture = Perceptron(np.zeros((len(arrays["latent"]), 0), np.float32), ())
        return NetworkDecoder(
            maps,
            amplitude,
            pixel_size,
            radius,
            hidden=plain(weights.hidden),
            mixture_direct=np.asarray(mixture.direct),
            mixture_layers=plain(mixture.layers),
            **arrays,
        )

    @property
    def weights(self) -> NetworkWeights:
        return NetworkWeights(**{name: getattr(self, name) for name in NetworkWeights._fields})

    @property
    def box(self) -> int:
        return self.maps.shape[-1]

    @property
    def dimensions(self) -> int:
        return self.latent.shape[0]

    def amounts(self, latent: Float[np.ndarray, " d"]) -> Float[np.ndarray, " m"]:
        """g(z), how much of each eigenvolume is in the map."""
        if not self.mixture_layers:
            return np.zeros(0, np.float32)
        return answer(Perceptron(self.mixture_direct, self.mixture_layers), latent)

    def transform(self, points: Float[np.ndarray, "p 3"], latent: Float[np.ndarray, " d"]) -> Complex[np.ndarray, " p"]:
        """The map's transform at these frequencies."""
        points, latent = np.asarray(points, np.float32), np.asarray(latent, np.float32)
        volume = np.tensordot(np.concatenate([[np.float32(1)], self.amounts(latent)]), self.maps, axes=1)
        values = np.asarray(transform_at(volume, points / self.box), dtype=np.complex64)
        for start in range(0, len(points), POINTS_AT_ONCE):
            some = points[start : start + POINTS_AT_ONCE]
            scale = amplitude_at(self.amplitude, np.linalg.norm(some, axis=1))
            added = network_values(self.weights, some, latent, self.box)
            values[start : start + len(some)] += scale * added
        return values


def plain(layers: tuple[tuple[Any, Any], ...]) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Matrices and biases as NumPy arrays."""
    return tuple((np.asarray(matrix), np.asarray(bias)) for matrix, bias in layers)


def amplitude_at(amplitude: Float[np.ndarray, " s"], k: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
    """a(|k|): linear between whole |k|, constant beyond the last."""
    return np.interp(k, np.arange(len(amplitude)), amplitude).astype(np.float32)


def network_amplitude(volume: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, " s"]:
    """UNIT times the root mean square of a map's transform in each shell up to the Nyquist frequency, at least a thousandth of the largest, so that a
    network can say something in every shell."""
    rms = np.sqrt(power_spectrum(volume, 3) * volume.size)
    rms[0] = rms[1]  # the mean of a map depends on how its images were normalised, and tells nothing of the particle
    return (UNIT * np.maximum(rms, 1e-3 * rms.max())).astype(np.float32)
