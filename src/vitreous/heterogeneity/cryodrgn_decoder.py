"""The decoder of a cryoDRGN network, from its settings and its arrays.

cryoDRGN (Zhong et al. 2021, Nat. Methods 18:176, doi:10.1038/s41592-020-01049-4) gives the real and the imaginary part of the map's transform, or its
Hartley transform, as a multilayer perceptron of the sines and cosines of `frequencies @ k` and of the latent. It was trained on transforms
divided by their standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.errors import DataProblem

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

POINTS_AT_ONCE = 1 << 13  # whose hidden layers, 1024 wide, take 32 MB
SLOPES = {"relu": 0.0, "leaky_relu": 0.01}  # of the negative side
DOMAINS = ("fourier", "hartley")
EXPECTED = "a network of cryoDRGN 1 to 4, trained with --domain fourier or hartley and a positional encoding"


@dataclass(frozen=True)
class CryodrgnDecoder:
    """A trained network of cryoDRGN: a Decoder. `decoded_volume` gives what `cryodrgn eval_vol` gives.

    Layer i takes the vector x to `a(W_i x + b_i)`, plus x itself inside where `residual[i]`; `a` has slope 1 above and `slope` below zero, the last
    layer has none. Its input is `sin(frequencies @ k)`, `cos(frequencies @ k)`, latent, with k in cycles per pixel and `frequencies` [m, 3]. Its
    output times `scale` (plus `offset` in the Hartley domain) is the transform of the map.

    The transform of a real map needs half of space: that of z < 0 is asked for, which is where a network in the Fourier domain was trained; on
    z = 0 it is y < 0, on y = z = 0 x < 0. At k = 0, where it was not trained, the transform is real part minus imaginary part, as cryoDRGN has it.
    """

    box: int
    pixel_size: float
    frequencies: np.ndarray  # [m, 3]
    weights: tuple[np.ndarray, ...]  # [out, in] each
    biases: tuple[np.ndarray, ...]
    residual: tuple[bool, ...]
    slope: float
    domain: str
    scale: float
    offset: float
    dimensions: int

    def __post_init__(self) -> None:
        width, outputs = 2 * len(self.frequencies) + self.dimensions, 2 if self.domain == "fourier" else 1
        for weight, bias, residual in zip(self.weights, self.biases, self.residual, strict=True):
            if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
                raise DataProblem(f"a layer of shape {weight.shape} after {width} numbers", EXPECTED)
            width = len(weight)
            if residual and weight.shape[0] != weight.shape[1]:
                raise DataProblem(f"a residual layer of shape {weight.shape}", "a square one")
        if width != outputs:
            raise DataProblem(f"a network with {width} outputs", f"{outputs} in the {self.domain} domain")

    @property
    def radius(self) -> float:
        """Cycles per box: all frequencies below Nyquist's."""
        return self.box / 2

    def transform(self, points: Float[np.ndarray, "p 3"], latent: Float[np.ndarray, " d"]) -> Complex[np.ndarray, " p"]:
        """The map's transform at `points` (x, y, z) in cycles per box, in the scale and with the sign of the images that it was trained on.

        That sign is the images' times -1, times that of cryoDRGN's CTF, which is negative at low frequencies: images with white protein give a white map.
        """
        points = np.asarray(points, dtype=np.float32) / np.float32(self.box)
        latent = np.asarray(latent, dtype=np.float32)
        values = np.empty(len(points), dtype=np.complex64)
        for start in range(0, len(points), POINTS_AT_ONCE):
            part = slice(start, start + POINTS_AT_ONCE)
            values[part] = self._values(points[part], latent)
        return values

    def _values(self, points: np.ndarray, latent: np.ndarray) -> np.ndarray:
        if self.domain == "hartley":
            here, opposite = (self.scale * self._network(k, latent)[:, 0] + self.offset for k in (points, -points))
            return (here + opposite + 1j * (opposite - here)) / 2  # H = Re - Im, and F(-k) = conj F(k)
        x, y, z = points.T
        mirrored = (z > 0) | ((z == 0) & ((y > 0) | ((y == 0) & (x > 0))))
        real, imaginary = self.scale * self._network(np.where(mirrored[:, None], -points, points), latent).T
        values = real + self.offset + 1j * np.where(mirrored, -imaginary, imaginary)
        return np.where((points == 0).all(axis=1), real - imaginary + self.offset, values)

    def _network(self, points: np.ndarray, latent: np.ndarray) -> np.ndarray:
        """What the last layer gives at points in cycles per pixel."""
        phases = points @ self.frequencies.T
        x = np.concatenate([np.sin(phases), np.cos(phases), np.tile(latent, (len(points), 1))], axis=1)
        for layer, (weight, bias, residual) in enumerate(zip(self.weights, self.biases, self.residual), 1):
            y = x @ weight.T + bias
            y = y + x if residual else y
            x = y if layer == len(self.weights) else np.maximum(y, np.float32(self.slope) * y)
        return x


