"""CTF refinement as a whole: simulated particles get the CTFs that they were made with, and honest error bars."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem
from vitreous.estimation.ctf_refinement import CtfRefinement, RefinementSettings, refine_ctf
from vitreous.estimation.micrograph_fit import Freedom
from vitreous.estimation.reference_images import References, magnified_rotation
from vitreous.fourier.nonuniform import transform_at
from vitreous.fourier.transforms import frequencies, inverse, shift_phases
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import LoadedImages, Particles
from vitreous.optics.aberrations import wave_factor
from vitreous.optics.ctf import ctf_of_particles, odd_phase
from vitreous.reconstruction.exact_projection import slice_points
from vitreous.reconstruction.projection import half_plane, slice_grid
from vitreous.simulation.particles import ParticleDistribution, draw_particles

BOX, PIXEL_SIZE, SNR = 48, 1.6, 0.1
COUNT, PER_MICROGRAPH, SPREAD = 600, 60, 150.0


@dataclass(frozen=True)
class Simulated:
    """A map, particles with the CTFs that they were made with, those that a file would have, and the micrograph of each."""

    volume: np.ndarray
    true: Particles
    file: Particles
    micrograph: np.ndarray

    @property
    def references(self) -> References:
        return References((self.volume,), PIXEL_SIZE, 30.0, 3.4)

    def refine(self, particles: Particles | None = None, **settings) -> CtfRefinement:
        start = self.file if particles is None else particles
        return refine_ctf(start, self.references, RefinementSettings(**settings), micrograph=self.micrograph)


def density(rng) -> np.ndarray:
    axis = np.arange(BOX) - BOX // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    volume = np.zeros((BOX,) * 3, np.float32)
    for centre in rng.uniform(-10, 10, size=(40, 3)):
        volume += np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2) / 2)
    return volume


def ctfs(mean: np.ndarray, astigmatism: np.ndarray) -> CtfParameters:
    half = np.hypot(*astigmatism.T)
    return CtfParameters.of(mean + half, mean - half, np.arctan2(astigmatism[:, 1], astigmatism[:, 0]) / 2)


def exact_images(volume: np.ndarray, particles: Particles, rng) -> Particles:
    """Images by the definition `C(Mk) exp(i chi_odd(Mk)) F(R^T (Mk, 0))`, slices by the non-uniform FFT, white noise."""
    group, grid = particles.optics[0], slice_grid(BOX)
    rotation = magnified_rotation(matrix_from_euler(particles.pose.euler), group.magnification)
    slices = transform_at(volume, slice_points(rotation.astype(np.float32), grid), eps=1e-5).reshape(len(rotation), -1)
    kx, ky = frequencies((BOX, BOX), PIXEL_SIZE)
    transforms = half_plane(slices, grid) * shift_phases(-particles.pose.shift, (kx, ky))
    transforms *= ctf_of_particles(group, particles.ctf, kx, ky) * wave_factor(odd_phase(group, kx, ky))
    images = inverse(transforms, (BOX, BOX))
    noise = rng.normal(0, images.std() / np.sqrt(SNR), images.shape)
    return replace(particles, images=LoadedImages((images + noise).astype(np.float32)))


def simulated(seed=5, *, count=COUNT, spread=SPREAD, offset=300.0, astigmatism=150.0, **optics) -> Simulated:
    """Micrographs whose CTFs in the file are off by `offset` and `astigmatism` (rms), particles `spread` about them."""
    rng = np.random.default_rng(seed)
    volume, micrograph = density(rng), np.arange(count) // PER_MICROGRAPH
    flat = OpticsGroup(
        pixel_size=PIXEL_SIZE, box=BOX, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1
    )
    drawn = draw_particles(ParticleDistribution(flat, (8e3, 1.6e4), shift=3.0, seed=seed), count)
    many = micrograph.max() + 1
    mean, along = rng.uniform(8e3, 1.6e4, many), rng.normal(0, 100, (many, 2))
    moved, turned = rng.normal(0, offset, many), rng.normal(0, astigmatism, (many, 2))
    true = ctfs((mean + moved)[micrograph] + rng.normal(0, spread, count), (along + turned)[micrograph])
    particles = exact_images(volume, replace(drawn, ctf=true, optics=(replace(flat, **optics),)), rng)
    file = replace(particles, ctf=ctfs(mean[micrograph], along[micrograph]), optics=(flat,))
    return Simulated(volume, particles, file, micrograph)


@pytest.fixture(scope="module")
def set_of_ten():
    return simulated()


@pytest.fixture(scope="module")
def refined(set_of_ten):
    return set_of_ten.refine()


def test_defoci_are_unbiased_and_their_error_bars_are_right(set_of_ten, refined):
    error = refined.particles.ctf.defocus - set_of_ten.true.ctf.defocus
    before = set_of_ten.file.ctf.defocus - set_of_ten.true.ctf.defocus
    assert error.std() < 0.35 * before.std()
    # ten means, each known to about 40 angstrom
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(10)
    inside = np.mean(np.abs(error) < refined.defocus_sigma)
    assert 0.60 <= inside <= 0.76  # the requirement; 600 particles know the fraction to 0.02
    assert np.mean(np.abs(before) < refined.defocus_sigma) < 0.5  # and so it means something
    assert refined.spread == pytest.approx(SPREAD, rel=0.15)
    assert (refined.gain.sum() > 500) and not refined.at_edge.any()


def test_astigmatism_is_found_with_its_direction(set_of_ten, refined):
    true, found = (p.ctf.astigmatism[::PER_MICROGRAPH] for p in (set_of_ten.true, refined.particles))
    scores = (found - true) / refined.common_sigma[:, 1:]
    assert 0.6 < np.sqrt(np.mean(scores**2)) < 1.45  # 20 numbers: their rms is known to 16 %
    assert np.abs(found - true).max() < 100
    assert np.abs(found * [1, -1] - true).max() > 150  # the mirrored direction would be another one


def test_likelihood_by_survey_and_by_particles_agree(refined):
    """Two roads to one number. The particles' is told with the final noise, the survey's with that of each side: where CTFs
    are wrong the noise has unexplained signal in it, up to a fifth here, and `log(1 + x)` is less than x by x/2."""
    assert refined.log_likelihood_gain == pytest.approx(refined.gain.sum(), rel=0.15)
    assert refined.log_likelihood_gain < refined.gain.sum()


def test_what_is_right_stays(set_of_ten):
    stays = set_of_ten.refine(set_of_ten.true)
    change = stays.defocus_change
    assert np.abs(change).mean() < 45  # the noise of one image, and no more
    assert stays.spread < 60
    assert np.abs(stays.common[:, 1:] / stays.common_sigma[:, 1:]).max() < 4
    assert stays.log_likelihood_gain < 60  # 30 numbers shared by micrographs, each worth half a nat by chance


def test_half_sets_are_compared_with_their_own_map(set_of_ten):
    """A second map that is empty leaves the particles of its half set without a word."""
    maps = (set_of_ten.volume, 0 * set_of_ten.volume)
    result = refine_ctf(
        set_of_ten.file,
        replace(set_of_ten.references, maps=maps),
        RefinementSettings(passes=1),
        micrograph=set_of_ten.micrograph,
    )
    half = set_of_ten.file.half_set
    assert np.abs(result.gain[half == 2]).max() < 1e-3 < np.abs(result.gain[half == 1]).max()


def test_chunks_and_units_do_not_matter(set_of_ten):
    """Particles in another order, their micrographs numbered otherwise: the same CTFs."""
    settings = RefinementSettings(freedom=Freedom(spread=150.0), spread=150.0, passes=1)
    order = np.random.default_rng(0).permutation(len(set_of_ten.file))
    straight = refine_ctf(set_of_ten.file, set_of_ten.references, settings, micrograph=set_of_ten.micrograph)
    mixed = refine_ctf(
        set_of_ten.file.rows(order), set_of_ten.references, settings, micrograph=(99 - set_of_ten.micrograph)[order]
    )
    # the climb ends within 2 % of a standard deviation of the top
    np.testing.assert_allclose(mixed.defocus_change, straight.defocus_change[order], atol=3.0)


def test_the_same_run_gives_the_same_numbers(set_of_ten):
    first, second = (set_of_ten.refine(passes=1) for _ in range(2))
    assert (first.defocus_change == second.defocus_change).all()
    assert first.log_likelihood_gain == second.log_likelihood_gain


def test_without_micrographs_each_particle_stands_alone(set_of_ten):
    alone = refine_ctf(
        set_of_ten.file,
        set_of_ten.references,
        RefinementSettings(freedom=Freedom(astigmatism=False, common=False), spread=350.0, passes=1),
    )
    error = alone.particles.ctf.defocus - set_of_ten.true.ctf.defocus
    assert error.std() < 150 and (alone.astigmatism_change == 0).all()


def test_beam_tilt_has_the_sign_of_the_optics():
    tilt = (1.5e-3, -0.9e-3)
    truth = simulated(offset=50.0, spread=0.0, astigmatism=0.0, count=240, beam_tilt=tilt)
    result = truth.refine(beam_tilt=True, passes=2, freedom=Freedom("micrograph"))
    found = np.array(result.particles.optics[0].beam_tilt)
    group = result.groups[0]
    assert np.abs(found - tilt).max() < 4 * max(group.tilt.tilt_sigma) < 0.4e-3
    assert np.abs(found + tilt).max() > 10 * max(group.tilt.tilt_sigma)
    assert np.abs(result.particles.pose.shift - truth.true.pose.shift).max() < 0.15  # no shift was made
    assert result.log_likelihood_gain > 50


def test_a_common_shift_goes_into_the_origins():
    truth = simulated(offset=0.0, spread=0.0, astigmatism=0.0, count=240)
    moved = replace(truth.file, pose=replace(truth.file.pose, shift=truth.file.pose.shift + np.array([0.6, -0.4])))
    result = truth.refine(moved, beam_tilt=True, passes=2, freedom=Freedom("none", astigmatism=False))
    np.testing.assert_allclose(result.particles.pose.shift, truth.true.pose.shift, atol=0.15)
    assert result.particles.ctf is moved.ctf  # nothing else was asked for


def test_magnification_is_found_and_the_ctf_follows():
    """Images by the definition at the frequencies Mk; the file knows neither M nor defoci in true frequencies."""
    matrix = ((1.008, 0.004), (-0.002, 0.996))
    truth = simulated(offset=0.0, spread=0.0, astigmatism=0.0, count=300, magnification=matrix)
    result = truth.refine(magnification=True, passes=3, freedom=Freedom("micrograph"))
    found = np.array(result.particles.optics[0].magnification)
    sigma = np.sqrt(np.diag(result.groups[0].magnification.covariance)).reshape(2, 2)
    assert (np.abs(found - matrix) < 5 * sigma).all() and sigma.max() < 1e-3
    assert np.abs(found.T - matrix).max() > 5 * sigma.max()
    error = result.particles.ctf.defocus - truth.true.ctf.defocus
    assert np.abs(error).max() < 60


@pytest.mark.parametrize("state", [CtfState.PHASE_FLIPPED, CtfState.PREMULTIPLIED])
def test_images_without_their_ctf_are_refused(set_of_ten, state):
    optics = (replace(set_of_ten.file.optics[0], ctf_state=state),)
    with pytest.raises(DataProblem, match="recorded"):
        set_of_ten.refine(replace(set_of_ten.file, optics=optics))


def test_what_does_not_fit_is_refused(set_of_ten):
    file, references = set_of_ten.file, set_of_ten.references
    settings, micrograph = RefinementSettings(passes=1), set_of_ten.micrograph
    cases = {
        "of the same box|same box": (file, replace(references, maps=(np.zeros((32, 32, 32), np.float32),))),
        "same pixel size": (file, replace(references, pixel_size=1.7)),
        "poses": (replace(file, pose=None), references),
        "CTF": (replace(file, ctf=None), references),
        "half sets": (replace(file, half_set=None), replace(references, maps=references.maps * 2)),
        "voltage": (replace(file, optics=(replace(file.optics[0], voltage=None),)), references),
    }
    for words, (particles, maps) in cases.items():
        with pytest.raises(DataProblem, match=words):
            refine_ctf(particles, maps, settings, micrograph=micrograph)


def test_a_reference_that_the_images_do_not_show_is_refused(set_of_ten):
    noise = np.random.default_rng(1).normal(0, 1, (BOX,) * 3).astype(np.float32)
    settings = RefinementSettings(passes=1)
    with pytest.raises(DataProblem, match="do not show the reference"):
        refine_ctf(set_of_ten.file, replace(set_of_ten.references, maps=(noise,)), settings)
    with pytest.raises(DataProblem, match="opposite contrast"):
        refine_ctf(set_of_ten.file, set_of_ten.references, replace(settings, contrast=Contrast.RAW))


def test_dark_protein_is_taken_as_such(set_of_ten):
    dark = replace(set_of_ten.file, images=LoadedImages(-set_of_ten.file.images.pixels))
    settings = RefinementSettings(passes=1, contrast=Contrast.RAW)
    found = refine_ctf(dark, set_of_ten.references, settings, micrograph=set_of_ten.micrograph)
    bright = set_of_ten.refine(passes=1)
    np.testing.assert_allclose(found.defocus_change, bright.defocus_change, atol=0.5)


def test_inputs_are_not_modified(set_of_ten):
    kept = set_of_ten.file.ctf.defocus_u.copy(), set_of_ten.file.images.pixels.copy(), set_of_ten.volume.copy()
    set_of_ten.refine(passes=1, beam_tilt=True, magnification=True)
    assert (set_of_ten.file.ctf.defocus_u == kept[0]).all() and (set_of_ten.file.images.pixels == kept[1]).all()
    assert (set_of_ten.volume == kept[2]).all()
