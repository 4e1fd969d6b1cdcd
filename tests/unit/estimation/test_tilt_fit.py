"""The tilt of a specimen, with its hand and its error bars."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.unit.estimation.ring_images import LENS, ring_image

from vitreous.errors import DataProblem
from vitreous.estimation.ctf_estimate import Search
from vitreous.estimation.ctf_fit import estimate_ctf
from vitreous.optics.tilt import TiltedCtf, tilted_contrast
from vitreous.optics.tilted_plane import TiltedPlane

SIZE, PIXEL_SIZE, DEFOCUS = 1024, 2.0, 20000.0
TILT = Search(tilt=True)


def tilted_image(plane: TiltedPlane, seed: int, astigmatism: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """White noise imaged by its scatterers, each at its own defocus, and as much white noise."""
    rng = np.random.default_rng(seed)
    lens = TiltedCtf(
        plane, DEFOCUS, LENS.voltage, LENS.spherical_aberration, LENS.amplitude_contrast, astigmatism=astigmatism
    )
    structure, noise = rng.standard_normal((2, SIZE, SIZE), dtype=np.float32)
    return tilted_contrast(structure, PIXEL_SIZE, lens, contrast="raw") + noise


@pytest.mark.slow
@pytest.mark.parametrize(("tilt_deg", "axis_deg"), [(20, 90), (35, 0), (-30, 55), (55, 130)])
def test_tilt_and_axis_are_found_with_their_hand(tilt_deg, axis_deg):
    plane = TiltedPlane(math.radians(tilt_deg), math.radians(axis_deg))
    estimate = estimate_ctf(tilted_image(plane, 1, (80.0, -50.0)), PIXEL_SIZE, LENS, TILT)
    assert estimate.found and estimate.slope is not None
    for found, truth, name in zip(estimate.slope, plane.slope, ("slope_x", "slope_y")):
        sigma = estimate.sigma(name)
        # five standard deviations, and what the contract asks: 3 degrees
        assert sigma is not None and abs(found - truth) < 5 * sigma < math.radians(3) / math.cos(plane.tilt) ** 2
    assert estimate.plane is not None
    assert abs(estimate.defocus - DEFOCUS) < 5 * (estimate.sigma("defocus") or 0)
    mirrored = TiltedPlane(-plane.tilt, plane.axis_angle)  # the other hand
    distance = math.dist(estimate.slope, plane.slope)
    assert math.dist(estimate.slope, mirrored.slope) > 20 * distance


def test_a_flat_specimen_has_no_slope():
    estimate = estimate_ctf(ring_image(3, DEFOCUS, size=SIZE, pixel_size=PIXEL_SIZE), PIXEL_SIZE, LENS, TILT)
    assert estimate.slope is not None
    for found, name in zip(estimate.slope, ("slope_x", "slope_y")):
        assert abs(found) < 5 * (estimate.sigma(name) or 0) < math.tan(math.radians(3))


def test_no_tilt_is_found_where_it_was_not_asked_for():
    estimate = estimate_ctf(ring_image(3, DEFOCUS, size=512), 1.5, LENS)
    assert estimate.slope is None and estimate.plane is None and estimate.sigma("slope_x") is None


def test_an_image_too_small_for_tiles_is_refused():
    with pytest.raises(DataProblem, match="2 x 2 tiles"):
        estimate_ctf(ring_image(3, DEFOCUS, size=512), 1.5, LENS, TILT)


def test_noise_has_no_tilt_and_no_ctf():
    noise = np.random.default_rng(5).normal(size=(SIZE, SIZE)).astype(np.float32)
    assert not estimate_ctf(noise, PIXEL_SIZE, LENS, TILT).found
