"""Images by wave optics: in the weak limit every rung is the projection under the CTF, on its scale and with its sign."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.shells import power_spectrum
from vitreous.fourier.transforms import forward, frequencies, inverse, shift_phases
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.model.atoms import Atoms
from vitreous.model.optics import OpticsGroup
from vitreous.model.particles import Particles
from vitreous.optics.ctf import ctf_of_particles
from vitreous.scattering.ladder import ScatteringModel
from vitreous.simulation.particles import ParticleDistribution, draw_particles
from vitreous.simulation.wave_images import AtomicScene, microscope_of, wave_images
from vitreous.specimen.potential import potential_volume
from vitreous.specimen.profiles import atom_profiles

BOX, PIXEL_SIZE = 48, 1.5
WAVES = [model for model in ScatteringModel if model is not ScatteringModel.PROJECTION]
WEAK = 0.1  # occupancy; with the second order taken out, what is left of higher ones is 1e-4


def blob(extent: tuple[float, float, float], n: int = 60) -> Atoms:
    """Atoms at random within a box about the origin, B = 40: next to nothing of them lies beyond Nyquist."""
    rng = np.random.default_rng(4)
    position = rng.uniform(-1, 1, (n, 3)) * extent
    element = rng.choice(["C", "N", "O", "S"], n)
    text = np.full(n, "A", dtype=object)
    return Atoms(position - position.mean(axis=0), element, np.full(n, 40.0), np.ones(n), text, text, np.arange(n))


def scene(atoms: Atoms, model, occupancy: float = 1.0, **options) -> AtomicScene:
    profiles = atom_profiles(replace(atoms, occupancy=np.full(len(atoms), occupancy)))
    settings = {"box": BOX, "pixel_size": PIXEL_SIZE, "slice_thickness": 3.0, "scale": 1 / occupancy} | options
    return AtomicScene(atoms.position, profiles, model=ScatteringModel(model), **settings)


def particles_of(count: int = 3, **optics) -> Particles:
    known = {"pixel_size": PIXEL_SIZE, "box": BOX, "voltage": 300e3, "spherical_aberration": 2.7e7}
    group = OpticsGroup(**(known | {"amplitude_contrast": 0.1} | optics))
    return draw_particles(ParticleDistribution(group, (1e3, 3e3), astigmatism=300.0, shift=4.0, seed=3), count)


def images_of(scene: AtomicScene, particles: Particles, **options) -> np.ndarray:
    return np.concatenate(list(wave_images(scene, particles, **options)))


def weak_images(atoms: Atoms, model, particles: Particles) -> np.ndarray:
    """The part that is odd in the potential: of atoms and of their negatives, so that the second order cancels."""
    pair = [images_of(scene(atoms, model, occupancy), particles) for occupancy in (WEAK, -WEAK)]
    return (pair[0] + pair[1]) / 2


def linear_images(atoms: Atoms, particles: Particles) -> np.ndarray:
    """Sum of the map's voxels (volt) along the beam, of the atoms turned by each pose, under `+sin gamma`: no interpolation."""
    grids = frequencies((BOX, BOX), PIXEL_SIZE)
    transfer = ctf_of_particles(particles.optics[0], particles.ctf, *grids)
    images = []
    for euler, shift, ctf in zip(particles.pose.euler, particles.pose.shift, transfer):
        turned = replace(atoms, position=atoms.position @ matrix_from_euler(euler).T)
        volume = potential_volume(turned, BOX, PIXEL_SIZE, centre=False, threads=1)
        flat = forward(volume.data.sum(axis=0), 2) * ctf * shift_phases(-shift, grids)
        images.append(inverse(flat, (BOX, BOX)))
    return np.array(images)


def relative_difference(images: np.ndarray, expected: np.ndarray) -> float:
    """Within 90 % of Nyquist: the wave ends in a disc, the map in a square."""
    shells = slice(0, int(0.9 * BOX / 2))
    difference, whole = (power_spectrum(each, 2)[:, shells].sum() for each in (images - expected, expected))
    return float(np.sqrt(difference / whole))


@pytest.mark.parametrize("model", WAVES)
def test_weak_limit_of_a_thin_specimen_is_the_projection(model):
    """Absolute scale, sign, shift, astigmatism and amplitude contrast: 0.1 % is what is folded back into the pixels."""
    atoms, particles = blob((14.0, 14.0, 0.2)), particles_of()
    flat = replace(particles, pose=replace(particles.pose, euler=particles.pose.euler * [1.0, 0.0, 1.0]))
    images, expected = weak_images(atoms, model, flat), linear_images(atoms, flat)
    assert relative_difference(images, expected) < 0.002
    assert relative_difference(-images, expected) > 1.9
    assert images.dtype == np.float32 and images.shape == (3, BOX, BOX)


