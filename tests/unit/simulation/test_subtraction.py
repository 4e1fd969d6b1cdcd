"""Signal subtraction and recentring: exact without noise, whatever the state of the images; scales; halves; faults."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.model.optics import OpticsGroup
from vitreous.model.particles import LoadedImages, Particles
from vitreous.model.pose import Pose
from vitreous.model.volume import Volume
from vitreous.reconstruction.mask import soft_edge
from vitreous.simulation.images import Projector, simulate_images
from vitreous.simulation.noise import Noise
from vitreous.simulation.particles import ParticleDistribution, draw_particles
from vitreous.simulation.recentring import centre_of_mask, cut_out, cut_out_volume, recentred_pose
from vitreous.simulation.subtraction import (
    SubtractionMaps,
    fit_scales,
    measure_remains,
    subtracted_images,
)

BOX, PIXEL = 32, 3.0
ABERRATED = OpticsGroup(
    pixel_size=PIXEL,
    box=BOX,
    voltage=300e3,
    spherical_aberration=2.7e7,
    amplitude_contrast=0.1,
    beam_tilt=(2e-3, -1e-3),
    even_zernike=(0.0, 0.0, 0.0, 0.0, 20.0, 0.0, 0.0, 0.0, 10.0),
    odd_zernike=(0.0, 0.0, 40.0),
)


def density(centres: np.ndarray) -> np.ndarray:
    z, y, x = np.meshgrid(*[np.arange(BOX) - BOX // 2] * 3, indexing="ij")
    blobs = [np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / (2 * 1.5**2)) for a, b, c in centres]
    return np.sum(blobs, axis=0).astype(np.float32)


KEPT, REMOVED = density([(-6, 1, 2), (-5, -4, 0), (-6, 0, -4)]), density([(5, 3, 2), (6, -3, 0), (4, 0, 5), (6, 1, -5)])
WHOLE = Volume(KEPT + REMOVED, PIXEL)
X = np.meshgrid(*[np.arange(BOX) - BOX // 2] * 3, indexing="ij")[2]
MASK = soft_edge(X < -3, 1, 4)  # 1 below x = -2, 0 from x = 2 on: the parts have room between them


def particles_of(
    count: int = 24,
    *,
    state: CtfState = CtfState.RAW,
    contrast: Contrast = Contrast.INVERTED,
    seed: int = 3,
    shift: float = 4.0,
) -> Particles:
    optics = replace(ABERRATED, ctf_state=state, wiener_snr=0.5 if state is CtfState.WIENER else None)
    drawn = draw_particles(
        ParticleDistribution(optics, (8e3, 1.6e4), astigmatism=2000.0, shift=shift, contrast=contrast, seed=seed), count
    )
    assert drawn.ctf is not None
    return replace(drawn, ctf=replace(drawn.ctf, phase_shift=np.linspace(0, 1.0, count)))


def images_of(data: np.ndarray, particles: Particles, noise: Noise | None = None) -> np.ndarray:
    return np.concatenate(list(simulate_images(Projector(Volume(data, PIXEL)), particles, noise)))


def with_images(particles: Particles, images: np.ndarray) -> Particles:
    return replace(particles, images=LoadedImages(images))


def subtracted(particles: Particles, maps: SubtractionMaps, scale: np.ndarray) -> np.ndarray:
    return np.concatenate(list(subtracted_images(particles, maps.removed_projectors[0], scale)))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


# --- exactness --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(CtfState))
@pytest.mark.parametrize("contrast", [Contrast.INVERTED, Contrast.RAW])
def test_without_noise_the_part_alone_is_left(state, contrast):
    particles = particles_of(12, state=state, contrast=contrast)
    recorded = 0.7 * images_of(WHOLE.data, particles)
    particles = with_images(particles, recorded)
    maps = SubtractionMaps((WHOLE,), MASK)
    fit = fit_scales(particles, maps)
    # single precision, and weights that count shells of a hundred-thousandth of the strongest amplitude as much as it
    np.testing.assert_allclose(fit.scale, 0.7, rtol=5e-5)
    done = subtracted(particles, maps, fit.scale)
    part = 0.7 * images_of(WHOLE.data * MASK, particles)
    assert np.abs(done - part).max() < 1e-4 * np.abs(recorded).max()
    assert done.dtype == np.float32
    # of the wrong sign the part would be joined by the rest, twice
    assert np.abs(2 * recorded - done - part).max() > 0.5 * np.abs(recorded).max()


def test_subtracting_and_adding_again_gives_the_image():
    particles = particles_of(6)
    rng = np.random.default_rng(0)
    recorded = rng.normal(size=(6, BOX, BOX)).astype(np.float32)
    particles = with_images(particles, recorded)
    maps = SubtractionMaps((WHOLE,), MASK)
    scale = np.linspace(0.5, 1.5, 6)
    done = subtracted(particles, maps, scale)
    back = done + scale[:, None, None] * images_of(WHOLE.data * (1 - MASK), particles)
    np.testing.assert_allclose(back, recorded, atol=1e-5)
    np.testing.assert_array_equal(particles.images.pixels, recorded)


def test_chunks_do_not_change_the_images():
    """Each particle's image depends on its own row alone; more than one chunk of the projector is used."""
    particles = with_images(particles_of(70), np.zeros((70, BOX, BOX), np.float32))
    maps = SubtractionMaps((WHOLE,), MASK)
    whole = subtracted(particles, maps, np.ones(70))
    few = subtracted(particles.rows(slice(60, 70)), maps, np.ones(10))
    np.testing.assert_allclose(whole[60:], few, atol=1e-5)


