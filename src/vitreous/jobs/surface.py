"""Isosurfaces drawn with NumPy: the surface where a map crosses a threshold, shaded, in parallel projection.

The map is a cubic B-spline, so that the surface and its normals are smooth between voxels. A view is turned, evaluated
plane by plane from the viewer into the box, and each pixel keeps the first crossing: a ray march in which all rays step
together, and each step is a matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vitreous.errors import DataProblem

FRONT = np.eye(3)  # x to the right, y up, z towards the viewer
SIDE = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])  # turned by 90 degrees about the vertical axis
TOP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # turned by 90 degrees about the horizontal axis

COLOUR = (0.50, 0.68, 0.86)
SUPERSAMPLING = 2
PLANES_PER_SAMPLE = 1.5
WORKING_BOX = 80  # a view of a few hundred pixels shows no more than this many samples across


@dataclass(frozen=True)
class Surface:
    """What one view of a surface shows; row 0 of the picture is its top.

    `covered` [y, x] says where a surface is seen. For the m pixels where it is, in order: `depth` [m], how far behind
    the nearest point (in units of the picture's width), and `normal` [m, 3], (x to the right, y up, z towards the
    viewer), of length 1.
    """

    covered: np.ndarray
    depth: np.ndarray
    normal: np.ndarray


class SurfaceView:
    """A map prepared for drawing: spline coefficients on a grid of at most about twice `WORKING_BOX` samples a side.

    `field` is the width of the picture in voxels of the map; None takes the smallest that shows all above the threshold
    from any side. `DataProblem` when no voxel, or every voxel, is above the threshold.
    """

    def __init__(self, volume: np.ndarray, threshold: float, *, field: float | None = None):
        if not volume.min() < threshold < volume.max():
            raise DataProblem(
                f"isosurface threshold {threshold:.4g}",
                f"a value between the map's {volume.min():.4g} and {volume.max():.4g}",
            )
        self.threshold = float(threshold)
        self.field = float(field) if field is not None else _width_above(volume, threshold)
        binning = max(1, round(self.field / (1.3 * WORKING_BOX)))
        binned, centre = _bin(volume, binning)
        self.samples = int(np.clip(round(self.field / binning), 24, WORKING_BOX))
        # Turning samples this grid linearly: half the spacing of the turned grid keeps the error of that small.
        self._spacing = self.field / self.samples / 2
        reach = self.field / 2 * 3**0.5 + 2 * self._spacing
        half = int(np.ceil(min(reach, volume.shape[0] / 2) / self._spacing))
        positions = np.arange(-half, half + 1) * self._spacing / binning + centre
        weights = _spline_values(binned.shape[0], positions) @ _spline_prefilter(binned.shape[0])
        self._fine = _along_all_axes(binned.astype(np.float32), weights)
        self._half = half

    def turned(self, rotation: np.ndarray) -> np.ndarray:
        """The map turned so that `r_view = rotation @ r_object`, on `samples`^3 points across the field [z, y, x]."""
        points = ((np.arange(self.samples) + 0.5) / self.samples - 0.5) * self.field / self._spacing
        size = self._fine.shape[0]
        # position in the grid = rotation.T @ view position: x, y and z of it are sums of one term for each view axis
        terms = [[(rotation[axis, out] * points).astype(np.float32) for axis in range(3)] for out in range(3)]
        inside, flat, fractions = True, 0, []
        for out, stride in ((0, 1), (1, size), (2, size * size)):
            along_x, along_y, along_z = terms[out]
            position = along_z[:, None, None] + along_y[:, None] + along_x + np.float32(self._half)
            inside = inside & (position >= 0) & (position < size - 1)
            floor = np.clip(position, 0, size - 2).astype(np.int32)
            fractions.append(position - floor)
            flat = flat + floor * np.int32(stride)
        chosen = np.flatnonzero(inside)
        values = np.full(self.samples**3, min(0.0, self.threshold - 1e-6), np.float32)
        values[chosen] = _trilinear(
            self._fine.ravel(), flat.ravel()[chosen], [f.ravel()[chosen] for f in fractions], size
        )
        return values.reshape((self.samples,) * 3)

    def seen(self, rotation: np.ndarray, pixels: int) -> Surface:
        """The first crossing of the threshold along each of `pixels`^2 rays."""
        coefficients = _periodic_prefilter(self.turned(rotation))
        planes = round(PLANES_PER_SAMPLE * self.samples)
        stack = _planes_between(coefficients, _positions(planes, self.samples))
        in_plane = _spline_values(self.samples, _positions(pixels, self.samples))
        return _first_crossings(stack[::-1], in_plane, self.threshold)  # from the viewer, at high z, into the box


def shade(surface: Surface, colour: tuple[float, float, float] = COLOUR) -> np.ndarray:
    """Colour times opacity, and opacity, [y, x, 4] in [0, 1].

    Lambert light from the upper left, a weak light from the right, ambient light that hollows see less of, a faint
    gleam, and depth cueing by opacity: far parts fade into the page behind the picture, whatever its colour.
    """
    key = _unit((-0.45, 0.6, 0.75))
    lights = (key, _unit((0.8, -0.1, 0.35)), _unit(key + np.array([0, 0, 1], np.float32)))
    x, y, z = surface.normal.T
    lambert, weak, gleam = (np.clip(x * a + y * b + z * c, 0, None) for a, b, c in lights)
    gleam = gleam**2  # to the 24th power in all, by products: much quicker than the general power
    gleam = gleam**2 * gleam
    gleam = (gleam**2) ** 2
    light = 0.38 + 0.72 * lambert + 0.18 * weak
    opacity = 1 - 0.30 * np.clip(surface.depth / 0.8, 0, 1)
    strength = _openness(surface) * opacity
    pixels = np.zeros((*surface.covered.shape, 4), np.float32)
    rgb = np.clip(light[:, None] * np.array(colour, np.float32) + (0.14 * gleam)[:, None], 0, 1)
    pixels[surface.covered] = np.concatenate([rgb * strength[:, None], opacity[:, None]], axis=1)
    return pixels


def draw_surface(
    view: SurfaceView, rotation: np.ndarray, *, size: int, colour: tuple[float, float, float] = COLOUR
) -> np.ndarray:
    """One picture [size, size, 4] in [0, 1], drawn at twice the size and averaged down against jagged edges."""
    large = shade(view.seen(rotation, size * SUPERSAMPLING), colour)
    parts = [
        large[row::SUPERSAMPLING, column::SUPERSAMPLING]
        for row in range(SUPERSAMPLING)
        for column in range(SUPERSAMPLING)
    ]
    small = sum(parts[1:], start=parts[0]) / SUPERSAMPLING**2
    small[..., :3] /= np.maximum(small[..., 3:], 1e-6)
    return small


def _first_crossings(stack: np.ndarray, in_plane: np.ndarray, threshold: float) -> Surface:
    """March through the planes of spline coefficients [plane, y, x], front to back."""
    pixels, planes = in_plane.shape[0], stack.shape[0]
    per_sample = pixels / stack.shape[1]
    # A spline never exceeds its coefficients: planes, rows and columns whose coefficients are all low need no look.
    possible = stack >= threshold
    steps = np.flatnonzero(possible.any(axis=(1, 2)))
    rows = _rows_reached(in_plane, np.asarray(possible.any(axis=(0, 2))))
    columns = _rows_reached(in_plane, np.asarray(possible.any(axis=(0, 1))))
    down = np.ascontiguousarray(in_plane[rows][::-1])  # y upwards: row 0 of the picture is the highest y
    right = np.ascontiguousarray(in_plane[columns].T)
    height, width = down.shape[0], right.shape[1]
    open_ray = np.ones(height * width, bool)
    depth = np.zeros(height * width, np.float32)
    normal = np.zeros((height * width, 3), np.float32)
    before = np.full(height * width, -np.inf, np.float32)
    marched = range(max(steps[0] - 1, 0), steps[-1] + 1) if len(steps) else range(0)
    for plane, values in zip(marched, _planes(stack[marched.start : marched.stop], down, right)):
        hit = np.flatnonzero((values >= threshold) & open_ray)
        if len(hit):
            open_ray[hit] = False
            gradient, fraction = _crossing(before, values, hit, width, threshold)
            depth[hit] = plane - fraction
            normal[hit] = gradient
        before = values
    seen = np.flatnonzero(~open_ray)
    covered = np.zeros((pixels, pixels), bool)
    covered[pixels - rows.stop : pixels - rows.start, columns] = ~open_ray.reshape(height, width)
    per_depth = planes / stack.shape[1]
    outward = -normal[seen] * np.array([per_sample, per_sample, per_depth], np.float32)
    outward += np.array([0, 0, 1e-20], np.float32)
    outward /= np.sqrt((outward**2).sum(axis=1, keepdims=True))
    return Surface(covered, (depth[seen] - depth[seen].min(initial=planes)) / planes, outward)


def _planes(stack: np.ndarray, down: np.ndarray, right: np.ndarray) -> Iterator[np.ndarray]:
    """The values of each plane, flat [height * width]. Many planes share one matrix product: where other work keeps the
    cores busy, each threaded product waits for its turn.
    """
    width, together = right.shape[1], 40
    widened = (stack.reshape(-1, stack.shape[2]) @ right).reshape(*stack.shape[:2], width)
    for start in range(0, len(stack), together):
        block = np.ascontiguousarray(widened[start : start + together].transpose(1, 0, 2))
        values = (down @ block.reshape(block.shape[0], -1)).reshape(len(down), -1, width)
        for index in range(block.shape[1]):
            yield np.ascontiguousarray(values[:, index]).ravel()


def _rows_reached(in_plane: np.ndarray, possible: np.ndarray) -> slice:
    """The range of pixels whose values depend on any of the possible coefficients."""
    reached = np.flatnonzero((in_plane[:, possible] > 0).any(axis=1))
    return slice(int(reached[0]), int(reached[-1]) + 1) if len(reached) else slice(0, 0)


def _crossing(
    before: np.ndarray, here: np.ndarray, hit: np.ndarray, width: int, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (x right, y up, z towards the viewer) a pixel and a plane at the crossing, and how far before this plane
    it lies.
    """
    if not np.isfinite(before[0]):  # the field of the picture cuts through the object
        before = here
    step = here[hit] - before[hit]
    fraction = np.where(step > 0, (here[hit] - threshold) / np.maximum(step, 1e-20), 0).astype(np.float32)
    last = len(here) - 1
    sides = [np.clip(hit + offset, 0, last) for offset in (1, -1, -width, width)]
    right, left, above, below = (here[side] + fraction * (before[side] - here[side]) for side in sides)
    return np.stack([(right - left) / 2, (above - below) / 2, -step], axis=-1), fraction


