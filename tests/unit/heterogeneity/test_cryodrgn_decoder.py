"""A network of cryoDRGN's as a decoder; that its values are cryoDRGN's is in agreement/test_cryodrgn.py."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vitreous.errors import DataProblem
from vitreous.heterogeneity.cryodrgn_decoder import CryodrgnDecoder
from vitreous.heterogeneity.decoder import decoded_volume

BOX, WIDTH, FEATURES = 12, 6, 5


def decoder(rng, *, domain: str = "fourier", slope: float = 0.01, latent: int = 2) -> CryodrgnDecoder:
    sizes = [2 * FEATURES + latent, WIDTH, WIDTH, 2 if domain == "fourier" else 1]
    weights = tuple(rng.normal(0, 0.5, (after, before)).astype(np.float32) for before, after in pairwise(sizes))
    biases = tuple(rng.normal(0, 0.5, after).astype(np.float32) for after in sizes[1:])
    frequencies = rng.normal(0, 6, (FEATURES, 3)).astype(np.float32)
    return CryodrgnDecoder(
        BOX, 1.5, frequencies, weights, biases, (False, True, False), slope, domain, 2.0, 0.25, latent
    )


def by_definition(network: CryodrgnDecoder, point: np.ndarray, latent: np.ndarray) -> np.ndarray:
    """The output of the network at one frequency (cycles per box), written out."""
    phase = network.frequencies.astype(float) @ point / BOX
    x = np.concatenate([np.sin(phase), np.cos(phase), latent])
    for number, (weight, bias, residual) in enumerate(zip(network.weights, network.biases, network.residual)):
        y = weight.astype(float) @ x + bias + (x if residual else 0)
        x = y if number == 2 else np.where(y > 0, y, network.slope * y)
    return network.scale * x


POINTS = np.array([[1.0, 2, -3], [1, 2, 3], [4, -1, 0], [-4, 1, 0], [-2, 0, 0], [2, 0, 0], [0.3, -0.2, 2.5], [0, 0, 0]])
# the half of space that is asked for, and the sign of the imaginary part that comes back
ASKED = np.array([1, -1, 1, -1, 1, -1, -1, 1])


def test_the_network_in_the_fourier_domain(rng):
    network, latent = decoder(rng), np.array([0.4, -1.1])
    values = network.transform(POINTS, latent)
    for value, point, sign in zip(values[:-1], POINTS, ASKED):
        real, imaginary = by_definition(network, sign * point, latent)
        assert value == pytest.approx(real + 0.25 + 1j * sign * imaginary, abs=1e-5)  # single precision
    real, imaginary = by_definition(network, POINTS[-1], latent)
    assert values[-1] == pytest.approx(real - imaginary + 0.25, abs=1e-5)


def test_the_network_in_the_hartley_domain(rng):
    network, latent = decoder(rng, domain="hartley"), np.array([0.4, -1.1])
    for value, point in zip(network.transform(POINTS, latent), POINTS):
        here, opposite = (by_definition(network, sign * point, latent)[0] + 0.25 for sign in (1, -1))
        assert value.real - value.imag == pytest.approx(here, abs=1e-5)
        assert value.real + value.imag == pytest.approx(opposite, abs=1e-5)


@pytest.mark.parametrize("domain", ["fourier", "hartley"])
def test_a_real_map_at_any_box(rng, domain):
    """F(-k) = conj F(k) everywhere, so that the map of a larger box, cropped in Fourier space, is that of the smaller one."""
    network, latent = decoder(rng, domain=domain), np.array([0.4, -1.1])
    points = rng.uniform(-6, 6, (50, 3))
    np.testing.assert_allclose(network.transform(-points, latent), network.transform(points, latent).conj(), atol=1e-5)
    small, large = decoded_volume(network, latent), decoded_volume(network, latent, 24)
    assert (small.pixel_size, large.pixel_size) == (1.5, 0.75)
    np.testing.assert_allclose(large.data[::2, ::2, ::2], small.data, atol=1e-5)


def test_the_latent_matters_and_many_points_are_as_few(rng):
    network = decoder(rng, slope=0.0)
    points = rng.uniform(-6, 6, (20_000, 3))
    some = network.transform(points, np.zeros(2))
    np.testing.assert_allclose(network.transform(points[-3:], np.zeros(2)), some[-3:], atol=1e-5)
    assert np.abs(network.transform(points[:5], np.ones(2)) - some[:5]).max() > 0.01
    homogeneous = decoder(rng, latent=0)
    assert homogeneous.dimensions == 0 and np.isfinite(decoded_volume(homogeneous, np.zeros(0)).data).all()


def test_layers_that_do_not_fit_are_refused(rng):
    good = decoder(rng)
    fields = {name: getattr(good, name) for name in good.__dataclass_fields__}
    for wrong in (
        {"dimensions": 3},
        {"domain": "hartley"},
        {"residual": (True, True, False)},
        {"biases": good.biases[::-1]},
        {"frequencies": good.frequencies[1:]},
    ):
        with pytest.raises(DataProblem):
            CryodrgnDecoder(**{**fields, **wrong})
