"""Cells: the few regions of (view, in-plane angle, shift) in which an image's posterior lives, looked at more finely than the rest.

A view is a reference of its own: a class average, or a map seen from one direction. The coarse pass compares all views, angles and shifts; the cells
that hold nearly all of the posterior are kept (`likely_cells`). Each cell is then divided: into the children of its view, into `steps.psi`, and into a
small lattice of shifts about the best one. Images are turned and moved to the middle of their cell first, so that all cells of a view are compared with the same
few references in one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vitreous.alignment.polar_images import WeightedImages, shift_factors
from vitreous.alignment.reference_tables import Alternatives, ReferenceTables
from vitreous.alignment.turning import image_rows
from vitreous.fourier.polar import PolarGrid, angular_spectrum

if TYPE_CHECKING:
    from jaxtyping import Complex, Float, Int

# Cells that are compared in one go: their rows are a few tens of megabytes.
CELLS_AT_A_TIME = 256
# A cell whose posterior is below this adds nothing to the averages that could be seen.
LEAST_WEIGHT = 1e-3
# Images whose whole coarse tables are held at a time.
IMAGES_AT_A_TIME = 32
# What a pass keeps of each image's posterior, in at most so many cells.
SHARE, MOST_CELLS = 0.997, 48


class Views(Protocol):
    """References by number, on the rings of a grid, and what each is divided into."""

    def children(self, view: int) -> Int[np.ndarray, " v"]: ...

    def slices(self, views: Int[np.ndarray, " v"], grid: PolarGrid) -> Complex[np.ndarray, "v r h"]:
        """Transforms of these views, children of one view."""
        ...

    def log_prior(self, views: Int[np.ndarray, " v"]) -> Float[np.ndarray, " v"]:
        """Log of the prior probability of each of these children."""
        ...

    def twist(self, views: Int[np.ndarray, " v"]) -> Float[np.ndarray, " v"]:
        """In-plane angle between the frame in which each child is read and the frame that its number stands for."""
        ...


@dataclass(frozen=True)
class Cells:
    """Cell c lies about in-plane angle `psi` [c] of `view` [c] of image `image` [c] with the origin at `origin` [c, 2] (pixels, in the image)."""

    image: Int[np.ndarray, " c"]
    view: Int[np.ndarray, " c"]
    psi: Float[np.ndarray, " c"]
    origin: Float[np.ndarray, "c 2"]

    def __len__(self) -> int:
        return len(self.image)

    def rows(self, selection: np.ndarray) -> Cells:
        return Cells(self.image[selection], self.view[selection], self.psi[selection], self.origin[selection])


@dataclass(frozen=True)
class Steps:
    """How a cell is divided: in-plane angles [p] and shifts [s, 2] (pixels) about its middle. `shift_deviation` (pixels) of origins about `home`;
    `log_measure`: log of the prior volume of one division in (psi, shift), with the Gaussian prior of shifts at its top.
    """

    psi: Float[np.ndarray, " p"]
    shift: Float[np.ndarray, "s 2"]
    shift_deviation: float
    log_measure: float


@dataclass(frozen=True)
class Block:
    """Cells of one view after division: `table` [p, c, k, s], log of likelihood times prior, or later the posterior; `cells` [c] and `views` [k] number them."""

    cells: Int[np.ndarray, " c"]
    views: Int[np.ndarray, " k"]
    table: Float[np.ndarray, "p c k s"]


class CellMatching:
    """Compares the cells of a set of images, and gathers the images of those that count."""

    def __init__(self, images: WeightedImages, views: Views, steps: Steps, home: Float[np.ndarray, "n 2"]):
        self.images, self.views, self.steps, self.home = images, views, steps, home
        self.alternatives = Alternatives(steps.psi, steps.shift)

    def blocks(self, cells: Cells) -> Iterator[Block]:
        """The table of each block of cells with one view."""
        for selection in by_view(cells):
            part = cells.rows(selection)
            children = self.views.children(int(part.view[0]))
            tables = self.tables(children)
            table = tables.log_likelihood(*self.rows(part, tables))
            table += self.views.log_prior(children).astype(np.float32)[None, None, :, None]
            table += self.shift_prior(part)[:, :, None, :]
            yield Block(selection, children, table)

    def tables(self, children: np.ndarray) -> ReferenceTables:
        return ReferenceTables(self.views.slices(children, self.images.grid), self.images.grid, self.alternatives)

    def rows(self, cells: Cells, tables: ReferenceTables) -> tuple[np.ndarray, np.ndarray]:
        """Images of the cells, turned and moved to their middles, as rows of the matrix products."""
        images = self.images
        data = images.data[cells.image] * shift_factors(images.grid, images.origin[cells.image] - cells.origin)
        spectra = angular_spectrum(data, tables.band)
        spectra *= np.exp(-1j * np.outer(cells.psi, np.arange(tables.band))).astype(np.complex64)[:, None]
        power = images.power_spectra(tables.power_band)[cells.image] if len(cells) > len(images) else None
        if power is None:
            power = images.rows(cells.image).power_spectra(tables.power_band)
        power = power * np.exp(-2j * np.outer(cells.psi, np.arange(tables.power_band))).astype(np.complex64)[:, None]
        return image_rows(spectra), image_rows(power)

    def shift_prior(self, cells: Cells) -> Float[np.ndarray, "p c s"]:
        """log of the Gaussian prior of origins about `home`, and the measure of a division."""
        steps = self.steps
        away = cells.origin - self.home[cells.image]
        turn = cells.psi + steps.psi[:, None]
        cosine, sine = np.cos(turn), np.sin(turn)
        back = np.stack([cosine * away[:, 0] - sine * away[:, 1], sine * away[:, 0] + cosine * away[:, 1]], axis=-1)
        square = (away**2).sum(axis=1)[:, None] + (steps.shift**2).sum(axis=1) + 2 * (back @ steps.shift.T)
        return (steps.log_measure - square / (2 * steps.shift_deviation**2)).astype(np.float32)


def by_view(cells: Cells) -> Iterator[np.ndarray]:
    """Numbers of the cells of each view, at most `CELLS_AT_A_TIME` together."""
    order = np.argsort(cells.view, kind="stable")
    edges = np.flatnonzero(np.diff(cells.view[order])) + 1
    for group in np.split(order, edges):
        for start in range(0, len(group), CELLS_AT_A_TIME):
            yield group[start : start + CELLS_AT_A_TIME]


def normalise(blocks: list[Block], cells: Cells, images: int) -> tuple[list[Block], np.ndarray]:
    """Posteriors over all divisions of all cells of each image, in place of the logs; and the log evidence [n], -inf for images without cells."""
    top = np.full(images, -np.inf)
    for block in blocks:
        np.maximum.at(top, cells.image[block.cells], block.table.max(axis=(0, 2, 3)))
    total = np.zeros(images)
    for block in blocks:
        image = cells.image[block.cells]
        block.table[...] -= top[image].astype(np.float32)[None, :, None, None]
        np.exp(block.table, out=block.table)
        np.add.at(total, image, block.table.sum(axis=(0, 2, 3), dtype=np.float64))
    safe = np.where(total > 0, total, 1)
    for block in blocks:
        block.table[...] /= safe[cells.image[block.cells]].astype(np.float32)[None, :, None, None]
    return blocks, np.where(total > 0, top + np.log(safe), -np.inf)


def likely_cells(
    mass: Float[np.ndarray, "n j"], *, share: float, most: int
) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " c"]]:
    """(image, column) of the columns that hold `share` of each image's posterior `mass`, at most `most` of them."""
    images, columns = mass.shape
    most = min(most, columns)
    top = np.argpartition(mass, columns - most, axis=1)[:, columns - most :]
    values = np.take_along_axis(mass, top, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    top, values = np.take_along_axis(top, order, axis=1), np.take_along_axis(values, order, axis=1)
    before = np.cumsum(values, axis=1) - values
    total = np.maximum(mass.sum(axis=1), 1e-30)
    kept = before < share * total[:, None]
    image, place = np.nonzero(kept)
    return image, top[image, place]


def coarse_cells(
    images: WeightedImages,
    views: Views,
    tables: ReferenceTables,
    steps: Steps,
    numbers: Int[np.ndarray, " v"],
    *,
    home: Float[np.ndarray, "n 2"],
) -> Cells:
    """The cells that hold nearly all of the posterior over all views, angles and shifts of `steps`, each about its best shift.

    `tables` hold the views `numbers`, all with the same prior but for that of their class.
    """
    prior = views.log_prior(numbers).astype(np.float32)[:, None]
    found = []
    for start in range(0, len(images), IMAGES_AT_A_TIME):
        part = images.rows(slice(start, start + IMAGES_AT_A_TIME))
        count = len(part)
        matching = CellMatching(part, views, steps, home[start : start + IMAGES_AT_A_TIME])
        cells = Cells(np.arange(count), np.zeros(count, dtype=int), np.zeros(count), part.origin)
        table = tables.log_likelihood(*matching.rows(cells, tables))
        table += prior
        table += matching.shift_prior(cells)[:, :, None, :]
        best = table.argmax(axis=3)
        table -= table.max(axis=(0, 2, 3), keepdims=True)
        mass = np.exp(table, out=table).sum(axis=3).transpose(1, 0, 2)
        image, column = likely_cells(mass.reshape(count, -1), share=SHARE, most=MOST_CELLS)
        angle, place = np.divmod(column, table.shape[2])
        psi = steps.psi[angle]
        origin = part.origin[image] + in_image(steps.shift[best[angle, image, place]], psi)
        found.append(Cells(image + start, numbers[place], psi, origin))
    return joined_cells(found)


def joined_cells(parts: list[Cells]) -> Cells:
    """Cells one after another."""
    return Cells(*(np.concatenate([getattr(part, name) for part in parts]) for name in Cells.__dataclass_fields__))


def divided_cells(
    blocks: list[Block], cells: Cells, matching: CellMatching, *, share: float, most: int
) -> Cells:
    """The next cells: the divisions (angle, child view) that hold `share` of the posterior of each image, each about its best shift."""
    steps, images = matching.steps, len(matching.images)
    image, view, psi, origin, mass = [], [], [], [], []
    for block in blocks:
        twist = matching.views.twist(block.views)
        of_cell = block.table.sum(axis=3)
        p, c, k = np.nonzero(of_cell > (1 - share) / most)
        best = block.table[p, c, k].argmax(axis=1)
        number = block.cells[c]
        angle = cells.psi[number] + steps.psi[p]
        image.append(cells.image[number])
        view.append(block.views[k])
        psi.append(angle + twist[k])
        origin.append(cells.origin[number] + in_image(steps.shift[best], angle))
        mass.append(of_cell[p, c, k])
    found = Cells(np.concatenate(image), np.concatenate(view), np.concatenate(psi), np.concatenate(origin))
    weight = np.concatenate(mass)
    order = np.lexsort((-weight, found.image))
    sorted_image = found.image[order]
    first = np.searchsorted(sorted_image, np.arange(images))
    rank = np.arange(len(order)) - first[sorted_image]
    running = np.cumsum(weight[order])
    before = running - weight[order] - np.concatenate([[0.0], running])[first][sorted_image]
    keep = order[(rank < most) & (before < share)]
    return found.rows(np.sort(keep))


def in_image(shift: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """Rz(psi) t: the shift in the image of a reference that was moved by t before it was turned by psi."""
    cosine, sine = np.cos(psi), np.sin(psi)
    return np.stack([cosine * shift[..., 0] + sine * shift[..., 1], cosine * shift[..., 1] - sine * shift[..., 0]], -1)
