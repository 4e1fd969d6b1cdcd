"""Detector: how a camera passes signal (MTF) and noise (NTF), and how much of the information it keeps (DQE).

    DQE(k) = DQE(0) MTF(k)^2 / NTF(k)^2

Three distinct curves, two of which are known and give the third. MTF and NTF are 1 at k = 0. The image of a specimen
is multiplied by the MTF; the spectrum of the noise by NTF^2; the DQE says what fraction of the incident electrons a
perfect detector would need for the same signal-to-noise ratio at k, and filters nothing by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from vitreous.arrays import namespace
from vitreous.detection.curve import Curve, Provenance, SquarePixel
from vitreous.errors import DataProblem, SettingsProblem

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX


class Mode(StrEnum):
    """How a detector turns electrons into numbers."""

    COUNTING = "counting"  # an electron counts as one or is missed
    INTEGRATING = "integrating"  # each electron leaves a random energy, and the energies are added up


@dataclass(frozen=True)
class Detector:
    """A camera at one voltage (volt; None where the voltage does not matter).

    Given are the MTF and DQE(0), and of the other two curves either the DQE (as its shape, value 1 at k = 0) or the NTF.
    `Detector.of_dqe` and `Detector.of_ntf` make one from curves. `binning` >= 1 is the pixel of the images over the
    detector's own, for images whose Fourier transform was cropped: frequencies are cycles per pixel of the images.
    """

    name: str
    voltage: float | None
    mode: Mode
    mtf_curve: Curve | SquarePixel
    dqe_at_zero: float
    dqe_shape: Curve | None = None
    ntf_curve: Curve | None = None
    dqe_at_zero_provenance: Provenance = Provenance.ASSUMED
    dqe_at_zero_source: str = "given by the caller"
    binning: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.dqe_at_zero <= 1:
            raise DataProblem(f"detector '{self.name}' with DQE(0) = {self.dqe_at_zero:g}", "above 0 and at most 1")
        if (self.dqe_shape is None) == (self.ntf_curve is None):
            raise DataProblem(f"detector '{self.name}' with both or neither of DQE and NTF", "exactly one of the two")
        if not self.binning >= 1:
            raise SettingsProblem(
                f"detector '{self.name}' binned by {self.binning:g}",
                "1 or more: finer than its pixel nothing was measured",
            )
        for what, curve in (("MTF", self.mtf_curve), ("NTF", self.ntf_curve), ("DQE / DQE(0)", self.dqe_shape)):
            if isinstance(curve, Curve) and abs(curve.value[0] - 1) > 1e-9:
                raise DataProblem(
                    f"detector '{self.name}' with {what} = {curve.value[0]:g} at zero frequency",
                    "1",
                    "use of_dqe, of_ntf",
                )

    @classmethod
    def of_dqe(cls, name: str, voltage: float | None, mode: Mode, mtf: Curve | SquarePixel, dqe: Curve) -> Detector:
        """A detector of which MTF and DQE are known; the NTF follows."""
        return cls(
            name,
            voltage,
            mode,
            _normalised(mtf),
            dqe.value[0],
            dqe_shape=_normalised(dqe),
            dqe_at_zero_provenance=dqe.provenance,
            dqe_at_zero_source=dqe.source,
        )

    @classmethod
    def of_ntf(
        cls,
        name: str,
        voltage: float | None,
        mode: Mode,
        mtf: Curve | SquarePixel,
        ntf: Curve,
        dqe_at_zero: float,
        *,
        provenance: Provenance = Provenance.ASSUMED,
        source: str = "given by the caller",
    ) -> Detector:
        """A detector of which MTF, NTF and DQE(0) are known; the DQE follows. The words are about DQE(0)."""
        return cls(
            name,
            voltage,
            mode,
            _normalised(mtf),
            dqe_at_zero,
            ntf_curve=_normalised(ntf),
            dqe_at_zero_provenance=provenance,
            dqe_at_zero_source=source,
        )

    def with_dqe_at_zero(self, dqe_at_zero: float, source: str = "given by the caller") -> Detector:
        """The same MTF and NTF with another DQE(0): all of the DQE is scaled."""
        return replace(
            self, dqe_at_zero=dqe_at_zero, dqe_at_zero_provenance=Provenance.QUOTED, dqe_at_zero_source=source
        )

    def with_dqe_points(self, at_zero: float, at_half_nyquist: float, at_nyquist: float, source: str) -> Detector:
        """The same MTF with a DQE through three published values, at 0, 0.25 and 0.5 cycles per pixel.

        How a maker or a paper quotes a DQE, for instance at several dose rates: the slower the beam, the fewer
        electrons are counted as one.
        """
        dqe = Curve.through(at_zero, at_half_nyquist, at_nyquist, Provenance.QUOTED, source)
        made = Detector.of_dqe(self.name, self.voltage, self.mode, self.mtf_curve, dqe)
        return replace(made, binning=self.binning)

    @property
    def gain(self) -> float:
        """Mean output per incident electron: DQE(0) where electrons are counted, 1 where their energies are added up."""
        return self.dqe_at_zero if self.mode is Mode.COUNTING else 1.0

    @property
    def is_white(self) -> bool:
        """Whether the noise of neighbouring pixels is independent: NTF = 1 throughout."""
        return self.ntf_curve is not None and set(self.ntf_curve.value) == {1.0}

    def mtf(self, kx: Float[Array, " *grid"], ky: Float[Array, " *grid"] | float = 0.0) -> Float[Array, " *grid"]:
        """Modulation transfer at (kx, ky) cycles per pixel; along one axis if ky is not given."""
        return self.mtf_curve.at(kx / self.binning, ky / self.binning)

    def ntf(self, kx: Float[Array, " *grid"], ky: Float[Array, " *grid"] | float = 0.0) -> Float[Array, " *grid"]:
        """Noise transfer: the spectrum of the noise of a flat field is NTF^2 times its value at k = 0."""
        if self.ntf_curve is not None:
            return self.ntf_curve.at(kx / self.binning, ky / self.binning)
        return self.mtf(kx, ky) / self.signal_transfer(kx, ky)

    def dqe(self, kx: Float[Array, " *grid"], ky: Float[Array, " *grid"] | float = 0.0) -> Float[Array, " *grid"]:
        """Detective quantum efficiency at (kx, ky) cycles per pixel."""
        return self.dqe_at_zero * self.signal_transfer(kx, ky) ** 2

    def signal_transfer(
        self, kx: Float[Array, " *grid"], ky: Float[Array, " *grid"] | float = 0.0
    ) -> Float[Array, " *grid"]:
        """MTF / NTF = sqrt(DQE / DQE(0)): what is left of a signal where the noise has been made white."""
        if self.dqe_shape is not None:
            shape = self.dqe_shape.at(kx / self.binning, ky / self.binning)
            return namespace(shape).sqrt(shape)
        return self.mtf(kx, ky) / self.ntf(kx, ky)

    def provenance(self) -> dict[str, tuple[Provenance, str]]:
        """How MTF, NTF, DQE and DQE(0) are known, and from where."""
        zero = (self.dqe_at_zero_provenance, self.dqe_at_zero_source)
        mtf = (self.mtf_curve.provenance, self.mtf_curve.source)
        if self.dqe_shape is not None:
            dqe = (self.dqe_shape.provenance, self.dqe_shape.source)
            ntf = (_weakest(mtf[0], dqe[0]), "from MTF and DQE")
        else:
            assert self.ntf_curve is not None
            ntf = (self.ntf_curve.provenance, self.ntf_curve.source)
            dqe = (_weakest(mtf[0], ntf[0], zero[0]), "from MTF, NTF and DQE(0)")
        return {"MTF": mtf, "NTF": ntf, "DQE": dqe, "DQE(0)": zero}


def _normalised(curve: Any) -> Any:
    """The curve divided by its value at k = 0; tables of makers begin at 0.9995 to 1.0000."""
    if isinstance(curve, SquarePixel) or curve.value[0] == 1:
        return curve
    return replace(curve, value=tuple(value / curve.value[0] for value in curve.value))


def _weakest(*provenances: Provenance) -> Provenance:
    """What a curve is that was computed from others: exact if they are, else as bad as the worst, and derived at best."""
    order = list(Provenance)
    worst = max(provenances, key=order.index)
    return worst if worst in (Provenance.EXACT, Provenance.ASSUMED, Provenance.QUOTED) else Provenance.DERIVED
