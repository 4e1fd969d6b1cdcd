"""The transform of atoms as a matrix product, differentiable in positions, B factors and occupancies.

A Gaussian separates, so that the sum over the atoms j of one element is a product of two matrices,

    F(kx, ky) = f(k) sum_j Y[ky, j] X[j, kx],   X = exp(-B_j kx^2/4 - 2 pi i kx x_j),   Y = occupancy_j exp(-B_j ky^2/4 - 2 pi i ky y_j)

with f(k) = sum_g amplitude_g exp(-width_g k^2/4) of `profiles.AtomProfiles`. Per image of N x N pixels of n atoms this
is 8 n N (N/2 + 1) operations at the speed of matrix products, whatever the number of Gaussians: made for particles and
for gradients. For large fields of many atoms `specimen.voxels` costs less, for volumes `specimen.potential`.

The image is the band-limited potential: its Fourier coefficients are those of the continuous potential, Nyquist terms
of even boxes are dropped. The box is periodic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import float_dtype, namespace
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import frequencies, inverse, without_nyquist
from vitreous.geometry.rotations import rotate
from vitreous.model.slices import PotentialSlices
from vitreous.specimen.profiles import AtomProfiles
from vitreous.specimen.scattering_factors import LARGEST_K

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

    Array = Any  # NumPy or JAX

CHUNK = 1 << 13  # atoms whose exponentials are held at a time


def posed(position: Float[Array, "n 3"], rotation: Float[Array, "3 3"], shift: Any = (0.0, 0.0)) -> Float[Array, "n 3"]:
    """Positions in the frame of the image: `R r`, then moved by minus the origin.

    `rotation` R maps object to image coordinates; `shift` (x, y) in angstrom is RELION's origin: the particle's centre
    comes to lie at `-shift`.
    """
    xp = namespace(position, rotation, *shift)
    dtype = float_dtype(position)
    origin = xp.stack([xp.asarray(v, dtype=dtype) for v in (shift[0], shift[1], 0.0)])
    return rotate(xp.asarray(rotation, dtype=dtype), position) - origin


def projected_transform(
    position: Float[Array, "n 3"],
    profiles: AtomProfiles,
    shape: Sequence[int],
    pixel_size: float,
    *,
    chunk: int = CHUNK,
) -> Complex[Array, "y xh"]:
    """`forward` transform, in V angstrom, of the potential of the atoms projected along z.

    The image has the `shape` (y, x).     `position` in angstrom, x = y = 0 at the image's origin N // 2; z has no
    effect. `profiles` are those of `profiles.atom_profiles`, with `kind` a NumPy array; its B factors and occupancies
    may be traced by JAX. Memory is that of `chunk` atoms. Raises SettingsProblem if the pixels are finer than the
    scattering factors reach.
    """
    _check_grid(shape, pixel_size)
    xp = namespace(position, profiles.b_factor, profiles.occupancy, profiles.amplitude, profiles.width)
    dtype = float_dtype(position)
    kx, ky = (xp.asarray(k, dtype=dtype) for k in frequencies(shape, pixel_size, dtype=dtype))
    square = kx * kx + ky * ky
    total: Any = 0.0
    for kind, members in _by_kind(profiles):
        structure: Any = 0.0
        for start in range(0, len(members), chunk):
            part = members[start : start + chunk]
            b_factor = xp.asarray(profiles.b_factor, dtype=dtype)[part, None]
            occupancy = xp.asarray(profiles.occupancy, dtype=dtype)[part, None]
            along_x = _waves(xp, kx[0], position[part, 0], b_factor)
            along_y = _waves(xp, ky[:, 0], position[part, 1], b_factor) * occupancy
            structure = structure + _product(xp, along_y, along_x)
        total = total + _form(xp, profiles, kind, square, dtype) * structure
    return without_nyquist(total / pixel_size**2, shape)


def projected_potential(
    position: Float[Array, "n 3"],
    profiles: AtomProfiles,
    shape: Sequence[int],
    pixel_size: float,
    *,
    chunk: int = CHUNK,
) -> Float[Array, "y x"]:
    """The potential of the atoms projected along z, in V angstrom: the inverse of `projected_transform`."""
    return inverse(projected_transform(position, profiles, shape, pixel_size, chunk=chunk), tuple(shape))


def slice_transforms(
    position: Float[Array, "n 3"],
    profiles: AtomProfiles,
    shape: Sequence[int],
    pixel_size: float,
    *,
    thickness: float,
    count: int,
    height: float | None = None,
    chunk: int = CHUNK,
) -> Complex[Array, "s y xh"]:
    """`forward` transforms, in V angstrom, of the potential integrated over each of `count` slabs.

    The slabs are `thickness` angstrom deep. The middle of slab j is at z = `height + j thickness`, by default a stack
    centred on z = 0. The integral over a slab is exact: of a Gaussian of variance `s^2 = (width + B) / 8 pi^2` about
    z_j it holds `(erf((top - z_j) / (sqrt 2 s)) - erf((bottom - z_j) / (sqrt 2 s))) / 2`. What lies beyond the first
    and the last slab is left out. Other arguments are those of `projected_transform`; this is as many products as there
    are slabs and Gaussians.
    """
    _check_grid(shape, pixel_size)
    if count < 1 or not thickness > 0:
        raise SettingsProblem(f"{count} slabs of {thickness} A", "at least one slab of a positive thickness")
    xp = namespace(position, profiles.b_factor, profiles.occupancy, profiles.amplitude, profiles.width)
    dtype = float_dtype(position)
    kx, ky = (xp.asarray(k, dtype=dtype) for k in frequencies(shape, pixel_size, dtype=dtype))
    square = kx * kx + ky * ky
    first = centred_height(thickness, count) if height is None else height
    edges = xp.asarray(first + (np.arange(count + 1) - 0.5) * thickness, dtype=dtype)
    terms = profiles.amplitude.shape[-1]
    total: Any = 0.0
    for kind, members in _by_kind(profiles):
        structure: Any = 0.0
        for start in range(0, len(members), max(1, chunk // (count * terms))):
            part = members[start : start + max(1, chunk // (count * terms))]
            b_factor = xp.asarray(profiles.b_factor, dtype=dtype)[part, None]
            occupancy = xp.asarray(profiles.occupancy, dtype=dtype)[part, None]
            along_x = _waves(xp, kx[0], position[part, 0], b_factor)
            along_y = _waves(xp, ky[:, 0], position[part, 1], b_factor) * occupancy
            width = xp.asarray(profiles.width, dtype=dtype)[kind] + b_factor
            inside = _inside(xp, edges, position[part, 2], width)
            weighted = inside[..., None] * along_y  # s g n y
            structure = structure + _product(xp, weighted, along_x)
        total = total + xp.sum(_forms(xp, profiles, kind, square, dtype) * structure, axis=1)
    return without_nyquist(total / pixel_size**2, shape)


def atom_slices(
    position: Float[Array, "n 3"],
    profiles: AtomProfiles,
    shape: Sequence[int],
    pixel_size: float,
    *,
    thickness: float,
    count: int,
    height: float | None = None,
    chunk: int = CHUNK,
) -> PotentialSlices:
    """The potential of the atoms as slices of thickness `thickness`: the inverse of `slice_transforms`."""
    transforms = slice_transforms(
        position, profiles, shape, pixel_size, thickness=thickness, count=count, height=height, chunk=chunk
    )
    first = centred_height(thickness, count) if height is None else height
    return PotentialSlices(inverse(transforms, tuple(shape)), pixel_size, thickness, first)


def centred_height(thickness: float, count: int) -> float:
    """Height of the first of `count` slabs of a stack whose middle is z = 0."""
    return -(count - 1) / 2 * thickness


def _by_kind(profiles: AtomProfiles) -> list[tuple[int, np.ndarray]]:
    """Each kind that occurs, with the places of its atoms."""
    if not isinstance(profiles.kind, np.ndarray):
        raise DataProblem("atom kinds that are traced by JAX", "a NumPy array", "close over the kinds, trace the rest")
    return [(int(kind), np.flatnonzero(profiles.kind == kind)) for kind in np.unique(profiles.kind)]


def _waves(xp: Any, k: Any, coordinate: Any, b_factor: Any) -> Any:
    """`exp(-B k^2/4 - 2 pi i k r)` [n, k], whole turns removed."""
    turns = coordinate[:, None] * k
    angle = 2 * math.pi * (turns - xp.round(turns))
    damping = xp.exp(-0.25 * b_factor * (k * k))
    return damping * xp.cos(angle) - 1j * (damping * xp.sin(angle))


def _inside(xp: Any, edges: Any, z: Any, width: Any) -> Any:
    """Share of each atom's Gaussians that lies between neighbouring edges, [s, g, n]."""
    scale = 2 * math.pi / xp.sqrt(width.T)  # 1 / (sqrt 2 s)
    reached = 0.5 * _erf(xp)((edges[:, None, None] - z) * scale)
    return reached[1:] - reached[:-1]


