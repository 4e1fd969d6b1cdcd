"""One micrograph of the job `extract`: its particles are cut out and written as a stack. What is finished is not done again."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.errors import DataProblem, InputError
from vitreous.fourier.filters import background_statistics
from vitreous.io.atomic import atomic_path
from vitreous.io.micrographs import MicrographFile
from vitreous.io.mrc_stack import StackWriter
from vitreous.jobs.apply_ctf_micrographs import checked
from vitreous.jobs.extract_plan import CutItem
from vitreous.jobs.folder import plain
from vitreous.picking.extraction import Recipe, brightness, cut_boxes, dust_pixels, finished_images

FOLDER = "particles"  # in the job folder: NAME.mrcs and NAME.json
LABEL = "vitreous extract"
CUT_BYTES = 4 * 2**20  # of boxes at a time: they and what is made of them stay in the cache
FILE = "file"  # in NAME.json, beside the record: which bytes and which pixels it was made of


@dataclass(frozen=True)
class CutRecord:
    """What came of one micrograph. `count` images were written; `flat` are the picks without, counted from 0, whose background is constant.
    `background` and `deviation` are means over the particles, in the units of the micrograph; `bright` is the mean `brightness` and
    `bright_error` its standard error (None of a single particle). `dust` pixels were replaced.
    """

    name: str
    count: int
    flat: tuple[int, ...]
    background: float
    deviation: float
    bright: float
    bright_error: float | None
    dust: int

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> CutRecord:
        return CutRecord(**{**content, "flat": tuple(content["flat"])})


@dataclass(frozen=True)
class CutFailure:
    """A micrograph that gave no image, and why, in one line."""

    name: str
    reason: str


@dataclass(frozen=True)
class CutTask:
    """Cuts the particles of one micrograph into the job's folder. It and its items can be sent to another process."""

    folder: Path
    recipe: Recipe
    mode: int
    seed: int

    def __call__(self, item: CutItem) -> CutRecord | CutFailure:
        """The record of a micrograph: made now, or found in the folder if its file is the same as then."""
        try:
            file = item.sheet.open()
            known = self._earlier(item, file)
            return known if known is not None else self._cut(item, file)
        except InputError as error:
            return CutFailure(item.sheet.micrograph, error.line())

    def _earlier(self, item: CutItem, file: MicrographFile) -> CutRecord | None:
        path = self.folder / FOLDER / f"{item.sheet.name}.json"
        if not path.is_file():
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        return CutRecord.from_json(content) if content.pop(FILE) == identity(item, file) else None

    def _cut(self, item: CutItem, file: MicrographFile) -> CutRecord:
        """Writes NAME.mrcs, then NAME.json, which says that it is finished."""
        image, recipe = checked(file), self.recipe
        tally, path = Tally(item.sheet.name), self.folder / FOLDER / f"{item.sheet.name}.mrcs"
        size = item.pixel_size * recipe.box / recipe.final_size
        step = max(1, CUT_BYTES // (4 * recipe.box**2))
        with StackWriter(path, size, mode=self.mode, label=LABEL) as writer:
            for start in range(0, len(item.pixel), step):
                boxes = cut_boxes(image, item.pixel[start : start + step], recipe.box)
                images = self._images(item, boxes, start, tally)
                if len(images):
                    writer.append(images)
            if not tally.count:
                raise DataProblem(f"every box cut from {file.path} is constant", "an image")
        record = tally.record()
        content = {FILE: identity(item, file), **asdict(record)}
        with atomic_path(self.folder / FOLDER / f"{item.sheet.name}.json") as path:
            path.write_text(json.dumps(plain(content), ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        return record

    def _images(self, item: CutItem, boxes: np.ndarray, start: int, tally: Tally) -> np.ndarray:
        """The finished images of the boxes whose background is not constant."""
        recipe = self.recipe
        mean, deviation = background_statistics(boxes, recipe.radius)
        alive = deviation > 0
        flat = start + np.flatnonzero(~alive)
        if not alive.any():
            tally.flat += flat.tolist()
            return boxes[:0]
        boxes = boxes[alive] if len(flat) else boxes
        dust = noise = None
        if recipe.dust is not None:
            dust = dust_pixels(boxes, recipe.radius, recipe.dust)
            noise = self._noise(item, dust, start + np.flatnonzero(alive))
        images = finished_images(boxes, recipe, dust=dust, noise=noise)
        tally.add(images, mean[alive], deviation[alive], flat, recipe, 0 if dust is None else int(dust.sum()))
        return images

    def _noise(self, item: CutItem, dust: np.ndarray, number: np.ndarray) -> np.ndarray:
        """Normal deviates where there is dust: those of a particle depend on the seed and on its place, not on how the work was cut."""
        noise = np.zeros(dust.shape, dtype=np.float32)
        for row in np.flatnonzero(dust.any(axis=(1, 2))):
            place = item.pixel[number[row]].clip(0).tolist()
            rng = np.random.default_rng([self.seed, zlib.crc32(item.sheet.name.encode()), *place])
            noise[row][dust[row]] = rng.standard_normal(int(dust[row].sum()))
        return noise


class Tally:
    """Adds up what `CutRecord` says, a chunk of images at a time."""

    def __init__(self, name: str):
        self.name, self.count, self.flat, self.dust = name, 0, list[int](), 0
        self.background = self.deviation = self.bright = self.bright_square = 0.0

    def add(
        self, images: np.ndarray, mean: np.ndarray, deviation: np.ndarray, flat: np.ndarray, recipe: Recipe, dust: int
    ) -> None:
        self.flat += flat.tolist()
        self.dust += dust
        self.count += len(images)
        bright = brightness(images, recipe.final_radius).astype(np.float64)
        self.background += float(mean.sum(dtype=np.float64))
        self.deviation += float(deviation.sum(dtype=np.float64))
        self.bright += float(bright.sum())
        self.bright_square += float((bright**2).sum())

    def record(self) -> CutRecord:
        count = self.count
        bright = self.bright / count
        variance = max(self.bright_square / count - bright**2, 0.0)
        error = math.sqrt(variance / (count - 1)) if count > 1 else None
        return CutRecord(
            self.name,
            count,
            tuple(self.flat),
            self.background / count,
            self.deviation / count,
            bright,
            error,
            self.dust,
        )


def identity(item: CutItem, file: MicrographFile) -> dict[str, Any]:
    """Where the micrograph lies, its size and its time of change, and which pixels are cut."""
    facts = file.path.stat()
    return {
        "path": str(file.path),
        "bytes": facts.st_size,
        "modified": facts.st_mtime_ns,
        "boxes": hashlib.sha256(item.pixel.tobytes()).hexdigest()[:16],
        "pixel_size": item.pixel_size,
    }
