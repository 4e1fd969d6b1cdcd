"""Pictures of picks: the micrograph, smoothed for the eye, with a ring about everything that was found."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from vitreous.io.micrographs import open_micrograph
from vitreous.jobs.pick_micrograph import PickRow
from vitreous.jobs.pictures import data_uri
from vitreous.jobs.svg import colour_of, drawing, element, nice_ticks
from vitreous.picking.working_image import working_image

if TYPE_CHECKING:
    from jaxtyping import Float

DRAWN = 560  # pixels of the longer side of a picture
GREYS = 16  # four bits a pixel
FINE, SLOW = 0.04, 2.0  # diameters: standard deviations of Gaussians that blur detail, and that say what changes slowly
AROUND = 1.2  # diameters of a ring about a particle
FAINT = 0.1  # of the pixels are darker than black, or brighter than white, in percent
RING, CROSS = "#ffb02e", "#ff5d5d"  # on grey, in either theme
HALO = "#10161a"


def smoothed(row: PickRow, diameter: float, size: int = DRAWN) -> Float[np.ndarray, "y x"]:
    """The micrograph with at most `size` pixels a side, as it was recorded, without detail and slow changes that hide particles of
    `diameter` (angstrom)."""
    from scipy import ndimage

    file = open_micrograph(row.path, pixel_size=row.pixel_size)
    small = working_image(file.read(), row.pixel_size, max(row.shape) * row.pixel_size / size, contrast="inverted")
    fine, slow = (part * diameter / small.pixel_size for part in (FINE, SLOW))
    detail = ndimage.gaussian_filter(small.values, fine, mode="reflect")
    return detail - ndimage.gaussian_filter(small.values, slow, mode="reflect")


def grey_png(image: Float[np.ndarray, "y x"]) -> bytes:
    """PNG of 16 greys, y upwards."""
    from PIL import Image

    black, white = (float(value) for value in np.percentile(image, (FAINT, 100 - FAINT)))
    level = (image[::-1] - black) / max(white - black, 1e-30) * (GREYS - 1)
    picture = Image.fromarray(np.rint(np.clip(level, 0, GREYS - 1)).astype(np.uint8), mode="P")
    picture.putpalette(np.repeat(np.rint(np.arange(GREYS) * (255 / (GREYS - 1))).astype(np.uint8), 3).tolist())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", bits=4, optimize=True)
    return buffer.getvalue()


def picks_drawing(row: PickRow, diameter: float, *, rings: bool = True) -> str:
    """SVG of a micrograph with rings about its picks, a little wider than they are or than `diameter` (angstrom) where that is not
    known; crosses are places in suspect areas.
    """
    image = smoothed(row, diameter)
    height, width = image.shape
    scale = width / row.shape[1]
    parts = [element("image", href=data_uri(grey_png(image)), x=0, y=0, width=width, height=height)]
    if rings:
        x, y = row.picks.position.T * scale
        known = row.picks.diameter
        radius = (np.full(len(x), diameter) if known is None else known) * (AROUND / 2 / row.pixel_size * scale)
        for colour, stroke in ((HALO, 3.2), (RING, 1.6)):
            path = "".join(_circle(*one) for one in zip(x, height - y, radius))
            parts.append(element("path", d=path or "M0 0", fill="none", stroke=colour, stroke_width=stroke))
        x, y = row.suspect.position.T * scale
        path = "".join(f"M{a - 5:.1f} {b - 5:.1f}l10 10m0-10l-10 10" for a, b in zip(x, height - y))
        if path:
            parts.append(element("path", d=path, fill="none", stroke=CROSS, stroke_width=2))
    parts += _scale_bar(width, height, row.shape[1] * row.pixel_size)
    title = f"Picks in {row.name}"
    return drawing(width, height, parts, title, f"{len(row.picks)} picks, {len(row.suspect)} places left out.")


def _circle(x: float, y: float, radius: float) -> str:
    return f"M{x - radius:.1f} {y:.1f}a{radius:.1f} {radius:.1f} 0 1 0 {2 * radius:.1f} 0a{radius:.1f} {radius:.1f} 0 1 0 {-2 * radius:.1f} 0"


def _scale_bar(width: float, height: float, extent: float) -> list[str]:
    """A bar of a round length in nanometre, about a sixth of the picture, in its lower left corner."""
    length = nice_ticks(0, extent / 10, 6)[1]
    drawn = length * 10 / extent * width
    label = f"{length:g} nm"
    return [
        element("rect", x=6, y=height - 30, width=drawn + 12, height=24, rx=3, fill=colour_of("page"), opacity=0.85),
        element("rect", x=12, y=height - 12, width=drawn, height=3, fill=colour_of("ink")),
        element(
            "text",
            label,
            x=12 + drawn / 2,
            y=height - 16,
            text_anchor="middle",
            fill=colour_of("ink"),
            font_size=12,
            font_family="var(--sans,system-ui,sans-serif)",
        ),
    ]
