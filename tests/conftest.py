"""What all tests share: where the real data lie, float64 in JAX for one test, and random rotations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitreous.alignment.assignment import Assignment
from vitreous.alignment.classification import Classification
from vitreous.geometry.rotations import euler_from_matrix, random_rotations
from vitreous.heterogeneity.latents import Latents
from vitreous.heterogeneity.subspace_decoder import SubspaceDecoder
from vitreous.io.mrc_stack import write_stack, write_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.classify2d_tables import PARTICLES, assigned_particles, classes_of, write_classes
from vitreous.jobs.landscape_folder import write_landscape
from vitreous.jobs.stack_names import lasting_names
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import ImageName, LoadedImages, Particles
from vitreous.model.pose import Pose
from vitreous.model.volume import Volume
from vitreous.optics.ctf import ctf_of_particles
from vitreous.reconstruction.projection import fourier_volume, half_plane, project, slice_grid

BOX, PIXEL_SIZE, COUNT = 32, 4.0, 900

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real data absent: ../shared/data is not beside the repository")
    return SHARED_DATA


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261122)


def blobs() -> np.ndarray:
    rng = np.random.default_rng(8)
    axis = np.arange(BOX) - BOX // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    volume = np.zeros((BOX,) * 3, dtype=np.float32)
    for centre in rng.uniform(-7, 7, size=(9, 3)):
        volume += np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2) / (2 * 1.3**2))
    return volume


def noisy_particles() -> Particles:
    """Noisy, astigmatic, shifted images of blobs: SNR about 0.2."""
    rng = np.random.default_rng(2)
    grid = slice_grid(BOX)
    rotation = random_rotations(COUNT, rng)
    slices = half_plane(project(fourier_volume(blobs()), rotation.astype(np.float32), grid), grid)
    group = OpticsGroup(
        pixel_size=PIXEL_SIZE, box=BOX, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1
    )
    defocus = rng.uniform(1e4, 2.4e4, COUNT)
    ctf = CtfParameters.of(defocus + 1500, defocus - 1500, np.full(COUNT, 0.4))
    ky, kx = np.meshgrid(np.fft.fftfreq(BOX, PIXEL_SIZE), np.fft.rfftfreq(BOX, PIXEL_SIZE), indexing="ij")
    origin = rng.normal(0, 9.0, size=(COUNT, 2))
    moved = np.exp(2j * np.pi * (kx * origin[:, 0, None, None] + ky * origin[:, 1, None, None]))
    images = np.fft.fftshift(
        np.fft.irfft2(slices * ctf_of_particles(group, ctf, kx, ky) * moved, s=(BOX, BOX)), axes=(1, 2)
    )
    images += rng.normal(0, images.std() / np.sqrt(0.2), size=images.shape)
    names = ImageName(np.arange(COUNT), np.zeros(COUNT, dtype=np.int32), ("p.mrcs",))
    halves = (np.arange(COUNT) % 2 + 1).astype(np.int8)
    return Particles(
        names,
        (group,),
        np.zeros(COUNT, dtype=int),
        Pose(euler_from_matrix(rotation), origin),
        ctf,
        halves,
        images=LoadedImages(images.astype(np.float32)),
    )


def ring_image(
    shape: tuple[int, int] = (320, 320),
    *,
    pixel_size: float = 2.0,
    defocus: tuple[float, float, float] = (15000.0, 14000.0, 0.6),
    signal: float = 1.0,
    phase_shift: float = 0.0,
    seed: int = 1,
) -> np.ndarray:
    """White noise seen through a CTF (U, V in angstrom, angle in radian; 300 kV, 2.7 mm, 0.1), and as much white noise beside it."""
    rng = np.random.default_rng(seed)
    group = OpticsGroup(pixel_size=pixel_size, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
    ky, kx = np.meshgrid(np.fft.fftfreq(shape[0], pixel_size), np.fft.rfftfreq(shape[1], pixel_size), indexing="ij")
    ctf = ctf_of_particles(group, CtfParameters.of(*defocus, phase_shift=phase_shift), kx, ky)[0]
    seen = np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) * ctf, s=shape)
    return (100 + 10 * (signal * seen + rng.normal(size=shape))).astype(np.float32)


@pytest.fixture(scope="session")
def ring_micrograph():
    """The function that makes micrographs with Thon rings of known defocus."""
    return ring_image


@pytest.fixture(scope="session")
def blob_map() -> np.ndarray:
    """The true density of `blob_particles`, 32 voxels of 4 angstrom."""
    return blobs()


@pytest.fixture(scope="session")
def blob_particles() -> Particles:
    """900 noisy images of `blob_map` in memory, with true poses, CTFs and half sets. Not to be modified."""
    return noisy_particles()


@pytest.fixture(scope="session")
def blob_files(tmp_path_factory, blob_particles, blob_map) -> Path:
    """A folder with the same as files: particles.star, particles.mrcs, map.mrc. Not to be modified."""
    folder = tmp_path_factory.mktemp("blobs")
    write_stack(folder / "p.mrcs", blob_particles.images.pixels, PIXEL_SIZE)
    write_particles(folder / "particles.star", blob_particles)
    write_volume(folder / "map.mrc", Volume(blob_map, PIXEL_SIZE))
    return folder


def made_classification() -> tuple[Classification, np.ndarray]:
    """A finished classification of the blob particles as it might be, and the agreement of each with its class: classes 1 to 3 are views with
    300, 250 and 200 particles, of which every tenth does not agree; class 4 is a streak across the mask with 150, class 5 is empty.
    """
    rng = np.random.default_rng(4)
    density = blobs()
    axis = np.arange(BOX) - BOX // 2
    disc = np.hypot(axis[:, None], axis) < 13
    streak = 3 + np.broadcast_to(np.tanh(axis / 3)[:, None], (BOX, BOX))
    averages = np.stack([*(density.sum(axis=i) for i in range(3)), streak, np.zeros((BOX, BOX))]) * disc
    member = rng.permutation(np.repeat(np.arange(4), (300, 250, 200, 150))).astype(np.int32)
    resolution = np.array([9.0, 10.0, 12.0, 40.0, np.inf])
    euler = np.zeros((COUNT, 3))
    euler[:, 2] = rng.uniform(-np.pi, np.pi, COUNT)
    assignment = Assignment(
        member,
        Pose(euler, rng.normal(0, 4, (COUNT, 2))),
        rng.uniform(0.3, 1, COUNT),
        rng.uniform(0, 2, COUNT),
        np.array([20.0, 18.0, 16.0, 3.0])[member] + rng.normal(0, 2, COUNT),
        np.where(member < 3, 0.9, 0.5),
        rng.uniform(0.02, 0.1, COUNT),
        rng.uniform(0.5, 2, COUNT),
        rng.normal(1, 0.05, COUNT),
    )
    shells = np.arange(BOX // 2 + 1)
    ratio = 30 * np.exp(-shells * np.where(np.isfinite(resolution), resolution, 100)[:, None] / 40)
    agrees = (member < 3) & (np.arange(COUNT) % 10 > 0)
    agreement = np.where(agrees, 0.5, 0.2) + rng.normal(0, 0.06, COUNT)
    state = Classification(
        6,
        averages.astype(np.float32),
        np.bincount(member, minlength=5) / COUNT,
        resolution,
        ratio,
        np.ones((1, len(shells))),
        assignment,
        COUNT * np.array([1.0, 6.0, 10.0, 13.0, 14.0, 14.5]),
        np.array([1.0, 0.5, 0.3, 0.2, 0.1, 0.05]),
        0.01,
    )
    return state, agreement


@pytest.fixture(scope="session")
def classification() -> Classification:
    """A made 2D classification of `blob_particles`: three views, a streak, an empty class. Not to be modified."""
    return made_classification()[0]


@pytest.fixture(scope="session")
def agreement() -> np.ndarray:
    """How well each of these particles agrees with its class. Not to be modified."""
    return made_classification()[1]


@pytest.fixture(scope="session")
def class_files(tmp_path_factory, blob_files, blob_particles, classification, agreement) -> Path:
    """The same as the files of a finished job. Not to be modified."""
    folder = tmp_path_factory.mktemp("classes")
    classes = classes_of(classification, agreement, PIXEL_SIZE, 26 * PIXEL_SIZE)
    write_classes(folder, classes, signal_to_noise=classification.signal_to_noise)
    named = lasting_names(blob_particles, blob_files / "particles.star", folder)
    write_particles(folder / PARTICLES, assigned_particles(named, classification.assignment, agreement))
    return folder


def horseshoe_latents(count: int) -> np.ndarray:
    """Latents [n, 2] along three quarters of a ring of radius 2, a little scattered."""
    rng = np.random.default_rng(5)
    angle = rng.uniform(-0.75 * np.pi, 0.75 * np.pi, count)
    return np.stack([2 * np.cos(angle), 2 * np.sin(angle)], axis=-1) + rng.normal(0, 0.1, (count, 2))


def part_of_blobs(x: float, y: float) -> np.ndarray:
    """A blob [z, y, x] of 16 voxels an edge."""
    axis = np.arange(16) - 8
    zz, yy, xx = np.meshgrid(axis, axis, axis, indexing="ij")
    return np.exp(-(zz**2 + (yy - y) ** 2 + (xx - x) ** 2) / (2 * 1.6**2)).astype(np.float32)


def write_blob_landscape(folder: Path, source: Path, particles: Particles, latents: Latents) -> Path:
    """The folder of a finished training in which each coordinate of the latent moves a blob."""
    parts = [
        part_of_blobs(0, 0) + part_of_blobs(-3, 0) + part_of_blobs(0, -3),
        part_of_blobs(4, 1) - part_of_blobs(3, 3),
        part_of_blobs(1, 4) - part_of_blobs(-2, 3),
    ]
    maps = (
        np.stack(parts[: latents.dimensions + 1])
        * np.array([1, 0.3, 0.3], np.float32)[: latents.dimensions + 1, None, None, None]
    )
    folder.mkdir(parents=True)
    write_landscape(folder, particles, latents, SubspaceDecoder(maps, 2 * PIXEL_SIZE, 8.0), source=source)
    (folder / "result.json").write_text("{}")
    return folder


@pytest.fixture(scope="session")
def blob_landscape():
    """The function that writes a small landscape."""
    return write_blob_landscape


@pytest.fixture(scope="session")
def horseshoe():
    """The function that draws latents along three quarters of a ring."""
    return horseshoe_latents


@pytest.fixture(scope="session")
def landscape_folder(tmp_path_factory, blob_files) -> Path:
    """The landscape of the first 300 blob particles, with latents along three quarters of a ring. Not to be modified."""
    source = blob_files / "particles.star"
    particles = read_particles(source, load_images=False).rows(np.arange(300))
    mean = horseshoe_latents(300).astype(np.float32)
    covariance = np.broadcast_to(0.04 * np.eye(2, dtype=np.float32), (300, 2, 2)).copy()
    return write_blob_landscape(
        tmp_path_factory.mktemp("landscape") / "trained", source, particles, Latents(mean, covariance)
    )
