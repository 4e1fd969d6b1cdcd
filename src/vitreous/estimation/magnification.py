"""Anisotropic magnification of an optics group: where the pixels of its images lie in the reference.

The frequencies that an image truly has are `M k`. The log-likelihood is quadratic in a small change `M (1 + d)`:

    b_j = sum (2/sigma^2) g C Re(conj(A_j) (X - g C A)),    H_jl = sum (2/sigma^2) g^2 C^2 Re(conj(A_j) A_l)

with A_j the derivative of the slice by the element j of d (`agreement_survey`); `d = H^-1 b` is one Gauss-Newton step,
and the passes of `ctf_refinement` repeat it. The gain of each shell is profiled out.

The defocus and the astigmatism are told in true frequencies. A change of M therefore changes them, so that the CTF of the
recorded image stays what it is: `defocus_after`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.estimation.agreement_survey import AgreementSums, ShellAgreement

if TYPE_CHECKING:
    from jaxtyping import Float

# What one pass may change an element by: frequencies must stay inside the reference's transform.
LARGEST_STEP = 0.02


@dataclass(frozen=True)
class MagnificationStep:
    """`change` d [2, 2]: the matrix becomes `M (1 + d)`; `covariance` [4, 4] of its elements (xx, xy, yx, yy)."""

    change: Float[np.ndarray, "2 2"]
    covariance: Float[np.ndarray, "4 4"]


def magnification_step(sums: AgreementSums, agreement: ShellAgreement, shells: np.ndarray) -> MagnificationStep:
    """One Gauss-Newton step from the sums of a survey with derivatives."""
    assert sums.slope_cross is not None and sums.slope_power is not None and sums.slope_slope is not None
    gain, information = agreement.gain[shells], agreement.information[shells]
    misfit = sums.slope_cross - gain * sums.slope_power
    right = misfit @ information
    left = sums.slope_slope @ (information * gain)
    # a derivative that looks like a gain of its shell tells of the gain, not of the magnification
    count = len(agreement.gain)
    along = np.stack([np.bincount(shells, row, minlength=count) for row in sums.slope_power])
    power = np.maximum(np.bincount(shells, sums.power, minlength=count), np.finfo(float).tiny)
    left = left - (along * (agreement.information * agreement.gain / power)) @ along.T
    covariance = np.linalg.pinv(left, rcond=1e-10, hermitian=True)
    change = np.clip(covariance @ right, -LARGEST_STEP, LARGEST_STEP).reshape(2, 2)
    return MagnificationStep(change, covariance)


def defocus_after(
    defocus: Float[np.ndarray, " n"], astigmatism: Float[np.ndarray, "n 2"], stretch: Float[np.ndarray, "2 2"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n 2"]]:
    """Defocus and Cartesian astigmatism that give the same CTF of the recorded image once true frequencies are
    `stretch @ k` instead of k: the quadratic form Q of the defocus becomes `stretch^-T Q stretch^-1`.

    `k^T Q k = df k^2 + a1 (kx^2 - ky^2) + a2 2 kx ky`; the change of the spherical aberration's phase is left out.
    """
    along, across = astigmatism[:, 0], astigmatism[:, 1]
    form = np.stack([np.stack([defocus + along, across], -1), np.stack([across, defocus - along], -1)], -2)
    back = np.linalg.inv(stretch)
    form = back.T @ form @ back
    mean = (form[:, 0, 0] + form[:, 1, 1]) / 2
    return mean, np.stack([(form[:, 0, 0] - form[:, 1, 1]) / 2, form[:, 0, 1]], axis=-1)
