"""The price of a posterior: the divergence of a Gaussian from the standard normal prior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vitreous.arrays import namespace

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX


def kl_to_standard_normal(mean: Float[Array, "*b d"], log_deviation: Float[Array, "*b d"]) -> Float[Array, "*b"]:
    """`KL(N(mean, deviation^2) || N(0, 1)) = sum_j (mean_j^2 + deviation_j^2 - 1) / 2 - log deviation_j`, in nat."""
    xp = namespace(mean, log_deviation)
    return xp.sum((mean**2 + xp.exp(2 * log_deviation) - 1) / 2 - log_deviation, axis=-1)
