"""Aberrations: what the lens adds to the phase of each spatial frequency. Signs are those of physics.md (a).

There is one phase function, chi, positive at low frequency at underfocus, and it is always used as `exp(+i chi)`:

    chi(k) = pi lambda df(theta) k^2 - (pi/2) Cs lambda^3 k^4 + higher orders          [radian]

Every term is a polynomial in the Cartesian frequencies (kx, ky), never a function of an angle, so that values and
gradients are finite at k = 0 and at zero astigmatism.

chi splits into an even and an odd part. For a weak object the even part becomes the sine of the CTF and the odd part
stays a phase of the image: `F_image(k) = CTF(k) exp(+i chi_odd(k)) F_object(k)`. Recorded images are corrected by
`exp(-i chi_odd)`.

RELION's Zernike coefficients use the two signs differently: its odd terms are chi_odd itself, its even terms are
subtracted from gamma. Its polynomials are not normalised and take k in 1/angstrom, as if the unit disc ended at 1 A.
All of this was measured on RELION 3.1.3: tests/agreement/test_ctf_relion.py.

Frequencies `kx`, `ky` are in 1/angstrom and broadcast against each other; results have their broadcast shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vitreous.arrays import complex_dtype, namespace
from vitreous.errors import SettingsProblem

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

    Array = Any  # NumPy or JAX


def defocus_phase(
    kx: Float[Array, "*grid"],
    ky: Float[Array, "*grid"],
    defocus: Any,
    astigmatism: Sequence[Any] | None = None,
    *,
    wavelength: float,
    spherical_aberration: Any = 0.0,
) -> Float[Array, "*grid"]:
    """chi in radian of defocus, astigmatism and spherical aberration.

    `chi = pi lambda (df k^2 + a1 (kx^2 - ky^2) + a2 2 kx ky) - (pi/2) Cs lambda^3 k^4`. The astigmatism
    `(a1, a2) = (u - v)/2 (cos 2 angle, sin 2 angle)` means a defocus of `(u+v)/2 + (u-v)/2 cos 2(theta - angle)` along
    theta. Defocus, the two components and `spherical_aberration` are in angstrom and broadcast against the frequencies.
    """
    terms = phase_terms(kx, ky, defocus, astigmatism, wavelength=wavelength, spherical_aberration=spherical_aberration)
    turns: Any = sum(parameter * polynomial for parameter, polynomial in terms)
    return 2 * math.pi * turns


def phase_terms(
    kx: Any,
    ky: Any,
    defocus: Any,
    astigmatism: Sequence[Any] | None,
    *,
    wavelength: float,
    spherical_aberration: Any,
) -> list[tuple[Any, Any]]:
    """chi / 2 pi as pairs (parameter, polynomial of the frequency), to be multiplied and added up.

    This is the only place where chi is written: `defocus_phase` adds the terms for a few phases, `ctf` for many.
    """
    square = kx * kx + ky * ky
    terms = [(defocus, wavelength / 2 * square), (spherical_aberration, -(wavelength**3) / 4 * (square * square))]
    if astigmatism is not None:
        along, across = astigmatism
        terms += [(along, wavelength / 2 * (kx * kx - ky * ky)), (across, wavelength * (kx * ky))]
    return terms


def beam_tilt_phase(
    kx: Float[Array, "*grid"],
    ky: Float[Array, "*grid"],
    beam_tilt: Sequence[Any],
    *,
    wavelength: float,
    spherical_aberration: Any,
) -> Float[Array, "*grid"]:
    """chi_odd in radian of an illumination tilted by `beam_tilt` = (tx, ty) radian.

    `-2 pi Cs lambda^2 k^2 (kx tx + ky ty)`, with the spherical aberration Cs in angstrom. It is the cubic part of
    `chi(k + tilt/lambda)`, the coma that a tilt makes of the spherical aberration (Glaeser et al. 2011,
    doi:10.1016/j.jsb.2010.12.005). The other parts are a shift, a defocus and an astigmatism, which are measured as
    such. RELION's rlnBeamTiltX/Y (milliradian) have this sign.
    """
    tilt_x, tilt_y = beam_tilt
    square = kx * kx + ky * ky
    return (-2 * math.pi * wavelength**2) * spherical_aberration * square * (kx * tilt_x + ky * tilt_y)


def coma_phase(
    kx: Float[Array, "*grid"], ky: Float[Array, "*grid"], coma: Sequence[Any], *, wavelength: float
) -> Float[Array, "*grid"]:
    """chi_odd in radian of axial coma B2 = (x, y) in angstrom: `-2 pi lambda^2 k^2 (kx Bx + ky By)`.

    This and the next two are the terms of `chi = -(2 pi/lambda) Re(B2* q^2 q* + A2* q^3/3 + A3* q^4/4)` with the angle
    `q = lambda (kx + i ky)` (Uhlemann & Haider 1998, doi:10.1016/S0304-3991(97)00102-2; the minus sign is that of chi
    here). A beam tilt t is the coma `B2 = Cs t`.
    """
    return beam_tilt_phase(kx, ky, coma, wavelength=wavelength, spherical_aberration=1.0)


def trefoil_phase(
    kx: Float[Array, "*grid"], ky: Float[Array, "*grid"], trefoil: Sequence[Any], *, wavelength: float
) -> Float[Array, "*grid"]:
    """chi_odd in radian of trefoil (three-fold astigmatism) A2 = (x, y) in angstrom.

    `-(2 pi/3) lambda^2 Re(A2* (kx + i ky)^3)`; see `coma_phase`.
    """
    cosine, sine = _circular_power(kx, ky, 3)
    return (-2 * math.pi / 3 * wavelength**2) * (trefoil[0] * cosine + trefoil[1] * sine)


def tetrafoil_phase(
    kx: Float[Array, "*grid"], ky: Float[Array, "*grid"], tetrafoil: Sequence[Any], *, wavelength: float
) -> Float[Array, "*grid"]:
    """Phase in radian of tetrafoil (four-fold astigmatism) A3 = (x, y) in angstrom, an even part of chi.

    `-(pi/2) lambda^3 Re(A3* (kx + i ky)^4)`; see `coma_phase`. It goes into the CTF as `even_phase`.
    """
    cosine, sine = _circular_power(kx, ky, 4)
    return (-math.pi / 2 * wavelength**3) * (tetrafoil[0] * cosine + tetrafoil[1] * sine)


def even_zernike_phase(
    kx: Float[Array, "*grid"], ky: Float[Array, "*grid"], coefficients: Sequence[float]
) -> Float[Array, "*grid"]:
    """What RELION's even Zernike coefficients (rlnEvenZernike, radian) add to gamma: `-sum_i c_i Z_i(kx, ky)`.

    Order Z(0,0) Z(2,-2) Z(2,0) Z(2,2) Z(4,-4) Z(4,-2) ... (Zivanov et al. 2020, doi:10.1107/S2052252520000081).
    """
    return -_zernike_sum(kx, ky, coefficients, even_zernike_indices(len(coefficients)))


def odd_zernike_phase(
    kx: Float[Array, "*grid"], ky: Float[Array, "*grid"], coefficients: Sequence[float]
) -> Float[Array, "*grid"]:
    """chi_odd of RELION's odd Zernike coefficients (rlnOddZernike, radian): `+sum_i c_i Z_i(kx, ky)`.

    Order Z(1,-1) Z(1,1) Z(3,-3) Z(3,-1) Z(3,1) Z(3,3) ... (Zivanov et al. 2020, doi:10.1107/S2052252520000081).
    """
    return _zernike_sum(kx, ky, coefficients, odd_zernike_indices(len(coefficients)))


def even_zernike_indices(count: int) -> list[tuple[int, int]]:
    """The first `count` pairs (n, m) of the even Zernike polynomials in RELION's order."""
    return _zernike_indices(count, first_order=0)


