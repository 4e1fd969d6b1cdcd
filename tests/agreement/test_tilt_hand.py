"""The hand of a tilt, by images: propagation of each scatterer from its own depth, and the rules of other programs.

Sign test 4 of physics.md. The rules of RELION, Warp and CTFFIND5 were read in their source (RELION 4 and 5, tomogram.cpp,
Tomogram::getDepthOffset and getCtf; WarpLib, TiltSeries.GetPositionInAllTilts and Matrix3.Euler; cisTEM, ctffind_tilt.cpp,
CTFTilt::ScoreValues, AnglesAndShifts::GenerateRotationMatrix2D) and are written out again here, number by number. No program
was run: which hand a data set has is found by experiment in each of them.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from vitreous.errors import DataProblem
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.optics.tilt import TiltedCtf, tilted_contrast
from vitreous.optics.tilted_plane import ALONG_X, ALONG_Y, TiltedPlane
from vitreous.reference import ctf as reference_ctf
from vitreous.reference import optics as reference_optics

SIZE, PIXEL_SIZE, DEFOCUS, VOLTAGE, CS = 192, 2.0, 8000.0, 300e3, 2.7e7
WAVE = reference_optics.wavelength(VOLTAGE)
LENS = {"voltage": VOLTAGE, "spherical_aberration": CS, "amplitude_contrast": 0.0}
KX, KY = np.meshgrid(np.fft.fftfreq(SIZE, PIXEL_SIZE), np.fft.fftfreq(SIZE, PIXEL_SIZE))
K2 = KX**2 + KY**2
INSIDE = (np.abs(KX) < 0.5 / PIXEL_SIZE) & (np.abs(KY) < 0.5 / PIXEL_SIZE)  # without the Nyquist terms
# Where scatterers are seen, in pixels from the middle of the image: no symmetry, and on pixels, so that all is exact.
PLACES = np.array([[65, 10], [-62, -25], [12, 68], [-20, -71], [0, 0]])


def delta(x, y):
    """The transform of a point at (x, y) angstrom from the middle, whose index is SIZE // 2."""
    return np.exp(-2j * math.pi * (KX * x + KY * y))


def seen_where(rotation):
    """Points (x, y, 0) of a specimen that `rotation` brings to `PLACES`, angstrom."""
    flat = np.linalg.solve(rotation[:2, :2], (PLACES * PIXEL_SIZE).T).T
    return np.column_stack([flat, np.zeros(len(flat))])


def image_of(spectrum):
    return np.fft.fftshift(np.fft.ifft2(spectrum * INSIDE))


def by_propagation(points):
    """Intensity - 1 of weak scatterers at (x, y, z), z downstream: each wave goes on from its own depth; then one lens."""
    contrast, exit_plane, strength = np.zeros((SIZE, SIZE)), 300.0, 1e-4
    chi = math.pi * WAVE * (DEFOCUS + exit_plane) * K2 - math.pi / 2 * CS * WAVE**3 * K2**2
    for x, y, z in points:
        scattered = 1j * strength * delta(x, y) * INSIDE
        at_exit = scattered * np.exp(-1j * math.pi * WAVE * (exit_plane - z) * K2)
        wave = 1 + image_of(at_exit * np.exp(1j * chi))
        contrast += (np.abs(wave) ** 2 - 1) / strength
    return contrast


def by_defoci(points, defoci):
    """The raw contrast -2 phi sin(gamma) of each scatterer at (x, y) with a defocus of its own."""
    contrast = np.zeros((SIZE, SIZE))
    for (x, y), defocus in zip(points, defoci):
        factor = np.sin(reference_ctf.chi(np.sqrt(K2), defocus, WAVE, CS))
        contrast += image_of(-2 * delta(x, y) * factor).real
    return contrast


