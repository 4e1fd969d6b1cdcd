"""What the thickness of a specimen does to its contrast. Signs are those of physics.md (a).

The layer at height z (downstream positive) has the defocus df + z. A specimen that reaches from -t/2 to t/2 about the
plane of the nominal defocus has, with the phase gamma of `ctf.gamma` and u = pi lambda k^2 t,

    power       <sin^2>  =  (1/2) [1 - sinc(u) cos(2 gamma)]      layers of unrelated structure, such as ice or cells
    amplitude   <sin>    =  sinc(u/2) sin(gamma)                  the same structure in all layers

with sinc(x) = sin(x) / x. The Thon rings of the power vanish, and come back with opposite contrast, at the nodes `k = sqrt(n /
(lambda t))`; the amplitude at `k = sqrt(2n / (lambda t))`. The two are different averages: a spectrum fitted with the
second one gives twice the thickness. Both become the plain CTF (its square, itself with its sign) when t becomes 0.

The power was verified on carbon films from 40 to 300 kV (Tichelaar et al. 2020, Ultramicroscopy 216:113023). A slab of
thickness t tilted by theta is `t / cos(theta)` thick along the beam.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import namespace
from vitreous.conventions import Contrast
from vitreous.errors import SettingsProblem
from vitreous.optics.ctf import ctf, gamma
from vitreous.optics.electrons import wavelength

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX


def thickness_damping(
    kx: Float[Array, "*grid"], ky: Float[Array, "*grid"], thickness: Any, *, voltage: float
) -> Float[Array, "*grid"]:
    """`sinc(pi lambda k^2 t / 2)`: what multiplies the amplitude of a structure that is the same through the thickness t.

    `thickness` in angstrom, one number. It is negative between the first two nodes. Even in t and smooth at t = 0 and
    k = 0.
    """
    xp = namespace(kx, ky, thickness)
    return xp.sinc(0.5 * wavelength(voltage) * thickness * (kx * kx + ky * ky))


def thick_ctf(
    kx: Float[Array, "*grid"],
    ky: Float[Array, "*grid"],
    defocus: Any,
    astigmatism: Any = None,
    *,
    thickness: Any,
    voltage: float,
    spherical_aberration: Any,
    amplitude_contrast: Any,
    phase_shift: Any = 0.0,
    b_factor: Any = 0.0,
    contrast: Contrast | str = Contrast.INVERTED,
) -> Float[Array, "*batch *grid"]:
    """The CTF averaged over layers of the same structure: `sinc(pi lambda k^2 t / 2)` times `ctf.ctf`.

    `thickness` in angstrom, one number; `defocus` is that of the middle. The other arguments, units and shapes are those of `ctf.ctf`,
    whose sign it has: at t = 0 the two are equal.

    >>> lens = {"voltage": 300e3, "spherical_aberration": 2.7e7, "amplitude_contrast": 0.1}
    >>> round(float(thick_ctf(0.0, 0.0, 1e4, thickness=1000.0, **lens)), 12)
    0.1
    """
    thin = ctf(
        kx,
        ky,
        defocus,
        astigmatism,
        voltage=voltage,
        spherical_aberration=spherical_aberration,
        amplitude_contrast=amplitude_contrast,
        phase_shift=phase_shift,
        b_factor=b_factor,
        contrast=contrast,
    )
    damping = thickness_damping(kx, ky, thickness, voltage=voltage)
    return thin * namespace(thin, damping).asarray(damping, dtype=thin.dtype)


def thick_power(
    kx: Float[Array, "*grid"],
    ky: Float[Array, "*grid"],
    defocus: Any,
    astigmatism: Any = None,
    *,
    thickness: Any,
    voltage: float,
    spherical_aberration: Any,
    amplitude_contrast: Any,
    phase_shift: Any = 0.0,
) -> Float[Array, "*batch *grid"]:
    """The power spectrum of layers of unrelated structure: `(1/2) [1 - sinc(pi lambda k^2 t) cos(2 gamma)]`.

    Relative to the power of the structure: at t = 0 it is the CTF squared. `thickness` in angstrom, one number; `defocus` is that of
    the middle. The other arguments, units and shapes are those of `ctf.gamma`.
    """
    phase = gamma(
        kx,
        ky,
        defocus,
        astigmatism,
        voltage=voltage,
        spherical_aberration=spherical_aberration,
        amplitude_contrast=amplitude_contrast,
        phase_shift=phase_shift,
    )
    xp = namespace(phase, thickness)
    damping = xp.sinc(wavelength(voltage) * thickness * (kx * kx + ky * ky))
    return (0.5 * (1 - damping * xp.cos(2 * phase))).astype(phase.dtype)


def power_nodes(thickness: float, voltage: float, count: int = 1) -> np.ndarray:
    """Frequencies in 1/angstrom at which the Thon rings of unrelated layers vanish: `sqrt(n / (lambda t))`, n = 1 ... count.

    >>> power_nodes(1000.0, 300e3).round(6)
    array([0.225375])
    """
    return _nodes(1.0, thickness, voltage, count)


def amplitude_nodes(thickness: float, voltage: float, count: int = 1) -> np.ndarray:
    """Frequencies in 1/angstrom at which the amplitude of equal layers vanishes: `sqrt(2n / (lambda t))`, n = 1 ... count."""
    return _nodes(2.0, thickness, voltage, count)


def _nodes(first: float, thickness: float, voltage: float, count: int) -> np.ndarray:
    if not thickness > 0:
        raise SettingsProblem(f"a specimen {thickness} A thick", "a positive number of angstrom")
    if count < 1:
        raise SettingsProblem(f"{count} nodes", "at least 1")
    order = np.arange(1, count + 1)
    return np.sqrt(first * order / (wavelength(voltage) * thickness)) if math.isfinite(thickness) else np.zeros(count)
