"""The sections of the report on CTF correction: before and after, spectra, defoci, what was left out, and the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitreous.fourier.filters import gaussian_low_pass
from vitreous.fourier.shells import power_spectrum
from vitreous.fourier.transforms import forward, frequencies, inverse
from vitreous.io.micrographs import open_micrograph
from vitreous.io.mrc import read_image
from vitreous.jobs.curves import Series, histogram, line_plot
from vitreous.jobs.job import Outcome
from vitreous.jobs.pictures import image_gallery
from vitreous.jobs.report import Figure, Section, Source, Table
from vitreous.optics.micrograph_correction import MicrographLens
from vitreous.units import MICROMETRE

TILE = 256
TILES = 64  # of each part, at most
SHOWN_RESOLUTION = 20.0  # angstrom
SHOWN_PARTICLES = 6
SPREAD = 8  # defoci from which on a histogram says more than their range
LISTED = 200  # micrographs that were left out
TWICE = (
    "The contrast of the specimen has kept its sign, and the mean of a micrograph its value. The state is in the label of each "
    "file and in the STAR file: a program that follows must not apply the CTF as if the images were raw."
)
SOURCES = (
    Source("Voortman et al. 2011, a fast algorithm for the tilted CTF", "10.1016/j.ultramic.2011.03.001"),
    Source("Mariani et al. 2011, images of tilted planar specimens", "10.1016/j.jsb.2011.02.008"),
)


@dataclass(frozen=True)
class MicrographPair:
    """A micrograph before and after; the pixels are read when they are asked for."""

    name: str
    recorded: Path
    corrected: Path
    lens: MicrographLens

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        file = open_micrograph(self.recorded, pixel_size=self.lens.pixel_size)
        return file.read(), read_image(self.corrected)


def micrograph_sections(outcome: Outcome, pair: MicrographPair) -> list[Section]:
    """Result and spectra of one micrograph."""
    image, corrected = pair.read()
    sources = SOURCES if pair.lens.plane.tilt else ()
    figure = gallery([for_the_eye(one, pair.lens.pixel_size) for one in (image, corrected)])
    return [
        Section("Result", TWICE, figures=[figure], numbers=outcome.numbers(), sources=sources),
        spectrum_section(image, pair.lens),
    ]


def set_sections(
    outcome: Outcome,
    pairs: Sequence[MicrographPair],
    *,
    defocus: np.ndarray,
    follows: str,
    left_out: Sequence[tuple[str, str]],
    files: Sequence[tuple[str, str]],
) -> list[Section]:
    """Sections on many micrographs; `defocus` in angstrom of each, `left_out` with the reasons, `follows` for those who go on."""
    pictures, rows, spectrum = list[np.ndarray](), list[str](), None
    for pair in pairs:
        image, corrected = pair.read()
        pictures += [for_the_eye(one, pair.lens.pixel_size) for one in (image, corrected)]
        rows.append(f"{pair.lens.defocus / MICROMETRE:.2f} µm")
        spectrum = spectrum or spectrum_section(image, pair.lens, pair.name)
    sources = SOURCES if any(pair.lens.plane.tilt for pair in pairs) else ()
    figure, text = gallery(pictures, rows), f"{TWICE} {follows}"
    sections = [Section("Result", text, figures=[figure], numbers=outcome.numbers(), sources=sources)]
    if len(defocus) >= SPREAD:
        sections.append(defocus_section(defocus / MICROMETRE, "micrographs"))
    if spectrum is not None:
        sections.append(spectrum)
    if left_out:
        text = "These micrographs are in no file of this job."
        text += f" The first {LISTED} are listed; result.json has all." if len(left_out) > LISTED else ""
        sections.append(Section("Left out", text, tables=[Table(("micrograph", "because"), left_out[:LISTED])]))
    return [*sections, files_section(files)]


def particle_sections(
    outcome: Outcome,
    before: np.ndarray,
    after: np.ndarray,
    *,
    pixel_size: float,
    defocus: np.ndarray,
    follows: str,
    files: Sequence[tuple[str, str]],
) -> list[Section]:
    """Sections on particles: the same images `before` and `after` [n, y, x], and the defocus of all in micrometre."""
    few = slice(0, SHOWN_PARTICLES)
    smooth = [for_the_eye(one, pixel_size) for one in (*before[few], *after[few])]
    figure = Figure(
        f"The first particles, filtered to {SHOWN_RESOLUTION:g} Å for the eye: before and after correction.",
        png=image_gallery(smooth, columns=len(before[few]), size=120),
        alt="Particles before and after correction",
        rows=("before", "after"),
        wide=True,
    )
    sections = [
        Section("Result", f"{TWICE} {follows}", figures=[figure], numbers=outcome.numbers()),
        particle_spectrum_section(before, after, pixel_size),
    ]
    if len(defocus) >= SPREAD:
        sections.append(defocus_section(defocus, "particles"))
    return [*sections, files_section(files)]


def gallery(pictures: Sequence[np.ndarray], rows: Sequence[str] = ()) -> Figure:
    """Pairs of pictures, before and after, a row each."""
    return Figure(
        f"The middle of {'each' if len(pictures) > 2 else 'the'} micrograph, filtered to {SHOWN_RESOLUTION:g} Å for the eye: as "
        "recorded and corrected.",
        png=image_gallery(pictures, columns=2, size=360),
        alt="Micrographs before and after correction",
        columns=("as recorded", "corrected"),
        rows=rows,
        wide=True,
    )


def for_the_eye(image: np.ndarray, pixel_size: float) -> np.ndarray:
    """The square in the middle, smoothed."""
    size = min(image.shape)
    top, left = ((n - size) // 2 for n in image.shape)
    square = np.asarray(image[top : top + size, left : left + size], dtype=np.float32)
    kx, ky = frequencies(square.shape, pixel_size)
    smooth = gaussian_low_pass(np.sqrt(kx * kx + ky * ky), 1 / SHOWN_RESOLUTION).astype(np.float32)
    return inverse(forward(square, 2) * smooth, square.shape)


def defocus_section(defocus: np.ndarray, what: str) -> Section:
    svg = histogram(defocus, x_label="defocus (µm)", y_label=what, title=f"Defocus of the {what}")
    caption = f"Mean defocus of the {what}, positive for underfocus."
    return Section("Defocus", "", figures=[Figure(caption, svg=svg, alt="Histogram of defocus")])


def files_section(files: Sequence[tuple[str, str]]) -> Section:
    return Section("Files", "", tables=[Table(("file", "content"), files)])


def particle_spectrum_section(before: np.ndarray, after: np.ndarray, pixel_size: float) -> Section:
    """Mean power spectra of the same particles before and after."""
    series = []
    for label, images in (("before", before), ("after", after)):
        power = power_spectrum(images, 2).mean(axis=0)
        series.append(logarithm(label, power, before.shape[-1] * pixel_size))
    plot = line_plot(
        series,
        x_label="spatial frequency (1/Å)",
        y_label="log10 power",
        title="Power spectra before and after",
        description=f"Mean of {len(before)} particles.",
        resolution_axis=True,
    )
    text = (
        "A phase flip leaves the power as it is. Multiplication by the CTF takes the noise away where the CTF is small, and so "
        "does a Wiener filter for a low signal-to-noise ratio; for a high one it raises what the CTF has weakened."
    )
    caption = f"Power per Fourier pixel, mean of {len(before)} particles."
    return Section("Spectra", text, figures=[Figure(caption, svg=plot, alt="Power spectra")])


def spectrum_section(image: np.ndarray, lens: MicrographLens, name: str = "") -> Section:
    """Power spectra of the thirds of the micrograph with the lowest and the highest defocus."""
    tiles, defoci = tiles_of(image, lens)
    order = np.argsort(defoci, kind="stable")
    third = max(1, len(order) // 3)
    parts = {"lowest": order[:third], "highest": order[-third:]} if lens.plane.tilt else {"all": order}
    series = []
    for part, rows in parts.items():
        power = power_spectrum(tiles[rows[:: max(1, len(rows) // TILES)]], 2).mean(axis=0)
        label = f"{part}, {defoci[rows].mean() / MICROMETRE:.2f} µm"
        series.append(logarithm(label, power, tiles.shape[-1] * lens.pixel_size))
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
    caption = f"{name}, as recorded." if name else "As recorded."
    return Section("Spectra", text, figures=[Figure(caption, svg=plot, alt="Power spectra of parts")])


def logarithm(label: str, power: np.ndarray, width: float) -> Series:
    """A spectrum per shell of a box `width` angstrom wide as a curve, without its ends."""
    shells = np.arange(2, len(power) - 1)
    return Series(label, shells / width, np.log10(np.maximum(power[shells], power.max() * 1e-12)))


def tiles_of(image: np.ndarray, lens: MicrographLens) -> tuple[np.ndarray, np.ndarray]:
    """Tiles [n, y, x] of the micrograph, each less its mean, and the defocus in the middle of each."""
    size = min(TILE, min(image.shape) // 3)
    rows, columns = (range(0, n - size + 1, size) for n in image.shape)
    corners = np.array([(row, column) for row in rows for column in columns])
    tiles = np.stack([image[row : row + size, column : column + size] for row, column in corners])
    middle = (corners + size // 2 - np.array(image.shape) // 2) * lens.pixel_size
    defoci = lens.plane.local_defocus(middle[:, 1], middle[:, 0], lens.defocus)
    return tiles - tiles.mean(axis=(1, 2), keepdims=True), np.asarray(defoci)
