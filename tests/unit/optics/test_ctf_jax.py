"""The same functions under JAX: values of NumPy, jit, vmap, and gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.optics import aberrations
from vitreous.optics.ctf import ctf, ctf_of_particles, gamma, odd_phase

LENS = {"voltage": 300e3, "spherical_aberration": 2.7e7, "amplitude_contrast": 0.1}
RNG = np.random.default_rng(0)
KX, KY = np.meshgrid(np.fft.rfftfreq(13, 1.2), np.fft.fftfreq(13, 1.2))
DEFOCUS = RNG.uniform(5e3, 3e4, 4)
ASTIGMATISM = RNG.normal(0, 300, (4, 2))
MORE = {"phase_shift": RNG.uniform(0, 1, 4), "b_factor": RNG.uniform(0, 40, 4), "scale": RNG.uniform(0.5, 1.5, 4)}
EVEN_PHASE = aberrations.even_zernike_phase(KX, KY, (0.2, 3.0, -4.0, 5.0))


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def test_values_in_double(double):
    for function in (
        lambda kx, ky, d, a: ctf(kx, ky, d, a, even_phase=jnp.asarray(EVEN_PHASE), **MORE, **LENS),
        lambda kx, ky, d, a: gamma(
            kx, ky, d, a, even_phase=jnp.asarray(EVEN_PHASE), phase_shift=MORE["phase_shift"], **LENS
        ),
    ):
        arguments = [jnp.asarray(a) for a in (KX, KY, DEFOCUS, ASTIGMATISM)]
        values = function(*arguments)
        assert isinstance(values, jax.Array) and values.dtype == np.float64
        np.testing.assert_allclose(jax.jit(function)(*arguments), values, atol=1e-12)  # jit and no jit agree
    numpy_ctf = ctf(KX, KY, DEFOCUS, ASTIGMATISM, even_phase=EVEN_PHASE, **MORE, **LENS)
    assert isinstance(numpy_ctf, np.ndarray)
    jax_ctf = ctf(jnp.asarray(KX), KY, DEFOCUS, ASTIGMATISM, even_phase=EVEN_PHASE, **MORE, **LENS)
    np.testing.assert_allclose(jax_ctf, numpy_ctf, atol=1e-11)  # phases of 300 radian, rounded in another order


def test_single_is_jitted_to_the_same_values():
    function = lambda d, a: ctf(KX, KY, d, a, **MORE, **LENS)
    arguments = jnp.asarray(DEFOCUS), jnp.asarray(ASTIGMATISM)
    values = function(*arguments)
    assert values.dtype == np.float32
    np.testing.assert_allclose(jax.jit(function)(*arguments), values, atol=1e-6)


def test_any_argument_decides_for_jax():
    arguments = {**MORE, "amplitude_contrast": 0.1, "spherical_aberration": 2.7e7, "even_phase": EVEN_PHASE}
    expected = ctf(KX, KY, 1e4, even_phase=EVEN_PHASE, **MORE, **LENS)
    for name in arguments:
        function = jax.jit(lambda value, name=name: ctf(KX, KY, 1e4, voltage=300e3, **{**arguments, name: value}))
        np.testing.assert_allclose(function(arguments[name]), expected, atol=1e-4)  # one argument in single precision


def test_vmap_is_a_loop():
    function = jax.jit(lambda d, a, p: ctf(KX, KY, d, a, phase_shift=p, **LENS))
    arguments = [jnp.asarray(a) for a in (DEFOCUS, ASTIGMATISM, MORE["phase_shift"])]
    looped = jnp.stack([function(*row) for row in zip(*arguments)])
    np.testing.assert_allclose(jax.jit(jax.vmap(function))(*arguments), looped, atol=1e-6)
    np.testing.assert_allclose(jax.jit(function)(*arguments), looped, atol=1e-6)


def test_particles_of_a_group_on_a_jax_grid():
    group = OpticsGroup(
        even_zernike=(0.2, 3.0, -4.0, 5.0),
        odd_zernike=(0.5, -0.3, 4.0),
        magnification=((1.01, 0.0), (0.02, 0.98)),
        **LENS,
    )
    parameters = CtfParameters.of(DEFOCUS, DEFOCUS - 300, 0.4, 0.1, 20.0, 0.9)
    kx, ky = jnp.asarray(KX), jnp.asarray(KY)
    values = ctf_of_particles(group, parameters, kx, ky)
    assert isinstance(values, jax.Array) and values.dtype == np.float32
    # single frequencies: 1e-7 of 200 radian
    np.testing.assert_allclose(values, ctf_of_particles(group, parameters, KX, KY), atol=1e-4)
    np.testing.assert_allclose(odd_phase(group, kx, ky), odd_phase(group, KX, KY), atol=1e-6)


def objective(kx, ky, defocus, astigmatism, phase_shift, b_factor, spherical_aberration, amplitude_contrast):
    values = ctf(
        kx,
        ky,
        defocus,
        astigmatism,
        voltage=300e3,
        spherical_aberration=spherical_aberration,
        amplitude_contrast=amplitude_contrast,
        phase_shift=phase_shift,
        b_factor=b_factor,
    )
    weights = jnp.cos(jnp.arange(values.size)).reshape(values.shape)  # so that errors of opposite sign do not cancel
    return jnp.sum(values * weights)


@pytest.mark.parametrize("astigmatism", [(0.0, 0.0), (250.0, -120.0)])
def test_gradients_are_finite_differences(double, astigmatism):
    """In every argument, at zero astigmatism and with k = 0 on the grid."""
    assert KX[0, 0] == KY[0, 0] == 0
    arguments = [jnp.asarray(a) for a in (KX, KY, 1.2e4, astigmatism, 0.3, 20.0, 2.7e7, 0.1)]
    gradients = jax.jit(jax.grad(objective, argnums=tuple(range(8))))(*arguments)
    value = jax.jit(objective)
    steps = [1e-6, 1e-6, 0.1, 0.1, 1e-4, 1e-2, 1e2, 1e-4]  # central differences: errors of 1e-6 of the value or less
    for index, (gradient, step) in enumerate(zip(gradients, steps)):
        assert np.all(np.isfinite(gradient))
        for position in list(np.ndindex(gradient.shape))[:6]:
            ends = []
            for side in (-1, 1):
                moved = list(arguments)
                moved[index] = moved[index].at[position].add(side * step)
                ends.append(value(*moved))
            numeric = (ends[1] - ends[0]) / (2 * step)
            size = float(np.abs(gradient).max())
            assert float(gradient[position]) == pytest.approx(float(numeric), rel=1e-4, abs=1e-6 * size)


def test_gradients_are_finite_in_single():
    arguments = [jnp.asarray(a, dtype=jnp.float32) for a in (KX, KY, 1.2e4, (0.0, 0.0), 0.0, 0.0, 2.7e7, 0.0)]
    gradients = jax.jit(jax.grad(objective, argnums=tuple(range(8))))(*arguments)
    assert all(np.all(np.isfinite(g)) for g in gradients)
    with jax.enable_x64(True):
        exact = jax.jit(jax.grad(objective, argnums=(2, 3)))(*[jnp.asarray(a, dtype=jnp.float64) for a in arguments])
    # 1e-2 is the bar of physics.md (c) 12
    np.testing.assert_allclose(gradients[2], exact[0], rtol=1e-2)
    np.testing.assert_allclose(gradients[3], exact[1], rtol=1e-2)


def test_gradients_of_zernike_terms_are_finite_at_the_origin():
    phase = lambda x, y: jnp.sum(aberrations.odd_zernike_phase(x, y, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)))
    gradient = jax.grad(phase, argnums=(0, 1))(jnp.zeros(1), jnp.zeros(1))
    # Z(1,-1) = y, Z(1,1) = x, Z(3,-1) = (3 r^2 - 2) y, Z(3,1) = (3 r^2 - 2) x
    np.testing.assert_allclose(gradient, [[2.0 - 2 * 5.0], [1.0 - 2 * 4.0]], atol=1e-6)