@pytest.mark.parametrize("model", WAVES)
def test_weak_limit_of_a_thick_specimen_differs_by_its_depth_alone(model):
    """Poses in any direction: the rungs with depth differ from the projection, all alike, those without do not."""
    atoms, particles = blob((14.0, 14.0, 14.0)), particles_of()
    images = weak_images(atoms, model, particles)
    from_projection = relative_difference(images, linear_images(atoms, particles))
    if model in (ScatteringModel.WEAK_PHASE, ScatteringModel.PHASE_OBJECT):
        assert from_projection < 0.002
    else:
        # pi lambda k^2 z at 3.5 A and 10 A is 0.05 radian, in the mean over frequencies a third of that
        assert 0.005 < from_projection < 0.06
        multislice = weak_images(atoms, "multislice", particles)
        assert relative_difference(images, multislice) < 0.003


def test_rungs_part_where_the_specimen_is_strong():
    """Weak phase and phase object differ by the second order, which grows with the potential."""
    atoms, particles = blob((14.0, 14.0, 14.0)), particles_of(1)
    differences = []
    for occupancy in (0.1, 0.2, 0.4):
        weak, strong = (images_of(scene(atoms, m, occupancy), particles) for m in ("weak_phase", "phase_object"))
        differences.append(relative_difference(weak, strong))
    ratios = np.divide(differences[1:], differences[:-1])
    assert ratios == pytest.approx([2, 2], rel=0.1)  # relative to a signal that grows itself


def test_weak_phase_from_the_map_is_that_of_the_wave():
    """Two real transforms of exact slices against a complex wave through the atoms; the second order is a third of it here."""
    atoms, particles = blob((14.0, 14.0, 14.0)), particles_of(5)
    strong = scene(atoms, "weak_phase", 6.0, scale=0.7)
    full = replace(atoms, occupancy=np.full(len(atoms), 6.0))
    volume = potential_volume(full, BOX, PIXEL_SIZE, centre=False, threads=1)
    wave, fast = images_of(strong, particles), images_of(replace(strong, volume=volume), particles)
    assert relative_difference(fast, wave) < 0.01  # slices good to 1e-4; folding, and the disc's edge
    linear = 0.7 * linear_images(full, particles)
    assert relative_difference(wave, linear) > 0.1
    tilted = particles_of(2, beam_tilt=(2e-3, -1e-3))
    fast, wave = (images_of(each, tilted) for each in (replace(strong, volume=volume), strong))
    assert relative_difference(fast, wave) < 0.01  # odd phases too


def test_slabs_hold_all_atoms_whatever_the_pose():
    atoms, particles = blob((4.0, 6.0, 20.0)), particles_of(4)
    made = scene(atoms, "multislice", slice_thickness=2.0)
    expected = atom_profiles(atoms).integral.sum()
    counts = set()
    for euler, shift in zip(particles.pose.euler, particles.pose.shift):
        slices = made.slices(matrix_from_euler(euler), shift)
        counts.add(len(slices))
        assert slices.projected.sum() * slices.pixel_size**2 == pytest.approx(expected, rel=2e-4)  # OUTSIDE, float32
        assert slices.height == pytest.approx(-(len(slices) - 1) / 2 * 2.0)  # the middle of the stack is z = 0
        assert slices.pixel_size * slices.projected.shape[-1] == pytest.approx(BOX * PIXEL_SIZE)
    assert len(counts) > 1


def test_chunks_and_threads_do_not_change_the_images():
    atoms, particles = blob((10.0, 10.0, 10.0), 20), particles_of(5)
    made = scene(atoms, "multislice")
    one = images_of(made, particles)
    assert np.array_equal(one, images_of(made, particles, threads=2, images_per_chunk=2))
    assert np.array_equal(one[3:4], images_of(made, particles.rows(slice(3, 4))))


def test_the_microscope_is_that_of_the_particle():
    particles = particles_of(3, beam_tilt=(1e-3, 0.0), amplitude_contrast=0.07)
    seen = microscope_of(particles, 2)
    assert (seen.voltage, seen.amplitude_contrast, seen.coma_tilt) == (300e3, 0.07, (1e-3, 0.0))
    assert seen.defocus == particles.ctf.defocus[2] and seen.astigmatism == tuple(particles.ctf.astigmatism[2])


def test_refusals():
    atoms, particles = blob((5.0, 5.0, 5.0), 5), particles_of(1)
    with pytest.raises(SettingsProblem, match="no wave"):
        scene(atoms, "projection")
    with pytest.raises(SettingsProblem, match="slabs of 0"):
        scene(atoms, "multislice", slice_thickness=0.0)
    made = scene(atoms, "multislice")
    with pytest.raises(DataProblem, match="orientations"):
        images_of(made, replace(particles, pose=None))
    with pytest.raises(DataProblem, match="one box and one pixel size"):
        images_of(made, particles_of(1, pixel_size=2.0))
    stretched = replace(particles.optics[0], magnification=((1.1, 0.0), (0.0, 1.0)))
    with pytest.raises(DataProblem, match="magnification"):
        images_of(made, replace(particles, optics=(stretched,)))
    assert particles.contrast is Contrast.INVERTED and particles.ctf_state is CtfState.RAW
