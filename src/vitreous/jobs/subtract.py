"""The job `subtract`: what a map says of all but one part is taken out of the images of particles with poses."""

# Annotations here are objects, not text: the command line would look their names up in the modules of the jobs that inherit them.
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vitreous.engine.compilation import use_persistent_cache
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.filters import apply_filter, low_pass
from vitreous.fourier.shells import spread_shells
from vitreous.fourier.transforms import radial_frequency
from vitreous.io.mrc_stack import write_volume
from vitreous.io.particles import write_particles
from vitreous.jobs.job import Desk, Outcome
from vitreous.jobs.particle_input import ImageInput, declared_contrast, ready_particles
from vitreous.jobs.postprocess import read_mask, read_pair
from vitreous.jobs.ranges import refuse_numbers
from vitreous.jobs.refine_ctf import read_reference
from vitreous.jobs.refine_ctf_tables import micrographs_of
from vitreous.jobs.subtract_sections import Shown, subtraction_outcome
from vitreous.jobs.subtract_stacks import STAR, Cut, Subtraction, subtracted_particles, write_stacks
from vitreous.model.particles import Particles
from vitreous.model.volume import Volume
from vitreous.reconstruction.fsc import half_map_curves
from vitreous.reconstruction.mask import automatic_mask
from vitreous.reconstruction.postprocess import until_first_zero
from vitreous.simulation.recentring import centre_of_mask, cut_out_volume, recentred_pose
from vitreous.simulation.subtraction import ScaleFit, SubtractionMaps, fit_scales, measure_remains

SAMPLE = 256  # particles on which what remains is measured
MODES = {"float32": 2, "float16": 12}


