"""What a method of heterogeneity says, in the files that it leaves: a latent for each particle, and a map for each latent.

landscape    a folder of `vitreous landscape train`: latents and decoder
cryoDRGN     a folder with z.pkl or z.N.pkl: latents; and the decoder, if its network can be read, or maps given as files
RELION       a folder of Class3D: the class of each particle, as a latent of 0 and 1, and the maps of the classes
latents      a file of latents alone: .npy, .txt, .pkl, .star, .cs; maps are given as files
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vitreous.errors import DataProblem, FileProblem, FormatProblem, InputError, SettingsProblem
from vitreous.heterogeneity.decoder import Decoder, decoded_volume
from vitreous.heterogeneity.map_scores import MapGrid
from vitreous.io.files import require_file
from vitreous.io.mrc import read_volume
from vitreous.io.particles import read_particles
from vitreous.io.plain_pickle import read_plain_pickle
from vitreous.jobs.cryodrgn_run import CONFIG, read_run
from vitreous.jobs.folder import FINISHED
from vitreous.jobs.landscape_folder import CONSENSUS, DECODER, read_landscape
from vitreous.jobs.score_matching import ListedImages
from vitreous.model.volume import Volume

RELION_DATA = re.compile(r"run(_ct\d+)?_it(\d+)_data\.star")
CRYODRGN_LATENTS = re.compile(r"z(\.(\d+))?\.pkl")
LATENT_COLUMN = re.compile(r"(\w*latent\w*|components_mode_\d+/value)", re.I)  # the second is cryoSPARC's
CLASS, CRYODRGN = "rlnClassNumber", "cryoDRGN"


class Maps(Protocol):
    """The maps of a method; `grid` is that of the first."""

    @property
    def grid(self) -> MapGrid: ...

    def of_image(self, number: int, row: int) -> Volume:
        """The map of the image in `row` of the latents, which is the `number`-th of those chosen (from 0)."""
        ...

    def of_conformation(self, number: int, row: int) -> Volume:
        """The map of the `number`-th conformation, at the latent in `row`."""
        ...


@dataclass(frozen=True)
class Method:
    """`latents` [n, d] of n particles. `images` are their names, None if they are those of the truth in its order; `labels` [n] the groups that the
    method itself has made, `maps` None if it has none here (`note` may say why), and `consensus` a map of all particles together. `files` were read."""

    name: str
    kind: str
    latents: np.ndarray
    images: ListedImages | None
    files: tuple[Path, ...]
    maps: Maps | None = None
    labels: np.ndarray | None = None
    consensus: Path | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.latents.ndim != 2 or 0 in self.latents.shape:
            raise DataProblem(f"latents of shape {self.latents.shape} in {self.name}", "a row for each particle")
        if not np.isfinite(self.latents).all():
            row = int(np.argmin(np.isfinite(self.latents).all(axis=1)))
            raise DataProblem(f"the latent of particle {row + 1} in {self.name} is no number", "finite values")
        if self.images is not None and len(self.images) != len(self.latents):
            raise DataProblem(
                f"{len(self.latents)} latents and {len(self.images)} particles of {self.name}", "one for each"
            )

    def with_particles(self, path: Path) -> Method:
        """The same, with the images that a particle file names."""
        return replace(self, images=ListedImages.of(path), files=(*self.files, path))


def method_of_folder(folder: Path, width: float) -> Method:
    """The method whose files lie in a folder; its images are `width` angstrom wide. FileProblem if there are none of a kind that is known."""
    if not folder.is_dir():
        raise FileProblem(f"{folder} is no folder", "the folder of a trained landscape, of cryoDRGN or of RELION")
    if (folder / FINISHED).is_file() and (folder / DECODER).is_file():
        return landscape_method(folder)
    names = [path.name for path in folder.iterdir()]
    data = [found for name in names if (found := RELION_DATA.fullmatch(name))]
    if data:
        last = max(data, key=lambda found: (int(found[2]), found[1] or ""))
        return relion_method(folder, folder / last[0])
    pickles = [found for name in names if (found := CRYODRGN_LATENTS.fullmatch(name))]
    if pickles:
        # z.pkl is what a run leaves at its end
        last = max(pickles, key=lambda found: int(found[2]) if found[2] else np.inf)
        return cryodrgn_method(folder, folder / last[0], width)
    raise FileProblem(
        f"{folder} holds no landscape",
        "decoder.npz of `vitreous landscape train`, z.*.pkl of cryoDRGN, or run_it*_data.star of RELION",
        "give the latents alone with --latents",
    )


@dataclass(frozen=True)
class DecodedMaps:
    """Maps that a decoder makes of latents [n, d]."""

    decoder: Decoder
    latents: np.ndarray

    @property
    def grid(self) -> MapGrid:
        return MapGrid(self.decoder.box, self.decoder.pixel_size)

    def of_image(self, number: int, row: int) -> Volume:
        return decoded_volume(self.decoder, self.latents[row])

    of_conformation = of_image


def landscape_method(folder: Path) -> Method:
    """A landscape of this program."""
    landscape = read_landscape(folder)
    mean = landscape.latents.mean
    consensus = folder / CONSENSUS
    return Method(
        folder.name,
        "landscape",
        mean.astype(np.float64),
        ListedImages(landscape.particles.names, folder),
        tuple(landscape.files()),
        DecodedMaps(landscape.decoder, mean),
        consensus=consensus if consensus.is_file() else None,
    )


@dataclass(frozen=True)
class ClassMaps:
    """The maps of classes, and the class of each particle [n], from 0."""

    paths: tuple[Path, ...]
    member: np.ndarray

    @property
    def grid(self) -> MapGrid:
        return _grid_of(read_volume(self.paths[0]))

    def of_image(self, number: int, row: int) -> Volume:
        return read_volume(self.paths[self.member[row]])

    of_conformation = of_image


def cryodrgn_method(folder: Path, latents: Path, width: float) -> Method:
    """A run of cryoDRGN: with the maps of its network where that can be read, else with the latents alone. A run does not note its pixel size: it is that of
    images `width` angstrom wide."""
    alone = Method(folder.name, CRYODRGN, latents_of_pickle(latents), None, (latents,))
    if not (folder / CONFIG).is_file():
        return alone
    try:
        run = read_run(folder, pixel_size=1.0)
        if run.latents is None:
            raise DataProblem("a run without latents", "one of train_vae")
    except InputError as error:
        return replace(alone, note=f"The network of {folder.name} cannot be read ({error.got}).")
    decoder = replace(run.decoder, pixel_size=width / run.decoder.box)
    mean = run.latents.mean
    return Method(folder.name, CRYODRGN, mean.astype(np.float64), None, run.files, DecodedMaps(decoder, mean))


def relion_method(folder: Path, data: Path) -> Method:
    """A 3D classification of RELION at the iteration whose data file is `data`."""
    particles = read_particles(data, load_images=False)
    if CLASS not in particles.table:
        raise DataProblem(f"{data} has no column {CLASS}", "the particles of a 3D classification")
    number = np.asarray(particles.table[CLASS]).astype(np.int64)
    stem = data.name.removesuffix("_data.star")
    found = {
        int(match[1]): path
        for path in folder.iterdir()
        if (match := re.fullmatch(re.escape(stem) + r"_class(\d+)\.mrc", path.name))
    }
    missing = sorted(set(np.unique(number).tolist()) - set(found))
    if missing:
        raise FileProblem(
            f"{folder / f'{stem}_class{missing[0]:03d}.mrc'} does not exist", "a map for each class of the particles"
        )
    classes = sorted(found)
    member = np.searchsorted(classes, number)
    paths = tuple(found[one] for one in classes)
    latents = (member[:, None] == np.arange(len(classes))).astype(np.float64)
    return Method(
        folder.name,
        "RELION",
        latents,
        ListedImages(particles.names, folder),
        (data, *paths),
        ClassMaps(paths, member),
        labels=member,
    )


def method_of_latents(path: Path) -> Method:
    """Latents alone, from a file: an array .npy, numbers .txt (a line for each particle), a pickle .pkl, or columns of a particle file."""
    path, images = require_file(path), None
    if path.suffix in (".star", ".cs", ".csg"):
        particles = read_particles(path, load_images=False)
        columns = [name for name in particles.table.columns if LATENT_COLUMN.fullmatch(name)]
        if not columns:
            raise DataProblem(f"{path} has no column of latents", "columns whose names hold the word latent")
        images, latents = (
            ListedImages(particles.names, path.parent),
            np.column_stack([np.asarray(particles.table[name]) for name in columns]),
        )
    elif path.suffix == ".pkl":
        latents = latents_of_pickle(path)
    else:
        latents = _numbers(path)
    return Method(path.stem, "latents", _two_axes(latents, path), images, (path,))


def latents_of_pickle(path: Path) -> np.ndarray:
    """The array that a pickle begins with: cryoDRGN writes the means of the latents, then the logarithms of their variances."""
    value = read_plain_pickle(path)
    if not isinstance(value, np.ndarray):
        raise DataProblem(f"{path} begins with a {type(value).__name__}", "an array of latents")
    return _two_axes(value, path)


def _numbers(path: Path) -> np.ndarray:
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix == ".txt":
            return np.loadtxt(path, ndmin=2)
    except (ValueError, EOFError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise FormatProblem(f"{path} cannot be read ({reason})", "rows of numbers") from None
    raise SettingsProblem(f"--latents {path}", "a file .npy, .txt, .pkl, .star or .cs")


def _two_axes(values: Any, path: Path) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim not in (1, 2) or values.dtype.kind not in "fiub":
        raise DataProblem(f"{path} holds an array of {values.dtype} {list(values.shape)}", "numbers, a row a particle")
    return (values[:, None] if values.ndim == 1 else values).astype(np.float64)


@dataclass(frozen=True)
class GivenMaps:
    """Maps in files: `images` in the order of the chosen images (none if only those of the conformations are given), `conformations` in theirs."""

    images: tuple[Path, ...]
    conformations: tuple[Path, ...]
    pixel_size: float | None = None  # in place of that of the headers

    @property
    def grid(self) -> MapGrid:
        return _grid_of(self.of_conformation(0, 0))

    def of_image(self, number: int, row: int) -> Volume:
        return read_volume(self.images[number], self.pixel_size)

    def of_conformation(self, number: int, row: int) -> Volume:
        return read_volume(self.conformations[number], self.pixel_size)


def given_maps(folder: Path, images: int, conformations: int, pixel_size: float | None = None) -> GivenMaps:
    """The maps of a folder, in the order of the numbers in their names: first those of the chosen images, then one for each conformation; or the latter alone."""
    if not folder.is_dir():
        raise FileProblem(f"{folder} is no folder", "a folder of maps (.mrc)")
    paths = sorted((p for p in folder.iterdir() if p.suffix in (".mrc", ".map")), key=_by_numbers)
    if len(paths) == images + conformations:
        return GivenMaps(tuple(paths[:images]), tuple(paths[images:]), pixel_size)
    if len(paths) == conformations:
        return GivenMaps((), tuple(paths), pixel_size)
    raise DataProblem(
        f"{folder} holds {len(paths)} maps",
        f"{images + conformations}, one for each line of the latents.txt that a run without --volumes writes, or {conformations}, one for each conformation",
        "make them with the same seed and --images-per-conformation",
    )


def _by_numbers(path: Path) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part)) if part.isdigit() else (0, part) for part in parts]


def _grid_of(volume: Volume) -> MapGrid:
    return MapGrid(volume.box, volume.pixel_size)
