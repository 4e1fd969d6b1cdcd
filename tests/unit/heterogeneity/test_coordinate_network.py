"""The coordinate network against its definition, and the decoder that is made of it."""

import numpy as np
import pytest
from tests.unit.heterogeneity.moving_particle import PIXEL_SIZE, density

from vitreous.engine.checkpoint import load_state, save_state, saved_class
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import forward
from vitreous.heterogeneity.coordinate_network import NetworkSettings, NetworkWeights, draw_network, network_values
from vitreous.heterogeneity.decoder import decoded_volume
from vitreous.heterogeneity.network_decoder import UNIT, NetworkDecoder, amplitude_at, network_amplitude
from vitreous.heterogeneity.perceptron import answer, draw_perceptron
from vitreous.heterogeneity.subspace_decoder import SubspaceDecoder
from vitreous.reference import drgn as definition

BOX = 16
SETTINGS = NetworkSettings(latent=2, width=12, layers=2, waves=5)


def trained(seed: int = 0, settings: NetworkSettings = SETTINGS) -> NetworkWeights:
    """Weights whose last layer is not 0."""
    rng = np.random.default_rng(seed)
    weights = draw_network(settings, 6.0, rng)
    return weights._replace(last=rng.normal(size=weights.last.shape).astype(np.float32))


def decoder(weights: NetworkWeights, radius: float = 8.0) -> NetworkDecoder:
    volume = density(0.3, BOX)
    return NetworkDecoder.of(weights, None, volume[None], network_amplitude(volume), PIXEL_SIZE, radius)


def test_values_are_those_of_the_definition():
    rng = np.random.default_rng(1)
    weights, points = trained(), rng.uniform(-8, 8, (3, 20, 3)).astype(np.float32)
    latent = rng.normal(size=(3, 2)).astype(np.float32)
    values = network_values(weights, points, latent, BOX)
    single = {name: np.asarray(part, float) for name, part in weights._asdict().items() if name != "hidden"}
    single["hidden"] = [(np.asarray(m, float), np.asarray(b, float)) for m, b in weights.hidden]
    expected = [
        [definition.network_value(single, k.astype(float), z, BOX) for k in line] for line, z in zip(points, latent)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)  # phases of up to 60 rad in single precision


