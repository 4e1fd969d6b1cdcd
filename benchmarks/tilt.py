"""The image of a tilted specimen: the fast transform against the sum over every pixel, and what corrections are worth.

    python benchmarks/tilt.py [--sizes 1024 4096] [--pixels 24] [--repeats 3] [--json FILE]
    python benchmarks/tilt.py --corrections

"every pixel" is the sum over all frequencies, in double precision, once for each pixel: timed on `--pixels` pixels and
multiplied, because all of them would take days. "every column" is the best that ordinary FFTs do exactly when the axis lies along
y: one filtered transform for each column of the image, of which one column is kept; timed on a few and multiplied, too.
"fast" is `optics.tilt.tilted_contrast`, timed whole; "error" its largest difference from the sum over those pixels, relative to the
largest contrast. `--corrections` prints the correlation with the truth, by resolution, of a noisy tilted image after each
correction.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from measure import machine, print_machine, print_table, say, write_json
from vitreous.fourier.transforms import forward, frequencies, inverse, radial_frequency, without_nyquist
from vitreous.optics.tilt import TiltedCtf, tilted_contrast, tilted_contrast_adjoint
from vitreous.optics.tilt_correction import filtered_by_phase, phase_flipped, wiener_filtered, wiener_series
from vitreous.optics.tilted_plane import TiltedPlane

LENS = {"voltage": 300e3, "spherical_aberration": 2.7e7, "amplitude_contrast": 0.1}
DEFOCUS, PIXEL_SIZE = 15000.0, 1.0


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median of the repeats."""
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def by_pixel(spectrum: np.ndarray, lens: TiltedCtf, places: np.ndarray) -> np.ndarray:
    """The contrast at these places [n, 2] (row, column): each the sum over all frequencies with the CTF of its defocus.

    `spectrum` is the half transform without its Nyquist terms; the other half is its mirror image.
    """
    size = spectrum.shape[0]
    kx, ky = frequencies((size, size), PIXEL_SIZE)
    twice = np.full(spectrum.shape[1], 2.0)
    twice[0] = 1.0
    found = []
    for row, column in places:
        x, y = (column - size // 2) * PIXEL_SIZE, (row - size // 2) * PIXEL_SIZE
        transfer = np.sin(lens.at(x, y).phase(kx, ky))
        waves = np.exp(2j * math.pi * ky * y) * np.exp(2j * math.pi * kx * x)
        found.append(np.sum((spectrum * waves).real * transfer * twice) / size**2)
    return np.array(found)


def by_columns(spectrum: np.ndarray, lens: TiltedCtf, columns: range) -> None:
    """A filtered transform for each of these columns."""
    size = spectrum.shape[0]
    kx, ky = frequencies((size, size), PIXEL_SIZE)
    for column in columns:
        transfer = np.sin(lens.at((column - size // 2) * PIXEL_SIZE, 0.0).phase(kx, ky)).astype(np.float32)
        inverse(spectrum * transfer, (size, size))


def measure_size(size: int, pixels: int, repeats: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    specimen = rng.standard_normal((size, size), dtype=np.float32)
    lens = TiltedCtf(TiltedPlane(math.radians(30)), DEFOCUS, **LENS)
    say(f"{size} px: fast")
    tilted_contrast(specimen[:64, :64], PIXEL_SIZE, lens)  # libraries are loaded
    fast = seconds(lambda: tilted_contrast(specimen, PIXEL_SIZE, lens, by="pixel"), repeats)
    image = tilted_contrast(specimen, PIXEL_SIZE, lens, by="pixel")
    say(f"{size} px: {pixels} single pixels, then columns")
    spectrum = without_nyquist(forward(specimen.astype(np.float64), 2), (size, size))
    places = rng.integers(0, size, (pixels, 2))
    started = time.perf_counter()
    exact = by_pixel(spectrum, lens, places)
    pixelwise = (time.perf_counter() - started) / pixels * size**2
    single, count = spectrum.astype(np.complex64), 4
    columnwise = seconds(lambda: by_columns(single, lens, range(0, size, size // count)), repeats) / count * size
    error = np.abs(image[places[:, 0], places[:, 1]] - exact).max() / np.abs(exact).max()
    return {"size": size, "fast": fast, "every_pixel": pixelwise, "every_column": columnwise, "error": float(error)}


def row(result: dict[str, float]) -> list[str]:
    fast = result["fast"]
    return [
        f"{result['size']:.0f} px",
        f"{fast:.2f} s",
        f"{result['every_column']:,.0f} s",
        f"{result['every_column'] / fast:,.0f}",
        f"{result['every_pixel'] / 3600:,.1f} h",
        f"{result['every_pixel'] / fast:,.0f}",
        f"{result['error']:.1e}",
    ]


def correlations(image: np.ndarray, truth: np.ndarray) -> list[float]:
    """Correlation with the truth in rings about 8, 5, 4, 3 and 2.5 angstrom."""
    a, b, k = forward(image, 2), forward(truth, 2), radial_frequency(image.shape, PIXEL_SIZE)
    found = []
    for resolution in (8.0, 5.0, 4.0, 3.0, 2.5):
        ring = np.abs(k - 1 / resolution) < 0.01
        norm = math.sqrt(np.sum(np.abs(a[ring]) ** 2) * np.sum(np.abs(b[ring]) ** 2))
        found.append(float(np.sum((a * b.conj()).real[ring]) / norm))
    return found


def corrections(tilt_deg: float, snr: float, size: int = 512) -> list[list[str]]:
    """Rows of a table: a correction, its seconds, and the correlation with the truth by resolution."""
    rng = np.random.default_rng(1)
    truth = rng.standard_normal((size, size))
    lens = TiltedCtf(TiltedPlane(math.radians(tilt_deg), 0.3), DEFOCUS, **LENS)
    image = tilted_contrast(truth, PIXEL_SIZE, lens) + rng.standard_normal((size, size)) / math.sqrt(snr)
    image, flat = image.astype(np.float32), TiltedCtf(TiltedPlane(0.0), DEFOCUS, **LENS)
    methods = {
        "Wiener, one defocus": lambda: wiener_filtered(image, PIXEL_SIZE, flat, snr=snr),
        "phase flip": lambda: phase_flipped(image, PIXEL_SIZE, lens),
        "premultiplied": lambda: tilted_contrast_adjoint(image, PIXEL_SIZE, lens),
        "Wiener of each pixel": lambda: filtered_by_phase(image, PIXEL_SIZE, lens, wiener_series(snr)),
        "Wiener, least squares": lambda: wiener_filtered(image, PIXEL_SIZE, lens, snr=snr),
    }
    rows = []
    for name, method in methods.items():
        started = time.perf_counter()
        result = method()
        spent = time.perf_counter() - started
        rows.append([name, f"{spent:.2f} s", *(f"{value:.3f}" for value in correlations(result, truth))])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--pixels", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--corrections", action="store_true", help="what corrections are worth, instead of times")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    facts = machine()
    print_machine(facts)
    if options.corrections:
        tables = {}
        for tilt_deg, snr in ((30, 0.1), (30, 1.0), (60, 1.0), (60, 10.0)):
            print(
                f"\n{tilt_deg} degrees, signal-to-noise ratio {snr:g}, 512 px of {PIXEL_SIZE:g} A, {DEFOCUS:g} A defocus"
            )
            rows = corrections(tilt_deg, snr)
            print_table([["correction", "time", "8 A", "5 A", "4 A", "3 A", "2.5 A"], *rows])
            tables[f"{tilt_deg} degrees, snr {snr:g}"] = rows
        write_json(options.json, {"machine": facts, "corrections": tables})
        return
    results = [measure_size(size, options.pixels, options.repeats) for size in options.sizes]
    heading = ["image", "fast", "every column", "ratio", "every pixel", "ratio", "error"]
    print_table([heading, *(row(result) for result in results)])
    write_json(options.json, {"machine": facts, "tilt": results})


if __name__ == "__main__":
    main()
