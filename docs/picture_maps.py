"""Writes docs/pictures/abinitio_starts.png, refined_map.png, refined_slices.png and refined_fsc.svg.

    python docs/picture_maps.py ../shared/data/betagal/particles.star [--abinitio FOLDER] [--refine FOLDER]

Beta-galactosidase, EMPIAR-10204: 2,374 picks, no poses. A first map is made of them from random starts, and refined (or what finished jobs have
left in the two folders is drawn). The first picture has a row for each start that was made to the end, the best first, laid over the best one: its surface from
three sides, and its central slices across z, y and x. The others show the refined map and how its halves agree. Printed are the scores of the starts, their agreement,
and the resolution.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from make_pictures import PICTURES, figures, on_white, smaller
from PIL import Image

from vitreous.alignment.abinitio import Start, ranked
from vitreous.alignment.held_out import SURE
from vitreous.alignment.start_agreement import StartAgreement, start_agreement
from vitreous.engine.checkpoint import load_state
from vitreous.io.mrc import read_volume
from vitreous.jobs.abinitio import STARTS, Abinitio
from vitreous.jobs.abinitio_sections import laid_over_best
from vitreous.jobs.folder import run_job
from vitreous.jobs.job import Outcome
from vitreous.jobs.map_products import MapAnalysis, analyse
from vitreous.jobs.map_sections import fsc_section, picture_figures
from vitreous.jobs.pictures import image_gallery, isosurface_picture
from vitreous.jobs.refine3d import Refine
from vitreous.jobs.report import Section
from vitreous.reconstruction.mask import automatic_mask, masked_for_display

SYMMETRY, SEED = "D2", 0
PANEL = 112  # pixels of each view and slice
MARGIN = 0.8  # of the width of the box is shown of each slice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("particles", type=Path, help="particles.star of beta-galactosidase")
    parser.add_argument("--abinitio", type=Path, help="folder of a finished `vitreous abinitio` of these particles")
    parser.add_argument("--refine", type=Path, help="folder of a finished `vitreous refine` of these particles")
    options = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        first, refined = options.abinitio or Path(name) / "first", options.refine or Path(name) / "refined"
        if options.abinitio is None:
            run_job(Abinitio(options.particles, symmetry=SYMMETRY, seed=SEED), first)
        if options.refine is None:
            run_job(Refine(options.particles, reference=(first / "map.mrc",), symmetry=SYMMETRY), refined)
        made = {"abinitio_starts.png": starts_picture(first), **refined_pictures(refined)}
    for name, content in made.items():
        (PICTURES / name).write_bytes(content)
        print(f"{len(content) / 1000:6.1f} kB  {name}")


# --- the starts -------------------------------------------------------------------------------------------------------


def starts_picture(folder: Path) -> bytes:
    """A row for each start, all laid over the best one."""
    starts, pixel_size = read_starts(folder)
    agreement = compared(starts, pixel_size, folder)
    rows = []
    for row, start in enumerate(starts):
        volume = laid_over_best(row, start, agreement)[0]
        like = "" if row == 0 else f", mean FSC with the best {agreement.correlation[row]:.2f}"
        print(f"start {start.number + 1}: score {start.score:.2f} ± {start.score_error:.2f} nat{like}")
        rows.append(beside(surface_of(volume, pixel_size), slices_of(volume)))
    return png(np.concatenate(rows))


def read_starts(folder: Path) -> tuple[list[Start], float]:
    """The starts of a finished job that were made to the end, the best first, and the pixel size of their maps."""
    paths = [path for path in (folder / STARTS).glob("start*.npz") if not path.stem.endswith("_half")]
    starts = ranked([load_state(path, Start) for path in paths])
    return starts, read_volume(folder / STARTS / "start1.mrc").pixel_size


def compared(starts: Sequence[Start], pixel_size: float, folder: Path) -> StartAgreement:
    """How the starts agree, as the job itself has compared them."""
    result = json.loads((folder / "result.json").read_text())
    return start_agreement(
        [start.maps for start in starts],
        [start.score for start in starts],
        starts[0].population,
        pixel_size,
        least_score=starts[0].score - SURE * starts[0].score_error,
        radius=result["mask_diameter_angstrom"] / 2 / pixel_size,
        coarsest=Abinitio.start_resolution,
        finest=result["end_resolution_angstrom"],
    )


def surface_of(volume: np.ndarray, pixel_size: float) -> np.ndarray:
    """The surface from three sides, on white."""
    shown, level = masked_for_display(volume, automatic_mask(volume, pixel_size))
    if level is None:  # nothing stands out
        return np.full((PANEL, 3 * PANEL, 3), 255, np.uint8)
    return on_paper(isosurface_picture(shown, level, size=PANEL, field=MARGIN * len(volume)))


def slices_of(volume: np.ndarray) -> np.ndarray:
    """Central slices across z, y and x."""
    middle, rim = len(volume) // 2, round(len(volume) * (1 - MARGIN) / 2)
    inner = slice(rim, len(volume) - rim)
    slices = [volume[middle], volume[:, middle], volume[:, :, middle]]
    cut = [image[inner, inner] for image in slices]
    return on_paper(image_gallery(cut, columns=3, size=PANEL, same_scale=True))


def on_paper(picture: bytes) -> np.ndarray:
    """A picture without transparency, [y, x, 3], with a little room below."""
    drawn = Image.open(io.BytesIO(picture)).convert("RGBA")
    paper = Image.new("RGBA", (drawn.width, drawn.height + 10), "white")
    paper.alpha_composite(drawn)
    return np.asarray(paper.convert("RGB"))


def beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.concatenate([left, np.full((len(left), 14, 3), 255, np.uint8), right], axis=1)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).quantize(256, method=Image.Quantize.MEDIANCUT).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


# --- the refined map --------------------------------------------------------------------------------------------------


def refined_pictures(folder: Path) -> dict[str, bytes]:
    """Surface, slices and projections, and FSC, as the report has them."""
    analysis = analysis_of(folder)
    print(f"refined: {analysis.resolution}")
    outcome = Outcome(sections=[Section("Result", "", figures=picture_figures(analysis)), fsc_section(analysis)])
    surface, slices = figures(outcome, "Result")
    return {
        "refined_map.png": smaller(surface.png),
        "refined_slices.png": smaller(slices.png),
        "refined_fsc.svg": on_white(figures(outcome, "Fourier shell correlation")[0].svg),
    }


def analysis_of(folder: Path) -> MapAnalysis:
    halves = [read_volume(folder / f"half{number}.mrc") for number in (1, 2)]
    first, second = (half.data for half in halves)
    return analyse((first, second), (first + second) / 2, halves[0].pixel_size)


if __name__ == "__main__":
    main()
