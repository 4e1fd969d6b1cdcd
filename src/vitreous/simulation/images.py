"""Images of a volume, as a stream of chunks: projection, shift, CTF, noise, and what has been done about the CTF.

    image = S ( C(k) * exp(+i odd) * exp(+2 pi i k.o) * F_volume(R^T (kx, ky, 0))  +  noise )

C is the CTF of the stack's contrast (`+sin gamma` where protein is bright, `-sin gamma` as the detector saw it), o the
RELION origin: the particle sits at -o from the centre. S depends on the CTF state: 1 for raw images, the sign of `sin
gamma` for phase-flipped ones, `sin gamma` for premultiplied ones (`optics.ctf_correction.state_factor`); it acts on the
noise too, as it does on recorded images.

One pixel of an image is the sum of the voxels along the beam. The signal ends before the Nyquist frequency
(`projection.SliceGrid`); the noise does not. The box is periodic: what the defocus carries over one edge comes back at
the other, see `optics.delocalisation.largest_defocus_that_fits`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.conventions import Contrast, CtfState
from vitreous.engine.chunks import chunks
from vitreous.errors import DataProblem
from vitreous.fourier.transforms import forward, frequencies, inverse, shift_phases
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.model.particles import Particles
from vitreous.model.volume import Volume
from vitreous.optics.aberrations import wave_factor
from vitreous.optics.ctf import ctf_of_particles, has_odd_phase, odd_phase
from vitreous.optics.ctf_correction import state_factor
from vitreous.reconstruction.projection import PADDING, FourierVolume, fourier_volume, half_plane, project, slice_grid
from vitreous.simulation.noise import Noise, noise_images

if TYPE_CHECKING:
    from jaxtyping import Complex, Float

# Images whose mean variance stands for that of a set: views of one particle differ by some 20 %, so their mean is known
# to 1 %.
TRIAL_IMAGES = 256
# One size for all calls, so that the projector is compiled once; large enough to hide the cost of a call, small enough
# to waste nothing.
IMAGES_PER_CHUNK = 64


class Projector:
    """A volume made ready to be projected. Building one costs a three-dimensional transform: keep it for all images of
    the volume.
    """

    def __init__(self, volume: Volume):
        import jax.numpy as jnp

        self.box, self.pixel_size = volume.box, volume.pixel_size
        self._data = jnp.asarray(fourier_volume(np.asarray(volume.data, dtype=np.float32)).data)

    def times(self, factor: float) -> Projector:
        """The projector of the volume times a factor."""
        scaled = object.__new__(Projector)
        scaled.box, scaled.pixel_size, scaled._data = self.box, self.pixel_size, self._data * np.float32(factor)
        return scaled

    def start(self, part: Particles, count: int) -> Any:
        """The slices [count, p] of up to `count` particles, being computed while the caller goes on; compiled once for
        each `count`.
        """
        assert part.pose is not None
        rotation = np.zeros((count, 3, 3), dtype=np.float32)
        rotation[: len(part)] = matrix_from_euler(part.pose.euler)
        return _compiled_projection(self.box)(self._data, rotation)


@functools.lru_cache(maxsize=16)
def _compiled_projection(box: int) -> Callable[[Any, Any], Any]:
    import jax

    grid = slice_grid(box)
    return jax.jit(lambda data, rotation: project(FourierVolume(data, box, PADDING), rotation, grid))


def simulate_images(
    projector: Projector,
    particles: Particles,
    noise: Noise | None = None,
    *,
    use_ctf: bool = True,
    images_per_chunk: int = IMAGES_PER_CHUNK,
) -> Iterator[Float[np.ndarray, "n y x"]]:
    """The images of all particles, float32, in the order of the rows, a chunk at a time.

    The pose and the CTF of each particle and the optics groups are those of `particles`, whose own images are not
    looked at. The noise of an image depends on the seed and on its place (`particles.names`: stack and number), so
    that a selection of particles gets the images that it has in the whole set. Chunks do not change the images.
    `use_ctf=False` gives bare projections, shifted, with noise.
    """
    check_particles(particles, projector.box, projector.pixel_size, use_ctf=use_ctf)
    waiting: tuple[Particles, Any] | None = None
    for rows in chunks(np.arange(len(particles)), images_per_chunk):
        part = particles.rows(rows)
        # The projector works on the next chunk while this thread finishes the one before.
        started = (part, projector.start(part, images_per_chunk))
        if waiting is not None:
            yield finish_images(*waiting, noise, use_ctf=use_ctf)
        waiting = started
    if waiting is not None:
        yield finish_images(*waiting, noise, use_ctf=use_ctf)


def signal_variance(projector: Projector, particles: Particles) -> float:
    """Mean over the particles of the variance of a noiseless raw image over all its pixels, CTF included.

    The signal-to-noise ratio of this program is this number divided by the variance of the noise in a pixel, both as
    recorded, before phases are flipped or images multiplied by their CTF. Of larger sets give the first `TRIAL_IMAGES`.
    """
    raw = replace(particles, optics=tuple(replace(group, ctf_state=CtfState.RAW) for group in particles.optics))
    total = sum(float(images.var(axis=(1, 2), dtype=np.float64).sum()) for images in simulate_images(projector, raw))
    return total / len(particles)


def finish_images(part: Particles, slices: Any, noise: Noise | None, *, use_ctf: bool) -> Float[np.ndarray, "n y x"]:
    """Images from slices: everything that happens to them after projection."""
    assert part.pose is not None
    group = part.used_optics()[0]
    assert group.box is not None
    box, state = group.box, part.ctf_state if use_ctf else CtfState.RAW
    grids = frequencies((box, box), part.pixel_size)
    transforms = half_plane(np.asarray(slices)[: len(part)], slice_grid(box))
    transforms *= shift_phases(-part.pose.shift.astype(np.float32), [k.astype(np.float32) for k in grids])
    if use_ctf:
        transfer = contrast_transfer(part, grids)
        transforms *= transfer if part.contrast is Contrast.INVERTED else -transfer
        transforms *= odd_factor(part, grids)
    if state is CtfState.RAW:
        images = inverse(transforms, (box, box))
        return images if noise is None else images + noise_images(noise, part.names, box)
    if noise is not None:
        transforms += forward(noise_images(noise, part.names, box), 2)
    return inverse(transforms * state_factors(part, transfer), (box, box))


def contrast_transfer(part: Particles, grids: tuple[np.ndarray, ...]) -> Float[np.ndarray, "n y xh"]:
    """The CTF `+sin gamma` of each particle on the half transform, float32."""
    assert part.ctf is not None
    ctf = part.ctf
    return _by_group(part, lambda group, rows: ctf_of_particles(group, ctf.rows(rows), *grids, dtype=np.float32))


def state_factors(part: Particles, transfer: Float[np.ndarray, "n y xh"]) -> Float[np.ndarray, "n y xh"]:
    """What the CTF state of each particle has multiplied its transform with."""
    return _by_group(part, lambda group, rows: state_factor(transfer[rows], group.ctf_state, snr=group.wiener_snr))


def odd_factor(part: Particles, grids: tuple[np.ndarray, ...]) -> Complex[np.ndarray, ...] | np.float32:
    """exp(+i odd_phase) of each particle's optics group, 1 where no group has a beam tilt or odd aberrations."""
    if not any(has_odd_phase(group) for group in part.used_optics()):
        return np.float32(1)
    return _by_group(
        part, lambda group, rows: np.stack([wave_factor(odd_phase(group, *grids)).astype(np.complex64)] * len(rows))
    )


