"""Where the particles of a micrograph lie: apart from each other in projection, inside the ice, turned at random.

The ice is a slab whose middle plane passes through the origin, the middle of the field; it may be tilted
(`optics.tilted_plane`: a right-handed turn, `z = -x tan(tilt)` in the middle plane for a turn about +y). A particle h above
the middle plane that is seen at (x, y) is at

    z = h / cos(tilt) + height of the plane at (x, y)

and its defocus is that of the micrograph plus z (physics.md (a)).

Positions are drawn one after the other, evenly over the field, and one that comes nearer to an earlier one than the
least distance is drawn again (random sequential adsorption). Discs placed so cover at most 54.7 % of a large field
(Feder 1980, J. Theor. Biol. 87:237). Particle i depends on the seed, on the micrograph and on i, not on how many
follow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import SettingsProblem
from vitreous.geometry.rotations import euler_from_matrix, random_rotations
from vitreous.optics.tilted_plane import TiltedPlane
from vitreous.simulation.streams import Quantity, image_stream, stream_key

if TYPE_CHECKING:
    from jaxtyping import Float

DRAWN_AT_A_TIME = 4096
# Draws for each place asked for, between the two numbers below: enough to come within some percent of the 54.7 %.
DRAWS_PER_PARTICLE = 1000
LEAST_DRAWS, MOST_DRAWS = 200_000, 4_000_000


LEVEL = TiltedPlane(0.0)


@dataclass(frozen=True)
class Slab:
    """Ice of `thickness` angstrom about a plane through the middle of the field."""

    thickness: float
    plane: TiltedPlane = LEVEL

    def __post_init__(self) -> None:
        if not 0 < self.thickness < math.inf:
            raise SettingsProblem(f"ice {self.thickness:g} A thick", "a positive number of angstrom")

    @property
    def depth(self) -> float:
        """Thickness along the beam in angstrom."""
        return self.thickness / math.cos(self.plane.tilt)

    def z_of(self, position: Float[np.ndarray, "n 2"], height: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """z in angstrom of what is seen at `position` (x, y) and lies `height` above the middle plane."""
        return height / math.cos(self.plane.tilt) + self.plane.height(position[:, 0], position[:, 1])


@dataclass(frozen=True)
class Placement:
    """n particles of a micrograph: `position` [n, 3] of their centres (x, y, z) in angstrom from the middle of the field
    and of the ice, `height` [n] above the middle plane of the ice, and `euler` [n, 3] (rot, tilt, psi) in radian.
    """

    position: np.ndarray
    height: np.ndarray
    euler: np.ndarray

    def __len__(self) -> int:
        return len(self.position)


@dataclass(frozen=True)
class Field:
    """A field of `shape` (y, x) pixels of `pixel_size` angstrom, x = y = 0 at index N // 2."""

    shape: tuple[int, int]
    pixel_size: float

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """The positions (x, y) in angstrom of the first and of the last pixel."""
        size = np.array(self.shape[::-1])
        return -(size // 2) * self.pixel_size, (size - 1 - size // 2) * self.pixel_size

    def pixels(self, position: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Positions (x, y) in angstrom as places in the image, in pixels counted from 0."""
        return position / self.pixel_size + np.array(self.shape[::-1]) // 2


def place_particles(
    field: Field,
    slab: Slab,
    radius: float,
    count: int,
    *,
    distance: float | None = None,
    seed: int = 0,
    micrograph: int = 0,
) -> Placement:
    """`count` particles of `radius` angstrom, entirely inside the field and the ice, their centres at least `distance`
    (default: two radii) apart in projection.

    Raises SettingsProblem if the ice is thinner than the particle, if the field is smaller, or if not all find a place;
    the last says how many did.
    """
    if count < 0:
        raise SettingsProblem(f"{count} particles", "0 or more")
    check_ice(slab, radius)
    distance = 2 * radius if distance is None else distance
    position = _positions(field, radius, count, distance, image_stream(stream_key(seed, Quantity.POSITION), micrograph))
    if len(position) < count:
        raise SettingsProblem(
            f"{count} particles {distance:.0f} A apart in a field of {_size_text(field)}",
            f"at most {len(position)}, which is how many found a place (micrograph {micrograph + 1})",
            "ask for fewer particles, a larger field or a smaller distance",
        )
    key = stream_key(seed, Quantity.PLACEMENT)
    own = [image_stream(key, particle, micrograph) for particle in range(count)]
    depth = np.array([rng.random() - 0.5 for rng in own])
    euler = np.array([euler_from_matrix(random_rotations(1, rng))[0] for rng in own]).reshape(count, 3)
    height = (slab.thickness - 2 * radius) * depth
    z = slab.z_of(position, height)
    return Placement(np.concatenate([position, z[:, None]], axis=1), height, euler)


def check_ice(slab: Slab, radius: float) -> None:
    """Raise SettingsProblem if the ice cannot hold the particle."""
    if slab.thickness < 2 * radius:
        raise SettingsProblem(
            f"ice {slab.thickness:.0f} A thick for a particle {2 * radius:.0f} A across",
            f"ice of at least {math.ceil(2 * radius)} A",
            "give a larger --ice-thickness",
        )


def _positions(
    field: Field, margin: float, count: int, distance: float, rng: np.random.Generator
) -> Float[np.ndarray, "n 2"]:
    """Up to `count` positions at least `distance` apart and `margin` from the edges.

    Cells as large as half the square of the distance hold one position each, so that the neighbours of a new one are
    in the 5 x 5 cells around it.
    """
    low, high = field.limits
    low, high = low + margin, high - margin
    if count == 0:
        return np.empty((0, 2))
    if (high < low).any():
        raise SettingsProblem(
            f"a field of {_size_text(field)} for a particle {2 * margin:.0f} A across",
            f"at least {math.ceil(2 * margin / field.pixel_size) + 1} pixels along each side",
            "give a larger --size or --pixel-size",
        )
    cell = max(distance, 1e-3 * field.pixel_size) / math.sqrt(2)
    columns, rows = np.floor((high - low) / cell).astype(int) + 1
    grid = np.full((rows + 4, columns + 4, 2), np.inf)  # two empty cells around, so that no neighbour is beyond an end
    found: list[np.ndarray] = []
    draws = min(max(LEAST_DRAWS, DRAWS_PER_PARTICLE * count), MOST_DRAWS)
    for _ in range(math.ceil(draws / DRAWN_AT_A_TIME)):
        drawn = low + (high - low) * rng.random((DRAWN_AT_A_TIME, 2))
        cells = np.floor((drawn - low) / cell).astype(int)
        free = ~_is_taken(grid, drawn, cells, distance)
        for position, place in zip(drawn[free], cells[free]):  # those before it in this batch have come since
            if _is_taken(grid, position[None], place[None], distance)[0]:
                continue
            grid[place[1] + 2, place[0] + 2] = position
            found.append(position)
            if len(found) == count:
                return np.array(found)
    return np.array(found).reshape(-1, 2)


def _is_taken(grid: np.ndarray, position: np.ndarray, cells: np.ndarray, distance: float) -> np.ndarray:
    """Whether something in the 5 x 5 cells around lies nearer than `distance`."""
    taken = np.zeros(len(position), dtype=bool)
    for down in range(5):
        for right in range(5):
            other = grid[cells[:, 1] + down, cells[:, 0] + right]
            taken |= ((other - position) ** 2).sum(axis=1) < distance**2
    return taken


def _size_text(field: Field) -> str:
    height, width = field.shape
    return f"{width} x {height} pixels of {field.pixel_size:g} A"
