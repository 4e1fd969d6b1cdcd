"""Particles one by one: each is imaged on a patch of its own, at its own height, and the contrasts are added.

    c(r) = sum_i c_i(r - r_i),      c_i = I_i - 1

I_i is what the microscope makes of particle i alone, at the defocus `df + z_i`. Every rung of the ladder but multislice can
make it from slices through the transform F of the particle's potential, flat ones (the projected potential) or ones on the
Ewald parabola (`scattering.ewald`), which are read from F exactly, by a non-uniform FFT. What the sum leaves out are
products of the waves scattered by two particles, or by a particle and the ice.

A patch is as large as the particle and what the lens carries out of it (`patch_reach`), so that the CTF's ripples are
neither cut nor folded back. Waves live on pixels 2/3 as wide as those of the image, so that |psi|^2 holds no aliases.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from vitreous.engine.local import Progress, silent
from vitreous.errors import SettingsProblem
from vitreous.fourier.nonuniform import transform_at
from vitreous.fourier.transforms import fourier_crop, ifft, inverse, pad_transform, shift_phases
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.model.microscope import Microscope
from vitreous.model.slices import ExitWave
from vitreous.optics.coherence import coherence_envelope
from vitreous.optics.delocalisation import delocalisation
from vitreous.optics.electrons import interaction_constant, wavelength
from vitreous.optics.imaging import with_amplitude_contrast
from vitreous.optics.lens import projection_image, wave_image
from vitreous.scattering.ladder import CURVED, FLAT, ScatteringModel
from vitreous.scattering.propagation import propagate
from vitreous.simulation.particle_potential import ParticlePotential, even_box
from vitreous.simulation.placement import Field, Placement

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

    from vitreous.reconstruction.projection import SliceGrid

TOLERANCE = 1e-4  # of the non-uniform FFT
POINTS_AT_A_TIME = 8_000_000  # some 400 MB of work arrays
OUTLINE = 8.0  # angstrom: finest detail of the room that particles take from the ice
FAINTEST = 0.01  # of the amplitude: frequencies that an envelope damps more need no room in the patch


def particle_contrast(
    field: Field,
    potential: ParticlePotential,
    placement: Placement,
    microscope: Microscope,
    model: ScatteringModel = ScatteringModel.PROJECTION,
    *,
    threads: int = 2,
    progress: Progress = silent,
) -> Float[np.ndarray, "y x"]:
    """`sum_i c_i` of all particles over the field, float32. Protein is dark at underfocus.

    The microscope's defocus is that of z = 0. What a patch holds beyond the field is left out. The result does not
    depend on the number of threads.
    """
    if model not in FLAT + CURVED:
        raise SettingsProblem(
            f"the model '{model.value}' for particles one by one", "any other: it takes the whole field at once"
        )
    total = np.zeros(field.shape, dtype=np.float32)
    if len(placement) == 0:
        return total
    patch = patch_box(potential, microscope, placement, model)
    place = field.pixels(placement.position[:, :2])
    whole = np.rint(place).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        done = 0
        for rows, projected in _projections(potential, placement.euler, place - whole, microscope.voltage, model):

            def one(pair, projected=projected):
                index, row = pair
                seen = microscope.at_height(float(placement.position[row, 2]))
                return patch_contrast(projected[index], potential.pixel_size, potential.radius, seen, model, patch)

            for start in range(0, len(rows), 4 * threads):  # few at a time: a patch may have megabytes
                part = list(enumerate(rows))[start : start + 4 * threads]
                for (_, row), image in zip(part, pool.map(one, part)):
                    add_patch(total, image, whole[row])
                    done += 1
                    progress(done, len(placement))
    return total


def occupied_depth(field: Field, potential: ParticlePotential, placement: Placement) -> Float[np.ndarray, "y x"]:
    """How many angstrom of its way through each pixel an electron is inside a particle, to a detail of `OUTLINE`, float32."""
    from vitreous.reconstruction.projection import slice_grid

    assert potential.occupied is not None
    total = np.zeros(field.shape, dtype=np.float32)
    place = field.pixels(placement.position[:, :2])
    whole = np.rint(place).astype(int)
    rotation = matrix_from_euler(placement.euler)
    grid = slice_grid(potential.box, potential.box * potential.pixel_size / OUTLINE)
    step = max(1, POINTS_AT_A_TIME // len(grid))
    for start in range(0, len(placement), step):
        rows = slice(start, start + step)
        images = _slices(potential.occupied, rotation[rows], (place - whole)[rows], grid, potential.pixel_size)
        for image, middle in zip(_inverse_on(images, grid.box, grid.box), whole[rows]):
            add_patch(total, image, middle)
    return total


def patch_contrast(
    projected: Float[np.ndarray, "y x"] | Complex[np.ndarray, "y x"],
    pixel_size: float,
    radius: float,
    microscope: Microscope,
    model: ScatteringModel,
    patch: int,
) -> Float[np.ndarray, "y x"]:
    """c = I - 1 of one particle at the height z = 0 of this microscope, on a patch of `patch` pixels.

    `projected` (V A) is what `_projections` gives for the model: with pixels 2/3 as wide for models with a wave.
    """
    if model is ScatteringModel.PROJECTION:
        return projection_image(padded(projected, patch), pixel_size, microscope) - np.float32(1)
    fine = pixel_size * 2 / 3
    phase = interaction_constant(microscope.voltage) * projected
    if np.isrealobj(projected) or microscope.amplitude_contrast:
        phase = with_amplitude_contrast(phase, microscope.amplitude_contrast)
    phase = padded(phase.astype(np.complex64), 3 * (patch // 2))
    wave, height = phase, 0.0
    if model in (ScatteringModel.WEAK_PHASE, ScatteringModel.EWALD):
        wave = 1 + 1j * phase
    elif model is ScatteringModel.RYTOV:
        behind = propagate(ExitWave(phase, fine, 0.0), radius, microscope.voltage)
        wave, height = np.exp(1j * behind.wave), behind.height
    else:
        wave = np.exp(1j * phase)
    image = wave_image(ExitWave(wave.astype(np.complex64), fine, height), microscope)
    return fourier_crop(np.asarray(image, dtype=np.float32) - np.float32(1), patch, 2)[0]


def patch_box(
    potential: ParticlePotential, microscope: Microscope, placement: Placement, model: ScatteringModel
) -> int:
    """Pixels of a patch that holds every particle of this micrograph and all that the lens carries out of it."""
    heights = placement.position[:, 2]
    behind = potential.radius if model is ScatteringModel.RYTOV else 0.0
    ends = (microscope.at_height(float(heights.min())), microscope.at_height(float(heights.max()) + behind))
    reach = max(patch_reach(one, potential.pixel_size) for one in ends)
    half = max(potential.box / 2, (potential.radius + reach) / potential.pixel_size)
    return even_box(2 * half)


def patch_reach(microscope: Microscope, pixel_size: float) -> float:
    """How far in angstrom the lens carries what a specimen has up to Nyquist: to where the signal of the fastest frequency
    goes, `|lambda df k - Cs lambda^3 k^3|`, and a Fresnel fringe `sqrt(lambda |df|)` more.

    Frequencies that coherence and B factor damp to less than 1 % do not count.
    """
    k = np.linspace(0, 0.5 / pixel_size, 513)
    stretch = math.hypot(*microscope.astigmatism)
    envelope = coherence_envelope(
        k,
        np.zeros_like(k),
        microscope.defocus,
        voltage=microscope.voltage,
        spherical_aberration=microscope.spherical_aberration,
        one_over_e_mrad=microscope.one_over_e_mrad,
        focal_sigma=microscope.focal_sigma,
    ) * np.exp(-0.25 * microscope.b_factor * k**2)
    farthest = 0.0
    for defocus in (microscope.defocus - stretch, microscope.defocus + stretch):
        moved = delocalisation(
            k, defocus=defocus, voltage=microscope.voltage, spherical_aberration=microscope.spherical_aberration
        )
        farthest = max(farthest, float(np.abs(moved[envelope >= FAINTEST]).max()))
    return farthest + math.sqrt(wavelength(microscope.voltage) * (abs(microscope.defocus) + stretch))


def padded(image: np.ndarray, size: int) -> np.ndarray:
    """The image in the middle of a larger one of zeros: origin N // 2 on origin M // 2."""
    result = np.zeros((size, size), dtype=image.dtype)
    start = size // 2 - image.shape[-1] // 2
    result[start : start + image.shape[-2], start : start + image.shape[-1]] = image
    return result