def _by_group(part: Particles, values: Callable[..., np.ndarray]) -> np.ndarray:
    """`values(group, rows)` of each optics group, put together in the order of the particles."""
    groups = np.unique(part.optics_index)
    if len(groups) == 1:
        return values(part.optics[groups[0]], np.arange(len(part)))
    rows = [np.flatnonzero(part.optics_index == group) for group in groups]
    pieces = np.concatenate([values(part.optics[group], members) for group, members in zip(groups, rows)])
    return pieces[np.argsort(np.concatenate(rows), kind="stable")]


def check_particles(particles: Particles, box: int, pixel_size: float, *, use_ctf: bool) -> None:
    """Raise DataProblem if these particles cannot be images of a specimen that was prepared for this box and pixel size."""
    if particles.pose is None or (use_ctf and particles.ctf is None):
        raise DataProblem("particles without orientations or CTF parameters", "both for each particle")
    if use_ctf and particles.contrast is Contrast.UNKNOWN:
        raise DataProblem("particles of unknown contrast", "inverted (bright protein) or raw (dark)")
    for group in particles.used_optics():
        if group.box != box or group.pixel_size is None or not np.isclose(group.pixel_size, pixel_size, rtol=1e-4):
            raise DataProblem(
                f"optics group '{group.name}' of {group.box} px of {group.pixel_size} A "
                f"for a specimen prepared for {box} px of {pixel_size} A",
                "one box and one pixel size",
            )
        if not np.allclose(group.magnification, np.eye(2), atol=1e-9):
            raise DataProblem(
                f"optics group '{group.name}' with anisotropic magnification",
                "isotropic magnification, which is all that is simulated",
            )
