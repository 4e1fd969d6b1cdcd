"""The potential on the Ewald parabola: what all slabs together scatter once, each from its own height.

    E(x) = F^-1[ F(k, -lambda k^2 / 2) ],     F(k, -lambda k^2 / 2) = sum_j V_j(k) P_(-z_j)(k)

V_j(k) is the transform of slab j at height z_j and `P_d(k) = exp(-i pi lambda d k^2)`. F is the transform of the whole
potential at `kz = -lambda k^2/2`, the parabola that the Ewald sphere is for small angles (physics.md (a)). E is in
V A, referred to the plane z = 0, and complex unless the specimen is symmetric about that plane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import complex_dtype, namespace
from vitreous.scattering.propagation import fresnel_propagator

if TYPE_CHECKING:
    from jaxtyping import Complex, Num

    Array = Any  # NumPy or JAX


def parabola_potential(
    projected: Num[Array, "s y x"],
    pixel_size: float,
    thickness: float,
    height: float,
    voltage: float,
    *,
    plane: float = 0.0,
    workers: int | None = None,
) -> Complex[Array, "y x"]:
    """E in V A of slabs at `height + j thickness` (angstrom), referred to the plane z = `plane`.

    For a plane other than 0 it is `sum_j V_j convolved with P_(plane - z_j)`. Real slabs cost half a transform each:
    V_j(-k) is the conjugate of V_j(k), so the sum over one half of the frequencies with P and with its conjugate is
    all that is needed.
    """
    xp, settings = namespace(projected), (pixel_size, thickness, height, voltage, plane, workers)
    if xp.iscomplexobj(projected):
        return _of_real(xp, projected.real, *settings) + 1j * _of_real(xp, projected.imag, *settings)
    return _of_real(xp, projected, *settings)


def _of_real(xp, projected, pixel_size, thickness, height, voltage, plane, workers):
    """The cosine and the sine part of the sum, each the transform of a real array."""
    shape, dtype = projected.shape[-2:], complex_dtype(projected)
    step = fresnel_propagator(shape, pixel_size, thickness, voltage, half=True).astype(dtype)
    last = plane - (height + (projected.shape[0] - 1) * thickness)
    finish = fresnel_propagator(shape, pixel_size, last, voltage, half=True).astype(dtype)
    add_up = _add_up_numpy if xp is np else _add_up_jax
    direct, conjugate = add_up(projected, xp.asarray(step), workers)
    direct, conjugate = direct * xp.asarray(finish), conjugate * xp.asarray(finish.conj())
    even, odd = (direct + conjugate) / 2, (direct - conjugate) / 2j
    if xp is not np:
        return xp.fft.irfft2(even, s=shape) + 1j * xp.fft.irfft2(odd, s=shape)
    from scipy import fft as scipy_fft

    real: Any = scipy_fft.irfft2(even, s=shape, workers=workers, overwrite_x=True)
    imaginary: Any = scipy_fft.irfft2(odd, s=shape, workers=workers, overwrite_x=True)
    return real + 1j * imaginary


def _add_up_numpy(projected, step, workers):
    """`sum_j V_j step^(last - j)` by Horner's rule, and the same with the conjugate of the step."""
    from scipy import fft as scipy_fft

    direct = np.zeros(step.shape, dtype=step.dtype)
    conjugate, back = np.zeros_like(direct), step.conj()
    for potential in projected:
        transform: Any = scipy_fft.rfft2(potential, workers=workers)
        direct *= step
        direct += transform
        conjugate *= back
        conjugate += transform
    return direct, conjugate


def _add_up_jax(projected, step, workers):
    import jax
    import jax.numpy as jnp

    def add(sums, potential):
        transform = jnp.fft.rfft2(potential)
        return (sums[0] * step + transform, sums[1] * step.conj() + transform), None

    zeros = jnp.zeros(step.shape, dtype=step.dtype)
    return jax.lax.scan(add, (zeros, zeros), projected)[0]
