"""Correction of whole micrographs: flat and tilted are one thing, the frame keeps what the lens spreads, hands and signs matter."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from vitreous.conventions import CtfState
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import crop_real, forward, frequencies, inverse, pad_real
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.optics import micrograph_correction
from vitreous.optics.aberrations import wave_factor
from vitreous.optics.ctf import odd_phase
from vitreous.optics.micrograph_correction import MicrographLens, corrected_micrograph, frame_of
from vitreous.optics.tilt import tilted_contrast
from vitreous.optics.tilt_correction import phase_flipped, wiener_filtered
from vitreous.optics.tilted_plane import TiltedPlane

SHAPE, PIXEL_SIZE, SNR = (150, 180), 2.0, 2.0
OPTICS = OpticsGroup(pixel_size=PIXEL_SIZE, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
CTF = CtfParameters.of(9000.0, 8400.0, 0.4, phase_shift=0.3, b_factor=10.0)
FLAT = MicrographLens(OPTICS, CTF)
TILTED = replace(FLAT, plane=TiltedPlane(math.radians(50), 0.7))
STATES = (CtfState.PHASE_FLIPPED, CtfState.WIENER, CtfState.PREMULTIPLIED)


@pytest.fixture(scope="module")
def image():
    return (100 + np.random.default_rng(5).standard_normal(SHAPE)).astype(np.float32)


def corrected(image, lens, state):
    return corrected_micrograph(image, lens, state, snr=SNR if state is CtfState.WIENER else None)


def test_a_flat_micrograph_is_a_tilted_one_without_a_tilt(image):
    """Against the functions of tilted specimens, which filter in one step: single precision of images of 1 leaves 1e-6."""
    mean = image.mean(dtype=np.float64)
    frame = pad_real((image - mean).astype(np.float32), frame_of(SHAPE, FLAT), 2)
    for state, result in {
        CtfState.PHASE_FLIPPED: phase_flipped(frame, PIXEL_SIZE, FLAT.tilted),
        CtfState.WIENER: wiener_filtered(frame, PIXEL_SIZE, FLAT.tilted, snr=SNR),
    }.items():
        expected = crop_real(result, SHAPE, 2) + mean
        ours = corrected(image, FLAT, state)
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, expected, atol=2e-5)  # 100 in single precision is good to 8e-6
        assert np.abs(ours - mean + (expected - mean)).max() > 1


@pytest.mark.parametrize("state", STATES)
def test_a_tilt_that_vanishes_is_none(image, state):
    slight = corrected(image, replace(FLAT, plane=TiltedPlane(1e-6, 0.7)), state)
    flat = corrected(image, FLAT, state)
    # A tilted phase flip blurs the sign by 0.15 radian, which takes part of the noise about the zeros of the CTF.
    bar = 0.3 if state is CtfState.PHASE_FLIPPED else 3e-3
    assert np.sqrt(np.mean((slight - flat) ** 2)) < bar
    assert np.sqrt(np.mean((corrected(image, TILTED, state) - flat) ** 2)) > bar


@pytest.mark.parametrize("state", STATES)
def test_the_place_of_a_scatterer_has_its_own_defocus(state):
    """Points of a steep plane: corrected with the right hand they come back dark and sharp, with the other hand they do not."""
    objects = np.zeros(SHAPE)
    points = [(30, 30), (75, 90), (120, 150), (30, 150), (120, 30)]
    for row, column in points:
        objects[row, column] = 1.0
    raw = tilted_contrast(objects, PIXEL_SIZE, replace(TILTED.tilted, b_factor=0.0), contrast="raw").astype(np.float32)
    lens = replace(TILTED, ctf=CtfParameters.of(9000.0, 8400.0, 0.4, phase_shift=0.3))
    right = corrected(raw, lens, state)
    wrong = corrected(raw, replace(lens, plane=TiltedPlane(-TILTED.plane.tilt, TILTED.plane.axis_angle)), state)
    outer = points[3:]  # far from the axis, where the two hands differ
    assert max(right[point] for point in outer) < 1.5 * min(wrong[point] for point in outer) < 0


@pytest.mark.parametrize("lens", [FLAT, TILTED], ids=["flat", "tilted"])
def test_a_beam_tilt_is_undone(image, lens):
    tilted = replace(lens, optics=replace(OPTICS, beam_tilt=(3e-3, -2e-3)))
    frame = frame_of(SHAPE, lens)
    odd = wave_factor(odd_phase(tilted.optics, *frequencies(frame, PIXEL_SIZE)))
    box = pad_real(image - image.mean(), frame, 2)
    seen = crop_real(inverse(forward(box, 2) * odd, frame), SHAPE, 2).astype(np.float32)
    kept = corrected(seen, lens, CtfState.PREMULTIPLIED)
    undone = corrected(seen, tilted, CtfState.PREMULTIPLIED)
    expected = corrected(image, lens, CtfState.PREMULTIPLIED) - image.mean()
    middle = np.s_[40:-40, 40:-40]  # what the phase moves over the edge is lost
    assert np.sqrt(np.mean((undone - expected)[middle] ** 2)) < 0.1 * np.sqrt(np.mean((kept - expected)[middle] ** 2))


def test_what_the_lens_spreads_does_not_come_back_at_the_other_edge(monkeypatch):
    """A noisy left edge is not seen at the right one, as in a frame of three times the size. What is left is in the corners of Fourier
    space, beyond Nyquist along the axes, which is as far as the frame reckons."""
    image = np.zeros(SHAPE, dtype=np.float32)
    image[:, 0] = np.random.default_rng(2).standard_normal(SHAPE[0])
    right = np.s_[:, -20:]

    def strength(frame):
        monkeypatch.setattr(micrograph_correction, "frame_of", lambda shape, lens: frame)
        return np.sqrt(np.mean(corrected(image, FLAT, CtfState.PREMULTIPLIED)[right] ** 2))

    framed, wide, bare = (strength(frame) for frame in (frame_of(SHAPE, FLAT), (450, 540), SHAPE))
    assert wide < framed < 0.3 * bare


def test_the_mean_stays(image):
    for state in STATES:
        assert corrected(image, FLAT, state).mean() == pytest.approx(image.mean(), abs=0.01)
        assert np.array_equal(corrected(image, FLAT, state), corrected(image + 0, FLAT, state))


def test_the_range_of_the_defocus():
    low, high = TILTED.defocus_range(SHAPE)
    plane = TILTED.plane
    x, y = SHAPE[1] * PIXEL_SIZE / 2, SHAPE[0] * PIXEL_SIZE / 2
    reach = abs(plane.slope[0]) * x + abs(plane.slope[1]) * y
    assert (low, high) == pytest.approx((8700 - reach, 8700 + reach))
    assert FLAT.defocus_range(SHAPE) == (8700, 8700)


BAD = {
    "pixel size": lambda: replace(FLAT, optics=replace(OPTICS, pixel_size=None)),
    "2 CTFs": lambda: replace(FLAT, ctf=CtfParameters.of([1e4, 1e4], [1e4, 1e4], [0, 0])),
    "finite number": lambda: replace(FLAT, ctf=CtfParameters.of(np.nan, 1e4, 0)),
    "even Zernike": lambda: replace(TILTED, optics=replace(OPTICS, even_zernike=(0.1,))),
    "anisotropic": lambda: replace(TILTED, optics=replace(OPTICS, magnification=((1.01, 0.0), (0.0, 1.0)))),
    "CTF scale": lambda: replace(TILTED, ctf=CtfParameters.of(1e4, 1e4, 0, scale=0.9)),
}


@pytest.mark.parametrize("words", BAD)
def test_lenses_that_cannot_be(words):
    with pytest.raises(DataProblem, match=words):
        BAD[words]()


def test_refusals(image):
    with pytest.raises(SettingsProblem, match="signal-to-noise"):
        corrected_micrograph(image, TILTED, CtfState.WIENER)
    done = replace(FLAT, optics=replace(OPTICS, ctf_state=CtfState.PREMULTIPLIED))
    with pytest.raises(DataProblem, match="applied once"):
        corrected_micrograph(image, done, CtfState.PHASE_FLIPPED)
