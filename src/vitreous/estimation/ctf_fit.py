"""The estimate of a micrograph's CTF: search, fit, error bars, and whether there is anything to fit at all."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import SettingsProblem
from vitreous.estimation.background import ring_means, smooth_background
from vitreous.estimation.coarse_search import Candidate, coarse_search
from vitreous.estimation.ctf_estimate import PARAMETERS, Alternative, CtfEstimate, Lens, Search
from vitreous.estimation.ring_decay import rings_b_factor
from vitreous.estimation.ring_fit import OUTLIER, RingFit, fit_rings, follow_rings
from vitreous.estimation.ring_model import Samples, State, relative_residual
from vitreous.estimation.ring_pixels import BACKGROUND_KNOTS, DEPTH_KNOTS, RingPixels, ring_pixels, without_ice
from vitreous.estimation.ring_profile import fit_resolution, ice_ring, ring_profile, ring_score
from vitreous.estimation.spectrum import Spectrum, TileSpectra, spectrum_of_image, tile_spectra
from vitreous.estimation.thickness_fit import is_seen, search_thickness
from vitreous.estimation.tilt_fit import search_tilt
from vitreous.optics.electrons import wavelength

if TYPE_CHECKING:
    from jaxtyping import Float

LENS = ("defocus", "astigmatism_along", "astigmatism_across")
TILES_FINEST = 4.0  # angstrom: rings beyond cost more time than they say of a tilt
TRIED = 3  # candidates of the search that are fitted
CLEAR = 8.0  # standard deviations of noise that the search must find; noise alone gives 5 to 6
FEWEST_RINGS = 1.5  # that must be followed: fewer could be those of any defocus
STRONG_ICE = 0.2  # rings of ice that stand out by more than this part of their surroundings are left out of the fit
APART = 25.0  # by which twice the log-likelihood of the best fit must lie above that of any other


def estimate_ctf(
    image: Float[np.ndarray, "y x"],
    pixel_size: float,
    lens: Lens,
    search: Search | None = None,
    *,
    workers: int | None = None,
) -> CtfEstimate:
    """The CTF of a micrograph [y, x] with pixels of `pixel_size` angstrom, in its middle. Contrast does not matter.

    Raises DataProblem for what is not an image. An image without Thon rings is not an error: `found` is False then.
    """
    search = search or Search()
    spectrum = spectrum_of_image(image, pixel_size, finest=search.resolution[1], workers=workers)
    fitted = _fit_spectrum(spectrum, lens, search)
    if search.tilt:
        finest = max(TILES_FINEST, search.resolution[1] or 0.0)
        tiles = tile_spectra(image, pixel_size, finest=finest, workers=workers)
        fitted = _fit_tiles(tiles, fitted, lens, search)
    return _estimate(spectrum, _with_thickness(fitted, lens, search), lens, search)


def estimate_from_spectrum(spectrum: Spectrum, lens: Lens, search: Search | None = None) -> CtfEstimate:
    """The CTF of a spectrum. Raises SettingsProblem if `search` asks for the tilt, which only an image shows."""
    search = search or Search()
    if search.tilt:
        raise SettingsProblem("a tilt, of a spectrum", "a micrograph: a spectrum does not say what is where")
    return _estimate(spectrum, _with_thickness(_fit_spectrum(spectrum, lens, search), lens, search), lens, search)


@dataclass(frozen=True)
class _Fitted:
    """What a fit was made of, and what came out: `strengths` of the fits tried and `scores` (defocus, score) of the search, best first."""

    pixels: RingPixels
    samples: Samples
    fit: RingFit
    strengths: tuple[float, ...]
    scores: tuple[Alternative, ...]
    ice: float | None
    box: int
    scale: float  # by which the power of the samples was divided


def _fit_spectrum(spectrum: Spectrum, lens: Lens, search: Search) -> _Fitted:
    """Search and fit of the whole micrograph."""
    pixels, ice = _clean_pixels(spectrum, search)
    background, rings = _rings(pixels, pixels.power[None])
    candidates = coarse_search(pixels, rings[0], lens, search)
    samples, level = _samples(pixels, pixels.power[None], background)
    names = LENS + (("phase_shift",) if search.phase_shift is not None else ())
    fits = [
        follow_rings(samples, _start(candidate, background - level), lens, names, pixels.limits)
        for candidate in candidates[:TRIED]
        if candidate.score > candidates[0].score / 2
    ]
    fits.sort(key=strength, reverse=True)
    scores = tuple(Alternative(candidate.defocus, candidate.score) for candidate in candidates)
    return _Fitted(
        pixels, samples, fits[0], tuple(strength(fit) for fit in fits), scores, ice, spectrum.box, math.exp(level)
    )


def _fit_tiles(tiles: TileSpectra, whole: _Fitted, lens: Lens, search: Search) -> _Fitted:
    """Search and fit of the slope of the defocus, all tiles together."""
    pixels, _ = _clean_pixels(tiles.mean, search)
    power = tiles.power[:, *pixels.index].astype(np.float64)
    power /= (power / pixels.power).mean(axis=1, keepdims=True)
    background, rings = _rings(pixels, power)
    astigmatism = (float(whole.fit.state.lens[1]), float(whole.fit.state.lens[2]))
    phase_shift = float(whole.fit.state.lens[3])
    start = search_tilt(pixels, rings, tiles.x, tiles.y, astigmatism, phase_shift, lens, search)
    samples, level = _samples(pixels, power, background, tiles)
    state = State(
        np.array([start.defocus, *astigmatism, phase_shift, *start.slope, 0.0]),
        background - level,
        np.zeros(DEPTH_KNOTS),
    )
    fit = follow_rings(samples, state, lens, (*whole.fit.names, "slope_x", "slope_y"), pixels.limits)
    scores = (Alternative(start.defocus, start.score), *whole.scores)
    return _Fitted(pixels, samples, fit, (strength(fit),), scores, whole.ice, tiles.power.shape[1], math.exp(level))


def _with_thickness(fitted: _Fitted, lens: Lens, search: Search) -> _Fitted:
    """The fit with the thickness, if it was asked for and the rings show it."""
    if search.thickness is None:
        return fitted
    fit = fitted.fit
    start = search_thickness(fitted.samples, fit, fitted.pixels, search.thickness, lens)
    if not is_seen(start):
        return fitted
    first = np.array(fit.state.lens)
    first[PARAMETERS.index("thickness")], first[0] = start.thickness, start.defocus
    state = State(first, fit.state.background, start.depth, fitted.pixels.limits[1])
    thick = fit_rings(fitted.samples, state, lens, (*fit.names, "thickness"))
    return replace(fitted, fit=thick) if thick.converged and thick.state.lens[-1] > 0 else fitted


def _clean_pixels(spectrum: Spectrum, search: Search) -> tuple[RingPixels, float | None]:
    """The samples to fit, without ice's rings if they stand out, and how far they stand out."""
    pixels = ring_pixels(spectrum, search.resolution)
    ice = ice_ring(*ring_means(pixels))
    return (without_ice(pixels) if ice is not None and ice > STRONG_ICE else pixels), ice


