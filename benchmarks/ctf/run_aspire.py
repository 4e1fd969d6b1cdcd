"""ASPIRE's CTF estimation on some images, by the Python that has ASPIRE: what was found of each, and its seconds, as JSON.

    python run_aspire.py --pixel-size 1 --voltage-kv 300 --cs-mm 2.7 --amplitude-contrast 0.1 --out found.json IMAGE.mrc ...

`aspire.ctf.estimate_ctf` is what its command `aspire estimate-ctf` calls: it takes a folder, and reads every image in it. Blocks of 512 pixels, two tapers and
30 to 5 A are its defaults. Its defocus is searched from 500 to 10000 nm. Its angle goes from +y towards +x: images are read with x and y exchanged.
"""

import argparse
import json
import logging
import math
import os
import tempfile
import time
from pathlib import Path

STARTED = time.perf_counter()
import aspire  # noqa: E402 - its import is part of what is timed
from aspire.ctf import estimate_ctf  # noqa: E402

logging.disable(logging.INFO)


def found_of(image: Path, options: argparse.Namespace) -> dict[str, float]:
    """What it says of one image, alone in a folder."""
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(image.resolve(), Path(folder) / "image.mrc")
        lens = {"cs": options.cs_mm, "voltage": options.voltage_kv, "amplitude_contrast": options.amplitude_contrast}
        window = {"psd_size": options.box, "g_min": options.resolution[0], "g_max": options.resolution[1]}
        output = str(Path(folder) / "results")
        result = estimate_ctf(folder, pixel_size=options.pixel_size, **lens, **window, output_dir=output)["image.mrc"]
    angle = 90.0 - math.degrees(float(result["defocus_ang"]))
    return {"defocus_u": float(result["defocus_u"]), "defocus_v": float(result["defocus_v"]), "angle_deg": angle}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pixel-size", "voltage-kv", "cs-mm", "amplitude-contrast"):
        parser.add_argument(f"--{name}", type=float, required=True)
    parser.add_argument("--resolution", type=float, nargs=2, default=(30.0, 5.0))
    parser.add_argument("--box", type=int, default=512)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("images", nargs="+", type=Path)
    options = parser.parse_args()
    answer = {"version": aspire.__version__, "start_up_seconds": time.perf_counter() - STARTED, "images": {}}
    for image in options.images:
        started = time.perf_counter()
        try:
            found = found_of(image, options)
        except Exception as problem:  # one image it cannot do must not end the others
            found = {"failed": f"{type(problem).__name__}: {problem}"}
        answer["images"][str(image)] = {**found, "seconds": time.perf_counter() - started}
    options.out.write_text(json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    main()
