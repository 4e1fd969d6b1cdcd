"""How far images of a simpler scattering model are from those of multislice, by spatial frequency.

    error(k) = ||I_model - I_multislice|| / ||I_multislice - 1||       norms over a shell of the images' transforms

The mean of the image is left out. An error e as large as that of Fourier terms of right amplitude and wrong phase
stands for the phase `2 asin(e/2)`; 0.1 is 5.7 degrees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.fourier.transforms import fft, radial_frequency
from vitreous.model.slices import PotentialSlices
from vitreous.optics.depth import depth_of_field

if TYPE_CHECKING:
    from jaxtyping import Float

SHELLS = 10
SLABS_PER_DEPTH = 60  # slabs in d^2/lambda
THICKEST_SLAB = 10.0  # angstrom


@dataclass(frozen=True)
class RungError:
    """Errors of one model against multislice: `error` [s] in shells that end at `frequency` [s] (1/angstrom), the last of
    them at the resolution; `overall` that of all shells together.
    """

    frequency: Float[np.ndarray, " s"]
    error: Float[np.ndarray, " s"]
    overall: float

    @property
    def at_resolution(self) -> float:
        return float(self.error[-1])

    @property
    def larger(self) -> float:
        """The larger one of the errors at the resolution and overall: what a model is judged by."""
        return max(self.at_resolution, self.overall)


@dataclass(frozen=True)
class Rung:
    """A model with its image, its errors against multislice, and the seconds that its image takes."""

    name: str
    image: np.ndarray
    errors: RungError
    seconds: float


def rung_error(
    image: Float[np.ndarray, "y x"],
    reference: Float[np.ndarray, "y x"],
    pixel_size: float,
    resolution: float,
    *,
    shells: int = SHELLS,
) -> RungError:
    """Errors of `image` against the image `reference` of multislice, in `shells` of equal width up to 1/resolution.

    A shell in which the reference has nothing has the error NaN.
    """
    difference = fft(np.asarray(image, np.float64) - reference, 2)
    signal = fft(np.asarray(reference, np.float64), 2)
    k = radial_frequency(image.shape, pixel_size, half=False)
    edges = np.linspace(0, 1 / resolution, shells + 1)
    shell = np.searchsorted(edges, k, side="left") - 1  # -1 holds k = 0
    inside = (shell >= 0) & (shell < shells)
    wrong, right = (
        np.bincount(shell[inside], np.abs(values[inside]) ** 2, minlength=shells) for values in (difference, signal)
    )
    ratio = np.divide(wrong, right, out=np.full(shells, np.nan), where=right > 0)
    return RungError(edges[1:], np.sqrt(ratio), math.sqrt(wrong.sum() / right.sum()))


def equivalent_phase(error: float) -> float:
    """Phase in radian whose neglect makes this relative error, `2 asin(error/2)`; pi from an error of 2 upwards."""
    return 2 * math.asin(min(error / 2, 1.0))


def flatness_error(depths_of_field: float) -> float:
    """Error of any model without depth, for a weak specimen of uncorrelated layers: `sqrt(2 (1 - sin(A)/A))`.

    `A = pi t / (2 d^2/lambda)`, half of the phase between the faces of a specimen of t = `depths_of_field` d^2/lambda:
    the mean of `|exp(i a) - 1|^2` over phases a from -A to A. A tenth of the contrast is wrong at t = 0.11 d^2/lambda.

    >>> round(flatness_error(0.11), 3)
    0.1
    """
    half = math.pi / 2 * depths_of_field
    return math.sqrt(2 * (1 - math.sin(half) / half))


def first_sufficient(errors: Mapping[str, RungError], tolerance: float) -> str | None:
    """The first of these models whose errors are both within the tolerance; None if none is."""
    return next((name for name, error in errors.items() if error.larger <= tolerance), None)


def slab_count(thickness: float, resolution: float, voltage: float) -> int:
    """Slabs that a specimen of `thickness` angstrom is cut into: even, none thicker than a 60th of d^2/lambda or 10 A.

    An atom anywhere in such a slab is then seen at a wrong height by less than a 120th of d^2/lambda, 1.5 degrees.
    """
    thickest = min(THICKEST_SLAB, depth_of_field(resolution, voltage) / SLABS_PER_DEPTH)
    return 2 * math.ceil(thickness / (2 * thickest))


def merged(slices: PotentialSlices) -> PotentialSlices:
    """An even number of slabs as half as many, twice as thick: what multislice makes of these tells its own error."""
    count, *shape = slices.projected.shape
    pairs = slices.projected.reshape(count // 2, 2, *shape).sum(axis=1)
    return PotentialSlices(pairs, slices.pixel_size, 2 * slices.thickness, slices.height + slices.thickness / 2)
