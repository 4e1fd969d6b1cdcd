"""What follows from the wavelength alone: depth of field, defocus tolerance, curvature of the Ewald sphere.

Each criterion is named: a depth of field without its criterion can differ by more than a factor of two.
`resolution` is d in angstrom, `voltage` in volts.
"""

from __future__ import annotations

import math

from vitreous.errors import SettingsProblem
from vitreous.optics.electrons import wavelength


def depth_of_field(resolution: float, voltage: float) -> float:
    """Thickness in angstrom of a specimen whose faces are a quarter turn (pi/2) out of phase with its middle.

    `d^2 / lambda`. At 300 kV: 203 A at d = 2 A, 813 A at 4 A. DeRosier 2000, doi:10.1016/S0304-3991(99)00120-5,
    discusses this criterion and others.
    """
    return resolution**2 / wavelength(voltage)


def defocus_error_of_phase(phase: float, resolution: float, voltage: float) -> float:
    """Defocus error in angstrom that turns the phase of the CTF at d by `phase` radian: `phase d^2 / (pi lambda)`."""
    return phase * resolution**2 / (math.pi * wavelength(voltage))


def defocus_error_of_loss(loss: float, resolution: float, voltage: float) -> float:
    """Defocus error e in angstrom at which a fraction `loss` of the signal at d is lost.

    `cos(pi lambda e / d^2) = 1 - loss`. This is what "accurate enough" means for a CTF fit: 10 % at 3 A and 300 kV is
    65.6 A.
    """
    if not 0 < loss <= 1:
        raise SettingsProblem(f"a loss of {loss}", "a fraction above 0 and up to 1")
    return defocus_error_of_phase(math.acos(1 - loss), resolution, voltage)


def ewald_sagitta(resolution: float, voltage: float) -> float:
    """Distance in 1/angstrom between the Ewald sphere and the central plane at k = 1/d.

    `1/lambda - sqrt(1/lambda^2 - k^2)`. The parabola `lambda k^2 / 2` of the image formulas agrees to 3e-5 at 300 kV
    and 2 A.
    """
    wave = wavelength(voltage)
    if resolution < wave:
        raise SettingsProblem(f"a resolution of {resolution} A", f"one not below the wavelength, {wave:.4f} A")
    k2 = 1 / resolution**2
    # k^2 / (1/lambda + sqrt(1/lambda^2 - k^2)): the same number without the difference of two large ones
    return k2 / (1 / wave + math.sqrt(1 / wave**2 - k2))
