"""The conformations of a simulated ensemble, as atoms: of a hinge, a mixture, or a path."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from vitreous.errors import SettingsProblem
from vitreous.jobs.ensemble_input import EnsembleInput
from vitreous.jobs.job import Finding
from vitreous.jobs.specimen import Specimen
from vitreous.model.atoms import Atoms
from vitreous.model.volume import Volume
from vitreous.optics.electrons import wavelength
from vitreous.specimen.atom_selection import selected_atoms
from vitreous.specimen.domain_path import common_atoms, domain_path
from vitreous.specimen.hinge import Hinge, opening_hinge
from vitreous.specimen.potential import centre_of_mass, potential_volume
from vitreous.units import DEGREE, MICROMETRE

LOOKED_AT = 5  # conformations by which the size of an ensemble is judged
ROOM = 1.25  # the box that an ensemble gets by itself, in diameters
PIXEL_STEP = 0.1  # angstrom, to which a pixel size found is rounded up
MANY = 0.1  # of the atoms; as many left out deserve a warning


@dataclass(frozen=True)
class Conformations:
    """k conformations: `values` [k] of the coordinate, `names`, `populations` [k], and `atoms(k)`, their atoms in a common frame.

    `still` [n]: atoms that are in the same place in all, if there are any and all have the same atoms. `towards`: the direction (x, y, z) from
    which the motion is seen best, along its axis.
    """

    kind: str
    values: np.ndarray
    names: tuple[str, ...]
    populations: np.ndarray
    atoms: Callable[[int], Atoms]
    findings: tuple[Finding, ...] = ()
    facts: dict = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    still: np.ndarray | None = None
    towards: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)


def conformations_of(settings: EnsembleInput) -> Conformations:
    """The conformations that the settings ask for."""
    return {"hinge": _hinge, "mixture": _mixture, "path": _path}[settings.kind](settings)


def _hinge(settings: EnsembleInput) -> Conformations:
    atoms = _atoms(settings.sample)
    moving = selected_atoms(atoms, settings.moving_part)
    if moving.all():
        raise SettingsProblem(f"--moving {settings.moving_part}, which is the whole model", "a part of it")
    given = settings.axis is not None and settings.point is not None
    hinge = Hinge(np.array(settings.point), np.array(settings.axis)) if given else opening_hinge(atoms, moving)
    angles = np.linspace(*settings.angles_deg, settings.number)
    first, last = (hinge.turned(atoms.position[moving], angle * DEGREE) for angle in angles[[0, -1]])
    way = float(np.sqrt(((last - first) ** 2).sum(axis=1).mean()))
    findings = (
        Finding(
            "moving_atoms", "atoms that move", int(moving.sum()), "", f"Of {len(atoms):,}: {settings.moving_part}."
        ),
        Finding("way_angstrom", "way", way, "Å", "Root mean square distance between their first and last places.", 1),
    )
    facts = {"hinge": {"axis": hinge.axis, "point": hinge.point, "moving": settings.moving_part}}
    return Conformations(
        "hinge",
        angles,
        tuple(f"{angle:.4g}°" for angle in angles),
        _alike(len(angles)),
        lambda k: hinge.bent(atoms, moving, angles[k] * DEGREE),
        findings,
        facts,
        still=~moving,
        towards=hinge.axis,
    )


def _mixture(settings: EnsembleInput) -> Conformations:
    atoms = _atoms(settings.sample)
    names = settings.species_names
    chosen = [selected_atoms(atoms, name) for name in names]
    for later in range(len(names)):
        for earlier in range(later):
            if (chosen[earlier] == chosen[later]).all():
                raise SettingsProblem(
                    f"the species {names[earlier]} and {names[later]}, which are one", "different ones"
                )
    shares = np.array(settings.populations) / sum(settings.populations) if settings.populations else _alike(len(names))
    facts = {"species": [{"name": name, "atoms": int(part.sum())} for name, part in zip(names, chosen)]}
    return Conformations(
        "mixture", np.arange(1.0, len(names) + 1), names, shares, lambda k: atoms.rows(chosen[k]), facts=facts
    )


def _path(settings: EnsembleInput) -> Conformations:
    states = _atoms(settings.sample), _atoms(settings.last)
    first, last = common_atoms(*states)
    path = domain_path(first, last)
    fractions = np.linspace(*settings.path_fractions, settings.number)
    way = float(np.sqrt(((path.end - first.position) ** 2).sum(axis=1).mean()))
    turns = [motion.angle / DEGREE for motion in path.motions[1:]]
    findings = (
        Finding("way_angstrom", "way", way, "Å", "Root mean square distance of the atoms between the two states.", 1),
        Finding("domains", "domains", len(path.motions), "", "Parts that move as rigid bodies, the core among them."),
        Finding("largest_turn_deg", "largest turn", max(turns, default=0.0), "°", "Of a domain against the core.", 1),
    )
    left = [len(state) - len(first) for state in states]
    warnings = [
        f"{count:,} of {len(state):,} atoms of {sample.name} have no counterpart in the other state and are left out."
        for count, state, sample in zip(left, states, (settings.sample, settings.last))
        if count > MANY * len(state)
    ]
    sizes = np.bincount(path.domain, minlength=len(path.motions))
    facts = {
        "domains": [
            {"atoms": int(size), "turn_deg": motion.angle / DEGREE} for size, motion in zip(sizes, path.motions)
        ],
        "atoms_left_out": left,
    }
    names = tuple(f"{fraction:.3g} of the way" for fraction in fractions)
    return Conformations(
        "path",
        fractions,
        names,
        _alike(len(fractions)),
        lambda k: path.at(float(fractions[k])),
        findings,
        facts,
        tuple(warnings),
        towards=max(path.motions, key=lambda motion: motion.angle).axis,
    )


def _atoms(specimen: Specimen) -> Atoms:
    atoms = specimen.atoms()
    assert atoms is not None  # maps have been refused
    return atoms


def _alike(count: int) -> np.ndarray:
    return np.full(count, 1 / count)


@dataclass(frozen=True)
class Frame:
    """The grid of all maps of an ensemble: `centre` (x, y, z) of the model's frame is at the origin; `radius` in angstrom holds all atoms."""

    centre: np.ndarray
    radius: float
    box: int
    pixel_size: float
    b_factor: float = 0.0

    def maps(self, conformations: Conformations) -> Iterator[Volume]:
        """The map of each conformation. The potential is a sum over atoms: those that stand still are summed once."""
        still, same = conformations.still, None
        for number in range(len(conformations)):
            atoms = conformations.atoms(number)
            if still is None:
                yield self.map(atoms)
                continue
            same = self.map(atoms.rows(still)).data if same is None else same
            yield Volume(self.map(atoms.rows(~still)).data + same, self.pixel_size)

    def map(self, atoms: Atoms) -> Volume:
        """The potential of the atoms, in volt."""
        placed = replace(atoms, position=(atoms.position - self.centre).astype(atoms.position.dtype))
        return potential_volume(placed, self.box, self.pixel_size, extra_b_factor=self.b_factor, centre=False)