def _openness(surface: Surface) -> np.ndarray:
    """How much of the sky each covered pixel sees, roughly: 1 before its surroundings, down to 0.45 in hollows and
    behind edges.
    """
    pixels = surface.covered.shape[0]
    coarse = next(factor for factor in (4, 3, 2, 1) if pixels % factor == 0)
    size = pixels // coarse
    depth = np.zeros((pixels, pixels), np.float32)
    depth[surface.covered] = surface.depth
    offset = coarse // 2
    weight = surface.covered[offset::coarse, offset::coarse].astype(np.float32)
    sampled = depth[offset::coarse, offset::coarse] * weight
    hollow = np.zeros_like(surface.depth)
    for width in (0.012, 0.04):
        around = _blurred(sampled, width * size) / np.maximum(_blurred(weight, width * size), 1e-3)
        hollow += np.clip(surface.depth - _enlarged(around, pixels)[surface.covered], 0, None) / width
    return 0.45 + 0.55 * np.exp(-0.9 * hollow)


def _width_above(volume: np.ndarray, threshold: float) -> float:
    """Width of the sphere about the origin of the map that holds all voxels above the threshold, with a margin."""
    size = volume.shape[0]
    squares = (np.arange(size) - size // 2) ** 2
    above = volume >= threshold
    first, last = above.argmax(axis=2), size - 1 - above[:, :, ::-1].argmax(axis=2)
    radius = np.maximum(squares[first], squares[last]) + squares[:, None] + squares
    return min(2.0 * (float(radius[above.any(axis=2)].max()) ** 0.5 + 2), float(size))


def _bin(volume: np.ndarray, factor: int) -> tuple[np.ndarray, float]:
    """Means over blocks of `factor`^3 voxels, and where the map's origin lies in the binned grid."""
    if factor == 1:
        return volume, float(volume.shape[0] // 2)
    size = volume.shape[0] // factor
    kept = volume[: size * factor, : size * factor, : size * factor]
    binned = kept.reshape(size, factor, size, factor, size, factor).mean(axis=(1, 3, 5))
    return binned, (volume.shape[0] // 2 - (factor - 1) / 2) / factor


def _trilinear(flat_volume: np.ndarray, corner: np.ndarray, fractions: list[np.ndarray], size: int) -> np.ndarray:
    x, y, z = fractions

    def row(start: np.ndarray) -> np.ndarray:
        near = flat_volume[start]
        return near + x * (flat_volume[start + 1] - near)

    def plane(start: np.ndarray) -> np.ndarray:
        near = row(start)
        return near + y * (row(start + size) - near)

    near = plane(corner)
    return near + z * (plane(corner + size * size) - near)


def _along_all_axes(volume: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The same matrix applied along z, y and x."""
    for _ in range(3):
        volume = np.tensordot(
            volume, matrix, axes=([0], [1])
        )  # the axis done goes last: after three, the order is as before
    return np.ascontiguousarray(volume)


def _spline_values(size: int, positions: np.ndarray) -> np.ndarray:
    """Matrix [positions, size] from the coefficients of a cubic B-spline to its values; zero outside the grid."""
    distance = np.abs(np.asarray(positions)[:, None] - np.arange(size))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def _spline_prefilter(size: int) -> np.ndarray:
    """Matrix [size, size] from values on the grid to the coefficients of the cubic B-spline through them."""
    return np.linalg.inv(_spline_values(size, np.arange(size)).astype(np.float64)).astype(np.float32)


def _periodic_prefilter(values: np.ndarray) -> np.ndarray:
    """Coefficients [z, y, x] of the cubic B-spline through values on a grid whose opposite faces are neighbours.

    The spline is a convolution of its coefficients with (1/6, 2/3, 1/6) along each axis: a division in Fourier space.
    """
    size = values.shape[0]
    along = [2 / 3 + np.cos(2 * np.pi * k) / 3 for k in (np.fft.fftfreq(size), np.fft.rfftfreq(size))]
    transfer = (along[0][:, None, None] * along[0][:, None] * along[1]).astype(np.float32)
    return np.fft.irfftn(np.fft.rfftn(values) / transfer, s=values.shape, axes=(0, 1, 2)).astype(np.float32)


def _planes_between(coefficients: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The spline evaluated along z only, at these positions: coefficients [plane, y, x] in the other two directions."""
    size = coefficients.shape[0]
    weights = _spline_values(size, positions)
    first = np.clip(np.floor(positions).astype(int) - 1, 0, size - 4)  # four coefficients have a say in a value
    planes = np.arange(len(positions))
    taps = (weights[planes, first + tap][:, None, None] * coefficients[first + tap] for tap in range(4))
    return np.asarray(sum(taps))


def _positions(count: int, samples: int) -> np.ndarray:
    """The middles of `count` equal parts of the field, in units of its `samples` samples."""
    return (np.arange(count) + 0.5) / count * samples - 0.5


def _blurred(image: np.ndarray, width: float) -> np.ndarray:
    """Convolved with a Gaussian of this standard deviation in pixels; the picture wraps round."""
    size = image.shape[0]
    down, right = np.fft.fftfreq(size), np.fft.rfftfreq(size)
    transfer = np.exp(-2 * (np.pi * width) ** 2 * (down[:, None] ** 2 + right**2)).astype(np.float32)
    return np.fft.irfft2(np.fft.rfft2(image) * transfer, s=image.shape)


def _enlarged(image: np.ndarray, pixels: int) -> np.ndarray:
    """Linear interpolation to `pixels` samples across the same field, along both axes."""
    size = image.shape[0]
    position = _positions(pixels, size).clip(0, size - 1)
    below = np.minimum(position.astype(int), size - 2)
    part = (position - below).astype(np.float32)
    rows = image[below] + part[:, None] * (image[below + 1] - image[below])
    return rows[:, below] + part * (rows[:, below + 1] - rows[:, below])


def _unit(vector: tuple[float, float, float] | np.ndarray) -> np.ndarray:
    array = np.asarray(vector, np.float32)
    return array / np.linalg.norm(array)
