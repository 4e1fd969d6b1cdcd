"""The scale of a reference: known images of a known density give it back without their poses; noise does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.alignment.reference_scale import excess_power, reference_scale, shell_power
from vitreous.conventions import Contrast
from vitreous.fourier.shells import power_spectrum
from vitreous.geometry.rotations import random_rotations
from vitreous.geometry.symmetry import point_group
from vitreous.io.particles import read_particles
from vitreous.model.particles import LoadedImages
from vitreous.reconstruction.direct_inversion import InversionSettings, reconstruct
from vitreous.reconstruction.projection import fourier_volume, half_plane, project, slice_grid

SETTINGS = {"radius": 11.0, "coarsest": 90.0, "finest": 15.0}


@pytest.mark.parametrize("grey", [1.0, 30.0, 1e-3])
def test_the_scale_of_images_is_found_whatever_the_maps(blob_particles, blob_map, grey):
    found = reference_scale(blob_particles, grey * blob_map, **SETTINGS)
    # The disc cuts into particles that are shifted by 9 angstrom rms and into the rings of their CTFs: a few per cent of the power.
    assert found.scale * grey == pytest.approx(1, abs=0.1)
    assert found.seen and 0 < found.sigma * grey < 0.02


def test_poses_and_the_sign_of_the_contrast_play_no_part(blob_particles, blob_map):
    found = reference_scale(blob_particles, blob_map, **SETTINGS)
    bare = reference_scale(replace(blob_particles, pose=None), blob_map, **SETTINGS)
    assert bare == found
    dark = reference_scale(blob_particles, blob_map, contrast=Contrast.RAW, **SETTINGS)
    # C^2 of dark protein is the same but for the amplitude contrast, 0.1 of the phase contrast.
    assert dark.scale == pytest.approx(found.scale, rel=0.15)
    brighter = reference_scale(
        replace(blob_particles, images=LoadedImages(2 * blob_particles.images.pixels)), blob_map, **SETTINGS
    )
    assert brighter.scale == pytest.approx(2 * found.scale, rel=1e-5)


def test_noise_alone_has_no_scale_and_says_so(blob_particles, blob_map, rng):
    noise = rng.normal(size=blob_particles.images.pixels.shape).astype(np.float32)
    particles = replace(blob_particles, images=LoadedImages(noise))
    found = reference_scale(particles, blob_map, **SETTINGS)
    unit = noise.std() / blob_particles.images.pixels.std()
    assert not found.seen
    assert found.scale < 0.3 * unit  # noise as strong as that of the real images would need more to be seen


def test_shells_of_a_map_have_the_mean_power_of_its_projections(blob_map, rng):
    box = blob_map.shape[0]
    grid = slice_grid(box)
    turns = random_rotations(400, rng).astype(np.float32)
    slices = half_plane(project(fourier_volume(blob_map), turns, grid), grid)
    images = np.fft.irfft2(slices, s=(box, box))
    power = power_spectrum(images, 2).mean(axis=0)
    got = shell_power(blob_map, 14.0)
    # 400 views of a lumpy density: their mean has a few per cent of chance in it; shell 0 is the solvent, which is taken out.
    np.testing.assert_allclose(got[1:10], power[1:10], rtol=0.12)


def test_white_noise_has_no_excess(blob_particles, rng):
    noise = rng.normal(3.0, 1.0, size=(600, 32, 32)).astype(np.float32)
    particles = replace(blob_particles.rows(slice(0, 600)), images=LoadedImages(noise))
    excess = excess_power(particles, 10.0)
    # Power 1 a ring and pixel, times the share of the disc (0.4); the mean of 600 images of rings of 12 and more pixels.
    error = excess.std(axis=0) / np.sqrt(600)
    assert (np.abs(excess.mean(axis=0)) < 4.5 * error)[2:].all()


@pytest.mark.slow
def test_real_images_against_a_map_that_is_on_their_scale(shared_data):
    """Particles without poses, junk among them, against the map of those that others have posed. With wrong CTFs a map would have to be fainter."""
    folder = shared_data / "betagal"
    posed = read_particles(folder / "particles_posed.star")
    volume = reconstruct(posed, InversionSettings(point_group("D2").operators, mask_radius=28.0)).map
    for radius, finest in ((24.0, 40.0), (24.0, 20.0), (28.0, 20.0)):
        settings = {"radius": radius, "coarsest": 2 * radius * 3.54, "finest": finest}
        right = reference_scale(read_particles(folder / "particles.star"), volume, **settings)
        wrong = reference_scale(read_particles(folder / "particles_wrong_ctf.star"), volume, **settings)
        # 1 for images all of which hold the particle, as well centred as in the map; a quarter of these hold none.
        assert right.seen and 0.75 < right.scale < 0.95
        assert wrong.scale < 0.4
