"""vitreous on some images, in one process: what was found of each, and its seconds, as JSON, in the form of the other runners here.

    python run_vitreous.py --pixel-size 1 --voltage-kv 300 --cs-mm 2.7 --amplitude-contrast 0.1 --out found.json
                           [--tilt] [--thickness] [--spectra] IMAGE.mrc ...

Reading the file and the estimate itself are timed; `vitreous ctf` writes tables, pictures and a report besides.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

STARTED = time.perf_counter()
import vitreous  # noqa: E402 - its import is part of what is timed
from vitreous.engine.compilation import use_persistent_cache  # noqa: E402
from vitreous.errors import InputError  # noqa: E402
from vitreous.estimation.ctf_estimate import CtfEstimate, Lens, Search  # noqa: E402
from vitreous.estimation.ctf_fit import estimate_ctf, estimate_from_spectrum  # noqa: E402
from vitreous.estimation.spectrum import stored_spectrum  # noqa: E402
from vitreous.io.micrographs import open_micrograph  # noqa: E402
from vitreous.units import KILOVOLT, MILLIMETRE  # noqa: E402

THICKNESS = (300.0, 4000.0)  # angstrom that are searched, of ice


def found_of(image: Path, options: argparse.Namespace) -> dict[str, object]:
    lens = Lens(options.voltage_kv * KILOVOLT, options.cs_mm * MILLIMETRE, options.amplitude_contrast)
    search = Search(tilt=options.tilt, thickness=THICKNESS if options.thickness else None)
    file = open_micrograph(image, spectrum=options.spectra, pixel_size=options.pixel_size)
    if options.spectra:
        return as_row(estimate_from_spectrum(stored_spectrum(file.read(), file.pixel_size), lens, search))
    return as_row(estimate_ctf(file.read(), file.pixel_size, lens, search))


def as_row(estimate: CtfEstimate) -> dict[str, object]:
    plane, names = estimate.plane, estimate.names
    row: dict[str, object] = {
        "defocus_u": estimate.defocus_u,
        "defocus_v": estimate.defocus_v,
        "angle_deg": math.degrees(estimate.defocus_angle),
        "found": estimate.found,
        "evidence": estimate.evidence,
        "resolution": estimate.fit_resolution,
        "sigma": {name: estimate.sigma(name) for name in names},
    }
    if plane is not None:
        row |= {"tilt_deg": math.degrees(plane.tilt), "tilt_axis_deg": math.degrees(plane.axis_angle)}
    return row | ({} if estimate.thickness is None else {"thickness": estimate.thickness})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pixel-size", "voltage-kv", "cs-mm", "amplitude-contrast"):
        parser.add_argument(f"--{name}", type=float, required=True)
    for name in ("tilt", "thickness", "spectra"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("images", nargs="+", type=Path)
    options = parser.parse_args()
    use_persistent_cache()
    answer = {"version": vitreous.__version__, "start_up_seconds": time.perf_counter() - STARTED, "images": {}}
    for image in options.images:
        started = time.perf_counter()
        try:
            found = found_of(image, options)
        except InputError as problem:
            found = {"failed": problem.line()}
        answer["images"][str(image)] = {**found, "seconds": time.perf_counter() - started}
    options.out.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
