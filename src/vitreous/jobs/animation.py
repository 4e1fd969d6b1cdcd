"""Moving pictures of maps: frames of surfaces or of central sections, and files made of them."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from vitreous.jobs.pictures import grey_limits, grey_panel
from vitreous.jobs.surface import FRONT, SurfaceView, draw_surface

FRAME_MS = 120
REST_MS = 600  # at the ends
PAPER = 255  # of GIF files, which know no partial transparency


def surface_frame(volume: np.ndarray, level: float, field: float, *, size: int) -> np.ndarray:
    """The front of the surface at `level`, uint8 [size, size, 4]; nothing where the map does not reach it."""
    if not volume.min() < level < volume.max():
        return np.zeros((size, size, 4), np.uint8)
    view = SurfaceView(volume, level, field=field)
    return (draw_surface(view, FRONT, size=size) * 255 + 0.5).astype(np.uint8)


def section_frames(sections: Sequence[np.ndarray], *, size: int) -> list[np.ndarray]:
    """Sections [y, x] in one grey scale, uint8 [size, size, 4] each."""
    limits = grey_limits(sections)
    return [grey_panel(section, limits, size) for section in sections]


def animated(frames: Sequence[np.ndarray], kind: str) -> bytes:
    """Frames uint8 [y, x, 4], there and back without end, as an animated picture: "PNG" keeps the transparency, "GIF" puts white behind."""
    from PIL import Image

    order = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    ends = (0, len(frames) - 1)
    durations = [REST_MS if index in ends else FRAME_MS for index in order]
    pictures = [Image.fromarray(np.ascontiguousarray(frames[index])) for index in order]
    if kind == "GIF":
        pictures = [on_paper(picture).quantize(128) for picture in pictures]
    buffer = io.BytesIO()
    more = {"disposal": 2} if kind == "GIF" else {"disposal": 0, "blend": 0}
    pictures[0].save(buffer, format=kind, save_all=True, append_images=pictures[1:], duration=durations, loop=0, **more)
    return buffer.getvalue()


def on_paper(picture):
    """The picture on white, without transparency."""
    from PIL import Image

    paper = Image.new("RGBA", picture.size, (PAPER, PAPER, PAPER, 255))
    paper.alpha_composite(picture)
    return paper.convert("RGB")
