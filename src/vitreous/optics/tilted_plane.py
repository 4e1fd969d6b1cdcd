"""TiltedPlane: a flat specimen turned about an axis in its plane, and how other programs write the same tilt down.

The hand is that of physics.md (a): z runs along the beam, what lies nearer the detector is further underfocused, and a
right-handed turn by +tilt about +y takes the side of +x towards the source. Whether the angles of a data set have this
hand is not in its files; programs keep a flag for it that they find by experiment. The constructors below state each
program's defocus at a position in its own terms, as read in its source code; they hold for images whose rows are in
the order of the file. Programs whose rule could not be read have no constructor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.units import DEGREE

if TYPE_CHECKING:
    from jaxtyping import Float

ALONG_X, ALONG_Y = 0.0, math.pi / 2


@dataclass(frozen=True)
class TiltedPlane:
    """A flat specimen, first across the beam, then turned right-handed by `tilt` radian about an axis in its plane.

    `axis_angle` is the direction of the axis in radian from +x towards +y: `ALONG_X` (0), `ALONG_Y` (the default), or any
    other. In the image the specimen then has the height `z = tan(tilt) (y cos(axis_angle) - x sin(axis_angle))`: `-x
    tan(tilt)` about +y, `+y tan(tilt)` about +x. The plane passes through x = y = 0 at the height 0. RELION's matrix
    Ry(tilt) turns the other way: `of_rotation`.
    """

    tilt: float
    axis_angle: float = ALONG_Y

    def __post_init__(self) -> None:
        if not (math.isfinite(self.axis_angle) and abs(self.tilt) < math.pi / 2):
            raise SettingsProblem(
                f"a specimen tilted by {self.tilt / DEGREE:g} degrees about an axis at {self.axis_angle / DEGREE:g} degrees",
                "a tilt between -90 and 90 degrees",
            )

    @property
    def slope(self) -> tuple[float, float]:
        """Change of height, and of defocus, per angstrom along x and along y in the image."""
        steepness = math.tan(self.tilt)
        return -steepness * math.sin(self.axis_angle), steepness * math.cos(self.axis_angle)

    def height(self, x: Any, y: Any) -> Any:
        """z in angstrom of the specimen seen at (x, y), angstrom from the middle of the image."""
        along_x, along_y = self.slope
        return along_x * x + along_y * y

    def local_defocus(self, x: Any, y: Any, defocus: Any) -> Any:
        """Defocus in angstrom at (x, y); `defocus` is that at x = y = 0.

        >>> round(TiltedPlane(math.radians(30)).local_defocus(1000.0, 0.0, 1e4), 2)
        9422.65
        """
        return defocus + self.height(x, y)

    @staticmethod
    def of_slope(along_x: float, along_y: float) -> TiltedPlane:
        """The plane whose height, and defocus, grow by these amounts per angstrom along x and y; tilt >= 0."""
        steepness = math.hypot(along_x, along_y)
        if steepness == 0:
            return TiltedPlane(0.0)
        return TiltedPlane(math.atan(steepness), math.atan2(-along_x, along_y))

    @staticmethod
    def of_rotation(rotation: Float[np.ndarray, "3 3"]) -> TiltedPlane:
        """The plane z = 0 of a specimen after `r_image = rotation @ r_specimen`.

        With `geometry.rotations.matrix_from_euler(0, tilt, 0)`, RELION's convention, it has `df(x) = df0 + x tan(tilt)`.
        """
        rotation = np.asarray(rotation, dtype=np.float64)
        if rotation.shape != (3, 3) or np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-4:
            raise DataProblem(f"a matrix of shape {rotation.shape} as rotation", "an orthogonal matrix of 3 x 3")
        normal = rotation[:, 2]
        if abs(normal[2]) < 1e-9:
            raise DataProblem("a specimen seen edge on", "a tilt between -90 and 90 degrees")
        return TiltedPlane.of_slope(-normal[0] / normal[2], -normal[1] / normal[2])

    @staticmethod
    def of_relion_tomogram(projection: Float[np.ndarray, "3 3"], hand: int) -> TiltedPlane:
        """The plane z = 0 of a RELION tomogram in one of its tilt images. `hand` is rlnTomoHand, 1 or -1.

        `projection` is the rotation in rlnTomoProjX, Y, Z of the image (the first three numbers of each). RELION adds `hand
        * pixel size * (z of the projected position - z of the projected centre)` to the defocus (relion 4 and 5,
        tomogram.cpp, getCtf).
        """
        plane = TiltedPlane.of_rotation(projection)
        return plane if _checked_hand(hand) == 1 else TiltedPlane(-plane.tilt, plane.axis_angle)

    @staticmethod
    def of_warp(angle_deg: float, axis_angle_deg: float, *, angles_inverted: bool) -> TiltedPlane:
        """The plane z = 0 of a tilt series in Warp: the angle and the axis angle of one image, and AreAnglesInverted.

        Warp's normal is `Rz(-axis) Ry(+-angle) z` with RELION's matrices, minus where the angles are inverted, and its
        defocus `df0 - (n.x x + n.y y) / n.z` (WarpLib, TiltSeries.ProcessCTFSimultaneous and GetPositionInAllTilts). The
        levelling of the specimen (LevelAngleX, LevelAngleY) is not part of this.
        """
        signed = -angle_deg if angles_inverted else angle_deg
        return TiltedPlane.of_rotation(
            np.asarray(matrix_from_euler(np.array([0.0, signed * DEGREE, -axis_angle_deg * DEGREE])))
        )

    @staticmethod
    def of_ctffind(tilt_angle_deg: float, tilt_axis_deg: float) -> TiltedPlane:
        """The plane that CTFFIND5 and cisTEM describe by tilt angle and tilt axis.

        Their defocus is `df0 + tan(angle) (x sin(axis) + y cos(axis))` (cisTEM, ctffind_tilt.cpp; the same rule gives particles
        their defocus), so that the axis lies at -`tilt_axis_deg` here. (angle, axis) and (-angle, axis + 180) are one tilt.
        """
        return TiltedPlane(tilt_angle_deg * DEGREE, -tilt_axis_deg * DEGREE)

    def relion_hand(self, projection: Float[np.ndarray, "3 3"]) -> int:
        """rlnTomoHand with which RELION gives this plane its defocus, for the `projection` of `of_relion_tomogram`.

        Raises DataProblem if neither hand does, and if both do because the image is not tilted.
        """
        return self._hand(lambda hand: TiltedPlane.of_relion_tomogram(projection, hand))

    def warp_angles_inverted(self, angle_deg: float, axis_angle_deg: float) -> bool:
        """AreAnglesInverted with which Warp gives this plane its defocus. Raises as `relion_hand`."""
        return self._hand(lambda hand: TiltedPlane.of_warp(angle_deg, axis_angle_deg, angles_inverted=hand == -1)) == -1

    def ctffind_angles_deg(self) -> tuple[float, float]:
        """(tilt angle, tilt axis) in degrees as CTFFIND5 writes them: angle from 0 to 90, axis from 0 to 360."""
        axis = -self.axis_angle if self.tilt >= 0 else math.pi - self.axis_angle
        return abs(self.tilt) / DEGREE, (axis / DEGREE) % 360.0

    def _hand(self, plane_of_hand: Any) -> int:
        distances = {hand: math.dist(plane_of_hand(hand).slope, self.slope) for hand in (1, -1)}
        hand = min(distances, key=lambda h: distances[h])
        steepness = math.hypot(*self.slope)
        if steepness < 1e-6:
            raise DataProblem("an image that is not tilted", "a tilt, which is what has a hand")
        if distances[hand] > 0.01 * steepness:
            raise DataProblem("a plane that is not that of this projection, of either hand", "the same tilt and axis")
        return hand


def _checked_hand(hand: int | float) -> int:
    if hand not in (1, -1):
        raise DataProblem(f"rlnTomoHand {hand}", "1 or -1")
    return int(hand)
