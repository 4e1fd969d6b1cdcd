"""What a reference map says that each recorded image should be: slices, beside the transforms of the images.

    X(k) = C(Mk) A(k) + noise,    A(k) = F_object(R^T (Mk, 0))

X is the transform of the recorded image, moved so that the particle lies on the origin and with the odd phase of its
optics group taken out; C is the CTF and M the group's anisotropic magnification. Everything that `ctf refine` fits is
compared on one list of Fourier pixels, a ring from the coarsest to the finest resolution in use.

Computed by JAX in single precision. Shapes do not change from chunk to chunk: short chunks are filled with empty images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.errors import DataProblem
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.model.optics import OpticsGroup
from vitreous.model.particles import Particles
from vitreous.optics.aberrations import even_zernike_phase, magnify, wave_factor
from vitreous.optics.ctf import odd_phase
from vitreous.reconstruction.direct_inversion import check_pixels
from vitreous.reconstruction.projection import PADDING, FourierVolume, SliceGrid, fourier_volume, project, slice_grid

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

    Array = Any  # NumPy or JAX

# Pixels of images that are worked on at a time.
PIXELS_PER_CHUNK = 1 << 20
# A fitted magnification may stretch the frequencies by this much before slices would leave the reference's transform.
ROOM = 1.03


@dataclass(frozen=True)
class References:
    """One map for all particles, or the maps of half set 1 and 2: [z, y, x] float32, all of one box.

    Images are compared between `coarsest` and `finest` resolution, in angstrom.
    """

    maps: tuple[np.ndarray, ...]
    pixel_size: float
    coarsest: float
    finest: float

    @property
    def box(self) -> int:
        return self.maps[0].shape[0]

    def of_half(self, half_set: np.ndarray | None, count: int) -> np.ndarray:
        """Which map belongs to each particle, [n]: that of its own half set."""
        if len(self.maps) == 1:
            return np.zeros(count, dtype=np.int64)
        if half_set is None:
            raise DataProblem("two half maps for particles without half sets", "a half set (1 or 2) for each particle")
        return half_set.astype(np.int64) - 1


def compared_pixels(references: References, groups: Sequence[OpticsGroup]) -> SliceGrid:
    """The Fourier pixels from the coarsest to the finest resolution whose true frequencies the references hold.

    Raises DataProblem if there are fewer than two rings of them.
    """
    box = references.box
    width = box * references.pixel_size
    stretch = max(np.linalg.norm(np.asarray(group.magnification), ord=2) for group in groups)
    outer = min(width / references.finest, (box / 2 - 1) / (ROOM * max(1.0, float(stretch))))
    inner = width / references.coarsest
    whole = slice_grid(box, outer)
    inside = np.hypot(whole.kx, whole.ky) >= max(inner, 0.5)
    if outer - inner < 2 or not inside.any():
        raise DataProblem(
            f"images of {box} pixels of {references.pixel_size:g} A compared from {references.coarsest:g} to {width / outer:.2f} A",
            "at least two rings of Fourier pixels between the two resolutions",
            "give a finer --resolution or a coarser --coarsest",
        )
    return SliceGrid(box, whole.radius, whole.kx[inside], whole.ky[inside])


class ReferenceImages:
    """References made ready for slicing, on one list of Fourier pixels."""

    def __init__(self, references: References, groups: Sequence[OpticsGroup]):
        import jax.numpy as jnp

        self.references = references
        self.grid = compared_pixels(references, groups)
        self.volumes = [jnp.asarray(fourier_volume(np.asarray(m, dtype=np.float32)).data) for m in references.maps]
        self.images_per_chunk = int(np.clip(PIXELS_PER_CHUNK // references.box**2, 8, 64))

    @cached_property
    def frequencies(self) -> tuple[np.ndarray, np.ndarray]:
        """Recorded frequencies (kx, ky) [p] in 1/angstrom."""
        width = self.references.box * self.references.pixel_size
        return self.grid.kx / width, self.grid.ky / width

    @cached_property
    def shells(self) -> np.ndarray:
        """For each pixel the number of its shell, counted from the innermost in use."""
        return self.grid.shell - self.grid.shell.min()

    @cached_property
    def places(self) -> tuple[Any, Any, Any, Any]:
        """kx, ky in cycles per box, row and column in the half transform of each pixel, for compiled functions."""
        import jax.numpy as jnp

        real = jnp.zeros(0).dtype
        kx, ky = (jnp.asarray(k, dtype=real) for k in (self.grid.kx, self.grid.ky))
        return kx, ky, jnp.asarray(self.grid.row), jnp.asarray(self.grid.column)

    @property
    def shell_frequency(self) -> np.ndarray:
        """Frequency in 1/angstrom of each shell."""
        first = int(self.grid.shell.min())
        return (first + np.arange(self.shells.max() + 1)) / (self.references.box * self.references.pixel_size)

    def optics(self, group: OpticsGroup, image_shift: tuple[float, float] = (0.0, 0.0)) -> GroupOptics:
        """What all images of a group share. `image_shift` in angstrom: where its particles lie besides their origins."""
        kx, ky = self.frequencies
        true_x, true_y = magnify(kx, ky, group.magnification)
        phase = odd_phase(group, kx, ky) - 2 * np.pi * (kx * image_shift[0] + ky * image_shift[1])
        even = even_zernike_phase(true_x, true_y, tuple(group.even_zernike))
        return GroupOptics(group, true_x, true_y, np.asarray(even), wave_factor(-phase).astype(np.complex64))

    def read(self, part: Particles, optics: GroupOptics, half: int) -> ChunkInput:
        """The images of a chunk, their shifts and rotations, filled up to `images_per_chunk`."""
        assert part.images is not None and part.pose is not None
        pixels = part.images.read(slice(None))
        check_pixels(pixels, part)
        box, missing = self.references.box, self.images_per_chunk - len(part)
        shift = part.pose.shift / self.references.pixel_size - box // 2  # brings the particle to index 0, the origin
        rotation = magnified_rotation(matrix_from_euler(part.pose.euler), optics.group.magnification)
        return ChunkInput(
            self.volumes[half],
            np.pad(pixels, ((0, missing), (0, 0), (0, 0))),
            np.pad(shift, ((0, missing), (0, 0))).astype(np.float32),
            np.pad(rotation, ((0, missing), (0, 0), (0, 0))).astype(np.float32),
        )

    def transforms_and_slices(self, chunk: ChunkInput, undo: Complex[np.ndarray, " p"]) -> tuple[Any, Any]:
        """(X, A) [n, p] of a chunk, arrays of JAX."""
        transforms, slices, _ = _compiled()
        box = self.references.box
        recorded = transforms(self.places, chunk.pixels, chunk.shift, undo)
        return recorded, slices(self.places, chunk.volume, chunk.rotation, box=box)

    def slopes(self, chunk: ChunkInput) -> Any:
        """dA/dM [n, p, 4] of a chunk by the elements (xx, xy, yx, yy) of M, an array of JAX."""
        return _compiled()[2](self.places, chunk.volume, chunk.rotation, box=self.references.box)


@dataclass(frozen=True)
class GroupOptics:
    """One optics group on the compared pixels: true frequencies [p], phase of the even Zernike terms [p] in radian, and
    the factor [p] that takes the odd phase out of a recorded image.
    """

    group: OpticsGroup
    true_x: np.ndarray
    true_y: np.ndarray
    even_phase: np.ndarray
    undo: np.ndarray

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """True frequencies and even phase, for compiled functions."""
        return tuple(a.astype(np.float32) for a in (self.true_x, self.true_y, self.even_phase))  # type: ignore[return-value]


@dataclass(frozen=True)
class ChunkInput:
    """Volume to slice, images [n, y, x], shifts [n, 2] in pixels and rotations [n, 3, 3] with the magnification in them."""

    volume: Any
    pixels: np.ndarray
    shift: np.ndarray
    rotation: np.ndarray


def magnified_rotation(rotation: Float[Array, "n 3 3"], magnification: Any) -> Float[Array, "n 3 3"]:
    """The matrix R' whose first two rows give `R'^T (k, 0) = R^T (Mk, 0)`: slices at magnified frequencies."""
    (xx, xy), (yx, yy) = magnification
    first = xx * rotation[:, 0] + yx * rotation[:, 1]
    second = xy * rotation[:, 0] + yy * rotation[:, 1]
    return np.stack([first, second, rotation[:, 2]], axis=1)


def _transforms(places: Any, pixels: Any, shift: Any, undo: Any) -> Complex[Array, "n p"]:
    """X of a chunk under JAX: recorded transforms, moved to the origin, without odd phase."""
    import jax.numpy as jnp

    kx, ky, row, column = places
    turns = (shift[:, :1] * kx + shift[:, 1:] * ky) / pixels.shape[-1]
    phase = -2 * np.pi * (turns - jnp.round(turns))
    return jnp.fft.rfft2(pixels)[:, row, column] * (jnp.cos(phase) + 1j * jnp.sin(phase)) * undo


def _slices(places: Any, volume: Any, rotation: Any, *, box: int) -> Complex[Array, "n p"]:
    """A of a chunk under JAX: slices of the reference."""
    return project(FourierVolume(volume, box, PADDING), rotation, SliceGrid(box, box / 2, places[0], places[1]))


def _slopes(places: Any, volume: Any, rotation: Any, *, box: int) -> Complex[Array, "n p 4"]:
    """Derivatives of the slices by the elements (xx, xy, yx, yy) of a magnification beside the one in the rotations."""
    import jax
    import jax.numpy as jnp

    def stretched(matrix: Any) -> Any:
        first = matrix[0] * rotation[:, 0] + matrix[2] * rotation[:, 1]
        second = matrix[1] * rotation[:, 0] + matrix[3] * rotation[:, 1]
        return _slices(places, volume, jnp.stack([first, second, rotation[:, 2]], axis=1), box=box)

    return jax.jacfwd(stretched)(jnp.asarray([1.0, 0.0, 0.0, 1.0], dtype=rotation.dtype))


# Three programs, not one: the compiler would make X and A anew for each of their uses.
@lru_cache(maxsize=1)
def _compiled() -> tuple[Any, Any, Any]:
    import jax

    return jax.jit(_transforms), jax.jit(_slices, static_argnames="box"), jax.jit(_slopes, static_argnames="box")
