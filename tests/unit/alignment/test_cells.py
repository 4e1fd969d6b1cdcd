"""Cells: everything kept is the exact answer, what is left out is little, and poses come out with their signs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from tests.unit.alignment.gaussian_particles import PIXEL_SIZE, blobs, in_plane, particles_of
from threadpoolctl import threadpool_limits

from vitreous.alignment.cells import (
    Block,
    CellMatching,
    Cells,
    Circles,
    Steps,
    coarse_cells,
    divided_cells,
    in_image,
    likely_cells,
    normalise,
    turned,
    turned_power,
    whole_prior,
    whole_table,
)
from vitreous.alignment.class_matching import ClassMatching, ClassSearch, ClassViews, disc_of_shifts
from vitreous.alignment.polar_images import ImageSettings, WeightedImages, read_polar_images, shift_factors
from vitreous.alignment.reference_tables import Alternatives, ReferenceTables
from vitreous.fourier.polar import PolarGrid, polar_grid, to_polar

BOX, CLASSES, COUNT, RADIUS = 32, 3, 24, 11.0
GRID = polar_grid(BOX, 12, extent=2 * (RADIUS + 3))
STRAIGHT = in_plane(np.zeros(1))
# Log-likelihoods of up to a few hundred in single precision, and coefficients beyond the band.
NEAR = 0.05


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    with threadpool_limits(1):
        yield


@dataclass(frozen=True)
class Problem:
    """Images of class averages with known class, in-plane angle and origin (pixels)."""

    matching: ClassMatching
    images: WeightedImages
    kind: np.ndarray
    psi: np.ndarray
    origin: np.ndarray

    @property
    def views(self) -> ClassViews:
        return self.matching.views


def problem(snr: float, *, reach: float = 4.0, file_origin: bool = False, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    objects = [blobs(rng, reach=6.5) for _ in range(CLASSES)]
    kind, psi = np.arange(COUNT) % CLASSES, rng.uniform(-np.pi, np.pi, COUNT)
    origin = rng.uniform(-0.6, 0.6, (COUNT, 2)) * reach
    known = np.round(rng.uniform(-1, 1, (COUNT, 2)) * 3) if file_origin else np.zeros((COUNT, 2))
    signal = np.concatenate(
        [objects[k].images(in_plane(psi[i : i + 1]), (origin + known)[i : i + 1], BOX) for i, k in enumerate(kind)]
    )
    particles, variance = particles_of(signal, snr=snr, rng=rng, origin=known)
    # Images are transformed without normalisation: white noise has the variance of a pixel times their number.
    noise = variance * BOX**2 * np.ones(GRID.shape[0])
    averages = np.concatenate([one.images(STRAIGHT, np.zeros((1, 2)), BOX) for one in objects])
    views = ClassViews(to_polar(averages, GRID).astype(np.complex64), np.array([0.5, 0.3, 0.2]))
    search = ClassSearch(60, reach, 1.0, 2.0, coarse_ring=9)
    zero = np.zeros(COUNT, dtype=int)
    settings = ImageSettings(RADIUS)
    matching = ClassMatching(
        particles, views, GRID, noise[None], zero, zero, settings, search, known, np.ones(COUNT)
    )  # fmt: skip
    images = read_polar_images(particles, GRID, settings, known, np.ones(COUNT)).weighted(noise, np.ones(COUNT))
    return Problem(matching, images, kind, psi, origin + known)


def turn(psi: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.abs((psi - truth + np.pi) % (2 * np.pi) - np.pi)


def all_cells(case: Problem, psi: np.ndarray) -> Cells:
    """One cell for each image, view and angle, about the origin of the file."""
    image, view, angle = (g.ravel() for g in np.meshgrid(np.arange(COUNT), np.arange(CLASSES), psi, indexing="ij"))
    return Cells(image, view, angle, case.images.origin[image])


def test_when_everything_is_kept_cells_are_the_whole_table():
    case = problem(0.1, file_origin=True)
    psi, shift = 2 * np.pi * (np.arange(20) + 0.5) / 20, disc_of_shifts(2.0, 1.0)
    home = case.images.origin + np.array([0.7, -0.4])
    whole = Steps(psi, shift, 1.5, -3.0, whole=True)
    tables = ReferenceTables(case.views.references, GRID, Alternatives(psi, shift))
    table = np.moveaxis(whole_table(case.images, tables), 1, 0) + whole_prior(case.images, whole, home)[:, :, None]
    table += case.views.log_prior(np.arange(CLASSES))[:, None]

    cells = all_cells(case, psi)
    matching = CellMatching(case.images, case.views, Steps(np.zeros(1), shift, 1.5, -3.0), home)
    found = np.empty((len(cells), len(shift)))
    for block in matching.blocks(cells):
        found[block.cells] = block.table[:, 0, 0]
    expected = table.transpose(0, 2, 1, 3).reshape(found.shape)
    assert np.abs(found - expected).max() < NEAR
    assert expected.std() > 100 * NEAR


def test_angles_of_cells_tile_the_turn():
    """Each coarse cell's two angles are those of the fine grid: all of them together are the exact answer."""
    case = problem(0.1)
    search = ClassSearch(60, 0.0, 1.0, 2.0, coarse_ring=9)
    fine, coarse = search.fine.psi, search.coarse.psi
    step = search.division().psi
    tiled = np.sort((coarse[:, None] + step).ravel() % (2 * np.pi))
    np.testing.assert_allclose(tiled, fine, atol=1e-12)
    steps = Steps(step, np.zeros((1, 2)), 2.0, search.log_measure)
    cells = all_cells(case, coarse)
    matching = CellMatching(case.images, case.views, steps, case.images.origin)
    _, evidence = normalise(list(matching.blocks(cells)), cells, COUNT)

    whole = Steps(fine, np.zeros((1, 2)), 2.0, search.log_measure, whole=True)
    tables = ReferenceTables(case.views.references, GRID, Alternatives(fine, whole.shift))
    table = np.moveaxis(whole_table(case.images, tables), 1, 0)
    table += whole_prior(case.images, whole, case.images.origin)[:, :, None]
    table += case.views.log_prior(np.arange(CLASSES)).astype(np.float32)[:, None]
    one = Cells(np.arange(COUNT), np.zeros(COUNT, dtype=int), np.zeros(COUNT), case.images.origin)
    _, exact = normalise([Block(np.arange(COUNT), np.arange(CLASSES), table)], one, COUNT)
    np.testing.assert_allclose(evidence, exact, atol=NEAR)


