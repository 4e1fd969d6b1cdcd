"""A specimen as a user names it: an atomic model, a map, or a bundled model; and the volume that it is on a grid of
images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.filters import apply_filter, b_factor_envelope
from vitreous.fourier.transforms import fourier_crop, radial_frequency
from vitreous.io.atoms import AtomicModel, read_atomic_model
from vitreous.io.bundled import PREFIX, bundled_file, bundled_source, load_bundled
from vitreous.io.mrc import read_volume
from vitreous.model.atoms import Atoms
from vitreous.model.volume import Volume
from vitreous.specimen.hydrogens import residues_without_hydrogens, with_hydrogens
from vitreous.specimen.potential import centre_of_mass, potential_volume
from vitreous.specimen.solvent import displaced_solvent

MODEL_SUFFIXES = (".cif", ".mmcif", ".pdb", ".ent")
MAP_SUFFIXES = (".mrc", ".map", ".ccp4")
# The box that a model gets by itself, in diameters: room for the signal that the defocus carries outwards.
ROOM = 1.5


@dataclass(frozen=True)
class Choices:
    """What is taken of an atomic model, and what stands around it.

    `assembly`, `ensemble_model` and `ions` are those of `io.atoms.read_atomic_model`. `hydrogens` "implicit" adds those that
    are missing (`specimen.hydrogens`). `solvent` "displaced" takes from the potential what the atoms displace of a
    continuum of `inner_potential` volt (`specimen.solvent`).
    """

    assembly: str | None = None
    ensemble_model: int | None = None
    ions: Literal["refuse", "neutral", "omit"] = "refuse"
    hydrogens: Literal["file", "implicit"] = "file"
    solvent: Literal["none", "displaced"] = "none"
    inner_potential: float | None = None

    def __post_init__(self) -> None:
        if self.inner_potential is not None and self.solvent == "none":
            raise SettingsProblem(
                f"--inner-potential {self.inner_potential:g} without a solvent", "--solvent displaced", "give both"
            )
        if self.inner_potential is not None and not math.isfinite(self.inner_potential):
            raise SettingsProblem(f"--inner-potential {self.inner_potential}", "a number of volts")

    def given(self, names: tuple[str, ...]) -> list[str]:
        """Which of these were chosen, as options."""
        plain = Choices()
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) != getattr(plain, name)]


FROM_FILE = ("assembly", "ensemble_model", "ions")  # what a bundled model, reduced to its atoms, cannot answer


@dataclass(frozen=True)
class Specimen:
    """A model or a map, and the grid that it is wanted on: box in pixels, pixel size in angstrom, extra B factor in
    angstrom^2. What is None is chosen by the specimen.
    """

    path: Path
    box: int | None = None
    pixel_size: float | None = None
    b_factor: float = 0.0
    choices: Choices = Choices()

    @property
    def bundled(self) -> bool:
        return str(self.path).startswith(PREFIX)

    @property
    def file(self) -> Path:
        """The file that it is read from."""
        if not self.bundled:
            return self.path
        with bundled_file(str(self.path).removeprefix(PREFIX)) as path:
            return path

    @property
    def name(self) -> str:
        """What to call it in a title."""
        return str(self.path).removeprefix(PREFIX).upper() if self.bundled else self.path.name

    @property
    def source(self) -> str:
        """What it is and, for a bundled model, whom to cite."""
        return bundled_source(str(self.path).removeprefix(PREFIX)) if self.bundled else self.path.name

    @property
    def kind(self) -> Literal["bundled", "model", "map"]:
        """What it is by its name."""
        if self.bundled:
            return "bundled"
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        last = suffixes[-2:-1] if suffixes[-1:] in ([".gz"], [".bz2"]) else suffixes[-1:]
        if last and last[0] in MODEL_SUFFIXES:
            return "model"
        if last and last[0] in MAP_SUFFIXES:
            return "map"
        known = ", ".join((*MODEL_SUFFIXES, *MAP_SUFFIXES))
        raise SettingsProblem(
            f"{self.path} is neither a model nor a map by its name",
            f"a name that ends in one of {known}, or bundled:6zu5",
        )

    @property
    def is_map(self) -> bool:
        return self.kind == "map"

    def volume(self) -> tuple[Volume, float | None]:
        """The specimen on its grid, in its own units (volt, for a model), and the radius in angstrom of a model."""
        atoms = self.atoms()
        return (self.map(), None) if atoms is None else (self.model_volume(atoms), radius(atoms))

    def atoms(self) -> Atoms | None:
        """The atoms of a model, without water; None for a map."""
        model = self.atomic_model()
        return None if model is None else model.atoms

    def atomic_model(self) -> AtomicModel | None:
        """The atoms of a model, without water and as chosen, with notes on what was chosen or missing; None for a map."""
        if self.kind == "map":
            if refused := self.choices.given(tuple(Choices.__dataclass_fields__)):
                raise SettingsProblem(
                    f"{' '.join(refused)} for the map {self.path}", "an atomic model", "leave the option out"
                )
            return None
        choices = self.choices
        if self.bundled:
            if refused := choices.given(FROM_FILE):
                raise SettingsProblem(
                    f"{' '.join(refused)} for {self.path}, of which only the atoms are kept", "a PDB or mmCIF file"
                )
            model = AtomicModel(load_bundled(str(self.path).removeprefix(PREFIX)))
        else:
            model = read_atomic_model(
                self.path,
                waters=False,
                model=choices.ensemble_model,
                assembly=choices.assembly,
                ions=choices.ions,
            )
        return model if choices.hydrogens == "file" else _with_hydrogens(model)

    def displaced(self, atoms: Atoms) -> dict[str, tuple[float, float]] | None:
        """The solvent that each element displaces, None for a specimen in vacuum."""
        if self.choices.solvent == "none":
            return None
        return displaced_solvent(atoms, self.choices.inner_potential)

    def map(self) -> Volume:
        """A map, cropped and blurred as asked."""
        return self._map(read_volume(self.path, self.pixel_size))

    def model_volume(self, atoms: Atoms) -> Volume:
        """The potential of a model, its centre of mass at the box centre."""
        if self.pixel_size is None:
            raise SettingsProblem(
                f"no pixel size for the model {self.path}", "angstrom per pixel of the images", "give --pixel-size"
            )
        reach = radius(atoms)
        box = fitting_box(ROOM * 2 * reach / self.pixel_size) if self.box is None else self.box
        width = box * self.pixel_size
        if width < 2 * (reach + self.pixel_size):
            raise SettingsProblem(
                f"a box of {box} px of {self.pixel_size:g} A = {width:.0f} A for a model {2 * reach:.0f} A across",
                f"at least {math.ceil(2 * reach / self.pixel_size) + 2} px",
                "give a larger --box or --pixel-size",
            )
        single = replace(atoms, position=np.asarray(atoms.position, dtype=np.float32))
        return potential_volume(
            single, box, self.pixel_size, extra_b_factor=self.b_factor, displaced=self.displaced(atoms)
        )

    def _map(self, volume: Volume) -> Volume:
        data, pixel_size = volume.data, volume.pixel_size
        if not np.isfinite(data).all():
            raise DataProblem(f"{self.path} holds values that are not finite numbers", "a map")
        if self.box is not None and self.box > volume.box:
            raise SettingsProblem(
                f"--box {self.box} for a map of {volume.box} px",
                f"at most {volume.box}",
                "pad the map first, or choose a smaller box",
            )
        if self.box is not None and self.box < volume.box:
            data, pixel_size = fourier_crop(data, self.box, 3, pixel_size)
        if self.b_factor:
            k = radial_frequency(data.shape, pixel_size, dtype=np.float32)
            data = apply_filter(data, b_factor_envelope(k, self.b_factor), 3)
        return Volume(np.asarray(data, dtype=np.float32), pixel_size)


def radius(atoms: Atoms) -> float:
    """Distance in angstrom of the farthest atom from the centre of mass."""
    return float(np.linalg.norm(atoms.position - centre_of_mass(atoms), axis=1).max())


def _with_hydrogens(model: AtomicModel) -> AtomicModel:
    full = with_hydrogens(model.atoms)
    notes = [f"hydrogens added to {len(full) - len(model.atoms):,} atoms"]
    if unknown := residues_without_hydrogens(model.atoms):
        notes.append(f"no hydrogens are known for {', '.join(unknown)}")
    return AtomicModel(full, (*model.notes, *notes))


def fitting_box(pixels: float) -> int:
    """The smallest even box of at least this many pixels whose transforms are fast (no prime factor above 5)."""
    from scipy.fft import next_fast_len

    half = next_fast_len(math.ceil(pixels / 2), real=True)
    assert half is not None
    return 2 * half