def frame_of(settings: EnsembleInput, conformations: Conformations) -> Frame:
    """The grid that the settings ask for, or the finest that holds the ensemble. Raises SettingsProblem if theirs does not."""
    count = len(conformations)  # species differ in any order, places along a coordinate in that of the coordinate
    looked_at = range(count) if conformations.kind == "mixture" else np.linspace(0, count - 1, LOOKED_AT).astype(int)
    models = [conformations.atoms(int(k)) for k in looked_at]
    centre = np.mean([centre_of_mass(model) for model in models], axis=0)
    radius = max(float(np.linalg.norm(model.position - centre, axis=1).max()) for model in models)
    pixel_size = settings.pixel_size or _fitting_pixel(settings, radius)
    if 2 * radius > settings.box * pixel_size:
        raise SettingsProblem(
            f"a box of {settings.box * pixel_size:.0f} A ({settings.box} x {pixel_size:g} A) for conformations {2 * radius:.0f} A across",
            f"a pixel size of at least {math.ceil(20 * radius / settings.box) / 10:g} A",
            "give a larger --box or --pixel-size",
        )
    return Frame(centre, radius, settings.box, pixel_size, settings.b_factor)


def _fitting_pixel(settings: EnsembleInput, radius: float) -> float:
    """Pixels that let the box hold the ensemble, and sample the CTF of the largest defocus: N p^2 / wavelength is above it."""
    defocus = max(abs(value) for value in settings.defocus_um) * MICROMETRE
    for_ctf = math.sqrt(wavelength(settings.voltage) * defocus / settings.box)
    return round(math.ceil(max(2 * ROOM * radius / settings.box, for_ctf) / PIXEL_STEP) * PIXEL_STEP, 6)
