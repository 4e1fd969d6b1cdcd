"""What the tests of `extract` share: three micrographs of known particles, and picks of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from vitreous.io.micrograph_star import ctf_columns
from vitreous.io.micrograph_table import micrograph_table, write_micrograph_table
from vitreous.io.mrc_stack import StackWriter
from vitreous.io.star import StarFile, write_star
from vitreous.jobs.extract import Extract
from vitreous.jobs.folder import run_job
from vitreous.jobs.job import Outcome
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.table import Table


@dataclass(frozen=True)
class Scene:
    """A folder with three micrographs, micrographs.star, and picks.star whose rows are in no order of micrographs."""

    folder: Path
    micrograph: np.ndarray  # of each pick
    centre: np.ndarray  # (x, y) in pixels, with fractions

    box: ClassVar[int] = 32
    shape: ClassVar[tuple[int, int]] = (240, 200)
    names: ClassVar[tuple[str, ...]] = ("raw/a.mrc", "raw/b.mrc", "other/a.mrc")
    stacks: ClassVar[tuple[str, ...]] = ("a", "b", "a_2")
    pixel_size: ClassVar[tuple[float, ...]] = (1.5, 1.5, 2.0)
    groups: ClassVar[tuple[OpticsGroup, ...]] = (
        OpticsGroup("first", pixel_size=1.5, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1),
        OpticsGroup("second", pixel_size=2.0, voltage=200e3, spherical_aberration=1.4e7, amplitude_contrast=0.07),
    )
    defocus: ClassVar[np.ndarray] = np.array(
        [(12500.0, 11500.0, 20.0), (15000.0, 14800.0, 0.0), (10000.0, 9000.0, -40.0)]
    )

    @property
    def micrographs(self) -> Path:
        return self.folder / "micrographs.star"

    @property
    def picks(self) -> Path:
        return self.folder / "picks.star"

    def table(self, **more) -> Table:
        """The picks, with more columns or others."""
        names = np.array(self.names, dtype=object)[self.micrograph]
        columns = {
            "rlnMicrographName": names,
            "rlnCoordinateX": self.centre[:, 0],
            "rlnCoordinateY": self.centre[:, 1],
            "rlnAutopickFigureOfMerit": np.arange(len(names)) / 8,
            "rlnClassNumber": np.arange(len(names)) % 3,
            "somebodysNote": np.array([f"pick {i}" for i in range(len(names))], dtype=object),
        }
        return Table({**columns, **more})

    def extract(self, out: Path, **options) -> Outcome:
        """The job on all picks, with these options."""
        settings = {"box": self.box, "micrographs": self.micrographs, **options}
        return run_job(Extract((self.picks,), **settings), out)

    def write_micrographs(self, path: Path, **more) -> Path:
        """micrographs.star with more columns."""
        u, v, angle = self.defocus.T
        ctf = CtfParameters.of(u, v, np.radians(angle), phase_shift=np.radians([0.0, 90.0, 0.0]))
        table = micrograph_table(self.names, self.groups, np.array([0, 0, 1]))
        columns = {**ctf_columns(ctf), "rlnCtfMaxResolution": np.array([3.1, 3.2, 3.3]), **more}
        write_micrograph_table(path, table.with_columns(columns))
        return path

    @staticmethod
    def particle(shape: tuple[int, int], x: float, y: float) -> np.ndarray:
        """Lopsided, so that a mirrored or turned image is another one."""
        rows, columns = np.indices(shape)
        parts = ((1.0, 1.6, -0.6, 2.0), (0.7, -2.6, 1.6, 1.6), (0.5, 0.4, -4.0, 1.6))
        return sum(
            weight * np.exp(-((columns - x - dx) ** 2 + (rows - y - dy) ** 2) / (2 * sigma**2))
            for weight, dx, dy, sigma in parts
        )

    @staticmethod
    def write_picks(path: Path, table: Table, optics: Table | None = None) -> Path:
        star = StarFile({"particles": table} if optics is None else {"optics": optics, "particles": table})
        star.version = "30001"
        write_star(path, star)
        return path

    @staticmethod
    def write_image(path: Path, image: np.ndarray, pixel_size: float) -> None:
        path.parent.mkdir(exist_ok=True)
        with StackWriter(path, pixel_size, label="detector") as writer:
            writer.append(image)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Scene:
    """Particles 20 high, dark as a detector sees them, in noise of deviation 1. Not to be modified."""
    folder, rng = tmp_path_factory.mktemp("scene"), np.random.default_rng(3)
    grid = np.stack(np.meshgrid(np.arange(30, 180, 40), np.arange(30, 220, 40)), axis=-1).reshape(-1, 2)
    micrograph, centre = [], []
    for number, name in enumerate(Scene.names):
        places = grid[: 12 + number] + rng.uniform(-3, 3, (12 + number, 2))
        image = 300 + rng.standard_normal(Scene.shape)
        for x, y in places:
            image -= 20 * Scene.particle(Scene.shape, x, y)
        Scene.write_image(folder / name, image.astype(np.float32), Scene.pixel_size[number])
        micrograph += [number] * len(places)
        centre += places.tolist()
    order = rng.permutation(len(micrograph))
    made = Scene(folder, np.array(micrograph)[order], np.array(centre)[order])
    made.write_micrographs(made.micrographs)
    made.write_picks(made.picks, made.table())
    return made


@pytest.fixture(scope="module")
def extracted(scene, tmp_path_factory) -> Path:
    """The scene extracted with nothing but a box. Not to be modified."""
    out = tmp_path_factory.mktemp("extracted") / "job"
    scene.extract(out)
    return out
