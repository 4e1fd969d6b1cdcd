"""The images that a `Microscope` makes of a wave and of a projected potential.

The settings are those of `model.microscope`, the formulas those of `optics.imaging` and `optics.coherence`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.arrays import float_dtype, namespace
from vitreous.conventions import Contrast
from vitreous.errors import SettingsProblem
from vitreous.fourier.transforms import frequencies
from vitreous.model.microscope import Microscope
from vitreous.model.slices import ExitWave
from vitreous.optics.aberrations import beam_tilt_phase, defocus_phase, even_zernike_phase, odd_zernike_phase
from vitreous.optics.aperture import objective_aperture
from vitreous.optics.coherence import coherence_envelope, quadrature_nodes, source_quadrature
from vitreous.optics.ctf import ctf
from vitreous.optics.electrons import wavelength
from vitreous.optics.imaging import image_of_wave, linear_image, wave_transfer
from vitreous.optics.turns import is_present
from vitreous.units import MILLIRADIAN

if TYPE_CHECKING:
    from jaxtyping import Complex, Float, Inexact

    Array = Any  # NumPy or JAX

COHERENCE = ("envelope", "sum")


def lens_transfer(
    microscope: Microscope, kx: Float[Array, "*grid"], ky: Float[Array, "*grid"], *, dtype: Any = None
) -> Complex[Array, "*grid"]:
    """What the lens multiplies the transform of a wave in the plane z = 0 with, coherence envelope included.

    For a wave in another plane use `microscope.at_height(wave.height)`.
    """
    even, odd = _zernike_phases(microscope, kx, ky)
    return wave_transfer(
        kx,
        ky,
        microscope.defocus,
        _or_none(microscope.astigmatism),
        voltage=microscope.voltage,
        spherical_aberration=microscope.spherical_aberration,
        phase_shift=microscope.phase_shift,
        cut_on=microscope.phase_plate_cut_on,
        aperture=microscope.aperture,
        aperture_edge=microscope.aperture_edge,
        beam_tilt=_or_none(microscope.beam_tilt),
        even_phase=even,
        odd_phase=odd,
        envelope=coherence_of(microscope, kx, ky),
        b_factor=microscope.b_factor,
        dtype=dtype,
    )


def wave_image(
    exit_wave: ExitWave, microscope: Microscope, *, coherence: str = "envelope", nodes: int | None = None
) -> Float[Array, "y x"]:
    """Intensity that the microscope makes of an exit wave, 1 where nothing scattered.

    The wave is seen under the defocus `microscope.defocus + exit_wave.height`. `coherence`: "envelope" multiplies the
    wave's transform by `Es Et`; "sum" adds up the images of the defoci and angles of the source
    (`coherence.source_quadrature`), which is right also for what is not linear in the scattered wave. `nodes` points
    are taken for the defocus, and for the angles on x and on y; None: as many as are needed up to the corner of the
    grid, or the aperture (`coherence.quadrature_nodes`), which needs numbers and not tracers. Without widths the two
    are the same coherent image.
    """
    if coherence not in COHERENCE:
        raise SettingsProblem(f"coherence '{coherence}'", "'envelope' or 'sum'")
    seen = microscope.at_height(exit_wave.height)
    wave = exit_wave.wave
    grid = frequencies(tuple(wave.shape[-2:]), exit_wave.pixel_size, half=False)
    dtype = float_dtype(wave)
    if coherence == "envelope":
        return image_of_wave(wave, lens_transfer(seen, *grid, dtype=dtype))

    angle_nodes, focus_nodes = (nodes, nodes) if nodes is not None else _nodes(seen, exit_wave.pixel_size)
    focus, tilt, weight = source_quadrature(
        one_over_e_mrad=microscope.one_over_e_mrad,
        focal_sigma=microscope.focal_sigma,
        angle_nodes=angle_nodes,
        focus_nodes=focus_nodes,
    )

    def one(deviation: Any, angle: Any, share: Any) -> Any:
        beam = (seen.beam_tilt[0] + angle[0], seen.beam_tilt[1] + angle[1])
        sharp = replace(seen, one_over_e_mrad=0.0, focal_sigma=0.0, beam_tilt=beam, defocus=seen.defocus + deviation)
        return share * image_of_wave(wave, lens_transfer(sharp, *grid, dtype=dtype))

    return _added_up(one, (focus, tilt, weight), namespace(wave, seen.defocus), dtype)


def projection_image(
    projected: Inexact[Array, "y x"], pixel_size: float, microscope: Microscope
) -> Float[Array, "y x"]:
    """What the microscope makes of a weak object: `1 - 2 sigma Vz * sin(gamma)`, linear in Vz (V angstrom).

    `imaging.linear_image` with all settings.
    """
    kx, ky = frequencies(tuple(projected.shape[-2:]), pixel_size)
    even, odd = _zernike_phases(microscope, kx, ky)
    if _or_none(microscope.beam_tilt) is not None:
        tilted_even, tilted_odd = _tilt_phases(microscope, kx, ky)
        even = tilted_even if even is None else even + tilted_even
        odd = tilted_odd if odd is None else odd + tilted_odd
    envelope = coherence_of(microscope, kx, ky)
    if microscope.aperture is not None:
        hole = objective_aperture(kx, ky, microscope.aperture, edge_width=microscope.aperture_edge)
        envelope = hole if envelope is None else envelope * hole
    return linear_image(
        projected,
        pixel_size,
        microscope.defocus,
        _or_none(microscope.astigmatism),
        voltage=microscope.voltage,
        spherical_aberration=microscope.spherical_aberration,
        amplitude_contrast=microscope.amplitude_contrast,
        phase_shift=microscope.phase_shift,
        cut_on=microscope.phase_plate_cut_on,
        even_phase=even,
        odd_phase=odd,
        envelope=envelope,
        b_factor=microscope.b_factor,
    )


def _nodes(microscope: Microscope, pixel_size: float) -> tuple[int, int]:
    """Points for the angles on one axis and for the defocus, enough for every frequency that passes the lens."""
    numbers = (microscope.defocus, *microscope.astigmatism, microscope.spherical_aberration)
    try:
        defocus, along, across, spherical_aberration = (float(number) for number in numbers)
    except TypeError:
        raise SettingsProblem(
            "a sum over the source under a defocus that JAX traces", "a number of points", "give nodes"
        ) from None
    corner = math.sqrt(0.5) / pixel_size
    cutoff = math.inf if microscope.aperture is None else microscope.aperture + microscope.aperture_edge / 2
    k = np.linspace(0.0, min(corner, cutoff), 256)
    wave = wavelength(microscope.voltage)
    moved = np.abs(wave * k * (defocus - spherical_aberration * wave**2 * k**2)) + wave * k * math.hypot(along, across)
    angle = math.pi * microscope.one_over_e_mrad * MILLIRADIAN / wave * moved.max()
    focus = math.pi * wave * microscope.focal_sigma * k[-1] ** 2
    return quadrature_nodes(angle**2), quadrature_nodes(focus**2 / 2)


def _added_up(one: Any, terms: tuple[np.ndarray, ...], xp: Any, dtype: np.dtype) -> Any:
    """The sum of `one(*term)` over the terms; JAX compiles one and holds one at a time."""
    if xp is np:
        total: Any = 0.0
        for term in zip(*terms):
            total = total + one(*term)
        return total.astype(dtype)
    import jax

    carried = tuple(xp.asarray(values, dtype=dtype) for values in terms)
    first = one(*(values[0] for values in carried))
    rest = tuple(values[1:] for values in carried)
    total, _ = jax.lax.scan(lambda held, term: (held + one(*term), None), first, rest)
    return total


def _zernike_phases(microscope: Microscope, kx: Any, ky: Any) -> tuple[Any, Any]:
    """Even and odd phases in radian of Zernike terms and coma, None where there are none."""
    even = even_zernike_phase(kx, ky, microscope.even_zernike) if any(microscope.even_zernike) else None
    odd = odd_zernike_phase(kx, ky, microscope.odd_zernike) if any(microscope.odd_zernike) else None
    if _or_none(microscope.coma_tilt) is not None:
        coma = beam_tilt_phase(
            kx,
            ky,
            microscope.coma_tilt,
            wavelength=wavelength(microscope.voltage),
            spherical_aberration=microscope.spherical_aberration,
        )
        odd = coma if odd is None else odd + coma
    return even, odd


def _tilt_phases(microscope: Microscope, kx: Any, ky: Any) -> tuple[Any, Any]:
    """What a beam tilt adds to the even and to the odd part of chi: parts of `chi(k + q) - chi(q)`, q = tilt/lambda."""
    wave = wavelength(microscope.voltage)
    tilt_x, tilt_y = microscope.beam_tilt[0] / wave, microscope.beam_tilt[1] / wave

    def chi(x: Any, y: Any) -> Any:
        return defocus_phase(
            x,
            y,
            microscope.defocus,
            microscope.astigmatism,
            wavelength=wave,
            spherical_aberration=microscope.spherical_aberration,
        )

    still, there, opposite = chi(tilt_x, tilt_y), chi(kx + tilt_x, ky + tilt_y), chi(tilt_x - kx, tilt_y - ky)
    return (there + opposite) / 2 - still - chi(kx, ky), (there - opposite) / 2


def sine_of(
    microscope: Microscope,
    kx: Float[Array, "*grid"],
    ky: Float[Array, "*grid"],
    *,
    contrast: Contrast | str = Contrast.INVERTED,
) -> Float[Array, "*grid"]:
    """The CTF `sin(gamma)` of the defocus at z = 0, without envelopes and B factor."""
    return ctf(
        kx,
        ky,
        microscope.defocus,
        namespace(kx, ky, *microscope.astigmatism).asarray(microscope.astigmatism),
        voltage=microscope.voltage,
        spherical_aberration=microscope.spherical_aberration,
        amplitude_contrast=microscope.amplitude_contrast,
        phase_shift=microscope.phase_shift,
        contrast=contrast,
    )


def coherence_of(microscope: Microscope, kx: Any, ky: Any) -> Any:
    """The envelope of partial coherence at z = 0 and these frequencies, None for a coherent beam."""
    if microscope.one_over_e_mrad == 0 and microscope.focal_sigma == 0:
        return None
    return coherence_envelope(
        kx,
        ky,
        microscope.defocus,
        microscope.astigmatism,
        voltage=microscope.voltage,
        spherical_aberration=microscope.spherical_aberration,
        one_over_e_mrad=microscope.one_over_e_mrad,
        focal_sigma=microscope.focal_sigma,
    )


def _or_none(pair: Any) -> Any:
    """A pair of components, None for concrete zeros, which do nothing."""
    present = is_present(pair, 0.0) if hasattr(pair, "shape") else any(is_present(part, 0.0) for part in pair)
    return pair if present else None
