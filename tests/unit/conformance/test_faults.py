"""A fault planted in the physics makes the right numbers fail, and those it cannot touch still pass."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vitreous import constants
from vitreous.conformance.contract import contract
from vitreous.conformance.verdict import Status, run_checks
from vitreous.detection import dose
from vitreous.detection.detector import Detector
from vitreous.fourier import filters
from vitreous.optics import electrons, envelopes, imaging
from vitreous.optics.tilted_plane import TiltedPlane
from vitreous.scattering import multislice, propagation
from vitreous.specimen import scattering_factors


def failures(*sections: str, only: str = "") -> dict[str, str]:
    """Remarks of the numbers that fail, by id."""
    verdicts = run_checks(check for check in contract(sections) if check.id.startswith(only))
    assert not only or verdicts
    return {v.check.id: v.remark for v in verdicts if v.status is Status.FAIL}


def ids(section: str, start: str) -> set[str]:
    found = {check.id for check in contract([section]) if check.judged and check.id.startswith(start)}
    assert found
    return found


def test_without_a_fault_nothing_fails():
    assert failures("a", "b1", "b8", "b9", "b10", "b11", "f") == {}


@pytest.mark.parametrize(
    "short",
    [lambda v: 12.2643247 / math.sqrt(v * (1 + 0.978466e-6 * v)), lambda v: 12.2639 / math.sqrt(v + 0.97845e-6 * v**2)],
    ids=["6e-6 too long", "3e-5 too short"],
)
def test_a_short_formula_for_the_wavelength(monkeypatch, short):
    monkeypatch.setattr(electrons, "wavelength", short)
    failed = failures("b1")
    assert ids("b1", "b1.wavelength") | ids("b1", "b1.interaction-constant") <= set(failed)
    assert not ids("b1", "b1.lorentz-factor") & set(failed)


def test_a_constant_of_nature(monkeypatch):
    monkeypatch.setattr(electrons, "ELECTRON_REST_ENERGY_EV", constants.ELECTRON_REST_ENERGY_EV * (1 + 1e-6))
    assert ids("b1", "b1.lorentz-factor.300kV") <= set(failures("b1"))


def test_the_sign_of_the_propagator(monkeypatch):
    right = propagation.fresnel_propagator

    def wrong(*arguments, **options):
        return right(*arguments, **options).conj()

    monkeypatch.setattr(propagation, "fresnel_propagator", wrong)
    monkeypatch.setattr(multislice, "fresnel_propagator", wrong)
    failed = failures("a")
    assert "transmission and propagator have opposite conventions" in failed["a.focus"]
    assert {"a.refocus", "a.curvature.wave", "a.curvature.bar", "a.curvature.image"} <= set(failed)
    assert {"a.tilt.y.multislice", "a.tilt.x.multislice"} <= set(failed)
    assert not {"a.dark.df+5000", "a.tilt.y.plane", "a.ctf-at-zero.raw"} & set(failed)


def test_the_sign_of_the_wave_aberration(monkeypatch):
    right = imaging.wave_factor
    monkeypatch.setattr(imaging, "wave_factor", lambda phase: right(phase).conj())
    failed = failures("a")
    assert "chi has the wrong sign" in failed["a.dark.df+5000"]
    assert "opposite signs" in failed["a.white"]
    assert {"a.refocus", "a.dark.df+10000", "a.dark.df-10000", "a.curvature.image"} <= set(failed)
    assert "a.focus" not in failed and "a.curvature.wave" not in failed


def test_the_sign_of_defocus_in_the_spatial_envelope(monkeypatch):
    right = envelopes.delocalisation
    monkeypatch.setattr(envelopes, "delocalisation", lambda k, *, defocus, **lens: right(k, defocus=-defocus, **lens))
    failed = failures("b9", "f")
    assert set(failed) == ids("b9", "b9.spatial") | {"f.5"}
    assert "wrong sign" in failed["b9.spatial.0.498"] and "wrong sign" in failed["f.5"]


@pytest.mark.parametrize(("power", "words"), [(2, "which is that of the power"), (1, "the quarter is missing")])
def test_the_quarter_of_the_b_factor(monkeypatch, power, words):
    monkeypatch.setattr(filters, "b_factor_envelope", lambda k, b: np.exp(-b * np.asarray(k) ** 2 / power))
    failed = failures("b9")
    assert set(failed) == ids("b9", "b9.b-factor") | {"b9.displacement"}
    assert all(words in failed[id] for id in ids("b9", "b9.b-factor"))


def test_a_full_width_used_as_rms(monkeypatch):
    monkeypatch.setattr(envelopes, "FWHM_PER_SIGMA", 1.0)
    failed = failures("b9", "d", "f")
    assert "used as rms" in failed["b9.temporal.0.498"] and "used as rms" in failed["f.6"]
    assert "b9.focal-spread" in failed and "d.fwhm" in failed
    assert not ids("b9", "b9.spatial") & set(failed)


def test_the_axis_of_the_mtf(monkeypatch):
    """Tables of 0 to 0.5 cycles per pixel, read as if they ran to 1."""
    right = Detector.mtf
    monkeypatch.setattr(Detector, "mtf", lambda self, kx, ky=0.0: right(self, kx / 2, ky / 2))
    failed = failures("b10", only="b10.mtf")
    assert set(failed) == ids("b10", "b10.mtf")
    nyquist = [id for id in failed if id.endswith("nyquist")]
    assert len(nyquist) == 11 and all("read as if it ran to 1" in failed[id] for id in nyquist)


def test_the_formula_of_the_dose_filter(monkeypatch):
    def wrong(k, exposure):
        return np.exp(-(exposure - dose.FLOOR) / (dose.FACTOR * k**-dose.POWER))

    monkeypatch.setattr(dose, "exposure_weight", wrong)
    failed = failures("b11", "f")
    assert set(failed) == ids("b11", "b11.weight") | ids("f", "f.12")
    assert all("instead of exp(-N/(2 Ne))" in failed[id] for id in ("b11.weight.4A.10", "f.12.4A", "f.12.10A"))


def test_the_hand_of_the_tilt(monkeypatch):
    right = TiltedPlane.slope.fget
    assert right is not None
    monkeypatch.setattr(TiltedPlane, "slope", property(lambda self: tuple(-part for part in right(self))))
    failed = failures("a", "b8")
    for id in ("a.tilt.y.plane", "a.tilt.x.plane", "b8.slope.30deg", "b8.slope.60deg"):
        assert "the other hand" in failed[id]
    assert not {"a.tilt.y.multislice", "a.tilt.x.multislice"} & set(failed)  # what the plane has to agree with
    assert not ids("b8", "b8.satellite") & set(failed)


def test_a_table_of_scattering_factors(monkeypatch):
    right = scattering_factors.gaussians

    def shifted(element):
        amplitudes, widths = right(element)
        return (amplitudes, widths) if element.upper() != "K" else ((amplitudes[0], -1.4031, *amplitudes[2:]), widths)

    monkeypatch.setattr(scattering_factors, "gaussians", shifted)
    failed = failures("b2", "e")
    assert "the second coefficient of potassium" in failed["e.potassium"]
    assert "b2.f0.K" in failed and "e.mott-bethe.s0.25" in failed and "b2.f0.C" not in failed
