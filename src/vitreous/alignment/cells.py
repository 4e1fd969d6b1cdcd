"""Cells: the few regions of (view, in-plane angle, shift) in which an image's posterior lives, looked at more finely than the rest.

A view is a reference of its own: a class average, or a map seen from one direction. The coarse pass compares all views, angles and shifts; the cells
that hold nearly all of the posterior are kept (`likely_cells`). Each cell is then divided: into the children of its view, into `steps.psi`, and into a
small lattice of shifts about the best one. Images are turned and moved to the middle of their cell first, so that all cells of a view are compared with the same
few references in one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vitreous.alignment.cell_tables import CellTables, Gathered
from vitreous.alignment.polar_images import WeightedImages, power_spectra, shift_factors
from vitreous.alignment.reference_tables import POWER_BAND, ReferenceTables
from vitreous.alignment.turning import image_rows
from vitreous.fourier.polar import PolarGrid, angular_spectrum, from_angular_spectrum

if TYPE_CHECKING:
    from jaxtyping import Complex, Float, Int

# Cells that are compared in one go: their rows are a few tens of megabytes.
CELLS_AT_A_TIME = 512
# A cell whose posterior is below this adds nothing to the averages that could be seen; nor does one below this part of an even posterior, where many
# cells together are an image that could be anywhere.
LEAST_WEIGHT, LEAST_OF_EVEN = 1e-3, 0.5
# Images whose whole coarse tables are held at a time.
IMAGES_AT_A_TIME = 32
# Turns that are whole points of a ring to this part of a point are moves along it.
WHOLE = 1e-6
# Images that were turned for the comparison are kept for the sums up to so many bytes for each worker; beyond, they are turned again.
BYTES_KEPT = 100_000_000
# What a pass keeps of each image's posterior, in at most so many cells.
SHARE, MOST_CELLS = 0.997, 48


class Views(Protocol):
    """References by number, on the rings of a grid, and what each is divided into."""

    def children(self, view: int) -> Int[np.ndarray, " v"]: ...

    def slices(
        self, views: Int[np.ndarray, " v"], psi: Float[np.ndarray, " p"], grid: PolarGrid
    ) -> Complex[np.ndarray, "p v r h"]:
        """Transforms of these views, children of one view, turned by each in-plane angle."""
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

    @cached_property
    def beside(self) -> Int[np.ndarray, " c"]:
        """How many cells the image of each cell has."""
        return np.bincount(self.image, minlength=1)[self.image]

    def rows(self, selection: np.ndarray) -> Cells:
        return Cells(self.image[selection], self.view[selection], self.psi[selection], self.origin[selection])


@dataclass(frozen=True)
class Steps:
    """How a cell is divided: in-plane angles [p] and shifts [s, 2] (pixels) about its middle. `shift_deviation` (pixels) of origins about `home`;
    `log_measure`: log of the prior volume of one division in (psi, shift), with the Gaussian prior of shifts at its top. `whole`: the steps
    cover everything; a shift is then one of the reference before it is turned.
    """

    psi: Float[np.ndarray, " p"]
    shift: Float[np.ndarray, "s 2"]
    shift_deviation: float
    log_measure: float
    whole: bool = False


@dataclass(frozen=True)
class Block:
    """Cells of one view after division: `table` [c, p, k, s], log of likelihood times prior, or later the posterior; `cells` [c] and `views` [k] number them.

    `turned`: data and power of their images, turned and moved (`CellMatching.rows`), where there was room to keep them.
    """

    cells: Int[np.ndarray, " c"]
    views: Int[np.ndarray, " k"]
    table: Float[np.ndarray, "c p k s"]
    turned: tuple[Complex[np.ndarray, "c r h"], Float[np.ndarray, "c r h"]] | None = None


class CellMatching:
    """Compares the cells of a set of images, and gathers the images of those that count."""

    def __init__(self, images: WeightedImages, views: Views, steps: Steps, home: Float[np.ndarray, "n 2"]):
        self.images, self.views, self.steps, self.home = images, views, steps, home
        self._last: tuple[np.ndarray, CellTables] | None = None

    def blocks(self, cells: Cells) -> Iterator[Block]:
        """The table of each block of cells with one view."""
        kept = 0
        for selection in by_view(cells):
            part = cells.rows(selection)
            children = self.views.children(int(part.view[0]))
            rows = self.rows(part)
            table = self.tables(children).log_likelihood(*rows)
            table += self.views.log_prior(children).astype(np.float32)[:, None]
            table += self.shift_prior(part)[:, None, None, :]
            kept += sum(values.nbytes for values in rows)
            yield Block(selection, children, table, rows if kept <= BYTES_KEPT else None)

    def gathered(self, block: Block, cells: Cells) -> tuple[Gathered, Int[np.ndarray, " c"]] | None:
        """The images of the cells that hold any posterior, added up for each reference; and which images these are. None if no cell does."""
        even = 1 / (block.table[0].size * cells.beside[block.cells])
        seen = block.table.max(axis=(1, 2, 3)) > np.minimum(LEAST_WEIGHT, LEAST_OF_EVEN * even)
        if not seen.any():
            return None
        part, kept = cells.rows(block.cells[seen]), block.turned
        if kept is None or kept[1].shape[1:] != self.images.grid.shape:  # not kept, or of fewer rings
            data, power = self.rows(part)
        else:
            data, power = (values[seen] for values in kept)
        return self.tables(block.views).gathered(data, power, block.table[seen]), part.image

    def tables(self, children: Int[np.ndarray, " k"]) -> CellTables:
        """The references of cells with these children; kept until others are asked for, because blocks of one view follow one another."""
        if self._last is None or not np.array_equal(self._last[0], children):
            slices = self.views.slices(children, self.steps.psi, self.images.grid)
            self._last = children, CellTables(slices, self.images.grid, self.factors)
        return self._last[1]

    @cached_property
    def factors(self) -> Complex[np.ndarray, "s r h"]:
        return shift_factors(self.images.grid, self.steps.shift)

    def rows(self, cells: Cells) -> tuple[Complex[np.ndarray, "c r h"], Float[np.ndarray, "c r h"]]:
        """Data and power of the cells' images, turned and moved to the middles of the cells."""
        images, grid = self.images, self.images.grid
        # Shifts of a lattice in the frame of the cells are few, however many cells there are.
        away = from_image(images.origin[cells.image] - cells.origin, cells.psi)
        shifts, number = np.unique(np.round(away, 6), axis=0, return_inverse=True)
        factors, number = shift_factors(grid, shifts), number.ravel()
        points = cells.psi * (grid.angles / (2 * np.pi))
        if np.abs(points - np.round(points)).max(initial=0) < WHOLE:
            return self.circles.turned(cells.image, -np.round(points).astype(int), factors, number)
        from vitreous.alignment.turning_kernel import turned_and_moved

        data = turned(images.data[cells.image], -cells.psi, grid.band)
        each = np.arange(len(cells))
        turned_and_moved(pairs(data), each, np.zeros_like(each), pairs(factors), number, pairs(data))
        return data, turned_power(images.power[cells.image], -cells.psi)

    @cached_property
    def circles(self) -> Circles:
        return Circles(self.images.data, self.images.power)

    def shift_prior(self, cells: Cells) -> Float[np.ndarray, "c s"]:
        """log of the Gaussian prior of origins about `home`, and the measure of a division."""
        steps = self.steps
        away = cells.origin - self.home[cells.image]
        back = from_image(away, cells.psi)
        square = (away**2).sum(axis=1)[:, None] + (steps.shift**2).sum(axis=1) + 2 * (back @ steps.shift.T)
        return (steps.log_measure - square / (2 * steps.shift_deviation**2)).astype(np.float32)


