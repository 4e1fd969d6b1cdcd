"""Tilted specimens: definition, adjoint, satellites, hand, precision, batches, bad input."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import forward, frequencies, inverse
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.optics.ctf import ctf
from vitreous.optics.electrons import wavelength
from vitreous.optics.tilt import TiltedCtf, constant_defocus_phase, tilted_contrast, tilted_contrast_adjoint
from vitreous.optics.tilted_plane import ALONG_X, ALONG_Y, TiltedPlane
from vitreous.reference import ctf as reference_ctf
from vitreous.reference import optics as reference_optics
from vitreous.reference import tilt as reference

LENS = {"voltage": 300e3, "spherical_aberration": 2.7e7, "amplitude_contrast": 0.1}
SHAPES = [(20, 24), (21, 18), (15, 17)]
TILT = math.radians(37)


def reference_phase(shape, pixel_size, astigmatism=(0.0, 0.0), phase_shift=0.0, voltage=300e3):
    """gamma of the definition for a defocus: u, v and angle from the Cartesian astigmatism."""
    ky, kx = np.fft.fftfreq(shape[0], pixel_size)[:, None], np.fft.fftfreq(shape[1], pixel_size)[None, :]
    k, theta, half = np.hypot(kx, ky), np.arctan2(ky, kx), math.hypot(*astigmatism)
    angle = math.atan2(astigmatism[1], astigmatism[0]) / 2
    wave = reference_optics.wavelength(voltage)

    def phase(defocus):
        along = reference_ctf.defocus_along(theta, defocus + half, defocus - half, angle)
        return reference_ctf.chi(k, along, wave, 2.7e7) + phase_shift + np.arcsin(0.1)

    return phase


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axis", [ALONG_X, ALONG_Y, 0.7, -2.4])
@pytest.mark.parametrize("by", ["pixel", "scatterer"])
def test_is_the_sum_over_every_pixel(shape, axis, by, rng):
    specimen, pixel_size, defocus = rng.standard_normal(shape), 1.3, 6000.0
    lens = TiltedCtf(TiltedPlane(TILT, axis), defocus, **LENS, astigmatism=(250.0, -180.0), phase_shift=0.4)
    fast = tilted_contrast(specimen, pixel_size, lens, by=by)
    local = reference.local_defocus(
        *reference.positions(shape, pixel_size), defocus, TILT, (math.cos(axis), math.sin(axis))
    )
    definition = reference.filtered_by_pixel if by == "pixel" else reference.imaged_by_scatterer
    phase = reference_phase(shape, pixel_size, (250.0, -180.0), 0.4)
    expected = definition(specimen, local, phase)
    # The bar of physics.md (c) 8 is 1e-6; the tolerance of the transform is 1e-10.
    np.testing.assert_allclose(fast, expected, atol=1e-8)
    single = tilted_contrast(specimen.astype(np.float32), pixel_size, lens, by=by)
    assert single.dtype == np.float32
    assert np.abs(single - expected).max() < 1e-4 * np.abs(expected).max()  # the production bar
    wrong = definition(specimen, 2 * defocus - local, phase)  # the other hand
    assert np.abs(fast - wrong).max() > 0.01 * np.abs(expected).max()


@pytest.mark.parametrize("shape", [*SHAPES, (64, 48)])
@pytest.mark.parametrize("by", ["pixel", "scatterer"])
@pytest.mark.parametrize(("dtype", "bar"), [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_adjoint(shape, by, dtype, bar, rng):
    x, y = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    envelope = rng.uniform(0.5, 1, (shape[0], shape[1] // 2 + 1))
    columns = envelope[:, [0, -1]] if shape[1] % 2 == 0 else envelope[:, [0]]
    envelope[:, [0, -1] if shape[1] % 2 == 0 else [0]] = (columns + columns[-np.arange(shape[0])]) / 2
    lens = TiltedCtf(TiltedPlane(TILT, 0.9), 8000.0, **LENS, astigmatism=(100.0, 50.0), b_factor=20.0)
    forward_image = tilted_contrast(x, 1.1, lens, by=by, contrast="raw", envelope=envelope).astype(np.float64)
    back = tilted_contrast_adjoint(y, 1.1, lens, by=by, contrast="raw", envelope=envelope).astype(np.float64)
    scale = np.linalg.norm(forward_image) * np.linalg.norm(y.astype(np.float64))
    assert abs(np.sum(forward_image * y) - np.sum(x * back)) < bar * scale
    same = tilted_contrast(y, 1.1, lens, by=by, contrast="raw", envelope=envelope).astype(np.float64)
    assert abs(np.sum(forward_image * y) - np.sum(x * same)) > 2 * bar * scale  # it is not its own adjoint


@pytest.mark.parametrize("tilt_deg", [30, 60])
@pytest.mark.parametrize("axis", [ALONG_X, ALONG_Y])
@pytest.mark.parametrize("by", ["pixel", "scatterer"])
def test_satellites_of_a_grating(tilt_deg, axis, by):
    """Table b8: a grating of frequency k along the gradient becomes two, at k +- (1/2) lambda k^2 tan(theta)."""
    size, rows, zeros = 8192, 3, 8
    k = round(size / 4) / size
    grating = np.cos(2 * math.pi * k * (np.arange(size) - size // 2)) * np.hanning(size)
    specimen = np.tile(grating, (rows, 1))
    specimen = specimen if axis == ALONG_Y else specimen.T.copy()
    lens = TiltedCtf(TiltedPlane(math.radians(tilt_deg), axis), 10000.0, **LENS)
    image = tilted_contrast(specimen, 1.0, lens, by=by)
    line = image[1] if axis == ALONG_Y else image[:, 1]
    spectrum = np.abs(np.fft.rfft(line, zeros * size))
    shift = 0.5 * wavelength(300e3) * k**2 * math.tan(math.radians(tilt_deg))
    assert shift == pytest.approx({30: 3.55206e-4, 60: 1.06562e-3}[tilt_deg], rel=1e-5)
    assert shift * 1024 == pytest.approx({30: 0.364, 60: 1.091}[tilt_deg], abs=5e-4)
    middle = round(k * zeros * size)
    low, high = spectrum[middle // 2 : middle].argmax() + middle // 2, spectrum[middle:].argmax() + middle
    # By the scatterer the satellite at k' belongs to the grating at k' -+ s(k'): further by a fraction 2 s/k of the shift.
    expected = np.array([k - shift, k + shift]) + (2 * shift**2 / k if by == "scatterer" else 0.0)
    assert np.abs(np.array([low, high]) / zeros - expected * size).max() < 0.05 + 0.5 / zeros  # the bin's half width
    assert abs(_peak(spectrum, low) / zeros - expected[0] * size) < 0.05
    assert abs(_peak(spectrum, high) / zeros - expected[1] * size) < 0.05


def _peak(spectrum, index):
    """The top of the parabola through the logarithms of a sample and its neighbours."""
    a, b, c = np.log(spectrum[index - 1 : index + 2])
    return index + 0.5 * (a - c) / (a - 2 * b + c)


def test_without_tilt_it_is_the_ctf(rng):
    for shape in SHAPES:
        specimen = rng.standard_normal(shape)
        kx, ky = frequencies(shape, 1.5)
        factor = ctf(kx, ky, 9000.0, np.array([300.0, 100.0]), **LENS, b_factor=30.0, contrast="raw")
        rows, columns = np.abs(ky * 1.5) < 0.5, np.abs(kx * 1.5) < 0.5  # the Nyquist terms are dropped
        expected = inverse(forward(specimen, 2) * factor * rows * columns, shape)
        lens = TiltedCtf(TiltedPlane(0.0), 9000.0, **LENS, astigmatism=(300.0, 100.0), b_factor=30.0)
        for by in ("pixel", "scatterer"):
            got = tilted_contrast(specimen, 1.5, lens, by=by, contrast="raw")
            np.testing.assert_allclose(got, expected, atol=1e-9)  # the tolerance of the transform
            assert np.abs(got + expected).max() > 0.1


def test_tilt_the_other_way_about_the_opposite_axis_is_the_same_tilt(rng):
    specimen = rng.standard_normal((19, 22))
    one = TiltedCtf(TiltedPlane(0.4, 0.8), 7000.0, **LENS)
    other = TiltedCtf(TiltedPlane(-0.4, 0.8 + math.pi), 7000.0, **LENS)
    np.testing.assert_allclose(tilted_contrast(specimen, 1.0, one), tilted_contrast(specimen, 1.0, other), atol=1e-9)


def test_is_linear_and_leaves_its_input_alone(rng):
    a, b = rng.standard_normal((2, 16, 18))
    lens = TiltedCtf(TiltedPlane(TILT), 7000.0, **LENS)
    before = a.copy()
    whole = tilted_contrast(2 * a - 3 * b, 1.0, lens)
    parts = 2 * tilted_contrast(a, 1.0, lens) - 3 * tilted_contrast(b, 1.0, lens)
    np.testing.assert_allclose(whole, parts, atol=1e-9)  # the tolerance of the transform
    np.testing.assert_array_equal(a, before)


def test_particles_are_pieces_of_the_micrograph():
    """A scatterer in a box with the defocus of its centre, and the same scatterer in the whole field."""
    plane, pixel_size, box, size = TiltedPlane(math.radians(50), 0.6), 2.0, 96, 320
    whole = TiltedCtf(plane, 9000.0, **LENS, b_factor=100.0)
    centres = np.array([[50, -90], [-70, 100], [0, 0]])  # pixels x, y
    image = np.zeros((size, size))
    boxes = np.zeros((3, box, box))
    for place, (x, y) in enumerate(centres):
        image[size // 2 + y + 3, size // 2 + x - 5] = 1.0
        boxes[place, box // 2 + 3, box // 2 - 5] = 1.0
    field = tilted_contrast(image, pixel_size, whole, contrast="raw")
    lens = whole.at(*(centres.T * pixel_size))
    assert lens.defocus == pytest.approx([plane.local_defocus(2.0 * x, 2.0 * y, 9000.0) for x, y in centres])
    cuts = [field[size // 2 + y - box // 2 :, size // 2 + x - box // 2 :][:box, :box] for x, y in centres]

    def differences(defocus):
        images = tilted_contrast(boxes, pixel_size, replace(lens, defocus=defocus), contrast="raw")
        inside = np.s_[box // 2 - 12 : box // 2 + 18, box // 2 - 20 : box // 2 + 10]  # about the scatterer
        return [np.abs(i[inside] - c[inside]).max() / np.abs(c).max() for i, c in zip(images, cuts)]

    # Fringes of the neighbours and what wraps round the box leave a few parts in a hundred of the peak.
    assert max(differences(lens.defocus)) < 0.03
    other_hand = whole.at(*(-centres.T * pixel_size)).defocus
    assert min(differences(other_hand)[:2]) > 0.15


def test_a_batch_is_a_loop(rng, monkeypatch):
    images = rng.standard_normal((7, 18, 16))
    batch = TiltedCtf(
        TiltedPlane(0.5, 0.3),
        rng.uniform(5000, 9000, 7),
        **LENS,
        astigmatism=rng.normal(0, 200, (7, 2)),
        phase_shift=rng.uniform(0, 1, 7),
        b_factor=rng.uniform(0, 50, 7),
    )
    monkeypatch.setattr("vitreous.optics.tilt.CHUNK", 3 * 18 * 16)
    together = tilted_contrast(images, 1.2, batch)
    for i, image in enumerate(images):
        one = TiltedCtf(
            batch.plane,
            batch.defocus[i],
            **LENS,
            astigmatism=batch.astigmatism[i],
            phase_shift=batch.phase_shift[i],
            b_factor=batch.b_factor[i],
        )
        np.testing.assert_allclose(tilted_contrast(image, 1.2, one), together[i], atol=1e-9)
    shared = tilted_contrast(images, 1.2, TiltedCtf(batch.plane, 6000.0, **LENS))
    alone = tilted_contrast(images[4], 1.2, TiltedCtf(batch.plane, 6000.0, **LENS))
    np.testing.assert_allclose(shared[4], alone, atol=1e-9)


def test_one_defocus_for_a_particle_is_wrong_at_its_edge_by_the_phase_that_is_said():
    """A point at the edge, imaged by the tilted and by the constant CTF: the phase between the two, ring by ring."""
    plane, width, size, pixel_size = TiltedPlane(math.radians(30)), 200.0, 512, 1.0
    point = np.zeros((size, size))
    point[size // 2, size // 2 + round(width / 2)] = 1.0
    lens = {**LENS, "spherical_aberration": 0.0, "amplitude_contrast": 0.0}
    tilted = np.fft.fft(tilted_contrast(point, pixel_size, TiltedCtf(plane, 8000.0, **lens)).sum(axis=0))
    k = np.fft.fftfreq(size)
    for resolution in (3.0, 5.0):
        column = round(size / resolution)
        error = constant_defocus_phase(plane, width, size / column, 300e3)
        gamma_middle = math.pi * wavelength(300e3) * 8000.0 * k[column] ** 2
        wave = tilted[column] / np.exp(-2j * math.pi * k[column] * width / 2)
        wave = wave * (-1) ** column  # the origin is at N // 2
        assert wave.real == pytest.approx(math.sin(gamma_middle - error), abs=1e-6)  # +x is less underfocused
        assert abs(wave.real - math.sin(gamma_middle + error)) > 0.01


def test_gradients_in_jax(rng):
    """Values, jit, vmap, and the gradient of a loss against finite differences: the bar of physics.md (c) 12."""
    import jax
    import jax.numpy as jnp

    specimen, seen = rng.standard_normal((2, 14, 17))
    lens = TiltedCtf(TiltedPlane(0.6, 0.4), 7000.0, **LENS)
    single = tilted_contrast(jnp.asarray(specimen, dtype=jnp.float32), 1.2, lens)
    assert single.dtype == jnp.float32
    with jax.enable_x64(True):

        def image(o):
            return tilted_contrast(o, 1.2, lens, contrast="raw")

        def loss(o):
            return jnp.sum((image(o) - seen) ** 2)

        expected = tilted_contrast(specimen, 1.2, lens, contrast="raw")
        np.testing.assert_allclose(jax.jit(image)(jnp.asarray(specimen)), expected, atol=1e-12)
        two = jax.vmap(image)(jnp.asarray(np.stack([specimen, seen])))
        np.testing.assert_allclose(two[0], expected, atol=1e-12)
        gradient = jax.grad(loss)(jnp.asarray(specimen))
        for place in ((3, 4), (13, 0), (7, 8)):
            step = np.zeros_like(specimen)
            step[place] = 1e-4
            above, below = (tilted_contrast(specimen + s, 1.2, lens, contrast="raw") - seen for s in (step, -step))
            numeric = (np.sum(above**2) - np.sum(below**2)) / 2e-4
            assert gradient[place] == pytest.approx(float(numeric), rel=1e-4)
            assert gradient[place] != pytest.approx(-float(numeric), rel=1e-4)
    np.testing.assert_allclose(single, -expected, atol=1e-4)


def test_hand_of_the_plane():
    """physics.md (a): about +y the +x side is less underfocused, about +x the +y side more."""
    steep = math.tan(math.radians(30))
    about_y, about_x = TiltedPlane(math.radians(30)), TiltedPlane(math.radians(30), ALONG_X)
    assert about_y.slope == pytest.approx((-steep, 0.0), abs=1e-15) and steep == pytest.approx(0.57735, abs=1e-5)
    assert about_x.slope == pytest.approx((0.0, steep), abs=1e-15)
    for axis in (0.0, 0.4, 2.0, -1.3):
        u = np.array([math.cos(axis), math.sin(axis), 0.0])
        turned = math.radians(30)
        for point in np.array(
            [[10.0, 3.0, 0.0], [-4.0, 7.0, 0.0]]
        ):  # Rodrigues' formula for points of the flat specimen
            r = (
                point * math.cos(turned)
                + np.cross(u, point) * math.sin(turned)
                + u * (u @ point) * (1 - math.cos(turned))
            )
            assert TiltedPlane(turned, axis).height(r[0], r[1]) == pytest.approx(r[2], abs=1e-12)
            assert TiltedPlane(-turned, axis).height(r[0], r[1]) != pytest.approx(r[2], abs=0.1)


def test_relions_tilt_matrix_turns_the_other_way():
    plane = TiltedPlane.of_rotation(matrix_from_euler(np.radians([0.0, 30.0, 0.0])))
    assert plane.slope == pytest.approx((math.tan(math.radians(30)), 0.0), abs=1e-12)
    rng = np.random.default_rng(2)
    for euler in rng.uniform(-1, 1, (10, 3)):
        rotation = matrix_from_euler(euler)
        seen = rotation @ np.array([12.0, -5.0, 0.0])
        assert TiltedPlane.of_rotation(rotation).height(seen[0], seen[1]) == pytest.approx(seen[2], abs=1e-9)


BAD_PLANES = {
    "edge on": (lambda: TiltedPlane(math.pi / 2), SettingsProblem, "90"),
    "not a number": (lambda: TiltedPlane(math.nan), SettingsProblem, "tilt"),
    "axis": (lambda: TiltedPlane(0.1, math.inf), SettingsProblem, "axis"),
    "matrix": (lambda: TiltedPlane.of_rotation(np.ones((3, 3))), DataProblem, "orthogonal"),
    "shape": (lambda: TiltedPlane.of_rotation(np.eye(4)), DataProblem, "3 x 3"),
    "rotated edge on": (
        lambda: TiltedPlane.of_rotation(matrix_from_euler(np.radians([0.0, 90.0, 0.0]))),
        DataProblem,
        "edge on",
    ),
    "hand": (lambda: TiltedPlane.of_relion_tomogram(np.eye(3), 0), DataProblem, "rlnTomoHand"),
}


@pytest.mark.parametrize("name", BAD_PLANES)
def test_impossible_planes(name):
    make, error, words = BAD_PLANES[name]
    with pytest.raises(error, match=words):
        make()


IMAGE = np.zeros((8, 8))
GOOD = TiltedCtf(TiltedPlane(0.3), 1e4, **LENS)
BAD_CALLS = {
    "by": (lambda: tilted_contrast(IMAGE, 1.0, GOOD, by="atom"), SettingsProblem, "scatterer"),
    "by, adjoint": (lambda: tilted_contrast_adjoint(IMAGE, 1.0, GOOD, by="atom"), SettingsProblem, "scatterer"),
    "contrast": (lambda: tilted_contrast(IMAGE, 1.0, GOOD, contrast="white"), SettingsProblem, "inverted"),
    "pixel size": (lambda: tilted_contrast(IMAGE, 0.0, GOOD), DataProblem, "pixel size"),
    "complex": (lambda: tilted_contrast(IMAGE + 0j, 1.0, GOOD), DataProblem, "real numbers"),
    "line": (lambda: tilted_contrast(IMAGE[0], 1.0, GOOD), DataProblem, "y, x"),
    "envelope": (lambda: tilted_contrast(IMAGE, 1.0, GOOD, envelope=np.ones((8, 8))), DataProblem, "half grid"),
    "batch": (lambda: tilted_contrast(IMAGE, 1.0, GOOD.at(np.zeros(3), np.zeros(3))), DataProblem, "one for each"),
    "voltage": (lambda: TiltedCtf(GOOD.plane, 1e4, 0.0, 2.7e7, 0.1), DataProblem, "voltage"),
    "amplitude contrast": (lambda: TiltedCtf(GOOD.plane, 1e4, 300e3, 2.7e7, 7.0), DataProblem, "amplitude contrast"),
    "defocus": (lambda: TiltedCtf(GOOD.plane, math.nan, **LENS), DataProblem, "finite"),
    "astigmatism": (lambda: TiltedCtf(GOOD.plane, 1e4, **LENS, astigmatism=5.0), DataProblem, "two components"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input(name):
    call, error, words = BAD_CALLS[name]
    with pytest.raises(error, match=words):
        call()
