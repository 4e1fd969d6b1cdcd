"""The estimate of a micrograph's CTF: search, fit, error bars, and whether there is anything to fit at all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from vitreous.estimation.background import smooth_background
from vitreous.estimation.coarse_search import Candidate, coarse_search
from vitreous.estimation.ctf_estimate import Alternative, CtfEstimate, Lens, Search
from vitreous.estimation.ring_fit import OUTLIER, RingFit, fit_rings
from vitreous.estimation.ring_model import Samples, State, relative_residual
from vitreous.estimation.ring_pixels import BACKGROUND_KNOTS, DEPTH_KNOTS, RingPixels, ring_pixels
from vitreous.estimation.ring_profile import fit_resolution, ice_ring, ring_profile, ring_score
from vitreous.estimation.spectrum import Spectrum, spectrum_of_image

if TYPE_CHECKING:
    from jaxtyping import Float

LENS = ("defocus", "astigmatism_along", "astigmatism_across")
TRIED = 3  # candidates of the search that are fitted
CLEAR = 8.0  # standard deviations of noise that the search must find; noise alone gives 5 to 6
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
    return estimate_from_spectrum(spectrum, lens, search)


def estimate_from_spectrum(spectrum: Spectrum, lens: Lens, search: Search | None = None) -> CtfEstimate:
    """The CTF of a spectrum. Tilt cannot be seen in it: `search.tilt` is for `estimate_ctf`."""
    search = search or Search()
    pixels = ring_pixels(spectrum, search.resolution)
    background = smooth_background(pixels)
    basis = pixels.splines(BACKGROUND_KNOTS)
    level = float((basis @ background).mean())
    rings = pixels.power / np.exp(basis @ background) - 1
    candidates = coarse_search(pixels, rings, lens, search)
    samples = _samples(pixels, basis, math.exp(-level))
    names = LENS + (("phase_shift",) if search.phase_shift is not None else ())
    fits = [
        fit_rings(samples, _start(candidate, background - level), lens, names, pixels.limits[1])
        for candidate in candidates[:TRIED]
        if candidate.score > candidates[0].score / 2
    ]
    best = max(fits, key=strength)
    return _estimate(spectrum, pixels, samples, best, candidates, [strength(fit) for fit in fits], lens, search)


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


def _samples(pixels: RingPixels, basis: np.ndarray, scale: float) -> Samples:
    """The whole micrograph as one part, in single precision, with a mean power near 1."""
    single = np.float32
    nowhere = np.zeros(1, dtype=single)
    return Samples(
        pixels.kx.astype(single),
        pixels.ky.astype(single),
        (pixels.power * scale).astype(single)[None],
        nowhere,
        nowhere,
        single(0),
        basis.astype(single),
        pixels.splines(DEPTH_KNOTS).astype(single),
    )


def _start(candidate: Candidate, background: np.ndarray) -> State:
    lens = np.array([candidate.defocus, *candidate.astigmatism, candidate.phase_shift, 0.0, 0.0, 0.0])
    return State(lens, background, np.zeros(DEPTH_KNOTS))


def _estimate(
    spectrum: Spectrum,
    pixels: RingPixels,
    samples: Samples,
    fit: RingFit,
    candidates: list[Candidate],
    strengths: list[float],
    known: Lens,
    search: Search,
) -> CtfEstimate:
    """The fit with its error bars, its evidence and its verdict."""
    rest, _ = relative_residual(samples, fit.state, known)
    factor = correlation_factor(pixels, np.clip(rest[0], -0.9, OUTLIER * math.sqrt(fit.variance)), spectrum.box)
    profile = ring_profile(samples, fit.state, known, pixels.limits, pixels.step)
    resolution = fit_resolution(profile)
    b_factor, b_sigma = rings_b_factor(pixels, fit, factor, resolution)
    found, evidence = _verdict(fit, candidates, strengths, resolution, search, known)
    defocus, along, across, phase_shift, *_ = (float(value) for value in fit.state.lens)
    return CtfEstimate(
        lens=known,
        defocus=defocus,
        astigmatism=(along, across),
        phase_shift=phase_shift,
        b_factor=b_factor,
        b_factor_sigma=b_sigma,
        names=fit.names,
        covariance=fit.covariance * factor,
        found=found,
        evidence=evidence,
        score=ring_score(profile, resolution),
        significance=candidates[0].score,
        fit_resolution=resolution,
        ice_ring=ice_ring(profile),
        alternatives=tuple(Alternative(c.defocus, c.score) for c in candidates[1:]),
        profile=profile,
        spectrum=spectrum,
    )


def rings_b_factor(pixels: RingPixels, fit: RingFit, factor: float, resolution: float) -> tuple[float, float]:
    """B in angstrom^2 and its standard deviation: the rings' amplitude m T falls as exp(-B k^2 / 2) as far as they can be followed.

    The average over squares of Fourier pixels damps the rings too, by sinc^2 of the distance over which the lens spreads a frequency; it is divided out.
    """
    k = np.linspace(pixels.limits[0], 1 / resolution, 40)
    basis = pixels.splines(DEPTH_KNOTS, k)
    depth = basis @ fit.state.depth
    errors = np.sqrt(np.einsum("ij,jk,ik->i", basis, fit.depth_covariance, basis) * factor)
    used = depth > 2 * errors
    if used.sum() < 5:
        return math.nan, math.nan
    amplitude = np.log(depth[used]) + (pixels.splines(BACKGROUND_KNOTS, k[used]) @ fit.state.background)
    weight = depth[used] / errors[used]
    design = np.stack([np.ones(used.sum()), -(k[used] ** 2) / 2], axis=1)
    inverse = np.linalg.pinv(design * weight[:, None])
    relative = basis[used] / depth[used, None]  # d log m / d coefficients
    spread = (inverse * weight) @ relative
    covariance = spread @ fit.depth_covariance @ spread.T * factor
    return float((inverse @ (amplitude * weight))[1]), math.sqrt(max(float(covariance[1, 1]), 0.0))


def _verdict(
    fit: RingFit, candidates: list[Candidate], strengths: list[float], resolution: float, search: Search, known: Lens
) -> tuple[bool, str]:
    """Whether there is a CTF, and the reason in one sentence."""
    score, gained = candidates[0].score, strength(fit)
    rivals = sorted((value for value in strengths if value is not None), reverse=True)[1:]
    defocus = float(fit.state.lens[0])
    low, high = search.defocus
    if score < CLEAR:
        return False, f"The best of all defoci scores {score:.1f} standard deviations of noise; {CLEAR:g} are needed."
    if not fit.converged:
        return False, "The fit came to no end: no CTF describes the spectrum."
    if rivals and gained - rivals[0] < APART:
        return (
            False,
            f"Two defoci explain the spectrum equally well (log-likelihoods {gained / 2:.0f} and {rivals[0] / 2:.0f}).",
        )
    if not low * 0.9 <= defocus <= high * 1.1:
        return False, f"The fit left the range of defocus, to {defocus:.0f} A."
    return True, f"Thon rings to {resolution:.1f} A; the search scores {score:.0f} standard deviations of noise."
