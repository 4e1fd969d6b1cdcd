"""What is said of an image from the list of its alternatives, against numbers worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from vitreous.alignment.cells import Block, Cells, Steps, in_image
from vitreous.alignment.entries import LEAST_LISTED, Entries, listed, summary


class Views:
    """Child views twisted by a tenth of their number."""

    def twist(self, views: np.ndarray) -> np.ndarray:
        return 0.1 * views


CELLS = Cells(
    np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0.5, -1.0, 2.0]), np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
)
STEPS = Steps(np.array([-0.2, 0.2]), np.array([[0.0, 0.0], [1.0, 0.5]]), 2.0, 0.0)


def matching(*, whole: bool = False) -> SimpleNamespace:
    return SimpleNamespace(views=Views(), steps=Steps(STEPS.psi, STEPS.shift, 2.0, 0.0, whole=whole))


def blocks() -> list[Block]:
    """Of image 0 two alternatives in one cell; of image 1 three in two cells; the rest below what is listed."""
    first, second = np.zeros((2, 2, 2, 2), dtype=np.float32), np.zeros((1, 2, 2, 2), dtype=np.float32)
    first[0, 0, 1, 1], first[0, 1, 0, 0], first[0, 1, 1, 1] = 0.75, 0.2495, 5e-4
    first[1, 0, 0, 0], first[1, 1, 1, 1] = 0.3, 0.1
    second[0, 1, 1, 1] = 0.6
    return [
        Block(np.array([0, 1]), np.array([4, 5]), first),
        Block(np.array([2]), np.array([6, 7]), second),
    ]


@pytest.mark.parametrize("whole", [False, True])
def test_alternatives_are_listed_with_their_frames(whole):
    found = listed(blocks(), CELLS, matching(whole=whole))
    assert found.image.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_allclose(found.weight, [0.75, 0.2495, 0.6, 0.3, 0.1], rtol=1e-6)  # single precision
    assert found.view.tolist() == [5, 4, 7, 4, 5]
    # In the frame of its own view: cell + step + twist.
    psi = np.array([0.5 - 0.2, 0.5 + 0.2, 2.0 + 0.2, -1.0 - 0.2, -1.0 + 0.2])
    np.testing.assert_allclose(found.psi, psi + 0.1 * found.view)
    # The shift of a cell is one of the image turned back by the cell's angle; that of a whole table by the whole angle.
    angle = psi if whole else np.array([0.5, 0.5, 2.0, -1.0, -1.0])
    shift = STEPS.shift[[1, 0, 1, 0, 1]]
    expected = CELLS.origin[[0, 0, 2, 1, 1]] + in_image(shift, angle)
    np.testing.assert_allclose(found.origin, expected)
    assert np.abs(found.origin - (CELLS.origin[[0, 0, 2, 1, 1]] - in_image(shift, angle))).max() > 1


def test_an_image_whose_posterior_is_spread_thin_is_listed_too():
    table = np.full((1, 2, 1, 2), LEAST_LISTED / 10, dtype=np.float32)
    table[0, 1, 0, 1] = LEAST_LISTED / 5
    found = listed([Block(np.array([0]), np.array([3]), table)], CELLS, matching())
    assert found.weight.tolist() == [pytest.approx(LEAST_LISTED / 5)]


def entries() -> Entries:
    """Image 0: classes 0 and 1, three alternatives. Image 1: one."""
    return Entries(
        np.array([0, 0, 0, 1]),
        np.array([10, 11, 20, 12]),
        np.array([0.1, 0.3, 2.0, -1.0]),
        np.array([[0.0, 0.0], [1.0, 2.0], [9.0, 9.0], [3.0, 4.0]]),
        np.array([0.6, 0.2, 0.2, 1.0]),
    )


def in_plane(found: Entries, best: np.ndarray) -> np.ndarray:
    return found.psi - found.psi[best]


def test_summary():
    found = summary(entries(), 2, lambda view: view // 10, in_plane)
    assert found.view.tolist() == [10, 12]
    assert found.psi.tolist() == [0.1, -1.0] and found.origin.tolist() == [[0, 0], [3, 4]]
    assert found.probability.tolist() == [0.6, 1.0]
    np.testing.assert_allclose(found.class_probability, [0.8, 1.0])
    np.testing.assert_allclose(found.entropy, [-0.6 * np.log(0.6) - 0.4 * np.log(0.2), 0], atol=1e-12)
    # Within the class named: weights 0.6 and 0.2 of 0.8, 0.2 radian and (1, 2) pixels away.
    np.testing.assert_allclose(found.angle_deviation, [np.sqrt(0.25 * 0.2**2), 0], atol=1e-12)
    np.testing.assert_allclose(found.shift_deviation, [np.sqrt(0.25 * 5 / 2), 0], atol=1e-12)


def test_what_is_not_listed_counts_as_spread():
    half = Entries(np.array([0]), np.array([0]), np.zeros(1), np.zeros((1, 2)), np.array([0.5]))
    found = summary(half, 1, lambda view: view, in_plane)
    np.testing.assert_allclose(found.entropy, -0.5 * np.log(0.5) + 0.5 * np.log(1 / LEAST_LISTED))


def test_joined_entries():
    both = entries() + entries()
    assert len(both.weight) == 8 and both.origin.shape == (8, 2)
