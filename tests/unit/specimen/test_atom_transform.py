from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import forward, frequencies, without_nyquist
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.model.atoms import Atoms
from vitreous.reference import imaging as reference
from vitreous.specimen.atom_transform import (
    atom_slices,
    centred_height,
    posed,
    projected_potential,
    projected_transform,
    slice_transforms,
)
from vitreous.specimen.potential import potential_volume
from vitreous.specimen.profiles import atom_profiles

ELEMENTS = np.array(["C", "N", "O", "S", "ZN"])


def some_atoms(rng, count=20, reach=6.0) -> Atoms:
    names = np.full(count, "A")
    return Atoms(
        rng.uniform(-reach, reach, (count, 3)),
        ELEMENTS[rng.integers(0, len(ELEMENTS), count)],
        rng.uniform(8, 60, count),
        rng.uniform(0.4, 1, count),
        names,
        names,
        np.arange(count),
    )


def gaussians(profiles, i):
    return list(zip(profiles.amplitude[profiles.kind[i]], profiles.width[profiles.kind[i]] + profiles.b_factor[i]))


@pytest.mark.parametrize("shape", [(14, 16), (15, 13)])
def test_projection_is_the_definition(rng, shape):
    atoms = some_atoms(rng)
    profiles = atom_profiles(atoms, displaced=dict.fromkeys(ELEMENTS, (20.0, 40.0)))
    kx, ky = frequencies(shape, 1.1)
    terms = [gaussians(profiles, i) for i in range(len(atoms))]
    expected = reference.atoms_transform(kx, ky, atoms.position, terms, atoms.occupancy) / 1.1**2
    transform = projected_transform(atoms.position, profiles, shape, 1.1, chunk=3)
    np.testing.assert_allclose(transform, without_nyquist(expected, shape), atol=1e-10 * np.abs(expected).max())
    mirrored = projected_transform(-atoms.position, profiles, shape, 1.1)
    assert np.abs(mirrored - transform).max() > 0.1 * np.abs(transform).max()


def test_slices_are_the_definition(rng):
    atoms = some_atoms(rng, 8)
    profiles = atom_profiles(atoms)
    shape, thickness, count, height = (10, 12), 2.5, 3, -2.0
    kx, ky = frequencies(shape, 1.2)
    transforms = slice_transforms(atoms.position, profiles, shape, 1.2, thickness=thickness, count=count, height=height)
    for j in range(count):
        bottom = height + (j - 0.5) * thickness
        expected = 0
        for i in range(len(atoms)):
            for amplitude, width in gaussians(profiles, i):
                share = reference.share_in_slab(atoms.position[i, 2], width, bottom, bottom + thickness)
                one = reference.atoms_transform(kx, ky, atoms.position[i : i + 1], [[(amplitude, width)]], [share])
                expected = expected + one * atoms.occupancy[i] / 1.2**2
        # the midpoint sums of the definition are good to 1e-8
        expected = without_nyquist(expected, shape)
        np.testing.assert_allclose(transforms[j], expected, atol=1e-7 * np.abs(expected).max())


def test_projection_agrees_with_the_volume(rng):
    """The map of `potential_volume` is band-limited: its projection is the projection of the potential."""
    atoms = some_atoms(rng, 200, 12.0)
    volume = potential_volume(atoms, 40, 1.0, centre=False, tolerance=1e-8)
    projected = projected_potential(atoms.position, atom_profiles(atoms), (40, 40), 1.0)
    scale = np.abs(projected).max()
    # the tolerance of the volume's shared profiles, per atom
    np.testing.assert_allclose(projected, volume.data.sum(axis=0), atol=1e-7 * scale)
    assert np.abs(projected - volume.data.sum(axis=0).T).max() > 0.1 * scale


def test_pose_is_that_of_the_house(rng):
    """A rotated and shifted particle: the slice of the volume at R^T (kx, ky, 0), moved by minus the origin."""
    atoms = some_atoms(rng)
    rotation, shift = matrix_from_euler(rng.uniform(-3, 3, 3)), np.array([1.7, -0.8])
    profiles = atom_profiles(atoms)
    transform = projected_transform(posed(atoms.position, rotation, shift), profiles, (15, 15), 1.0)
    kx, ky = (k + np.zeros((15, 8)) for k in frequencies((15, 15), 1.0))
    k = np.stack([kx, ky, 0 * kx], axis=-1) @ rotation  # R^T k
    squares = kx**2 + ky**2
    expected = 0
    for i in range(len(atoms)):
        form = sum(a * np.exp(-w * squares / 4) for a, w in gaussians(profiles, i))
        expected = expected + atoms.occupancy[i] * form * np.exp(-2j * np.pi * (k @ atoms.position[i]))
    expected = expected * np.exp(2j * np.pi * (kx * shift[0] + ky * shift[1]))
    np.testing.assert_allclose(transform, expected, atol=1e-10 * np.abs(expected).max())
    wrong = projected_transform(posed(atoms.position, rotation, -shift), profiles, (15, 15), 1.0)
    assert np.abs(wrong - expected).max() > 0.1 * np.abs(expected).max()


