"""Microscope: what the lens does to one image, or to each of many at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vitreous.errors import DataProblem, SettingsProblem


@dataclass(frozen=True)
class Microscope:
    """Settings of the column for one image. Units: volt, angstrom, radian, 1/angstrom.

    `defocus` is referred to z = 0, positive for underfocus; `astigmatism` = (u-v)/2 (cos 2 angle, sin 2 angle).
    `amplitude_contrast` w is for specimens whose absorption is not computed. `phase_shift` is that of a phase plate,
    which leaves k <= `phase_plate_cut_on` as it is. `aperture` is the largest k that passes, None for no aperture, with
    an edge `aperture_edge` wide. `beam_tilt` is the whole effect of a tilted illumination: displacement, coma, and a
    little defocus and astigmatism; `coma_tilt` its coma alone, which is what RELION's rlnBeamTilt says of images whose
    shift and defocus were measured. Partial coherence: `one_over_e_mrad` the 1/e half-angle of the source in
    milliradian, `focal_sigma` the rms spread of the defocus in angstrom (`envelopes.focal_spread`). `b_factor` damps
    amplitudes. `even_zernike` and `odd_zernike` are RELION's coefficients in radian.

    Fields that are numbers may be JAX arrays or tracers: differentiate a function that sets them by
    `dataclasses.replace`. Voltage, aperture, cut-on and coherence are plain numbers.
    """

    voltage: float
    spherical_aberration: Any
    defocus: Any
    astigmatism: Any = (0.0, 0.0)
    amplitude_contrast: Any = 0.0
    phase_shift: Any = 0.0
    phase_plate_cut_on: float = 0.0
    aperture: float | None = None
    aperture_edge: float = 0.0
    beam_tilt: Any = (0.0, 0.0)
    coma_tilt: Any = (0.0, 0.0)
    one_over_e_mrad: float = 0.0
    focal_sigma: float = 0.0
    b_factor: Any = 0.0
    even_zernike: tuple[float, ...] = ()
    odd_zernike: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.voltage > 0:
            raise DataProblem(f"a microscope of {self.voltage} V", "a positive voltage in volts, for example 300e3")
        for name in ("one_over_e_mrad", "focal_sigma", "phase_plate_cut_on", "aperture_edge"):
            if not getattr(self, name) >= 0:
                raise SettingsProblem(f"{name} of {getattr(self, name)}", "a number of 0 or more")
        if self.aperture is not None and not self.aperture > 0:
            raise SettingsProblem(f"an objective aperture that ends at {self.aperture} 1/A", "a positive frequency")
        loss = self.amplitude_contrast
        if isinstance(loss, int | float) and not -1 <= loss <= 1:
            raise DataProblem(f"a microscope with amplitude contrast {loss}", "a value in [-1, 1]")

    def at_height(self, height: Any) -> Microscope:
        """The same microscope as a plane at z = `height` sees it: nearer the detector is more underfocus."""
        return replace(self, defocus=self.defocus + height)
