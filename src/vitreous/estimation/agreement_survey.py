"""How images and reference agree, pixel by pixel of Fourier space: sums over all particles of an optics group.

    cross(k) = sum C conj(A) X,     power(k) = sum C^2 |A|^2,     recorded(k) = sum |X|^2

with X, A of `reference_images` and the CTF C as known so far. From these follow, for each shell, the gain with which
the reference is found in the images, `g = Re sum cross / sum power`, and the variance of the noise,
`sigma^2 = mean |X - g C A|^2`. The gain takes up scale, B factor and sharpening, and falls to 0 where the reference is noise:
it is the filter that makes the best use of the reference. The phase of `cross` is the odd phase that is left, to which
`beam_tilt` fits.

For the magnification the derivatives of A by the four elements of M are carried along, by JAX through the projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.estimation.ctf_estimate import Lens
from vitreous.estimation.reference_images import ChunkInput, GroupOptics, ReferenceImages
from vitreous.optics.ctf import ctf

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

    Array = Any  # NumPy or JAX

# A shell in which the reference is not found above the noise by this many standard deviations says nothing.
LEAST_DEVIATIONS = 2.0


@dataclass(frozen=True)
class AgreementSums:
    """Sums over `count` particles, all [p]; with derivatives [4, p] and [4, 4, p] by the elements (xx, xy, yx, yy) of M.

    `slope_cross = sum C Re(conj(A_j) X)`, `slope_power = sum C^2 Re(conj(A_j) A)`, `slope_slope = sum C^2 Re(conj(A_j) A_l)`.
    """

    count: int
    cross: Complex[np.ndarray, " p"]
    power: Float[np.ndarray, " p"]
    recorded: Float[np.ndarray, " p"]
    slope_cross: Float[np.ndarray, "4 p"] | None = None
    slope_power: Float[np.ndarray, "4 p"] | None = None
    slope_slope: Float[np.ndarray, "4 4 p"] | None = None

    def __add__(self, other: AgreementSums) -> AgreementSums:
        def total(name: str) -> Any:
            mine, theirs = getattr(self, name), getattr(other, name)
            return None if mine is None else mine + theirs

        return AgreementSums(**{name: total(name) for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class ShellAgreement:
    """Per shell [s]: `gain`, `noise` (mean |noise|^2 of a transform), `correlation` of images and reference, how many
    standard deviations of noise the agreement is worth, and how many Fourier pixels of images went into it.
    """

    gain: Float[np.ndarray, " s"]
    noise: Float[np.ndarray, " s"]
    correlation: Float[np.ndarray, " s"]
    deviations: Float[np.ndarray, " s"]
    samples: Float[np.ndarray, " s"]
    total_deviations: float

    @property
    def log_likelihood(self) -> float:
        """Of all images, but for a constant, with gain and noise at their best: `-sum_s samples log noise`."""
        return -float(self.samples @ np.log(self.noise))

    @property
    def information(self) -> Float[np.ndarray, " s"]:
        """`2 g / sigma^2`: what a sum of cross products is multiplied by to become a log-likelihood."""
        return 2 * self.gain / self.noise


def shell_agreement(sums: AgreementSums, shells: np.ndarray, odd_phase_left: Any = 0.0) -> ShellAgreement:
    """Gain and noise of each shell. `odd_phase_left` [p] in radian is taken out of the cross products first."""
    per_shell = np.bincount(shells).astype(float) * sums.count
    cross = np.bincount(shells, (sums.cross * np.exp(-1j * odd_phase_left)).real)
    power, recorded = np.bincount(shells, sums.power), np.bincount(shells, sums.recorded)
    tiny = np.finfo(np.float64).tiny
    gain = cross / np.maximum(power, tiny)
    noise = np.maximum((recorded - gain * cross) / per_shell, tiny)
    deviations = cross / np.sqrt(np.maximum(power * noise / 2, tiny))
    correlation = cross / np.sqrt(np.maximum(power * recorded, tiny))
    total = cross.sum() / np.sqrt(np.maximum((power * noise).sum() / 2, tiny))
    kept = np.where(deviations > LEAST_DEVIATIONS, gain, 0.0)
    return ShellAgreement(kept, noise, correlation, deviations, per_shell, float(total))


def survey_chunk(
    images: ReferenceImages,
    chunk: ChunkInput,
    optics: GroupOptics,
    parameters: CtfRows,
    lens: Lens,
    *,
    magnification: bool,
) -> AgreementSums:
    """The sums of one chunk, in double precision."""
    filled = parameters.filled(images.images_per_chunk)
    compared = images.transforms_and_slices(chunk, optics.undo)
    slopes = images.slopes(chunk) if magnification else None
    values = _compiled_survey()(*compared, slopes, optics.places, filled.as_float32(), lens)
    cross, *rest = (np.asarray(value) for value in values)
    return AgreementSums(len(parameters), cross.astype(np.complex128), *(value.astype(np.float64) for value in rest))


@dataclass(frozen=True)
class CtfRows:
    """The CTFs of n particles: `phase` [n, 3] is defocus and Cartesian astigmatism in angstrom, `fixed` [n, 3] phase shift
    in radian, B factor and scale.
    """

    phase: Float[np.ndarray, "n 3"]
    fixed: Float[np.ndarray, "n 3"]

    def __len__(self) -> int:
        return len(self.phase)

    def filled(self, count: int) -> CtfRows:
        """With rows of scale 0 up to `count`: their CTF is 0 and adds nothing."""
        missing = ((0, count - len(self)), (0, 0))
        return CtfRows(np.pad(self.phase, missing), np.pad(self.fixed, missing))

    def rows(self, selection: np.ndarray | slice) -> CtfRows:
        return CtfRows(self.phase[selection], self.fixed[selection])

    def as_float32(self) -> tuple[np.ndarray, np.ndarray]:
        return self.phase.astype(np.float32), self.fixed.astype(np.float32)


def ctf_values(lens: Lens, places: Any, phase: Any, fixed: Any, *, turned: bool = False) -> Float[Array, "n p"]:
    """CTFs [n, p] under JAX at the true frequencies and even phase `places`; `turned` by a quarter: cosines for sines."""
    kx, ky, even = places
    return ctf(
        kx,
        ky,
        phase[:, 0],
        phase[:, 1:],
        voltage=lens.voltage,
        spherical_aberration=lens.spherical_aberration,
        amplitude_contrast=lens.amplitude_contrast,
        phase_shift=fixed[:, 0] + (np.pi / 2 if turned else 0.0),
        b_factor=fixed[:, 1],
        scale=fixed[:, 2],
        even_phase=even,
    )


@lru_cache(maxsize=1)
def _compiled_survey() -> Any:
    import jax

    return jax.jit(_survey, static_argnums=5)


def _survey(recorded: Any, slices: Any, slopes: Any, places: Any, parameters: Any, lens: Lens) -> tuple[Any, ...]:
    """The sums over one chunk, under JAX; `slopes` may be None."""
    import jax.numpy as jnp

    transfer = ctf_values(lens, places, *parameters)
    present = (parameters[1][:, 2:] != 0).astype(transfer.dtype)
    seen = transfer * slices
    cross = jnp.sum(jnp.conj(seen) * recorded, axis=0)
    power = jnp.sum(seen.real**2 + seen.imag**2, axis=0)
    total = jnp.sum(present * (recorded.real**2 + recorded.imag**2), axis=0)
    if slopes is None:
        return cross, power, total
    steep = jnp.conj(transfer[:, :, None] * slopes)
    slope_cross = jnp.sum((steep * recorded[:, :, None]).real, axis=0).T
    slope_power = jnp.sum((steep * seen[:, :, None]).real, axis=0).T
    slope_slope = jnp.stack([jnp.sum((steep * jnp.conj(steep[:, :, j : j + 1])).real, axis=0).T for j in range(4)])
    return cross, power, total, slope_cross, slope_power, slope_slope
