"""Writes docs/pictures: figures of the reports of `vitreous demo` and, where the data are, of a reconstruction of real
particles, right and with planted faults.

    python docs/make_pictures.py [--betagal ../shared/data/betagal/particles_posed.star]

Figures of reports are shown in fewer pixels and colours: each picture stays below 150 kB. The resolution of each faulty
reconstruction is printed.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.conventions import CtfState
from vitreous.geometry.rotations import euler_from_matrix, matrix_from_euler, transpose
from vitreous.geometry.symmetry import point_group
from vitreous.io.particles import read_particles
from vitreous.jobs.demo import Demo
from vitreous.jobs.folder import run_in_passing
from vitreous.jobs.job import Outcome
from vitreous.jobs.map_products import analyse
from vitreous.jobs.pictures import image_gallery
from vitreous.jobs.reconstruct import Reconstruct
from vitreous.jobs.report import Figure
from vitreous.model.particles import LoadedImages, Particles
from vitreous.model.pose import Pose
from vitreous.reconstruction.direct_inversion import InversionSettings, reconstruct

DOCS = Path(__file__).resolve().parent
PICTURES = DOCS / "pictures"
BETAGAL = DOCS.parent.parent / "shared" / "data" / "betagal" / "particles_posed.star"
LARGEST = 150_000  # bytes
WIDTH = 800  # pixels


def figures(outcome: Outcome, heading: str) -> list[Figure]:
    """The figures of the section with this heading."""
    return [figure for section in outcome.sections if section.heading == heading for figure in section.figures]


def demo_pictures(outcome: Outcome) -> Iterator[tuple[str, bytes]]:
    """Particles, surfaces of map and truth, and their agreement."""
    yield "demo_images.png", smaller(figures(outcome, "4 · Particles")[0].png)
    map_, truth = figures(outcome, "8 · The refined map")[:2]
    yield "demo_map.png", smaller(map_.png)
    yield "demo_truth.png", smaller(truth.png)
    yield "demo_fsc.svg", on_white(figures(outcome, "Was the resolution honest?")[0].svg)


def betagal_pictures(outcome: Outcome) -> Iterator[tuple[str, bytes]]:
    """Surface and slices of the map of real particles, and its FSC."""
    surface, slices = figures(outcome, "Result")
    yield "betagal_map.png", smaller(surface.png)
    yield "betagal_slices.png", smaller(slices.png)
    yield "betagal_fsc.svg", on_white(figures(outcome, "Fourier shell correlation")[0].svg)


def inverted_images(particles: Particles) -> Particles:
    assert isinstance(particles.images, LoadedImages)
    return replace(particles, images=LoadedImages(-particles.images.pixels))


def with_pose(change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]):
    """A change of angles and shifts as a change of particles."""

    def changed(particles: Particles) -> Particles:
        assert particles.pose is not None
        return replace(particles, pose=Pose(*change(particles.pose.euler, particles.pose.shift)))

    return changed


def exchanged_defoci(particles: Particles) -> Particles:
    ctf = particles.ctf
    assert ctf is not None
    return replace(particles, ctf=replace(ctf, defocus_u=ctf.defocus_v, defocus_v=ctf.defocus_u))


def called_flipped(particles: Particles) -> Particles:
    optics = tuple(replace(group, ctf_state=CtfState.PHASE_FLIPPED) for group in particles.optics)
    return replace(particles, optics=optics)


def with_ctfs_of(wrong: Particles) -> Callable[[Particles], Particles]:
    """The CTFs of other particles, joined by image name."""
    rows = {name: row for row, name in enumerate(image_keys(wrong))}

    def changed(particles: Particles) -> Particles:
        assert wrong.ctf is not None
        return replace(particles, ctf=wrong.ctf.rows(np.array([rows[name] for name in image_keys(particles)])))

    return changed


def image_keys(particles: Particles) -> list[tuple[str, int]]:
    names = particles.names
    return [(names.paths[code], int(index)) for code, index in zip(names.path_code, names.index)]


def faults(wrong: Particles) -> dict[str, Callable[[Particles], Particles]]:
    """What is planted. `wrong` are the same images with defoci of a fit that locked on the wrong ring."""
    return {
        "as the file says": lambda particles: particles,
        "contrast inverted": inverted_images,
        "shifts negated": with_pose(lambda euler, shift: (euler, -shift)),
        "rotations transposed": with_pose(
            lambda euler, shift: (euler_from_matrix(transpose(matrix_from_euler(euler))), shift)
        ),
        "orientations shuffled": with_pose(lambda euler, shift: (np.random.default_rng(0).permutation(euler), shift)),
        "wrong defoci": with_ctfs_of(wrong),
        "defocus U and V exchanged": exchanged_defoci,
        "raw, called phase-flipped": called_flipped,
    }


def faulty_maps(path: Path) -> bytes:
    """Slices across x and z of the map that each fault gives."""
    particles = read_particles(path)
    assert particles.images is not None
    particles = replace(particles, images=LoadedImages(particles.images.read(slice(None))))
    planted = faults(read_particles(path.with_name("particles_wrong_ctf.star"), load_images=False))
    settings = InversionSettings(point_group("D2").operators, mask_radius=24.5)
    slices = []
    for name, change in planted.items():
        result = reconstruct(change(particles), settings)
        resolution = analyse(result.half_maps, result.map, particles.pixel_size).resolution
        print(f"{name}: {resolution}")
        middle = len(result.map) // 2
        slices.append((result.map[:, :, middle], result.map[middle]))
    rows = [across for row in zip(*slices) for across in row]
    return image_gallery(rows, columns=len(planted), size=100)


def smaller(png: bytes) -> bytes:
    """The picture at most `WIDTH` pixels wide, in as many greys or colours as keep it below `LARGEST` bytes."""
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    height = round(picture.height * min(1, WIDTH / picture.width))
    picture = picture.resize((min(WIDTH, picture.width), height), Image.Resampling.LANCZOS)
    red, green, blue, _ = picture.split()
    forms = [picture.quantize(colours, method=Image.Quantize.FASTOCTREE) for colours in (256, 64, 16)]
    if red.tobytes() == green.tobytes() == blue.tobytes():
        forms.insert(0, picture.convert("LA"))
    packed = b""
    for form in forms:
        buffer = io.BytesIO()
        form.save(buffer, format="PNG", optimize=True)
        packed = buffer.getvalue()
        if len(packed) < LARGEST:
            break
    return packed


def on_white(svg: str) -> bytes:
    """The drawing with a background of its own, for pages of any colour."""
    start = svg.index(">") + 1
    return (svg[:start] + '<rect width="100%" height="100%" fill="#fff"/>' + svg[start:] + "\n").encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--betagal", type=Path, default=BETAGAL, help="beta-galactosidase particles, EMPIAR-10204")
    options = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    made = list(demo_pictures(run_in_passing(Demo())))
    if options.betagal.is_file():
        made += betagal_pictures(run_in_passing(Reconstruct(options.betagal, symmetry="D2")))
        made.append(("betagal_faults.png", smaller(faulty_maps(options.betagal))))
    else:
        print(f"{options.betagal} is not there: its pictures are left as they are")
    for name, content in made:
        (PICTURES / name).write_bytes(content)
        print(f"{len(content) / 1000:6.1f} kB  {name}")


if __name__ == "__main__":
    main()