def add_patch(total: np.ndarray, patch: np.ndarray, place: np.ndarray) -> None:
    """Add an image to a larger one, in place, its pixel N // 2 on the pixel `place` = (x, y); what reaches beyond is
    left out.
    """
    inside, outside = [], []
    for size, length, middle in zip(total.shape, patch.shape, place[::-1]):
        first = int(middle) - length // 2
        low, high = max(first, 0), min(first + length, size)
        if low >= high:
            return
        inside.append(slice(low, high))
        outside.append(slice(low - first, high - first))
    total[tuple(inside)] += patch[tuple(outside)]


def _projections(
    potential: ParticlePotential, euler: np.ndarray, offset: np.ndarray, voltage: float, model: ScatteringModel
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of particles and their projected potentials [n, b, b] in V A, moved by `offset` [n, 2] pixels.

    Flat: real, or complex with absorption. For `projection` on the pixels of the volume, else on pixels 2/3 as wide.
    """
    from vitreous.reconstruction.projection import slice_grid

    curved, box = model in CURVED, potential.box
    grid = slice_grid(box)
    size = box if model is ScatteringModel.PROJECTION else 3 * (box // 2)
    step = max(1, POINTS_AT_A_TIME // (len(grid) * (1 + curved)))
    rotation = matrix_from_euler(euler)
    for start in range(0, len(euler), step):
        rows = np.arange(start, min(start + step, len(euler)))
        if curved:
            images = _curved(potential, rotation[rows], offset[rows], grid, size, voltage)
        else:
            images = _flat(potential, rotation[rows], offset[rows], grid, size)
        yield rows, images


def _flat(
    potential: ParticlePotential, rotation: np.ndarray, offset: np.ndarray, grid: SliceGrid, size: int
) -> np.ndarray:
    """Projected potentials: real, or complex with absorption."""
    parts = [potential.volts]
    if potential.absorption:
        assert potential.occupied is not None
        parts.append(np.float32(potential.absorption) * potential.occupied)
    transforms = [_slices(part, rotation, offset, grid, potential.pixel_size) for part in parts]
    images = [_inverse_on(transform, grid.box, size) for transform in transforms]
    return images[0] if len(images) == 1 else images[0] + 1j * images[1]


def _slices(
    volume: np.ndarray, rotation: np.ndarray, offset: np.ndarray, grid: SliceGrid, pixel_size: float
) -> np.ndarray:
    """Half transforms of projections along z, `F(R^T (kx, ky, 0))` times the pixel size, moved by `offset` pixels."""
    from vitreous.reconstruction.exact_projection import project_exactly
    from vitreous.reconstruction.projection import half_plane

    values = project_exactly(volume.astype(np.float32), rotation.astype(np.float32), grid, eps=TOLERANCE)
    values *= pixel_size * shift_phases(offset, [grid.kx / grid.box, grid.ky / grid.box])
    return half_plane(values.astype(np.complex64), grid)


def _inverse_on(transform: np.ndarray, box: int, size: int) -> np.ndarray:
    """The images of half transforms of a box, on `size` >= box samples of the same field."""
    if size == box:
        return inverse(transform, (box, box))
    return inverse(pad_transform(transform, (box, box), (size, size)), (size, size))


def _curved(
    potential: ParticlePotential,
    rotation: np.ndarray,
    offset: np.ndarray,
    grid: SliceGrid,
    size: int,
    voltage: float,
) -> np.ndarray:
    """`F^-1[F(k, -lambda k^2/2)]`, complex, referred to the middle of the particle."""
    box, pixel_size = potential.box, potential.pixel_size
    mirrored = (grid.kx > 0) | (grid.ky > 0)
    kx, ky = (np.concatenate([k, -k[mirrored]]) for k in (grid.kx, grid.ky))
    plane = np.stack([kx, ky]) / box  # cycles per pixel
    depth = -wavelength(voltage) / (2 * pixel_size) * (plane**2).sum(axis=0)
    points = np.einsum("kp,nkx->npx", np.concatenate([plane, depth[None]]), rotation).reshape(-1, 3)
    volume = potential.volts
    if potential.absorption:
        assert potential.occupied is not None
        volume = volume + 1j * potential.absorption * potential.occupied
    values = transform_at(volume.astype(np.complex64), points, eps=TOLERANCE).reshape(len(rotation), len(kx))
    values *= pixel_size * (size / box) ** 2 * shift_phases(offset, [plane[0], plane[1]])
    transform = np.zeros((len(rotation), size, size), dtype=np.complex64)
    transform[:, ky % size, kx % size] = values
    return ifft(transform, 2)