class Circles:
    """`data` [n, r, h] and `power` [n, r, h] of images on rings, made ready to be turned by whole points: moved along the rings."""

    def __init__(self, data: Complex[np.ndarray, "n r h"], power: Float[np.ndarray, "n r h"]):
        opposite = np.conj(data)
        self._data = np.concatenate([data, opposite, data], axis=-1)
        self._power = np.concatenate([power, power], axis=-1)

    def turned(
        self,
        image: Int[np.ndarray, " c"],
        points: Int[np.ndarray, " c"],
        factors: Complex[np.ndarray, "f r h"],
        number: Int[np.ndarray, " c"],
    ) -> tuple[Complex[np.ndarray, "c r h"], Float[np.ndarray, "c r h"]]:
        """X(theta + 2 pi points / M) times `factors[number]`, and the power, of the images with these numbers, M the points of a whole circle."""
        from vitreous.alignment.turning_kernel import turned_and_moved, turned_powers

        half = factors.shape[-1]
        data = np.empty((len(image), *factors.shape[1:]), dtype=self._data.dtype)
        power = np.empty(data.shape, dtype=self._power.dtype)
        turned_and_moved(pairs(self._data), image, points % (2 * half), pairs(factors), number, pairs(data))
        turned_powers(self._power, image, points % half, power)
        return data, power


def pairs(values: Complex[np.ndarray, "... h"]) -> Float[np.ndarray, "... h2"]:
    """The same memory as (real, imaginary) pairs."""
    return values.view(np.float32)


def turned(
    values: Complex[np.ndarray, "n r h"], psi: Float[np.ndarray, " n"], band: int
) -> Complex[np.ndarray, "n r h"]:
    """Images turned by psi [n]: X(theta + psi), of the first `band` angular coefficients."""
    spectra = angular_spectrum(values, band)
    spectra *= np.exp(1j * np.outer(psi, np.arange(band))).astype(np.complex64)[:, None]
    return from_angular_spectrum(spectra, 2 * values.shape[-1])


