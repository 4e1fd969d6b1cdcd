"""The contrast transfer function, for one slider or a million particles. Signs are those of physics.md (a).

    CTF(k) = scale * sin(gamma(k)) * exp(-B k^2 / 4),    gamma = chi + even_phase + phase_shift + asin(w)

with chi of `aberrations.defocus_phase`: for images whose protein is white, so `CTF(0) = +w` without a phase plate.
`contrast="raw"` gives `-sin(gamma)`, for micrographs as the detector saw them: protein is dark at underfocus.

gamma is linear in five polynomials of the frequency, `[k^2, kx^2 - ky^2, 2 kx ky, k^4, 1]`: a batch of CTFs is one
small matrix product (parameters x 5) (5 x frequencies), then a sine. The product is formed in turns (cycles), and
whole turns are removed before the sine: at 5 um and 0.5 A per pixel gamma reaches a thousand turns, of which float32
keeps four decimals.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import namespace
from vitreous.conventions import Contrast
from vitreous.errors import SettingsProblem
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.optics import aberrations
from vitreous.optics.electrons import wavelength
from vitreous.optics.turns import against_grid, is_present, partial_turns, result_dtype

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX

# Values that NumPy works on at a time: a megabyte of doubles, so that every pass over them stays in the cache.
BLOCK = 1 << 17


def ctf(
    kx: Float[Array, "*grid"],
    ky: Float[Array, "*grid"],
    defocus: Float[Array, "*batch"] | float,
    astigmatism: Float[Array, "*batch 2"] | None = None,
    *,
    voltage: float,
    spherical_aberration: Any,
    amplitude_contrast: Any,
    phase_shift: Any = 0.0,
    b_factor: Any = 0.0,
    scale: Any = 1.0,
    even_phase: Float[Array, "*grid"] | None = None,
    contrast: Contrast | str = Contrast.INVERTED,
    dtype: Any = None,
) -> Float[Array, "*batch *grid"]:
    """The CTF of each set of parameters at each frequency; the shape is the batch's followed by the grid's.

    `kx`, `ky` (1/angstrom) broadcast against each other to the grid: [y, x], a flat list [p], or a scalar. All
    parameters broadcast against each other to the batch: `defocus` in angstrom, positive for underfocus; `astigmatism`
    = (u-v)/2 (cos 2 angle, sin 2 angle) in angstrom on its last axis; `phase_shift` in radian; `b_factor` in
    angstrom^2; `spherical_aberration` in angstrom; `voltage` in volts (one number). `even_phase` in radian is added to
    gamma (tetrafoil, even Zernike terms).

    The result has `dtype`, by default that of the frequencies. Largest error in float32 at 300 kV, 0.5 A per pixel and
    5 um, corners included: 2e-7 with NumPy and double frequencies (gamma is formed in double, so give it these and
    `dtype=float32`), 2e-4 with JAX and frequencies that are NumPy doubles, 7e-4 when JAX traces them in float32.

    Differentiable in every parameter and in the frequencies, with finite gradients at k = 0 and at zero astigmatism.

    >>> round(float(ctf(0.0, 0.0, 1e4, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)), 12)
    0.1
    """
    sign = -1.0 if named_contrast(contrast) is Contrast.RAW else 1.0
    phase = (defocus, astigmatism, spherical_aberration, amplitude_contrast, phase_shift)
    xp = namespace(kx, ky, *phase, b_factor, scale, even_phase)
    result = result_dtype(xp, dtype, (kx, ky), (*phase, b_factor, scale))
    evaluate = _sines_in_blocks if xp is np else _sines_fused
    parameters, basis = _turns(kx, ky, *phase, voltage=voltage, even_phase=even_phase)
    return evaluate(xp, parameters, basis, kx * kx + ky * ky, b_factor, sign * scale, result)


def gamma(
    kx: Float[Array, "*grid"],
    ky: Float[Array, "*grid"],
    defocus: Float[Array, "*batch"] | float,
    astigmatism: Float[Array, "*batch 2"] | None = None,
    *,
    voltage: float,
    spherical_aberration: Any,
    amplitude_contrast: Any,
    phase_shift: Any = 0.0,
    even_phase: Float[Array, "*grid"] | None = None,
) -> Float[Array, "*batch *grid"]:
    """The phase of the CTF in radian, whole turns included: `gamma = chi + even_phase + phase_shift + asin(w)`.

    Arguments and shapes are those of `ctf`. The complex CTF is `exp(i gamma)`, whose imaginary part is the sine above.
    """
    phase = (defocus, astigmatism, spherical_aberration, amplitude_contrast, phase_shift)
    xp = namespace(kx, ky, *phase, even_phase)
    dtype = result_dtype(xp, None, (kx, ky), phase)
    parameters, basis = _turns(kx, ky, *phase, voltage=voltage, even_phase=even_phase)
    grid = np.broadcast_shapes(*(np.shape(polynomial) for polynomial in basis))
    turns: Any = sum(against_grid(parameter, grid) * polynomial for parameter, polynomial in zip(parameters, basis))
    return xp.asarray(2 * math.pi * turns, dtype=dtype)


def ctf_of_particles(
    group: OpticsGroup,
    parameters: CtfParameters,
    kx: Float[Array, "*grid"],
    ky: Float[Array, "*grid"],
    *,
    contrast: Contrast | str = Contrast.INVERTED,
    dtype: Any = None,
) -> Float[Array, "n ..."]:
    """CTFs [n, grid] of n particles of one optics group.

    The group gives voltage, Cs, amplitude contrast, even Zernike terms and magnification; each particle its defocus,
    astigmatism, phase shift, B factor and scale. The odd terms are `odd_phase`, to be multiplied onto images apart.
    Raises DataProblem if the group lacks voltage, spherical aberration or amplitude contrast.
    """
    group.require("voltage", "spherical_aberration", "amplitude_contrast")
    true_x, true_y = _true_frequencies(group, kx, ky)
    even = tuple(float(c) for c in group.even_zernike)
    return ctf(
        true_x,
        true_y,
        parameters.defocus,
        parameters.astigmatism,
        voltage=_number(group.voltage),
        spherical_aberration=_number(group.spherical_aberration),
        amplitude_contrast=_number(group.amplitude_contrast),
        phase_shift=parameters.phase_shift,
        b_factor=parameters.b_factor,
        scale=parameters.scale,
        even_phase=aberrations.even_zernike_phase(true_x, true_y, even) if any(even) else None,
        contrast=contrast,
        dtype=dtype,
    )


def has_odd_phase(group: OpticsGroup) -> bool:
    """Whether the group has a beam tilt or odd Zernike terms; if not, `odd_phase` is 0 everywhere."""
    return any(group.beam_tilt) or any(group.odd_zernike)


def odd_phase(group: OpticsGroup, kx: Float[Array, "*grid"], ky: Float[Array, "*grid"]) -> Float[Array, "*grid"]:
    """chi_odd in radian of the group's beam tilt and odd Zernike terms, its magnification taken into account.

    An image made of an object has its transform multiplied by `exp(+i odd_phase)` (`aberrations.wave_factor`);
    recorded images are corrected by the conjugate, `exp(-i odd_phase)`. Both beam tilt and Zernike terms count when a
    file has both.
    """
    true_x, true_y = _true_frequencies(group, kx, ky)
    phase = aberrations.odd_zernike_phase(true_x, true_y, tuple(float(c) for c in group.odd_zernike))
    if any(group.beam_tilt):
        group.require("voltage", "spherical_aberration")
        phase = phase + aberrations.beam_tilt_phase(
            true_x,
            true_y,
            tuple(float(t) for t in group.beam_tilt),
            wavelength=wavelength(_number(group.voltage)),
            spherical_aberration=_number(group.spherical_aberration),
        )
    return phase


def named_contrast(contrast: Contrast | str) -> Contrast:
    """The contrast by its name; a contrast that is unknown has no CTF."""
    if contrast in (Contrast.INVERTED, Contrast.RAW):
        return Contrast(contrast)
    raise SettingsProblem(f"contrast '{contrast}'", "'inverted' (protein is white) or 'raw' (as the detector saw it)")


def _turns(
    kx: Any,
    ky: Any,
    defocus: Any,
    astigmatism: Any,
    spherical_aberration: Any,
    amplitude_contrast: Any,
    phase_shift: Any,
    *,
    voltage: float,
    even_phase: Any,
) -> tuple[list[Any], list[Any]]:
    """gamma / 2 pi as a sum of products: parameters [batch] times polynomials [grid]."""
    if namespace(kx, ky) is np:  # concrete frequencies: polynomials in double, whatever they are rounded to later
        kx, ky = np.asarray(kx, dtype=np.float64), np.asarray(ky, dtype=np.float64)
    components = None if astigmatism is None else (astigmatism[..., 0], astigmatism[..., 1])
    terms = aberrations.phase_terms(
        kx, ky, defocus, components, wavelength=wavelength(voltage), spherical_aberration=spherical_aberration
    )
    constant = phase_shift + namespace(amplitude_contrast).arcsin(amplitude_contrast)
    terms.append((constant / (2 * math.pi), 0.0 * (kx + ky) + 1.0))
    if even_phase is not None:
        terms.append((1.0, even_phase / (2 * math.pi)))
    return [parameter for parameter, _ in terms], [polynomial for _, polynomial in terms]


def _sines_fused(
    xp: Any, parameters: list[Any], basis: list[Any], square: Any, b_factor: Any, scale: Any, dtype: np.dtype
) -> Any:
    """For JAX: one pass that the compiler fuses. Sum in turns without the whole ones, sine, envelope."""
    grid = np.broadcast_shapes(*(np.shape(b) for b in basis))
    pairs = zip(parameters, basis)
    turns = sum(partial_turns(against_grid(parameter, grid), polynomial, dtype, xp) for parameter, polynomial in pairs)
    values = xp.sin(2 * math.pi * (turns - xp.round(turns)))
    if is_present(b_factor, 0.0):
        values = values * xp.exp(-0.25 * against_grid(b_factor, grid) * square)
    if is_present(scale, 1.0):
        values = values * against_grid(scale, grid)
    return values.astype(dtype)


def _sines_in_blocks(
    xp: Any, parameters: list[Any], basis: list[Any], square: Any, b_factor: Any, scale: Any, dtype: np.dtype
) -> np.ndarray:
    """For NumPy: matrix products in double on blocks of rows that stay in the cache, results in `dtype`."""
    batch = np.broadcast_shapes(np.shape(scale), np.shape(b_factor), *(np.shape(c) for c in parameters))
    grid = np.broadcast_shapes(*(np.shape(b) for b in basis))
    left = np.stack([_flat(parameter, batch, np.float64) for parameter in parameters], axis=1)
    right = np.stack([_flat(polynomial, grid, np.float64) for polynomial in basis])
    squares, decays, scales = _flat(square, grid, dtype), _flat(b_factor, batch, dtype), _flat(scale, batch, dtype)
    damped, scaled = is_present(b_factor, 0.0), is_present(scale, 1.0)

    values = np.empty((left.shape[0], right.shape[1]), dtype)
    step = max(1, BLOCK // max(1, right.shape[1]))
    for start in range(0, len(left), step):
        block, rows = values[start : start + step], slice(start, start + step)
        turns = left[rows] @ right
        turns -= np.rint(turns)
        np.multiply(turns, 2 * math.pi, out=block, casting="same_kind")
        np.sin(block, out=block)
        if damped:
            block *= np.exp(-0.25 * decays[rows, None] * squares)
        if scaled:
            block *= scales[rows, None]
    return values.reshape(batch + grid)


def _flat(values: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.broadcast_to(np.asarray(values, dtype=dtype), shape).reshape(-1)


def _true_frequencies(group: OpticsGroup, kx: Any, ky: Any) -> tuple[Any, Any]:
    matrix = tuple(tuple(float(element) for element in row) for row in group.magnification)
    return (kx, ky) if matrix == ((1.0, 0.0), (0.0, 1.0)) else aberrations.magnify(kx, ky, matrix)


def _number(value: float | None) -> float:
    """A value that `OpticsGroup.require` has found to be there."""
    assert value is not None
    return float(value)
