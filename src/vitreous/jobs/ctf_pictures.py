"""Pictures of a fitted spectrum: the left half as measured, the right half as the fitted CTF has it.

Both halves show P / T - 1, the power over its smooth mean T, divided by one contrast that depends on the frequency alone, so
that faint rings far out are seen as well as the first ones. The measured half is averaged along short arcs of circles, the
same whatever was fitted.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np

from vitreous.estimation.background import smooth_background
from vitreous.estimation.ctf_estimate import CtfEstimate
from vitreous.estimation.ring_pixels import BACKGROUND_KNOTS, ring_pixels, splines
from vitreous.fourier.transforms import frequencies
from vitreous.jobs.pictures import data_uri
from vitreous.jobs.svg import CHARACTER, colour_of, drawing, element, line, resolution_label, text_at
from vitreous.optics.thickness import thick_power

if TYPE_CHECKING:
    from jaxtyping import Float

ARC = 8.0  # samples: rms length of the arcs that the measured half is averaged along
WIDEST_ARC = 0.12  # radian, rms: near the centre arcs are shorter
NOISE = 2.0  # noise is drawn at 1 / NOISE of the contrast of clear rings
WHITE = 1.5  # clear rings reach from -1 to 1
GREYS = 15  # and one for what is outside: four bits a pixel
PICTURE, THUMBNAIL = 400, 124  # pixels
ICE = 3.7  # angstrom: the strongest ring of crystalline ice
DRAWN = 400  # units of the drawing around a picture


# --- the spectrum beside its fit --------------------------------------------------------------------------------------


def spectrum_picture(estimate: CtfEstimate) -> Float[np.ndarray, "y x"]:
    """The whole plane, zero frequency at [N // 2, N // 2]: columns before it as measured, it and the others as fitted; float32.

    Clear rings reach from -1 to 1. NaN outside the frequencies of the fit.
    """
    measured, fitted = measured_rings(estimate), fitted_rings(estimate)
    left = measured.shape[1]
    contrast = ring_contrast(estimate, measured, fitted)
    picture = np.concatenate([measured, fitted[:, left:]], axis=1) / contrast
    return np.where(_inside(estimate), picture, np.nan).astype(np.float32)


def fitted_rings(estimate: CtfEstimate) -> Float[np.ndarray, "y x"]:
    """`-m cos(2 gamma)` of the fit on the whole plane, damped by the thickness where that was fitted."""
    kx, ky = _plane(estimate)
    lens = estimate.lens
    power = thick_power(
        kx,
        ky,
        estimate.defocus,
        np.array(estimate.astigmatism),
        thickness=estimate.thickness or 0.0,
        voltage=lens.voltage,
        spherical_aberration=lens.spherical_aberration,
        amplitude_contrast=lens.amplitude_contrast,
        phase_shift=estimate.phase_shift,
    )
    profile = estimate.profile
    return np.interp(np.hypot(kx, ky), profile.frequency, profile.depth) * (2 * power - 1)


def measured_rings(estimate: CtfEstimate) -> Float[np.ndarray, "y left"]:
    """P / T - 1 left of the zero frequency, averaged along arcs. T is that of the spectrum alone, whatever was fitted."""
    frequency = estimate.profile.frequency
    pixels = ring_pixels(estimate.spectrum, (1 / frequency[0], 1 / frequency[-1]))
    curve = splines(frequency, pixels.limits, BACKGROUND_KNOTS) @ smooth_background(pixels)
    background = np.exp(np.interp(np.hypot(*_plane(estimate)), frequency, curve))
    return along_arcs(whole_plane(estimate.spectrum.power) / background - 1, estimate.spectrum.box // 2)


def ring_contrast(
    estimate: CtfEstimate, measured: Float[np.ndarray, "y left"], fitted: Float[np.ndarray, "y x"]
) -> Float[np.ndarray, "y x"]:
    """What both halves are divided by: `contrast_curve` of the depth of the rings and of what the fit has left over.

    Where no CTF was found it is that of the measurement alone.
    """
    profile, k, inside = estimate.profile, np.hypot(*_plane(estimate)), _inside(estimate)
    columns = measured.shape[1]
    left = inside[:, :columns]
    rest = np.abs(measured - fitted[:, :columns] if estimate.found else measured)[left]
    ring = np.searchsorted(profile.frequency, k[:, :columns][left], side="right") - 1
    count = np.bincount(ring, minlength=len(profile.frequency))
    mean = np.bincount(ring, rest, minlength=len(count)) / np.maximum(count, 1)
    level = np.interp(profile.frequency, profile.frequency[count > 0], mean[count > 0])
    return np.interp(k, profile.frequency, contrast_curve(profile.depth * estimate.found, level))


def contrast_curve(depth: Float[np.ndarray, " s"], rest: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """`sqrt(m^2 + (NOISE n)^2)`: what rings of depth m are divided by for the eye. `rest` are sizes of what the fit leaves over,
    of which n is the smooth rms; it passes over narrow peaks, as of ice.
    """
    from scipy import ndimage

    width = max(1, len(rest) // 40)
    level = ndimage.median_filter(np.abs(rest), 4 * width + 1, mode="nearest")
    noise = math.sqrt(math.pi / 2) * ndimage.gaussian_filter1d(level, width, mode="nearest")  # of a normal distribution
    return np.maximum(np.sqrt(np.square(depth) + (NOISE * noise) ** 2), 1e-6)


def along_arcs(plane: Float[np.ndarray, "y x"], columns: int) -> Float[np.ndarray, "y columns"]:
    """The first columns of a plane, zero frequency in its middle, averaged along arcs of circles with a Gaussian of rms `ARC`."""
    from scipy import ndimage

    middle = plane.shape[0] // 2
    y, x = np.mgrid[: plane.shape[0], :columns].astype(np.float32) - np.float32(middle)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    spacing = 0.3  # standard deviations
    step = np.minimum(spacing * ARC / np.maximum(radius, 1), spacing * WIDEST_ARC)  # radian
    total, weights = np.zeros_like(radius), 0.0
    for index in range(-7, 8):
        weight = math.exp(-((spacing * index) ** 2) / 2)
        turned = angle + index * step
        at = np.stack([radius * np.sin(turned) + middle, radius * np.cos(turned) + middle])
        total += weight * ndimage.map_coordinates(plane, at, order=1, mode="nearest", output=np.float32)
        weights += weight
    return total / weights


def whole_plane(half: Float[np.ndarray, "y xh"]) -> Float[np.ndarray, "y x"]:
    """The centred plane of an even half plane [N, N // 2 + 1], as the power of a real image has it: P(-k) = P(k)."""
    size = half.shape[0]
    whole = np.empty((size, size), dtype=half.dtype)
    whole[:, : size // 2 + 1] = half
    whole[:, size // 2 + 1 :] = np.roll(half[::-1, 1 : size // 2][:, ::-1], 1, axis=0)
    return np.fft.fftshift(whole)


def _plane(estimate: CtfEstimate) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (kx [1, x], ky [y, 1]) of the centred plane in 1/angstrom."""
    box = estimate.spectrum.box
    kx, ky = frequencies((box, box), estimate.spectrum.pixel_size, half=False)
    return np.fft.fftshift(kx).reshape(1, -1), np.fft.fftshift(ky).reshape(-1, 1)


def _inside(estimate: CtfEstimate) -> np.ndarray:
    k, frequency = np.hypot(*_plane(estimate)), estimate.profile.frequency
    return (k >= frequency[0]) & (k <= frequency[-1])


# --- files and drawings -----------------------------------------------------------------------------------------------


def spectrum_png(picture: Float[np.ndarray, "y x"], size: int = PICTURE) -> bytes:
    """PNG in 15 greys of a picture, y upwards; transparent where it is NaN. It ends where the frequencies of the fit end."""
    known = ~np.isnan(picture)
    middle = picture.shape[0] // 2
    reach = min(int(np.abs(np.argwhere(known) - middle).max(initial=1)), middle - 1)
    part = slice(middle - reach, middle + reach + 1)
    grey = np.where(known, np.clip(picture / (2 * WHITE) + 0.5, 0, 1), 0)
    return _packed(grey[part, part][::-1], known[part, part][::-1], size)


def thumbnail_png(png: bytes, size: int = THUMBNAIL) -> bytes:
    """A smaller copy of a picture that `spectrum_png` made."""
    from PIL import Image

    grey, opacity = np.moveaxis(np.asarray(Image.open(io.BytesIO(png)).convert("LA"), dtype=np.float32) / 255, -1, 0)
    known = opacity > 0.5
    return _packed(np.where(known, grey, 0), known, size)


def _packed(grey: np.ndarray, known: np.ndarray, size: int) -> bytes:
    """PNG of four bits a pixel: greys from 0 to 1 where `known`, transparent elsewhere, scaled to `size` pixels."""
    from PIL import Image

    scaled = [
        Image.fromarray(np.ascontiguousarray(one, dtype=np.float32)).resize((size, size), Image.Resampling.LANCZOS)
        for one in (grey, known)
    ]
    values, weight = (np.asarray(one) for one in scaled)
    level = np.rint(np.clip(values / np.maximum(weight, 0.5), 0, 1) * (GREYS - 1)).astype(np.uint8)
    picture = Image.fromarray(np.where(weight > 0.5, level, GREYS).astype(np.uint8), mode="P")
    greys = np.repeat(np.rint(np.arange(GREYS) * (255 / (GREYS - 1))).astype(np.uint8), 3)
    picture.putpalette([*greys.tolist(), 128, 128, 128])
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", bits=4, transparency=GREYS, optimize=True)
    return buffer.getvalue()


def spectrum_drawing(
    png: bytes,
    *,
    title: str,
    finest: float,
    fit_resolution: float | None = None,
    slope: tuple[float, float] | None = None,
    right: str = "fitted",
) -> str:
    """SVG of a picture that ends at the resolution `finest` (angstrom), with circles where the fit ends and where ice shows.

    An arrow in a corner points in the image towards higher defocus where the `slope` is known. `right` says what the right half is.
    """
    parts = [
        element("image", href=data_uri(png), x=0, y=0, width=DRAWN, height=DRAWN),
        text_at(2, DRAWN - 4, "measured", colour="muted"),
        text_at(DRAWN - 2, DRAWN - 4, right, anchor="end", colour="muted"),
        text_at(2, 14, f"to {resolution_label(finest)} Å", colour="muted"),
    ]
    if finest < ICE:
        parts += _circle(finest / ICE, f"ice {resolution_label(ICE)} Å", 0, at_top=False)
    if fit_resolution is not None:
        parts += _circle(min(1.0, finest / fit_resolution), f"fit {resolution_label(fit_resolution)} Å", 1, at_top=True)
    if slope is not None and any(slope):
        parts += _arrow(*slope)
    description = "Left half: the measured spectrum. Right half: the fitted CTF."
    return drawing(DRAWN, DRAWN, parts, title, description)


def _circle(part: float, label: str, colour: int, *, at_top: bool) -> list[str]:
    """A circle at this part of the radius, with its label just inside."""
    middle, radius, width = DRAWN / 2, DRAWN / 2 * part - 1, CHARACTER * len(label) + 4
    dash = None if at_top else "3 4"
    top = middle - radius + 3 if at_top else middle + radius - 20
    return [
        element(
            "circle",
            cx=middle,
            cy=middle,
            r=radius,
            fill="none",
            stroke=colour_of(colour),
            stroke_width=1.6,
            stroke_dasharray=dash,
        ),
        element(
            "rect", x=middle - width / 2, y=top, width=width, height=17, rx=3, fill=colour_of("page"), opacity=0.85
        ),
        text_at(middle, top + 13, label, anchor="middle"),
    ]


def _arrow(along_x: float, along_y: float) -> list[str]:
    """The direction of the slope in the right upper corner, y upwards as in the picture."""
    length, middle, height = 17.0, DRAWN - 20.0, 38.0
    size = math.hypot(along_x, along_y)
    x, y = length * along_x / size, -length * along_y / size
    head = [(0.45 * (-x + side * y), 0.45 * (-y - side * x)) for side in (0.6, -0.6)]
    path = f"M{middle - x:.1f} {height - y:.1f}L{middle + x:.1f} {height + y:.1f}"
    path += "".join(f"M{middle + x:.1f} {height + y:.1f}l{a:.1f} {b:.1f}" for a, b in head)
    return [
        text_at(DRAWN - 2, 14, "deeper", anchor="end", colour="muted"),
        element("g", element("title", "Direction in which the defocus grows") + line(path, "ink", 2, cap="round")),
    ]
