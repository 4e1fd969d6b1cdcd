"""The sections of the report on a corrected micrograph: before and after, and spectra along the slope of the defocus."""

from __future__ import annotations

import numpy as np

from vitreous.fourier.filters import gaussian_low_pass
from vitreous.fourier.shells import power_spectrum
from vitreous.fourier.transforms import forward, frequencies, inverse
from vitreous.jobs.curves import Series, line_plot
from vitreous.jobs.job import Outcome
from vitreous.jobs.pictures import image_gallery
from vitreous.jobs.report import Figure, Section, Source
from vitreous.optics.tilt import TiltedCtf
from vitreous.units import MICROMETRE

TILE = 256
TILES = 64  # of each part, at most
SHOWN_RESOLUTION = 20.0  # angstrom
SOURCES = (
    Source("Voortman et al. 2011, a fast algorithm for the tilted CTF", "10.1016/j.ultramic.2011.03.001"),
    Source("Mariani et al. 2011, images of tilted planar specimens", "10.1016/j.jsb.2011.02.008"),
)


def ctf_sections(
    outcome: Outcome, image: np.ndarray, corrected: np.ndarray, pixel_size: float, lens: TiltedCtf
) -> list[Section]:
    """Result and spectra."""
    pictures = [for_the_eye(one, pixel_size) for one in (image, corrected)]
    figure = Figure(
        f"The middle of the micrograph, filtered to {SHOWN_RESOLUTION:g} Å for the eye: as recorded and corrected.",
        png=image_gallery(pictures, columns=2, size=360),
        alt="The micrograph before and after correction",
        columns=("as recorded", "corrected"),
        wide=True,
    )
    text = (
        "The contrast of the specimen has kept its sign, and the mean of the micrograph its value. Do not apply the CTF "
        "to particles from the corrected micrograph again: tell the programs that follow its state."
    )
    return [
        Section("Result", text, figures=[figure], numbers=outcome.numbers(), sources=SOURCES),
        spectrum_section(image, pixel_size, lens),
    ]


def for_the_eye(image: np.ndarray, pixel_size: float) -> np.ndarray:
    """The square in the middle, smoothed."""
    size = min(image.shape)
    top, left = ((n - size) // 2 for n in image.shape)
    square = np.asarray(image[top : top + size, left : left + size], dtype=np.float32)
    kx, ky = frequencies(square.shape, pixel_size)
    smooth = gaussian_low_pass(np.sqrt(kx * kx + ky * ky), 1 / SHOWN_RESOLUTION).astype(np.float32)
    return inverse(forward(square, 2) * smooth, square.shape)


def spectrum_section(image: np.ndarray, pixel_size: float, lens: TiltedCtf) -> Section:
    """Power spectra of the thirds of the micrograph with the lowest and the highest defocus."""
    tiles, defoci = tiles_of(image, pixel_size, lens)
    order = np.argsort(defoci, kind="stable")
    third = max(1, len(order) // 3)
    parts = {"lowest": order[:third], "highest": order[-third:]} if lens.plane.tilt else {"all": order}
    series = []
    for name, rows in parts.items():
        power = power_spectrum(tiles[rows[:: max(1, len(rows) // TILES)]], 2).mean(axis=0)
        shells = np.arange(2, len(power) - 1)
        label = f"{name}, {defoci[rows].mean() / MICROMETRE:.2f} µm"
        values = np.log10(np.maximum(power[shells], power.max() * 1e-12))
        series.append(Series(label, shells / (tiles.shape[-1] * pixel_size), values))
    plot = line_plot(
        series,
        x_label="spatial frequency (1/Å)",
        y_label="log10 power",
        title="Power spectra along the slope of the defocus",
        description="Thon rings are closer together where the defocus is higher.",
        resolution_axis=True,
    )
    text = (
        "Thon rings lie closer together where the defocus is higher. If the tilt has the right hand, the part that the "
        "tilt says is of high defocus has the closer rings."
    )
    if not lens.plane.tilt:
        text = (
            "The mean of the power spectra of all parts of the micrograph, as recorded. Its dips are zeros of the CTF."
        )
    return Section("Spectra", text, figures=[Figure("As recorded.", svg=plot, alt="Power spectra of parts")])


def tiles_of(image: np.ndarray, pixel_size: float, lens: TiltedCtf) -> tuple[np.ndarray, np.ndarray]:
    """Tiles [n, y, x] of the micrograph, each less its mean, and the defocus in the middle of each."""
    size = min(TILE, min(image.shape) // 3)
    rows, columns = (range(0, n - size + 1, size) for n in image.shape)
    corners = np.array([(row, column) for row in rows for column in columns])
    tiles = np.stack([image[row : row + size, column : column + size] for row, column in corners])
    middle = corners + size // 2 - np.array(image.shape) // 2
    defoci = lens.plane.local_defocus(middle[:, 1] * pixel_size, middle[:, 0] * pixel_size, lens.defocus)
    return tiles - tiles.mean(axis=(1, 2), keepdims=True), np.asarray(defoci)