@dataclass(frozen=True)
class Subtract(ImageInput):
    """Settings of a signal subtraction.

    Parameters
    ----------
    particles
        Particle file with poses and CTFs: STAR (.star) or cryoSPARC (.cs, .csg).
    mask
        Soft mask of the part to keep, values from 0 to 1; all else in the map is subtracted.
    map
        Map that the poses belong to, in the box of the particles. Better give two half maps.
    half_maps
        Half maps 1 and 2, unfiltered: from each particle that of its own half set is subtracted, each shell weighted by the FSC.
    resolution
        Resolution in angstrom to which a map (--map) is low-pass filtered first; by default it is taken as it is.
    scale
        Contrast of the images: one scale for all particles of a micrograph (of an optics group where the file names no
        micrographs; of either half set by itself), one for each particle, or none: the map is on the images' scale.
    recentre
        Cut the images out anew around the mask's centre of mass.
    box
        Box of the recentred images in pixels; by default that of the particles.
    mode
        Numbers of the pixels that are written.
    pixel_size
        Pixel size in angstrom of particles and maps, instead of their files'.
    seed
        Seed of the phase randomisation behind the FSC of the half maps.
    """

    mask: Path = field(kw_only=True)
    map: Path | None = field(default=None, kw_only=True)
    half_maps: tuple[Path, Path] | None = field(default=None, kw_only=True)
    resolution: float | None = field(default=None, kw_only=True)
    scale: Literal["group", "particle", "none"] = field(default="group", kw_only=True)
    recentre: bool = field(default=False, kw_only=True)
    box: int | None = field(default=None, kw_only=True)
    mode: Literal["float32", "float16"] = field(default="float32", kw_only=True)

    name: ClassVar[str] = "subtract"
    resumable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        refuse_numbers(self, positive=("resolution", "box", "pixel_size"))
        if (self.map is None) == (self.half_maps is None):
            raise SettingsProblem(
                "no map" if self.map is None else "--map and --half-maps together",
                "a map (--map MAP) or two half maps (--half-maps HALF1 HALF2)",
            )
        if self.resolution is not None and self.map is None:
            raise SettingsProblem(
                f"--resolution {self.resolution:g} for half maps, which are filtered by their FSC", "it only with --map"
            )
        if self.box is not None and not self.recentre:
            raise SettingsProblem(f"--box {self.box} without --recentre", "both, or neither")
        if self.box is not None and self.box < 8:
            raise SettingsProblem(f"--box {self.box}", "at least 8 pixels")

    def inputs(self) -> list[Path]:
        maps = [self.map, *(self.half_maps or ()), self.mask]
        return [self.particles, *self.passthrough, *(path for path in maps if path is not None)]

    def run(self, desk: Desk) -> Outcome:
        use_persistent_cache()
        particles = self.ready_particles()
        maps = self.maps(particles)
        fit = fit_scales(particles, maps, desk.progress("fit"))
        group = self.groups(particles, maps)
        chosen = {"group": fit.of_groups(group), "particle": fit.scale, "none": np.ones(len(particles))}[self.scale]
        cut = self.cut(particles, maps)
        subtraction = Subtraction(particles, maps, chosen, cut, MODES[self.mode])
        stacks = write_stacks(desk.folder, subtraction, desk.progress("subtract"))
        write_particles(
            desk.folder / STAR,
            subtracted_particles(subtraction, stacks, self.particles, desk.place or desk.folder, self.datadir),
        )
        self.save_maps(desk.folder, maps, cut)
        return self.outcome(subtraction, fit, group)

    def ready_particles(self) -> Particles:
        particles = ready_particles(self, use_ctf=True)
        return replace(particles, contrast=declared_contrast(particles, self.contrast))

    def maps(self, particles: Particles) -> SubtractionMaps:
        """The maps, filtered, and the mask, all in the particles' box."""
        if self.half_maps is not None:
            first, second = read_pair(*self.half_maps, self.pixel_size)
            whole = weighted_by_fsc(first, second, self.seed)
            if particles.half_set is None:
                raise DataProblem(
                    f"--half-maps for {self.particles}, which names no half sets",
                    "a half set (rlnRandomSubset) for each particle",
                    "use the particle file that the half maps were made of",
                )
        else:
            assert self.map is not None
            whole = (low_passed(read_reference(self.map, self.pixel_size), self.resolution),)
        self.refuse_another_grid(particles, whole[0])
        return SubtractionMaps(whole, read_mask(self.mask, whole[0]).values)

    def refuse_another_grid(self, particles: Particles, volume: Volume) -> None:
        assert particles.images is not None
        box, size = particles.images.shape[-1], particles.pixel_size
        if volume.box != box or abs(volume.pixel_size / size - 1) > 1e-3:
            raise DataProblem(
                f"a map of {volume.box} voxels of {volume.pixel_size:.4g} A for images of {box} pixels of {size:.4g} A",
                "one box and one pixel size",
                "reconstruct the map from these particles, or give the right --pixel-size",
            )

    def groups(self, particles: Particles, maps: SubtractionMaps) -> np.ndarray:
        """Which particles share a scale, numbered from 0: those of a micrograph, of one half set where there are two maps."""
        micrographs = micrographs_of(particles)
        index = particles.optics_index if micrographs is None else micrographs.index
        half = np.zeros(len(particles), dtype=np.int64)
        for number, rows in maps.rows(particles):
            half[rows] = number
        return np.unique(2 * index.astype(np.int64) + half, return_inverse=True)[1]

    def cut(self, particles: Particles, maps: SubtractionMaps) -> Cut | None:
        """Where the images are cut out anew; None if they stay as they are."""
        if not self.recentre:
            return None
        assert particles.pose is not None
        centre = centre_of_mask(maps.keep)
        pose, offset = recentred_pose(particles.pose, centre * maps.pixel_size, particles.pixel_size)
        return Cut(centre, maps.box if self.box is None else self.box, pose, offset)

    def save_maps(self, folder: Path, maps: SubtractionMaps, cut: Cut | None) -> None:
        """The part that was kept and its mask, as the new images show them."""
        kept = np.mean([volume.data for volume in maps.whole], axis=0, dtype=np.float32) * maps.keep
        for name, data, label in (
            ("kept", kept, "part that was kept"),
            ("mask", maps.keep, "mask of the part that was kept"),
        ):
            shown = data if cut is None else cut_out_volume(data, cut.centre, cut.box)
            write_volume(folder / f"{name}.mrc", Volume(shown, maps.pixel_size), label=f"vitreous {label}")

    def outcome(self, subtraction: Subtraction, fit: ScaleFit, group: np.ndarray) -> Outcome:
        particles = subtraction.particles
        rows = np.arange(len(particles))[:: max(1, len(particles) // SAMPLE)][:SAMPLE]
        remains = measure_remains(particles.rows(rows), subtraction.maps, subtraction.scale[rows])
        shown = Shown(subtraction, fit, remains, int(group.max()) + 1, len(rows))
        return subtraction_outcome(shown, self)


def weighted_by_fsc(first: Volume, second: Volume, seed: int) -> tuple[Volume, Volume]:
    """Both half maps with each shell multiplied by the FSC, corrected for a mask, up to its first zero.

    The FSC is signal / (signal + noise) of one half map: its Wiener filter, and all that the halves learn of each other.
    """
    size = first.pixel_size
    mask = automatic_mask((first.data + second.data) / 2, size)
    curves = half_map_curves(first.data, second.data, size, mask=None if mask.empty else mask.values, seed=seed)
    if curves.resolution().value is None:
        raise DataProblem("half maps that agree at no resolution", "an FSC above 0.143", "give better maps")
    gain = spread_shells(until_first_zero(curves.best), first.data.shape).astype(np.float32)
    return tuple(
        replace(volume, data=apply_filter(np.asarray(volume.data, np.float32), gain, 3)) for volume in (first, second)
    )  # type: ignore[return-value]


def low_passed(volume: Volume, resolution: float | None) -> Volume:
    """The map cut at a resolution in angstrom, by a cosine of two shells; as it is for None."""
    if resolution is None:
        return volume
    shape = volume.data.shape
    k = radial_frequency(shape, volume.pixel_size, dtype=np.float32)
    transfer = low_pass(k, 1 / resolution, 2 / (volume.box * volume.pixel_size)).astype(np.float32)
    return replace(volume, data=apply_filter(volume.data, transfer, 3))
