"""From sums to maps: the maximisation step of 3D refinement.

    V_h = N_h / (D_h + lambda_h),    lambda_h(s) = mean D_h(s) (1 - FSC(s)) / (T FSC(s))

with FSC of the two half sets inside a soft sphere as large as the mask of the images: no other mask is used, so that nothing is carried from one
half to the other (Scheres 2012, doi:10.1016/j.jmb.2011.11.010; Scheres & Chen 2012, doi:10.1038/nmeth.2115).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.map_sums import MapSums
from vitreous.fourier.filters import soft_sphere
from vitreous.fourier.interpolation import gridding_correction
from vitreous.fourier.shells import spread_shells
from vitreous.fourier.transforms import forward, inverse
from vitreous.reconstruction.backprojection import Accumulator, inverse_to_box
from vitreous.reconstruction.direct_inversion import LEAST_WEIGHT, MASK_EDGE, Sums, finish_sums, noise_to_signal, solve
from vitreous.reconstruction.fsc import fourier_shell_correlation

if TYPE_CHECKING:
    from jaxtyping import Float

# Half maps are one map up to this resolution (angstrom): they must not turn against each other.
JOINED = 40.0


@dataclass(frozen=True)
class MapModel:
    """`half_maps` [2, k, z, y, x] unmasked and unfiltered; `references` [2, k, z, y, x] regularised and masked; `fsc` [k, s]."""

    half_maps: Float[np.ndarray, "2 k z y x"]
    references: Float[np.ndarray, "2 k z y x"]
    fsc: Float[np.ndarray, "k s"]


def maximised_maps(
    sums: MapSums,
    exact: Float[np.ndarray, "m 3 3"],
    box: int,
    pixel_size: float,
    *,
    classes: int,
    radius: float,
    tau_fudge: float,
    independent: bool,
    mask: Float[np.ndarray, "z y x"] | None = None,
) -> MapModel:
    """Half maps, FSC and the next references of each class.

    `independent` halves have references of their own, joined at low resolution; otherwise both halves share the map of all particles. `mask` is a
    soft solvent mask for the references (the same for both halves), besides the sphere of `radius` pixels.
    """
    sphere = soft_sphere(box, radius, MASK_EDGE, dtype=np.float32)
    half_maps = np.zeros((2, classes, box, box, box), dtype=np.float32)
    references = np.zeros_like(half_maps)
    fsc = np.zeros((classes, box // 2 + 1))
    for number in range(classes):
        first, second = (finished(sums.volumes.get((half, number)), exact, box) for half in (0, 1))
        halves = (first, second)
        half_maps[:, number] = solve(halves).half_maps
        inside = [half_maps[half, number] * sphere for half in (0, 1)]
        fsc[number] = fourier_shell_correlation(inside[0], inside[1], pixel_size).correlation
        ratio = noise_to_signal(fsc[number])
        if independent:
            pair = [regularised(half, ratio / tau_fudge) for half in halves]
            pair = joined_at_low_resolution(pair, pixel_size)
        else:
            # The map of all has half the noise of each half.
            pair = [regularised(halves[0] + halves[1], ratio / (2 * tau_fudge))] * 2
        for half in (0, 1):
            references[half, number] = pair[half] * (sphere if mask is None else sphere * mask)
    return MapModel(half_maps, references, fsc)


def finished(volume: np.ndarray | None, exact: np.ndarray, box: int) -> Sums:
    """Sums with the grid symmetries applied; of nothing where no particle came."""
    accumulator = Accumulator(box)
    if volume is not None:
        accumulator.sums[...] = volume
    return finish_sums(accumulator, exact)


def regularised(sums: Sums, ratio: Float[np.ndarray, " s"]) -> Float[np.ndarray, "z y x"]:
    """N / (D + mean D * ratio) as a map; `ratio` is noise over signal of each shell."""
    from vitreous.reconstruction.insertion_kernel import divide, shell_statistics

    statistics = shell_statistics(
        (sums.values, sums.values), (sums.weights, sums.weights), sums.box, np.zeros((2, sums.box // 2 + 1))
    )
    mean = np.maximum(statistics[:, 1] / np.maximum(statistics[:, 0], 1), np.finfo(np.float32).tiny)
    half = np.empty(sums.values.shape, dtype=np.complex64)
    divide(sums.values, sums.weights, sums.box, mean * np.maximum(ratio, LEAST_WEIGHT), np.ones(len(mean)), half)
    correction = gridding_correction(sums.box, sums.padding, "linear", 3)
    return (inverse_to_box(half, sums.box) / correction).astype(np.float32)


def joined_at_low_resolution(maps: list[np.ndarray], pixel_size: float) -> list[np.ndarray]:
    """Both maps with their mean up to `JOINED`."""
    box = maps[0].shape[-1]
    transforms = [forward(volume, 3) for volume in maps]
    shells = np.arange(box // 2 + 1)
    low = spread_shells((shells <= box * pixel_size / JOINED).astype(np.float32), maps[0].shape)
    mean = (transforms[0] + transforms[1]) / 2
    return [np.asarray(inverse(t + low * (mean - t), maps[0].shape)).astype(np.float32) for t in transforms]


def low_passed(volume: Float[np.ndarray, "z y x"], pixel_size: float, resolution: float) -> Float[np.ndarray, "z y x"]:
    """The map up to a resolution, with a soft edge two shells wide."""
    box = volume.shape[-1]
    shells = np.arange(box // 2 + 1)
    keep = np.clip((box * pixel_size / resolution + 1 - shells) / 2, 0, 1)
    profile = spread_shells((0.5 - 0.5 * np.cos(np.pi * keep)).astype(np.float32), volume.shape)
    return np.asarray(inverse(forward(volume, 3) * profile, volume.shape)).astype(np.float32)
