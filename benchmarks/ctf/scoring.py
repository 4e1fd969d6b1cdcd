"""How far an estimate is from the truth: signed errors, and what many of them amount to. Angstrom, degrees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Lens:
    """Defocus of a micrograph in its middle; tilt as in `vitreous.optics.tilted_plane`; None for what was not asked, or not found.

    `angle_deg` is the direction of `defocus_u`, the larger one, from +x towards +y.
    """

    defocus_u: float
    defocus_v: float
    angle_deg: float
    tilt_deg: float | None = None
    tilt_axis_deg: float | None = None
    thickness: float | None = None

    @property
    def mean(self) -> float:
        return (self.defocus_u + self.defocus_v) / 2

    @property
    def size(self) -> float:
        """u - v."""
        return self.defocus_u - self.defocus_v

    @property
    def components(self) -> tuple[float, float]:
        """The astigmatism along and across: (u - v)/2 (cos 2 angle, sin 2 angle)."""
        twice = math.radians(2 * self.angle_deg)
        return self.size / 2 * math.cos(twice), self.size / 2 * math.sin(twice)

    @property
    def slope(self) -> tuple[float, float] | None:
        """Change of defocus per angstrom along x and y."""
        if self.tilt_deg is None or self.tilt_axis_deg is None:
            return None
        steepness, axis = math.tan(math.radians(self.tilt_deg)), math.radians(self.tilt_axis_deg)
        return -steepness * math.sin(axis), steepness * math.cos(axis)


@dataclass(frozen=True)
class Answer:
    """What a program said of a micrograph: `lens` None where it failed. `sigma` by name of what it belongs to; programs without error bars have none."""

    lens: Lens | None
    found: bool = True
    sigma: Mapping[str, float] = field(default_factory=dict)
    seconds: float = math.nan
    failure: str = ""
    evidence: str = ""


def angle_between(angle_deg: float, other_deg: float) -> float:
    """`angle - other` of two directions without a side, in (-90, 90]: 89 and -89 degrees are -2 apart.

    >>> angle_between(89, -89), angle_between(-89, 89), angle_between(45, -45)
    (-2.0, 2.0, 90.0)
    """
    return 90.0 - (90.0 - angle_deg + other_deg) % 180.0


def axis_between(angle_deg: float, other_deg: float) -> float:
    """`angle - other` of two directions with a side, in (-180, 180].

    >>> axis_between(350, 10), axis_between(10, 350)
    (-20.0, 20.0)
    """
    return 180.0 - (180.0 - angle_deg + other_deg) % 360.0


def errors(found: Lens, truth: Lens) -> dict[str, float]:
    """Found minus true. `tilt` is that of its size, `axis` that of the direction of the axis with its side, `normal` (>= 0) the angle between the
    normals of the two planes; astigmatism `along` and `across` are of its components, `slope_x` and `slope_y` those of the plane.
    """
    along, across = (one - other for one, other in zip(found.components, truth.components))
    result = {
        "mean": found.mean - truth.mean,
        "size": found.size - truth.size,
        "angle": angle_between(found.angle_deg, truth.angle_deg),
        "along": along,
        "across": across,
    }
    slope, true_slope = found.slope, truth.slope
    if slope is not None and true_slope is not None:
        (steep, axis), (true_steep, true_axis) = downhill(slope), downhill(true_slope)
        result |= {
            "tilt": math.degrees(math.atan(steep) - math.atan(true_steep)),
            "axis": axis_between(axis, true_axis),
            "normal": normals_apart(slope, true_slope),
            "slope_x": slope[0] - true_slope[0],
            "slope_y": slope[1] - true_slope[1],
        }
    if found.thickness is not None and truth.thickness is not None:
        result["thickness"] = found.thickness - truth.thickness
    return result


def downhill(slope: tuple[float, float]) -> tuple[float, float]:
    """Steepness and direction in degrees of a slope."""
    return math.hypot(*slope), math.degrees(math.atan2(slope[1], slope[0]))


def normals_apart(slope: tuple[float, float], other: tuple[float, float]) -> float:
    """Angle in degrees between the planes that have these slopes."""
    first, second = (-slope[0], -slope[1], 1.0), (-other[0], -other[1], 1.0)
    cross = (
        first[1] * second[2] - first[2] * second[1],
        first[2] * second[0] - first[0] * second[2],
        first[0] * second[1] - first[1] * second[0],
    )
    return math.degrees(math.atan2(math.hypot(*cross), sum(a * b for a, b in zip(first, second))))


@dataclass(frozen=True)
class Summary:
    """Signed errors: how many, their mean, their root mean square, and the largest without its sign."""

    count: int
    mean: float
    rms: float
    worst: float

    @staticmethod
    def of(values: Sequence[float]) -> Summary:
        """nan for no values at all."""
        if not values:
            return Summary(0, math.nan, math.nan, math.nan)
        count = len(values)
        rms = math.sqrt(sum(value * value for value in values) / count)
        return Summary(count, sum(values) / count, rms, max(abs(value) for value in values))


@dataclass(frozen=True)
class Coverage:
    """How many errors lie inside the interval of one standard deviation to either side: 68 % where error bars are right."""

    inside: int
    count: int

    @staticmethod
    def of(pairs: Sequence[tuple[float, float]]) -> Coverage:
        """Of pairs (error, sigma)."""
        return Coverage(sum(abs(error) <= sigma for error, sigma in pairs), len(pairs))

    @property
    def percent(self) -> float:
        return 100 * self.inside / self.count if self.count else math.nan

    @property
    def uncertainty(self) -> float:
        """Standard deviation in percent of such a count if 68.3 % is right: what is due to chance."""
        return 100 * math.sqrt(0.683 * 0.317 / self.count) if self.count else math.nan
