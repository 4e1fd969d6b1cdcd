"""Optics: what all images of one optics group share, and what one particle's CTF adds to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vitreous.conventions import CtfState
from vitreous.errors import DataProblem


@dataclass(frozen=True)
class OpticsGroup:
    """The microscope as one group of images saw it. Units: volt, angstrom, radian.

    `None` means that the file did not say; a job that needs the value asks for it by name.
    Zernike coefficients are RELION's: `odd_zernike` in its order of Z(1,-1) Z(1,1) Z(3,-3) Z(3,-1) Z(3,1) Z(3,3) ...,
    `even_zernike` as Z(0,0) Z(2,-2) Z(2,0) Z(2,2) Z(4,-4) ..., in radian, argument k in 1/angstrom as RELION has it.
    `magnification` is RELION's 2 x 2 matrix of anisotropic magnification (identity when absent). `wiener_snr` is the
    signal-to-noise ratio that Wiener-filtered images were filtered with.
    """

    name: str = "opticsGroup1"
    pixel_size: float | None = None
    box: int | None = None
    voltage: float | None = None
    spherical_aberration: float | None = None
    amplitude_contrast: float | None = None
    beam_tilt: tuple[float, float] = (0.0, 0.0)
    odd_zernike: tuple[float, ...] = ()
    even_zernike: tuple[float, ...] = ()
    magnification: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 0.0), (0.0, 1.0))
    ctf_state: CtfState = CtfState.RAW
    wiener_snr: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)  # columns of the file that have no field here

    def __post_init__(self) -> None:
        if self.pixel_size is not None and not self.pixel_size > 0:
            raise DataProblem(
                f"optics group '{self.name}' has pixel size {self.pixel_size} A", "a positive number of angstrom"
            )
        if self.voltage is not None and not self.voltage > 0:
            raise DataProblem(f"optics group '{self.name}' has voltage {self.voltage} V", "a positive voltage")
        if self.amplitude_contrast is not None and not -1 <= self.amplitude_contrast <= 1:
            raise DataProblem(
                f"optics group '{self.name}' has amplitude contrast {self.amplitude_contrast}", "a value in [-1, 1]"
            )

        if self.wiener_snr is not None and not 0 < self.wiener_snr < math.inf:
            raise DataProblem(
                f"optics group '{self.name}' was filtered for a signal-to-noise ratio of {self.wiener_snr}",
                "a positive number",
            )

    def require(self, *names: str) -> None:
        """Raise DataProblem naming the first of these fields that the file did not give."""
        for name in names:
            if getattr(self, name) is None:
                raise DataProblem(
                    f"optics group '{self.name}' does not give its {name.replace('_', ' ')}",
                    "a value in the optics block of the particle file",
                    "add the column, or give it as an option of the command",
                )


@dataclass(frozen=True)
class CtfParameters:
    """CTF parameters, one entry a particle. Angstrom, radian, angstrom^2.

    Defocus along the angle theta (from +x towards +y) is `(u+v)/2 + (u-v)/2 cos 2(theta - angle)`, positive for underfocus.
    """

    defocus_u: np.ndarray
    defocus_v: np.ndarray
    defocus_angle: np.ndarray
    phase_shift: np.ndarray
    b_factor: np.ndarray
    scale: np.ndarray

    @staticmethod
    def of(defocus_u, defocus_v, defocus_angle, phase_shift=None, b_factor=None, scale=None) -> CtfParameters:
        """Parameters from arrays or scalars; an absent phase shift or B factor is 0, an absent scale is 1."""
        u = np.atleast_1d(np.asarray(defocus_u, dtype=np.float64))

        def column(value: Any, default: float) -> np.ndarray:
            return np.broadcast_to(np.asarray(default if value is None else value, dtype=np.float64), u.shape)

        return CtfParameters(
            u,
            column(defocus_v, 0.0),
            column(defocus_angle, 0.0),
            column(phase_shift, 0.0),
            column(b_factor, 0.0),
            column(scale, 1.0),
        )

    def __len__(self) -> int:
        return len(self.defocus_u)

    @property
    def defocus(self) -> np.ndarray:
        """Mean defocus `(u + v) / 2`."""
        return (self.defocus_u + self.defocus_v) / 2

    @property
    def astigmatism(self) -> np.ndarray:
        """Cartesian astigmatism `(u - v)/2 * (cos 2 angle, sin 2 angle)`, shape [n, 2]: smooth through zero."""
        half = (self.defocus_u - self.defocus_v) / 2
        return np.stack([half * np.cos(2 * self.defocus_angle), half * np.sin(2 * self.defocus_angle)], axis=-1)

    def rows(self, selection: np.ndarray | slice) -> CtfParameters:
        return replace(self, **{name: getattr(self, name)[selection] for name in self.__dataclass_fields__})
