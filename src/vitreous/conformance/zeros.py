"""b5: zeros of the CTF, its value at zero, where its phase turns, and the image of a weak object."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np

from vitreous.conformance.check import Check, Tolerance, bar, number
from vitreous.optics import aberrations, ctf, delocalisation, electrons, zeros
from vitreous.units import KILOVOLT, MILLIMETRE

TITLE = "CTF zeros"
# kV, Cs in mm, w, defocus in angstrom: the first six zeros in 1/angstrom
TABLE = {
    (300, 2.7, 0.07, 10000): (".0705625", ".1004929", ".1234766", ".1429071", ".1600850", ".1756738"),
    (300, 2.7, 0.10, 15000): (".0572890", ".0817318", ".1004304", ".1161921", ".1300891", ".1426675"),
    (300, 2.7, 0.10, 20000): (".0496013", ".0707456", ".0869080", ".1005210", ".1125139", ".1233601"),
    (200, 2.7, 0.10, 15000): (".0507665", ".0724382", ".0890252", ".1030141", ".1153544", ".1265295"),
    (100, 2.0, 0.10, 10000): (".0512343", ".0731880", ".0900495", ".1043204", ".1169550", ".1284392"),
    (300, 0, 0, 10000): (".0712697", ".1007906", ".1234427", ".1425394", ".1593639", ".1745744"),
}
PHASE = 1e-4  # radian, of the weak object


def checks() -> Iterator[Check]:
    for (voltage_kv, cs_mm, contrast, defocus), row in TABLE.items():
        for n, printed in enumerate(row, start=1):
            yield number(
                f"b5.zero.{voltage_kv}kV.Cs{cs_mm}.w{contrast}.df{defocus}.{n}",
                f"zero {n} of the CTF",
                f"{voltage_kv} kV, {cs_mm} mm, w {contrast}, {defocus} Å",
                printed,
                "1/Å",
                partial(zero, n, voltage_kv, cs_mm, contrast, defocus),
            )
    yield number(
        "b5.ctf-at-zero",
        "CTF(0) = w",
        "300 kV, 2.7 mm, w 0.07, 10000 Å",
        "0.07",
        "",
        ctf_at_zero,
        tolerance=Tolerance(1e-15, reason="exactly: rounding in double"),
    )
    inputs = "300 kV, Cs 2.7 mm, 10000 Å"
    yield number("b5.turning-point", "where chi turns", inputs, "0.977525", "1/Å", turning_point)
    yield bar(
        "b5.weak-phase",
        "I - (1 - 2 phi*sin(chi))",
        f"phi = {PHASE:g} cos(2 pi x/8 Å), 300 kV, Cs 2.7 mm, 10000 Å, largest",
        "4e-10",
        "",
        weak_phase_residue,
        row="b5: terms of order phi^2",
    )


def zero(n: int, voltage_kv: float, cs_mm: float, contrast: float, defocus: float) -> float:
    return float(
        zeros.ctf_zeros(
            n,
            defocus=defocus,
            voltage=voltage_kv * KILOVOLT,
            spherical_aberration=cs_mm * MILLIMETRE,
            amplitude_contrast=contrast,
        )[-1]
    )


def ctf_at_zero() -> float:
    return float(ctf.ctf(0.0, 0.0, 1e4, voltage=300e3, spherical_aberration=2.7 * MILLIMETRE, amplitude_contrast=0.07))


def turning_point() -> float:
    """Where the slope of chi crosses zero, `k = sqrt(df/(Cs lambda^2))`, on a grid so fine that the slope is straight."""
    k = np.linspace(0.9, 1.1, 2001)
    slope = delocalisation.delocalisation(k, defocus=1e4, voltage=300e3, spherical_aberration=2.7 * MILLIMETRE)
    return float(np.interp(0.0, -slope, k))


def weak_phase_residue() -> float:
    """Largest difference of the image of a phase grating from its linear image."""
    x = np.arange(64.0)
    frequency = np.fft.fftfreq(64)
    chi = aberrations.defocus_phase(
        frequency,
        0.0 * frequency,
        1e4,
        wavelength=electrons.wavelength(300e3),
        spherical_aberration=2.7 * MILLIMETRE,
    )
    phase = PHASE * np.cos(2 * math.pi * x / 8)
    wave = np.fft.ifft(np.fft.fft(np.exp(1j * phase)) * aberrations.wave_factor(chi))
    linear = 1 - 2 * np.fft.ifft(np.fft.fft(phase) * np.sin(chi)).real
    return float(np.abs(np.abs(wave) ** 2 - linear).max())
