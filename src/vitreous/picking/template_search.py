"""Particles by their likeness to templates: where, which template, at which angle.

Micrograph and templates are filtered alike: nothing finer than the templates' resolution, and all frequencies of the micrograph
brought to about equal power (whitened), because its noise is not white. The templates are seen
through the micrograph's CTF if it is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.fourier.transforms import frequencies, inverse
from vitreous.picking.correlation import (
    Correlator,
    best_correlations,
    exact_correlations,
    principal_basis,
    template_vectors,
)
from vitreous.picking.picks import Picks, local_maxima, refined
from vitreous.picking.quiet import MAD
from vitreous.picking.selection import Selected, Selection, select
from vitreous.picking.templates import TemplateBank
from vitreous.picking.working_image import WorkingImage, reflected, refuse_larger_than_image

if TYPE_CHECKING:
    from jaxtyping import Float

TransferFunction = Callable[
    [np.ndarray, np.ndarray], np.ndarray
]  # (kx, ky in 1/angstrom) -> CTF, of protein that is bright
QUIET = 0.25  # of the tiles show noise alone
SMALLEST_TILE = 16  # working pixels
CORRELATED = 2.25  # neighbouring values of a periodogram that count as one: 1.5 along each axis for a cosine window
SOFT = 0.2  # of the highest frequency: width of the edge at which templates end
NOMINAL = 10.0  # false picks, if all trials were independent
SAMPLED = 32  # templates of which the noise of a correlation is measured
PLACES = 20_000  # of the micrograph, at which it is measured


@dataclass(frozen=True)
class NoiseFilter:
    """The factor `gain` at `frequency` [s] (1/angstrom), between them linear; 0 beyond the last."""

    frequency: Float[np.ndarray, " s"]
    gain: Float[np.ndarray, " s"]

    def on(self, shape: tuple[int, int], pixel_size: float) -> Float[np.ndarray, "y xh"]:
        """On the grid of the transform of an image of `shape`."""
        kx, ky = frequencies(shape, pixel_size)
        return np.interp(np.hypot(kx, ky), self.frequency, self.gain, right=0.0).astype(np.float32)


def noise_filter(image: WorkingImage, resolution: float, diameter: float) -> NoiseFilter:
    """1 / sqrt(power of the noise) of the micrograph, up to `resolution` (angstrom), where it ends softly.

    The noise is that of the quiet tiles, one `diameter` wide: of each ring of frequencies the lower quartile over all tiles, brought to the
    mean that it belongs to. So strong particles are not divided out by their own power, which would spread each of them over its
    neighbours. Changes slower than two diameters are left out.
    """
    frequency, power = quiet_power(image, diameter)
    end = 1 / resolution
    gain = 1 / np.sqrt(np.maximum(power, 1e-12 * power.max()))
    fine = np.linspace(0, frequency[-1], 8 * len(frequency))
    gain = np.interp(fine, frequency, gain)
    gain *= 0.5 + 0.5 * np.cos(math.pi * np.clip((fine - (1 - SOFT) * end) / (SOFT * end), 0, 1))
    gain *= 1 - np.exp(-np.square(2 * diameter * fine))
    return NoiseFilter(fine, gain / gain.max())


def quiet_power(image: WorkingImage, width: float) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """Frequencies (1/angstrom), and the power of the noise there, from the quietest quarter of tiles of `width` angstrom.

    The mean of n independent values of a periodogram follows a gamma distribution of shape n, whose quartile is known.
    """
    from scipy import fft as scipy_fft
    from scipy.special import gammaincinv

    values = image.values
    side = min(max(SMALLEST_TILE, 2 * round(width / image.pixel_size / 2)), *values.shape)
    window = np.hanning(side + 2)[1:-1].astype(np.float32)
    tiles = np.lib.stride_tricks.sliding_window_view(values, (side, side))[:: side // 2, :: side // 2]
    tiles = tiles.reshape(-1, side, side)
    transform: Any = scipy_fft.rfft2((tiles - tiles.mean(axis=(1, 2), keepdims=True)) * (window[:, None] * window))
    kx, ky = frequencies((side, side), image.pixel_size)
    ring = np.rint(np.hypot(kx, ky) * (side * image.pixel_size)).astype(np.int64).ravel()
    count = np.bincount(ring)
    power = (transform.real**2 + transform.imag**2).reshape(len(tiles), -1)
    sums = np.stack([np.bincount(ring, one.astype(np.float64)) for one in power])
    shape = np.maximum(count / CORRELATED, 1.0)
    quartile = gammaincinv(shape, QUIET) / shape
    quiet = np.quantile(sums / count, QUIET, axis=0) / quartile
    quiet[0] = quiet[1]  # the mean was taken away
    return np.arange(len(quiet)) / (side * image.pixel_size), quiet


def usual_threshold(places: int, templates: int) -> float:
    """The significance that noise exceeds `NOMINAL` times if each template is tried at each of the places: z with
    `places templates (1 - Phi(z)) = NOMINAL`. Neighbouring places and like templates are not independent trials, so that in noise about
    one in a micrograph is left of these ten.

    >>> round(usual_threshold(448**2, 1536), 2)
    5.39
    """
    from scipy.special import ndtri

    return float(-ndtri(min(0.5, NOMINAL / (places * templates))))


def pick_templates(
    image: WorkingImage,
    bank: TemplateBank,
    selection: Selection,
    ctf: TransferFunction | None = None,
    *,
    usual: bool = False,
) -> Selected:
    """Places where the micrograph is like a template, the best first. The score is the correlation.

    With `usual` the threshold is not the selection's but `usual_threshold`.

    Raises SettingsProblem for templates that have no room in the micrograph.
    """
    refuse_larger_than_image(bank.diameter, image)
    if usual:
        selection = replace(selection, threshold=usual_threshold(image.values.size, len(bank)))
    whitened = noise_filter(image, bank.resolution, bank.diameter)
    radius = bank.diameter / 2 / image.pixel_size
    vectors = template_vectors(seen_templates(bank, whitened, ctf), radius)
    correlator = Correlator.of(filtered_image(image, whitened), radius)
    basis = principal_basis(vectors.values)
    components = correlator.sums(basis, vectors.offset)
    deviations = correlator.deviations(vectors.offset)
    coefficients = vectors.values @ basis.T
    scores = best_correlations(components, coefficients, deviations)
    noise = correlation_noise(components, coefficients, deviations)
    places = local_maxima(scores, 0.8 * selection.threshold * noise)
    exact, which = exact_correlations(correlator, vectors, places)
    found = Picks(refined(scores, places), exact, exact / noise, psi=bank.psi[which], template=bank.template[which])
    return select(found.rows(np.argsort(-exact, kind="stable")), image, bank.diameter, selection)


def seen_templates(
    bank: TemplateBank, whitened: NoiseFilter, ctf: TransferFunction | None = None
) -> Float[np.ndarray, "n y x"]:
    """The templates as the micrograph would show them: through its CTF, filtered as it is."""
    shape = (bank.box, bank.box)
    factor = whitened.on(shape, bank.pixel_size)
    if ctf is not None:
        kx, ky = frequencies(shape, bank.pixel_size)
        factor = factor * ctf(kx, ky).astype(np.float32)
    return inverse(bank.transforms * factor, shape)


def filtered_image(image: WorkingImage, whitened: NoiseFilter) -> Float[np.ndarray, "y x"]:
    """The micrograph filtered as the templates are, its borders mirrored meanwhile."""
    from scipy import fft as scipy_fft

    padded, inside = reflected(image.values, min(image.values.shape) // 8)
    transform: Any = scipy_fft.rfft2(padded)
    filtered: Any = scipy_fft.irfft2(transform * whitened.on(padded.shape, image.pixel_size), s=padded.shape)  # type: ignore[arg-type]
    return np.ascontiguousarray(filtered[inside])


def correlation_noise(
    components: Float[np.ndarray, "k y x"], coefficients: Float[np.ndarray, "n k"], deviations: Float[np.ndarray, "y x"]
) -> float:
    """Standard deviation of the correlation of one template with noise, from the median absolute deviation over a sample of templates
    and places: of almost all of these, the place shows noise or the template is not the one.
    """
    step = max(1, deviations.size // PLACES)
    some = components.reshape(len(components), -1)[:, ::step] / deviations.ravel()[::step]
    rows = np.unique(np.linspace(0, len(coefficients) - 1, SAMPLED).astype(int))
    sigma = MAD * float(np.median(np.abs(coefficients[rows] @ some)))
    return sigma if sigma > 0 else math.inf
