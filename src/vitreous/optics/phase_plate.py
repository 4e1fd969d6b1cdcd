"""The phase plate: shifts the phase of the scattered against the unscattered wave, so that contrast starts at low k.

Signs are those of physics.md (a): a positive shift adds to `gamma = chi + phase_shift + asin(w)`; pi/2 turns a sine
into a cosine.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from vitreous.arrays import float_dtype, namespace
from vitreous.errors import SettingsProblem
from vitreous.optics.turns import against_grid

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX


def phase_plate(
    kx: Float[Array, "*grid"],
    ky: Float[Array, "*grid"],
    phase_shift: Any,
    *,
    cut_on: float = 0.0,
    edge_width: float = 0.0,
) -> Float[Array, "*batch *grid"]:
    """Phase in radian that a plate adds to the wave: 0 for k <= `cut_on`, `phase_shift` beyond.

    `cut_on` (1/angstrom) is the radius of the hole, or of the charged spot, that the unscattered beam passes through:
    what is scattered by less goes with it. With `cut_on` = 0 only k = 0 is left as it is. `edge_width` above 0 makes
    the phase rise as a raised cosine between `cut_on - edge_width/2` and `cut_on + edge_width/2`, for plates without a
    sharp rim. `phase_shift` in radian, any batch shape.
    """
    xp = namespace(kx, ky, phase_shift)
    if not 0 <= cut_on < math.inf:
        raise SettingsProblem(f"a phase plate with a cut-on at {cut_on} 1/A", "a frequency of 0 or more")
    if not 0 <= edge_width <= 2 * cut_on:
        raise SettingsProblem(
            f"a phase plate with a cut-on at {cut_on:g} 1/A and an edge {edge_width:g} 1/A wide",
            f"a width from 0 to {2 * cut_on:g} 1/A, so that the unscattered beam is left as it is",
        )
    square = kx * kx + ky * ky
    if edge_width == 0:
        share = (square > cut_on**2).astype(float_dtype(square))
    else:
        k = xp.sqrt(xp.where(square > 0, square, 1e-30))
        share = 0.5 - 0.5 * xp.cos(math.pi * xp.clip((k - cut_on) / edge_width + 0.5, 0.0, 1.0))
    return against_grid(phase_shift, share.shape) * share
