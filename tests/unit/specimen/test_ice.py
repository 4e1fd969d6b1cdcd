from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from vitreous.constants import POTENTIAL_PER_FACTOR
from vitreous.errors import SettingsProblem
from vitreous.fourier.transforms import frequencies
from vitreous.reference import ice as reference
from vitreous.specimen.ice import (
    HH_DISTANCE,
    OH_BOND,
    RADIAL_STEP,
    IceField,
    ice_slab,
    ice_slabs,
    ice_spectrum,
    moving_average,
    slab_covariance,
    slab_spectrum,
    structure_factor,
)
from vitreous.specimen.materials import CARBON, ICE, Material, mean_inner_potential, number_density
from vitreous.specimen.scattering_factors import potential_transform
from vitreous.specimen.waters import waters_around

MOLECULES = number_density(ICE)
K = np.linspace(0.0, 0.7, 29)


# --- the declared spectrum --------------------------------------------------------------------------------------------


def test_structure_factor_has_the_rings_of_ice():
    """The first is measured at 3.7 A (McMullan et al. 2015); the second is reported near 2.1 A."""
    k = np.arange(0, 1.2, 0.002)
    values = structure_factor(k)
    first = k[np.argmax(np.where(k < 0.4, values, 0))]
    second = k[np.argmax(np.where((k > 0.4) & (k < 0.65), values, 0))]
    assert 1 / first == pytest.approx(3.7, abs=0.1)
    assert 1 / second == pytest.approx(2.1, abs=0.1)
    assert values.min() >= 0 and values[0] < 0.1 and structure_factor(np.array([0.37]))[0] < 0.95
    np.testing.assert_allclose(structure_factor(np.array([2.5, 3.0, 4.0])), 1.0, atol=0.04)  # neighbours' last waves
    np.testing.assert_allclose(*structure_factor(np.array([1.2 - 1e-6, 1.2 + 1e-6])), atol=0.01)  # end of the table


def test_spectrum_at_its_ends():
    """At k = 0 the molecules' whole potential times S(0); far out every atom for itself, n sum f^2."""
    molecule = mean_inner_potential(ICE) / MOLECULES
    assert molecule == pytest.approx(POTENTIAL_PER_FACTOR * (1.9834 + 2 * 0.5288), rel=1e-4)
    expected = MOLECULES * molecule**2 * structure_factor(np.array([0.0]))
    np.testing.assert_allclose(ice_spectrum(np.array([0.0])), expected, rtol=1e-12)
    far = np.array([3.5])
    alone = MOLECULES * (potential_transform("O", far) ** 2 + 2 * potential_transform("H", far) ** 2)
    np.testing.assert_allclose(ice_spectrum(far), alone, rtol=0.08)  # the waves of bonds are 1/(2 pi k d) of it
    assert (ice_spectrum(np.linspace(0, 4, 500)) > 0).all()


def test_molecule_is_debyes_formula():
    half = np.arcsin(HH_DISTANCE / 2 / OH_BOND)
    places = OH_BOND * np.array([[0, 0, 0], [np.sin(half), np.cos(half), 0], [-np.sin(half), np.cos(half), 0]])
    for k in (0.0, 0.1, 0.33, 0.8):
        factors = [float(potential_transform(e, k)) for e in ("O", "H", "H")]
        square = reference.mean_square_of_molecule(k, factors, places)
        mean = factors[0] + 2 * factors[1] * np.sinc(2 * k * OH_BOND)
        expected = MOLECULES * (square + mean**2 * (float(structure_factor(np.array(k))) - 1))
        assert float(ice_spectrum(np.array(k))) == pytest.approx(expected, rel=1e-9)
    assert np.degrees(2 * half) == pytest.approx(104.5, abs=0.1)


def test_formula_holds_for_real_molecules():
    """Atoms of 2,000 explicit molecules of random orientation: their spectrum is the formula with their own S(k)."""
    side = 40.0
    waters = waters_around(None, (side,) * 3, seed=2)
    centres = waters.position[::3]
    integers = np.array(list(itertools.product(range(-15, 16), repeat=3)))
    length = np.linalg.norm(integers, axis=1) / side
    rng = np.random.default_rng(0)
    for low, high in ((0.25, 0.28), (0.33, 0.35)):
        waves = integers[(length > low) & (length < high)]
        waves = waves[rng.permutation(len(waves))[:400]] / side
        k = np.linalg.norm(waves, axis=1)
        potentials = sum(
            potential_transform(e, k)
            * np.exp(2j * np.pi * (waves @ waters.position[waters.element == e].T)).sum(axis=1)
            for e in ("O", "H")
        )
        own = reference.structure_factor(centres, waves)
        mean = potential_transform("O", k) + 2 * potential_transform("H", k) * np.sinc(2 * k * OH_BOND)
        declared = ice_spectrum(k) + MOLECULES * mean**2 * (own - structure_factor(k))
        # 400 waves, half of them conjugates, each with a relative scatter of about 0.3 about its own S: 2.5 %
        assert np.mean(np.abs(potentials) ** 2) / side**3 == pytest.approx(declared.mean(), rel=0.08)


