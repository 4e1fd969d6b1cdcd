"""Scattered data: SciPy's griddata, the definition, reuse, the hull."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import griddata
from scipy.spatial import Delaunay

from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.scattered import Triangulation
from vitreous.reference.interpolation import barycentric_weights

TIGHT = 1e-10  # the bar of the lesson; barycentric weights of thin triangles lose a few digits


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("method", ["linear", "nearest"])
@pytest.mark.parametrize("rescale", [False, True])
def test_agreement_with_griddata(ndim, method, rescale, rng):
    points = rng.uniform(-1, 1, (200, ndim)) * [1, 30, 2][:ndim]
    queries = rng.uniform(-1.3, 1.3, (300, ndim)) * [1, 30, 2][:ndim]
    values = rng.standard_normal(200)
    got = Triangulation(points, rescale=rescale).interpolate(values, queries, method)
    expected = griddata(points, values, queries, method, rescale=rescale)
    np.testing.assert_allclose(got, expected, atol=TIGHT)
    assert np.isnan(got).any() == (method == "linear")


def test_cubic_agrees_with_griddata(rng):
    points, queries, values = (
        rng.uniform(0, 1, (100, 2)),
        rng.uniform(-0.1, 1.1, (50, 2)),
        rng.standard_normal((2, 100)),
    )
    got = Triangulation(points).interpolate(values, queries, "cubic", fill=-9.0)
    expected = griddata(points, values.T, queries, "cubic", fill_value=-9.0).T
    np.testing.assert_allclose(got, expected, atol=TIGHT)


def test_linear_is_its_definition(rng):
    points, values = rng.uniform(0, 1, (30, 3)), rng.standard_normal(30)
    triangulation = Triangulation(points)
    queries = rng.dirichlet(np.ones(30), 20) @ points  # inside the hull
    got = triangulation.interpolate(values, queries)
    for query, value in zip(queries, got):
        holders = [s for s in triangulation.simplices if np.all(barycentric_weights(points[s], query) > -1e-12)]
        simplex = holders[0]
        assert value == pytest.approx(barycentric_weights(points[simplex], query) @ values[simplex], abs=TIGHT)


def test_linear_is_exact_on_planes_and_at_the_samples(rng):
    points = rng.uniform(-1, 1, (80, 2))
    queries = rng.uniform(-0.5, 0.5, (100, 2))
    triangulation = Triangulation(points)
    plane = points @ [2.0, -3.0] + 0.5
    np.testing.assert_allclose(triangulation.interpolate(plane, queries), queries @ [2.0, -3.0] + 0.5, atol=1e-12)
    values = rng.standard_normal(80)
    np.testing.assert_allclose(
        triangulation.interpolate(values, points, fill=0.0)[triangulation.locate(points).inside],
        values[triangulation.locate(points).inside],
        atol=TIGHT,
    )


def test_a_square_of_two_triangles_is_not_bilinear():
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    value = Triangulation(corners).interpolate(np.array([0.0, 0.0, 0.0, 1.0]), np.array([[0.5, 0.25]]))
    assert value[0] == pytest.approx(0.25, abs=1e-12) or value[0] == pytest.approx(
        0.0, abs=1e-12
    )  # by the diagonal; bilinear is 0.125


def test_weights_serve_many_value_sets(rng):
    points, queries, values = (
        rng.uniform(0, 1, (60, 2)),
        rng.uniform(-0.2, 1.2, (40, 2)),
        rng.standard_normal((3, 4, 60)),
    )
    triangulation = Triangulation(points)
    weights = triangulation.locate(queries)
    together = weights.apply(values, fill=-5.0)
    assert together.shape == (3, 4, 40)
    np.testing.assert_array_equal(together[1, 2], triangulation.interpolate(values[1, 2], queries, fill=-5.0))
    assert np.all(together[..., ~weights.inside] == -5.0) and not weights.inside.all()
    np.testing.assert_allclose(weights.weights.sum(axis=1), weights.inside * 1.0, atol=TIGHT)
    linear = weights.apply(2 * values[0] - values[1], fill=0.0)
    np.testing.assert_allclose(
        linear, 2 * weights.apply(values[0], fill=0) - weights.apply(values[1], fill=0), atol=TIGHT
    )


def test_simplices_per_point(rng):
    assert len(Triangulation(rng.uniform(0, 1, (4000, 2))).simplices) / 4000 == pytest.approx(2.0, abs=0.02)
    in_space = len(Triangulation(rng.uniform(0, 1, (4000, 3))).simplices) / 4000
    assert in_space == pytest.approx(6.7, abs=0.3)  # fewer at the hull


@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_transforms_agree_with_scipy_on_scattered_and_on_regular_points(ndim, rng):
    # On a regular grid many points lie on one sphere and some simplices are flat: those are NaN in both.
    for points in (
        rng.uniform(0, 1, (40, ndim)),
        np.stack(np.meshgrid(*[np.arange(3.0)] * ndim), axis=-1).reshape(-1, ndim),
    ):
        triangulation = Triangulation(points)
        np.testing.assert_allclose(triangulation.transform, Delaunay(points).transform, rtol=1e-9, atol=1e-9)
        queries = rng.uniform(0.01, points.max() * 0.99, (50, ndim))
        expected = griddata(points, points @ np.arange(1, ndim + 1), queries)
        np.testing.assert_allclose(
            triangulation.interpolate(points @ np.arange(1, ndim + 1), queries), expected, atol=TIGHT
        )


def test_noise_turns_the_order_of_the_methods_round():
    def errors(noise: float) -> list[float]:
        generator = np.random.default_rng(0)
        points = generator.uniform(0, 1, (400, 2))
        queries = generator.uniform(0.1, 0.9, (2000, 2))
        truth = [np.sin(6 * p[:, 0]) * np.cos(5 * p[:, 1]) for p in (points, queries)]
        values = truth[0] + noise * generator.standard_normal(400)
        triangulation = Triangulation(points)
        return [
            np.sqrt(np.mean((triangulation.interpolate(values, queries, m) - truth[1]) ** 2))
            for m in ("nearest", "linear", "cubic")
        ]

    nearest, linear, cubic = errors(0.0)
    assert cubic < linear < nearest
    nearest, linear, cubic = errors(0.2)
    assert linear < nearest < cubic  # cubic estimates slopes from the noise


def test_unequal_scales_need_rescaling(rng):
    points, queries = rng.uniform(0, 1, (400, 2)), rng.uniform(0.1, 0.9, (500, 2))
    values = np.sin(6 * points[:, 0]) * np.cos(5 * points[:, 1])
    stretched = np.array([1.0, 100.0])
    right = Triangulation(points).interpolate(values, queries)
    rescaled = Triangulation(points * stretched, rescale=True).interpolate(values, queries * stretched)
    assert np.sqrt(np.mean((rescaled - right) ** 2)) < 5e-3  # the unit square is not quite the points' own rectangle
    thin = Triangulation(points * stretched).interpolate(values, queries * stretched)
    assert np.sqrt(np.nanmean((thin - right) ** 2)) > 0.1


def test_dtypes_inputs_and_jax(rng):
    import jax

    points, queries = rng.uniform(0, 1, (50, 2)), rng.uniform(0.2, 0.8, (20, 2))
    values = rng.standard_normal(50)
    kept = points.copy(), queries.copy(), values.copy()
    triangulation = Triangulation(points, rescale=True)
    expected = triangulation.interpolate(values, queries)
    for before, after in zip(kept, (points, queries, values)):
        np.testing.assert_array_equal(before, after)
    assert triangulation.interpolate(values.astype(np.float32), queries).dtype == np.float32
    assert triangulation.interpolate((1j * values).astype(np.complex64), queries).dtype == np.complex64
    weights = triangulation.locate(queries)
    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.jit(weights.apply)(values), expected, atol=TIGHT)
        gradient = jax.grad(lambda v: weights.apply(v).sum())(jax.numpy.asarray(values))
        assert np.sum(gradient) == pytest.approx(20, rel=1e-12)  # the weights of each query sum to 1


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((5, 1)),
        np.zeros(5),
        np.stack([np.arange(5.0)] * 2, axis=1),
        np.zeros((2, 2)),
        np.full((5, 2), np.nan),
        np.zeros((0, 2)),
    ],
)
def test_points_that_cannot_be_triangulated(points):
    with pytest.raises(DataProblem, match="expected"):
        Triangulation(points)


def test_faults(rng):
    triangulation = Triangulation(rng.uniform(0, 1, (10, 3)))
    with pytest.raises(DataProblem, match="9 values for 10"):
        triangulation.interpolate(np.ones(9), np.zeros((1, 3)))
    with pytest.raises(DataProblem, match="queries of shape"):
        triangulation.interpolate(np.ones(10), np.zeros((1, 2)))
    with pytest.raises(SettingsProblem, match="cubic"):
        triangulation.interpolate(np.ones(10), np.zeros((1, 3)), "cubic")
