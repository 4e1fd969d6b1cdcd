"""Writes docs/pictures/micrograph.png: a simulated micrograph of ribosomes in ice, and its spectrum beside the CTF.

    python docs/picture_micrograph.py

Left: 30 copies of 6ZU5 in 400 A of ice, 2048 px of 1.5 A, 1.6 um underfocus, 50 e/A^2 on a Falcon 4. Right: the left half is the log
of its power spectrum, less its radial trend, the right half the square of the CTF, to 1/5 A. Printed: the correlation of the
radial power, its trend removed, with the CTF squared, and with those of wrong defoci.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.io.mrc import read_image
from vitreous.jobs.folder import run_job
from vitreous.jobs.micrograph_plan import FOLDER, MicrographPlan
from vitreous.jobs.micrograph_sections import grey_picture, radial_power, reduced, spectrum_picture, tile_power
from vitreous.jobs.pictures import png_bytes
from vitreous.jobs.simulate_micrograph import SimulateMicrograph
from vitreous.model.microscope import Microscope
from vitreous.optics.ctf import ctf

PICTURE = Path(__file__).resolve().parent / "pictures" / "micrograph.png"
PANEL, GUTTER = 440, 10  # pixels
SHOWN = 5.0  # angstrom: where the spectrum ends
RINGS = (1 / 25, 1 / 7)  # 1/angstrom: where they are compared
LARGEST = 150_000  # bytes


def agreement(power: np.ndarray, pixel_size: float, microscope: Microscope, defocus: float) -> float:
    """Correlation of the radial power of some rings, its trend removed, with the CTF squared at a defocus."""
    k, radial = radial_power(power, pixel_size, microscope)
    inside = (k > RINGS[0]) & (k < RINGS[1])
    expected = ctf(
        k[inside],
        0.0 * k[inside],
        defocus,
        voltage=microscope.voltage,
        spherical_aberration=microscope.spherical_aberration,
        amplitude_contrast=microscope.amplitude_contrast,
    )
    log = np.log(radial[inside])
    flat = log - np.polyval(np.polyfit(k[inside], log, 4), k[inside])
    return float(np.corrcoef(flat, expected**2)[0, 1])


def panel(png: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(png)).convert("L")
    return np.asarray(picture.resize((PANEL, PANEL), Image.Resampling.LANCZOS))


def packed(pixels: np.ndarray) -> bytes:
    """PNG in as many greys as keep it below the largest size."""
    for greys in (32, 16, 12, 8):
        picture = Image.fromarray(pixels).quantize(greys, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", optimize=True)
        if len(buffer.getvalue()) < LARGEST:
            return buffer.getvalue()
    raise SystemExit(f"the picture is larger than {LARGEST} bytes")


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    settings = SimulateMicrograph(
        Path("bundled:6zu5"),
        pixel_size=1.5,
        size=(2048,),
        particles=30,
        ice_thickness=400.0,
        defocus_um=(1.6, 1.6),
        dose=50.0,
        seed=3,
    )
    with tempfile.TemporaryDirectory() as folder:
        run_job(settings, Path(folder) / "job")
        plan = MicrographPlan.of(settings)
        image = read_image(Path(folder) / "job" / FOLDER / f"{plan.names[0]}.mrc")
    power, microscope = tile_power(image), plan.microscopes[0]
    for change in (0.0, -800.0, 800.0):
        match = agreement(power, plan.field.pixel_size, microscope, microscope.defocus + change)
        print(f"defocus {change:+.0f} A: correlation of the rings {match:.3f}")
    spectrum = spectrum_picture(power, plan, show=2 * plan.field.pixel_size / SHOWN)
    left = panel(png_bytes(grey_picture(reduced(image, PANEL), percentile=0.2)))
    gap = np.full((PANEL, GUTTER), 255, dtype=np.uint8)
    PICTURE.write_bytes(packed(np.concatenate([left, gap, panel(spectrum)], axis=1)))
    print(f"{PICTURE}: {PICTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
