"""The linear subspace: its steps against dense matrices, what it finds, what it takes."""

import tracemalloc
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.stats import spearmanr
from tests.unit.heterogeneity.moving_particle import PIXEL_SIZE, density, moving_particles

from vitreous.engine.checkpoint import load_state, save_state
from vitreous.engine.workers import LocalWorkers
from vitreous.errors import SettingsProblem
from vitreous.fourier.interpolation import gridding_correction
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.heterogeneity.consensus import noise, whitened_reader
from vitreous.heterogeneity.fourier_ball import fourier_ball, working_box
from vitreous.heterogeneity.particle_slices import ParticleSlices
from vitreous.heterogeneity.slice_source import SliceSource, prepared
from vitreous.heterogeneity.subspace import (
    SubspaceSettings,
    SubspaceState,
    encode_subspace,
    fit_subspace,
    ordered,
    orthogonal,
)
from vitreous.heterogeneity.subspace_decoder import SubspaceDecoder
from vitreous.heterogeneity.subspace_slices import SubspaceSlices
from vitreous.heterogeneity.subspace_steps import Moments, expectation, maximisation
from vitreous.reconstruction.direct_inversion import InversionSettings
from vitreous.reconstruction.projection import slice_grid, values_at
from vitreous.reconstruction.slicing import sliced
from vitreous.reference import subspace as definition

BOX = 16
INVERSION = InversionSettings(np.eye(3)[None])
MIDDLE = np.mean([density(position, BOX) for position in np.linspace(-1, 1, 16)], axis=0)
ONE = LocalWorkers(1)
SETTINGS = SubspaceSettings(components=2, iterations=8, radius=8.0, particle_radius=7.0)


@cache
def problem(count: int = 600, snr: float = 1.0, still: bool = False):
    """(source without consensus, rows of the two halves, position of each arm)."""
    made = moving_particles(count, BOX, snr=snr, still=still)
    mean = density(0.0, BOX) if still else MIDDLE
    reader = whitened_reader(made.particles, INVERSION, noise(made.particles, INVERSION, mean))
    half = made.particles.half_set
    halves = (np.flatnonzero(half == 1), np.flatnonzero(half == 2))
    return prepared(reader, sliced(mean)), halves, made.position


def slices_of(source, maps: np.ndarray, row: int) -> np.ndarray:
    """C times the slices of maps, [k, p], without the first pixel."""
    slices = source.slices.rows(np.array([row]))
    points = slices.points(source.grid)[0]
    inside = np.hypot(source.grid.kx, source.grid.ky) > 0
    return np.array([slices.transfer[0] * values_at(sliced(volume), points) for volume in maps])[:, inside]


def test_the_e_step_is_that_of_probabilistic_pca():
    source, _, _ = problem()
    maps = np.stack([density(1.0, BOX) - density(-1.0, BOX), 0.3 * density(0.5, BOX)])
    rows = np.array([3, 50, 7])
    moments = expectation(source, rows, fourier_ball(BOX, 8.0), maps, 1.0, ONE)
    inside = np.hypot(source.grid.kx, source.grid.ky) > 0
    for i, row in enumerate(rows):
        values = source.slices.values[row][inside].astype(complex)
        slices = slices_of(source, maps, row).astype(complex)
        mean, covariance = definition.posterior(values, slices)
        np.testing.assert_allclose(moments.mean[i], mean, rtol=2e-4, atol=2e-5)  # single precision slices
        np.testing.assert_allclose(moments.covariance[i], covariance, rtol=2e-4, atol=1e-6)
        nothing = definition.log_evidence(values, np.zeros_like(slices))
        assert moments.gain[i] == pytest.approx(definition.log_evidence(values, slices) - nothing, rel=1e-3, abs=1e-3)


def test_the_m_step_solves_the_equations_of_every_frequency():
    # Unturned particles whose pixels fall on voxels: every frequency is a problem by itself.
    rng = np.random.default_rng(0)
    count, grid = 40, slice_grid(BOX)
    basis = np.tile(np.eye(3)[:2], (count, 1, 1)).astype(np.float32)
    transfer = rng.normal(size=(count, len(grid))).astype(np.float32)
    values = (rng.normal(size=(count, len(grid), 2)) @ [1, 1j]).astype(np.complex64)
    mean = rng.normal(size=(count, 2)).astype(np.float32)
    covariance = np.tile(0.3 * np.eye(2), (count, 1, 1)).astype(np.float32)
    source, ball = SliceSource(ParticleSlices(values, transfer, basis), grid), fourier_ball(BOX, 8.0)
    found = maximisation(
        source, np.arange(count), Moments(mean, covariance, np.zeros(count)), ball, np.zeros((2, ball.shells)), ONE
    )
    second = covariance + mean[:, :, None] * mean[:, None, :]
    middle = BOX + 1
    for p in rng.choice(np.flatnonzero(grid.kx > 0), 20, replace=False):
        row = ball.index[middle, middle + 2 * grid.ky[p], 2 * grid.kx[p]]
        expected = definition.best_components(values[:, p], transfer[:, p].astype(float), mean, second)
        np.testing.assert_allclose(found[row, :2] + 1j * found[row, 2:], expected, rtol=1e-3, atol=1e-4)


