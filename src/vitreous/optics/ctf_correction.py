"""Correction of images for their CTF: what multiplies their transforms. Signs are those of physics.md (a).

    state              factor                        transfer that the object then has
    raw                1                             CTF
    phase_flipped      sign(CTF)                     |CTF|
    premultiplied      CTF                           CTF^2
    wiener_filtered    CTF / (CTF^2 + 1/snr)         CTF^2 / (CTF^2 + 1/snr)

The CTF is `+sin(gamma)` with everything that `ctf.ctf_of_particles` knows: astigmatism, phase shift, even Zernike terms, the
magnification matrix, B factor and scale. Because it is always this sign, the contrast of the images stays: dark protein stays
dark. `correction_factor` undoes the odd phase (beam tilt, odd Zernike terms) as well, by `exp(-i odd_phase)`: images corrected by
it have none left. Nothing is resampled: a pixel still shows the object at the magnified frequency M k.

Of an image with a signal of power S and noise of power N in each Fourier pixel the Wiener filter with snr = S/N is the linear
estimate of the object with the least error (Wiener 1949). It is never zero where the CTF is not: `unfiltered_factor` takes Wiener-
filtered images to premultiplied ones, exactly.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import namespace
from vitreous.conventions import CtfState
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import forward, frequencies, inverse, without_nyquist
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.optics.aberrations import wave_factor
from vitreous.optics.ctf import ctf_of_particles, has_odd_phase, odd_phase

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

    Array = Any  # NumPy or JAX

BLOCK = 1 << 20  # values of a factor that are computed at a time: a micrograph's whole CTF would take 800 MB on the way


def state_factor(transfer: Float[Array, "*grid"], state: CtfState | str, *, snr: Any = None) -> Float[Array, "*grid"]:
    """What multiplies the transform of a raw image of the CTF `transfer` to bring it into this state.

    `snr`, power of the object over that of the noise, is for the Wiener filter: one number, or values that broadcast against the
    transfer.

    >>> [round(float(state_factor(np.float64(-0.5), state, snr=4.0)), 3) for state in CtfState]
    [1.0, -1.0, -0.5, -1.0]
    """
    xp = namespace(transfer)
    state = CtfState(state)
    if state is CtfState.RAW:
        return xp.ones_like(transfer)
    if state is CtfState.PHASE_FLIPPED:
        return xp.sign(transfer)
    if state is CtfState.PREMULTIPLIED:
        return transfer
    return transfer / (transfer * transfer + inverse_snr(snr, transfer.dtype))


def unfiltered_factor(transfer: Float[Array, "*grid"], snr: Any) -> Float[Array, "*grid"]:
    """`CTF^2 + 1/snr`, which makes premultiplied transforms of Wiener-filtered ones."""
    return transfer * transfer + inverse_snr(snr, transfer.dtype)


def inverse_snr(snr: Any, dtype: Any) -> Any:
    """1/snr in this dtype. Raises SettingsProblem unless the ratio is positive and finite."""
    if snr is None:
        raise SettingsProblem("a Wiener filter without a signal-to-noise ratio", "a positive number")
    ratio = np.asarray(snr, dtype=np.float64)
    if not (np.isfinite(ratio).all() and (ratio > 0).all()):
        raise SettingsProblem(f"a signal-to-noise ratio of {ratio.min()}", "a positive, finite number")
    return (1 / ratio).astype(dtype)


def correction_factor(
    group: OpticsGroup,
    parameters: CtfParameters,
    kx: Float[Array, "*grid"],
    ky: Float[Array, "*grid"],
    state: CtfState | str,
    *,
    snr: Any = None,
    dtype: Any = np.float32,
) -> Float[Array, "n ..."] | Complex[Array, "n ..."]:
    """Factors [n, grid] for the transforms of n raw images of one optics group: `state_factor` times `exp(-i odd_phase)`.

    Complex where the group has a beam tilt or odd Zernike terms. Raises DataProblem if the group's images are not raw:
    a CTF is applied once.
    """
    refuse_corrected(group)
    transfer = ctf_of_particles(group, parameters, kx, ky, dtype=dtype)
    factor = state_factor(transfer, state, snr=snr)
    if not has_odd_phase(group):
        return factor
    return factor * wave_factor(-odd_phase(group, kx, ky)).astype(np.result_type(dtype, np.complex64))


def corrected_images(
    images: Float[Array, "n y x"],
    group: OpticsGroup,
    parameters: CtfParameters,
    state: CtfState | str,
    *,
    snr: Any = None,
) -> Float[Array, "n y x"]:
    """Raw images of one optics group, brought into this state; the box is periodic, Nyquist terms of even sizes are dropped.

    `parameters` has a row for each image; the pixel size is the group's. What the images are afterwards, the group
    `corrected_optics` says.
    """
    group.require("pixel_size")
    assert group.pixel_size is not None
    shape = (int(images.shape[-2]), int(images.shape[-1]))
    kx, ky = frequencies(shape, group.pixel_size)
    transforms = forward(images, 2)
    step = max(1, BLOCK // (max(1, len(parameters)) * (shape[1] // 2 + 1)))
    parts = []
    for start in range(0, shape[0], step):
        rows = slice(start, start + step)
        factor = correction_factor(group, parameters, kx, ky[rows], state, snr=snr, dtype=images.dtype)
        parts.append(transforms[..., rows, :] * factor)
    product = namespace(images).concatenate(parts, axis=-2)
    return inverse(without_nyquist(product, shape), shape)


def corrected_optics(group: OpticsGroup, state: CtfState | str, *, snr: float | None = None) -> OpticsGroup:
    """The optics group of images that `corrected_images` has made: their state, and no odd phase left.

    Voltage, Cs, amplitude contrast, even Zernike terms and magnification stay: the weight CTF^2 of each image still needs them.
    """
    state = CtfState(state)
    kept = float(snr) if state is CtfState.WIENER and snr is not None else None
    return replace(group, ctf_state=state, wiener_snr=kept, beam_tilt=(0.0, 0.0), odd_zernike=())


def refuse_corrected(group: OpticsGroup) -> None:
    """Raise DataProblem if something has been done about the CTF of the group's images already."""
    if group.ctf_state is not CtfState.RAW:
        raise DataProblem(
            f"the images of optics group '{group.name}' are {group.ctf_state.value.replace('_', ' ')} already",
            "raw images",
            "a CTF is applied once",
        )
