"""Multislice: the wave goes through one slab after the other. Signs are those of physics.md (a).

    psi_(j+1) = F^-1[ P_dz(k) F[ exp(i sigma V_j) psi_j ] ],      P_dz = exp(-i pi lambda dz k^2)

V_j is the potential of slab j integrated over its depth (V A, complex `V + i Vim` where it absorbs), dz the thickness
of a slab. The wave is transmitted at the height of each slab and then flies on by dz, after the last slab too: the exit
plane is at the height of the last slab + dz (Cowley & Moodie 1957, doi:10.1107/S0365110X57002194; Kirkland 2020,
doi:10.1007/978-3-030-33260-0, chapter 6).

The wave behind each slab is limited to a disc in Fourier space (`propagation.band`, hard edge, 2/3 of the Nyquist
frequency). Textbooks limit `exp(i sigma V_j)` to the same disc, so that their product has no aliasing at all; with
`limit_transmission` this does too. Without it nothing is lost of what a steep potential scatters from one side of the
disc to the other. For atoms of a protein that error is smaller than what the textbook's filter removes, and half of the
transforms are saved: docs/scattering.md has the numbers.

What is carried from slab to slab is the scattered part, psi - 1, because 1 flies on unchanged: in single precision the
rounding errors are then relative to the scattered wave and not to the hundred times stronger beam.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import complex_dtype, namespace
from vitreous.errors import SettingsProblem
from vitreous.optics.electrons import interaction_constant
from vitreous.scattering.propagation import BAND_LIMIT, band, filtered, fresnel_propagator

if TYPE_CHECKING:
    from jaxtyping import Complex, Num

    Array = Any  # NumPy or JAX

BLOCK = 1 << 16  # values that a thread works on at a time: half a megabyte of complex64 stays in the cache


def multislice(
    projected: Num[Array, "s y x"],
    pixel_size: float,
    thickness: float,
    voltage: float,
    *,
    incident: Complex[Array, "y x"] | None = None,
    band_limit: float | None = BAND_LIMIT,
    limit_transmission: bool = False,
    workers: int | None = None,
) -> Complex[Array, "y x"]:
    """The wave behind slabs of the projected potential `projected` (V A), each `thickness` angstrom deep.

    `incident` is the wave in the plane of the first slab, the plane wave 1 unless given. `band_limit` is a fraction of
    the Nyquist frequency, None for no limit. JAX: a scan over the slabs, whose gradient keeps one wave per slab and
    computes the rest again. NumPy: `workers` threads (None: as many as SciPy's transforms are set to use, one unless
    told otherwise).

    >>> slabs = np.full((3, 8, 8), 10.0)  # V A: the same everywhere, which turns the phase of the whole wave
    >>> wave = multislice(slabs, 1.0, 2.0, 300e3)
    >>> round(float(np.angle(wave[0, 0])), 6)  # 30 V A times 6.526e-4
    0.019578
    """
    shape, dtype, xp = projected.shape[-2:], complex_dtype(projected, incident), namespace(projected, incident)
    inside = band(shape, band_limit)
    propagator = (fresnel_propagator(shape, pixel_size, thickness, voltage) * inside).astype(dtype)
    scattered = xp.zeros(shape, dtype=dtype) if incident is None else xp.asarray(incident, dtype=dtype) - 1
    if xp is not np:
        return 1 + _scan(scattered, projected, voltage, xp.asarray(propagator), inside if limit_transmission else None)
    passes = _Passes(inside, workers)
    passes.through(scattered, projected, voltage, propagator, limit_transmission=limit_transmission)
    scattered += 1
    return scattered


def transmission_less_one(potential: Num[Array, "*grid"], voltage: float) -> Complex[Array, "*grid"]:
    """`exp(i sigma V) - 1` of a projected potential in V A: what it scatters out of a wave 1, without loss of digits.

    `2 i sin(phi/2) exp(i phi/2)` with phi = sigma V; where it absorbs, `V + i Vim`, times `exp(-sigma Vim)`, plus
    `exp(-sigma Vim) - 1`.
    """
    xp, dtype, sigma = namespace(potential), complex_dtype(potential), interaction_constant(voltage)
    half = (sigma / 2) * potential.real
    sine, cosine = xp.sin(half), xp.cos(half)
    if xp is not np:
        result = (-2 * sine * sine + 2j * sine * cosine).astype(dtype)
    else:  # real functions straight into the parts: 20 times faster than the complex exponential
        result: Any = np.empty(potential.shape, dtype=dtype)
        np.multiply(-2 * sine, sine, out=result.real)
        np.multiply(2 * sine, cosine, out=result.imag)
    if not xp.iscomplexobj(potential):
        return result
    loss = xp.expm1(-sigma * potential.imag)
    return result * (1 + loss) + loss


def _scan(scattered: Any, projected: Any, voltage: float, propagator: Any, limit: np.ndarray | None) -> Any:
    import jax
    import jax.numpy as jnp

    @jax.checkpoint
    def step(scattered, potential):
        change = transmission_less_one(potential, voltage)
        if limit is not None:
            change = filtered(change, limit)
        behind = scattered + change * (1 + scattered)
        return jnp.fft.ifft2(jnp.fft.fft2(behind) * propagator), None

    return jax.lax.scan(step, scattered, projected)[0]


class _Passes:
    """Multislice on NumPy arrays in two passes per slab, in place, over blocks that stay in the cache of a core.

    Along rows: inverse transform, transmission, transform. Along columns: transform, propagator, inverse transform, for
    the columns inside the band only.
    """

    def __init__(self, inside: np.ndarray, workers: int | None):
        from scipy import fft as scipy_fft

        self._fft, self._ifft = scipy_fft.fft, scipy_fft.ifft
        self._workers = scipy_fft.get_workers() if workers is None else workers
        if self._workers < 1:
            raise SettingsProblem(f"{workers} threads", "1 or more")
        self._inside = inside
        height, width = inside.shape
        used = np.asarray(inside.any(axis=0))
        self._rows = _blocks(np.ones(height, dtype=bool), max(1, BLOCK // width))
        self._columns = _blocks(used, max(1, BLOCK // height))
        self._unused = _blocks(~used, width)

    def through(self, scattered, projected, voltage, propagator, *, limit_transmission: bool) -> None:
        """Change the scattered part of the wave, in place, to that behind all slabs."""
        change = np.empty_like(scattered) if limit_transmission else None
        with ThreadPoolExecutor(self._workers) as pool:
            everywhere = (lambda work, blocks: list(pool.map(work, blocks))) if self._workers > 1 else _one_by_one
            for number, potential in enumerate(projected):
                if change is not None:
                    everywhere(partial(self._transform_change, change, potential, voltage), self._rows)
                    everywhere(partial(self._filter, change, self._inside), self._columns)
                    self._clear(change)
                transmit = partial(self._transmit, scattered, potential, voltage, change, first=number == 0)
                everywhere(transmit, self._rows)
                everywhere(partial(self._filter, scattered, propagator), self._columns)
                self._clear(scattered)
            everywhere(partial(self._finish, scattered), self._rows)

    def _transform_change(self, change: np.ndarray, potential: np.ndarray, voltage: float, rows: slice) -> None:
        change[rows] = transmission_less_one(potential[rows], voltage)
        _in_place(self._fft, change[rows], axis=1)

    def _transmit(self, scattered, potential, voltage, change, rows: slice, *, first: bool) -> None:
        block = scattered[rows]
        if not first:
            _in_place(self._ifft, block, axis=1)
        if change is None:
            factor = transmission_less_one(potential[rows], voltage)
        else:
            factor = change[rows]
            _in_place(self._ifft, factor, axis=1)
        factor *= block + 1
        block += factor
        _in_place(self._fft, block, axis=1)

    def _filter(self, array: np.ndarray, factor: np.ndarray, columns: slice) -> None:
        block = array[:, columns]
        _in_place(self._fft, block, axis=0)
        block *= factor[:, columns]
        _in_place(self._ifft, block, axis=0)

    def _clear(self, array: np.ndarray) -> None:
        for columns in self._unused:
            array[:, columns] = 0

    def _finish(self, array: np.ndarray, rows: slice) -> None:
        _in_place(self._ifft, array[rows], axis=1)


def _in_place(transform: Any, block: np.ndarray, axis: int) -> None:
    result = transform(block, axis=axis, overwrite_x=True)
    if not np.may_share_memory(result, block):  # SciPy may write over its input, and need not
        block[...] = result


def _one_by_one(work: Any, blocks: list[slice]) -> None:
    for block in blocks:
        work(block)


def _blocks(chosen: np.ndarray, size: int) -> list[slice]:
    """The runs of True in `chosen`, cut into slices of at most `size`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    runs = zip(edges[::2].tolist(), edges[1::2].tolist())
    return [slice(start, min(start + size, end)) for begin, end in runs for start in range(begin, end, size)]