def test_values_of_maps_in_a_ball_and_back():
    ball = fourier_ball(BOX, 8.0)
    maps = np.stack([density(0.2, BOX), density(-1.0, BOX)])
    values = ball.values(maps)
    assert values.shape == (len(ball) + 1, 4)
    assert not values[-1].any()
    middle = BOX + 1
    whole = sliced(maps[1]).data
    for z, y, x in [(0, 0, 0), (3, -4, 5), (-6, 2, 1)]:
        row = ball.index[middle + z, middle + y, x]
        assert values[row, 1] + 1j * values[row, 3] == pytest.approx(whole[middle + z, middle + y, x], rel=1e-5)
    # Reading and inserting both blur by the kernel, which each way divides out: there and back, twice. What lies beyond the ball is lost, little
    # of a map that is a sum of blobs of 0.8 voxels.
    correction = gridding_correction(BOX, 2, "linear", 3)
    np.testing.assert_allclose(ball.maps(values) * correction**2, maps, atol=0.06 * maps.max())


def test_bands_are_layers_that_hold_everything_once():
    ball = fourier_ball(BOX, 6.0)
    length = np.linalg.norm(ball.voxels - np.array([BOX + 1, BOX + 1, 0]), axis=1)
    assert (np.diff(length) >= 0).all()
    for rows in (1, 700, 10**6):
        bands = ball.bands(rows)
        assert [band.start for band in bands] == [0, *(band.stop for band in bands[:-1])]
        assert bands[-1].stop == len(ball)
        assert max(band.stop - band.start for band in bands) <= rows


def test_it_finds_how_the_particle_moves():
    source, halves, position = problem()
    fit = fit_subspace(source, halves, SETTINGS, MIDDLE, PIXEL_SIZE)
    latents, gain = encode_subspace(source, np.arange(600), fit.decoder)
    assert abs(spearmanr(latents.mean[:, 0], position)[0]) > 0.9
    assert gain.mean() > 2
    difference = density(1.0, BOX) - density(-1.0, BOX)
    first = fit.decoder.maps[1]
    assert abs((difference * first).sum()) > 0.8 * np.linalg.norm(difference) * np.linalg.norm(first)
    assert fit.fsc[0, 1:4].min() > 0.7
    gram = np.einsum("jzyx,lzyx->jl", fit.decoder.maps[1:], fit.decoder.maps[1:])
    np.testing.assert_allclose(gram, np.diag(fit.variance), atol=1e-4 * fit.variance[0])
    assert fit.variance[0] > fit.variance[1]
    # latents in units of their prior: what is known of them and what is not add up to 1
    second = latents.covariance.mean(axis=0) + np.cov(latents.mean.T)
    assert second[0, 0] == pytest.approx(1, abs=0.15)


def test_where_nothing_moves_it_finds_nothing():
    source, halves, _ = problem(still=True)
    aside = np.arange(500, 600)
    halves = tuple(rows[rows < 500] for rows in halves)
    fit = fit_subspace(source, halves, SETTINGS, density(0.0, BOX), PIXEL_SIZE)
    _, gain = encode_subspace(source, aside, fit.decoder)
    assert gain.mean() < 0.3
    moving, parts, _ = problem()
    fit = fit_subspace(moving, tuple(rows[rows < 500] for rows in parts), SETTINGS, MIDDLE, PIXEL_SIZE)
    assert encode_subspace(moving, aside, fit.decoder)[1].mean() > 2


def test_the_evidence_rises_while_nothing_is_regularised():
    source, halves, _ = problem()
    settings = replace(
        SETTINGS, iterations=20, particle_radius=20.0
    )  # 10 iterations at one radius before the prior sets in
    states: list[SubspaceState] = []
    with pytest.raises(KeyboardInterrupt):
        fit_subspace(source, halves, settings, MIDDLE, PIXEL_SIZE, keep=lambda s: stop_after(states, s, 10))
    evidence = np.array(states[-1].log_evidence)
    # The map between iterations is cut to its box and read by interpolation, so a step may lose what that costs
    assert (np.diff(evidence) > -0.02 * abs(evidence[-1])).all()
    assert evidence[-1] > evidence[0] + 0.5


