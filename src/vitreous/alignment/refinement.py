"""Refinement: the state of a 3D refinement or classification with two independent half sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.assignment import Assignment
from vitreous.alignment.settings import AlignmentSettings

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class RefineSettings(AlignmentSettings):
    """How particles are aligned to one or more maps. Angstrom, radian.

    `symmetry`: the point group. The mask is one on maps too. `start_resolution`: the reference is
    low-pass filtered to this before the first iteration, in both half sets. `order`: HEALPix order of the first, global search; `finest_order` of the last,
    local one. `iterations`: at most so many. `tau_fudge` as for class averages. `finest`: resolution that is never passed. `half_sets`: independent halves (False:
    one map from all, as for ab-initio and classes).
    `local`: start from the poses of the particles with the searches of `finest_order`'s neighbourhood only, without a global one.
    """

    symmetry: str = "C1"
    start_resolution: float = 40.0
    order: int = 2
    finest_order: int = 5
    tau_fudge: float = 1.0
    finest: float | None = None
    half_sets: bool = True
    local: bool = False


@dataclass(frozen=True)
class RefineStep:
    """One iteration in numbers: `resolution` (angstrom) of the half maps at FSC 0.143, angular and shift step in use, `band` (finest resolution compared), sum of log
    evidence, mean largest probability, mean change of orientation (radian) and origin (angstrom), fraction that changed class, wall seconds.
    """

    resolution: float
    order: int
    shift_step: float
    band: float
    log_likelihood: float
    probability: float
    angle_change: float
    shift_change: float
    class_change: float
    seconds: float


@dataclass(frozen=True)
class Refinement:
    """The state after `iteration` iterations.

    `half_maps` [2, k, z, y, x]: unmasked, unregularised maps of each half set and class. `references` [2, k, z, y, x]: regularised, masked: what the next iteration
    aligns to. `fsc` [k, s] of the half maps inside the soft sphere. `noise` [2, g, s] as in a Classification. `scale` [m]: contrast of each micrograph.
    """

    iteration: int
    half_maps: Float[np.ndarray, "2 k z y x"]
    references: Float[np.ndarray, "2 k z y x"]
    population: Float[np.ndarray, " k"]
    fsc: Float[np.ndarray, "k s"]
    noise: Float[np.ndarray, "2 g s"]
    scale: Float[np.ndarray, " m"]
    assignment: Assignment
    half_set: np.ndarray
    steps: tuple[RefineStep, ...] = field(default_factory=tuple)
    converged: bool = False
