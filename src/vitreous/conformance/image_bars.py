"""c, rows 6 to 10: bars of the CTF, of envelopes, of tilted and thick specimens and of detectors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import numpy as np

from vitreous.conformance import detector_experiment, envelopes, thick, zeros
from vitreous.conformance.check import Check, bar, quoted
from vitreous.fourier import transforms
from vitreous.optics import ctf, electrons, imaging, tilt, tilted_plane
from vitreous.optics import envelopes as coherence
from vitreous.units import MILLIMETRE, MILLIRADIAN

VOLTAGE = 300e3
CS = 2.7 * MILLIMETRE
WEIGHT = 0.1  # amplitude contrast
LENS: dict[str, Any] = {"voltage": VOLTAGE, "spherical_aberration": CS, "amplitude_contrast": WEIGHT}
DETECTORS = ("k2", "k3", "falcon3", "falcon4", "ideal")


def checks() -> Iterator[Check]:
    yield from transfer_functions()
    yield from envelope_bars()
    yield from tilted_bars()
    inputs = "1000 Å, 300 kV, against 1000 layers, largest"
    yield bar("c.9", "9: thick CTF", inputs, "1e-4", "", partial(thick.difference_from_layers, 1000), row="c9")
    yield from detector_bars()


# --- row 6: the CTF ---------------------------------------------------------------------------------------------------


def transfer_functions() -> Iterator[Check]:
    inputs = "k to 0.5 1/Å, df 15000 Å, Cs 2.7 mm, w 0.1, against its formula, largest"
    yield bar("c.6.phase", "6: CTF", inputs, "1e-10", "", phase_error, row="c6")
    yield bar("c.6.zeros", "6: zeros", "all of b5, largest difference", "1e-6", "1/Å", zero_error, row="c6")
    inputs = "P = -i exp(i chi), Q its conjugate: (P + Q)/2 - CTF, w 0, largest"
    yield bar("c.6.half-ctfs", "6: P and Q", inputs, "1e-12", "", half_ctf_error, row="c6")
    inputs = "0.5 Å/px, 5 µm, 300 kV, corners included, single against double precision"
    yield bar("c.6.float32", "6: CTF, float32", inputs, "1e-3", "", single_precision_error, row="c6")


def phase_error() -> float:
    k = np.linspace(0, 0.5, 2001)
    wave = electrons.wavelength(VOLTAGE)
    chi = math.pi * wave * 15000 * k**2 - math.pi / 2 * CS * wave**3 * k**4
    expected = math.sqrt(1 - WEIGHT**2) * np.sin(chi) + WEIGHT * np.cos(chi)
    return float(np.abs(ctf.ctf(k, 0.0 * k, 15000.0, **LENS) - expected).max())


def zero_error() -> float:
    return max(
        abs(zeros.zero(n, *settings) - float(printed))
        for settings, row in zeros.TABLE.items()
        for n, printed in enumerate(row, start=1)
    )


def half_ctf_error() -> float:
    kx, ky = transforms.frequencies((64, 64), 1.0, half=False)
    lens: dict[str, Any] = {"voltage": VOLTAGE, "spherical_aberration": CS}
    half = -1j * imaging.wave_transfer(kx, ky, 15000.0, **lens)
    return float(np.abs((half + half.conj()) / 2 - ctf.ctf(kx, ky, 15000.0, amplitude_contrast=0.0, **lens)).max())


def single_precision_error() -> float:
    kx, ky = transforms.frequencies((256, 256), 0.5)
    single = ctf.ctf(kx.astype(np.float32), ky.astype(np.float32), np.float32(5e4), **LENS)
    assert single.dtype == np.float32
    return float(np.abs(single - ctf.ctf(kx, ky, 5e4, **LENS)).max())


# --- row 7: envelopes -------------------------------------------------------------------------------------------------


def envelope_bars() -> Iterator[Check]:
    inputs = "against an average over the energies, k to 1/2 1/Å, D = 26.754 Å, largest"
    yield bar("c.7.temporal", "7: temporal envelope", inputs, "1e-3", "", temporal_error, row="c7")
    inputs = "against an average over the angles, k to 1/2 1/Å, 10000 Å, 0.1 mrad, largest"
    yield bar("c.7.spatial", "7: spatial envelope", inputs, "1e-3", "", spatial_error, row="c7")


def gaussian_average(points: int = 401) -> tuple[np.ndarray, np.ndarray]:
    """Values of a normal distribution and their weights."""
    x = np.linspace(-6, 6, points)
    weight = np.exp(-(x**2) / 2)
    return x, weight / weight.sum()


def temporal_error() -> float:
    k = np.linspace(0, 0.5, 51)
    spread = envelopes.spread(False)
    deviation, weight = gaussian_average()
    waves = imaging.wave_transfer(k, 0.0 * k, spread * deviation, voltage=VOLTAGE, spherical_aberration=0.0)
    envelope = coherence.temporal_coherence(k, focal_sigma=spread, voltage=VOLTAGE)
    return float(np.abs(weight @ waves - envelope).max())


def spatial_error() -> float:
    """Of the modulus: the average also turns the phase, by a defocus of order `Cs angle^2`. Tilts along k."""
    k = np.linspace(0, 0.5, 51)
    angle, weight = gaussian_average()
    tilts = np.stack([angle * 0.1 * MILLIRADIAN / coherence.ONE_OVER_E_PER_SIGMA, 0 * angle], axis=-1)
    lens = {"voltage": VOLTAGE, "spherical_aberration": CS}
    waves = imaging.wave_transfer(k, 0.0 * k, 1e4, beam_tilt=tilts, **lens)
    envelope = coherence.spatial_coherence(k, 1e4, one_over_e_mrad=0.1, **lens)
    return float(np.abs(np.abs(weight @ waves) - envelope).max())


# --- row 8: tilted specimens ------------------------------------------------------------------------------------------

TILTED = tilt.TiltedCtf(tilted_plane.TiltedPlane(math.radians(40), 0.9), 8000.0, VOLTAGE, CS, WEIGHT)


def tilted_bars() -> Iterator[Check]:
    for by in ("scatterer", "pixel"):
        inputs = f"15 x 15 px of 3 Å, 40° about an axis at 52°, by {by}, against the direct sum"
        yield bar(f"c.8.direct.{by}", "8: tilted CTF", inputs, "1e-6", "", partial(direct_error, by), row="c8")
        inputs = f"48 x 48 px, by {by}: <Ax, y> - <x, A*y>, relative"
        yield bar(f"c.8.adjoint.{by}", "8: adjoint", inputs, "1e-10", "", partial(adjoint_error, by), row="c8")
    reason = "a time: measured by a benchmark"
    yield quoted("c.8.speed", "8: faster than direct", "N = 1024, at least", "20", "", reason)


def direct_error(by: str) -> float:
    """The image made one point at a time, each with the CTF of its own defocus."""
    size, pixel_size = 15, 3.0
    specimen = np.random.default_rng(8).standard_normal((size, size))
    kx, ky = transforms.frequencies((size, size), pixel_size)
    along = (np.arange(size) - size // 2) * pixel_size
    defocus = TILTED.plane.local_defocus(along, along[:, None], TILTED.defocus)
    transfer = ctf.ctf(kx, ky, defocus.ravel(), **LENS)
    points = np.eye(size * size).reshape(-1, size, size)
    if by == "pixel":
        images = transforms.inverse(transforms.forward(specimen, 2) * transfer, (size, size))
        expected = (images * points).sum(axis=0)
    else:
        spread = transforms.inverse(transforms.forward(points, 2) * transfer, (size, size))
        expected = (specimen.reshape(-1, 1, 1) * spread).sum(axis=0)
    return float(np.abs(tilt.tilted_contrast(specimen, pixel_size, TILTED, by=by) - expected).max())  # type: ignore[arg-type]


def adjoint_error(by: str) -> float:
    x, y = np.random.default_rng(9).standard_normal((2, 48, 48))
    image = tilt.tilted_contrast(x, 1.1, TILTED, by=by)  # type: ignore[arg-type]
    back = tilt.tilted_contrast_adjoint(y, 1.1, TILTED, by=by)  # type: ignore[arg-type]
    return float(abs(np.sum(image * y) - np.sum(x * back)) / (np.linalg.norm(image) * np.linalg.norm(y)))


# --- row 10: detectors ------------------------------------------------------------------------------------------------


def detector_bars() -> Iterator[Check]:
    inputs = "ideal detector, 4 e/px, 512 x 512 px: variance/mean - 1, in standard errors"
    yield bar("c.10.flat", "10: flat field", inputs, "3", "", detector_experiment.flat_field_excess, row="c10")
    for name in DETECTORS:
        measured = cache(partial(detector_experiment.dqe_errors, name, VOLTAGE))
        inputs = f"{name}, 300 kV, 40 flat fields, against NTF^2, largest relative difference"
        answer = partial(lambda errors: errors()[0], measured)
        yield bar(f"c.10.noise.{name}", "10: noise spectrum", inputs, "0.02", "", answer, row="c10")
        inputs = f"{name}, 300 kV, from flat fields and an edge, largest relative difference"
        answer = partial(lambda errors: errors()[1], measured)
        yield bar(f"c.10.dqe.{name}", "10: recovered DQE", inputs, "0.02", "", answer, row="c10")
