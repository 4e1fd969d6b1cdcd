"""c: the accuracy bars. Errors are held against their largest permitted size, so the expected number is 0.

Rows 2 to 5 are in `scattering_bars`, 6 to 10 in `image_bars`, 11 in `estimation_bars`. Bars that compare a program with files, with another
program or with a clock are listed, and held by tests and benchmarks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from vitreous import constants
from vitreous.conformance import electrons, estimation_bars, image_bars, scattering_bars
from vitreous.conformance.check import Check, bar, quoted
from vitreous.detection import detectors, recording
from vitreous.optics.electrons import interaction_constant, lorentz_factor, speed_ratio, wavelength
from vitreous.units import KILOVOLT

TITLE = "Accuracy bars"
VOLTAGES = (60e3, 80e3, 100e3, 120e3, 200e3, 300e3, 400e3, 1000e3)
STEP = 1e-3  # of the finite differences
NEEDS = "jax"
FILES = "about files: held by tests of the readers and writers"


def checks() -> Iterator[Check]:
    yield from constant_bars()
    yield from scattering_bars.checks()
    yield from image_bars.checks()
    yield from estimation_bars.checks()
    yield from gradient_bars()
    yield quoted("c.13.round-trip", "13: conversion", "round trip within", "1e-12", "", FILES)
    inputs = "flat field with one seed drawn twice, largest difference"
    yield bar("c.14.seed", "14: rerun", inputs, "0", "", rerun_difference, row="c14: identical bit by bit")


# --- row 1: constants -------------------------------------------------------------------------------------------------


def constant_bars() -> Iterator[Check]:
    inputs = "h c/(beta gamma m c^2), 60 to 1000 kV, largest relative difference"
    yield bar("c.1.wavelength", "1: wavelength", inputs, "1e-9", "", wavelength_error, row="c1")
    inputs = "the five of b1, largest relative difference"
    yield bar("c.1.interaction", "1: interaction constant", inputs, "1e-9", "", interaction_error, row="c1")


def wavelength_error() -> float:
    def expected(volt: float) -> float:
        momentum = speed_ratio(volt) * lorentz_factor(volt) * constants.ELECTRON_REST_ENERGY_EV
        return constants.PLANCK_LIGHT_EV_ANGSTROM / momentum

    return max(abs(wavelength(volt) / expected(volt) - 1) for volt in VOLTAGES)


def interaction_error() -> float:
    return max(
        abs(interaction_constant(voltage_kv * KILOVOLT) / float(row[3]) - 1)
        for voltage_kv, row in electrons.TABLE.items()
    )


# --- rows 12 and 14: gradients, reproducibility -----------------------------------------------------------------------


def gradient_bars() -> Iterator[Check]:
    """Single precision, which is what a program runs in; double precision is held by tests."""
    gradients = cache(gradient_errors)
    inputs = "atoms to counts, at no astigmatism, shift, turn: not finite"
    yield bar("c.12.finite", "12: gradients", inputs, "0", "", lambda: gradients()[0], row="c12", needs=NEEDS)
    inputs = "atoms to counts, float32, against finite differences, largest of all"
    yield bar("c.12.float32", "12: gradients", inputs, "0.01", "", lambda: gradients()[1], row="c12", needs=NEEDS)
    reason = "needs double precision: held by tests"
    for kind, printed in (("float64", "1e-12"), ("float32", "1e-6")):
        words = f"compiled against not compiled, {kind}"
        yield quoted(f"c.12.jit.{kind}", "JAX: jit", words, printed, "", "held by tests of each function")
    yield quoted("c.12.float64", "12: gradients", "float64, against finite differences", "1e-4", "", reason)


def gradient_errors() -> tuple[float, float]:
    """How many derivatives of the counts are not finite, and the largest error of one, of the largest of its kind."""
    import jax

    score, parameters = image_score()
    single = type(parameters)(*(np.asarray(value, dtype=np.float32) for value in parameters))
    found = jax.jit(jax.grad(score))(type(parameters)(*(jax.numpy.asarray(value) for value in single)))
    unfinished, worst = 0, 0.0
    for name, derivative in found._asdict().items():
        derivative = np.asarray(derivative, dtype=np.float64)
        unfinished += int((~np.isfinite(derivative)).sum())
        expected = finite_differences(score, parameters, name)
        worst = max(worst, float(np.abs(derivative - expected).max() / np.abs(expected).max()))
    return float(unfinished), worst


def image_score() -> tuple[Any, Any]:
    """A number that an image gives, as a function of all that an image can be differentiated by, and these in double."""
    from vitreous.model.atoms import Atoms
    from vitreous.model.microscope import Microscope
    from vitreous.simulation.differentiable import expected_counts, image_parameters
    from vitreous.specimen.profiles import atom_profiles

    rng = np.random.default_rng(12)
    symbols = np.array(["C", "N", "O", "S", "C", "C"])
    ones = np.ones(len(symbols))
    atoms = Atoms(rng.uniform(-5, 5, (len(symbols), 3)), symbols, 20 * ones, ones, symbols, symbols, np.arange(6))
    profiles = atom_profiles(atoms)
    lens = Microscope(300e3, 2.7e7, 3000.0, amplitude_contrast=0.07)
    weights = 1e3 * rng.standard_normal((24, 24))

    def score(parameters: Any) -> Any:
        counts = expected_counts(parameters, profiles, (24, 24), 1.0, lens)
        return ((counts - 1) * weights).sum()

    return score, image_parameters(atoms.position, profiles, lens)


def finite_differences(score: Any, parameters: Any, name: str) -> np.ndarray:
    """Central differences in double precision by one of the parameters."""
    centre = np.asarray(getattr(parameters, name), dtype=np.float64)
    step = STEP * (1e3 if name in ("defocus", "astigmatism") else 1.0)
    derivative = np.empty_like(centre)
    for place in np.ndindex(centre.shape):
        sides = []
        for sign in (1, -1):
            moved = centre.copy()
            moved[place] += sign * step
            sides.append(float(score(parameters._replace(**{name: moved}))))
        derivative[place] = (sides[0] - sides[1]) / (2 * step)
    return derivative


def rerun_difference() -> float:
    camera = detectors.detector("k2", 300e3)
    first, second = (recording.record(np.ones((64, 64)), 4.0, camera, np.random.default_rng(seed)) for seed in (14, 14))
    return math.inf if first.std() == 0 else float(np.abs(first - second).max())