# --- noise and scales -------------------------------------------------------------------------------------------------


def test_images_lose_one_part_and_keep_the_other():
    particles = particles_of(300)
    clean = images_of(WHOLE.data, particles)
    noise = Noise(2 * float(clean.std()), seed=1)  # a signal-to-noise ratio of 1/4
    particles = with_images(particles, images_of(WHOLE.data, particles, noise))
    maps = SubtractionMaps((WHOLE,), MASK)
    fit = fit_scales(particles, maps)
    scale = fit.of_groups(np.zeros(300, dtype=int))
    assert scale[0] == pytest.approx(1.0, abs=4 / np.sqrt(fit.power.sum()))
    done = subtracted(particles, maps, scale)
    kept, removed = images_of(WHOLE.data * MASK, particles), images_of(WHOLE.data * (1 - MASK), particles)
    # What images of the two parts have in common stays, of course: they are compared beyond it.
    kept, removed = kept - kept.mean(), removed - removed.mean()
    common = (kept * removed).sum() / (kept * kept).sum()
    alone = removed - common * kept
    before, after = correlation(particles.images.pixels, alone), correlation(done, alone)
    assert before > 0.2
    # 300 images of 1024 pixels of noise: 1 / sqrt(307200) = 0.002
    assert abs(after) < 0.006
    assert correlation(done, kept) > correlation(particles.images.pixels, kept) - 0.02 > 0.2
    remains = measure_remains(particles, maps, scale)
    error = 3 * 2 / np.sqrt(fit.power.sum())
    assert remains.removed == pytest.approx((1.0, 0.0), abs=error)
    assert remains.kept == pytest.approx((1.0, 1.0), abs=error)


