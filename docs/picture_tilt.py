"""Writes docs/pictures/tilt.png: a tilted field before and after correction, with spectra and transfer of its two sides.

python docs/picture_tilt.py

A specimen tilted by 60 degrees about +y, 1024 px of 2 A, 0.8 um underfocus in the middle. Above: a Siemens star at the right edge,
where the defocus is 0.13 um lower: the specimen, its image, and its correction with the one defocus of the middle and with the defocus of
each place (least squares, signal-to-noise ratio 10). Below, of a film of random structure: the spectrum of the image at the left
edge (high defocus) and at the right (low), and the sign of what comes through the two corrections at the right edge: white
where the correlation with the film is positive, black where it is negative. The numbers printed are means of these correlations.
"""

from __future__ import annotations

import argparse
import io
import math
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.jobs.pictures import image_gallery
from vitreous.optics.tilt import TiltedCtf, tilted_contrast
from vitreous.optics.tilt_correction import wiener_filtered
from vitreous.optics.tilted_plane import TiltedPlane

PICTURE = Path(__file__).resolve().parent / "pictures" / "tilt.png"
SIZE, PIXEL_SIZE, TILT_DEG, DEFOCUS, SNR = 1024, 2.0, 60.0, 8000.0, 10.0
STARS, SPOKES = 4, 72
TILE = 128
LARGEST = 150_000  # bytes


def siemens_stars() -> np.ndarray:
    """Stars whose spokes are narrower towards the middle of each: the local transfer at all frequencies at once."""
    pitch = SIZE // STARS
    y, x = (np.indices((SIZE, SIZE)) % pitch) - pitch / 2 + 0.5
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    spokes = 0.5 + 0.5 * np.cos(SPOKES * angle)
    return spokes * (radius < 0.46 * pitch) * (radius > 0.12 * pitch)


def lens_of(tilt_deg: float) -> TiltedCtf:
    plane = TiltedPlane(math.radians(tilt_deg))
    return TiltedCtf(plane, DEFOCUS, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1, b_factor=20.0)


def side(image: np.ndarray, *, left: bool) -> np.ndarray:
    """Transforms [n, y, x] of overlapping tiles, softened at their edges, along the left or the right edge."""
    start = 0 if left else SIZE - TILE
    window = np.outer(np.hanning(TILE), np.hanning(TILE))
    tiles = [image[row : row + TILE, start : start + TILE] * window for row in range(0, SIZE - TILE + 1, TILE // 2)]
    return np.fft.fftshift(np.fft.fft2(np.stack(tiles)), axes=(1, 2))


def spectrum(image: np.ndarray, *, left: bool) -> np.ndarray:
    return np.sqrt(np.mean(np.abs(side(image, left=left)) ** 2, axis=0))


def transfer(image: np.ndarray, film: np.ndarray, *, left: bool) -> np.ndarray:
    """Correlation, from -1 to 1, of the image with the film at each frequency."""
    a, b = side(image, left=left), side(film, left=left)
    power = np.sqrt(np.mean(np.abs(a) ** 2, axis=0) * np.mean(np.abs(b) ** 2, axis=0))
    return np.mean((a * b.conj()).real, axis=0) / power


def packed(png: bytes) -> bytes:
    """The picture in as many greys as keep it below the largest size."""
    picture = Image.open(io.BytesIO(png)).convert("LA")
    for width in (900, 800, 700, 600):
        small = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
        white = Image.new("LA", small.size, (255, 255))
        white.paste(small.convert("L"), mask=small.getchannel("A"))
        for greys in (64, 32):
            buffer = io.BytesIO()
            white.convert("L").quantize(greys).save(buffer, format="PNG", optimize=True)
            if buffer.tell() < LARGEST:
                return buffer.getvalue()
    raise SystemExit("the picture does not fit")


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None).parse_args()
    tilted, flat = lens_of(TILT_DEG), lens_of(0.0)
    stars = siemens_stars()
    image = tilted_contrast(stars - stars.mean(), PIXEL_SIZE, tilted)
    film = np.random.default_rng(0).standard_normal((SIZE, SIZE))
    noisy = tilted_contrast(film, PIXEL_SIZE, tilted)
    one, each = (
        [wiener_filtered(what, PIXEL_SIZE, lens, snr=SNR) for what in (image, noisy)] for lens in (flat, tilted)
    )
    pitch = SIZE // STARS
    above = [whole[pitch : 2 * pitch, -pitch:] for whole in (stars, image, one[0], each[0])]
    below = [spectrum(noisy, left=True), spectrum(noisy, left=False)]
    below += [transfer(one[1], film, left=False), transfer(each[1], film, left=False)]
    for name, values in zip(("one defocus", "the defocus of each place"), below[2:]):
        print(f"{name}: {values.mean():.3f}")
    rows = [Image.open(io.BytesIO(image_gallery(row, columns=4, size=300))) for row in (above, below)]
    sheet = Image.new("RGBA", (rows[0].width, 2 * rows[0].height + 10), (255, 255, 255, 0))
    for number, row in enumerate(rows):
        sheet.paste(row, (0, number * (row.height + 10)))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    PICTURE.write_bytes(packed(buffer.getvalue()))
    print(f"{PICTURE.stat().st_size / 1000:.1f} kB  {PICTURE.name}")


if __name__ == "__main__":
    main()
