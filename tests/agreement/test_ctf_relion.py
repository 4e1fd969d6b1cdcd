"""The CTF, the odd phases and the magnification matrix against RELION 3.1.3 (Debian 3.1.3-3).

Even part, B factor, scale, phase plate and magnification: a volume of 32^3 voxels of 1.5 A, 1 at its origin and 0
elsewhere, projected with

    relion_project --i delta.mrc --ang particles.star --o proj --ctf --angpix 1.5 --maxres 3

gives images whose transforms (`numpy.fft.rfft2` with the origin moved to index 0) are the CTFs of `PARTICLES`.

Odd part: an image 1 at its origin, reconstructed as if it had the aberrations below, with the CTF 1 everywhere
(amplitude contrast 1, defocus 0), with

    relion_reconstruct --i particles.star --o image.mrc --ctf --angpix 1.5 --pad 1 --refdim 2 --skip_gridding

gives an image whose transform has the phase by which RELION corrects data. RELION interpolates: phases are good to
0.1 radian. RELION 3.1.3 ignores rlnOddZernike when the columns of the beam tilt are there, so each was run alone.
"""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.optics.ctf import ctf_of_particles, odd_phase
from vitreous.units import DEGREE, KILOVOLT, MILLIMETRE, MILLIRADIAN

BOX, PIXEL_SIZE = 32, 1.5
KX, KY = np.meshgrid(np.fft.rfftfreq(BOX, PIXEL_SIZE), np.fft.fftfreq(BOX, PIXEL_SIZE))

ODD = (0.5, -0.3, 4.0, 2.0, -3.0, 5.0)
EVEN = (0.2, 3.0, -4.0, 5.0, 20.0, -30.0, 10.0, 15.0, -25.0)
MAGNIFICATION = ((1.02, 0.011), (-0.004, 0.985))

# (row, column) of the transforms
SAMPLES = [(0, 0), (0, 9), (1, 8), (6, 12), (7, 0), (9, 9), (10, 6), (12, 1), (14, 0), (20, 4), (22, 1), (22, 11)]
SAMPLES += [(26, 7), (26, 10), (31, 2)]


def group(voltage_kv: float, cs_mm: float, amplitude_contrast: float, **more) -> OpticsGroup:
    return OpticsGroup(
        voltage=voltage_kv * KILOVOLT,
        spherical_aberration=cs_mm * MILLIMETRE,
        amplitude_contrast=amplitude_contrast,
        pixel_size=PIXEL_SIZE,
        **more,
    )


def particle(defocus_u, defocus_v, angle_deg, phase_shift_deg, b_factor, scale) -> CtfParameters:
    return CtfParameters.of(defocus_u, defocus_v, angle_deg * DEGREE, phase_shift_deg * DEGREE, b_factor, scale)


PARTICLES = {
    "plain": (
        group(300, 2.7, 0.1),
        particle(9000, 8000, 30, 0, 0, 1),
        [0.1, -0.122818, 0.412164, -0.685566, -0.982048, -0.343408, -0.430836, -0.190902, -0.3197, 0.996245, 0.35557,
         0.913489, -0.631649, -0.692834, 0.936736],
    ),
    "phase plate, B factor, scale, even Zernike": (
        group(200, 1.4, 0.07, even_zernike=EVEN),
        particle(12000, 10500, -50, 40, 25, 0.8),
        [-0.609105, 0.629431, 0.231951, 0.248599, -0.13631, -0.315929, 0.532449, -0.50133, 0.030879, -0.481796,
         0.302067, -0.100241, 0.635258, -0.283055, 0.787485],
    ),
    "even Zernike and magnification": (
        group(300, 2.7, 0.1, even_zernike=EVEN, magnification=MAGNIFICATION),
        particle(7000, 7600, 110, 0, 10, 1),
        [-0.999303, 0.058698, 0.901652, -0.757662, 0.948436, -0.100369, -0.389203, -0.095463, -0.128312, 0.473224,
         -0.457023, 0.786423, 0.902555, 0.710496, -0.168108],
    ),
}  # fmt: skip

# RELION's short wavelength formula is 6.4e-6 too long: times the 60 radian of gamma at 3 A, that is 4e-4.
WAVELENGTH_ERROR = 5e-4


@pytest.mark.parametrize("name", PARTICLES)
def test_ctf_is_relions(name):
    optics, parameters, expected = PARTICLES[name]
    values = ctf_of_particles(optics, parameters, KX, KY)[0]
    ours = np.array([values[sample] for sample in SAMPLES])
    np.testing.assert_allclose(ours, expected, atol=WAVELENGTH_ERROR)


@pytest.mark.parametrize(
    "change",
    [
        {"even_zernike": tuple(-c for c in EVEN)},
        {"even_zernike": EVEN[::-1]},
        {"magnification": ((1.0, 0.0), (0.0, 1.0))},
        {"magnification": tuple(map(tuple, np.linalg.inv(MAGNIFICATION)))},
        {"magnification": tuple(map(tuple, np.transpose(MAGNIFICATION)))},
    ],
    ids=["even sign", "even order", "no magnification", "inverse magnification", "transposed magnification"],
)
def test_the_comparison_sees_signs_orders_and_directions(change):
    from dataclasses import replace

    optics, parameters, expected = PARTICLES["even Zernike and magnification"]
    values = ctf_of_particles(replace(optics, **change), parameters, KX, KY)[0]
    ours = np.array([values[sample] for sample in SAMPLES])
    assert np.abs(ours - expected).max() > 20 * WAVELENGTH_ERROR


# Phases of the corrected transform, in the order of SAMPLES without (0, 0)
CORRECTION = {
    "odd Zernike": (
        group(300, 0.01, 1.0, odd_zernike=ODD),
        [-1.035, -0.87, -0.97, 0.497, -0.358, 0.092, 0.741, 1.009, -1.148, -0.798, -1.542, -1.162, -1.425, -0.301],
    ),
    "beam tilt": (
        group(300, 0.01, 1.0, beam_tilt=(200 * MILLIRADIAN, -100 * MILLIRADIAN)),
        [0.331, 0.214, 0.713, -0.077, 0.306, 0.049, -0.31, -0.634, 0.671, 0.265, 1.623, 0.386, 0.804, 0.013],
    ),
}
INTERPOLATION_ERROR = 0.1  # radian: the largest found is 0.08


@pytest.mark.parametrize("name", CORRECTION)
def test_odd_phases_are_corrected_as_relion_does(name):
    optics, expected = CORRECTION[name]
    phase = odd_phase(optics, KX, KY)
    correction = -np.array([phase[sample] for sample in SAMPLES[1:]])
    np.testing.assert_allclose(correction, expected, atol=INTERPOLATION_ERROR)
    assert np.abs(-correction - expected).max() > 1  # the other sign is far off


def test_odd_phases_belong_to_the_magnified_frequency():
    """Under magnification M, RELION inserts the pixel k at M k. The phase it finds there is the odd phase at M k."""
    matrix = np.array(((1.1, 0.12), (-0.08, 0.9)))
    optics = group(300, 0.01, 1.0, odd_zernike=ODD, magnification=tuple(map(tuple, matrix)))
    inserted = {(24, 3): -0.861, (10, 2): 0.505, (3, 4): -0.232, (25, 3): -0.837, (2, 4): -0.335, (7, 7): -0.308}
    for sample, expected in inserted.items():
        true_frequency = np.array([KX[sample], KY[sample]])
        recorded_x, recorded_y = np.linalg.solve(matrix, true_frequency)
        assert -odd_phase(optics, recorded_x, recorded_y) == pytest.approx(expected, abs=0.03)  # interpolation: 0.022