def test_each_particle_has_its_scale_and_its_error():
    particles = particles_of(200, shift=0.0)
    true = np.where(np.arange(200) % 2 == 0, 0.6, 1.4)
    clean = images_of(WHOLE.data, particles) * true[:, None, None]
    deviation = 4 * float(clean.std())
    noise = np.random.default_rng(5).normal(0, deviation, clean.shape)
    fit = fit_scales(with_images(particles, (clean + noise).astype(np.float32)), SubtractionMaps((WHOLE,), MASK))
    deviates = (fit.scale - true) / fit.error
    # The weights take signal for noise, a sixteenth on average and more in the shells that count: errors are overestimated by some 20 %.
    # 200 values give a standard deviation to 5 %, a mean to 0.07.
    assert 0.65 < deviates.std() < 1.1 and abs(deviates.mean()) < 0.3
    groups = fit.of_groups(np.arange(200) % 2)
    error = 4 / np.sqrt(fit.power.sum() / 2)
    assert groups[0] == pytest.approx(0.6, abs=error) and groups[1] == pytest.approx(1.4, abs=error) and error < 0.2
    assert set(np.unique(groups)) == {groups[0], groups[1]}


# --- half maps --------------------------------------------------------------------------------------------------------


def test_each_half_set_is_compared_with_its_own_map():
    particles = particles_of(20)
    half = np.tile([1, 2, 2, 1], 5).astype(np.int8)
    other = Volume(KEPT + 1.5 * REMOVED[::-1, ::-1], PIXEL)
    clean = np.where((half == 1)[:, None, None], images_of(WHOLE.data, particles), images_of(other.data, particles))
    particles = replace(with_images(particles, clean), half_set=half)
    maps = SubtractionMaps((WHOLE, other), MASK)
    fit = fit_scales(particles, maps)
    np.testing.assert_allclose(fit.scale, 1.0, rtol=1e-5)
    assert [rows.tolist() for _, rows in maps.rows(particles)] == [np.flatnonzero(half == h).tolist() for h in (1, 2)]
    remains = measure_remains(particles, maps, fit.scale)
    assert remains.removed == pytest.approx((1.0, 0.0), abs=1e-4)
    swapped = fit_scales(particles, SubtractionMaps((other, WHOLE), MASK))
    assert np.abs(swapped.scale - 1).min() > 1e-3
    # The map of the other half is not looked at: no number of half set 1 depends on it.
    changed = fit_scales(particles, SubtractionMaps((WHOLE, Volume(KEPT + 9 * REMOVED, PIXEL)), MASK))
    assert np.array_equal(changed.scale[half == 1], fit.scale[half == 1])
    # Nor are its images.
    brighter = np.where((half == 1)[:, None, None], clean, 3 * clean[::-1]).astype(np.float32)
    changed = fit_scales(with_images(particles, brighter), maps)
    assert np.array_equal(changed.cross[half == 1], fit.cross[half == 1])
    with pytest.raises(DataProblem, match="half sets"):
        fit_scales(replace(particles, half_set=None), maps)


