"""Partial coherence: a source with a range of angles and of energies makes a sum of images, not of waves.

    I = sum_{e, q} w_e w_q |IFT[FT[psi] exp(+i chi(k + q; df + e))]|^2            the sum, `partially_coherent_image`
    I = |IFT[FT[psi] exp(+i chi(k; df)) Es Et]|^2                                 the envelope, `coherence_envelope`

e is the deviation of the defocus (energy spread), q = tilt/lambda that of the illumination. The envelope is the sum for
the part of the image that is linear in the scattered wave, to first order in the angles; it damps the products of
scattered waves too strongly. It costs nothing; the sum costs a transform for each term. The specimen is taken as thin
under the tilts of the source: they move the exit wave and nothing else.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import namespace
from vitreous.errors import SettingsProblem
from vitreous.optics.electrons import wavelength
from vitreous.units import MILLIRADIAN

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX

LARGEST_RULE = 64  # points of a quadrature


def coherence_envelope(
    kx: Float[Array, "*grid"],
    ky: Float[Array, "*grid"],
    defocus: Any,
    astigmatism: Any = (0.0, 0.0),
    *,
    voltage: float,
    spherical_aberration: Any,
    one_over_e_mrad: float = 0.0,
    focal_sigma: float = 0.0,
) -> Float[Array, "*grid"]:
    """`Es Et`: the envelopes of the source's angles and of the defocus spread, for a lens with astigmatism.

    `Es = exp(-(pi a / lambda)^2 |grad chi / 2 pi|^2)` with the gradient of chi along x and y, which without astigmatism
    is `envelopes.spatial_coherence`; a = `one_over_e_mrad` is the 1/e half-angle. `Et` is
    `envelopes.temporal_coherence` with the rms defocus spread `focal_sigma` in angstrom. Both widths may be 0.
    """
    xp = namespace(kx, ky, defocus, *astigmatism, spherical_aberration)
    wave = wavelength(voltage)
    square = kx * kx + ky * ky
    along, across = astigmatism[0], astigmatism[1]
    radial = wave * (defocus - spherical_aberration * wave**2 * square)
    moved_x = radial * kx + wave * (along * kx + across * ky)
    moved_y = radial * ky + wave * (across * kx - along * ky)
    strength = (math.pi * one_over_e_mrad * MILLIRADIAN / wave) ** 2
    spatial = xp.exp(-strength * (moved_x * moved_x + moved_y * moved_y))
    return spatial * xp.exp(-0.5 * (math.pi * wave * focal_sigma) ** 2 * square * square)


def source_quadrature(
    *, one_over_e_mrad: float = 0.0, focal_sigma: float = 0.0, angle_nodes: int = 7, focus_nodes: int = 7
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deviations of the defocus [q] (angstrom), tilts [q, 2] (radian) and weights [q], which add up to 1.

    Gauss-Hermite rules: `focus_nodes` points for a Gaussian defocus spread of rms `focal_sigma`; `angle_nodes` points
    on x and on y for Gaussian angles of 1/e half-width `one_over_e_mrad`. A width of 0 takes one point. How many points
    are enough says `quadrature_nodes`.
    """
    if angle_nodes < 1 or focus_nodes < 1:
        raise SettingsProblem(f"a quadrature of {min(angle_nodes, focus_nodes)} nodes", "at least 1")
    focus, focus_weight = _rule(focus_nodes if focal_sigma > 0 else 1)
    angle, angle_weight = _rule(angle_nodes if one_over_e_mrad > 0 else 1)
    weight = focus_weight[:, None, None] * angle_weight[:, None] * angle_weight
    shape = weight.shape
    tilt_y, tilt_x = np.meshgrid(angle, angle, indexing="ij")
    tilts = np.broadcast_to(np.stack([tilt_x, tilt_y], axis=-1), (*shape, 2)).reshape(-1, 2)
    deviations = np.broadcast_to(focus[:, None, None], shape).reshape(-1)
    return deviations * math.sqrt(2) * focal_sigma, tilts * one_over_e_mrad * MILLIRADIAN, weight.reshape(-1)


def quadrature_nodes(exponent: float, tolerance: float = 1e-3) -> int:
    """Points of a Gauss-Hermite rule that averages away all that envelopes down to `exp(-exponent)` damp.

    A rule with too few points lets the contrast come back where the envelope has taken it. This is the smallest whose
    largest error is below `tolerance` of the undamped contrast. Raises SettingsProblem beyond 64 points.
    """
    # the mean of cos(2 sqrt(e) x) over exp(-x^2) is exp(-e)
    exponents = np.linspace(0.0, math.sqrt(max(exponent, 0.0)), 400) ** 2
    for count in range(1, LARGEST_RULE + 1):
        points, weights = _rule(count)
        average = np.cos(2 * np.sqrt(exponents)[:, None] * points) @ weights
        if np.abs(average - np.exp(-exponents)).max() < tolerance:
            return count
    raise SettingsProblem(
        f"a source that leaves exp(-{exponent:.0f}) of the contrast at the highest frequency",
        f"one that a sum of {LARGEST_RULE} points holds",
        "use larger pixels, an objective aperture, or coherence 'envelope'",
    )


def _rule(count: int) -> tuple[np.ndarray, np.ndarray]:
    points, weights = np.polynomial.hermite.hermgauss(count)
    return points, weights / weights.sum()
