"""CtfEstimate: what was found of a micrograph's CTF, how sure it is, and the evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.estimation.spectrum import Spectrum
from vitreous.model.optics import CtfParameters
from vitreous.optics.tilted_plane import TiltedPlane

if TYPE_CHECKING:
    from jaxtyping import Float

# The parameters that may be fitted, in this order; an estimate names those that were.
PARAMETERS = ("defocus", "astigmatism_along", "astigmatism_across", "phase_shift", "slope_x", "slope_y", "thickness")


@dataclass(frozen=True)
class Lens:
    """What is known of the microscope beforehand: voltage in volt, spherical aberration in angstrom, amplitude contrast."""

    voltage: float
    spherical_aberration: float
    amplitude_contrast: float


@dataclass(frozen=True)
class Search:
    """What is looked for. Ranges (smallest, largest) in angstrom and radian; `resolution` (coarsest, finest) in angstrom.

    `finest = None` takes what the sampling allows, but nothing finer than 3 angstrom. `phase_shift` None means that there is no phase
    plate. `tilt` is estimated only if asked for. A `thickness` in the range is fitted where rings are seen beyond a node, which a thin specimen
    does not have; None takes every specimen for thin.
    """

    defocus: tuple[float, float] = (2000.0, 80000.0)
    resolution: tuple[float, float | None] = (30.0, None)
    astigmatism: float = 3000.0  # largest |u - v| / 2
    phase_shift: tuple[float, float] | None = None
    tilt: bool = False
    largest_tilt: float = math.radians(70)
    thickness: tuple[float, float] | None = (100.0, 5000.0)


@dataclass(frozen=True)
class Alternative:
    """Another defocus that the coarse search found: the mean defocus in angstrom, and its score beside the best one's."""

    defocus: float
    score: float


@dataclass(frozen=True)
class RingProfile:
    """The spectrum along its rings, for curves: arrays [s] over `frequency` in 1/angstrom.

    Averages are equi-phase: over pixels of equal phase gamma, plotted at the frequency where a lens without astigmatism has that phase.
    `power` is the spectrum, `background` its smooth mean T, `rings` what is left of it, power / T - 1, `model` the fitted
    -m cos(2 gamma), `depth` the fitted m, `agreement` the correlation of rings and -cos(2 gamma) over about two rings, and `count`
    the number of samples.
    """

    frequency: Float[np.ndarray, " s"]
    power: Float[np.ndarray, " s"]
    background: Float[np.ndarray, " s"]
    rings: Float[np.ndarray, " s"]
    model: Float[np.ndarray, " s"]
    depth: Float[np.ndarray, " s"]
    agreement: Float[np.ndarray, " s"]
    count: Float[np.ndarray, " s"]


@dataclass(frozen=True)
class CtfEstimate:
    """The CTF of a micrograph in its middle. Angstrom, radian; sigmas are standard deviations (68 % intervals are +- 1).

    `names` says which parameters were fitted, `covariance` [p, p] is theirs in that order. `found` is False if no Thon rings are
    there: the numbers are then those of the least bad fit and mean nothing; `evidence` says why in one sentence. `score`
    is the correlation (0 to 1) of rings and model between the coarsest resolution and that of the fit, `significance` the coarse search's best score in
    standard deviations of noise. `fit_resolution` in angstrom: as far as rings and model agree. `ice_ring`: how far the spectrum stands
    above its surroundings near 3.7 angstrom, in parts of them; None where the spectrum ends before.
    """

    lens: Lens
    defocus: float
    astigmatism: tuple[float, float]
    phase_shift: float
    b_factor: float
    b_factor_sigma: float
    names: tuple[str, ...]
    covariance: Float[np.ndarray, "p p"]
    found: bool
    evidence: str
    score: float
    significance: float
    fit_resolution: float
    ice_ring: float | None
    alternatives: tuple[Alternative, ...]
    profile: RingProfile
    spectrum: Spectrum
    slope: tuple[float, float] | None = None  # change of defocus per angstrom along x and y in the image
    thickness: float | None = None

    @property
    def amplitude(self) -> float:
        """Half the astigmatism, (u - v) / 2 >= 0, in angstrom."""
        return math.hypot(*self.astigmatism)

    @property
    def defocus_u(self) -> float:
        return self.defocus + self.amplitude

    @property
    def defocus_v(self) -> float:
        return self.defocus - self.amplitude

    @property
    def defocus_angle(self) -> float:
        """Direction of u in radian from +x towards +y, in (-pi/2, pi/2]."""
        return math.atan2(self.astigmatism[1], self.astigmatism[0]) / 2

    @property
    def plane(self) -> TiltedPlane | None:
        return None if self.slope is None else TiltedPlane.of_slope(*self.slope)

    @property
    def parameters(self) -> CtfParameters:
        """The CTF as a set of one."""
        return CtfParameters.of(
            self.defocus_u, self.defocus_v, self.defocus_angle, phase_shift=self.phase_shift, b_factor=self.b_factor
        )

    def sigma(self, name: str) -> float | None:
        """Standard deviation of a fitted parameter; None of one that was not fitted."""
        if name not in self.names:
            return None
        row = self.names.index(name)
        return math.sqrt(max(self.covariance[row, row], 0.0))
