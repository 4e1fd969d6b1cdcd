"""a: the sign contract. Five experiments whose outcome turns with a wrong sign, and the values of the CTF at zero.

The specimens are those that the contract describes. Waves are not limited to a band, as there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, partial

import numpy as np

from vitreous.conformance import tilt_experiment
from vitreous.conformance.check import Check, Mistake, Tolerance, bar, number
from vitreous.fourier import transforms
from vitreous.model.slices import ExitWave, PotentialSlices
from vitreous.optics import ctf, electrons, imaging
from vitreous.scattering import ladder, propagation
from vitreous.units import MILLIMETRE

TITLE = "The sign contract"
VOLTAGE = 300e3
CS = 2.7 * MILLIMETRE
DARK = (
    ("+5000", "0.996320", (Mistake("1.003686", "chi has the wrong sign for exp(+i chi)"),)),
    ("+10000", "0.998119", ()),
    ("-10000", "1.001971", ()),
)


def checks() -> Iterator[Check]:
    yield number(
        "a.focus",
        "1: intensity behind an atom",
        "Gaussian of 20 V Å, rms 1.5 Å in slice 2 of 40, 1 Å each, 64 x 64 px of 1 Å, 300 kV: centre",
        "1.001379",
        "",
        intensity_behind_atom,
        mistakes=(Mistake("0.998624", "transmission and propagator have opposite conventions"),),
    )
    yield bar(
        "a.refocus",
        "2: propagate and refocus",
        "P(dz) exp(+i chi) - 1, df = dz = 1000 Å, Cs 0, 64 x 64 px of 1 Å, largest",
        "1e-12",
        "",
        refocusing_error,
        row="a, test 2",
    )
    for defocus, printed, mistakes in DARK:
        yield number(
            f"a.dark.df{defocus}",
            "3: image of an atom",
            f"the Gaussian of test 1, one slice, df {defocus} Å, Cs 2.7 mm: centre",
            printed,
            "",
            partial(lambda df: float(image_of_atom(df)[32, 32]), float(defocus)),
            mistakes=mistakes,
        )
    yield number(
        "a.white",
        "3: inverted image",
        "correlation of 1 - I with Vz filtered by +sin(gamma), df +5000 Å",
        "1",
        "",
        inverted_correlation,
        tolerance=Tolerance(0.01, reason="a, test 3: positive, and 1 for a weak object"),
        mistakes=(Mistake("-1.0", "the image and the CTF have opposite signs"),),
    )
    yield from tilts()
    yield from curvature()
    yield from values_at_zero()


def tilts() -> Iterator[Check]:
    """Test 4: which side of a tilted specimen is less underfocused, measured in images."""
    hand = "the tilt has the other hand"
    scattered = ("multislice", "weak atoms turned, multislice", tilt_experiment.scattered_slope)
    plane = ("plane", "image of a tilted plane", tilt_experiment.plane_slope)
    for axis, printed, other in (("y", "-0.57735", "0.57735"), ("x", "0.57735", "-0.57735")):
        for (name, words, experiment), cause in (
            (scattered, f"{hand}, or the propagator the other sign"),
            (plane, hand),
        ):
            yield number(
                f"a.tilt.{axis}.{name}",
                "4: defocus slope",
                f"{words}, +30° about +{axis}, Å per Å",
                printed,
                "",
                partial(experiment, axis),
                mistakes=(Mistake(other, cause),),
            )
    for name, words, experiment in (
        ("relion", "RELION's hand", tilt_experiment.relion_slope),
        ("warp", "Warp's inverted angles", tilt_experiment.warp_slope),
        ("ctffind", "CTFFIND's angle and axis", tilt_experiment.ctffind_slope),
    ):
        yield number(
            f"a.tilt.y.{name}",
            "4: defocus slope",
            f"image of a plane that went through {words}, +30° about +y, Å per Å",
            "-0.57735",
            "",
            experiment,
            mistakes=(Mistake("0.57735", hand),),
        )


def curvature() -> Iterator[Check]:
    """Test 5: on which side of the plane the Ewald sphere lies."""
    experiment = cache(curvature_experiment)  # one experiment for all of its numbers
    inputs = (
        "Gaussians of rms 1.5 Å in 32 x 64 x 64 px of 1 Å: 2e-3 V at (z, y, x) = (6, 30, 28), 1e-3 V at (22, 34, 40); "
        "300 kV, multislice: scattered wave against F(k, -lambda k^2/2), relative"
    )
    same = "specimen of a.curvature.wave: "
    what, wrong = "5: curvature side", (Mistake("2.2e-2", "the curvature is on the other side"),)
    wave = partial(lambda errors: errors()[0], experiment)
    yield number("a.curvature.wave", what, inputs, "1.6e-6", "", wave, mistakes=wrong)
    yield bar("a.curvature.bar", what, f"{same}the same", "1e-5", "", wave, row="a, test 5", mistakes=wrong)
    inputs = f"{same}scattered wave against F(k, +lambda k^2/2)"
    yield number("a.curvature.other-side", "5: the other side", inputs, "2.2e-2", "", lambda: experiment()[1])
    inputs = f"{same}df 6000 Å, Cs 0: I against the formula of the image, of its largest value"
    yield number("a.curvature.image", "5: image with curvature", inputs, "1.2e-6", "", lambda: experiment()[2])


def values_at_zero() -> Iterator[Check]:
    for contrast, printed in (("inverted", "0.07"), ("raw", "-0.07")):
        yield number(
            f"a.ctf-at-zero.{contrast}",
            f"CTF(0), {contrast} contrast",
            "300 kV, 2.7 mm, w 0.07, 10000 Å",
            printed,
            "",
            partial(ctf_at_zero, contrast),
            tolerance=Tolerance(1e-15, reason="exactly: rounding in double"),
            mistakes=(Mistake(f"{-float(printed)}", "the CTF has the sign of the other contrast"),),
        )


def atom(size: int = 64) -> np.ndarray:
    """Vz in V A of the Gaussian atom of the tests, in the middle."""
    x = np.arange(size) - size // 2.0
    return 20 * np.exp(-(x[:, None] ** 2 + x**2) / (2 * 1.5**2))


def intensity_behind_atom() -> float:
    projected = np.zeros((40, 64, 64))
    projected[2] = atom()
    wave = ladder.exit_wave(PotentialSlices(projected, 1.0, 1.0, 0.0), VOLTAGE, "multislice", band_limit=None)
    return float(imaging.image_of_wave(wave.wave)[32, 32])


def refocusing_error() -> float:
    kx, ky = transforms.frequencies((64, 64), 1.0, half=False)
    back = imaging.wave_transfer(kx, ky, 1000.0, voltage=VOLTAGE, spherical_aberration=0.0)
    return float(np.abs(propagation.fresnel_propagator((64, 64), 1.0, 1000.0, VOLTAGE) * back - 1).max())


def image_of_atom(defocus: float) -> np.ndarray:
    slices = PotentialSlices(atom()[None], 1.0, 1.0, 0.0)
    wave = ladder.exit_wave(slices, VOLTAGE, "phase_object", band_limit=None)
    return image(wave, defocus, CS)


def image(wave: ExitWave, defocus: float, spherical_aberration: float) -> np.ndarray:
    """The coherent image under a defocus that is referred to z = 0."""
    kx, ky = transforms.frequencies(wave.wave.shape, wave.pixel_size, half=False)
    transfer = imaging.wave_transfer(
        kx, ky, defocus + wave.height, voltage=VOLTAGE, spherical_aberration=spherical_aberration
    )
    return imaging.image_of_wave(wave.wave, transfer)


def inverted_correlation() -> float:
    kx, ky = transforms.frequencies((64, 64), 1.0)
    values = ctf.ctf(kx, ky, 5000.0, voltage=VOLTAGE, spherical_aberration=CS, amplitude_contrast=0.0)
    filtered = transforms.inverse(transforms.forward(atom(), 2) * values, (64, 64))
    return float(np.corrcoef((1 - image_of_atom(5000.0)).ravel(), filtered.ravel())[0, 1])


def curvature_experiment() -> tuple[float, float, float]:
    """Relative error of the scattered wave against the parabola and against its mirror image, and that of the image formula."""
    slices = two_blobs()
    wave = ladder.exit_wave(slices, VOLTAGE, "multislice", band_limit=None)
    kx, ky = transforms.frequencies((64, 64), 1.0, half=False)
    scattered = np.fft.fft2(wave.wave - 1)
    sigma = electrons.interaction_constant(VOLTAGE)
    flight = propagation.fresnel_propagator((64, 64), 1.0, wave.height, VOLTAGE)
    half = electrons.wavelength(VOLTAGE) / 2
    below, above = (transform_at(slices, curvature) for curvature in (-half, half))
    inside = (kx**2 + ky**2) > 0
    errors = [
        float(np.linalg.norm((scattered - 1j * sigma * flight * side)[inside]) / np.linalg.norm(scattered[inside]))
        for side in (below, above)
    ]
    transfer = imaging.wave_transfer(kx, ky, 6000.0, voltage=VOLTAGE, spherical_aberration=0.0)
    formula = 1j * sigma * (transfer * below - transfer.conj() * above)
    expected = np.fft.ifft2(formula).real
    difference = np.abs(image(wave, 6000.0, 0.0) - 1 - expected).max() / np.abs(expected).max()
    return errors[0], errors[1], float(difference)


def two_blobs() -> PotentialSlices:
    """The two Gaussian blobs of test 5, slice j at z = j."""
    z, y, x = np.ogrid[:32, :64, :64]
    projected = sum(
        volts * np.exp(-((z - z0) ** 2 + (y - y0) ** 2 + (x - x0) ** 2) / (2 * 1.5**2))
        for z0, y0, x0, volts in ((6, 30, 28, 2e-3), (22, 34, 40, 1e-3))
    )
    return PotentialSlices(projected, 1.0, 1.0, 0.0)


def transform_at(slices: PotentialSlices, curvature: float) -> np.ndarray:
    """F(kx, ky, kz = `curvature` k^2), the transform of the potential on a parabola, by its definition."""
    kx, ky = transforms.frequencies(slices.projected.shape[-2:], slices.pixel_size, half=False)
    height = slices.height + slices.thickness * np.arange(len(slices))
    turns = curvature * (kx**2 + ky**2) * height[:, None, None]
    return (np.fft.fft2(slices.projected) * np.exp(-2j * math.pi * turns)).sum(axis=0)


def ctf_at_zero(contrast: str) -> float:
    return float(
        ctf.ctf(0.0, 0.0, 1e4, voltage=VOLTAGE, spherical_aberration=CS, amplitude_contrast=0.07, contrast=contrast)
    )