def cryodrgn_decoder(config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], pixel_size: float) -> CryodrgnDecoder:
    """The decoder of a config.yaml and of the `model_state_dict` of a weights.pkl; the encoder is left out.

    Networks of `train_vae`, `train_nn` and `train_dec` are understood, with every positional encoding. DataProblem for others: `abinit`, no positional encoding.
    """
    model, lattice = _section(config, "model_args"), _section(config, "lattice_args")
    domain, encoding, activation = (str(model.get(key)) for key in ("domain", "pe_type", "activation"))
    if domain not in DOMAINS or activation not in SLOPES:
        raise DataProblem(f"a network in the domain {domain} with the activation {activation}", EXPECTED)
    size, latent = int(lattice.get("D", 0)), int(model.get("zdim") or 0)
    if size % 2 == 0 or size < 3:
        raise DataProblem(f"a lattice of {size} points", "an odd number, the box and one more")
    if lattice.get("extent") != 0.5:
        raise DataProblem(f"a lattice up to {lattice.get('extent')} cycles per pixel", "up to 0.5")
    mean, deviation = norm(config)
    weights, biases, residual = layers(arrays)
    terms = (weights[0].shape[1] - latent) // 2
    if encoding == "gaussian":
        frequencies = gaussian_frequencies(arrays, size)
    else:
        frequencies = axis_frequencies(encoding, size, terms // 3)
        weights = (by_kind(weights[0], terms // 3), *weights[1:])
    return CryodrgnDecoder(
        box=size - 1,
        pixel_size=pixel_size,
        frequencies=frequencies.astype(np.float32),
        weights=weights,
        biases=biases,
        residual=residual,
        slope=SLOPES[activation],
        domain=domain,
        scale=deviation,
        offset=mean,
        dimensions=latent,
    )


def norm(config: Mapping[str, Any]) -> tuple[float, float]:
    """Mean and standard deviation that were taken out of the images' transforms."""
    pair = _section(config, "dataset_args").get("norm")
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise DataProblem(
            f"a normalisation of {pair}", "the mean and the standard deviation of the transforms, in dataset_args"
        )
    return float(pair[0]), float(pair[1])


def layers(
    arrays: Mapping[str, np.ndarray],
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...], tuple[bool, ...]]:
    """Weights, biases and residuality of the decoder's layers, by their names: `decoder.main.4.linear.weight` is residual, `decoder.main.0.weight` is not."""
    heads = [
        head for head in ("decoder.decoder.main.", "decoder.main.") if any(name.startswith(head) for name in arrays)
    ]
    if not heads:
        raise DataProblem("weights without the layers of a decoder", EXPECTED)
    found: dict[int, tuple[np.ndarray, np.ndarray, bool]] = {}
    for name, weight in arrays.items():
        number, _, rest = name.removeprefix(heads[0]).partition(".")
        if name.startswith(heads[0]) and rest in ("weight", "linear.weight") and number.isdigit():
            bias = arrays.get(name.removesuffix("weight") + "bias")
            if bias is None:
                raise DataProblem(f"weights without {name.removesuffix('weight')}bias", EXPECTED)
            found[int(number)] = (weight.astype(np.float32), bias.astype(np.float32), rest != "weight")
    weights, biases, residual = zip(*(found[number] for number in sorted(found)), strict=True)
    return weights, biases, residual


def gaussian_frequencies(arrays: Mapping[str, np.ndarray], size: int) -> np.ndarray:
    """Those drawn at random when the network was made [m, 3], in radian per (cycle per pixel)."""
    drawn = next((arrays[name] for name in ("decoder.rand_freqs", "rand_freqs") if name in arrays), None)
    if drawn is None or drawn.ndim != 2 or drawn.shape[1] != 3:
        raise DataProblem(
            "weights without rand_freqs",
            "those of a gaussian positional encoding",
            "config.yaml and weights must be of one run",
        )
    return drawn * (size // 2)


def axis_frequencies(encoding: str, size: int, count: int) -> np.ndarray:
    """Those of the encodings along each axis [3 count, 3]: all of x, then of y, then of z."""
    half, even = size // 2, 2 * (size // 2)
    fraction = np.arange(count) / max(count - 1, 1)
    lines = {
        "geom_ft": even * math.pi * (2.0 / even) ** fraction,
        "geom_full": even * math.pi * (1.0 / even / math.pi) ** fraction,
        "geom_lowf": half * (1.0 / half) ** fraction,
        "geom_nohighf": half * (2.0 * math.pi / half) ** fraction,
        "linear_lowf": np.arange(1, count + 1),
    }
    if encoding not in lines:
        raise DataProblem(f"a positional encoding '{encoding}'", f"gaussian or one of {', '.join(lines)}")
    return np.kron(np.eye(3), lines[encoding][:, None])


def by_kind(weight: np.ndarray, count: int) -> np.ndarray:
    """The columns of a first layer that takes, of each axis, `count` sines and cosines, in the order all sines, all cosines, latent."""
    axes = weight[:, : 6 * count].reshape(len(weight), 3, 2, count)
    return np.concatenate([axes.swapaxes(1, 2).reshape(len(weight), -1), weight[:, 6 * count :]], axis=1)


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name) if isinstance(config, Mapping) else None
    if not isinstance(section, Mapping):
        raise DataProblem(f"a configuration without {name}", EXPECTED)
    return section