def turned_power(values: Float[np.ndarray, "n r h"], psi: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n r h"]:
    """Functions that repeat after half a turn, turned by psi [n]; an astigmatic CTF has few angular coefficients (`POWER_BAND`)."""
    import scipy.fft

    points = values.shape[-1]
    spectra = power_spectra(values, min(POWER_BAND, points // 2))
    spectra *= np.exp(2j * np.outer(psi, np.arange(spectra.shape[-1]))).astype(np.complex64)[:, None]
    return np.asarray(scipy.fft.irfft(spectra, n=points, axis=-1, workers=1))


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
        np.maximum.at(top, cells.image[block.cells], block.table.max(axis=(1, 2, 3)))
    total = np.zeros(images)
    for block in blocks:
        image = cells.image[block.cells]
        block.table[...] -= top[image].astype(np.float32)[:, None, None, None]
        np.exp(block.table, out=block.table)
        np.add.at(total, image, block.table.sum(axis=(1, 2, 3), dtype=np.float64))
    safe = np.where(total > 0, total, 1)
    for block in blocks:
        block.table[...] /= safe[cells.image[block.cells]].astype(np.float32)[:, None, None, None]
    return blocks, np.where(total > 0, top + np.log(safe), -np.inf)


def likely_cells(
    mass: Float[np.ndarray, "n j"], *, share: float, most: int
) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " c"]]:
    """(image, column) of the columns that hold `share` of each image's posterior `mass`, at most `most` of them."""
    columns = mass.shape[1]
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
    found = []
    for start in range(0, len(images), IMAGES_AT_A_TIME):
        part = images.rows(slice(start, start + IMAGES_AT_A_TIME))
        count = len(part)
        table = np.moveaxis(whole_table(part, tables), 1, 0)
        table += views.log_prior(numbers).astype(np.float32)[:, None]
        table += whole_prior(part, steps, home[start : start + IMAGES_AT_A_TIME])[:, :, None]
        best = table.argmax(axis=3)
        table -= table.max(axis=(1, 2, 3), keepdims=True)
        mass = np.exp(table, out=table).sum(axis=3)
        image, column = likely_cells(mass.reshape(count, -1), share=SHARE, most=MOST_CELLS)
        angle, place = np.divmod(column, table.shape[2])
        psi = steps.psi[angle]
        origin = part.origin[image] + in_image(steps.shift[best[image, angle, place]], psi)
        found.append(Cells(image + start, numbers[place], psi, origin))
    return joined_cells(found)


def whole_table(images: WeightedImages, tables: ReferenceTables) -> Float[np.ndarray, "p n k s"]:
    """The log-likelihood of all angles, references and shifts of the tables."""
    data = image_rows(images.spectra(tables.band))
    return tables.log_likelihood(data, image_rows(images.power_spectra(tables.power_band)))


def whole_prior(images: WeightedImages, steps: Steps, home: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n p s"]:
    """log of the prior of shifts t of references that are turned by psi afterwards, the Gaussian about `home`."""
    away = images.origin - home
    back = from_image(away, steps.psi[:, None])
    square = (away**2).sum(axis=1)[:, None] + (steps.shift**2).sum(axis=1) + 2 * (back @ steps.shift.T)
    return (steps.log_measure - square / (2 * steps.shift_deviation**2)).astype(np.float32).swapaxes(0, 1)


def joined_cells(parts: list[Cells]) -> Cells:
    """Cells one after another."""
    return Cells(*(np.concatenate([getattr(part, name) for part in parts]) for name in Cells.__dataclass_fields__))


def divided_cells(blocks: list[Block], cells: Cells, matching: CellMatching, *, share: float, most: int) -> Cells:
    """The next cells: the divisions (angle, child view) that hold `share` of the posterior of each image, each about its best shift."""
    steps, images = matching.steps, len(matching.images)
    image, view, psi, origin, mass = [], [], [], [], []
    for block in blocks:
        twist = matching.views.twist(block.views)
        of_cell = block.table.sum(axis=3)
        c, p, k = np.nonzero(of_cell > (1 - share) / most)
        best = block.table[c, p, k].argmax(axis=1)
        number = block.cells[c]
        angle = cells.psi[number] + steps.psi[p]
        image.append(cells.image[number])
        view.append(block.views[k])
        psi.append(angle + twist[k])
        origin.append(cells.origin[number] + in_image(steps.shift[best], cells.psi[number]))
        mass.append(of_cell[c, p, k])
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


def from_image(shift: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """Rz(psi)^T t: the inverse of `in_image`."""
    return in_image(shift, -psi)


def in_image(shift: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """Rz(psi) t: the shift in the image of a reference that was moved by t before it was turned by psi."""
    cosine, sine = np.cos(psi), np.sin(psi)
    return np.stack([cosine * shift[..., 0] + sine * shift[..., 1], cosine * shift[..., 1] - sine * shift[..., 0]], -1)
