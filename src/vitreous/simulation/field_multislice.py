"""A micrograph by multislice: one wave through the whole field, slab by slab, particles and ice in it.

Slabs are made when the wave comes to them and forgotten behind it, so that memory holds the wave and a few slabs whatever
the thickness of the ice:

    V_j = sum of the atoms' potentials, less the ice that they displace  +  grain of the ice where there is ice
    Vim_j = absorption of ice and protein, or the part of V_j that the amplitude contrast says

The mean potential of the ice is left out: a constant changes the phase of the whole wave alone. Pixels of the slabs are
averages over their area; the image is given back what the averaging takes (`1 / sinc(kx p) sinc(ky p)`, which for a weak
object is exact). The wave ends at 2/3 of the Nyquist frequency, and so does the detail of the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.engine.local import Progress, silent
from vitreous.fourier.transforms import forward, frequencies, inverse
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.model.atoms import Atoms
from vitreous.model.microscope import Microscope
from vitreous.optics.imaging import with_amplitude_contrast
from vitreous.optics.lens import lens_transfer
from vitreous.scattering.multislice import multislice
from vitreous.scattering.propagation import band
from vitreous.simulation.placement import Field, Placement, Slab
from vitreous.specimen.ice import IceField, ice_slabs
from vitreous.specimen.profiles import AtomProfiles, atom_profiles
from vitreous.specimen.solvent import displaced_solvent, volume_profiles
from vitreous.specimen.voxels import add_atoms, pixel_window, standard_deviations

if TYPE_CHECKING:
    from jaxtyping import Float

SLABS_AT_A_TIME = 4  # an atom that reaches into several slabs is added to them by one call
TOLERANCE = 1e-4  # of an atom's potential, cut off at its edge
ROWS = 256  # of the wave's transform that are filtered at a time


@dataclass(frozen=True)
class FieldStack:
    """The slabs of a micrograph: what `multislice` takes, but made one at a time.

    `atoms` of one particle about its centre (`particle_potential.centred_atoms`), of which copies lie as `placement` says.
    `thickness` of a slab in angstrom. `grain` is the ice's random field or None. Imaginary potentials in volt: `ice_absorption`, and
    `absorption` of the particle above it; or an `amplitude_contrast`.
    """

    field: Field
    slab: Slab
    atoms: Atoms
    placement: Placement
    thickness: float
    grain: IceField | None = None
    extra_b_factor: float = 0.0
    inner_potential: float | None = None
    absorption: float = 0.0
    ice_absorption: float = 0.0
    amplitude_contrast: float = 0.0
    threads: int = 2
    progress: Progress = silent

    @property
    def count(self) -> int:
        """Slabs from the first to the last point of the ice; tilted ice needs many."""
        return max(1, math.ceil(self._extent / self.thickness))

    @property
    def _extent(self) -> float:
        low, high = self.field.limits
        corners = [self.slab.plane.height(x, y) for x in (low[0], high[0]) for y in (low[1], high[1])]
        return self.slab.depth + max(corners) - min(corners)

    @property
    def height(self) -> float:
        """z of the middle of the first slab."""
        low, high = self.field.limits
        middle = (low + high) / 2  # half a pixel beside 0 in even fields
        return float(self.slab.plane.height(*middle)) - (self.count - 1) / 2 * self.thickness

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.count, *self.field.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32)

    def __iter__(self) -> Iterator[np.ndarray]:
        grains = iter(()) if self.grain is None else ice_slabs(self.grain, self.count, workers=self.threads)
        needs_room = self.grain is not None or self.absorption != 0
        displaced = displaced_solvent(self.atoms, self.inner_potential)
        profiles = [atom_profiles(self.atoms, extra_b_factor=self.extra_b_factor, displaced=displaced)]
        if needs_room:
            profiles.append(volume_profiles(self.atoms, extra_b_factor=self.extra_b_factor))
        for first in range(0, self.count, SLABS_AT_A_TIME):
            number = min(SLABS_AT_A_TIME, self.count - first)
            volts, *occupied = self._slabs(profiles, first, number)
            for index in range(number):
                self.progress(first + index + 1, self.count)
                taken = occupied[0][index] / np.float32(self.thickness) if occupied else None
                yield self._complete(volts[index], taken, next(grains, None), first + index)

    def _complete(self, volts: np.ndarray, taken: np.ndarray | None, grain: np.ndarray | None, slab: int) -> np.ndarray:
        """A slab of atoms, with the ice and with absorption."""
        icy = self._ice_in(slab)
        if grain is not None:
            assert taken is not None
            grain *= np.sqrt(np.clip(1 - taken, 0, 1)) * np.sqrt(icy)
            volts = volts + grain
        if self.ice_absorption or self.absorption:
            loss = self.thickness * self.ice_absorption * icy
            if taken is not None:
                loss = loss + np.float32(self.thickness * self.absorption) * taken
            return volts + 1j * loss.astype(np.float32)
        if self.amplitude_contrast:
            return with_amplitude_contrast(volts, self.amplitude_contrast).astype(np.complex64)
        return volts

    def _ice_in(self, slab: int) -> np.ndarray:
        """The part of a slab's thickness that lies inside the ice, at each pixel: 1 throughout the inside of level ice."""
        low, _ = self.field.limits
        y, x = (start + self.field.pixel_size * np.arange(size) for start, size in zip(low[::-1], self.field.shape))
        middle = (self.slab.plane.height(x[None, :], y[:, None])).astype(np.float32)
        z = self.height + slab * self.thickness
        top = np.minimum(z + self.thickness / 2, middle + np.float32(self.slab.depth / 2))
        bottom = np.maximum(z - self.thickness / 2, middle - np.float32(self.slab.depth / 2))
        return np.clip((top - bottom) / np.float32(self.thickness), 0, 1)

    def _slabs(self, profiles: list[AtomProfiles], first: int, number: int) -> list[np.ndarray]:
        """For each of the profiles, the atoms of all particles in some successive slabs."""
        found = [np.zeros((number, *self.field.shape), dtype=np.float32) for _ in profiles]
        height = self.height + first * self.thickness
        widest = max(float(each.width.max() + each.b_factor.max()) for each in profiles)
        reach = standard_deviations(TOLERANCE) * math.sqrt(widest / (8 * math.pi**2))
        low = height - self.thickness / 2 - reach
        high = height + (number - 0.5) * self.thickness + reach
        radius = float(np.linalg.norm(self.atoms.position, axis=1).max())
        rotations = matrix_from_euler(self.placement.euler)
        settings = {"thickness": self.thickness, "height": height, "tolerance": TOLERANCE, "threads": self.threads}
        for centre, rotation in zip(self.placement.position, rotations):
            if not low - radius < centre[2] < high + radius:
                continue
            z = self.atoms.position @ rotation[2] + centre[2]
            inside = np.flatnonzero((z > low) & (z < high))
            position = self.atoms.position[inside] @ rotation.T + centre
            for slabs, each in zip(found, profiles):
                add_atoms(slabs, position, _rows(each, inside), self.field.pixel_size, **settings)
        return found


