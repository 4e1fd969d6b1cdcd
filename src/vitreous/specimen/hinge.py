"""A hinge: one part of a molecule turns as a rigid body about an axis, the rest stays where it is.

    r(a) = p + R(axis, a) (r - p)        for the atoms that move

with R the right-handed rotation by the angle a about the axis through the point p.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.geometry.rotations import matrix_from_axis_angle
from vitreous.model.atoms import Atoms
from vitreous.specimen.potential import centre_of_mass
from vitreous.units import DEGREE

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

CONTACT = 5.0  # angstrom between the centres of atoms of the two parts that touch
RIM = 0.95  # of the contacts lie on this side of a hinge at their rim
TRIAL_ANGLE = 30 * DEGREE  # at which the ways to open are compared
CLASH = 4.0  # angstrom: atoms of the two parts closer than this are in each other's way
CLASH_ATOMS = 10_000  # atoms of a part that are looked at for clashes


@dataclass(frozen=True)
class Hinge:
    """An axis (x, y, z), of length 1, through a point in angstrom, in the frame of the model."""

    point: np.ndarray
    axis: np.ndarray

    def __post_init__(self) -> None:
        length = float(np.linalg.norm(self.axis))
        if not (np.isfinite(self.point).all() and np.isfinite(length) and length > 0):
            raise SettingsProblem(
                f"a hinge along {np.asarray(self.axis).tolist()} through {np.asarray(self.point).tolist()}",
                "a direction other than (0, 0, 0), and a point in angstrom",
            )
        object.__setattr__(self, "axis", np.asarray(self.axis, dtype=np.float64) / length)
        object.__setattr__(self, "point", np.asarray(self.point, dtype=np.float64))

    def turned(self, position: Float[np.ndarray, "n 3"], angle: float) -> Float[np.ndarray, "n 3"]:
        """The positions turned by `angle` radian, float64."""
        return (np.asarray(position, np.float64) - self.point) @ matrix_from_axis_angle(
            self.axis, np.float64(angle)
        ).T + self.point

    def bent(self, atoms: Atoms, moving: Bool[np.ndarray, " n"], angle: float) -> Atoms:
        """The model with the `moving` atoms turned by `angle` radian, and the others as they are."""
        position = np.array(atoms.position)
        position[moving] = self.turned(position[moving], angle)
        return replace(atoms, position=position)


def opening_hinge(atoms: Atoms, moving: Bool[np.ndarray, " n"]) -> Hinge:
    """The hinge about which the moving part opens like the lid of a box, at positive angles.

    The axis lies in the plane of the contacts between the two parts, which is taken across the line between their centres of mass, and runs
    along the longer extent of the contacts, at their rim; of the two rims it is the one where the part comes into the way of fewer atoms of
    the rest. Raises DataProblem where all atoms move, none, or the parts do not touch.
    """
    from scipy.spatial import KDTree

    if moving.all() or not moving.any():
        raise DataProblem(f"{int(moving.sum())} of {len(atoms)} atoms that move", "some that move and some that stay")
    position = np.asarray(atoms.position, dtype=np.float64)
    lid, rest = position[moving], position[~moving]
    distance, _ = KDTree(rest).query(lid, distance_upper_bound=CONTACT)
    contact = lid[np.isfinite(distance)]
    if len(contact) < 2:
        raise DataProblem(
            f"parts of the model that do not come within {CONTACT:g} A of each other",
            "parts that touch",
            "give the hinge: --axis and --point",
        )
    outwards = np.asarray(centre_of_mass(atoms.rows(moving)) - centre_of_mass(atoms.rows(~moving)), np.float64)
    outwards /= np.linalg.norm(outwards)
    middle = contact.mean(axis=0)
    flat = contact - middle
    flat -= np.outer(flat @ outwards, outwards)
    along = np.linalg.svd(flat, full_matrices=False)[2][0]
    along /= np.linalg.norm(along)
    across = np.cross(outwards, along)
    choices = []
    for side in (1.0, -1.0):
        reach = float(np.quantile(side * (flat @ across), RIM))
        # Away from the rim, at -side * across, the turn about `axis` goes outwards: axis x (-side across) . outwards > 0.
        choices.append(Hinge(middle + side * reach * across, side * np.cross(outwards, across)))
    stride = [slice(None, None, -(-len(part) // CLASH_ATOMS)) for part in (lid, rest)]
    tree = KDTree(rest[stride[1]])
    clashes = [
        int(np.isfinite(tree.query(hinge.turned(lid[stride[0]], TRIAL_ANGLE), distance_upper_bound=CLASH)[0]).sum())
        for hinge in choices
    ]
    return choices[int(np.argmin(clashes))]
