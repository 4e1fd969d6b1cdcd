"""Where a training takes its particles from: all of them in memory, or a few at a time from the disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np

from vitreous.engine.chunks import chunk_size, chunks
from vitreous.engine.local import Progress, silent
from vitreous.heterogeneity.particle_slices import ParticleSlices, SliceReader
from vitreous.reconstruction.projection import FourierVolume, SliceGrid, values_at

BYTES_A_PIXEL = 12  # of a particle: a complex value and its transfer
READ_TOGETHER = 256  # particles that are read from the disk in one go: the cost of a call is spread over them
AHEAD = 2  # such reads that wait for the training


class SliceSource(Protocol):
    """Particles as slices, in whichever order they are asked for."""

    @property
    def grid(self) -> SliceGrid: ...

    def __len__(self) -> int: ...

    def stream(self, batches: Sequence[np.ndarray]) -> Iterator[ParticleSlices]:
        """The slices of the rows of each batch, batch by batch."""
        ...


@dataclass(frozen=True)
class LoadedSlices:
    """All particles, read once."""

    slices: ParticleSlices
    grid: SliceGrid

    def __len__(self) -> int:
        return len(self.slices)

    def stream(self, batches: Sequence[np.ndarray]) -> Iterator[ParticleSlices]:
        for rows in batches:
            yield self.slices.rows(rows)


@dataclass(frozen=True)
class SlicesOnDisk:
    """Particles that are read when they are needed, by a thread that works ahead while others are trained on."""

    reader: SliceReader

    @property
    def grid(self) -> SliceGrid:
        return self.reader.grid

    def __len__(self) -> int:
        return len(self.reader)

    def stream(self, batches: Sequence[np.ndarray]) -> Iterator[ParticleSlices]:
        together = max(1, READ_TOGETHER // max(1, len(batches[0]))) if len(batches) else 1
        groups = [batches[start : start + together] for start in range(0, len(batches), together)]
        with ThreadPoolExecutor(1) as pool:
            waiting = [pool.submit(self.read, group) for group in groups[:AHEAD]]
            for number, group in enumerate(groups):
                slices = waiting.pop(0).result()
                if number + AHEAD < len(groups):
                    waiting.append(pool.submit(self.read, groups[number + AHEAD]))
                edges = np.cumsum([0, *(len(rows) for rows in group)])
                yield from (slices.rows(slice(start, stop)) for start, stop in pairwise(edges))

    def read(self, group: Sequence[np.ndarray]) -> ParticleSlices:
        """The rows of several batches, in the order of the disk."""
        rows = np.concatenate(list(group))
        order = np.argsort(rows, kind="stable")
        return self.reader.read(rows[order]).rows(np.argsort(order, kind="stable"))


@dataclass(frozen=True)
class WithoutConsensus:
    """The particles of another source less the slices of a map."""

    source: SliceSource
    consensus: FourierVolume

    @property
    def grid(self) -> SliceGrid:
        return self.source.grid

    def __len__(self) -> int:
        return len(self.source)

    def stream(self, batches: Sequence[np.ndarray]) -> Iterator[ParticleSlices]:
        for slices in self.source.stream(batches):
            yield residuals(slices, self.grid, self.consensus)


def without_consensus(source: SliceSource, consensus: FourierVolume) -> SliceSource:
    """Particles less the slices of a map: once for all of them if they are in memory, whenever they are read if not."""
    if not isinstance(source, LoadedSlices):
        return WithoutConsensus(source, consensus)
    groups = chunks(np.arange(len(source)), READ_TOGETHER)
    values = np.concatenate([residuals(source.slices.rows(rows), source.grid, consensus).values for rows in groups])
    return replace(source, slices=replace(source.slices, values=values))


def residuals(slices: ParticleSlices, grid: SliceGrid, consensus: FourierVolume) -> ParticleSlices:
    """`y - C F_0`."""
    expected = slices.transfer * values_at(consensus, slices.points(grid))
    return replace(slices, values=(slices.values - expected).astype(np.complex64))


def loaded(reader: SliceReader, progress: Progress = silent) -> LoadedSlices:
    """All particles of a reader."""
    count, pixels = len(reader), len(reader.grid)
    values, transfer = np.empty((count, pixels), np.complex64), np.empty((count, pixels), np.float32)
    basis = np.empty((count, 2, 3), np.float32)
    for rows in chunks(np.arange(count), chunk_size(reader.grid.box)):
        part = reader.read(rows)
        values[rows], transfer[rows], basis[rows] = part.values, part.transfer, part.basis
        progress(int(rows[-1]) + 1, count)
    return LoadedSlices(ParticleSlices(values, transfer, basis), reader.grid)


def bytes_loaded(count: int, grid: SliceGrid) -> int:
    """What `loaded` would take in memory."""
    return count * len(grid) * BYTES_A_PIXEL