def multislice_intensity(stack: FieldStack, microscope: Microscope) -> Float[np.ndarray, "y x"]:
    """The intensity at the camera per incident electron, float32: the wave behind all slabs, seen by the microscope.

    Absorption and amplitude contrast are those of the stack; the amplitude contrast of the microscope is not looked at.
    """
    wave = multislice(
        _as_slabs(stack), stack.field.pixel_size, stack.thickness, microscope.voltage, workers=stack.threads
    )
    seen = microscope.at_height(stack.height + stack.count * stack.thickness)
    intensity = _image(wave, stack.field, seen, stack.threads)
    mean = np.float32(intensity.mean(dtype=np.float64))
    transform = forward(intensity - mean, 2, workers=stack.threads)
    kx, ky = frequencies(stack.field.shape, stack.field.pixel_size)
    inside = band(stack.field.shape, half=True)
    for start in range(0, len(transform), ROWS):
        rows = slice(start, start + ROWS)
        window = pixel_window(kx, ky[rows], stack.field.pixel_size)
        transform[rows] *= np.where(inside[rows], 1 / window, 0).astype(np.float32)
    return inverse(transform, stack.field.shape, workers=stack.threads) + mean


def _image(wave: np.ndarray, field: Field, microscope: Microscope, threads: int) -> np.ndarray:
    """`|F^-1[F psi T]|^2`, the transfer made some rows at a time; where the origin lies makes no difference."""
    from scipy import fft as scipy_fft

    transform: Any = scipy_fft.fft2(wave, overwrite_x=True, workers=threads)
    kx, ky = frequencies(field.shape, field.pixel_size, half=False)
    for start in range(0, len(transform), ROWS):
        rows = slice(start, start + ROWS)
        transform[rows] *= lens_transfer(microscope, kx, ky[rows], dtype=np.float32)
    image: Any = scipy_fft.ifft2(transform, overwrite_x=True, workers=threads)
    return image.real**2 + image.imag**2


def _as_slabs(stack: FieldStack) -> Any:
    """What `multislice` needs of an array of slabs (shape, dtype, the slabs in turn) a stack has."""
    return stack


def _rows(profiles: AtomProfiles, rows: np.ndarray) -> AtomProfiles:
    return AtomProfiles(
        profiles.kind[rows], profiles.b_factor[rows], profiles.occupancy[rows], profiles.amplitude, profiles.width
    )
