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
from vitreous.io.atoms import read_atoms
from vitreous.io.bundled import PREFIX, bundled_file, bundled_source, load_bundled
from vitreous.io.mrc import read_volume
from vitreous.model.atoms import Atoms
from vitreous.model.volume import Volume
from vitreous.specimen.potential import centre_of_mass, potential_volume

MODEL_SUFFIXES = (".cif", ".mmcif", ".pdb", ".ent")
MAP_SUFFIXES = (".mrc", ".map", ".ccp4")
# The box that a model gets by itself, in diameters: room for the signal that the defocus carries outwards.
ROOM = 1.5


@dataclass(frozen=True)
class Specimen:
    """A model or a map, and the grid that it is wanted on: box in pixels, pixel size in angstrom, extra B factor in
    angstrom^2. What is None is chosen by the specimen.
    """

    path: Path
    box: int | None = None
    pixel_size: float | None = None
    b_factor: float = 0.0

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

    def volume(self) -> tuple[Volume, float | None]:
        """The specimen on its grid, in its own units (volt, for a model), and the radius in angstrom of a model."""
        if self.kind == "map":
            return self._map(read_volume(self.path, self.pixel_size)), None
        if self.bundled:
            return self._model(load_bundled(str(self.path).removeprefix(PREFIX)))
        return self._model(read_atoms(self.path, waters=False))

    def _model(self, atoms: Atoms) -> tuple[Volume, float]:
        """The potential of a model, its centre of mass at the box centre."""
        if self.pixel_size is None:
            raise SettingsProblem(
                f"no pixel size for the model {self.path}", "angstrom per pixel of the images", "give --pixel-size"
            )
        radius = float(np.linalg.norm(atoms.position - centre_of_mass(atoms), axis=1).max())
        box = fitting_box(ROOM * 2 * radius / self.pixel_size) if self.box is None else self.box
        width = box * self.pixel_size
        if width < 2 * (radius + self.pixel_size):
            raise SettingsProblem(
                f"a box of {box} px of {self.pixel_size:g} A = {width:.0f} A for a model {2 * radius:.0f} A across",
                f"at least {math.ceil(2 * radius / self.pixel_size) + 2} px",
                "give a larger --box or --pixel-size",
            )
        single = replace(atoms, position=np.asarray(atoms.position, dtype=np.float32))
        return potential_volume(single, box, self.pixel_size, extra_b_factor=self.b_factor), radius

    def _map(self, volume: Volume) -> Volume:
        """A map, cropped and blurred as asked."""
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


def fitting_box(pixels: float) -> int:
    """The smallest even box of at least this many pixels whose transforms are fast (no prime factor above 5)."""
    from scipy.fft import next_fast_len

    half = next_fast_len(math.ceil(pixels / 2), real=True)
    assert half is not None
    return 2 * half
