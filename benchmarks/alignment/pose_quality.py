"""How far the poses that a program found are from the true ones, whatever frame and hand its map has.

A map may come out turned by Q, moved by t, and as its mirror image: then all rotations are R Q^T, all origins have the projection of t more, and neither is an error of
alignment. These are fitted and taken off. Rotations as in the project: `r_image = R @ r_object`, object and image in the same units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitreous.geometry.rotations import angular_distance, mean_chordal
from vitreous.reconstruction.map_alignment import other_hand

TRIALS = 64  # particles each of whose frames is tried on all others
INLIER = 3.0  # medians: poses farther away do not shape the frame
ROUNDS = 5


@dataclass(frozen=True)
class PoseErrors:
    """Angles in degrees, shifts in the unit of the origins, after the frame was taken off.

    `frame_angle` is how far the found map is turned, `mirrored` whether it is of the other hand; `within` is the fraction of the particles whose angle is
    below 10 degrees.
    """

    median_angle: float
    mean_angle: float
    within: float
    median_shift: float
    frame_angle: float
    mirrored: bool


def pose_errors(
    found: np.ndarray,
    true: np.ndarray,
    found_shift: np.ndarray,
    true_shift: np.ndarray,
    *,
    operators: np.ndarray | None = None,
    either_hand: bool = True,
) -> PoseErrors:
    """Errors of rotations `found` [n, 3, 3] and origins [n, 2] against the true ones, up to a frame and the `operators` [m, 3, 3] of a point group.

    With `either_hand` the frame of the mirror image is tried too. The shift error of a particle is the length of the difference of its two origins.
    """
    operators = np.eye(3)[None] if operators is None else operators
    hands = (False, True) if either_hand else (False,)
    candidates = {hand: frame_of(other_hand(found) if hand else found, true, operators) for hand in hands}
    mirrored = min(candidates, key=lambda hand: candidates[hand][1])
    frame = candidates[mirrored][0]
    turned = (other_hand(found) if mirrored else found) @ frame
    angles = np.degrees(angular_distance(turned, true, symmetry=operators))
    shift = shift_errors(found, found_shift, true_shift)
    return PoseErrors(
        float(np.median(angles)),
        float(angles.mean()),
        float((angles < 10).mean()),
        float(np.median(shift)),
        float(np.degrees(angular_distance(frame, np.eye(3), symmetry=operators))),
        mirrored,
    )


def frame_of(found: np.ndarray, true: np.ndarray, operators: np.ndarray) -> tuple[np.ndarray, float]:
    """The rotation Q for which `found @ Q` is nearest to `true` up to the operators, and the median of what remains, radian.

    Each of some particles proposes its own `found^T true`; the one with the smallest median over all particles is improved by means over those that agree.
    """
    rows = np.linspace(0, len(found) - 1, min(TRIALS, len(found))).astype(int)
    proposals = np.swapaxes(found[rows], 1, 2) @ true[rows]
    medians = [np.median(angular_distance(found @ proposal, true, symmetry=operators)) for proposal in proposals]
    frame = proposals[int(np.argmin(medians))]
    for _ in range(ROUNDS):
        copies = true[:, None] @ operators
        distance = np.stack([angular_distance(found @ frame, copies[:, m]) for m in range(len(operators))], axis=1)
        nearest = copies[np.arange(len(true)), distance.argmin(axis=1)]
        smallest = distance.min(axis=1)
        agree = smallest <= max(INLIER * float(np.median(smallest)), 1e-6)
        frame = mean_chordal(np.swapaxes(found[agree], 1, 2) @ nearest[agree])
    return frame, float(np.median(angular_distance(found @ frame, true, symmetry=operators)))


def shift_errors(rotation: np.ndarray, found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Lengths of the differences of origins [n, 2], less the projections of the one translation of the map that explains most of them.

    A map moved by t has every particle moved by the first two components of R t. The fit leaves out what is far off (three medians), twice.
    """
    difference = found - true
    rows = rotation[:, :2, :]
    use = np.ones(len(found), dtype=bool)
    translation = np.zeros(3)
    for _ in range(3):
        translation = np.linalg.lstsq(rows[use].reshape(-1, 3), difference[use].reshape(-1), rcond=None)[0]
        rest = np.linalg.norm(difference - rows @ translation, axis=1)
        use = rest <= max(INLIER * float(np.median(rest)), 1e-9)
    return np.linalg.norm(difference - rows @ translation, axis=1)
