"""Gradients of the whole chain, atoms to expected counts, in float64: the bar of physics.md (c) 12 is 1e-4."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest

from vitreous.arrays import namespace
from vitreous.errors import SettingsProblem
from vitreous.geometry.rotations import matrix_from_euler, matrix_from_rotation_vector
from vitreous.model.atoms import Atoms
from vitreous.model.microscope import Microscope
from vitreous.scattering.ladder import ScatteringModel
from vitreous.simulation.differentiable import ImageParameters, expected_counts, image_parameters
from vitreous.simulation.image_formation import form_image
from vitreous.specimen.atom_transform import atom_slices, projected_potential
from vitreous.specimen.profiles import atom_profiles

SHAPE = (14, 16)
RNG = np.random.default_rng(5)
COUNT = 6
POSITION = RNG.uniform(-4, 4, (COUNT, 3))
POSITION[1] = POSITION[0]  # two atoms in one place
PROFILES = atom_profiles(
    Atoms(
        POSITION,
        np.full(COUNT, "C"),
        RNG.uniform(10, 40, COUNT),
        RNG.uniform(0.5, 1, COUNT),
        np.full(COUNT, "A"),
        np.full(COUNT, "ALA"),
        np.arange(COUNT),
    )
)
MICROSCOPE = Microscope(
    voltage=300e3,
    spherical_aberration=2.7e7,
    defocus=3000.0,
    amplitude_contrast=0.07,
    one_over_e_mrad=0.05,
    focal_sigma=20.0,
)
WEIGHTS = RNG.normal(size=SHAPE)
ROTATION = matrix_from_euler(np.array([0.3, 1.0, -0.7]))
# Steps small enough for the third derivative and large enough for the sixteenth digit.
STEPS = {
    "position": 1e-4,
    "b_factor": 1e-2,
    "occupancy": 1e-3,
    "rotation_vector": 1e-5,
    "shift": 1e-4,
    "defocus": 0.3,
    "astigmatism": 0.3,
    "dose": 1e-1,
}
# Focus and pose at which formulas with angles, roots or divisions break: no turn, shift, astigmatism or defocus.
PLAIN = image_parameters(POSITION, PROFILES, MICROSCOPE, dose=30.0)
TURNED = PLAIN._replace(
    rotation_vector=np.array([0.3, -0.2, 0.5]), shift=np.array([0.7, -0.4]), astigmatism=np.array([300.0, -200.0])
)
FAST = ("projection", "weak_phase", "multislice")
MODELS = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ScatteringModel]


def score(parameters, rotation, model="projection"):
    """A number that depends on every pixel, to be differentiated."""
    counts = expected_counts(
        parameters,
        PROFILES,
        SHAPE,
        1.2,
        MICROSCOPE,
        model=model,
        rotation=rotation,
        slice_thickness=4.0,
        slice_count=4,
    )
    return (namespace(counts).asarray(WEIGHTS, dtype=counts.dtype) * counts).sum()


@cache
def compiled_gradient(model):
    """One compilation for all tests of a model; it is called within `jax.enable_x64`."""
    import jax

    gradient = jax.jit(jax.grad(partial(score, model=model)))
    return lambda parameters, rotation: gradient(ImageParameters(*map(jax.numpy.asarray, parameters)), rotation)


def differences(function, parameters, name):
    """Central differences of the function by each number of one parameter."""
    values, step = np.asarray(getattr(parameters, name)), STEPS[name]
    slopes = np.empty(values.size)
    for i in range(values.size):
        change = np.zeros(values.size)
        change[i] = step
        change = change.reshape(values.shape)
        up, down = (function(parameters._replace(**{name: values + sign * change})) for sign in (1, -1))
        slopes[i] = (up - down) / (2 * step)
    return slopes.reshape(values.shape)


@pytest.mark.parametrize("model", MODELS)
def test_gradient_is_the_finite_difference(model):
    """By atoms, pose, focus and dose. The differences are those of the NumPy code."""
    import jax

    value = partial(score, rotation=ROTATION, model=model)
    for parameters in (PLAIN, TURNED):
        with jax.enable_x64(True):
            found = compiled_gradient(model)(parameters, ROTATION)
        for name in STEPS:
            slopes, expected = np.asarray(getattr(found, name)), differences(value, parameters, name)
            scale = np.abs(expected).max()
            assert scale > 0
            np.testing.assert_allclose(slopes, expected, atol=1e-4 * scale, err_msg=name)
            assert np.abs(-slopes - expected).max() > scale, name  # the sign matters


@pytest.mark.parametrize("model", MODELS)
def test_gradients_are_finite_where_formulas_break(model):
    """Zero defocus, astigmatism, shift and dose, the identity rotation, all atoms in one place, B factors 0."""
    import jax

    parameters = PLAIN._replace(
        defocus=np.array(0.0), b_factor=np.zeros(COUNT), position=0 * POSITION, dose=np.array(0.0)
    )
    for start in (parameters, parameters._replace(dose=PLAIN.dose)):
        with jax.enable_x64(True):
            found = compiled_gradient(model)(start, np.eye(3))
        for values in found:
            assert np.isfinite(values).all()


@pytest.mark.parametrize("model", ["projection", "weak_phase"])
def test_gradient_by_the_microscope(model):
    """The other numbers of the microscope, beam tilt, phase shift and B factor at zero."""
    import jax

    slices = atom_slices(POSITION, PROFILES, SHAPE, 1.2, thickness=16.0, count=1)
    steps = {"spherical_aberration": 3e3, "amplitude_contrast": 1e-4, "phase_shift": 1e-4, "b_factor": 1e-2}
    start = {name: np.array(getattr(MICROSCOPE, name)) for name in (*steps, "beam_tilt")}

    def of(numbers):
        return (WEIGHTS * form_image(slices, replace(MICROSCOPE, **numbers), model)).sum()

    with jax.enable_x64(True):
        slopes = jax.jit(jax.grad(of))(jax.tree.map(jax.numpy.asarray, start))
    for name in start:
        for i in range(start[name].size):
            change = (np.arange(start[name].size) == i).reshape(start[name].shape) * steps.get(name, 1e-6)
            up, down = (of({**start, name: start[name] + sign * change}) for sign in (1, -1))
            expected = (up - down) / (2 * change.sum())
            assert np.ravel(slopes[name])[i] == pytest.approx(expected, rel=1e-4), name
            assert abs(expected) > 0


# --- the chain itself -------------------------------------------------------------------------------------------------


def test_counts_are_dose_times_image():
    """40 e/A^2 on pixels of 1.2 A: 57.6 electrons where nothing scatters."""
    counts = expected_counts(PLAIN._replace(dose=40.0), PROFILES, SHAPE, 1.2, MICROSCOPE)
    projected = projected_potential(POSITION, PROFILES, SHAPE, 1.2)[None]
    slices = replace(atom_slices(POSITION, PROFILES, SHAPE, 1.2, thickness=9.0, count=1), projected=projected)
    np.testing.assert_allclose(counts, 57.6 * form_image(slices, MICROSCOPE, "projection"), rtol=1e-12)


def test_shift_is_the_origin_of_relion():
    """A particle of origin (2, -1) pixels lies at (-2, 1) from the centre."""
    sharp = replace(MICROSCOPE, one_over_e_mrad=0.0, focal_sigma=0.0)
    still = expected_counts(PLAIN, PROFILES, SHAPE, 1.2, sharp)
    moved = expected_counts(PLAIN._replace(shift=np.array([2.4, -1.2])), PROFILES, SHAPE, 1.2, sharp)
    np.testing.assert_allclose(moved, np.roll(still, (1, -2), axis=(0, 1)), atol=1e-9)
    assert np.abs(moved - np.roll(still, (-1, 2), axis=(0, 1))).max() > 0.1


def test_turns_are_composed_with_the_rotation():
    turn = np.array([0.2, 0.1, -0.4])
    once = expected_counts(PLAIN._replace(rotation_vector=turn), PROFILES, SHAPE, 1.2, MICROSCOPE, rotation=ROTATION)
    composed = expected_counts(
        PLAIN, PROFILES, SHAPE, 1.2, MICROSCOPE, rotation=matrix_from_rotation_vector(turn) @ ROTATION
    )
    np.testing.assert_allclose(once, composed, atol=1e-9)
    other = expected_counts(
        PLAIN, PROFILES, SHAPE, 1.2, MICROSCOPE, rotation=ROTATION @ matrix_from_rotation_vector(turn)
    )
    assert np.abs(other - once).max() > 0.1


def test_many_particles_at_once():
    """vmap over poses and foci is the loop."""
    import jax

    with jax.enable_x64(True):
        many = ImageParameters(*(jax.numpy.stack([np.asarray(a), np.asarray(b)]) for a, b in zip(PLAIN, TURNED)))
        batch = jax.jit(jax.vmap(lambda p: expected_counts(p, PROFILES, SHAPE, 1.2, MICROSCOPE)))(many)
    for values, parameters in zip(batch, (PLAIN, TURNED)):
        np.testing.assert_allclose(values, expected_counts(parameters, PROFILES, SHAPE, 1.2, MICROSCOPE), atol=1e-9)


def test_single_precision_gradient():
    """float32, the production bar: finite, and 1e-2 of the largest."""
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        exact = compiled_gradient("projection")(TURNED, ROTATION)
    gradient = jax.jit(jax.grad(partial(score, rotation=ROTATION)))
    single = gradient(ImageParameters(*(jnp.asarray(np.asarray(v), dtype=jnp.float32) for v in TURNED)))
    for found, expected in zip(single, exact):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-2 * np.abs(expected).max())


def test_slices_that_cannot_hold_the_atoms():
    ask = partial(expected_counts, PLAIN, PROFILES, SHAPE, 1.2, MICROSCOPE, model="multislice")
    with pytest.raises(SettingsProblem, match="without slices"):
        ask()
    with pytest.raises(SettingsProblem, match="use more slices"):
        ask(slice_thickness=1.0, slice_count=2)