def stop_after(states: list, state: SubspaceState, count: int) -> None:
    states.append(state)
    if len(states) == count:
        raise KeyboardInterrupt


def test_one_worker_or_two_from_memory_or_disk_it_is_the_same_to_the_bit(tmp_path):
    source, halves, _ = problem()
    kept: list[SubspaceState] = []
    whole = fit_subspace(source, halves, SETTINGS, MIDDLE, PIXEL_SIZE, workers=LocalWorkers(2), keep=kept.append)
    alone = fit_subspace(source, halves, SETTINGS, MIDDLE, PIXEL_SIZE, workers=ONE)
    np.testing.assert_array_equal(whole.decoder.maps, alone.decoder.maps)
    save_state(tmp_path / "state.npz", kept[4])
    start = load_state(tmp_path / "state.npz", SubspaceState)
    resumed = fit_subspace(source, halves, SETTINGS, MIDDLE, PIXEL_SIZE, start=start)
    np.testing.assert_array_equal(whole.decoder.maps, resumed.decoder.maps)
    assert whole.log_evidence == resumed.log_evidence
    made = moving_particles(600, BOX, snr=1.0)
    reader = whitened_reader(made.particles, INVERSION, noise(made.particles, INVERSION, MIDDLE))
    disk = prepared(reader, sliced(MIDDLE), tmp_path)
    streamed = fit_subspace(disk, halves, SETTINGS, MIDDLE, PIXEL_SIZE)
    np.testing.assert_array_equal(whole.decoder.maps, streamed.decoder.maps)


def test_memory_stays_below_k_and_2_padded_volumes(tmp_path):
    box, components = 40, 8
    made = moving_particles(24, box, snr=0.5)  # few, because what is measured are volumes
    mean = density(0.0, box)
    reader = whitened_reader(made.particles, INVERSION, np.full((1, box), 50.0))
    disk = prepared(reader, sliced(mean), tmp_path)
    halves = (np.arange(0, 24, 2), np.arange(1, 24, 2))
    settings = SubspaceSettings(components, 4, 20.0, 17.0)
    fit_subspace(
        disk, halves, replace(settings, iterations=1), mean, PIXEL_SIZE
    )  # compiled, and what is kept once is there
    tracemalloc.start()
    fit_subspace(disk, halves, settings, mean, PIXEL_SIZE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    volume = sliced(mean).data.nbytes
    assert peak < (components + 2) * volume


def test_slices_are_those_of_the_eigenvolumes():
    maps = np.stack([density(position, BOX) for position in (0.0, 0.5, -0.5)])
    found = SubspaceSlices.of(SubspaceDecoder(maps, PIXEL_SIZE, 6.0))
    grid, basis = slice_grid(BOX, 6.0), matrix_from_euler(np.random.default_rng(1).uniform(0, 180, (4, 3)))[:, :2]
    basis = basis.astype(np.float32)
    values = found.at(basis, grid.kx, grid.ky)
    points = np.stack([grid.kx, grid.ky], axis=-1).astype(np.float32) @ basis
    for j in range(2):
        # the same interpolation, of a map that was cut off beyond the working box: its voxels hold what lies within
        expected = values_at(sliced(maps[1 + j]), points)
        assert np.linalg.norm(values[..., j] - expected) < 0.02 * np.linalg.norm(expected)


def test_bases_are_turned_onto_each_other():
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(3, 8, 8, 8)).astype(np.float32) * np.array([3, 2, 1], np.float32)[:, None, None, None]
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0].astype(np.float32)
    both = ordered(maps, np.tensordot(turn, maps, axes=1))
    np.testing.assert_allclose(both[0], both[1], atol=1e-4)
    flat, before = orthogonal(maps).reshape(3, -1), maps.reshape(3, -1)
    np.testing.assert_allclose(flat.T @ flat, before.T @ before, atol=1e-4 * (before**2).sum(axis=0).max())


def test_the_working_box_holds_the_rings():
    assert working_box(64, 10.2) == 26
    assert working_box(64, 32) == 64


@pytest.mark.parametrize("wrong", [{"components": 0}, {"iterations": 0}, {"radius": 0.0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(SettingsProblem, match=next(iter(wrong))):
        replace(SETTINGS, **wrong)


def test_more_components_than_particles_are_refused():
    source, halves, _ = problem()
    with pytest.raises(SettingsProblem, match="2 components for a half set of 2 particles"):
        fit_subspace(source, (halves[0][:2], halves[1]), SETTINGS, MIDDLE, PIXEL_SIZE)
