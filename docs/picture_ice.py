"""Writes docs/pictures/ice.svg: the structure factor of amorphous ice as declared, and as simulated films have it.

python docs/picture_ice.py [--films 40]

Films are 300 A thick, 256 px of 0.7 A. The power of their projections, divided by what independent molecules would
have, is drawn over the declared curve. Printed are the mean ratio of measured and declared power, the standard deviation
of the potential of a film, and the orders of the moving average for slabs of several thicknesses.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from vitreous.fourier.shells import shell_mean
from vitreous.fourier.transforms import forward, radial_frequency
from vitreous.jobs.curves import Series, Threshold, line_plot
from vitreous.specimen.ice import OH_BOND, IceField, ice_slab, moving_average, slab_spectrum, structure_factor
from vitreous.specimen.materials import ICE, number_density
from vitreous.specimen.scattering_factors import potential_transform

PICTURE = Path(__file__).resolve().parent / "pictures" / "ice.svg"
BOX, PIXEL_SIZE, THICKNESS = 256, 0.7, 300.0


def independent_molecules(k: np.ndarray) -> np.ndarray:
    """Spectrum of a film whose molecules lie anywhere, oriented all the same on average: n t F^2."""
    molecule = potential_transform("O", k) + 2 * potential_transform("H", k) * np.sinc(2 * OH_BOND * k)
    return number_density(ICE) * THICKNESS * molecule**2


def measured_power(films: int) -> tuple[np.ndarray, float]:
    """Mean power per shell in V^2 A^4 of the projections of films, and their standard deviation in V A."""
    layers = np.concatenate([ice_slab((BOX, BOX), PIXEL_SIZE, THICKNESS, seed=seed) for seed in range(films)])
    power = np.abs(forward(layers.astype(np.float64), 2)) ** 2 * PIXEL_SIZE**2 / BOX**2
    return shell_mean(power.mean(axis=0), (BOX, BOX)), float(layers.std())


def picture(power: np.ndarray) -> str:
    k = np.arange(len(power)) / (BOX * PIXEL_SIZE)
    fine = np.linspace(0, k[-1], 500)
    declared = slab_spectrum(fine, THICKNESS) / independent_molecules(fine)
    return line_plot(
        [
            Series("S(k) of the molecules' centres", fine, structure_factor(fine), "dashed"),
            Series("declared, with independent orientations", fine, declared),
            Series("measured on simulated films", k[1::2], (power / independent_molecules(k))[1::2], "points"),
        ],
        x_label="spatial frequency (1/Å)",
        y_label="power of a film, in units of n t F²",
        title="Amorphous ice: power of simulated films",
        description="Rings at 3.7 and 2.1 angstrom, little power at low frequency; simulated films follow the declared curve.",
        x_limits=(0, float(k[-1])),
        resolution_axis=True,
        thresholds=[Threshold(1.0, "molecules anywhere")],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--films", type=int, default=40)
    films = parser.parse_args().films
    power, deviation = measured_power(films)
    drawing = picture(power)
    start = drawing.index(">") + 1
    background = '<rect width="100%" height="100%" fill="#fff"/>'
    PICTURE.write_text(drawing[:start] + background + drawing[start:] + "\n", encoding="utf-8")
    shells = np.arange(1, len(power)) / (BOX * PIXEL_SIZE)
    ratio = power[1:] / slab_spectrum(shells, THICKNESS)
    print(f"measured over declared: {ratio.mean():.4f}; standard deviation of a film: {deviation:.0f} V A")
    kx = radial_frequency((BOX, BOX), PIXEL_SIZE, half=False)
    print(f"expected standard deviation: {np.sqrt(slab_spectrum(kx, THICKNESS).mean()) / PIXEL_SIZE:.0f} V A")
    for thickness in (2.0, 5.0, 10.0, 20.0, 100.0):
        print(f"slabs of {thickness:g} A: {len(moving_average(IceField((8, 8), 1.0, thickness)))} terms")
    print(f"{PICTURE.stat().st_size / 1000:.1f} kB  {PICTURE.name}")


if __name__ == "__main__":
    main()