def test_jax_and_numpy_compute_the_same():
    jnp = pytest.importorskip("jax.numpy")
    rng = np.random.default_rng(2)
    points, latent = rng.uniform(-8, 8, (4, 30, 3)).astype(np.float32), rng.normal(size=(4, 2)).astype(np.float32)
    weights = trained()
    np.testing.assert_allclose(
        network_values(weights, jnp.asarray(points), jnp.asarray(latent), BOX),
        network_values(weights, points, latent, BOX),
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_map_is_real():
    points = np.random.default_rng(3).uniform(-8, 8, (50, 3)).astype(np.float32)
    weights, latent = trained(), np.array([0.4, -1.0], np.float32)
    there, back = (network_values(weights, sign * points, latent, BOX) for sign in (1, -1))
    np.testing.assert_array_equal(there, np.conj(back))


def test_it_starts_at_the_consensus_for_every_latent():
    weights = draw_network(SETTINGS, 6.0, np.random.default_rng(0))
    start = decoder(weights, radius=100.0)
    k = np.stack(np.meshgrid(*(np.fft.fftfreq(BOX, 1 / BOX),) * 2, np.arange(BOX // 2 + 1), indexing="ij"))
    inside = np.sqrt((k**2).sum(axis=0)) < BOX / 2
    for latent in ([0.0, 0.0], [3.0, -2.0]):
        transform = forward(decoded_volume(start, np.array(latent)).data, 3)
        expected = forward(start.maps[0], 3)
        np.testing.assert_allclose(transform[inside], expected[inside], atol=1e-5 * abs(expected).max())


def test_maps_hold_the_consensus_and_the_network_in_units_of_the_amplitude():
    whole = decoder(trained())
    points = np.random.default_rng(4).uniform(-4, 4, (9000, 3)).astype(np.float32)  # more than are computed at once
    latent = np.array([1.0, 0.5], np.float32)
    bare = decoder(draw_network(SETTINGS, 6.0, np.random.default_rng(0)))
    added = whole.transform(points, latent) - bare.transform(points, latent)
    scale = amplitude_at(whole.amplitude, np.linalg.norm(points, axis=1))
    expected = scale * network_values(trained(), points, latent, BOX)
    np.testing.assert_allclose(added, expected, atol=1e-5 * abs(expected).max())


def test_the_amplitude_is_a_tenth_of_the_root_mean_square_of_a_shell():
    volume = density(-0.5, BOX)
    amplitude = network_amplitude(volume)
    k = np.stack(np.meshgrid(*(np.fft.fftfreq(BOX, 1 / BOX),) * 3, indexing="ij"))
    shell = np.rint(np.sqrt((k**2).sum(axis=0)))
    power = np.abs(np.fft.fftn(volume)) ** 2
    assert UNIT == 0.1
    for number in (1, 3, 8):
        expected = max(UNIT * np.sqrt(power[shell == number].mean()), 1e-3 * amplitude.max())
        assert amplitude[number] == pytest.approx(expected, rel=1e-4)
    assert amplitude[0] == amplitude[1]
    assert amplitude_at(amplitude, np.array([1.25]))[0] == pytest.approx(0.75 * amplitude[1] + 0.25 * amplitude[2])


def test_a_decoder_is_saved_whole(tmp_path):
    before = decoder(trained())
    save_state(tmp_path / "decoder.npz", before)
    assert saved_class(tmp_path / "decoder.npz") == "NetworkDecoder"
    after = load_state(tmp_path / "decoder.npz", NetworkDecoder)
    latent = np.array([0.3, 0.1])
    np.testing.assert_array_equal(decoded_volume(after, latent).data, decoded_volume(before, latent).data)
    assert (after.dimensions, after.box, after.radius) == (2, BOX, 8.0)


def test_eigenvolumes_are_mixed_into_the_map(tmp_path):
    rng, latent = np.random.default_rng(5), np.array([0.7, -0.4])
    maps = np.stack([density(position, BOX) for position in (0.0, 0.5, -0.5)])
    mixture = draw_perceptron(rng.normal(size=(2, 2)), 5, 1, rng, spread=1.0)
    mixture.layers[-1][0][:] = rng.normal(size=(5, 2))
    silent = draw_network(NetworkSettings(latent=2, width=8, layers=1, waves=3), 6.0, rng)  # its last layer is 0
    mixed = NetworkDecoder.of(silent, mixture, maps, network_amplitude(maps[0]), PIXEL_SIZE, 8.0)
    amounts = answer(mixture, latent)
    expected = SubspaceDecoder(maps, PIXEL_SIZE, 8.0)
    scale = abs(maps).max()
    np.testing.assert_allclose(
        decoded_volume(mixed, latent).data, decoded_volume(expected, amounts).data, atol=1e-5 * scale
    )
    save_state(tmp_path / "decoder.npz", mixed)
    after = load_state(tmp_path / "decoder.npz", NetworkDecoder)
    np.testing.assert_array_equal(decoded_volume(after, latent).data, decoded_volume(mixed, latent).data)
    with pytest.raises(DataProblem, match="2 maps"):
        NetworkDecoder.of(silent, mixture, maps[:2], network_amplitude(maps[0]), PIXEL_SIZE, 8.0)


def test_one_map_for_all_has_no_latent():
    alone = decoder(trained(settings=NetworkSettings(latent=0, width=8, layers=1, waves=3)))
    assert alone.dimensions == 0
    assert np.isfinite(decoded_volume(alone, np.zeros(0)).data).all()


@pytest.mark.parametrize("wrong", [{"latent": -1}, {"width": 0}, {"layers": -1}, {"waves": 0}])
def test_networks_that_cannot_be_are_refused(wrong):
    with pytest.raises(SettingsProblem, match=next(iter(wrong))):
        NetworkSettings(**wrong)
