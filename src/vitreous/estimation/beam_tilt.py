"""Beam tilt of an optics group, from the odd phase between its images and a reference.

    L(t, s) = sum_k (2 g / sigma^2) Re(exp(-i phi(k)) cross(k)),
    phi(k) = -2 pi Cs lambda^2 k^2 (k . t) - 2 pi k . s

the part of the log-likelihood that depends on the phase phi that is left in `cross = sum C conj(A) X`
(`agreement_survey`). It is linear in the complex values, so that no phase is unwrapped. Beside the tilt t a shift s
common to all images is fitted: poses that were refined under a tilt have taken up part of its phase as a shift (Zivanov
et al. 2020, doi:10.1107/S2052252520000081, fit the same two).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem
from vitreous.estimation.agreement_survey import AgreementSums, shell_agreement
from vitreous.estimation.ctf_estimate import Lens
from vitreous.estimation.reference_images import ReferenceImages
from vitreous.optics.aberrations import beam_tilt_phase
from vitreous.optics.electrons import wavelength

if TYPE_CHECKING:
    from jaxtyping import Float

# Fourier radii, in parts of the largest, to which the fit proceeds: where a phase has gone round more than once, the
# finer pixels are of use only once the coarser ones have brought it near.
STAGES = (0.4, 0.55, 0.7, 0.85, 1.0)
ITERATIONS = 8  # Gauss-Newton steps of each stage; each is quadratic in the phase that is left


@dataclass(frozen=True)
class BeamTilt:
    """What was found beside what was known: `tilt` (x, y) in radian and `shift` (x, y) in angstrom, to be added.

    `covariance` [4, 4] is that of (tilt x, tilt y, shift x, shift y). `phase` [p]: the fitted odd phase in radian.
    """

    tilt: tuple[float, float]
    shift: tuple[float, float]
    covariance: Float[np.ndarray, "4 4"]
    phase: Float[np.ndarray, " p"]

    @property
    def tilt_sigma(self) -> tuple[float, float]:
        """Standard deviations of the tilt in radian."""
        x, y = np.sqrt(np.diag(self.covariance)[:2])
        return float(x), float(y)


def odd_phase_basis(images: ReferenceImages, lens: Lens) -> Float[np.ndarray, "p 4"]:
    """Phase in radian per radian of tilt x and y, and per angstrom of shift x and y, at the recorded frequencies."""
    kx, ky = images.frequencies

    def tilted(direction: tuple[float, float]) -> np.ndarray:
        wave, aberration = wavelength(lens.voltage), lens.spherical_aberration
        return beam_tilt_phase(kx, ky, direction, wavelength=wave, spherical_aberration=aberration)

    return np.stack([tilted((1.0, 0.0)), tilted((0.0, 1.0)), -2 * np.pi * kx, -2 * np.pi * ky], axis=1)


def fit_beam_tilt(sums: AgreementSums, images: ReferenceImages, basis: Float[np.ndarray, "p 4"]) -> BeamTilt:
    """The tilt and shift that explain the phase of `sums.cross`, with their covariance.

    Raises DataProblem where a lens without spherical aberration makes a tilt invisible.
    """
    if not np.abs(basis[:, :2]).max() > 0:
        raise DataProblem(
            "a beam tilt of a microscope with spherical aberration 0", "a positive Cs", "leave out --beam-tilt"
        )
    radius = np.hypot(images.grid.kx, images.grid.ky)
    scale = np.abs(basis).max(axis=0)  # so that all four are of order one radian
    unit = basis / scale
    found, information = np.zeros(4), np.eye(4)
    for stage in STAGES:
        used = radius <= max(stage * radius.max(), radius.min() + 3)
        for _ in range(ITERATIONS):
            phase = unit @ found
            agreement = shell_agreement(sums, images.shells, phase)
            per_pixel = np.where(used, agreement.information[images.shells], 0.0)
            misfit = per_pixel * (sums.cross * np.exp(-1j * phase)).imag
            curvature = per_pixel * agreement.gain[images.shells] * sums.power
            information = (unit * curvature[:, None]).T @ unit
            if not np.linalg.cond(information) < 1e12:
                break  # nothing to be seen in so few pixels
            step = np.linalg.solve(information, unit.T @ misfit)
            found = found + step
            if np.abs(step).max() < 1e-7:
                break
    covariance = np.linalg.pinv(information, hermitian=True) / np.outer(scale, scale)
    values = found / scale
    return BeamTilt(
        (float(values[0]), float(values[1])), (float(values[2]), float(values[3])), covariance, unit @ found
    )
