"""Where a training takes its particles from: all of them read and prepared once, in memory or in files that the system maps into it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np

from vitreous.engine.chunks import chunk_size, chunks
from vitreous.engine.local import Progress, silent
from vitreous.heterogeneity.particle_slices import ParticleSlices, SliceReader
from vitreous.reconstruction.projection import FourierVolume, SliceGrid, values_at

BYTES_A_PIXEL = 12  # of a particle: a complex value and its transfer
AHEAD = 4  # batches that are fetched from the disk before they are asked for


@dataclass(frozen=True)
class SliceSource:
    """Particles as slices, in whichever order they are asked for. `on_disk`: the arrays of `slices` are mapped from files."""

    slices: ParticleSlices
    grid: SliceGrid
    on_disk: bool = False

    def __len__(self) -> int:
        return len(self.slices)

    def stream(self, batches: Sequence[np.ndarray]) -> Iterator[ParticleSlices]:
        """The slices of the rows of each batch, batch by batch. From the disk a thread fetches the next ones while others are worked on."""
        if not self.on_disk:
            yield from map(self.slices.rows, batches)
            return
        with ThreadPoolExecutor(1) as pool:
            coming = deque(pool.submit(self.slices.rows, rows) for rows in batches[:AHEAD])
            for number in range(len(batches)):
                slices = coming.popleft().result()
                if number + AHEAD < len(batches):
                    coming.append(pool.submit(self.slices.rows, batches[number + AHEAD]))
                yield slices


def prepared(
    reader: SliceReader,
    consensus: FourierVolume | None = None,
    folder: Path | None = None,
    progress: Progress = silent,
) -> SliceSource:
    """All particles of a reader, less their slices of `consensus`, `y - C F_0`, if it is given.

    With `folder` they lie in temporary files there, which are gone when the process ends, and memory holds what it has room for. The particles are
    the same to the bit. OSError if the disk cannot hold them.
    """
    count, pixels = len(reader), len(reader.grid)
    kinds = (((pixels,), np.complex64), ((pixels,), np.float32), ((2, 3), np.float32))
    columns = [Column(count, shape, kind, folder) for shape, kind in kinds]
    for rows in chunks(np.arange(count), chunk_size(reader.grid.box)):
        part = reader.read(rows)
        values = part.values
        if consensus is not None:
            values = values - part.transfer * values_at(consensus, part.points(reader.grid))
        for column, some in zip(columns, (values, part.transfer, part.basis), strict=True):
            column.append(some)
        progress(int(rows[-1]) + 1, count)
    return SliceSource(ParticleSlices(*(column.array() for column in columns)), reader.grid, folder is not None)


class Column:
    """An array [n, ...] that is filled from the top, in memory or in a temporary file of `folder`."""

    def __init__(self, count: int, shape: tuple[int, ...], kind: type, folder: Path | None) -> None:
        self.shape, self.kind, self.folder, self.filled = (count, *shape), kind, folder, 0
        self.file: IO[bytes] | None = None
        self.values = np.empty(self.shape if folder is None else (0,), kind)
        if folder is not None:
            self.file = TemporaryFile(dir=folder)  # noqa: SIM115 - the map needs it as long as the array lives

    def append(self, some: np.ndarray) -> None:
        """The next rows."""
        if self.file is None:
            self.values[self.filled : self.filled + len(some)] = some
        else:
            self.file.write(
                some.astype(self.kind, copy=False).tobytes()
            )  # not through the map: a full disk is an error here
            self.file.flush()
        self.filled += len(some)

    def array(self) -> np.ndarray:
        """The array, once it is full."""
        if self.file is None or 0 in self.shape:
            return self.values.reshape(self.shape)
        return np.asarray(np.memmap(self.file, self.kind, "r", shape=self.shape))


def bytes_prepared(count: int, grid: SliceGrid) -> int:
    """What `prepared` takes."""
    return count * len(grid) * BYTES_A_PIXEL
