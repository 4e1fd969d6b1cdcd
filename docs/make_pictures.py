"""Writes docs/pictures: figures of the reports of `vitreous demo` and, where the data are, of a reconstruction of real
particles.

    python docs/make_pictures.py [--betagal ../shared/data/betagal/particles_posed.star]

The pictures are those of the reports, in fewer pixels and colours: each stays below 150 kB.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from vitreous.jobs.demo import Demo
from vitreous.jobs.folder import run_in_passing
from vitreous.jobs.job import Outcome
from vitreous.jobs.reconstruct import Reconstruct
from vitreous.jobs.report import Figure

DOCS = Path(__file__).resolve().parent
PICTURES = DOCS / "pictures"
BETAGAL = DOCS.parent.parent / "shared" / "data" / "betagal" / "particles_posed.star"
LARGEST = 150_000  # bytes
WIDTH = 800  # pixels


def figures(outcome: Outcome, heading: str) -> list[Figure]:
    """The figures of the section with this heading."""
    return [figure for section in outcome.sections if section.heading == heading for figure in section.figures]


def demo_pictures(outcome: Outcome) -> Iterator[tuple[str, bytes]]:
    """Noisy images, surfaces of map and truth, and their agreement."""
    yield "demo_images.png", smaller(figures(outcome, "What was simulated")[0].png)
    map_, truth = figures(outcome, "The map and the truth")[:2]
    yield "demo_map.png", smaller(map_.png)
    yield "demo_truth.png", smaller(truth.png)
    yield "demo_fsc.svg", on_white(figures(outcome, "Was the resolution honest?")[0].svg)


def betagal_pictures(outcome: Outcome) -> Iterator[tuple[str, bytes]]:
    """Surface and slices of the map of real particles, and its FSC."""
    surface, slices = figures(outcome, "Result")
    yield "betagal_map.png", smaller(surface.png)
    yield "betagal_slices.png", smaller(slices.png)
    yield "betagal_fsc.svg", on_white(figures(outcome, "Fourier shell correlation")[0].svg)


def smaller(png: bytes) -> bytes:
    """The picture at most `WIDTH` pixels wide, in as many of 256 colours as keep it below `LARGEST` bytes."""
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    height = round(picture.height * min(1, WIDTH / picture.width))
    picture = picture.resize((min(WIDTH, picture.width), height), Image.Resampling.LANCZOS)
    for colours in (256, 64, 16):
        buffer = io.BytesIO()
        picture.quantize(colours, method=Image.Quantize.FASTOCTREE).save(buffer, format="PNG", optimize=True)
        if buffer.tell() < LARGEST:
            break
    return buffer.getvalue()


def on_white(svg: str) -> bytes:
    """The drawing with a background of its own, for pages of any colour."""
    start = svg.index(">") + 1
    return (svg[:start] + '<rect width="100%" height="100%" fill="#fff"/>' + svg[start:] + "\n").encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--betagal", type=Path, default=BETAGAL, help="beta-galactosidase particles, EMPIAR-10204")
    options = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    made = list(demo_pictures(run_in_passing(Demo())))
    if options.betagal.is_file():
        made += betagal_pictures(run_in_passing(Reconstruct(options.betagal, symmetry="D2")))
    else:
        print(f"{options.betagal} is not there: its pictures are left as they are")
    for name, content in made:
        (PICTURES / name).write_bytes(content)
        print(f"{len(content) / 1000:6.1f} kB  {name}")


if __name__ == "__main__":
    main()
