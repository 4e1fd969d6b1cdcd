"""Images without a CTF to find: what an estimator must not give a confident answer to."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

SIZE, ELECTRONS = 2048, 40.0  # pixels; electrons a pixel


def controls(seed: int = 0, size: int = SIZE) -> Iterator[tuple[str, np.ndarray]]:
    """Name and image, float32 [size, size], of each, from a stream of its own."""
    for number, (name, make) in enumerate(KINDS.items()):
        yield name, make(np.random.default_rng([seed, 0xC7F, number]), size).astype(np.float32)


def counted(rng: np.random.Generator, size: int) -> np.ndarray:
    """White: electrons that come one by one and meet nothing."""
    return rng.poisson(ELECTRONS, (size, size))


def gaussian(rng: np.random.Generator, size: int) -> np.ndarray:
    return ELECTRONS + np.sqrt(ELECTRONS) * rng.standard_normal((size, size))


def constant(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.full((size, size), ELECTRONS)


def striped(rng: np.random.Generator, size: int) -> np.ndarray:
    """White, in columns of 5 % different gain: a wrong gain reference."""
    return counted(rng, size) * (1 + 0.05 * rng.standard_normal(size))


def blocks(rng: np.random.Generator, size: int) -> np.ndarray:
    """White, in blocks of 256 x 512 pixels of 3 % different gain, and a bright edge of 100 pixels: chips of a camera."""
    gain = 1 + 0.03 * rng.standard_normal((size // 256, size // 512))
    image = counted(rng, size) * np.kron(gain, np.ones((256, 512)))
    image[:100] *= 1.5
    return image


def falling(rng: np.random.Generator, size: int) -> np.ndarray:
    """Structure at all scales, power falling as k^-2 from 1/200 to 1/2 per pixel, no rings, and the electrons' noise."""
    return counted(rng, size) + 2.0 * coloured(rng, size, lambda k: 1 / np.maximum(k, 1 / 200))


def crystalline(rng: np.random.Generator, size: int) -> np.ndarray:
    """One ring, at 3.7 pixels, as ice crystals have it, over a falling spectrum."""
    return falling(rng, size) + coloured(rng, size, lambda k: np.exp(-0.5 * ((k - 1 / 3.7) / 0.004) ** 2))


def shaded(rng: np.random.Generator, size: int) -> np.ndarray:
    """White under a beam that covers half of the field: the edge of the hole in the film."""
    row, column = np.mgrid[:size, :size] / size - 0.5
    return rng.poisson(ELECTRONS / (1 + np.exp(80 * (row + 0.5 * column))))


def coloured(rng: np.random.Generator, size: int, amplitude: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A random field of variance 1 whose Fourier amplitudes follow `amplitude` of the frequency in 1/pixel."""
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    filtered = np.fft.rfft2(rng.standard_normal((size, size))) * amplitude(k)
    filtered[0, 0] = 0
    field = np.fft.irfft2(filtered, s=(size, size))
    return field / field.std()


KINDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "counted": counted,
    "gaussian": gaussian,
    "constant": constant,
    "striped": striped,
    "blocks": blocks,
    "falling": falling,
    "crystalline": crystalline,
    "shaded": shaded,
}
