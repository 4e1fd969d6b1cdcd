"""Writes docs/pictures/ctf.png and ctf_rings.svg: the spectrum of a simulated micrograph and the CTF that was found in it.

    python docs/picture_ctf.py

30 copies of 6ZU5 in 400 A of ice, 2048 px of 1.5 A, 1.6 um underfocus, astigmatic, 50 e/A^2. The left half of
the picture is the measured spectrum, the right half the fitted CTF; the curves are averages along the rings. Printed: what was
found, and the truth.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

from vitreous.estimation.ctf_estimate import Lens
from vitreous.estimation.ctf_fit import estimate_ctf
from vitreous.io.mrc import read_image
from vitreous.jobs.ctf_figures import rings_figure, summary
from vitreous.jobs.ctf_pictures import spectrum_picture, spectrum_png
from vitreous.jobs.ctf_row import CtfRow
from vitreous.jobs.folder import run_job
from vitreous.jobs.micrograph_plan import FOLDER, MicrographPlan
from vitreous.jobs.simulate_micrograph import SimulateMicrograph
from vitreous.units import DEGREE

PICTURES = Path(__file__).resolve().parent / "pictures"
SIZE = 560  # pixels


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    settings = SimulateMicrograph(
        Path("bundled:6zu5"),
        pixel_size=1.5,
        size=(2048,),
        particles=30,
        ice_thickness=400.0,
        defocus_um=(1.6, 1.6),
        astigmatism=1000.0,
        dose=50.0,
        seed=3,
    )
    with tempfile.TemporaryDirectory() as folder:
        run_job(settings, Path(folder) / "job")
        plan = MicrographPlan.of(settings)
        image = read_image(Path(folder) / "job" / FOLDER / f"{plan.names[0]}.mrc")
    microscope, truth = plan.microscopes[0], plan.ctf
    lens = Lens(microscope.voltage, float(microscope.spherical_aberration), plan.amplitude_contrast)
    estimate = estimate_ctf(image, plan.field.pixel_size, lens)
    row = CtfRow.of_estimate(
        estimate,
        name="simulated",
        path="",
        micrograph="",
        kind="micrograph",
        optics_group=1,
        pixel_size=plan.field.pixel_size,
        shape=(image.shape[0], image.shape[1]),
        reasons=(),
        seconds=math.nan,
    )
    print(summary(row))
    size, angle = truth.defocus_u[0] - truth.defocus_v[0], truth.defocus_angle[0] / DEGREE
    print(f"truth: defocus {truth.defocus[0]:.0f} A, U - V {size:.0f} A at {angle:.1f} degrees")
    (PICTURES / "ctf.png").write_bytes(spectrum_png(spectrum_picture(estimate), SIZE))
    (PICTURES / "ctf_rings.svg").write_text(rings_figure(row).svg + "\n", encoding="utf-8")
    for name in ("ctf.png", "ctf_rings.svg"):
        print(f"{name}: {(PICTURES / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
