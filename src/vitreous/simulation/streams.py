"""Streams of random numbers in which entry i depends on the seed and on i alone.

A simulated set must not change when it is made in other chunks, on other machines, or longer. So every quantity
(orientations, defoci, the noise of one image) has a stream of its own, made from the seed and the quantity's number;
the first n rows of a stream are the same whatever follows. Philox (Salmon et al. 2011, doi:10.1145/2063384.2063405) is
a counter-based generator: the stream of image i starts at a counter that holds i, without drawing those before.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Quantity(IntEnum):
    """What a stream is for. The numbers are part of what a seed means: they must not change."""

    ORIENTATION = 0
    DEFOCUS = 1
    ASTIGMATISM = 2
    SHIFT = 3
    HALF_SET = 4
    NOISE = 5
    # Of micrographs: image_stream(key, particle, micrograph) or image_stream(key, micrograph).
    POSITION = 6
    PLACEMENT = 7
    MICROGRAPH_CTF = 8
    ICE = 9
    RECORDING = 10
    DRIFT = 11
    # Of ensembles.
    CONFORMATION = 12
    HEIGHT = 13


def stream(seed: int, quantity: Quantity) -> np.random.Generator:
    """The stream of a quantity of the whole set, to be drawn row by row."""
    return np.random.Generator(np.random.Philox(_sequence(seed, quantity)))


def stream_key(seed: int, quantity: Quantity) -> np.ndarray:
    """The key that all images share in `image_stream`, uint64 [2]."""
    return _sequence(seed, quantity).generate_state(2, np.uint64)


def image_stream(key: np.ndarray, image: int, stack: int = 0) -> np.random.Generator:
    """The stream of image number `image` of stack number `stack`: 2^128 numbers before it meets that of the next."""
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, image, stack]))


def _sequence(seed: int, quantity: Quantity) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(int(quantity),))
