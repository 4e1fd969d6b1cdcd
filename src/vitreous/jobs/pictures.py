"""Pictures of maps and images as PNG files in memory.

All are drawn with x to the right and y upwards, z towards the viewer: a right-handed view, as molecular viewers show
it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np

from vitreous.errors import DataProblem
from vitreous.jobs.surface import COLOUR, FRONT, SIDE, TOP, SurfaceView, draw_surface

VIEWS = (FRONT, SIDE, TOP)
GUTTER = 10  # pixels between panels, transparent


def isosurface_picture(
    volume: np.ndarray,
    threshold: float,
    views: Sequence[np.ndarray] = VIEWS,
    *,
    size: int = 300,
    field: float | None = None,
    colour: tuple[float, float, float] = COLOUR,
) -> bytes:
    """PNG of the surface where the map crosses `threshold`, one panel of `size` pixels a view, side by side, background
    transparent.

    `views` are rotation matrices: `r_view = R @ r_object`. The default shows the front, the map turned by 90 degrees
    about the vertical axis, and the map turned by 90 degrees about the horizontal axis. `field` is the width of a panel
    in voxels; by default the smallest that shows the whole surface from any side. `DataProblem` when the threshold lies
    outside the range of the map.
    """
    view = SurfaceView(volume, threshold, field=field)
    panels = [
        draw_surface(view, np.asarray(rotation, dtype=np.float64), size=size, colour=colour) for rotation in views
    ]
    return _png(sheet_of([(panel * 255 + 0.5).astype(np.uint8) for panel in panels], columns=len(panels)))


def slices_picture(volume: np.ndarray, *, size: int = 240) -> bytes:
    """PNG of two rows of three grey panels: central slices across z, y and x, and below them the projections along z, y
    and x.

    Panels across z show (x, y), across y (x, z), across x (y, z), each as (right, up). The three slices share one grey
    scale from the 0.2 to the 99.8 percentile, the three projections another.
    """
    middle = volume.shape[0] // 2
    slices = [volume[middle], volume[:, middle], volume[:, :, middle]]
    projections = [volume.sum(axis=0), volume.sum(axis=1), volume.sum(axis=2)]
    panels = [
        grey_panel(image, limits, size)
        for row in (slices, projections)
        for limits in [grey_limits(row)]
        for image in row
    ]
    return _png(sheet_of(panels, columns=3))


def image_gallery(
    images: np.ndarray | Sequence[np.ndarray], *, columns: int = 8, size: int = 96, same_scale: bool = False
) -> bytes:
    """PNG of images [n, y, x] as a contact sheet, row by row. Each has its own grey scale from its 0.2 to its 99.8
    percentile, or all share one with `same_scale`.
    """
    if len(images) == 0:
        raise DataProblem("no images for a gallery", "at least one")
    shared = grey_limits(images) if same_scale else None
    return _png(
        sheet_of(
            [grey_panel(image, shared or grey_limits([image]), size) for image in images],
            columns=min(columns, len(images)),
        )
    )


def grey_picture(image: np.ndarray, *, size: int = 128) -> bytes:
    """PNG of one image [y, x], `size` pixels a side, its grey scale from its 0.2 to its 99.8 percentile."""
    return _png(grey_panel(image, grey_limits([image]), size)[..., 0])


def data_uri(png: bytes) -> str:
    """The picture as a `data:` address, to stand inside a page."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def png_bytes(pixels: np.ndarray) -> bytes:
    """PNG of pixels uint8 [y, x], [y, x, 3] or [y, x, 4], row 0 at the top."""
    return _png(pixels)


def grey_limits(images: Sequence[np.ndarray] | np.ndarray) -> tuple[float, float]:
    """Robust black and white points of some images; constant images get a range of their own."""
    values = np.concatenate([np.asarray(image).ravel() for image in images])
    values = values[np.isfinite(values)][:: max(1, values.size // 200_000)]
    if values.size == 0:
        return 0.0, 1.0
    black, white = (float(v) for v in np.percentile(values, (0.2, 99.8)))
    return (black, white) if white > black else (black - 0.5, black + 0.5)


def grey_panel(image: np.ndarray, limits: tuple[float, float], size: int) -> np.ndarray:
    """One grey image enlarged or reduced to `size` pixels a side, y upwards, with opacity 1: uint8 [size, size, 4]."""
    from PIL import Image

    black, white = limits
    scaled = np.nan_to_num(
        (np.asarray(image, dtype=np.float32) - black) / (white - black), nan=0.0, posinf=1.0, neginf=0.0
    )
    picture = Image.fromarray(np.ascontiguousarray(scaled[::-1].clip(-1, 2)))
    method = Image.Resampling.BICUBIC if size >= image.shape[0] else Image.Resampling.LANCZOS
    grey = np.asarray(picture.resize((size, size), method))
    grey = (grey.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return np.stack([grey, grey, grey, np.full_like(grey, 255)], axis=-1)


def sheet_of(panels: Sequence[np.ndarray], *, columns: int) -> np.ndarray:
    """Panels of one size, uint8 [y, x, 4], laid out row by row on a transparent sheet."""
    height, width = panels[0].shape[:2]
    rows = -(-len(panels) // columns)
    sheet = np.zeros((rows * (height + GUTTER) - GUTTER, columns * (width + GUTTER) - GUTTER, 4), np.uint8)
    for index, panel in enumerate(panels):
        top, left = (index // columns) * (height + GUTTER), (index % columns) * (width + GUTTER)
        sheet[top : top + height, left : left + width] = panel
    return sheet


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()
