"""The real data beside the repository, ../shared/data: stored spectra with reference values, and one micrograph in several pieces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import above  # noqa: F401 - for the imports of the second group below
import numpy as np
from scoring import Lens

from vitreous.io.mrc import read_image
from vitreous.io.mrc_stack import write_stack
from vitreous.io.star import read_star

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SPECTRA, SPECTRUM_PIXEL = "spectra", 1.39955  # angstrom, of the image that the spectrum is of
SPECTRUM_LENS = {"voltage-kv": 200.0, "cs-mm": 1.4, "amplitude-contrast": 0.1}
MICROGRAPH, MICROGRAPH_PIXEL = Path("micrograph") / "fei-extended.mrc.gz", 0.85378
MICROGRAPH_LENS = {
    "voltage-kv": 300.0,
    "cs-mm": 2.7,
    "amplitude-contrast": 0.1,
}  # Cs and w are usual values: the file does not say


def reference_spectra(data: Path) -> dict[Path, Lens]:
    """The spectra and what the tutorial of the program that made them says of their micrographs; empty where they are absent."""
    table = data / SPECTRA / "reference.star"
    if not table.is_file():
        return {}
    rows = read_star(table)["micrographs"]
    columns = (rows[f"rlnDefocus{name}"] for name in ("U", "V", "Angle"))
    return {
        data / SPECTRA / str(name): Lens(float(u), float(v), float(angle))
        for name, u, v, angle in zip(rows["rlnCtfPowerSpectrum"], *columns)
    }


@dataclass(frozen=True)
class Piece:
    """A part or a copy of the micrograph, as a file of its own; `centre` (x, y) is where its middle lies, in angstrom from that of the whole."""

    path: Path
    pixel_size: float
    centre: tuple[float, float] = (0.0, 0.0)


def pieces(data: Path, folder: Path) -> dict[str, Piece]:
    """The whole micrograph, its halves, and a copy with pixels of twice the size; empty where it is absent."""
    if not (data / MICROGRAPH).is_file():
        return {}
    image = np.squeeze(read_image(data / MICROGRAPH)).astype(np.float32)
    rows, columns = image.shape
    x, y = columns * MICROGRAPH_PIXEL / 4, rows * MICROGRAPH_PIXEL / 4
    parts: Mapping[str, tuple[np.ndarray, float, tuple[float, float]]] = {
        "whole": (image, MICROGRAPH_PIXEL, (0.0, 0.0)),
        "left": (image[:, : columns // 2], MICROGRAPH_PIXEL, (-x, 0.0)),
        "right": (image[:, columns // 2 :], MICROGRAPH_PIXEL, (x, 0.0)),
        "top": (image[: rows // 2], MICROGRAPH_PIXEL, (0.0, -y)),
        "bottom": (image[rows // 2 :], MICROGRAPH_PIXEL, (0.0, y)),
        "downsampled": (half_sampled(image), 2 * MICROGRAPH_PIXEL, (0.0, 0.0)),
    }
    found = {}
    for name, (part, pixel_size, centre) in parts.items():
        path = folder / f"micrograph_{name}.mrc"
        write_stack(path, np.ascontiguousarray(part)[None], pixel_size)
        found[name] = Piece(path, pixel_size, centre)
    return found


def half_sampled(image: np.ndarray) -> np.ndarray:
    """The image without the frequencies above half its Nyquist frequency, on half as many pixels: cut out of its transform.

    Sizes must be even, so that the pixels become exactly twice as large.
    """
    if any(size % 2 for size in image.shape):
        raise ValueError(f"an image of {image.shape} pixels: even numbers can be halved")
    rows, columns = (size // 2 for size in image.shape)
    transform = np.fft.rfft2(image)
    kept = np.rint(np.fft.fftfreq(rows) * rows).astype(int)
    return (np.fft.irfft2(transform[kept][:, : columns // 2 + 1], s=(rows, columns)) / 4).astype(np.float32)