def test_density_and_motion():
    k = np.array([0.1, 0.3])
    denser = Material("ice", ICE.composition, 1.86)
    np.testing.assert_allclose(ice_spectrum(k, material=denser), 2 * ice_spectrum(k), rtol=1e-12)
    moved = ice_spectrum(k, b_factor=50.0)
    np.testing.assert_allclose(moved / ice_spectrum(k), np.exp(-50 * k**2 / 2), rtol=1e-12)  # power, not amplitude


def test_spectrum_in_jax():
    jax = pytest.importorskip("jax")
    k = np.linspace(0, 1, 21).astype(np.float32)
    both = jax.jit(lambda k: (ice_spectrum(k), jax.grad(lambda k: ice_spectrum(k).sum())(k)))
    values, slope = both(jax.numpy.asarray(k))
    np.testing.assert_allclose(values, ice_spectrum(k.astype(np.float64)), rtol=1e-4)
    assert ice_spectrum(k).dtype == np.float32 and ice_spectrum(k.astype(np.float64)).dtype == np.float64
    assert np.isfinite(np.asarray(slope)).all()


# --- slabs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thickness", [3.0, 10.0, 40.0])
def test_covariances_are_their_integrals(thickness):
    k = np.array([0.0, 0.05, 0.27, 0.6])
    values = slab_covariance(k, thickness, 2)
    for lag, frequency in itertools.product(range(3), range(len(k))):
        expected = reference.slab_covariance(k[frequency], thickness, lag, ice_spectrum, steps=40_000)
        # table of S3 in steps of 0.001 1/A, read linearly
        assert values[lag, frequency] == pytest.approx(expected, abs=2e-4 * values[0, frequency])
    np.testing.assert_allclose(slab_spectrum(k, thickness), values[0], rtol=1e-9)


def test_two_slabs_are_one_of_twice_the_thickness():
    one = slab_covariance(K, 10.0, 1)
    # sums over kz of a spectrum whose table is read linearly: kinks, which a sum takes to 1e-5
    np.testing.assert_allclose(slab_spectrum(K, 20.0), 2 * (one[0] + one[1]), rtol=1e-4)
    assert np.abs(slab_spectrum(K, 20.0) / (2 * (one[0] - one[1])) - 1).max() > 0.1  # the sign of the covariance


def test_thick_slabs_scale_with_their_thickness():
    """Much thicker than the ice is correlated: t S3(k), but for the surfaces where S3 is small."""
    thick = slab_spectrum(K[4:], 2000.0)
    np.testing.assert_allclose(thick, 2000.0 * ice_spectrum(K[4:]), rtol=0.05)
    ratio = slab_spectrum(K, 1000.0).sum() / slab_spectrum(K, 500.0).sum()
    assert ratio == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize("thickness", [2.0, 5.0, 10.0, 20.0, 100.0])
def test_moving_average_has_the_covariances(thickness):
    field = IceField((8, 8), 1.0, thickness)
    weights = moving_average(field)
    lags = len(weights) + 3
    k = np.arange(weights.shape[1]) * RADIAL_STEP
    expected = slab_covariance(k, thickness, lags)
    made = [(weights[m:] * weights[: len(weights) - m]).sum(axis=0) for m in range(len(weights))]
    made = np.array(made + [np.zeros_like(k)] * (lags + 1 - len(weights)))
    np.testing.assert_allclose(made[0], expected[0], rtol=1e-3)  # the spectrum of each slab
    # what a tolerance of 1e-4 of the variance leaves out of a covariance is up to its root, 1e-2 of the variance
    assert (np.abs(made - expected) / expected[0]).max() < 1e-2
    assert len(weights) <= {2.0: 12, 5.0: 6, 10.0: 4, 20.0: 3, 100.0: 2}[thickness]


def test_tighter_tolerances_take_more_terms():
    loose, tight = (IceField((8, 8), 1.0, 5.0, tolerance=t) for t in (1e-2, 1e-6))
    assert len(moving_average(loose)) < len(moving_average(tight))


# --- fields -----------------------------------------------------------------------------------------------------------


def shells(shape: tuple[int, int], pixel_size: float, width: float) -> np.ndarray:
    kx, ky = frequencies(shape, pixel_size, half=False)
    return np.rint(np.hypot(kx, ky) / width).astype(int)


def power_of(slabs: list[np.ndarray], pixel_size: float) -> np.ndarray:
    """Mean spectrum of real images in V^2 A^4, on all frequencies of the image."""
    total = sum(np.abs(np.fft.fft2(slab.astype(np.float64))) ** 2 for slab in slabs)
    return total / len(slabs) / slabs[0].size * pixel_size**2


