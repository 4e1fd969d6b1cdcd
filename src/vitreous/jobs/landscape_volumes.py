"""Maps at chosen places of a landscape: MRC files, a picture of each at one contour, movies of those along a line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vitreous.engine.local import Progress
from vitreous.errors import SettingsProblem
from vitreous.heterogeneity.decoder import SMALLEST_BOX, Decoder, decoded_volume
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import write_volume
from vitreous.io.star import write_star
from vitreous.jobs.animation import animated, section_frames, surface_frame
from vitreous.jobs.latent_table import numbered
from vitreous.jobs.surface import SurfaceView
from vitreous.model.table import Table
from vitreous.reconstruction.mask import automatic_mask, masked_for_display

VOLUMES, MOVIES, TABLE = "volumes", "movies", "volumes.star"
LARGEST = 4  # times the box of the landscape: finer voxels show no more
PICTURE = 256  # pixels a side


@dataclass(frozen=True)
class Place:
    """A latent [d] whose map is wanted: `group` and `number` name its file, `label` says what it is."""

    group: str
    number: int
    label: str
    latent: np.ndarray

    @property
    def file(self) -> str:
        return f"{VOLUMES}/{self.group}_{self.number:03d}.mrc"


@dataclass(frozen=True)
class Pictures:
    """A picture of each place, uint8 [y, x, 4], in the order of the places: surfaces at `level`, or central sections."""

    frames: list[np.ndarray]
    level: float | None


def refuse_box(box: int | None, decoder: Decoder) -> None:
    """Raise SettingsProblem for a box that makes no sensible map."""
    largest = LARGEST * decoder.box
    if box is not None and not SMALLEST_BOX <= box <= largest:
        raise SettingsProblem(
            f"--box {box}", f"{SMALLEST_BOX} to {largest} voxels, for a landscape of {decoder.box} pixels"
        )


def write_volumes(
    folder: Path, decoder: Decoder, places: list[Place], box: int | None, progress: Progress
) -> np.ndarray:
    """Write the map of each place, and volumes.star, a row each. Returns the largest value that any has in each voxel."""
    (folder / VOLUMES).mkdir()
    largest = None
    for done, place in enumerate(places, start=1):
        volume = decoded_volume(decoder, place.latent, box)
        write_volume(folder / place.file, volume, label="vitreous map decoded from a landscape")
        largest = volume.data if largest is None else np.maximum(largest, volume.data)
        progress(done, len(places))
    columns = {
        "rlnReferenceImage": np.array([place.file for place in places], dtype=object),
        "vitreousPlace": np.array([place.label for place in places], dtype=object),
        **numbered("vitreousLatent", np.stack([place.latent for place in places])),
    }
    write_star(folder / TABLE, {"volumes": Table(columns)})
    assert largest is not None
    return largest


def drawn(
    folder: Path,
    places: list[Place],
    typical: int,
    largest: np.ndarray,
    kind: Literal["surface", "sections"],
    progress: Progress,
) -> Pictures:
    """A picture of each map. Surfaces share one contour, that of the place `typical`, one scale, and a mask around all maps."""
    volume = read_volume(folder / places[typical].file)
    _, level = masked_for_display(volume.data, automatic_mask(volume.data, volume.pixel_size))
    around = automatic_mask(largest, volume.pixel_size).values
    envelope = largest * around
    if kind == "sections" or level is None or not envelope.min() < level < envelope.max():
        middle = volume.box // 2
        sections = [read_volume(folder / place.file).data[middle] for place in places]
        return Pictures(section_frames(sections, size=PICTURE), None)
    field = SurfaceView(envelope, level).field
    frames = []
    for done, place in enumerate(places, start=1):
        shown = read_volume(folder / place.file).data * around
        frames.append(surface_frame(shown, level, field, size=PICTURE))
        progress(done, len(places))
    return Pictures(frames, level)


def write_movie(folder: Path, name: str, frames: list[np.ndarray]) -> None:
    """Write movies/NAME.gif."""
    (folder / MOVIES).mkdir(exist_ok=True)
    (folder / MOVIES / f"{name}.gif").write_bytes(animated(frames, "GIF"))
