"""Starts that found one map are told from those that did not, whatever way they lie, and whatever their hand."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.alignment.start_agreement import AGREE, StartAgreement, start_agreement
from vitreous.geometry.rotations import random_rotations
from vitreous.reconstruction.map_alignment import Placement, place

BOX, SIZE = 24, 5.0  # 120 angstrom; compared to 15 angstrom, shell 8


def blobs(seed: int) -> np.ndarray:
    """Fourteen blobs of 6 angstrom within 40 angstrom: of one hand, and with detail to 15 angstrom."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.arange(BOX) - BOX // 2,) * 3, indexing="ij")
    centres = rng.normal(size=(14, 3))
    centres *= 8 * rng.uniform(size=(14, 1)) ** (1 / 3) / np.linalg.norm(centres, axis=1, keepdims=True)
    return sum(np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / (2 * 1.2**2)) for a, b, c in centres).astype(
        np.float32
    )


def moved(volume: np.ndarray, seed: int, *, mirrored: bool = False, noise: float = 0.0) -> np.ndarray:
    """The map turned, shifted, mirrored, and with noise of its own."""
    rng = np.random.default_rng(seed)
    turned = place(volume, Placement(random_rotations(1, rng)[0], rng.uniform(-1, 1, 3), mirrored, 1.0))
    return (turned + noise * volume.std() * rng.standard_normal(volume.shape)).astype(np.float32)


def compared(starts: list[np.ndarray], population: tuple[float, ...] = (1.0,)) -> StartAgreement:
    maps = [start if start.ndim == 4 else start[None] for start in starts]
    return start_agreement(maps, [np.array(population)] * len(maps), SIZE, radius=10.5, coarsest=40.0, finest=15.0)


@pytest.fixture(scope="module")
def three() -> StartAgreement:
    """A map, its mirror image turned with noise, and another map."""
    truth = blobs(1)
    return compared([truth, moved(truth, 2, mirrored=True, noise=0.3), blobs(3)])


def test_the_same_map_agrees_in_any_orientation_and_hand(three):
    same, other = three.pair(0, 1), three.pair(0, 2)
    assert same.agrees and same.mirrored and same.correlation > 0.8
    assert not other.agrees
    assert three.with_best == (0, 1) and not three.disagree


def test_all_pairs_are_in_the_matrix(three):
    matrix = three.matrix
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), 1)
    assert [(pair.first, pair.second) for pair in three.pairs] == [(0, 1), (0, 2), (1, 2)]
    assert matrix[0, 1] == three.pair(0, 1).correlation and matrix[1, 2] < AGREE


def test_a_map_that_nobody_else_found_is_said_to_be_alone():
    assert compared([blobs(1), blobs(3)]).disagree
    assert not compared([blobs(1)]).disagree  # one start has nobody to disagree with


def test_opposite_contrast_is_another_map():
    truth = blobs(1)
    assert compared([truth, truth]).pair(0, 1).agrees
    assert not compared([truth, -truth]).pair(0, 1).agrees


def test_a_map_of_nothing_agrees_with_nothing():
    found = compared([blobs(1), np.zeros((BOX,) * 3, dtype=np.float32)])
    assert found.disagree and found.pair(0, 1).correlation == 0


@pytest.mark.slow
def test_classes_are_joined_whatever_their_order():
    first, second = blobs(1), blobs(3)
    found = compared([np.stack([first, second]), np.stack([moved(second, 4), moved(first, 5)])], (0.6, 0.4))
    assert found.pair(0, 1).classes == (1, 0) and found.pair(0, 1).correlation > 0.8
    # One class in common is worth its share of the particles.
    half = compared([np.stack([first, second]), np.stack([blobs(6), moved(first, 5)])], (0.6, 0.4))
    assert half.pair(0, 1).classes[0] == 1 and 0.5 < half.pair(0, 1).correlation < 0.8
