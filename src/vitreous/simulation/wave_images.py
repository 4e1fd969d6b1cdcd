"""Images of atoms by wave optics, as a stream of chunks: each particle's atoms are turned, cut into slabs, sent through a
rung of the scattering ladder and through the lens.

    image = (1 - I) / (2 sigma p) * scale            bright protein, CTF state raw; I = |lens(exit wave)|^2

p is the pixel size: for a weak object the image is the sum of the voxels (volt) along the beam under `+sin gamma`, times the
scale, which is what `simulation.images` makes of the potential's map. The particle's origin is at -o, o the RELION origin;
its own defocus is that of the plane z = 0 through its centre of mass.

The wave is computed on finer pixels than the image's, so that the band to which waves are limited (2/3 of their Nyquist
frequency) holds all frequencies of the image, and the intensity, whose band is twice the wave's, folds back onto none of
them. Amplitude contrast w turns the potential into `V (sqrt(1 - w^2) + i w)`, in the weak limit exactly the asin(w) of the
CTF.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vitreous.engine.chunks import chunks
from vitreous.errors import SettingsProblem
from vitreous.fourier.transforms import fourier_crop
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.model.microscope import Microscope
from vitreous.model.particles import Particles
from vitreous.model.slices import PotentialSlices
from vitreous.model.volume import Volume
from vitreous.optics.electrons import interaction_constant
from vitreous.scattering.ladder import FLAT, ScatteringModel, scattering_model
from vitreous.scattering.propagation import BAND_LIMIT
from vitreous.simulation.image_formation import form_image
from vitreous.simulation.images import check_particles
from vitreous.simulation.weak_phase_images import weak_phase_images
from vitreous.specimen.profiles import AtomProfiles
from vitreous.specimen.voxels import add_atoms, standard_deviations, without_pixel_window

if TYPE_CHECKING:
    from jaxtyping import Float

IMAGES_PER_CHUNK = 16
OUTSIDE = 1e-4  # of an atom may lie before the first slab or behind the last


@dataclass(frozen=True)
class AtomicScene:
    """What the images are made of: atoms about their centre of mass and how they scatter.

    `position` [n, 3] in angstrom and `profiles` (`specimen.profiles`); `box` and `pixel_size` of the images; `model`, a rung
    with a wave; `slice_thickness` in angstrom; `scale`, by which images are multiplied. `volume`: the map of the same
    potential in volts, from which the images of weak phase objects are made.
    """

    position: np.ndarray
    profiles: AtomProfiles
    box: int
    pixel_size: float
    model: ScatteringModel
    slice_thickness: float
    scale: float = 1.0
    volume: Volume | None = None

    def __post_init__(self) -> None:
        if scattering_model(self.model) is ScatteringModel.PROJECTION:
            raise SettingsProblem("the model 'projection', which has no wave", "weak_phase or a rung above it")
        if not 0 < self.slice_thickness < math.inf:
            raise SettingsProblem(f"slabs of {self.slice_thickness} A", "a positive thickness in angstrom")

    def times(self, factor: float) -> AtomicScene:
        """The same images, multiplied."""
        return replace(self, scale=self.scale * factor)

    @property
    def wave_box(self) -> int:
        """Pixels of the wave: the smallest even size whose band holds the image's frequencies and whose transforms are fast."""
        from scipy.fft import next_fast_len

        half = next_fast_len(math.ceil(self.box / BAND_LIMIT / 2), real=True)
        assert half is not None
        return 2 * half

    def slices(self, rotation: Float[np.ndarray, "3 3"], origin: Float[np.ndarray, 2]) -> PotentialSlices:
        """The slabs of one particle on the grid of the wave, without the window of its pixels."""
        position = self.position @ rotation.T
        position[:, :2] -= origin
        size, pixel_size = self.wave_box, self.pixel_size * self.box / self.wave_box
        widest = math.sqrt((self.profiles.width.max() + self.profiles.b_factor.max()) / 8) / math.pi
        depth = 2 * (np.abs(position[:, 2]).max() + standard_deviations(OUTSIDE) * widest)
        # Where depth does not matter one slab holds all atoms.
        thickness = depth if self.model in FLAT else self.slice_thickness
        count = math.ceil(depth / thickness)
        height = -(count - 1) / 2 * thickness
        projected = np.zeros((count, size, size), dtype=np.float32)
        add_atoms(projected, position, self.profiles, pixel_size, thickness=thickness, height=height, threads=1)
        return without_pixel_window(PotentialSlices(projected, pixel_size, thickness, height))


def wave_images(
    scene: AtomicScene, particles: Particles, *, threads: int = 1, images_per_chunk: int = IMAGES_PER_CHUNK
) -> Iterator[Float[np.ndarray, "n y x"]]:
    """Noiseless images of all particles, float32, bright protein, CTF state raw, in the order of the rows.

    Poses, CTFs and optics groups are those of `particles`. `threads` particles are computed at a time; neither they nor the
    chunks change the images.
    """
    check_particles(particles, scene.box, scene.pixel_size, use_ctf=True)
    assert particles.pose is not None
    if scene.volume is not None and scene.model is ScatteringModel.WEAK_PHASE:
        yield from weak_phase_images(scene.volume, particles, scene.wave_box, scale=scene.scale, threads=threads)
        return
    rotation = matrix_from_euler(particles.pose.euler)
    shift = np.asarray(particles.pose.shift, dtype=np.float64)
    with ThreadPoolExecutor(threads) as pool:
        for rows in chunks(np.arange(len(particles)), images_per_chunk):
            work = [(scene, rotation[i], shift[i], microscope_of(particles, i)) for i in rows]
            yield np.stack(list(pool.map(lambda item: wave_image_of(*item), work)))


def wave_image_of(
    scene: AtomicScene, rotation: Float[np.ndarray, "3 3"], origin: Float[np.ndarray, 2], microscope: Microscope
) -> Float[np.ndarray, "y x"]:
    """The noiseless image of one particle, float32, on the scale that the head of this module gives."""
    slices = scene.slices(rotation, origin)
    intensity = form_image(slices, microscope, scene.model)
    lost, _ = fourier_crop(1 - intensity, scene.box, 2, slices.pixel_size)
    unit = scene.scale / (2 * interaction_constant(microscope.voltage) * scene.pixel_size)
    return (lost * np.float32(unit)).astype(np.float32, copy=False)


def microscope_of(particles: Particles, row: int) -> Microscope:
    """The microscope of one particle, from its optics group and its CTF."""
    group, ctf = particles.optics[particles.optics_index[row]], particles.ctf
    assert ctf is not None
    group.require("voltage", "spherical_aberration", "amplitude_contrast")
    return Microscope(
        voltage=float(group.voltage or 0),
        spherical_aberration=group.spherical_aberration,
        defocus=float(ctf.defocus[row]),
        astigmatism=tuple(ctf.astigmatism[row].tolist()),
        amplitude_contrast=group.amplitude_contrast,
        phase_shift=float(ctf.phase_shift[row]),
        coma_tilt=tuple(group.beam_tilt),
        b_factor=float(ctf.b_factor[row]),
        even_zernike=group.even_zernike,
        odd_zernike=group.odd_zernike,
    )