# --- recentring -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [16, 17])
def test_recentred_images_are_those_of_the_moved_map(box):
    """The object's own part, cut out of the map and projected, against the images of the whole box cut out: no CTF, no rest."""
    centre = centre_of_mask(KEPT)
    assert centre.tolist() == [-6, -1, -1]  # of (-6, 1, 2), (-5, -4, 0), (-6, 0, -4): mean (-5.7, -1, -0.7)
    particles = particles_of(8)
    images = np.concatenate(list(simulate_images(Projector(Volume(KEPT, PIXEL)), particles, use_ctf=False)))
    pose, offset = recentred_pose(particles.pose, centre * PIXEL, PIXEL)
    found, outside = cut_out(images, offset, box)
    assert found.shape == (8, box, box) and (outside == 0).all()
    assert np.abs(pose.shift).max() <= PIXEL / 2 * (1 + 1e-9)  # half a pixel
    small = Volume(cut_out_volume(KEPT, centre, box + box % 2), PIXEL)
    optics = replace(ABERRATED, box=small.box)
    again = replace(particles, pose=pose, optics=(optics,), images=None)
    expected = np.concatenate(list(simulate_images(Projector(small), again, use_ctf=False)))
    middle = slice(small.box // 2 - box // 2, small.box // 2 - box // 2 + box)
    expected = expected[:, middle, middle]
    # trilinear interpolation in transforms of two different boxes: a few percent
    assert correlation(found, expected) > 0.99
    flipped = cut_out(images, -offset, box)[0]
    assert correlation(flipped, expected) < 0.8


def test_cut_out_is_indexing_and_zeros_outside():
    images = np.arange(2 * 8 * 8, dtype=np.float32).reshape(2, 8, 8) + 1
    same, outside = cut_out(images, np.zeros((2, 2), int), 8)
    assert np.array_equal(same, images) and not outside.any()
    found, outside = cut_out(images, np.array([[2, 0], [0, -3]]), 4)
    assert np.array_equal(found[0], images[0, 2:6, 4:8]) and outside[0] == 0
    assert np.array_equal(found[1][1:], images[1, :3, 2:6]) and not found[1][:1].any() and outside[1] == 4
    far, outside = cut_out(images, np.array([[99, 0], [0, 0]]), 4)
    assert not far[0].any() and outside.tolist() == [16, 0]
    with pytest.raises(SettingsProblem):
        cut_out(images, np.zeros((2, 2), int), 1)


@pytest.mark.parametrize("size", [8, 9])
def test_volumes_are_cut_out_about_a_voxel(size):
    volume = np.random.default_rng(0).normal(size=(size,) * 3)
    centre = np.array([2, -1, 1])
    for box in (4, 5, 12):
        found = cut_out_volume(volume, centre, box)
        assert found.shape == (box,) * 3
        middle = (box // 2,) * 3
        assert found[middle] == volume[tuple(size // 2 + c for c in centre[::-1])]
        assert found[middle[0] + 1, middle[1], middle[2] - 1] == volume[size // 2 + 2, size // 2 - 1, size // 2 + 1]
    assert np.array_equal(cut_out_volume(volume, np.zeros(3, int), size), volume)


def test_the_new_origin_is_where_the_part_lies():
    pose = Pose(np.array([[0.3, 0.9, -0.4], [0.0, 0.0, 0.0]]), np.array([[5.0, -7.0], [0.0, 0.0]]))
    centre = np.array([10.0, -20.0, 30.0])
    found, offset = recentred_pose(pose, centre, 3.0)
    place = (matrix_from_euler(pose.euler) @ centre)[:, :2] - pose.shift  # an origin o puts the particle at -o
    np.testing.assert_allclose(-found.shift, place - 3.0 * offset, atol=1e-12)
    assert np.array_equal(found.euler, pose.euler)


# --- faults -----------------------------------------------------------------------------------------------------------


def test_maps_that_cannot_be_subtracted_are_refused():
    with pytest.raises(DataProblem, match="0 everywhere"):
        SubtractionMaps((WHOLE,), np.zeros_like(MASK))
    with pytest.raises(DataProblem, match="nothing is left"):
        SubtractionMaps((WHOLE,), np.ones_like(MASK))
    with pytest.raises(DataProblem, match="one grid"):
        SubtractionMaps((WHOLE,), np.ones((8,) * 3, np.float32))
    with pytest.raises(DataProblem, match="3 maps"):
        SubtractionMaps((WHOLE,) * 3, MASK)
    with pytest.raises(DataProblem, match="0 everywhere"):
        centre_of_mask(np.zeros((4, 4, 4)))


def test_images_that_cannot_be_used_are_refused():
    particles = particles_of(4)
    maps = SubtractionMaps((WHOLE,), MASK)
    with pytest.raises(DataProblem, match="without images"):
        fit_scales(particles, maps)
    broken = np.zeros((4, BOX, BOX), np.float32)
    broken[2, 3, 3] = np.nan
    with pytest.raises(DataProblem, match="image 3@"):
        list(subtracted_images(with_images(particles, broken), maps.removed_projectors[0], np.ones(4)))
    stretched = replace(particles, optics=(replace(ABERRATED, magnification=((1.01, 0.0), (0.0, 1.0))),))
    with pytest.raises(DataProblem, match="anisotropic magnification"):
        fit_scales(with_images(stretched, np.ones((4, BOX, BOX), np.float32)), maps)