def by_plane(plane):
    """What `tilted_contrast` makes of scatterers at the same places on this plane."""
    phase = np.zeros((SIZE, SIZE))
    phase[SIZE // 2 + PLACES[:, 1], SIZE // 2 + PLACES[:, 0]] = 1.0
    return 2 * tilted_contrast(phase, PIXEL_SIZE, TiltedCtf(plane, DEFOCUS, **LENS), contrast="raw")


def difference(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def turned(axis, angle):
    """The right-handed rotation by `angle` about the unit vector `axis` (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


SAME = 1e-5  # terms of second order in scattering of 1e-4; the fast transform is good to 1e-9
OTHER = 0.05


@pytest.mark.parametrize("axis_angle", [ALONG_X, ALONG_Y, 0.6])
def test_plus_thirty_degrees_by_propagation(axis_angle):
    angle = math.radians(30)
    rotation = turned((math.cos(axis_angle), math.sin(axis_angle), 0.0), angle)
    points = seen_where(rotation) @ rotation.T
    if axis_angle == ALONG_Y:  # the +x side moves towards the source and is less underfocused
        assert points[0, 2] / points[0, 0] == pytest.approx(-0.57735, abs=1e-5)
    if axis_angle == ALONG_X:  # the +y side is more underfocused
        assert points[2, 2] / points[2, 1] == pytest.approx(0.57735, abs=1e-5)
    image = by_propagation(points)
    assert difference(by_plane(TiltedPlane(angle, axis_angle)), image) < SAME
    assert difference(by_plane(TiltedPlane(-angle, axis_angle)), image) > OTHER
    assert difference(by_plane(TiltedPlane(0.0)), image) > OTHER
    assert image[SIZE // 2, SIZE // 2] < 0  # a scatterer in the middle is dark: the contrast has its sign, too


@pytest.mark.parametrize("hand", [1, -1])
def test_relion_hand(hand):
    """Defocus + hand * pixel size * (z of the projected position - z of the projected centre)."""
    rotation = matrix_from_euler(np.radians([20.0, 35.0, -50.0]))
    projection = np.eye(4)
    projection[:3, :3] = rotation
    projection[:3, 3] = (80.0, 80.0, 11.0)  # pixels
    centre = np.array([100.0, 90.0, 40.0])  # of the tomogram, pixels
    positions = seen_where(rotation) / PIXEL_SIZE + centre
    projected = np.array([(projection @ np.append(p, 1.0))[:3] for p in positions])
    of_centre = (projection @ np.append(centre, 1.0))[:3]
    defoci = DEFOCUS + hand * PIXEL_SIZE * (projected[:, 2] - of_centre[2])
    seen = (projected - of_centre) * PIXEL_SIZE
    image = by_defoci(seen[:, :2], defoci)
    plane = TiltedPlane.of_relion_tomogram(rotation, hand)
    assert difference(by_plane(plane), image) < SAME
    assert difference(by_plane(TiltedPlane.of_relion_tomogram(rotation, -hand)), image) > OTHER
    assert plane.relion_hand(rotation) == hand
    # Hand 1 is the physics of a specimen whose rotation is the projection, hand -1 that of its mirror image.
    depth = seen * np.array([1.0, 1.0, hand])
    assert difference(by_propagation(depth), image) < SAME
    assert difference(by_propagation(depth * np.array([1.0, 1.0, -1.0])), image) > OTHER


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(("angle_deg", "axis_deg"), [(30.0, 0.0), (-42.0, 84.0), (25.0, -130.0)])
def test_warp_angles(angle_deg, axis_deg, inverted):
    """Positions by Euler(0, angle, -axis); their z, added to the defocus, by Euler(0, -angle, -axis) if inverted."""

    def euler(angle, psi):
        cb, sb, cg, sg = math.cos(angle), math.sin(angle), math.cos(psi), math.sin(psi)
        return np.array([[cg * cb, sg, -cg * sb], [-sg * cb, cg, sg * sb], [sb, 0.0, cb]])

    angle, axis = math.radians(angle_deg), math.radians(axis_deg)
    points = seen_where(euler(angle, -axis))
    seen = points @ euler(angle, -axis).T
    if inverted:
        flipped = points * np.array([1.0, 1.0, -1.0])
        seen[:, 2] = (flipped @ euler(-angle, -axis).T)[:, 2]
    image = by_defoci(seen[:, :2], DEFOCUS + seen[:, 2])
    plane = TiltedPlane.of_warp(angle_deg, axis_deg, angles_inverted=inverted)
    assert difference(by_plane(plane), image) < SAME
    opposite = TiltedPlane.of_warp(angle_deg, axis_deg, angles_inverted=not inverted)
    assert difference(by_plane(opposite), image) > OTHER
    assert plane.warp_angles_inverted(angle_deg, axis_deg) is inverted
    assert difference(by_propagation(seen), image) < SAME


@pytest.mark.parametrize(("tilt_deg", "axis_deg"), [(30.0, 0.0), (30.0, 90.0), (41.0, 261.6), (-35.0, 25.0)])
def test_ctffind_angles(tilt_deg, axis_deg):
    """Height = y' tan(angle), y' the second coordinate after the matrix ((cos, -sin), (sin, cos)) of the axis angle."""
    c, s = math.cos(math.radians(axis_deg)), math.sin(math.radians(axis_deg))
    places = PLACES * PIXEL_SIZE
    rotated = places @ np.array([[c, -s], [s, c]]).T
    height = rotated[:, 1] * math.tan(math.radians(tilt_deg))
    image = by_defoci(places, DEFOCUS + height)
    plane = TiltedPlane.of_ctffind(tilt_deg, axis_deg)
    assert difference(by_plane(plane), image) < SAME
    assert difference(by_plane(TiltedPlane.of_ctffind(-tilt_deg, axis_deg)), image) > OTHER
    if axis_deg % 90:
        assert difference(by_plane(TiltedPlane.of_ctffind(tilt_deg, -axis_deg)), image) > OTHER
    assert difference(by_propagation(np.column_stack([places, height])), image) < SAME
    written = plane.ctffind_angles_deg()
    assert 0 <= written[0] < 90 and 0 <= written[1] < 360
    assert TiltedPlane.of_ctffind(*written).slope == pytest.approx(plane.slope, abs=1e-12)
    assert written == pytest.approx((tilt_deg, axis_deg) if tilt_deg > 0 else (-tilt_deg, axis_deg + 180))


def test_a_hand_is_not_made_up():
    rotation = matrix_from_euler(np.radians([0.0, 30.0, 0.0]))
    with pytest.raises(DataProblem, match="not tilted"):
        TiltedPlane(0.0).relion_hand(np.eye(3))
    with pytest.raises(DataProblem, match="of either hand"):
        TiltedPlane(0.3, 1.0).relion_hand(rotation)
    with pytest.raises(DataProblem, match="of either hand"):
        TiltedPlane(0.3, 1.0).warp_angles_inverted(30.0, 0.0)