def test_slices_add_up_to_the_projection(rng):
    atoms = some_atoms(rng)
    profiles = atom_profiles(atoms)
    slices = atom_slices(atoms.position, profiles, (16, 16), 1.0, thickness=3.0, count=8)
    assert slices.projected.shape == (8, 16, 16)
    assert (slices.thickness, slices.height) == (3.0, centred_height(3.0, 8)) == (3.0, -10.5)
    projected = projected_potential(atoms.position, profiles, (16, 16), 1.0)
    # what lies 6 A or more from every atom, in the tails of Gaussians, is less than rounding
    np.testing.assert_allclose(slices.projected.sum(axis=0), projected, atol=1e-10 * np.abs(projected).max())
    finer = atom_slices(atoms.position, profiles, (16, 16), 1.0, thickness=1.0, count=24).projected
    np.testing.assert_allclose(finer.reshape(8, 3, 16, 16).sum(axis=1), slices.projected, atol=1e-10)


def test_slices_stand_where_their_atoms_are(rng):
    atoms = some_atoms(rng, 1)
    slices = atom_slices(np.array([[0.0, 0.0, 5.0]]), atom_profiles(atoms), (16, 16), 1.0, thickness=2.0, count=8)
    heights = slices.height + 2.0 * np.arange(8)
    assert heights[np.argmax(slices.projected.sum(axis=(1, 2)))] == 5.0


def test_volume_integral(rng):
    """47.8776472 f(0) V A^3 for carbon, physics.md b2; unchanged by the place within a pixel."""
    atoms = replace(some_atoms(rng, 1), element=np.array(["C"]), occupancy=np.array([1.0]))
    for x in (0.0, 0.3):
        projected = projected_potential(np.array([[x, 0.0, 0.0]]), atom_profiles(atoms), (16, 16), 0.8)
        assert projected.sum() * 0.8**2 == pytest.approx(47.8776472 * 2.5088, rel=3e-5)  # digits of f(0)


def test_single_precision(rng):
    """At 128 px the phases of atoms far from the middle reach 30 turns: 1e-5 of the maximum."""
    atoms = some_atoms(rng, 100, 50.0)
    profiles = atom_profiles(atoms)
    exact = projected_potential(atoms.position, profiles, (128, 128), 1.0)
    single = projected_potential(atoms.position.astype(np.float32), profiles, (128, 128), 1.0)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, atol=1e-5 * np.abs(exact).max())
    slices = atom_slices(atoms.position.astype(np.float32), profiles, (16, 16), 1.0, thickness=4.0, count=2)
    assert slices.projected.dtype == np.float32
    turned = posed(atoms.position.astype(np.float32), np.eye(3), (1.0, 2.0))
    assert turned.dtype == np.float32


def test_jax_gives_the_same(rng):
    import jax

    atoms = replace(some_atoms(rng), element=np.full(20, "C"))
    profiles = atom_profiles(atoms)
    with jax.enable_x64(True):
        position = jax.numpy.asarray(atoms.position)
        projected = jax.jit(lambda p: projected_potential(p, profiles, (12, 12), 1.0))(position)
        np.testing.assert_allclose(projected, projected_potential(atoms.position, profiles, (12, 12), 1.0), atol=1e-11)
        slices = jax.jit(lambda p: atom_slices(p, profiles, (12, 12), 1.0, thickness=4.0, count=3).projected)(position)
        expected = atom_slices(atoms.position, profiles, (12, 12), 1.0, thickness=4.0, count=3).projected
        np.testing.assert_allclose(slices, expected, atol=1e-11)


def test_chunks_make_no_difference_and_inputs_stay(rng):
    atoms = some_atoms(rng)
    profiles, kept = atom_profiles(atoms), atoms.position.copy()
    whole = atom_slices(atoms.position, profiles, (12, 12), 1.0, thickness=4.0, count=3).projected
    parts = atom_slices(atoms.position, profiles, (12, 12), 1.0, thickness=4.0, count=3, chunk=1).projected
    np.testing.assert_allclose(parts, whole, atol=1e-12)
    np.testing.assert_array_equal(atoms.position, kept)


def test_forward_of_the_image_is_the_transform(rng):
    atoms = some_atoms(rng)
    profiles = atom_profiles(atoms)
    image = projected_potential(atoms.position, profiles, (12, 14), 1.0)
    transform = projected_transform(atoms.position, profiles, (12, 14), 1.0)
    np.testing.assert_allclose(forward(image, 2), transform, atol=1e-10 * np.abs(transform).max())


def test_input_that_cannot_work(rng):
    atoms = some_atoms(rng)
    profiles = atom_profiles(atoms)
    with pytest.raises(SettingsProblem, match=r"0\.125"):
        projected_transform(atoms.position, profiles, (12, 12), 0.1)
    with pytest.raises(SettingsProblem, match="two sizes"):
        projected_transform(atoms.position, profiles, (12, 12, 12), 1.0)
    with pytest.raises(SettingsProblem, match="slab"):
        slice_transforms(atoms.position, profiles, (12, 12), 1.0, thickness=1.0, count=0)
    with pytest.raises(DataProblem, match="kinds"):
        projected_transform(atoms.position, replace(profiles, kind=list(profiles.kind)), (12, 12), 1.0)