def _rings(pixels: RingPixels, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of the background of `pixels`, and power [part, p] over it, less 1."""
    background = smooth_background(pixels)
    return background, power / np.exp(pixels.splines(BACKGROUND_KNOTS) @ background) - 1


def strength(fit: RingFit) -> float:
    """Twice the log-likelihood that the rings gain over none: `d C^-1 d` with the depths d of the rings and their covariance."""
    return float(fit.state.depth @ np.linalg.pinv(fit.depth_covariance) @ fit.state.depth)


def correlation_factor(pixels: RingPixels, values: Float[np.ndarray, " p"], box: int) -> float:
    """By how much neighbouring samples that are alike widen error bars: the sum of the autocorrelation of `values`, at least 1.

    Lags of up to two samples along either axis are counted.
    """
    rows, columns = pixels.index
    plane, there = np.zeros((box, box // 2 + 3)), np.zeros((box, box // 2 + 3))
    plane[rows, columns], there[rows, columns] = values - values.mean(), 1.0
    total = 0.0
    for down, right in ((0, 1), (0, 2), (1, -2), (1, -1), (1, 0), (1, 1), (1, 2), (2, -1), (2, 0), (2, 1)):
        moved, mask = (np.roll(x, (down, right), axis=(0, 1)) for x in (plane, there))
        total += 2 * float((plane * moved).sum() / max((there * mask).sum(), 1.0))
    return max(1.0, 1.0 + total / float(values.var()))


def _samples(
    pixels: RingPixels, power: np.ndarray, background: np.ndarray, tiles: TileSpectra | None = None
) -> tuple[Samples, float]:
    """Power [part, p] in single precision with a mean near 1, and the logarithm of what it was divided by."""
    basis = pixels.splines(BACKGROUND_KNOTS)
    level = float((basis @ background).mean())
    x, y, side = (np.zeros(1), np.zeros(1), 0.0) if tiles is None else (tiles.x, tiles.y, tiles.side)
    arrays = (pixels.kx, pixels.ky, power * math.exp(-level), x, y, side, basis.T, pixels.splines(DEPTH_KNOTS).T)
    return Samples(*(np.asarray(values, dtype=np.float32, order="C") for values in arrays)), level


def _start(candidate: Candidate, background: np.ndarray) -> State:
    lens = np.array([candidate.defocus, *candidate.astigmatism, candidate.phase_shift, 0.0, 0.0, 0.0])
    return State(lens, background, np.zeros(DEPTH_KNOTS))


def _estimate(spectrum: Spectrum, fitted: _Fitted, known: Lens, search: Search) -> CtfEstimate:
    """The fit with its error bars, its evidence and its verdict."""
    pixels, fit = fitted.pixels, fitted.fit
    rest = relative_residual(fitted.samples, fit.state, known)
    most = OUTLIER * math.sqrt(fit.variance)
    factor = max(1.0, float(np.mean([correlation_factor(pixels, np.minimum(one, most), fitted.box) for one in rest])))
    profile = ring_profile(fitted.samples, fit.state, known, pixels.limits, pixels.step, scale=fitted.scale)
    resolution = fit_resolution(profile)
    b_factor, b_sigma = rings_b_factor(
        pixels, fit, known.voltage, factor=factor, resolution=resolution, side=float(fitted.samples.side)
    )
    found, evidence = _verdict(fitted, resolution, known, search)
    value = dict(zip(PARAMETERS, (float(number) for number in fit.state.lens)))
    return CtfEstimate(
        lens=known,
        defocus=value["defocus"],
        astigmatism=(value["astigmatism_along"], value["astigmatism_across"]),
        phase_shift=value["phase_shift"],
        b_factor=b_factor,
        b_factor_sigma=b_sigma,
        names=fit.names,
        covariance=fit.covariance * factor,
        found=found,
        evidence=evidence,
        score=ring_score(profile, resolution),
        significance=fitted.scores[0].score,
        fit_resolution=resolution,
        ice_ring=fitted.ice,
        alternatives=fitted.scores[1:],
        profile=profile,
        spectrum=spectrum,
        slope=(value["slope_x"], value["slope_y"]) if "slope_x" in fit.names else None,
        thickness=abs(value["thickness"]) if "thickness" in fit.names else None,
    )


def _verdict(fitted: _Fitted, resolution: float, known: Lens, search: Search) -> tuple[bool, str]:
    """Whether there is a CTF, and the reason in one sentence."""
    score, strengths = fitted.scores[0].score, fitted.strengths
    defocus, (low, high) = float(fitted.fit.state.lens[0]), search.defocus
    if score < CLEAR:
        return False, f"The best of all defoci scores {score:.1f} standard deviations of noise; {CLEAR:g} are needed."
    if not fitted.fit.converged:
        return False, "The fit came to no end: no CTF describes the spectrum."
    if len(strengths) > 1 and strengths[0] - strengths[1] < APART:
        both = f"log-likelihoods {strengths[0] / 2:.0f} and {strengths[1] / 2:.0f}"
        return False, f"Two defoci explain the spectrum equally well ({both})."
    rings = wavelength(known.voltage) * abs(defocus) * (resolution**-2 - fitted.pixels.limits[0] ** 2)
    if rings < FEWEST_RINGS:
        return (
            False,
            f"The rings agree with the best CTF to {resolution:.1f} A only: that is {rings:.1f} rings, {FEWEST_RINGS:g} are needed.",
        )
    if not low * 0.9 <= defocus <= high * 1.1:
        return False, f"The fit left the range of defocus, to {defocus:.0f} A."
    return True, f"Thon rings to {resolution:.1f} A; the search scores {score:.0f} standard deviations of noise."
