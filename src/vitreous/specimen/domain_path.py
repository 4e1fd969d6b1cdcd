"""A path between two states of a molecule: its domains move as rigid bodies along their screws, and what joins them is blended.

The atoms of both states are compared after the second has been laid on the first by the largest part that is rigid, the core. Each domain d has
a rigid motion T_d that brings its first state nearest to its second. An atom at x in the first state and y in the second is, after a fraction f,

    r(f) = sum_d w_d T_d^f ( (1 - f) x + f T_d^-1 y )

T_d^f is that fraction of the screw (`rigid_motion`). Inside a domain w_d = 1, so that domains keep their shapes but for the small changes that the
states show within them. Near the ends of a domain the weights go over from one to the next along the chain. Each term is x at f = 0
and y at f = 1: the ends of the path are the two states, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.model.atoms import Atoms
from vitreous.specimen.rigid_motion import RigidMotion, superposition

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

RIGID = 2.0  # angstrom: residues of a domain lie this near to where its rigid motion brings them, in the mean over their atoms
SMALLEST_DOMAIN = 20  # residues; fewer move with their neighbours
ROUNDS, STARTS = 50, 100  # of the search for a rigid part
MOST_DOMAINS = 16
BLEND = 4  # residues to either side over which weights go from one domain to the next


@dataclass(frozen=True)
class DomainPath:
    """Two states of the same atoms, and how its domains go from the one to the other.

    `start` is the first state; `end` [n, 3] the positions of the second, laid on the first by the core. `motions` are those of the domains
    (the core, which hardly moves, is the first), `weight` [n, d] says how much each atom belongs to each, and `domain` [n] to which most.
    """

    start: Atoms
    end: np.ndarray
    motions: tuple[RigidMotion, ...]
    weight: np.ndarray

    @property
    def domain(self) -> Int[np.ndarray, " n"]:
        return self.weight.argmax(axis=1)

    def at(self, fraction: float) -> Atoms:
        """The model after this fraction of the way, 0 to 1."""
        if not 0 <= fraction <= 1:
            raise SettingsProblem(f"a fraction {fraction} of a path", "0 to 1")
        start = np.asarray(self.start.position, dtype=np.float64)
        position = np.zeros_like(start)
        for motion, weight in zip(self.motions, self.weight.T):
            some = weight > 0
            between = (1 - fraction) * start[some] + fraction * motion.returned(self.end[some])
            position[some] += weight[some, None] * motion.moved(between, fraction)
        return replace(self.start, position=position.astype(self.start.position.dtype))


def common_atoms(first: Atoms, second: Atoms) -> tuple[Atoms, Atoms]:
    """The atoms that both states have, in the order of the first.

    Atoms are the same if chain, residue number, residue name, element and place among the atoms of that element in the residue are. Raises
    DataProblem for states of different chains, and where no residue is in both.
    """
    chains = [sorted(set(atoms.chain.astype(str).tolist())) for atoms in (first, second)]
    if not set(chains[0]) & set(chains[1]):
        raise DataProblem(
            f"states of the chains {', '.join(chains[0][:8])} and {', '.join(chains[1][:8])}",
            "the same chains in both",
            "rename the chains of one of them",
        )
    places = {key: row for row, key in enumerate(_keys(second))}
    pairs = [(row, places[key]) for row, key in enumerate(_keys(first)) if key in places]
    if len(pairs) < 3:
        raise DataProblem(
            f"two states of {len(first)} and {len(second)} atoms that have no residue in common",
            "two states of one molecule, with the same residue numbers",
        )
    rows = np.array(pairs)
    return first.rows(rows[:, 0]), second.rows(rows[:, 1])


def domain_path(first: Atoms, second: Atoms, *, rigid: float = RIGID) -> DomainPath:
    """The path from the first state to the second; both hold the same atoms in the same order (`common_atoms`).

    Domains are found one after the other: of the residues that are left, those that one rigid motion brings to within `rigid` angstrom of where
    they go, the largest set first; what is left over moves with its neighbours along the chain.
    """
    start, goal = (np.asarray(atoms.position, dtype=np.float64) for atoms in (first, second))
    residue, count = _residues(first)
    mean_start, mean_goal = (_means(values, residue, count) for values in (start, goal))
    domain = _domains(mean_start, mean_goal, rigid)
    domain = _with_neighbours(domain, _chain_of_residue(first, residue, count), mean_start)
    core = superposition(mean_goal[domain == 0], mean_start[domain == 0])
    end = core.moved(goal)
    mean_end = core.moved(mean_goal)
    motions = tuple(
        superposition(mean_start[domain == number], mean_end[domain == number]) for number in range(domain.max() + 1)
    )
    weight = _blended(domain, _chain_of_residue(first, residue, count))[residue]
    return DomainPath(first, end, motions, weight)


def _keys(atoms: Atoms) -> list[tuple]:
    """What tells each atom of a model from the others."""
    columns = (atoms.chain.astype(str), atoms.residue_number, atoms.residue_name.astype(str), atoms.element.astype(str))
    seen: dict[tuple, int] = {}
    keys = []
    for key in zip(*(column.tolist() for column in columns)):
        seen[key] = seen.get(key, -1) + 1
        keys.append((*key, seen[key]))
    return keys


def _residues(atoms: Atoms) -> tuple[Int[np.ndarray, " n"], int]:
    """The residue of each atom, from 0 in the order of the file, and their number."""
    new = (atoms.chain[1:] != atoms.chain[:-1]) | (atoms.residue_number[1:] != atoms.residue_number[:-1])
    number = np.concatenate([[0], np.cumsum(new)])
    return number, int(number[-1]) + 1


def _means(values: np.ndarray, residue: np.ndarray, count: int) -> Float[np.ndarray, "r 3"]:
    totals = np.stack([np.bincount(residue, weights=column, minlength=count) for column in values.T], axis=1)
    return totals / np.bincount(residue, minlength=count)[:, None]


def _chain_of_residue(atoms: Atoms, residue: np.ndarray, count: int) -> Int[np.ndarray, " r"]:
    chain = np.unique(atoms.chain.astype(str), return_inverse=True)[1]
    of_residue = np.zeros(count, dtype=np.int64)
    of_residue[residue] = chain
    return of_residue


def _domains(start: np.ndarray, goal: np.ndarray, rigid: float) -> Int[np.ndarray, " r"]:
    """The domain of each residue, -1 for those of none."""
    domain = np.full(len(start), -1)
    left = np.arange(len(start))
    for number in range(MOST_DOMAINS):
        members = _rigid_part(start[left], goal[left], rigid)
        if number > 0 and members.sum() < SMALLEST_DOMAIN:
            break
        domain[left[members]] = number
        left = left[~members]
        if len(left) < SMALLEST_DOMAIN:
            break
    return domain


def _rigid_part(start: np.ndarray, goal: np.ndarray, rigid: float) -> Bool[np.ndarray, " r"]:
    """The largest set that one rigid motion brings to within `rigid` of its goal, found from stretches of residues all along."""
    best = np.zeros(len(start), dtype=bool)
    size = min(SMALLEST_DOMAIN, len(start))
    for first in range(0, len(start) - size + 1, max(1, size // 2, len(start) // STARTS)):
        members = np.zeros(len(start), dtype=bool)
        members[first : first + size] = True
        for _ in range(ROUNDS):
            motion = superposition(start[members], goal[members])
            near = np.linalg.norm(motion.moved(start) - goal, axis=1) < rigid
            if near.sum() < 3 or (near == members).all():
                break
            members = near
        if near.sum() > best.sum():
            best = near
    return best if best.sum() >= 3 else np.ones(len(start), dtype=bool)


def _with_neighbours(domain: np.ndarray, chain: np.ndarray, position: np.ndarray) -> Int[np.ndarray, " r"]:
    """Residues of no domain, and stretches too short to be a piece of one, go to the domain of the nearest along the chain (of chains without any, in space)."""
    domain = domain.copy()
    sizes = np.bincount(domain[domain >= 0])
    for number in range(len(domain)):
        if domain[number] >= 0 and not _held(domain, chain, number):
            domain[number] = -1
    known = np.flatnonzero(domain >= 0)
    if len(known) == 0:
        return np.zeros_like(domain)
    for number in np.flatnonzero(domain < 0):
        same = known[chain[known] == chain[number]]
        if len(same):
            domain[number] = domain[same[np.abs(same - number).argmin()]]
        else:
            domain[number] = domain[known[np.linalg.norm(position[known] - position[number], axis=1).argmin()]]
    used = [number for number in range(len(sizes)) if (domain == number).any()]
    return np.searchsorted(used, domain)


def _held(domain: np.ndarray, chain: np.ndarray, number: int) -> bool:
    """Whether most of the residues around this one along its chain are of its domain."""
    around = slice(max(0, number - BLEND), number + BLEND + 1)
    same = chain[around] == chain[number]
    return 2 * ((domain[around] == domain[number]) & same).sum() > same.sum()


def _blended(domain: np.ndarray, chain: np.ndarray) -> Float[np.ndarray, "r d"]:
    """Weights [r, d]: the mean over the BLEND residues to either side along the chain."""
    member = (domain[:, None] == np.arange(domain.max() + 1)).astype(np.float64)
    weight = np.empty_like(member)
    for number in range(len(domain)):
        around = slice(max(0, number - BLEND), number + BLEND + 1)
        weight[number] = member[around][chain[around] == chain[number]].mean(axis=0)
    return weight