def _erf(xp: Any) -> Any:
    if xp is np:
        from scipy.special import erf
    else:
        from jax.scipy.special import erf
    return erf


def _forms(xp: Any, profiles: AtomProfiles, kind: int, square: Any, dtype: np.dtype) -> Any:
    """`amplitude_g exp(-width_g k^2/4)` of a kind, [g, y, xh]."""
    amplitude = xp.asarray(profiles.amplitude, dtype=dtype)[kind][:, None, None]
    width = xp.asarray(profiles.width, dtype=dtype)[kind][:, None, None]
    return amplitude * xp.exp(-0.25 * width * square)


def _form(xp: Any, profiles: AtomProfiles, kind: int, square: Any, dtype: np.dtype) -> Any:
    return xp.sum(_forms(xp, profiles, kind, square, dtype), axis=0)


def _product(xp: Any, along_y: Any, along_x: Any) -> Any:
    """sum_n Y[..., n, y] X[n, x], in full precision on every device."""
    left = xp.swapaxes(along_y, -1, -2)
    return left @ along_x if xp is np else xp.matmul(left, along_x, precision="highest")


def _check_grid(shape: Sequence[int], pixel_size: float) -> None:
    if len(shape) != 2:
        raise SettingsProblem(f"an image of shape {tuple(shape)}", "two sizes (y, x)")
    if not pixel_size >= 0.5 / LARGEST_K:
        finest = 0.5 / LARGEST_K
        raise SettingsProblem(
            f"a pixel size of {pixel_size} A", f"{finest} A or more, where the scattering factors end"
        )
