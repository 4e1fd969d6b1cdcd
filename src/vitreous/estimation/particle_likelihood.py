"""The log-likelihood of each particle as a function of its CTF, with its derivatives, and its scan over defocus.

For Gaussian noise of variance sigma^2 = mean |noise|^2 in a transform, and the reference found with gain g,

    L = sum_k D C - E C^2 / 2,    D = (2 g / sigma^2) Re(conj(A) X),    E = (2 g^2 / sigma^2) |A|^2

but for a constant, over the independent pixels k. C = S sin(gamma) is the CTF. gamma is linear in the defocus and
the two components of astigmatism, `d gamma / d theta_j = b_j(k)`, so that all derivatives of L are sums of products of
D, E and the sine and cosine of gamma with these polynomials: exact, and as cheap as L itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.estimation.agreement_survey import CtfRows, ShellAgreement, ctf_values
from vitreous.estimation.ctf_estimate import Lens
from vitreous.estimation.reference_images import ChunkInput, GroupOptics, ReferenceImages
from vitreous.optics.electrons import wavelength

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX

# Rows that are evaluated in one call: one compiled program for micrographs of every size.
ROWS = 32
# Turn in radian of the fastest fringe of the likelihood, 2 gamma at the finest pixel, between two points of a scan.
SCAN_TURN = 1.0
PRODUCTS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


@dataclass(frozen=True)
class Slopes:
    """Of each particle: `value` [n] of L, `gradient` [n, 3] by (defocus, astigmatism along, across) in 1/angstrom, `exact`
    [n, 3, 3] = -d2L, and `fisher` [n, 3, 3], what `exact` is on average over the noise. Double precision.
    """

    value: Float[np.ndarray, " n"]
    gradient: Float[np.ndarray, "n 3"]
    exact: Float[np.ndarray, "n 3 3"]
    fisher: Float[np.ndarray, "n 3 3"]


class ParticleLikelihood:
    """L of the particles of one unit (a micrograph, or a piece of a file), all of one optics group.

    `data`, `power` [n, p]: D and E.
    """

    def __init__(
        self,
        data: Float[np.ndarray, "n p"],
        power: Float[np.ndarray, "n p"],
        start: CtfRows,
        optics: GroupOptics,
        lens: Lens,
    ):
        self.start, self.optics, self.lens = start, optics, lens
        self._blocks = list(zip(_in_blocks(data), _in_blocks(power)))

    def __len__(self) -> int:
        return len(self.start)

    def at(self, change: Float[np.ndarray, "n 3"]) -> Slopes:
        """L and its derivatives where defocus and astigmatism are those of `start` plus `change` (angstrom)."""
        parameters = CtfRows(self.start.phase + change, self.start.fixed)
        pieces = []
        for number, block in enumerate(self._blocks):
            here = parameters.rows(slice(number * ROWS, (number + 1) * ROWS))
            values = _compiled_slopes()(*block, self.optics.places, here.filled(ROWS).as_float32(), self.lens)
            pieces.append([np.asarray(value)[: len(here)].astype(np.float64) for value in values])
        value, gradient, exact, fisher = (np.concatenate(parts) for parts in zip(*pieces))
        return Slopes(value, gradient, _symmetric(exact), _symmetric(fisher))

    def scan(self, offsets: Float[np.ndarray, " g"]) -> Float[np.ndarray, "n g"]:
        """L of every particle at every change of defocus `offsets` (angstrom): four matrix products."""
        pieces = []
        grid = np.asarray(offsets, dtype=np.float32)
        for number, block in enumerate(self._blocks):
            here = self.start.rows(slice(number * ROWS, (number + 1) * ROWS))
            values = _compiled_scan()(*block, self.optics.places, here.filled(ROWS).as_float32(), grid, self.lens)
            pieces.append(np.asarray(values)[: len(here)].astype(np.float64))
        return np.concatenate(pieces)


def _in_blocks(values: Float[np.ndarray, "n p"]) -> list[Any]:
    """Blocks of `ROWS` rows on the device, the last one filled with rows of 0."""
    import jax.numpy as jnp

    blocks = [values[first : first + ROWS] for first in range(0, len(values), ROWS)]
    return [jnp.asarray(np.pad(block, ((0, ROWS - len(block)), (0, 0)))) for block in blocks]


def scan_offsets(finest: float, lens: Lens, reach: float) -> Float[np.ndarray, " g"]:
    """Changes of defocus from -reach to +reach, 0 among them, close enough to know L between them too (`finer`).

    `finest` is the highest frequency compared, in 1/angstrom: there gamma turns by half `SCAN_TURN` from one to the next.
    """
    step = SCAN_TURN / (2 * np.pi * wavelength(lens.voltage) * finest**2)
    half = max(8, int(np.ceil(reach / step)))
    return np.linspace(-reach, reach, 2 * half + 1)


def finer(
    table: Float[np.ndarray, "n g"], offsets: Float[np.ndarray, " g"], step: float
) -> tuple[Float[np.ndarray, "n f"], Float[np.ndarray, " f"]]:
    """A scan between its points, by cubic splines, and its offsets: at most `step` angstrom apart, 0 among them."""
    from scipy.interpolate import CubicSpline

    half = max(len(offsets) // 2, int(np.ceil(offsets[-1] / step)))
    fine = np.linspace(offsets[0], offsets[-1], 2 * half + 1)
    return CubicSpline(offsets, table, axis=1)(fine), fine


def likelihood_of_chunk(
    images: ReferenceImages, chunk: ChunkInput, optics: GroupOptics, agreement: ShellAgreement, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """(D, E) [count, p] of the first `count` images of a chunk."""
    gain = agreement.gain[images.shells].astype(np.float32)
    information = agreement.information[images.shells].astype(np.float32)
    data, power = _compiled_terms()(*images.transforms_and_slices(chunk, optics.undo), gain, information)
    return np.asarray(data)[:count], np.asarray(power)[:count]


@lru_cache(maxsize=1)
def _compiled_terms() -> Any:
    import jax

    return jax.jit(_terms)


def _terms(recorded: Any, slices: Any, gain: Any, information: Any) -> tuple[Any, Any]:
    data = information * (slices.real * recorded.real + slices.imag * recorded.imag)
    return data, information * gain * (slices.real**2 + slices.imag**2)


@lru_cache(maxsize=1)
def _compiled_slopes() -> Any:
    import jax

    return jax.jit(_slopes, static_argnums=4)


def _slopes(data: Any, power: Any, places: Any, parameters: Any, lens: Lens) -> tuple[Any, Any, Any, Any]:
    """L, gradient [n, 3], and the six different elements of -d2L and of its mean."""
    import jax.numpy as jnp

    basis = _basis(places, lens)
    products = jnp.stack([basis[i] * basis[j] for i, j in PRODUCTS])
    sine, cosine = (ctf_values(lens, places, *parameters, turned=turned) for turned in (False, True))
    value = jnp.sum(data * sine - power * sine * sine / 2, axis=1)
    first = (data - power * sine) * cosine
    second = data * sine + power * (cosine * cosine - sine * sine)

    def against(values: Any, polynomials: Any) -> Any:
        return jnp.matmul(values, polynomials.T, precision="highest")

    return value, against(first, basis), against(second, products), against(power * cosine * cosine, products)


@lru_cache(maxsize=1)
def _compiled_scan() -> Any:
    import jax

    return jax.jit(_scan, static_argnums=5)


def _scan(data: Any, power: Any, places: Any, parameters: Any, offsets: Any, lens: Lens) -> Any:
    """`sin(gamma + phi)` and its square, written as sums of (particle) x (pixel) times (pixel) x (offset)."""
    import jax.numpy as jnp

    sine, cosine = (ctf_values(lens, places, *parameters, turned=turned) for turned in (False, True))
    phi = _basis(places, lens)[0][:, None] * offsets
    terms = (
        (data * sine, jnp.cos(phi)),
        (data * cosine, jnp.sin(phi)),
        (power * (cosine * cosine - sine * sine) / 4, jnp.cos(2 * phi)),
        (power * sine * cosine / -2, jnp.sin(2 * phi)),
    )
    constant = -jnp.sum(power * (sine * sine + cosine * cosine), axis=1) / 4
    return constant[:, None] + sum(jnp.matmul(left, right, precision="highest") for left, right in terms)


def _basis(places: Any, lens: Lens) -> Any:
    """d gamma / d (defocus, astigmatism along, across) [3, p], radian per angstrom."""
    import jax.numpy as jnp

    kx, ky, _ = places
    return (np.pi * wavelength(lens.voltage)) * jnp.stack([kx * kx + ky * ky, kx * kx - ky * ky, 2 * kx * ky])


def _symmetric(elements: Float[np.ndarray, "n 6"]) -> Float[np.ndarray, "n 3 3"]:
    matrix = np.empty((len(elements), 3, 3))
    for number, (i, j) in enumerate(PRODUCTS):
        matrix[:, i, j] = matrix[:, j, i] = elements[:, number]
    return matrix
