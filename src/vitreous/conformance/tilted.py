"""b8: tilted specimens. The slope of the defocus, and the two satellites of a grating, measured in images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, partial

import numpy as np

from vitreous.conformance.check import Check, Mistake, bar, number, quoted
from vitreous.optics import electrons, tilt, tilted_plane

TITLE = "Tilted specimens"
VOLTAGE = 300e3
PIXELS = 1024
SLOPES = {30: "577.35", 60: "1732.05"}  # angstrom of defocus per 1000 angstrom
# Displacement of a satellite of k = 1/4: in 1/angstrom, and in pixels of 1024 of 1 angstrom
SATELLITES = {30: ("3.55206e-4", "0.364"), 60: ("1.06562e-3", "1.091")}
HANN = 8192  # pixels of the line in which the peaks are found
FILLING = 8


def checks() -> Iterator[Check]:
    for angle, printed in SLOPES.items():
        inputs = f"{angle}° about +x, per 1000 Å"
        yield number(
            f"b8.slope.{angle}deg",
            "change of defocus",
            inputs,
            printed,
            "Å",
            partial(defocus_change, angle),
            mistakes=(Mistake(f"-{printed}", "the tilt has the other hand"),),
        )
    for angle, (frequency, pixels) in SATELLITES.items():
        inputs = f"{angle}°, 300 kV, k = 1/4 1/Å"
        yield number(
            f"b8.satellite.{angle}deg",
            "satellite, k +-",
            inputs,
            frequency,
            "1/Å",
            partial(satellite_shift, angle),
        )
        inputs = f"{inputs}, N = 1024, 1 Å"
        yield number(
            f"b8.satellite.{angle}deg.px",
            "satellite, k +-",
            inputs,
            pixels,
            "px",
            lambda angle=angle: PIXELS * satellite_shift(angle),
        )
        peaks = cache(partial(measured_peaks, angle))
        for side, name in ((0, "lower"), (1, "upper")):
            yield bar(
                f"b8.peak.{angle}deg.{name}",
                f"{name} peak in an image",
                f"grating k = 1/4 along the gradient, {angle}°, N = 8192, Hann window, filled 8 times: off by",
                "0.05",
                "px",
                lambda peaks=peaks, side=side: peaks()[side],
                row="b8, bar c8",
            )
    reason = "literature: Voortman et al. 2011, abstract"
    yield quoted("b8.faster", "tilted CTF against direct", "times faster", "100", "", reason)


def plane(angle: float, axis: float = tilted_plane.ALONG_X) -> tilted_plane.TiltedPlane:
    return tilted_plane.TiltedPlane(math.radians(angle), axis)


def defocus_change(angle: float) -> float:
    here, there = (plane(angle).local_defocus(0.0, y, 1e4) for y in (0.0, 1000.0))
    return float(there - here)


def lens(angle: float, axis: float, defocus: float = 1e4) -> tilt.TiltedCtf:
    return tilt.TiltedCtf(plane(angle, axis), defocus, VOLTAGE, 0.0, 0.0)


def satellite_shift(angle: float) -> float:
    """How far k = 1/4 along y is moved, in 1/angstrom, on a grid of 4 pixels of 1 angstrom along y."""
    moved = tilt.satellites((PIXELS, 2), 1.0, lens(angle, tilted_plane.ALONG_X), 1).reshape(PIXELS, 2, 2)
    return float(abs(moved[PIXELS // 4, 0, 1] - 0.25))


def measured_peaks(angle: float) -> tuple[float, float]:
    """How far the two peaks of a tilted grating lie from k -+ s, in pixels of the line's transform."""
    grating = np.cos(2 * math.pi * np.arange(HANN) / 4) * np.ones((4, 1))
    image = tilt.tilted_contrast(grating, 1.0, lens(angle, tilted_plane.ALONG_Y), by="pixel")[0]
    spectrum = np.abs(np.fft.rfft(image * np.hanning(HANN), FILLING * HANN))
    shift = 0.5 * electrons.wavelength(VOLTAGE) / 16 * math.tan(math.radians(angle)) * HANN
    middle = FILLING * HANN // 4
    lower = np.argmax(spectrum[:middle]) / FILLING
    upper = (middle + np.argmax(spectrum[middle:])) / FILLING
    return abs(float(lower) - (HANN / 4 - shift)), abs(float(upper) - (HANN / 4 + shift))
