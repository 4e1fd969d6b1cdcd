"""Explicit molecules of water around a model, at the density of ice: atoms instead of a random field.

Centres are dropped at random into a periodic box, each no nearer than `closest` to those before (random sequential
addition), until the box holds the number that its volume has at the asked density; then those too near an atom of the
model are taken out. Density and hard core are right. The structure is that of hard spheres and not the tetrahedral
network of ice: for the right power spectrum use the random field (`ice.py`).
"""

from __future__ import annotations

import math

import numpy as np

from vitreous.errors import SettingsProblem
from vitreous.model.atoms import Atoms
from vitreous.specimen.materials import ICE, Material, number_density

OH_BOND, ANGLE = 0.9572, math.radians(104.52)  # of a molecule in the gas
CLOSEST = 2.5  # angstrom between centres of molecules; above 2.9 so many do not go into the box
CLEARANCE = 2.8  # angstrom from the centres of the model's atoms to the oxygens: two radii of 1.4
ROUNDS = 2000


def waters_around(
    atoms: Atoms | None,
    extent: tuple[float, float, float],
    *,
    seed: int = 0,
    material: Material = ICE,
    b_factor: float = 0.0,
    closest: float = CLOSEST,
    clearance: float = CLEARANCE,
) -> Atoms:
    """Molecules of water (O, H, H in this order) in the box `extent` = (x, y, z) angstrom about the origin.

    None lies nearer than `clearance` to an atom of the model, and no two oxygens nearer than `closest`, the opposite
    walls of the box being neighbours. Far from the model their density is that of `material`, to half a molecule in the
    box. Orientations are random. Residues are called HOH, in chain W. The molecules are the same for any model.

    Raises SettingsProblem where so many molecules do not go into the box, or none is left.
    """
    box = np.asarray(extent, dtype=np.float64)
    if box.shape != (3,) or not (np.isfinite(box).all() and box.min() > 2 * closest):
        raise SettingsProblem(f"a box of {tuple(extent)} A", f"three sides of more than {2 * closest:g} A")
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0x3A7E2,)))
    centres = _centres(box, round(float(np.prod(box)) * number_density(material)), closest, rng)
    hydrogens = _hydrogens(len(centres), rng)
    if atoms is not None:
        keep = _clear_of(centres, np.asarray(atoms.position, dtype=np.float64), clearance)
        centres, hydrogens = centres[keep], hydrogens[keep]
    if len(centres) == 0:
        raise SettingsProblem("a model that fills the box", "room for molecules of water", "use a larger box")
    return _molecules(centres, hydrogens, b_factor)


def _centres(box: np.ndarray, count: int, closest: float, rng: np.random.Generator) -> np.ndarray:
    """`count` points of the periodic box, none nearer than `closest` to another, in -box/2 ... box/2."""
    from scipy.spatial import KDTree

    placed = np.empty((0, 3))
    for _ in range(ROUNDS):
        if len(placed) == count:
            return placed - box / 2
        trial = rng.random((max(count, 1000), 3)) * box
        if len(placed):
            distance, _ = KDTree(placed, boxsize=box).query(trial, distance_upper_bound=closest)
            trial = trial[~np.isfinite(distance)]
        pairs = KDTree(trial, boxsize=box).query_pairs(closest, output_type="ndarray")
        trial = np.delete(trial, _later_of(pairs), axis=0)
        placed = np.concatenate([placed, trial[: count - len(placed)]])
    raise SettingsProblem(
        f"{len(placed)} of {count} molecules of water found room at {closest:g} A from each other",
        "a distance at which they all go into the box",
        "let them come nearer to each other, or lower the density",
    )


def _later_of(pairs: np.ndarray) -> np.ndarray:
    """Which trial points to drop so that no pair is left: the later of each pair, in one pass."""
    return np.unique(pairs.max(axis=1)) if len(pairs) else np.empty(0, dtype=np.int64)


def _clear_of(centres: np.ndarray, model: np.ndarray, clearance: float) -> np.ndarray:
    from scipy.spatial import KDTree

    distance, _ = KDTree(model).query(centres, distance_upper_bound=clearance)
    return ~np.isfinite(distance)


def _hydrogens(count: int, rng: np.random.Generator) -> np.ndarray:
    """Positions [n, 2, 3] of the two hydrogens about their oxygen: random directions, the angle of water."""
    first = rng.standard_normal((count, 3))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    across = rng.standard_normal((count, 3))
    across -= (across * first).sum(axis=1, keepdims=True) * first
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    second = math.cos(ANGLE) * first + math.sin(ANGLE) * across
    return OH_BOND * np.stack([first, second], axis=1)


def _molecules(centres: np.ndarray, hydrogens: np.ndarray, b_factor: float) -> Atoms:
    count = len(centres)
    position = np.concatenate([centres[:, None], centres[:, None] + hydrogens], axis=1).reshape(-1, 3)
    return Atoms(
        position=position,
        element=np.tile(["O", "H", "H"], count),
        b_factor=np.full(3 * count, float(b_factor)),
        occupancy=np.ones(3 * count),
        chain=np.full(3 * count, "W"),
        residue_name=np.full(3 * count, "HOH"),
        residue_number=np.repeat(np.arange(1, count + 1, dtype=np.int32), 3),
    )
