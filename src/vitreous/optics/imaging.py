"""Image formation by the lens, as a complex factor on the wave and as a sine on the image. Signs: physics.md (a).

    wave:    psi_image = IFT[ FT[psi_exit] T(k) ],   T = exp(+i (chi + plate)) aperture envelope,   I = |psi_image|^2
    linear:  I = 1 - 2 IFT[ FT[sigma Vz] sin(gamma) envelope ],                      gamma = chi + plate + asin(w)

For a weak object, psi_exit = 1 + i sigma Vz, the two differ by terms of order (sigma Vz)^2. Amplitude contrast w is a
property of the specimen: on the wave it is the complex potential `Vz (sqrt(1 - w^2) + i w)`
(`with_amplitude_contrast`).

Waves live on the full complex grid, `frequencies(shape, pixel_size, half=False)`. The box is periodic. The product psi
psi* has twice the bandwidth of psi: what lies beyond Nyquist folds back, an effect of order (sigma Vz)^2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import float_dtype, namespace
from vitreous.conventions import Contrast
from vitreous.fourier.transforms import forward, frequencies, inverse
from vitreous.optics.aberrations import phase_terms, wave_factor
from vitreous.optics.aperture import objective_aperture
from vitreous.optics.ctf import ctf
from vitreous.optics.electrons import interaction_constant, wavelength
from vitreous.optics.phase_plate import phase_plate
from vitreous.optics.turns import against_grid, is_present, partial_turns, result_dtype

if TYPE_CHECKING:
    from jaxtyping import Complex, Float, Inexact

    Array = Any  # NumPy or JAX


def wave_transfer(
    kx: Float[Array, "*grid"],
    ky: Float[Array, "*grid"],
    defocus: Float[Array, "*batch"] | float,
    astigmatism: Any = None,
    *,
    voltage: float,
    spherical_aberration: Any,
    phase_shift: Any = 0.0,
    cut_on: float = 0.0,
    aperture: float | None = None,
    aperture_edge: float = 0.0,
    beam_tilt: Any = None,
    even_phase: Float[Array, "*grid"] | None = None,
    odd_phase: Float[Array, "*grid"] | None = None,
    envelope: Float[Array, "*grid"] | None = None,
    b_factor: Any = 0.0,
    dtype: Any = None,
) -> Complex[Array, "*batch *grid"]:
    """What multiplies the transform of the exit wave: a phase for each aberration, an amplitude for each loss.

        T = exp(+i (chi + plate + even_phase + odd_phase)) * aperture * envelope * exp(-B k^2 / 4)

    Parameters broadcast against each other to the batch; the result has its shape, then the grid's. In angstrom:
    `defocus` (positive for underfocus, that of the plane of the wave: the image's defocus + `ExitWave.height`),
    `astigmatism` = (u-v)/2 (cos 2 angle, sin 2 angle) on its last axis, `spherical_aberration`. `phase_shift` (radian)
    is that of a phase plate, which acts on k > `cut_on` only. `aperture` is the largest k that passes (1/angstrom;
    `aperture.aperture_cutoff` makes it from mrad), None for no aperture, `aperture_edge` the width of its soft edge.
    `even_phase` and `odd_phase` (radian) are phases on the grid against the unscattered beam, k = 0, which passes as it
    is: Zernike terms of `optics.aberrations`, for example; `envelope` amplitudes on the grid.

    `beam_tilt` = (tx, ty) in radian, of an illumination `exp(2 pi i (t/lambda).r)` of a thin specimen: the whole `chi(k
    + t/lambda) - chi(t/lambda)`, that is a displacement of the image by `-df t`, the coma of
    `aberrations.beam_tilt_phase`, and a defocus and an astigmatism of order `Cs t^2`. CTF and RELION's rlnBeamTilt hold
    only the coma, because the rest is measured as shift, defocus and astigmatism. Aperture and phase plate stay centred
    on the unscattered beam.

    Precision and dtype (the complex one that belongs to `dtype`) are those of `ctf.ctf`. T(0) = 1 but for the
    `envelope`. Differentiable in every parameter, finite at k = 0 and at zero astigmatism, tilt and defocus.

    >>> transfer = wave_transfer(0.0, 0.1, 1e4, voltage=300e3, spherical_aberration=2.7e7)
    >>> round(float(transfer.imag), 6)  # sin(chi)
    -0.130171
    """
    along, across = _pair(astigmatism)
    tilt_x, tilt_y = _pair(beam_tilt)
    values = (defocus, along, across, spherical_aberration, phase_shift, b_factor, tilt_x, tilt_y)
    xp = namespace(kx, ky, *values, even_phase, odd_phase, envelope)
    real = result_dtype(xp, dtype, (kx, ky), tuple(v for v in values if v is not None))
    if namespace(kx, ky) is np:  # concrete frequencies: polynomials in double, whatever they are rounded to later
        kx, ky = np.asarray(kx, dtype=np.float64), np.asarray(ky, dtype=np.float64)
    components = None if along is None else (along, across)
    terms = _chi_terms(kx, ky, defocus, components, (tilt_x, tilt_y), wavelength(voltage), spherical_aberration)
    grid = np.broadcast_shapes(np.shape(kx), np.shape(ky))
    turns: Any = sum(partial_turns(against_grid(p, grid), polynomial, real, xp) for p, polynomial in terms)
    phases = [] if odd_phase is None else [odd_phase]
    if even_phase is not None:
        phases.append(even_phase * ((kx * kx + ky * ky) > 0))
    if is_present(phase_shift, 0.0):
        phases.append(phase_plate(kx, ky, phase_shift, cut_on=cut_on))
    for phase in phases:
        turns = turns + partial_turns(1.0, phase / (2 * math.pi), real, xp)
    transfer = wave_factor((2 * math.pi * (turns - xp.round(turns))).astype(real))
    amplitudes = [] if envelope is None else [envelope]
    if is_present(b_factor, 0.0):
        amplitudes.append(xp.exp(-0.25 * against_grid(b_factor, grid) * (kx * kx + ky * ky)))
    if aperture is not None:
        amplitudes.append(objective_aperture(kx, ky, aperture, edge_width=aperture_edge))
    for amplitude in amplitudes:
        transfer = transfer * xp.asarray(amplitude, dtype=real)
    return transfer


def image_of_wave(
    wave: Inexact[Array, "... y x"], transfer: Complex[Array, "... y x"] | None = None
) -> Float[Array, "... y x"]:
    """Intensity `|IFT[FT[wave] transfer]|^2`, per incident electron: 1 where nothing scattered.

    `transfer` on the full grid (`wave_transfer`), None for the intensity in the plane of the wave itself.
    """
    image = wave if transfer is None else _filtered(wave, transfer)
    return image.real**2 + image.imag**2


def linear_image(
    projected: Inexact[Array, "... y x"],
    pixel_size: float,
    defocus: Any,
    astigmatism: Any = None,
    *,
    voltage: float,
    spherical_aberration: Any,
    amplitude_contrast: Any = 0.0,
    phase_shift: Any = 0.0,
    cut_on: float = 0.0,
    even_phase: Float[Array, "y xh"] | None = None,
    odd_phase: Float[Array, "y xh"] | None = None,
    envelope: Float[Array, "y xh"] | None = None,
    b_factor: Any = 0.0,
) -> Float[Array, "... y x"]:
    """The image that is linear in the potential, `1 - 2 sigma Vz * sin(gamma)`: protein is dark at underfocus.

    The product with sin(gamma) is in Fourier space. `projected` is Vz in V angstrom; if it is complex (`V + i Vim`,
    absorption) its imaginary part contributes `-2 sigma Vim * cos(gamma)`. Other arguments are those of
    `wave_transfer`, phases and envelope on the half grid of `frequencies(shape, pixel_size)`. As for the wave, neither
    a phase plate nor `even_phase` acts on k = 0 (in `ctf.ctf` they do: the two differ in the mean of the image). An
    aperture that cuts within Nyquist is an envelope here.
    """
    along, across = _pair(astigmatism)
    numbers = (defocus, along, across, spherical_aberration, amplitude_contrast, phase_shift, b_factor)
    xp = namespace(projected, *numbers, even_phase, odd_phase, envelope)
    shape = tuple(projected.shape[-2:])
    kx, ky = frequencies(shape, pixel_size)
    even = None if even_phase is None else even_phase * ((kx * kx + ky * ky) > 0)
    if is_present(phase_shift, 0.0):
        plate = phase_plate(kx, ky, phase_shift, cut_on=cut_on)
        even = plate if even is None else even + plate

    def transfer(turned: float) -> Any:
        values = ctf(
            kx,
            ky,
            defocus,
            None if astigmatism is None else namespace(along, across).stack([along, across], axis=-1),
            voltage=voltage,
            spherical_aberration=spherical_aberration,
            amplitude_contrast=amplitude_contrast,
            phase_shift=turned,
            b_factor=b_factor,
            even_phase=even,
            contrast=Contrast.RAW,
            dtype=float_dtype(projected),
        )
        values = values if envelope is None else values * xp.asarray(envelope, dtype=values.dtype)
        return values if odd_phase is None else values * wave_factor(xp.asarray(odd_phase, dtype=values.dtype))

    strength = 2 * interaction_constant(voltage)
    transform = forward(projected.real, 2) * transfer(0.0)
    if np.dtype(projected.dtype).kind == "c":
        transform = transform + forward(projected.imag, 2) * transfer(math.pi / 2)
    return 1 + strength * inverse(transform, shape)


def with_amplitude_contrast(projected: Float[Array, "... y x"], amplitude_contrast: Any) -> Complex[Array, "... y x"]:
    """A potential that absorbs the fraction w of its contrast: `Vz (sqrt(1 - w^2) + i w) = Vz exp(i asin(w))`.

    The customary w, a few percent, as a property of the specimen. Specimens whose absorption is computed
    (`specimen.inelastic`) need none.
    """
    xp = namespace(projected, amplitude_contrast)
    loss = xp.asarray(amplitude_contrast, dtype=float_dtype(projected))
    return projected * (xp.sqrt(1 - loss * loss) + 1j * loss)


def _chi_terms(
    kx: Any, ky: Any, defocus: Any, astigmatism: Any, beam_tilt: tuple[Any, Any], wave: float, spherical_aberration: Any
) -> list[tuple[Any, Any]]:
    """chi / 2 pi as pairs (parameter, polynomial); under a beam tilt t chi(k + t/lambda) - chi(t/lambda), term by term."""
    kind = {"wavelength": wave, "spherical_aberration": spherical_aberration}
    if beam_tilt[0] is None:
        return phase_terms(kx, ky, defocus, astigmatism, **kind)
    grid = np.broadcast_shapes(np.shape(kx), np.shape(ky))
    tilt_x, tilt_y = (against_grid(component / wave, grid) for component in beam_tilt)
    moved = phase_terms(kx + tilt_x, ky + tilt_y, defocus, astigmatism, **kind)
    still = phase_terms(tilt_x, tilt_y, defocus, astigmatism, **kind)
    return [(parameter, there - here) for (parameter, there), (_, here) in zip(moved, still)]


def _pair(components: Any) -> tuple[Any, Any]:
    """The two components of a vector on its last axis, or of a tuple; None twice for None."""
    if components is None:
        return None, None
    if hasattr(components, "shape"):
        return components[..., 0], components[..., 1]
    first, second = components
    return first, second


def _filtered(wave: Any, transfer: Any) -> Any:
    """The wave after its transform was multiplied; where the origin lies makes no difference, so it is not moved."""
    xp = namespace(wave, transfer)
    if xp is not np:
        return xp.fft.ifft2(xp.fft.fft2(wave) * transfer)
    from scipy import fft as scipy_fft

    transform: Any = scipy_fft.fft2(wave) * transfer
    return scipy_fft.ifft2(transform, overwrite_x=True)