def exactly(case: Problem) -> ClassMatching:
    """The same without the coarse pass."""
    return replace(case.matching, search=replace(case.matching.search, exact=True))


@pytest.mark.parametrize(("snr", "share"), [(0.05, 0.02), (0.1, 0.03)])
def test_pruning_loses_little(snr, share):
    """The evidence of the likely cells against that of everything. It may even be above: a cell's shifts lie about the cell, and those of the
    table do not. What is lost grows with the evidence: the coarse grid errs by a share of it.
    """
    case, rows = problem(snr, reach=3.0), np.arange(COUNT)
    pruned, exact = case.matching(rows), exactly(case)(rows)
    loss = exact.assignment.log_evidence - pruned.assignment.log_evidence
    assert exact.assignment.log_evidence.mean() > 15
    assert abs(loss.mean()) < share * exact.assignment.log_evidence.mean()
    assert (exact.assignment.class_index == pruned.assignment.class_index).all()
    np.testing.assert_allclose(pruned.mass, exact.mass, atol=0.1)  # particles
    # What the next noise spectrum is made of.
    np.testing.assert_allclose(pruned.noise.cross.sum(), exact.noise.cross.sum(), rtol=share)
    np.testing.assert_allclose(pruned.noise.model.sum(), exact.noise.model.sum(), rtol=share)
    assert case.matching.likely(case.images).image.size < 10 * COUNT  # of 30 angles and 3 classes


@pytest.mark.parametrize("file_origin", [False, True])
@pytest.mark.parametrize("pruned", [False, True])
def test_poses_come_out_with_their_signs(file_origin, pruned):
    """A particle turned by psi with the origin o is found at (psi, o), whatever origin the file had."""
    case = problem(0.5 if pruned else 10.0, reach=3.0, file_origin=file_origin)
    matching = case.matching if pruned else exactly(case)
    found = matching(np.arange(COUNT)).assignment
    origin, psi = found.pose.shift / PIXEL_SIZE, found.pose.euler[:, 2]
    assert (found.class_index == case.kind).all()
    # Steps of 6 degrees, and of 1 pixel on a lattice that is turned with the particle: half a diagonal.
    assert np.median(turn(psi, case.psi)) < np.deg2rad(6.0 if pruned else 3.0)
    assert np.median(np.hypot(*(origin - case.origin).T)) < 0.71
    if not pruned:  # no cell can be missed, and there is no noise to speak of
        assert turn(psi, case.psi).max() < np.deg2rad(6.5)
        assert np.hypot(*(origin - case.origin).T).max() < 1.0
    assert np.median(turn(psi, -case.psi)) > 0.5
    assert np.median(np.hypot(*(origin + case.origin).T)) > 1.0
    assert np.median(np.hypot(*(origin[:, ::-1] - case.origin).T)) > 1.0


