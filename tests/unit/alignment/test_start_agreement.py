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


def compared(
    starts: list[np.ndarray], population: tuple[float, ...] = (1.0,), scores: tuple[float, ...] = (9.0, 9.0, 9.0)
) -> StartAgreement:
    maps = [start if start.ndim == 4 else start[None] for start in starts]
    return start_agreement(
        maps, scores, np.array(population), SIZE, least_score=8.0, radius=10.5, coarsest=40.0, finest=15.0
    )


@pytest.fixture(scope="module")
def three() -> StartAgreement:
    """A map, its mirror image turned with noise, and another map."""
    truth = blobs(1)
    return compared([truth, moved(truth, 2, mirrored=True, noise=0.3), blobs(3)])


def test_the_same_map_agrees_in_any_orientation_and_hand(three):
    same, other = three.pair(1), three.pair(2)
    assert same.agrees and same.mirrored and same.correlation > AGREE
    assert not other.agrees
    assert three.with_best == (0, 1) and three.confirmed and not three.disagree
    assert three.correlation.tolist() == [1, same.correlation, other.correlation]


def test_a_start_whose_score_lags_behind_confirms_nothing():
    """Wrong maps of real particles can resemble each other: what they explain tells."""
    truth = blobs(1)
    found = compared([truth, truth], scores=(9.0, 7.9))
    assert found.pair(1).correlation > 0.99 and not found.pair(1).agrees
    assert found.disagree and not found.confirmed
    assert compared([truth, truth], scores=(9.0, 8.0)).confirmed


def test_a_map_that_nobody_else_found_is_said_to_be_alone():
    assert compared([blobs(1), blobs(3)]).disagree
    alone = compared([blobs(1)])
    assert not alone.disagree and not alone.confirmed  # one start has nobody to disagree with


def test_opposite_contrast_is_another_map():
    truth = blobs(1)
    assert compared([truth, truth]).pair(1).agrees
    assert not compared([truth, -truth]).pair(1).agrees


def test_a_map_of_nothing_agrees_with_nothing():
    found = compared([blobs(1), np.zeros((BOX,) * 3, dtype=np.float32)])
    assert found.disagree and found.pair(1).correlation == 0


@pytest.mark.slow
def test_classes_are_joined_whatever_their_order():
    first, second = blobs(1), blobs(3)
    found = compared([np.stack([first, second]), np.stack([moved(second, 4), moved(first, 5)])], (0.6, 0.4))
    assert found.pair(1).classes == (1, 0) and found.pair(1).correlation > 0.8
    # One class in common is worth its share of the particles.
    half = compared([np.stack([first, second]), np.stack([blobs(6), moved(first, 5)])], (0.6, 0.4))
    assert half.pair(1).classes[0] == 1 and 0.5 < half.pair(1).correlation < 0.8
