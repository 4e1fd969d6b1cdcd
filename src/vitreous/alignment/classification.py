"""Classification: the state of a 2D classification, a value that an iteration turns into the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.assignment import Assignment
from vitreous.alignment.settings import AlignmentSettings

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class ClassifySettings(AlignmentSettings):
    """How particles are classified in two dimensions. Angstrom, radian.

    `psi_step`: in-plane angles are at most this far apart. Origins are searched first at twice `shift_step`. `tau_fudge` multiplies the power of the signal that
    regularises each shell. `finest`: resolution beyond which the images are not compared (None: as far as they go). `exact`: all alternatives at
    full band, otherwise the coarse pass prunes. `batch`: particles per mini-batch of the online mode, None: all particles in each iteration.
    """

    classes: int = 50
    iterations: int = 25
    psi_step: float = float(np.deg2rad(6.0))
    tau_fudge: float = 2.0
    finest: float | None = None
    exact: bool = False
    batch: int | None = None


@dataclass(frozen=True)
class Classification:
    """The state after `iteration` iterations.

    `averages` [k, y, x]: class averages, protein bright, CTF corrected, on the scale of a projection that fits the images.
    `population` [k]: share of the particles. `resolution` [k] in angstrom: where the spectral signal-to-noise ratio of the average falls below 1
    (2 pixel sizes at best, infinite for an empty class). `signal_to_noise` [k, s] that ratio per shell. `noise` [g, s]: noise variance per noise
    group and shell, mean |noise|^2 of a Fourier pixel of an unmasked image / pixels. `log_likelihood` [iteration]: sum of the log evidence of all
    particles after each iteration. `changed` [iteration]: fraction of particles whose class changed. `pruning_loss`: mean over the particles
    compared of (exact minus pruned log evidence), nan until it was measured.
    """

    iteration: int
    averages: Float[np.ndarray, "k y x"]
    population: Float[np.ndarray, " k"]
    resolution: Float[np.ndarray, " k"]
    signal_to_noise: Float[np.ndarray, "k s"]
    noise: Float[np.ndarray, "g s"]
    assignment: Assignment
    log_likelihood: Float[np.ndarray, " iteration"] = field(default_factory=lambda: np.zeros(0))
    changed: Float[np.ndarray, " iteration"] = field(default_factory=lambda: np.zeros(0))
    pruning_loss: float = float("nan")
