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
from vitreous.estimation.reference_images import ChunkInput, GroupOptics, ReferenceImages, transforms_and_slices
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
    """Per shell [s]: `gain`, `noise` (mean |noise|^2 of a transform), `correlation` of images and reference, and how many
    standard deviations of noise the agreement is worth.
    """

    gain: Float[np.ndarray, " s"]
    noise: Float[np.ndarray, " s"]
    correlation: Float[np.ndarray, " s"]
    deviations: Float[np.ndarray, " s"]
    total_deviations: float

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
    return ShellAgreement(kept, noise, correlation, deviations, float(total))


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
    values = _compiled_survey()(
        images.places,
        chunk.volume,
        chunk.pixels,
        chunk.shift,
        chunk.rotation,
        optics.undo,
        optics.places,
        filled.as_float32(),
        box=images.references.box,
        lens=lens,
        magnification=magnification,
    )
    cross, power, recorded, *slopes = (np.asarray(value) for value in values)
    wide = [slope.astype(np.float64) for slope in slopes]
    return AgreementSums(
        len(parameters), cross.astype(np.complex128), power.astype(np.float64), recorded.astype(np.float64), *wide
    )


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

    return jax.jit(_survey, static_argnames=("box", "lens", "magnification"))


def _survey(
    places: Any,
    volume: Any,
    pixels: Any,
    shift: Any,
    rotation: Any,
    undo: Any,
    frequencies: Any,
    parameters: Any,
    *,
    box: int,
    lens: Lens,
    magnification: bool,
) -> tuple[Any, ...]:
    """The sums over one chunk, under JAX."""
    import jax
    import jax.numpy as jnp

    recorded, slices = transforms_and_slices(box, places, volume, pixels, shift, rotation, undo)
    transfer = ctf_values(lens, frequencies, *parameters)
    present = (parameters[1][:, 2:] != 0).astype(transfer.dtype)
    cross = jnp.sum(transfer * jnp.conj(slices) * recorded, axis=0)
    power = jnp.sum((transfer * jnp.abs(slices)) ** 2, axis=0)
    total = jnp.sum(present * jnp.abs(recorded) ** 2, axis=0)
    if not magnification:
        return cross, power, total

    def stretched(matrix: Any) -> Any:
        first = matrix[0, 0] * rotation[:, 0] + matrix[1, 0] * rotation[:, 1]
        second = matrix[0, 1] * rotation[:, 0] + matrix[1, 1] * rotation[:, 1]
        turned = jnp.stack([first, second, rotation[:, 2]], axis=1)
        values = transforms_and_slices(box, places, volume, pixels, shift, turned, undo)[1]
        return jnp.stack([values.real, values.imag])

    slopes = jax.jacfwd(stretched)(jnp.eye(2, dtype=rotation.dtype))  # [part, n, p, 2, 2]
    slopes = (slopes * transfer[None, :, :, None, None]).reshape(*slopes.shape[:3], 4)
    x = jnp.stack([recorded.real, recorded.imag])
    a = transfer * jnp.stack([slices.real, slices.imag])
    slope_cross = jnp.einsum("cnpj,cnp->jp", slopes, x, precision="highest")
    slope_power = jnp.einsum("cnpj,cnp->jp", slopes, a, precision="highest")
    slope_slope = jnp.einsum("cnpj,cnpl->jlp", slopes, slopes, precision="highest")
    return cross, power, total, slope_cross, slope_power, slope_slope