def test_coarse_cells_hold_the_truth():
    case = problem(0.1)
    psi, shift = 2 * np.pi * (np.arange(30) + 0.5) / 30, disc_of_shifts(4.0, 2.0)
    tables = ReferenceTables(case.views.references, GRID, Alternatives(psi, shift))
    steps = Steps(psi, shift, 2.0, 0.0, whole=True)
    cells = coarse_cells(case.images, case.views, tables, steps, np.arange(CLASSES), home=case.images.origin)
    assert set(cells.image) == set(range(COUNT))
    near = (cells.view == case.kind[cells.image]) & (turn(cells.psi, case.psi[cells.image]) < np.deg2rad(7.0))
    near &= np.hypot(*(cells.origin - case.origin[cells.image]).T) < 2.0
    assert len(set(cells.image[near])) >= 0.8 * COUNT  # where two are as good, the next may stand for it
    assert len(cells) < 10 * COUNT  # of 90 cells of each image


@dataclass(frozen=True)
class TwistedViews:
    """Each view has one child, number + 100, whose slices are read in a frame turned by `angle`."""

    references: np.ndarray
    angle: float

    def children(self, view: int) -> np.ndarray:
        return np.array([view + 100])

    def slices(self, views: np.ndarray, psi: np.ndarray, grid: PolarGrid) -> np.ndarray:
        own = self.references[views - 100][:, : grid.shape[0]]
        return np.stack([turned(own, np.full(len(views), self.angle + step), grid.band) for step in psi])

    def log_prior(self, views: np.ndarray) -> np.ndarray:
        return np.zeros(len(views))

    def twist(self, views: np.ndarray) -> np.ndarray:
        return np.full(len(views), self.angle)


def test_divided_cells_stand_in_the_frames_of_their_own_views():
    case = problem(1.0)
    views = TwistedViews(case.views.references, 0.9)
    # In the frame of the parent the truth is at psi - twist.
    cells = Cells(np.arange(COUNT), case.kind, case.psi - 0.9 - 0.05, case.origin + np.array([0.4, 0.0]))
    steps = Steps(np.array([-0.05, 0.05]), disc_of_shifts(0.75, 0.5), 2.0, 0.0)
    matching = CellMatching(case.images, views, steps, case.images.origin)
    blocks, _ = normalise(list(matching.blocks(cells)), cells, COUNT)
    found = divided_cells(blocks, cells, matching, share=0.9, most=4)
    assert set(found.image) == set(range(COUNT))
    assert (found.view == case.kind[found.image] + 100).all()
    assert (
        turn(found.psi, case.psi[found.image]).max() < 0.12
    )  # one of two steps, each a tenth of a radian from the other
    nearer = np.hypot(*(found.origin - case.origin[found.image]).T)
    assert nearer.mean() < 0.35  # it began 0.4 away; the lattice of half pixels is turned by psi
    assert turn(found.psi, case.psi[found.image] - 1.8).min() > 0.5


def test_in_image_is_the_turn_of_the_conventions():
    """Rz(psi) t = (cos x + sin y, -sin x + cos y)."""
    psi, shift = np.array([0.4, -2.0]), np.array([[1.0, 2.0], [-3.0, 0.5]])
    expected = np.einsum("nij,nj->ni", in_plane(psi)[:, :2, :2], shift)
    np.testing.assert_allclose(in_image(shift, psi), expected, atol=1e-12)
    assert np.abs(in_image(shift, -psi) - expected).max() > 1


def test_priors_of_shifts_are_gaussians_about_home():
    case = problem(0.1, file_origin=True)
    psi, shift = np.array([0.3, 2.0]), disc_of_shifts(2.0, 1.0)
    home = np.zeros((COUNT, 2)) + np.array([1.0, -0.5])
    found = whole_prior(case.images, Steps(psi, shift, 1.7, -2.0, whole=True), home)
    for p, angle in enumerate(psi):
        origin = case.images.origin[:, None] + in_image(shift, np.full(len(shift), angle))
        expected = -2.0 - ((origin - home[:, None]) ** 2).sum(axis=2) / (2 * 1.7**2)
        np.testing.assert_allclose(found[:, p], expected, atol=1e-4)  # single precision
    cells = Cells(np.arange(COUNT), np.zeros(COUNT, dtype=int), np.linspace(-3, 3, COUNT), case.images.origin + 0.5)
    matching = CellMatching(case.images, case.views, Steps(np.array([-0.1, 0.1]), shift, 1.7, -2.0), home)
    origin = cells.origin[:, None] + np.stack([in_image(shift, np.full(len(shift), angle)) for angle in cells.psi])
    expected = -2.0 - ((origin - home[:, None]) ** 2).sum(axis=2) / (2 * 1.7**2)
    np.testing.assert_allclose(matching.shift_prior(cells), expected, atol=1e-4)


