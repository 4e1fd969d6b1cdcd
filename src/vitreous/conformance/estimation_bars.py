"""c, row 11: defocus, astigmatism, tilt and thickness, as estimated from micrographs of structure without any form.

White noise is seen through the lens, layer by layer where the specimen is thick, and as much white noise is added: 2048 x 2048 pixels of 1
angstrom, 300 kV, 2.7 mm, 0.1, with fixed seeds. Error bars need many micrographs: `tests/unit/estimation` and `benchmarks/ctf` count them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np

from vitreous.conformance.check import Check, bar, quoted
from vitreous.estimation.ctf_estimate import CtfEstimate, Lens, Search
from vitreous.estimation.ctf_fit import estimate_ctf
from vitreous.fourier.transforms import forward, frequencies, inverse
from vitreous.optics import ctf, thickness, tilt
from vitreous.optics.tilted_plane import TiltedPlane
from vitreous.units import DEGREE, NANOMETRE

SIZE = 2048
LENS = Lens(300e3, 2.7e7, 0.1)
OPTICS = {"voltage": 300e3, "spherical_aberration": 2.7e7, "amplitude_contrast": 0.1}
DEFOCI = (1e4, 2e4, 3e4)
ANGLES_DEG = (-70.0, 0.0, 40.0)
ASTIGMATISM = 500.0  # u - v, angstrom
PLANE = TiltedPlane(30 * DEGREE, 65 * DEGREE)
THICKNESS = 1500.0
MANY = "needs many micrographs: held by a test and printed by benchmarks/ctf"
ROW = "c11"


def checks() -> Iterator[Check]:
    images = "noise of 2048 px, 1 Å/px, 300 kV"
    yield bar(
        "c.11.defocus",
        "11: fit, mean defocus",
        f"{images}, 1, 2 and 3 µm, worst",
        "20",
        "Å",
        defocus_error,
        row=ROW,
        needs="jax",
    )
    inputs = f"{images}, 500 Å in three directions, worst"
    yield bar(
        "c.11.astigmatism", "11: fit, astigmatism", f"{inputs} size", "20", "Å", astigmatism_error, row=ROW, needs="jax"
    )
    yield bar("c.11.angle", "11: fit, astigmatism", f"{inputs} angle", "1", "°", angle_error, row=ROW, needs="jax")
    yield bar(
        "c.11.tilt",
        "11: fit, tilt",
        f"{images}, 2 µm, 30° about 65°, normals",
        "3",
        "°",
        tilt_error,
        row=ROW,
        needs="jax",
    )
    inputs = f"{images}, 1.5 µm, 150 nm of unrelated layers"
    yield bar("c.11.thickness", "11: fit, thickness", inputs, "5", "nm", thickness_error, row=ROW, needs="jax")
    yield quoted("c.11.interval.least", "11: fit, 68 % interval", "covers at least", "60", "%", MANY)
    yield quoted("c.11.interval.largest", "11: fit, 68 % interval", "covers at most", "76", "%", MANY)


def defocus_error() -> float:
    return max(abs(astigmatic(i).defocus - DEFOCI[i]) for i in range(3))


def astigmatism_error() -> float:
    return max(abs(2 * astigmatic(i).amplitude - ASTIGMATISM) for i in range(3))


def angle_error() -> float:
    found = (astigmatic(i).defocus_angle / DEGREE for i in range(3))
    return max(abs((angle - truth + 90) % 180 - 90) for angle, truth in zip(found, ANGLES_DEG))


def tilt_error() -> float:
    """The angle between the normals of the plane found and the true one."""
    rng = np.random.default_rng(4)
    seen = tilt.TiltedCtf(PLANE, 2e4, 300e3, 2.7e7, 0.1)
    image = tilt.tilted_contrast(white(rng), 1.0, seen, contrast="raw") + white(rng)
    plane = estimate_ctf(image, 1.0, LENS, Search(tilt=True)).plane
    if plane is None:
        return math.inf
    first, second = (np.array([-p.slope[0], -p.slope[1], 1.0]) for p in (plane, PLANE))
    return math.acos(min(1.0, first @ second / np.linalg.norm(first) / np.linalg.norm(second))) / DEGREE


def thickness_error() -> float:
    rng = np.random.default_rng(5)
    kx, ky = frequencies((SIZE, SIZE), 1.0)
    power = thickness.thick_power(kx, ky, 1.5e4, thickness=THICKNESS, **OPTICS)
    estimate = estimate_ctf(filtered(rng, np.sqrt(2 * power)) + white(rng), 1.0, LENS)
    return math.inf if estimate.thickness is None else abs(estimate.thickness - THICKNESS) / NANOMETRE


@cache
def astigmatic(number: int) -> CtfEstimate:
    """The estimate of the micrograph of this number."""
    rng = np.random.default_rng(number)
    kx, ky = frequencies((SIZE, SIZE), 1.0)
    turn = 2 * ANGLES_DEG[number] * DEGREE
    components = ASTIGMATISM / 2 * np.array([math.cos(turn), math.sin(turn)])
    transfer = ctf.ctf(kx, ky, DEFOCI[number], components, contrast="raw", **OPTICS)
    return estimate_ctf(filtered(rng, transfer) + white(rng), 1.0, LENS)


def white(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((SIZE, SIZE), dtype=np.float32)


def filtered(rng: np.random.Generator, transfer: np.ndarray) -> np.ndarray:
    return inverse(forward(white(rng), 2) * transfer.astype(np.float32), (SIZE, SIZE))