@pytest.mark.parametrize("shape", [(96, 96), (81, 100), (90, 75)])
def test_slabs_have_the_declared_spectrum(shape):
    """60 slabs: shells of 200 frequencies and more hold 6000 independent terms, a standard error of 1.3 % and less."""
    field = IceField(shape, 1.1, 12.0, seed=4)
    measured = power_of(list(ice_slabs(field, 60)), 1.1)
    kx, ky = frequencies(shape, 1.1, half=False)
    declared = slab_spectrum(np.hypot(kx, ky), 12.0)
    shell = shells(shape, 1.1, 0.05)
    counts, sums = np.bincount(shell.ravel()), np.bincount(shell.ravel(), measured.ravel())
    ratio = sums / np.bincount(shell.ravel(), declared.ravel())
    error = np.sqrt(2 / counts / 60)  # frequencies come in pairs of conjugates; neighbouring slabs hardly count less
    assert np.abs((ratio - 1) / error).max() < 4
    assert (error[counts > 500] < 0.0085).all() and np.abs(ratio[counts > 500] - 1).max() < 0.03
    whole = (measured / declared).mean()
    assert whole == pytest.approx(1, abs=0.02)  # the bar; its standard error is 0.2 %
    # the columns of zero frequency and Nyquist have neither half nor twice the power
    for column in (measured[:, 0] / declared[:, 0], measured[:, shape[1] // 2] / declared[:, shape[1] // 2]):
        assert column[1:].mean() == pytest.approx(1, abs=0.08)  # 90 terms of 60 slabs, in pairs: 2 %


def test_neighbours_are_correlated_as_declared():
    shape, thickness = (96, 96), 5.0
    field = IceField(shape, 1.2, thickness, seed=9)
    stack = np.fft.fft2(ice_slab(shape, 1.2, thickness, 80, seed=9).astype(np.float64))
    kx, ky = frequencies(shape, 1.2, half=False)
    k = np.hypot(kx, ky).ravel()
    nodes = np.linspace(0, k.max(), 400)
    declared = np.array([np.interp(k, nodes, row) for row in slab_covariance(nodes, thickness, 3)])
    for lag in (1, 2, 3):
        measured = (stack[lag:] * stack[:-lag].conj()).real.mean(axis=0).ravel() / stack[0].size * 1.2**2
        for low, high in ((0.0, 0.12), (0.22, 0.3), (0.3, 0.42)):
            band = (k >= low) & (k < high)
            error = np.sqrt(2 / band.sum() / (80 - lag))
            expected = declared[lag, band].mean() / declared[0, band].mean()
            ratio = measured[band].mean() / declared[0, band].mean()
            assert ratio == pytest.approx(expected, abs=4 * error + 0.01)
    low = k < 0.12
    assert declared[1, low].mean() / declared[0, low].mean() < -0.1  # ice is incompressible: neighbours make up for it
    assert field.thickness == thickness


def test_sums_of_slabs_are_thicker_slabs():
    shape = (96, 96)
    stack = ice_slab(shape, 1.0, 5.0, 240, seed=3).astype(np.float64)
    thick = stack.reshape(60, 4, *shape).sum(axis=1)
    measured = power_of(list(thick), 1.0)
    kx, ky = frequencies(shape, 1.0, half=False)
    k = np.hypot(kx, ky)
    for low, high in ((0.02, 0.15), (0.2, 0.3), (0.3, 0.5)):
        band = (k >= low) & (k < high)
        declared = slab_spectrum(k[band], 20.0)
        # standard error below 1 % in each band, and 1 % for what the tolerance leaves out
        assert (measured[band] / declared).mean() == pytest.approx(1, abs=0.05)
    independent = 4 * slab_spectrum(k[(k >= 0.02) & (k < 0.15)], 5.0) / slab_spectrum(k[(k >= 0.02) & (k < 0.15)], 20.0)
    assert independent.mean() > 1.3  # slabs made one by one would have too much power at low frequency


def test_agrees_with_a_field_made_in_three_dimensions():
    """The definition: white noise filtered in 3D on 1 A voxels, cut into slabs of 8 planes and summed."""
    rng = np.random.default_rng(11)
    shape = (64, 48, 48)
    volumes = [reference.random_field(shape, 1.0, ice_spectrum, rng) for _ in range(6)]
    slabs = np.concatenate([reference.projected_slabs(volume, 1.0, 8) for volume in volumes])
    made = ice_slab((48, 48), 1.0, 8.0, 48, seed=5)
    kx, ky = frequencies((48, 48), 1.0, half=False)
    k = np.hypot(kx, ky)
    for low, high in ((0.05, 0.2), (0.2, 0.32), (0.32, 0.5)):
        band = (k >= low) & (k < high)
        brute, fast = (power_of(list(s), 1.0)[band].mean() for s in (slabs, made))
        # 48 slabs each: 1 to 2 %; voxels of 1 A leave out what lies beyond 0.5 1/A along z, where the slab passes little
        assert fast == pytest.approx(brute, rel=0.06)


def test_variance_of_a_pixel():
    field = IceField((128, 128), 1.0, 300.0, seed=1)
    (slab,) = ice_slabs(field, 1)
    kx, ky = frequencies(field.shape, 1.0, half=False)
    variance = slab_spectrum(np.hypot(kx, ky), 300.0).sum() / 128**2  # integral over d^2k
    assert slab.var() == pytest.approx(variance, rel=0.05)  # 8192 independent terms, unequal
    assert abs(slab.mean()) < 0.02 * slab.std()  # little moves the mean: ice is hardly compressible
    assert slab.dtype == np.float32 and slab.shape == (128, 128)


def test_single_slab_has_the_declared_spectrum():
    shape, thickness = (80, 80), 60.0
    layers = [ice_slab(shape, 1.5, thickness, seed=s)[0] for s in range(30)]
    kx, ky = frequencies(shape, 1.5, half=False)
    ratio = power_of(layers, 1.5) / slab_spectrum(np.hypot(kx, ky), thickness)
    assert ratio.mean() == pytest.approx(1, abs=0.02)  # standard error 0.4 %


def test_pixel_averages():
    shape = (64, 64)
    plain, averaged = (ice_slab(shape, 2.0, 20.0, 4, seed=2, pixel_average=a).astype(np.float64) for a in (False, True))
    kx, ky = frequencies(shape, 2.0, half=False)
    window = np.sinc(kx * 2.0) * np.sinc(ky * 2.0)
    expected = np.fft.ifft2(np.fft.fft2(plain) * window).real
    np.testing.assert_allclose(averaged, expected, atol=1e-5 * plain.std())


def test_seeds_and_streams():
    field = IceField((32, 48), 1.5, 10.0, seed=7)
    stack = np.stack(list(ice_slabs(field, 6)))
    np.testing.assert_array_equal(stack, np.stack(list(ice_slabs(field, 6))))  # bit for bit
    np.testing.assert_array_equal(stack[:3], np.stack(list(ice_slabs(field, 3))))  # whatever follows
    np.testing.assert_array_equal(stack, ice_slab((32, 48), 1.5, 10.0, 6, 7))
    other = np.stack(list(ice_slabs(replace(field, seed=8), 6)))
    correlation = (stack * other).mean() / stack.std() / other.std()
    assert abs(correlation) < 4 / np.sqrt(stack.size / 4)
    assert next(ice_slabs(field, 1)).shape == (32, 48)


def test_motion_blurs_the_field():
    still, moved = (ice_slab((64, 64), 1.0, 50.0, seed=1, b_factor=b)[0] for b in (0.0, 80.0))
    assert moved.std() < 0.6 * still.std()
    kx, ky = frequencies((64, 64), 1.0, half=False)
    low = np.hypot(kx, ky) < 0.04
    inner = lambda image: np.abs(np.fft.fft2(image))[low].sum()
    assert inner(moved) == pytest.approx(inner(still), rel=0.1)


def test_slabs_are_made_one_at_a_time():
    slabs = ice_slabs(IceField((16, 16), 2.0, 20.0), 10**9)  # nobody waits for them all
    first, second = next(slabs), next(slabs)
    assert first.shape == second.shape == (16, 16) and np.abs(first - second).max() > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": (0, 5)}, "rows and columns"),
        ({"shape": (5,)}, "rows and columns"),
        ({"pixel_size": 0.0}, "pixel size"),
        ({"pixel_size": 0.05}, "0.2 A or more"),
        ({"thickness": -1.0}, "thickness"),
        ({"thickness": float("nan")}, "thickness"),
        ({"b_factor": -1.0}, "b factor"),
        ({"seed": -1}, "seed"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"material": CARBON}, "ice made of carbon"),
    ],
)
def test_bad_settings_are_refused(changes, words):
    good = {"shape": (8, 8), "pixel_size": 1.0, "thickness": 10.0}
    with pytest.raises(SettingsProblem, match=words):
        IceField(**(good | changes))
    if "thickness" in changes:
        with pytest.raises(SettingsProblem, match=words):
            slab_spectrum(K, changes["thickness"])


def test_no_slab_is_no_ice():
    with pytest.raises(SettingsProblem, match="0 slabs"):
        ice_slab((8, 8), 1.0, 10.0, 0)
    with pytest.raises(SettingsProblem, match="0 slabs"):
        next(ice_slabs(IceField((8, 8), 1.0, 10.0), 0))
