"""Sign test 4 as an experiment: a scatterer on each side of a tilted specimen, and the defocus that its image shows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from vitreous.fourier import transforms
from vitreous.geometry import rotations
from vitreous.model.slices import PotentialSlices
from vitreous.optics import electrons, imaging, tilt, tilted_plane
from vitreous.scattering import ladder

SIZE = 128  # pixels of 1 angstrom
VOLTAGE = 300e3
DEFOCUS = 5000.0
TILT = math.radians(30)
ARM = 20 / math.tan(TILT)  # angstrom from the axis as seen along the beam: the scatterers are 20 angstrom up and down
AXES = {"y": tilted_plane.ALONG_Y, "x": tilted_plane.ALONG_X}
STEPS = 6


def scattered_slope(axis: str) -> float:
    """Angstrom of defocus per angstrom across the axis, of scatterers turned right-handed and imaged by multislice."""

    def contrast(side: int) -> tuple[np.ndarray, np.ndarray]:
        x, y, z = rotated(side, axis)
        slices = np.zeros((2, SIZE, SIZE))
        slices[0 if z < 0 else 1] = scatterer(x, y)  # slabs at -20 and +20
        wave = ladder.exit_wave(PotentialSlices(slices, 1.0, 40.0, -20.0), VOLTAGE, "multislice", band_limit=None)
        kx, ky = transforms.frequencies((SIZE, SIZE), 1.0, half=False)
        transfer = imaging.wave_transfer(kx, ky, DEFOCUS + wave.height, voltage=VOLTAGE, spherical_aberration=0.0)
        return slices.sum(axis=0), imaging.image_of_wave(wave.wave, transfer) - 1

    return slope(contrast)


def plane_slope(axis: str) -> float:
    """The same of the images that `optics.tilt` makes of the tilted plane."""
    return imaged_slope(tilted_plane.TiltedPlane(TILT, AXES[axis]), axis)


def imaged_slope(plane: tilted_plane.TiltedPlane, axis: str) -> float:
    lens = tilt.TiltedCtf(plane, DEFOCUS, VOLTAGE, 0.0, 0.0)

    def contrast(side: int) -> tuple[np.ndarray, np.ndarray]:
        projected = scatterer(*rotated(side, axis)[:2])
        sigma = electrons.interaction_constant(VOLTAGE)
        return projected, tilt.tilted_contrast(2 * sigma * projected, 1.0, lens, contrast="raw")

    return slope(contrast)


def relion_slope() -> float:
    """About +y, after the plane went through RELION's hand: exported for a rotation, imported with it."""
    plane = tilted_plane.TiltedPlane(TILT)
    projection = np.asarray(rotations.matrix_from_euler(np.array([0.0, -TILT, 0.0])))
    back = tilted_plane.TiltedPlane.of_relion_tomogram(projection, plane.relion_hand(projection))
    return imaged_slope(back, "y")


def warp_slope() -> float:
    """About +y, after the plane went through Warp's flag of inverted angles."""
    plane = tilted_plane.TiltedPlane(TILT)
    inverted = plane.warp_angles_inverted(30.0, 0.0)
    return imaged_slope(tilted_plane.TiltedPlane.of_warp(30.0, 0.0, angles_inverted=inverted), "y")


def ctffind_slope() -> float:
    """About +y, after the plane went through CTFFIND's tilt angle and axis."""
    angle, axis = tilted_plane.TiltedPlane(TILT).ctffind_angles_deg()
    return imaged_slope(tilted_plane.TiltedPlane.of_ctffind(angle, axis), "y")


def rotated(side: int, axis: str) -> tuple[float, float, float]:
    """Where a scatterer of a flat specimen comes to lie: `side` x ARM across the axis, after a right-handed turn."""
    distance = side * ARM / math.cos(TILT)
    x, y = (distance, 0.0) if axis == "y" else (0.0, distance)
    return x * math.cos(TILT), y * math.cos(TILT), (y - x) * math.sin(TILT)


def scatterer(x: float, y: float) -> np.ndarray:
    """Vz in V A of a weak Gaussian of rms 1.5 angstrom at (x, y)."""
    along = np.arange(SIZE) - SIZE // 2.0
    return 1e-3 * np.exp(-((along - x) ** 2 + (along[:, None] - y) ** 2) / (2 * 1.5**2))


def slope(contrast: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> float:
    """Difference of the local defoci on the two sides, per angstrom."""
    ahead, behind = (fitted_defocus(*contrast(side)) for side in (1, -1))
    return (ahead - behind) / (2 * ARM)


def fitted_defocus(projected: np.ndarray, contrast: np.ndarray) -> float:
    """The defocus whose linear image `-2 sigma Vz * sin(chi)` is nearest, by Gauss and Newton's method."""
    kx, ky = transforms.frequencies((SIZE, SIZE), 1.0)
    rate = math.pi * electrons.wavelength(VOLTAGE) * (kx**2 + ky**2)
    strength = -2 * electrons.interaction_constant(VOLTAGE) * transforms.forward(projected, 2)
    seen, defocus = transforms.forward(contrast, 2), DEFOCUS
    for _ in range(STEPS):
        change = strength * np.cos(rate * defocus) * rate
        residual = seen - strength * np.sin(rate * defocus)
        defocus += float((change.conj() * residual).real.sum() / (np.abs(change) ** 2).sum())
    return defocus
