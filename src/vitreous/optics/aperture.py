"""The objective aperture: a hole in the back focal plane that stops electrons scattered by more than its semi-angle.

An electron scattered by the frequency k leaves at the angle `lambda k` (to 2e-4 at 20 mrad).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vitreous.arrays import float_dtype, namespace
from vitreous.errors import SettingsProblem
from vitreous.fourier.filters import low_pass
from vitreous.optics.electrons import wavelength
from vitreous.units import MILLIRADIAN

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX


def aperture_cutoff(semi_angle_mrad: float, voltage: float) -> float:
    """Largest frequency in 1/angstrom that an aperture of this semi-angle passes: `k = angle / lambda`.

    >>> round(aperture_cutoff(10.0, 300e3), 4)
    0.5079
    """
    if not semi_angle_mrad > 0:
        raise SettingsProblem(f"an objective aperture of {semi_angle_mrad} mrad", "a positive semi-angle")
    return semi_angle_mrad * MILLIRADIAN / wavelength(voltage)


def objective_aperture(
    kx: Float[Array, "*grid"], ky: Float[Array, "*grid"], cutoff: float, *, edge_width: float = 0.0
) -> Float[Array, "*grid"]:
    """Amplitude that a hole about the unscattered beam passes: 1 up to `cutoff` (1/angstrom), 0 beyond.

    `edge_width` = 0 is the hard edge of a hole in a foil; above 0 the passage falls as a raised cosine between `cutoff
    - edge_width/2` and `cutoff + edge_width/2`. It acts on the wave. Raises SettingsProblem for a cut-off that is not
    positive or an edge that would reach the unscattered beam.
    """
    xp = namespace(kx, ky)
    if not cutoff > 0:
        raise SettingsProblem(f"an objective aperture that ends at {cutoff} 1/A", "a positive frequency")
    if not 0 <= edge_width < 2 * cutoff:
        raise SettingsProblem(
            f"an aperture at {cutoff:g} 1/A with an edge {edge_width:g} 1/A wide",
            f"a width from 0 up to {2 * cutoff:g} 1/A, so that the unscattered beam passes",
        )
    square = kx * kx + ky * ky
    if edge_width == 0:
        return (square <= cutoff**2).astype(float_dtype(square))
    # the root of a positive number: its gradient at k = 0 is finite
    return low_pass(xp.sqrt(xp.where(square > 0, square, 1e-30)), cutoff, edge_width)
