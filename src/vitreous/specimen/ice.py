"""Amorphous ice as a Gaussian random field: fluctuations of the potential about its mean, with a declared spectrum.

    S3(k) = n [F^2 S(k) + (<f^2> - F^2)] exp(-B k^2/2)                                               [V^2 A^3]

n molecules in a cubic angstrom, F(k) = <f> the transform of a molecule's potential averaged over its orientations, <f^2>
the mean square of that transform, S(k) the structure factor of the molecules' centres (`ice_structure.py`: what of it is
measured and what computed). Orientations are taken as independent of each other and of the centres. B is the blur of
molecules that move during the exposure: McMullan et al. 2015 (arXiv:1504.00947) find a mean square displacement of
1.1 A^2 for each electron in a square angstrom at 300 kV. The field is zero in the mean: V0 times the thickness is the
caller's to add.

Slabs. The projection of slab j of thickness t has, at the frequency k across the beam, the covariance with slab j + m

    C_m(k) = t^2 integral S3(sqrt(k^2 + kz^2)) sinc^2(kz t) cos(2 pi kz t m) dkz                       [V^2 A^4]

so C_0 is the spectrum of one slab, about t S3(k) when t is much larger than the 20 A over which the ice is correlated, and
neighbouring slabs are correlated. A stack of slabs is made as a moving average of white noise w along z, one frequency
at a time,

    A_j(k) = sum_m h_m(k) w_(j-m)(k),        |sum_m h_m exp(-2 pi i u m)|^2 = sum_m C_m exp(-2 pi i u m)

where h is the factor of minimum phase, which is the one that dies out fastest. It is cut after L terms, as few as leave
out less than `tolerance` of the variance at each frequency, and scaled so that C_0 stays exact. So every slab has the
declared spectrum, neighbours have the right correlation, and memory holds L + 2 slabs whatever their number.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import float_dtype, namespace
from vitreous.errors import SettingsProblem
from vitreous.fourier.transforms import frequencies
from vitreous.specimen.ice_structure import DISTANCE, NEIGHBOURS, SPREAD, TABLE, TABLE_STEP
from vitreous.specimen.materials import ICE, Material, number_density
from vitreous.specimen.scattering_factors import LARGEST_K, potential_transform

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX

OH_BOND, HH_DISTANCE = 0.9572, 1.5139  # angstrom: a molecule of water in the gas, 104.5 degrees
TOLERANCE = 1e-4  # of the variance, left out where the moving average is cut
CORRELATED = 512.0  # angstrom of depth over which correlations are computed: they are gone long before
FEWEST_WAVES = 24  # in a period of the moving average's spectrum, where slabs are thicker than that
RADIAL_STEP = 0.0025  # 1/angstrom between frequencies at which slab spectra are computed
ENTRIES = 1 << 16  # of the table in which each frequency of an image looks them up
ROWS = 1 << 17  # frequencies worked on at a time: they stay in the cache


def structure_factor(k: Float[Array, "*grid"]) -> Float[Array, "*grid"]:
    """S(k) of the centres of the molecules of low-density amorphous ice, k in 1/angstrom; 1 far out.

    >>> structure_factor(np.array([0.0, 0.27, 0.37, 0.49])).round(1)  # compressibility, first ring, valley, second ring
    array([0. , 1.3, 0.6, 1.9])
    """
    xp = namespace(k)
    dtype = float_dtype(k)
    nodes, values = (xp.asarray(column, dtype=dtype) for column in (np.arange(len(TABLE)) * TABLE_STEP, TABLE))
    neighbours = NEIGHBOURS * xp.sinc(2 * DISTANCE * k) * xp.exp(-2 * (math.pi * SPREAD) ** 2 * (k * k))
    inside = k < TABLE_STEP * (len(TABLE) - 1)
    return xp.asarray(xp.where(inside, xp.interp(k, nodes, values), 1 + neighbours), dtype=dtype)


def ice_spectrum(k: Float[Array, "*grid"], *, material: Material = ICE, b_factor: float = 0.0) -> Float[Array, "*grid"]:
    """S3(k): power spectrum of the potential of ice in V^2 A^3, at k in 1/angstrom (up to 4).

    `material` gives the density (water molecules only); `b_factor` (A^2) blurs the molecules. Divided by a volume it is
    the mean square of a Fourier coefficient of the potential in that volume.
    """
    _check_water(material)
    xp = namespace(k)
    oxygen, hydrogen = potential_transform("O", k), potential_transform("H", k)
    bond, pair = xp.sinc(2 * OH_BOND * k), xp.sinc(2 * HH_DISTANCE * k)
    mean = oxygen + 2 * hydrogen * bond
    square = oxygen**2 + 4 * oxygen * hydrogen * bond + 2 * hydrogen**2 * (1 + pair)
    molecules = mean**2 * structure_factor(k) + (square - mean**2)
    return number_density(material) * molecules * xp.exp(-0.5 * b_factor * (k * k))


def slab_spectrum(
    k: Float[np.ndarray, "*grid"], thickness: float, *, material: Material = ICE, b_factor: float = 0.0
) -> Float[np.ndarray, "*grid"]:
    """C_0(k): spectrum of the projected potential of a slab in V^2 A^4, at k across the beam in 1/angstrom.

    The variance of a pixel is its integral over the frequencies of the image, d^2k.
    """
    _check(thickness=thickness, b_factor=b_factor)
    distinct, which = np.unique(np.asarray(k, dtype=np.float64), return_inverse=True)
    spectra = _density_of_stack(distinct, thickness, _whole_waves(thickness, 1), material, b_factor)
    return spectra.mean(axis=1)[which].reshape(np.shape(k))


def slab_covariance(
    k: Float[np.ndarray, " k"], thickness: float, lags: int, *, material: Material = ICE, b_factor: float = 0.0
) -> Float[np.ndarray, "m k"]:
    """C_m(k) for m = 0 ... `lags`: covariance in V^2 A^4 of the projections of slabs that are m slabs apart."""
    _check(thickness=thickness, b_factor=b_factor)
    waves = _whole_waves(thickness, 2 * lags + 2)
    spectra = _density_of_stack(np.asarray(k, dtype=np.float64), thickness, waves, material, b_factor)
    return np.fft.ifft(spectra, axis=1).real[:, : lags + 1].T


@dataclass(frozen=True)
class IceField:
    """A stack of slabs of ice, to be made: `shape` = (y, x) pixels of `pixel_size` angstrom, slabs of `thickness`
    angstrom. `material` gives the density; `b_factor` (A^2) the blur of moving molecules.

    `pixel_average`: pixels are averages over their area, as `voxels.py` makes those of atoms; otherwise they sample the
    field without what lies beyond Nyquist, as `potential.py` does.
    """

    shape: tuple[int, int]
    pixel_size: float
    thickness: float
    seed: int = 0
    material: Material = ICE
    b_factor: float = 0.0
    pixel_average: bool = False
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 1:
            raise SettingsProblem(f"ice over {tuple(self.shape)} pixels", "rows and columns, at least one each")
        _check(pixel_size=self.pixel_size, thickness=self.thickness, b_factor=self.b_factor)
        _check_water(self.material)
        if self.corner > LARGEST_K:
            raise SettingsProblem(f"ice in pixels of {self.pixel_size} A", "pixels of 0.2 A or more")
        if not 0 < self.tolerance < 1:
            raise SettingsProblem(f"a tolerance of {self.tolerance}", "a small part of the variance, such as 1e-3")
        if self.seed < 0:
            raise SettingsProblem(f"the seed {self.seed}", "0 or more")

    @property
    def corner(self) -> float:
        """The largest frequency of the image, in 1/angstrom."""
        return math.sqrt(0.5) / self.pixel_size


def ice_slabs(field: IceField, count: int, *, workers: int | None = None) -> Iterator[Float[np.ndarray, "y x"]]:
    """The projections of `count` successive slabs in V A, float32, one at a time; their mean is 0.

    Slab j depends on the field and on j, not on `count`. Successive slabs are parts of one ice, so that sums of slabs
    are as thicker slabs, to the tolerance. The field is periodic across the beam. `workers` are threads of the FFT.
    """
    _check_count(count)
    weights = moving_average(field) if count > 1 else _single_slab(field)
    lookup = _lookup(field, weights)
    noise: deque[np.ndarray] = deque(maxlen=len(weights))
    for before in range(len(weights) - 1, 0, -1):
        noise.appendleft(_noise(field, -before))
    for slab in range(count):
        noise.appendleft(_noise(field, slab))
        yield _filtered(field, lookup, noise, workers)


def ice_slab(
    shape: tuple[int, int],
    pixel_size: float,
    thickness: float,
    count: int = 1,
    seed: int = 0,
    *,
    workers: int | None = None,
    **options: Any,
) -> Float[np.ndarray, "s y x"]:
    """`count` slabs of `thickness` angstrom each in one array, V A, float32: all of `ice_slabs` at once.

    `options` are those of `IceField`. The ice of a whole specimen as one projection is a single slab.

    >>> layer = ice_slab((64, 64), 2.0, 300.0)  # a film of 300 A
    >>> layer.shape, bool(100 < layer.std() < 125)
    ((1, 64, 64), True)
    """
    field = IceField((shape[0], shape[1]), pixel_size, thickness, seed, **options)
    _check_count(count)
    stack = np.empty((count, *field.shape), dtype=np.float32)
    for target, slab in zip(stack, ice_slabs(field, count, workers=workers)):
        target[:] = slab
    return stack


def moving_average(field: IceField) -> Float[np.ndarray, "m k"]:
    """h_m(k) in V A^2, m = 0 ... L, at the frequencies `0, RADIAL_STEP, ...` up to the corner of the image."""
    k = _radial_frequencies(field)
    waves = _whole_waves(field.thickness, FEWEST_WAVES)
    spectra = _density_of_stack(k, field.thickness, waves, field.material, field.b_factor)
    cepstrum = np.fft.ifft(np.log(spectra), axis=1).real
    causal = np.zeros_like(cepstrum)  # the half that makes a sequence start at 0
    causal[:, 0], causal[:, waves // 2] = cepstrum[:, 0] / 2, cepstrum[:, waves // 2] / 2
    causal[:, 1 : waves // 2] = cepstrum[:, 1 : waves // 2]
    response = np.fft.ifft(np.exp(np.fft.fft(causal, axis=1)), axis=1).real.T
    variance = spectra.mean(axis=1)
    left_out = 1 - np.cumsum(response**2, axis=0) / variance
    order = int(np.argmax((left_out <= field.tolerance).all(axis=1)))
    kept = response[: order + 1]
    return kept * np.sqrt(variance / (kept**2).sum(axis=0))


def _single_slab(field: IceField) -> Float[np.ndarray, "1 k"]:
    k = _radial_frequencies(field)
    return np.sqrt(slab_spectrum(k, field.thickness, material=field.material, b_factor=field.b_factor))[None]


def _radial_frequencies(field: IceField) -> np.ndarray:
    return np.arange(math.ceil(field.corner / RADIAL_STEP) + 2) * RADIAL_STEP


def _whole_waves(thickness: float, least: int) -> int:
    """How many slabs the period along z has for which sums over kz are integrals: an even number."""
    return max(least, 2 * math.ceil((thickness + CORRELATED) / (2 * thickness)))


def _density_of_stack(
    k: np.ndarray, thickness: float, waves: int, material: Material, b_factor: float
) -> Float[np.ndarray, "k q"]:
    """`sum_m C_m exp(-2 pi i m q / waves)` = `t sum_a S3(sqrt(k^2 + kz^2)) sinc^2(kz t)` with kz t = q/waves + a."""
    overtones = math.ceil(LARGEST_K * thickness)
    turns = np.arange(-overtones * waves, overtones * waves) / waves  # kz t
    fine = np.arange(0, LARGEST_K + TABLE_STEP, TABLE_STEP / 10)
    declared = ice_spectrum(fine, material=material, b_factor=b_factor)
    window = np.sinc(turns) ** 2 * thickness
    spectra = np.empty((len(k), waves))
    for row, frequency in zip(spectra, k):
        whole = np.hypot(frequency, turns / thickness)
        row[:] = (np.interp(whole, fine, declared, right=0.0) * window).reshape(-1, waves).sum(axis=0)
    return spectra


def _lookup(field: IceField, weights: np.ndarray) -> Float[np.ndarray, "m entries"]:
    """The weights at ENTRIES frequencies from 0 to the corner, for transforms of white noise of variance 1 a pixel."""
    k = np.linspace(0, field.corner, ENTRIES)
    nodes = _radial_frequencies(field)
    return np.stack([np.interp(k, nodes, row) for row in weights]).astype(np.float32) / np.float32(field.pixel_size)


def _noise(field: IceField, slab: int) -> np.ndarray:
    """Half transform of white noise of variance 1 a pixel: a stream of its own for each slab, by the seed."""
    rows, columns = field.shape
    key = np.random.SeedSequence(field.seed, spawn_key=(_STREAM,)).generate_state(2, np.uint64)
    stream = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, slab + _FIRST, 0]))
    half = np.empty((rows, columns // 2 + 1, 2), dtype=np.float32)
    stream.standard_normal(dtype=np.float32, out=half)
    half *= np.float32(math.sqrt(rows * columns / 2))
    transform = half.view(np.complex64)[..., 0]
    # An inverse transform takes the Hermitian part of these columns, which has half their variance.
    transform[:, 0] *= np.float32(math.sqrt(2))
    if columns % 2 == 0:
        transform[:, -1] *= np.float32(math.sqrt(2))
    return transform


_STREAM = 0x1CE  # what the stream is for; part of what a seed means
_FIRST = 1 << 32  # slab 0: those before it, of which only the noise is needed, come before


def _filtered(field: IceField, lookup: np.ndarray, noise: Sequence[np.ndarray], workers: int | None) -> np.ndarray:
    """The sum of the noises, each times its weight at each frequency, back in real space."""
    from scipy import fft as scipy_fft

    kx, ky = frequencies(field.shape, field.pixel_size)
    total = np.empty_like(noise[0])
    step = max(1, ROWS // total.shape[1])
    scale = (ENTRIES - 1) / field.corner
    for start in range(0, len(total), step):
        rows = slice(start, start + step)
        entry = np.rint(np.sqrt(kx**2 + ky[rows] ** 2) * scale).astype(np.int32)
        block = lookup[0][entry] * noise[0][rows]
        for weight, part in zip(lookup[1:], list(noise)[1:]):
            block += weight[entry] * part[rows]
        if field.pixel_average:
            block *= (np.sinc(kx * field.pixel_size) * np.sinc(ky[rows] * field.pixel_size)).astype(np.float32)
        total[rows] = block
    image: Any = scipy_fft.irfft2(total, s=field.shape, workers=workers, overwrite_x=True)
    return image


def _check(**lengths: float) -> None:
    for name, value in lengths.items():
        if not (math.isfinite(value) and (value > 0 or (value == 0 and name == "b_factor"))):
            raise SettingsProblem(f"ice with {name.replace('_', ' ')} {value}", "a positive number")


def _check_count(count: int) -> None:
    if count < 1:
        raise SettingsProblem(f"{count} slabs of ice", "at least one")


def _check_water(material: Material) -> None:
    composition = {symbol.upper(): number for symbol, number in material.composition.items()}
    if composition != {"H": 2, "O": 1}:
        raise SettingsProblem(f"ice made of {material.name}", "water, H2O, of any density")