def test_normalised_tables_are_posteriors():
    rng = np.random.default_rng(5)
    cells = Cells(np.array([0, 2, 0, 2, 2]), np.zeros(5, dtype=int), np.zeros(5), np.zeros((5, 2)))
    tables = [rng.normal(200, 3, (2, 2, 1, 3)).astype(np.float32), rng.normal(200, 3, (3, 2, 1, 3)).astype(np.float32)]
    numbers = np.array([0, 1]), np.array([2, 3, 4])
    together = [np.concatenate([tables[0][:1], tables[1][:1]]), None, np.concatenate([tables[0][1:], tables[1][1:]])]
    expected = [-np.inf if part is None else np.log(np.exp(part.astype(float) - 200).sum()) + 200 for part in together]
    blocks, evidence = normalise([Block(n, np.zeros(1, int), t.copy()) for n, t in zip(numbers, tables)], cells, 3)
    np.testing.assert_allclose(evidence, expected, atol=1e-4)  # single precision of numbers of 200
    total = np.zeros(3)
    for block in blocks:
        np.add.at(total, cells.image[block.cells], block.table.sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(total, [1, 0, 1], atol=1e-5)
    np.testing.assert_allclose(blocks[0].table[0], np.exp(tables[0][0] - expected[0]), rtol=1e-3)


def test_likely_cells_hold_the_share_asked_for():
    mass = np.array([[0.5, 0.0, 0.3, 0.15, 0.05], [0.0, 4.0, 0.0, 0.0, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2]])
    image, column = likely_cells(mass, share=0.9, most=4)
    assert column[image == 0].tolist() == [0, 2, 3]
    assert column[image == 1].tolist() == [1]  # the scale of the mass is its own
    assert len(column[image == 2]) == 4  # never more than asked
    image, column = likely_cells(mass, share=0.7, most=4)
    assert column[image == 0].tolist() == [0, 2]


def test_shifts_lie_in_a_disc_with_the_middle_first():
    points = disc_of_shifts(2.0, 1.0)
    assert points[0].tolist() == [0, 0] and len(points) == 13
    assert np.hypot(*points.T).max() <= 2.0
    assert len(disc_of_shifts(0.0, 1.0)) == 1
    assert {tuple(p) for p in points} == {tuple(-p) for p in points}


def test_turns_by_whole_points_are_moves_along_the_rings():
    """The same as turning by the phases of the angular spectrum, up to the coefficients beyond the band, which are next to nothing."""
    case = problem(0.1)
    data, power = case.images.data, case.images.power
    image, points = np.array([0, 3, 3, 7, 1]), np.array([0, 5, -7, GRID.angles // 2 + 1, 3 * GRID.angles + 2])
    psi = 2 * np.pi * points / GRID.angles
    factors = shift_factors(GRID, np.array([[0.0, 0.0], [1.5, -2.0]]))
    number = np.array([0, 1, 0, 1, 1])  # of the shift of each: moved after it was turned
    found, squares = Circles(data, power).turned(image, points, factors, number)
    expected = turned(data[image], psi, GRID.angles // 2 + 1) * factors[number]
    assert np.abs(found - expected).max() < 1e-5 * np.abs(data).max()  # float32
    assert np.abs(found - turned(data[image], -psi, GRID.angles // 2 + 1))[1].max() > 0.1 * np.abs(data).max()
    assert (
        np.abs(squares - turned_power(power[image], psi)).max() < 1e-4 * power.max()
    )  # an astigmatic CTF has few coefficients


def test_rows_do_not_depend_on_how_images_are_turned():
    """Cells whose angles are whole points, and the same cells and one that is not: then all of them are turned by phases."""
    case = problem(0.1, file_origin=True)
    points = np.array([0, 11, 17, 30])
    origin = case.images.origin[:4] + np.array([[0.0, 0.0], [1.0, -2.0], [0.4, 0.7], [-1.0, 0.0]])
    whole = Cells(np.arange(4), np.zeros(4, dtype=int), 2 * np.pi * points / GRID.angles, origin)
    other = Cells(
        *(np.concatenate([getattr(whole, name), getattr(whole, name)[:1]]) for name in Cells.__dataclass_fields__)
    )
    other.psi[-1] += 0.01
    matching = CellMatching(case.images, case.views, Steps(np.zeros(1), np.zeros((1, 2)), 1.5, 0.0), case.images.origin)
    for found, expected in zip(matching.rows(whole), matching.rows(other)):
        assert np.abs(found - expected[:4]).max() < 3e-3 * np.abs(expected).max()  # coefficients beyond the band
