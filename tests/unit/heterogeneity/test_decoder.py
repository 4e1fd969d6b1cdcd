"""Decoders as maps: any box, any latent, linear where they are linear."""

import numpy as np
import pytest
from tests.unit.heterogeneity.moving_particle import PIXEL_SIZE, density

from vitreous.errors import SettingsProblem
from vitreous.fourier.transforms import fourier_crop, fourier_pad
from vitreous.heterogeneity.decoder import decoded_volume
from vitreous.heterogeneity.subspace_decoder import SubspaceDecoder

BOX = 24
MAPS = np.stack([density(0.0, BOX), density(1.0, BOX) - density(-1.0, BOX), density(0.5, BOX) - density(0.0, BOX)])


def within_ball(volume: np.ndarray, radius: float) -> np.ndarray:
    """The definition: all of the discrete transform at and beyond `radius` cycles per box set to 0."""
    k = np.stack(np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in volume.shape), indexing="ij"))
    return np.fft.ifftn(np.where(np.sqrt((k**2).sum(axis=0)) < radius, np.fft.fftn(volume), 0)).real


@pytest.mark.parametrize("latent", [(0.0, 0.0), (1.5, -0.5)])
@pytest.mark.parametrize("radius", [12.0, 7.5])
def test_a_linear_decoder_gives_the_sum_of_its_maps_within_its_radius(latent, radius):
    decoder = SubspaceDecoder(MAPS, PIXEL_SIZE, radius)
    expected = within_ball(MAPS[0] + latent[0] * MAPS[1] + latent[1] * MAPS[2], radius)
    volume = decoded_volume(decoder, np.array(latent))
    assert volume.pixel_size == PIXEL_SIZE
    # single precision, and a gridding correction that is taken out by division
    np.testing.assert_allclose(volume.data, expected, atol=2e-5 * abs(expected).max())


@pytest.mark.parametrize("box", [16, 18, 32, 25])
def test_any_box_shows_the_same_map(box):
    decoder = SubspaceDecoder(MAPS, PIXEL_SIZE, 6.0)
    own, other = (decoded_volume(decoder, np.array([1.0, 0.0]), size) for size in (None, box))
    resample = fourier_crop if box < BOX else fourier_pad
    expected, pixel_size = resample(own.data, (box,) * 3, 3, PIXEL_SIZE)
    assert other.pixel_size == pytest.approx(pixel_size)
    np.testing.assert_allclose(other.data, expected, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize(
    ("latent", "box", "words"),
    [([0.0], None, "a latent"), ([0.0, np.nan], None, "a latent"), ([0.0, 0.0], 4, "a map of 4 voxels")],
)
def test_what_cannot_be_decoded_is_refused(latent, box, words):
    with pytest.raises(SettingsProblem, match=words):
        decoded_volume(SubspaceDecoder(MAPS, PIXEL_SIZE, 6.0), np.array(latent), box)
