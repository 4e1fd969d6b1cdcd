"""The same code on JAX arrays: compiled, mapped, differentiated."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitreous.model.slices import PotentialSlices
from vitreous.scattering.ladder import ScatteringModel, exit_wave
from vitreous.scattering.multislice import multislice

MODELS = [model for model in ScatteringModel if model is not ScatteringModel.PROJECTION]
SHAPE = (3, 12, 15)


def potential(dtype=np.float64, *, absorbing=False):
    rng = np.random.default_rng(3)
    values = 60 * rng.uniform(size=SHAPE)
    if absorbing:
        return (values + 6j * rng.uniform(size=SHAPE)).astype(np.result_type(dtype, np.complex64))
    return values.astype(dtype)


def wave(projected, model, **settings):
    return exit_wave(PotentialSlices(projected, 1.3, 7.0, -7.0), 300e3, model, **settings).wave


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("absorbing", [False, True])
def test_jax_is_numpy(model, absorbing):
    with jax.enable_x64(True):
        projected = potential(absorbing=absorbing)
        expected = wave(projected, model)
        found = wave(jnp.asarray(projected), model)
        assert found.dtype == jnp.complex128
        np.testing.assert_allclose(found, expected, atol=1e-12)
        compiled = jax.jit(lambda p: wave(p, model))(jnp.asarray(projected))
        np.testing.assert_allclose(compiled, found, atol=1e-12)  # the bar of physics.md (c)


@pytest.mark.parametrize("model", MODELS)
def test_single_precision(model):
    projected = potential(np.float32)
    found = wave(jnp.asarray(projected), model)
    assert found.dtype == jnp.complex64
    np.testing.assert_allclose(found, wave(projected, model), atol=1e-6)
    compiled = jax.jit(lambda p: wave(p, model))(jnp.asarray(projected))
    np.testing.assert_allclose(compiled, found, atol=1e-6)  # the bar of physics.md (c)


def test_options_of_multislice_agree():
    with jax.enable_x64(True):
        for settings in ({"limit_transmission": True}, {"band_limit": None}, {"band_limit": 0.5}):
            expected = multislice(potential(), 1.3, 7.0, 300e3, **settings)
            np.testing.assert_allclose(
                multislice(jnp.asarray(potential()), 1.3, 7.0, 300e3, **settings), expected, atol=1e-12
            )
        incident = np.exp(1j * np.random.default_rng(0).uniform(size=SHAPE[1:]))
        expected = multislice(potential(), 1.3, 7.0, 300e3, incident=incident)
        found = multislice(jnp.asarray(potential()), 1.3, 7.0, 300e3, incident=jnp.asarray(incident))
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_vmap_is_a_loop(model):
    with jax.enable_x64(True):
        many = jnp.stack([jnp.asarray(potential()) * scale for scale in (0.5, 1.0, 2.0)])
        mapped = jax.vmap(lambda p: wave(p, model))(many)
        np.testing.assert_allclose(mapped, jnp.stack([wave(p, model) for p in many]), atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_gradients(model):
    """d (a random linear functional of the intensity) / d (potential), real and absorbing part, against differences."""
    rng = np.random.default_rng(6)
    weight, step = rng.normal(size=SHAPE[1:]), rng.normal(size=(2, *SHAPE))

    def value(parts):
        return jnp.sum(weight * jnp.abs(wave(parts[0] + 1j * parts[1], model)) ** 2)

    with jax.enable_x64(True):
        parts = jnp.asarray(np.stack([potential(absorbing=True).real, potential(absorbing=True).imag]))
        gradient = jax.jit(jax.grad(value))(parts)
        assert np.isfinite(gradient).all()
        along = float(jnp.sum(gradient * step))
        size = 1e-2  # V A, of 60: the error of a central difference is the square of sigma x size, 4e-11
        difference = float(value(parts + size * step) - value(parts - size * step)) / (2 * size)
        assert along == pytest.approx(difference, rel=1e-6)
        assert abs(along) > 1e-3
        # zero potential: nothing to divide by
        assert np.isfinite(jax.grad(value)(jnp.zeros_like(parts))).all()


def test_gradients_in_single_precision_are_finite():
    def value(projected):
        return jnp.sum(jnp.abs(wave(projected, "multislice"))[3:6] ** 2)

    single = jax.grad(value)(jnp.asarray(potential(np.float32)))
    with jax.enable_x64(True):
        double = jax.grad(value)(jnp.asarray(potential()))
    assert np.linalg.norm(np.asarray(single) - np.asarray(double)) < 1e-2 * np.linalg.norm(
        double
    )  # the production bar of physics.md (c) 12
