"""The sections of the report on simulated micrographs: the first image, where its particles are, its spectrum with the
rings that the CTF predicts, defocus and height, and the files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.fourier.transforms import crop_real, forward, frequencies
from vitreous.io.mrc import read_image
from vitreous.jobs.curves import Series, Threshold, histogram, line_plot
from vitreous.jobs.job import Outcome
from vitreous.jobs.pictures import png_bytes
from vitreous.jobs.report import Figure, Section, Source, Table
from vitreous.model.microscope import Microscope
from vitreous.optics.lens import sine_of
from vitreous.optics.zeros import ctf_zeros
from vitreous.units import DEGREE, MICROMETRE

if TYPE_CHECKING:
    from vitreous.jobs.micrograph_plan import MicrographPlan

SHOWN = 1024  # pixels of the picture of a micrograph
TILE = 512  # pixels of the squares whose spectra are averaged
ZEROS = 6
RING = np.array([255, 150, 40], dtype=np.uint8)


def micrograph_sections(
    outcome: Outcome, plan: MicrographPlan, folder: Path, sources: Sequence[Source] = ()
) -> list[Section]:
    """All sections; the pictures are of the first micrograph."""
    from vitreous.jobs.micrograph_plan import FOLDER

    image = read_image(folder / FOLDER / f"{plan.names[0]}.mrc")
    result = Section("Result", "", figures=[picture_figure(image, plan)], numbers=outcome.numbers(), sources=sources)
    sections = [result]
    if image.std() > 0:  # an image without anything in it has no spectrum
        sections.append(spectrum_section(image, plan))
    if plan.settings.particles:
        sections += [particle_section(image, plan), height_section(plan)]
    return [*sections, settings_section(plan), files_section(plan)]


def picture_figure(image: np.ndarray, plan: MicrographPlan) -> Figure:
    picture = grey_picture(reduced(image, SHOWN))
    height, width = image.shape
    caption = (
        f"The first micrograph, {width} x {height} pixels, at {plan.microscopes[0].defocus / MICROMETRE:.2f} µm underfocus; "
        "protein is dark."
    )
    return Figure(caption, png=png_bytes(picture), alt="A simulated micrograph", wide=True)


def particle_section(image: np.ndarray, plan: MicrographPlan) -> Section:
    small = reduced(image, SHOWN)
    scale = small.shape[1] / image.shape[1]
    centres = plan.field.pixels(plan.placements[0].position[:, :2]) * scale
    radius = plan.radius / plan.field.pixel_size * scale
    picture = np.repeat(grey_picture(small, upwards=False)[..., None], 3, axis=-1)
    for x, y in centres:
        draw_ring(picture, x, y, radius)
    text = (
        "Each ring is a particle of coordinates.star, drawn with its radius. Their centres keep their distance in "
        "projection; their heights in the ice are free."
    )
    png = png_bytes(np.ascontiguousarray(picture[::-1]))
    return Section(
        "Particles",
        text,
        figures=[Figure("Positions of the particles of the first micrograph.", png=png, alt="Rings", wide=True)],
    )


def spectrum_section(image: np.ndarray, plan: MicrographPlan) -> Section:
    """Power spectrum in two dimensions and along the radius, with the zeros of the CTF at z = 0."""
    microscope, pixel_size = plan.microscopes[0], plan.field.pixel_size
    power = tile_power(image)
    k, radial = radial_power(power, pixel_size, microscope)
    zeros = ctf_zeros(
        ZEROS,
        defocus=microscope.defocus,
        voltage=microscope.voltage,
        spherical_aberration=float(microscope.spherical_aberration),
        amplitude_contrast=plan.amplitude_contrast,
        phase_shift=float(microscope.phase_shift),
    )
    seen = (k > 2 * k[1]) & (k < 0.5 / pixel_size)
    plot = line_plot(
        [Series("power", k[seen], np.log10(np.maximum(radial[seen], np.finfo(np.float32).tiny)))],
        x_label="spatial frequency (1/Å)",
        y_label="log10 power",
        title="Power spectrum of the first micrograph",
        description="Averaged over ellipses of equal defocus; lines mark the zeros of the CTF.",
        resolution_axis=True,
        x_limits=(0.0, float(min(0.5 / pixel_size, 1.6 * zeros[-1]))),
        thresholds=[Threshold(float(zero), "", vertical=True) for zero in zeros],
    )
    text = (
        "Left half: log of the power spectrum, averaged over squares of the micrograph. Right half: the square of the CTF at z = 0. "
        "The rings fade where the ice's layers, whose heights differ, put them at different places."
    )
    figures = [
        Figure(
            "The spectrum beside the CTF that made it.",
            png=spectrum_picture(power, plan),
            alt="Thon rings beside a CTF",
        ),
        Figure(f"The same along the radius; lines: the first {len(zeros)} zeros of the CTF.", svg=plot, alt="Spectrum"),
    ]
    return Section("Spectrum", text, figures=figures)


def height_section(plan: MicrographPlan) -> Section:
    coordinates = plan.coordinates
    defocus = coordinates.ctf.defocus / MICROMETRE
    histogram_svg = histogram(defocus, x_label="defocus (µm)", y_label="particles", title="Defocus of the particles")
    plot = line_plot(
        [Series("particles", coordinates.height, defocus, "points")],
        x_label="height z (Å, towards the detector)",
        y_label="defocus (µm)",
        title="Defocus and height of the particles",
        description="One line for each micrograph, of slope 1: what lies nearer the detector is further underfocused.",
    )
    text = "A particle's defocus is that of its micrograph plus its height: the truth in coordinates.star."
    return Section(
        "Heights",
        text,
        figures=[
            Figure("Mean defocus of each particle.", svg=histogram_svg, alt="Histogram"),
            Figure("Each particle's defocus and height.", svg=plot, alt="Points"),
        ],
    )


def settings_section(plan: MicrographPlan) -> Section:
    settings, microscope = plan.settings, plan.microscopes[0]
    detector = plan.detector
    rows = [
        ("model", plan.model.value.replace("_", " ")),
        ("pixel size", f"{plan.field.pixel_size:.4g} Å"),
        ("ice", f"{plan.slab.thickness:.0f} Å, grain {settings.ice}, B factor {plan.ice_b_factor:.0f} Å²"),
        ("tilt", f"{settings.tilt_deg:g}° about an axis at {plan.slab.plane.axis_angle / DEGREE:g}°"),
        ("voltage", f"{settings.voltage_kv:g} kV"),
        ("spherical aberration", f"{settings.cs_mm:g} mm"),
        ("defocus spread", f"{microscope.focal_sigma:.1f} Å rms"),
        ("convergence", f"{settings.convergence_one_over_e_mrad:g} mrad, 1/e half-angle"),
        ("amplitude contrast", f"{plan.amplitude_contrast:.3f}" + (" (computed)" if plan.inelastic else "")),
        ("phase plate", f"{settings.phase_shift_deg:g}°"),
        ("detector", "none: expected intensity" if detector is None else f"{detector.name}, {detector.mode.value}"),
    ]
    if detector is not None:
        rows.append(("dose", f"{plan.dose:g} e/Å² in {settings.frames} frame{'s' if settings.frames > 1 else ''}"))
    if plan.inelastic is not None:
        rows.append(("mean free path", plan.inelastic))
    return Section("Conditions", "", tables=[Table(("setting", "value"), rows)])


def files_section(plan: MicrographPlan) -> Section:
    what = "expected electrons per incident electron" if plan.detector is None else "counts"
    rows = [
        ("micrographs/*.mrc", f"The micrographs, float32, {what}, protein dark"),
        ("micrographs.star", "Each micrograph's CTF at z = 0, its ice and its tilt"),
    ]
    if plan.settings.particles:
        rows.append(("coordinates.star", "Each particle's place, height, orientation and CTF"))
    if plan.settings.frames > 1:
        rows.append(("micrographs/*_frames.mrcs", "The frames; the micrographs are sums of frames moved back"))
    rows.append(("truth_map.mrc", "The particle, in volt above the potential of the ice"))
    return Section("Files", "", tables=[Table(("file", "content"), rows)])


# --- pictures and spectra ---------------------------------------------------------------------------------------------


def reduced(image: np.ndarray, size: int) -> np.ndarray:
    """The image averaged over squares so that it has at most about `size` pixels along each side."""
    factor = max(1, math.ceil(max(image.shape) / size))
    height, width = (n // factor * factor for n in image.shape)
    return image[:height, :width].reshape(height // factor, factor, width // factor, factor).mean(axis=(1, 3))


def grey_picture(image: np.ndarray, *, upwards: bool = True, percentile: float = 0.5) -> np.ndarray:
    """Grey levels, uint8, from the percentile to 100 minus it; y upwards unless told otherwise."""
    black, white = np.percentile(image, (percentile, 100 - percentile))
    scaled = (image - black) / (white - black if white > black else 1.0)
    grey = (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(grey[::-1]) if upwards else grey


def draw_ring(picture: np.ndarray, x: float, y: float, radius: float) -> None:
    """A circle into an RGB picture [y, x, 3], in place."""
    angle = np.linspace(0, 2 * math.pi, max(12, math.ceil(16 * radius)), endpoint=False)
    columns, rows = (np.rint(c + radius * f(angle)).astype(int) for c, f in ((x, np.cos), (y, np.sin)))
    inside = (columns >= 0) & (columns < picture.shape[1]) & (rows >= 0) & (rows < picture.shape[0])
    picture[rows[inside], columns[inside]] = RING


def tile_power(image: np.ndarray) -> np.ndarray:
    """Mean power spectrum of half overlapping squares, each faded to its mean at its edges; half plane [t, t//2+1]."""
    size = min(TILE, *image.shape)
    fade = np.hanning(size + 1)[:-1]
    window = np.outer(fade, fade).astype(np.float32)
    window /= np.sqrt((window**2).mean())
    total, count = np.zeros((size, size // 2 + 1)), 0
    for top in range(0, image.shape[0] - size + 1, max(1, size // 2)):
        for left in range(0, image.shape[1] - size + 1, max(1, size // 2)):
            tile = image[top : top + size, left : left + size]
            transform = forward((tile - tile.mean()) * window, 2)
            total += transform.real**2 + transform.imag**2
            count += 1
    return total / (count * size**2)


def radial_power(power: np.ndarray, pixel_size: float, microscope: Microscope) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in 1/angstrom and mean power there; with astigmatism along ellipses, k of the mean defocus."""
    size = power.shape[0]
    kx, ky = frequencies((size, size), pixel_size)
    square = kx * kx + ky * ky
    along, across = microscope.astigmatism
    with np.errstate(invalid="ignore"):
        change = (along * (kx * kx - ky * ky) + across * 2 * kx * ky) / np.where(square > 0, square, 1)
    k = np.sqrt(square * np.maximum(1 + change / microscope.defocus, 0)) if microscope.defocus else np.sqrt(square)
    shell = np.rint(k * size * pixel_size).astype(int).ravel()
    total = np.bincount(shell, power.ravel(), minlength=size // 2 + 1)[: size // 2 + 1]
    count = np.bincount(shell, minlength=size // 2 + 1)[: size // 2 + 1]
    return np.arange(size // 2 + 1) / (size * pixel_size), total / np.maximum(count, 1)


def spectrum_picture(power: np.ndarray, plan: MicrographPlan, *, show: float = 1.0) -> bytes:
    """Left half: log power, less its own radial trend. Right half: CTF squared. `show`: part of Nyquist, origin in the middle."""
    microscope, pixel_size, size = plan.microscopes[0], plan.field.pixel_size, power.shape[0]
    _, radial = radial_power(power, pixel_size, microscope)
    shells = np.arange(len(radial))
    smooth = np.exp(np.convolve(np.pad(np.log(radial + 1e-30), 24, mode="edge"), np.ones(49) / 49, "valid"))
    kx, ky = frequencies((size, size), pixel_size)
    trend = np.interp(np.sqrt(kx * kx + ky * ky) * size * pixel_size, shells, smooth)
    flat = full(np.log(power / trend + 1e-6))
    kx, ky = frequencies((size, size), pixel_size, half=False)
    expected = sine_of(replace(microscope, amplitude_contrast=plan.amplitude_contrast), kx, ky)
    shown = 2 * int(size * show / 2)
    left = grey_picture(crop_real(flat, shown, 2), upwards=False, percentile=1.0)
    right = grey_picture(crop_real(np.fft.fftshift(expected**2), shown, 2), upwards=False, percentile=0.0)
    picture = np.where(np.arange(shown) < shown // 2, left, right)
    return png_bytes(np.ascontiguousarray(picture[::-1]))


def full(half: np.ndarray) -> np.ndarray:
    """The whole plane of a real spectrum, zero frequency at index N // 2, from its half plane."""
    size = half.shape[0]
    whole = np.empty((size, size), dtype=half.dtype)
    whole[:, : size // 2 + 1] = half
    mirrored = np.roll(half[::-1, 1 : (size + 1) // 2][:, ::-1], 1, axis=0)
    whole[:, size // 2 + 1 :] = mirrored
    return np.fft.fftshift(whole)