def odd_zernike_indices(count: int) -> list[tuple[int, int]]:
    """The first `count` pairs (n, m) of the odd Zernike polynomials in RELION's order."""
    return _zernike_indices(count, first_order=1)


def zernike(order: int, azimuthal: int, x: Float[Array, "*grid"], y: Float[Array, "*grid"]) -> Float[Array, "*grid"]:
    """Zernike polynomial Z(n, m) at (x, y), n = `order`, m = `azimuthal`, not normalised.

    `R_n^|m|(r) cos(m phi)` for m >= 0 and `R_n^|m|(r) sin(|m| phi)` for m < 0 (Noll 1976, doi:10.1364/JOSA.66.000207).
    Written without angles: `r^|m| cos |m| phi` and `r^|m| sin |m| phi` are the two parts of `(x + i y)^|m|`.

    >>> zernike(3, 1, 2.0, 0.0)  # (3 r^2 - 2) x
    20.0
    """
    fold = abs(azimuthal)
    if fold > order or (order - fold) % 2:
        raise SettingsProblem(f"Zernike polynomial Z({order},{azimuthal})", "|m| <= n with n - m even")
    square = x * x + y * y
    radial: Any = 0.0
    for power in range((order - fold) // 2, -1, -1):  # Horner's rule in r^2
        radial = radial * square + _radial_coefficient(order, fold, power)
    cosine, sine = _circular_power(x, y, fold)
    return radial * (cosine if azimuthal >= 0 else sine)


def magnify(
    kx: Float[Array, "*grid"], ky: Float[Array, "*grid"], matrix: Sequence[Sequence[float]]
) -> tuple[Float[Array, "*grid"], Float[Array, "*grid"]]:
    """True frequencies of the recorded frequencies (kx, ky) under anisotropic magnification: `k_true = M k`.

    M is RELION's rlnMagMat00/01/10/11. The CTF and the odd phase are evaluated at M k, and the central slice is taken
    there: `F_image(k) = CTF(Mk) exp(i chi_odd(Mk)) F_object(R^T (Mk, 0))`.
    """
    (xx, xy), (yx, yy) = matrix
    return xx * kx + xy * ky, yx * kx + yy * ky


def wave_factor(phase: Float[Array, "*grid"]) -> Complex[Array, "*grid"]:
    """`exp(+i phase)`: what multiplies the transform of the exit wave (phase = chi) or of the image (phase = chi_odd).

    Complex64 for float32. On the Nyquist row and column of an even box an odd phase is undefined (both signs of the
    frequency share one sample): code that multiplies images by it drops them.
    """
    xp = namespace(phase)
    return (xp.cos(phase) + 1j * xp.sin(phase)).astype(complex_dtype(phase))


def _zernike_sum(kx: Any, ky: Any, coefficients: Iterable[float], indices: Iterable[tuple[int, int]]) -> Any:
    total = 0.0 * (kx + ky)
    for coefficient, (order, azimuthal) in zip(coefficients, indices, strict=True):
        total = total + coefficient * zernike(order, azimuthal, kx, ky)
    return total


def _zernike_indices(count: int, first_order: int) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    order = first_order
    while len(pairs) < count:
        pairs += [(order, azimuthal) for azimuthal in range(-order, order + 1, 2)]
        order += 2
    return pairs[:count]


def _radial_coefficient(order: int, fold: int, power: int) -> float:
    """Coefficient of `r^(fold + 2 power)` in the radial polynomial R_order^fold."""
    k = (order - fold) // 2 - power
    low, high = (order - fold) // 2 - k, (order + fold) // 2 - k
    whole = math.factorial(order - k) // (math.factorial(k) * math.factorial(low) * math.factorial(high))
    return float(-whole if k % 2 else whole)


def _circular_power(x: Any, y: Any, fold: int) -> tuple[Any, Any]:
    """Real and imaginary part of `(x + i y)^fold`."""
    cosine, sine = 1.0 + 0.0 * (x + y), 0.0 * (x + y)
    for _ in range(fold):
        cosine, sine = cosine * x - sine * y, cosine * y + sine * x
    return cosine, sine
