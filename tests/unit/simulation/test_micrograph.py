"""Micrographs are what the physics says: each particle by its own height, ice by its spectrum, rungs that agree."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from vitreous.errors import SettingsProblem
from vitreous.fourier.shells import shell_mean
from vitreous.fourier.transforms import crop_real, forward, frequencies, inverse
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.io.bundled import load_bundled
from vitreous.model.microscope import Microscope
from vitreous.optics.electrons import interaction_constant, wavelength
from vitreous.optics.thickness import thick_power
from vitreous.optics.tilted_plane import TiltedPlane
from vitreous.scattering.ladder import CURVED, FLAT, ScatteringModel
from vitreous.scattering.propagation import band
from vitreous.simulation import patches
from vitreous.simulation.field_multislice import FieldStack, multislice_intensity
from vitreous.simulation.image_formation import form_image
from vitreous.simulation.micrograph import expected_intensity, ice_contrast, ice_share
from vitreous.simulation.particle_potential import ParticlePotential, centred_atoms, potential_of_atoms
from vitreous.simulation.patches import particle_contrast, patch_reach
from vitreous.simulation.placement import Field, Placement, Slab, place_particles
from vitreous.specimen.ice import IceField, ice_slabs, slab_spectrum
from vitreous.specimen.solvent import displaced_solvent
from vitreous.specimen.voxels import potential_slices, without_pixel_window

FIELD = Field((320, 384), 2.0)
LENS = Microscope(300e3, 2.7e7, 9000.0, astigmatism=(150.0, -80.0), amplitude_contrast=0.07, focal_sigma=25.0)
RUNGS = [model for model in FLAT + CURVED if model is not ScatteringModel.PROJECTION]


@pytest.fixture(scope="module")
def atoms():
    return centred_atoms(load_bundled("4ake"))


@pytest.fixture(scope="module")
def potential(atoms) -> ParticlePotential:
    return potential_of_atoms(atoms, FIELD.pixel_size, extra_b_factor=30.0, threads=1)


@pytest.fixture(scope="module")
def placement() -> Placement:
    return place_particles(FIELD, Slab(250.0, TiltedPlane(math.radians(30), 0.4)), 38.0, 12, seed=1)


def one_particle(z: float = 0.0, x: float = 0.0, y: float = 0.0) -> Placement:
    return Placement(np.array([[x, y, z]]), np.array([z]), np.array([[0.3, 1.1, -0.7]]))


def difference(image: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(image - other) / np.linalg.norm(other))


def limited(image: np.ndarray) -> np.ndarray:
    """What of a contrast lies in the band that waves have."""
    return inverse(forward(image, 2) * band(image.shape, half=True), image.shape)


# --- particles --------------------------------------------------------------------------------------------------------


def slabs_of(atoms, placement, field, thickness=4.0, count=25):
    """The slabs of the first particle of a placement, the whole field wide."""
    rotation = matrix_from_euler(placement.euler[0])
    turned = replace(atoms, position=atoms.position @ rotation.T + [*placement.position[0, :2], 0.0])
    slabs = potential_slices(
        turned,
        field.shape,
        field.pixel_size,
        thickness=thickness,
        count=count,
        extra_b_factor=30.0,
        displaced=displaced_solvent(atoms),
        threads=1,
    )
    return without_pixel_window(slabs)


@pytest.fixture(scope="module")
def fine(atoms) -> ParticlePotential:
    return potential_of_atoms(atoms, 1.0, extra_b_factor=30.0, threads=1)


@pytest.mark.parametrize("model", list(FLAT + CURVED))
def test_a_particle_is_imaged_as_the_ladder_images_its_slabs(atoms, fine, model):
    """Two ways to one image: slices through a transform on a patch, and slabs of atoms over the whole field."""
    field = Field((256, 256), 1.0)
    placement = one_particle(x=31.7, y=-24.9)
    slabs = slabs_of(atoms, placement, field)
    expected = limited(np.asarray(form_image(slabs, LENS, model)) - 1)
    found = limited(particle_contrast(field, fine, placement, LENS, model))
    # What averages over pixels fold back from beyond Nyquist is 2 % here (5 % with pixels of 2 A).
    assert difference(found, expected) < 0.025
    if model in CURVED:  # the same particle upside down is the other hand of the Ewald sphere
        upside_down = replace(slabs, projected=slabs.projected[::-1])
        assert difference(found, limited(np.asarray(form_image(upside_down, LENS, model)) - 1)) > 0.033


@pytest.mark.parametrize("model", RUNGS)
def test_all_rungs_agree_in_the_weak_limit(potential, placement, model):
    """With 1e-2 of the potential, flat rungs are the projection, and curved ones differ by the depth of the particle alone."""
    weak = replace(potential, volts=potential.volts * np.float32(1e-2))
    linear = particle_contrast(FIELD, weak, placement, LENS)
    image = particle_contrast(FIELD, weak, placement, LENS, model)
    # Curvature: pi lambda k^2 R = 0.15 at k = 1/4, R = 38 A. Rounding of 1 + c is 1e-7, contrasts here are 5e-5 rms.
    assert difference(image, linear) < (0.02 if model in FLAT else 0.12)
    assert difference(-image, linear) > 1.9


@pytest.mark.parametrize("model", [ScatteringModel.PROJECTION, ScatteringModel.PHASE_OBJECT])
def test_height_is_defocus(potential, model):
    raised = particle_contrast(FIELD, potential, one_particle(400.0), LENS, model)
    defocused = particle_contrast(FIELD, potential, one_particle(), replace(LENS, defocus=LENS.defocus + 400.0), model)
    lowered = particle_contrast(FIELD, potential, one_particle(-400.0), LENS, model)
    # The same but for the size of the patch.
    assert difference(raised, defocused) < 1e-2
    assert difference(lowered, defocused) > 0.2


def test_protein_is_dark_at_underfocus(potential):
    image = particle_contrast(FIELD, potential, one_particle(), LENS)
    assert crop_real(image, (20, 20), 2).mean() < -0.005
    over = replace(LENS, defocus=-LENS.defocus, amplitude_contrast=0.0)
    assert crop_real(particle_contrast(FIELD, potential, one_particle(), over), (20, 20), 2).mean() > 0.002


def test_a_patch_holds_the_ripples(potential, monkeypatch):
    whole = particle_contrast(FIELD, potential, one_particle(), LENS)
    monkeypatch.setattr(patches, "patch_box", lambda *_: 320)
    assert difference(whole, particle_contrast(FIELD, potential, one_particle(), LENS)) < patches.FAINTEST
    monkeypatch.setattr(patches, "patch_box", lambda *_: potential.box)
    assert difference(whole, particle_contrast(FIELD, potential, one_particle(), LENS)) > 0.1
    # At Nyquist, 1/4, 9000 A carry by lambda df k = 44 A, spherical aberration 3 A back; a fringe is 13 A.
    assert patch_reach(replace(LENS, astigmatism=(0.0, 0.0)), 2.0) == pytest.approx(44.3 - 3.2 + 13.3, abs=0.2)


def test_threads_and_batches_do_not_matter(potential, placement, monkeypatch):
    one = particle_contrast(FIELD, potential, placement, LENS, threads=1)
    assert np.array_equal(one, particle_contrast(FIELD, potential, placement, LENS, threads=3))
    monkeypatch.setattr(patches, "POINTS_AT_A_TIME", 1)
    # Each slice has the tolerance of its own transform.
    assert difference(particle_contrast(FIELD, potential, placement, LENS), one) < 2 * patches.TOLERANCE


def test_particles_add_up_and_what_lies_beyond_the_field_is_cut(potential):
    small, large = Field((128, 128), 2.0), Field((512, 512), 2.0)
    near_edge = one_particle(x=100.0, y=-90.0)
    part = particle_contrast(small, potential, near_edge, LENS)
    assert np.array_equal(part, crop_real(particle_contrast(large, potential, near_edge, LENS), (128, 128), 2))
    both = Placement(
        np.concatenate([near_edge.position, -near_edge.position]), np.zeros(2), np.repeat(near_edge.euler, 2, axis=0)
    )
    second = Placement(-near_edge.position, np.zeros(1), near_edge.euler)
    total = part + particle_contrast(small, potential, second, LENS)
    assert np.abs(particle_contrast(small, potential, both, LENS) - total).max() < 1e-5


def test_multislice_is_not_a_model_of_single_particles(potential, placement):
    with pytest.raises(SettingsProblem, match="multislice"):
        particle_contrast(FIELD, potential, placement, LENS, ScatteringModel.MULTISLICE)


def test_the_particle_in_ice_has_the_potential_and_the_volume_of_its_atoms(atoms, potential):
    voxel = FIELD.pixel_size**3
    # 23.6 kDa of protein at 1.35 g/cm^3 are 29,000 A^3; tables of volumes differ by some percent.
    assert potential.occupied.sum() * voxel == pytest.approx(29_000, rel=0.1)
    # 3.4 V above ice in this volume (physics.md b3), which hydrogens and volumes of single atoms make uncertain by a tenth.
    assert potential.volts.sum() * voxel == pytest.approx(3.4 * 29_000, rel=0.15)


# --- ice --------------------------------------------------------------------------------------------------------------


def spectrum_of_slab(k: np.ndarray, depth: float) -> np.ndarray:
    """`slab_spectrum` through radii 0.01 apart, for a whole plane of frequencies."""
    radii = np.arange(0, k.max() + 0.01, 0.01)
    return np.interp(k, radii, slab_spectrum(radii, depth))


def grain(field: Field, depth: float, seed: int) -> list[np.ndarray]:
    return [next(ice_slabs(IceField(field.shape, field.pixel_size, depth, seed=seed + half), 1)) for half in (0, 1)]


def test_ice_has_the_declared_spectrum_under_the_lens():
    """Power of contrast = (2 sigma)^2 x spectrum of the slab x thick-specimen power of the CTF, envelope included."""
    field, depth = Field((384, 384), 1.5), 1500.0  # the first node is at 0.184: rings come back beyond it
    lens = replace(LENS, astigmatism=(0.0, 0.0), focal_sigma=0.0, b_factor=20.0)
    count = 6
    power = 0.0
    for seed in range(count):
        image = ice_contrast(grain(field, depth, 10 * seed), field, Slab(depth), lens)
        power = power + np.abs(forward(image.astype(np.float64), 2)) ** 2 / count
    kx, ky = frequencies(field.shape, field.pixel_size)
    k = np.hypot(kx, ky)
    lens_power = thick_power(
        kx, ky, lens.defocus, thickness=depth, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.07
    )
    area = 384 * 384 * 1.5**2
    declared = (
        (2 * interaction_constant(300e3)) ** 2 * spectrum_of_slab(k, depth) * lens_power * np.exp(-0.5 * 20 * k**2)
    )
    # |F|^2 of an image of N pixels of area a: declared (per area) x N / a.
    expected = shell_mean(declared, field.shape) * area / 1.5**4
    found = shell_mean(power, field.shape)
    shells = slice(8, 190)
    independent = count * np.pi * np.arange(8, 190)  # coefficients in a shell of a real image
    assert (np.abs(found[shells] / expected[shells] - 1) < 5 / np.sqrt(independent)).all()
    plain = shell_mean(spectrum_of_slab(k, depth) * np.exp(-0.5 * 20 * k**2) * lens_power.mean(), field.shape)
    assert np.abs(np.corrcoef(found[shells] / plain[shells], np.arange(182))[0, 1]) < 0.9  # rings, not a smooth curve


def test_ice_of_a_tilted_slab_has_the_defocus_of_its_place():
    """Rings of the left and of the right of a tilted field, against the CTFs of the middles of the two halves."""
    field, slab = Field((256, 1024), 2.0), Slab(100.0, TiltedPlane(math.radians(50)))
    lens = replace(LENS, defocus=7000.0, astigmatism=(0.0, 0.0), focal_sigma=0.0)
    image = ice_contrast(grain(field, slab.depth, 3), field, slab, lens)
    for side, sign in ((slice(0, 256), 1), (slice(768, 1024), -1)):
        tile = image[:, side] * np.outer(np.hanning(256), np.hanning(256))
        kx, ky = frequencies((256, 256), 2.0)
        power = shell_mean(np.abs(forward(tile, 2)) ** 2 / spectrum_of_slab(np.hypot(kx, ky), slab.depth), (256, 256))
        match = {}
        for hand in (1, -1):
            local = 7000.0 + hand * sign * 768.0 * math.tan(math.radians(50))
            rings = thick_power(
                kx, ky, local, thickness=slab.depth, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.07
            )
            match[hand] = np.corrcoef(power[12:70], shell_mean(rings, (256, 256))[12:70])[0, 1]
        # Within a half the defocus still changes by 600 A, which at 7 A is a third of a turn: rings are washed out beyond.
        assert match[1] > 0.5 > match[-1] + 0.2


def test_particles_drive_the_grain_of_the_ice_away(potential, placement):
    slab = Slab(100.0)
    share = ice_share(FIELD, slab, potential, placement)
    volume = (1 - share.astype(np.float64) ** 2).sum() * FIELD.pixel_size**2 * slab.depth
    assert volume == pytest.approx(12 * potential.occupied.sum() * FIELD.pixel_size**3, rel=0.02)
    centre = np.rint(FIELD.pixels(placement.position[:1, :2])).astype(int)[0]
    assert share[centre[1], centre[0]] < 0.93 < 0.99 < np.median(share)
    unknown = replace(potential, occupied=None)
    assert (ice_share(FIELD, slab, unknown, placement) == 1).all()


def test_what_the_ice_absorbs_dims_everything(potential, placement):
    bright = expected_intensity(FIELD, Slab(250.0), potential, placement, LENS)
    dim = expected_intensity(FIELD, Slab(250.0), potential, placement, LENS, transmitted=0.8)
    assert np.allclose(dim, 0.8 * bright, rtol=1e-6)
    assert bright.dtype == np.float32 and bright.mean() == pytest.approx(1, abs=0.01)


def test_absorption_is_an_amplitude_contrast(potential):
    """Absorption in proportion to the potential is w = tan of its angle: dVim = w/sqrt(1 - w^2) dV."""
    w = 0.2
    absorbing = replace(potential, occupied=potential.volts, absorption=w / math.sqrt(1 - w**2))
    lens = replace(LENS, amplitude_contrast=0.0)
    for model in (*FLAT, ScatteringModel.EWALD):
        computed = particle_contrast(FIELD, absorbing, one_particle(), lens, model)
        scaled = replace(potential, volts=potential.volts / np.float32(math.sqrt(1 - w**2)))
        given = particle_contrast(FIELD, scaled, one_particle(), replace(lens, amplitude_contrast=w), model)
        assert difference(computed, given) < 1e-3
        opposite = particle_contrast(FIELD, scaled, one_particle(), replace(lens, amplitude_contrast=-w), model)
        assert difference(computed, opposite) > 0.2
    with pytest.raises(SettingsProblem, match="atomic model"):
        ParticlePotential(potential.volts, 2.0, 38.0, None, absorption=0.2)


# --- multislice of the field ------------------------------------------------------------------------------------------


def test_slabs_of_a_field_add_up_to_its_projection(atoms, potential, placement):
    tilted = Slab(250.0, TiltedPlane(math.radians(30), 0.4))
    stack = FieldStack(FIELD, tilted, atoms, placement, 10.0, extra_b_factor=30.0)
    total = sum(slab.astype(np.float64) for slab in stack)
    integral = potential.volts.sum(dtype=np.float64) * FIELD.pixel_size**3
    # Atoms are cut off at 1e-4 of their potential, as much again is the potential volume's own tolerance.
    assert total.sum() * FIELD.pixel_size**2 == pytest.approx(12 * integral, rel=1e-3)
    # 289 A of ice along the beam, and tan(30) of 766 A x sin(0.4) + 638 A x cos(0.4) between opposite corners.
    assert stack.count == 81 and FieldStack(FIELD, Slab(250.0), atoms, placement, 10.0).height == pytest.approx(-120.0)
    x, y = np.rint(FIELD.pixels(placement.position[3:4, :2])).astype(int)[0]
    assert total[y - 4 : y + 5, x - 4 : x + 5].mean() > 20 * np.abs(np.median(total))


@pytest.mark.parametrize("tilt", [0.0, 35.0])
def test_ice_fills_its_depth_and_no_more(atoms, tilt):
    slab = Slab(205.0, TiltedPlane(math.radians(tilt), 1.1))
    stack = FieldStack(Field((48, 64), 4.0), slab, atoms, one_particle(), 10.0)
    filled = sum(stack._ice_in(number) for number in range(stack.count)) * stack.thickness
    assert np.allclose(filled, slab.depth, atol=0.02)  # float32


def test_multislice_agrees_with_the_ladder_of_single_particles(atoms, potential):
    """Thick, several particles at their heights: what is left is the order of the scattering and the window of pixels."""
    placement = place_particles(FIELD, Slab(300.0, TiltedPlane(math.radians(30))), 38.0, 8, seed=2)
    flat = Slab(800.0)  # holds them all
    stack = FieldStack(FIELD, flat, atoms, placement, 12.0, extra_b_factor=30.0, amplitude_contrast=0.07)
    wave = limited(multislice_intensity(stack, LENS) - 1)
    single = limited(particle_contrast(FIELD, potential, placement, LENS, ScatteringModel.THICK_PHASE_GRATING))
    assert difference(wave, single) < 0.06  # 5 % is what pixels of 2 A fold back, see above
    mirrored = replace(placement, position=placement.position * np.array([1, 1, -1]))
    other = limited(particle_contrast(FIELD, potential, mirrored, LENS, ScatteringModel.THICK_PHASE_GRATING))
    assert difference(wave, other) > 0.15


def test_absorbing_ice_passes_what_its_mean_free_path_says(atoms):
    length = 3000.0
    loss = 1 / (2 * interaction_constant(300e3) * length)
    nobody = Placement(np.empty((0, 3)), np.empty(0), np.empty((0, 3)))
    for slab in (Slab(800.0), Slab(800.0, TiltedPlane(math.radians(40)))):
        stack = FieldStack(Field((64, 64), 2.0), slab, atoms, nobody, 25.0, ice_absorption=loss)
        intensity = multislice_intensity(stack, replace(LENS, focal_sigma=0.0))
        expected = math.exp(-slab.depth / length)
        assert intensity.mean() == pytest.approx(expected, rel=1e-5)
        # The field is periodic: at its ends tilted ice has steps, with fringes of half a percent.
        assert np.allclose(intensity, expected, rtol=1e-6 if slab.plane.tilt == 0 else 0.005)


def test_grain_of_multislice_has_the_spectrum_of_the_slab(atoms):
    """A stack of slabs of ice under the lens: the same rings as the formula of thick specimens, nodes included."""
    field, depth = Field((256, 256), 2.0), 1000.0
    nobody = Placement(np.empty((0, 3)), np.empty(0), np.empty((0, 3)))
    lens = replace(LENS, astigmatism=(0.0, 0.0), focal_sigma=0.0, amplitude_contrast=0.0)
    power, count = 0.0, 3
    for seed in range(count):
        ice = IceField(field.shape, field.pixel_size, 20.0, seed=seed, pixel_average=True)
        stack = FieldStack(field, Slab(depth), atoms, nobody, 20.0, grain=ice)
        image = multislice_intensity(stack, lens).astype(np.float64) - 1
        power = power + np.abs(forward(image, 2)) ** 2 / count
    kx, ky = frequencies(field.shape, field.pixel_size)
    rings = thick_power(
        kx, ky, lens.defocus, thickness=depth, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.0
    )
    declared = (2 * interaction_constant(300e3)) ** 2 * spectrum_of_slab(np.hypot(kx, ky), depth) * rings
    shells = slice(10, 80)  # the band ends at shell 85
    ratio = shell_mean(power, field.shape)[shells] / shell_mean(declared, field.shape)[shells] * 2.0**2 / 256**2
    error = 1 / np.sqrt(count * np.pi * np.arange(10, 80))
    # Scattering twice adds a few percent, most where rings have their zeros.
    assert np.abs(np.mean((ratio - 1) / error)) < 2 and (np.abs(ratio - 1) < 6 * error + 0.1).all()
    assert wavelength(300e3) * depth * (1 / 6) ** 2 > 0.5  # thick enough for the rings to be damped at the band's end
