"""`vitreous convert`: particle files between STAR and .cs, to cryoDRGN's tables and back, maps and stacks between modes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vitreous.cli.run_command import Json, print_outcome, progress_bars
from vitreous.engine.chunks import chunk_size
from vitreous.errors import OutputProblem, SettingsProblem
from vitreous.io.mrc import read_header, read_volume
from vitreous.io.mrc_stack import MrcStack, StackWriter, write_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.cryodrgn_files import (
    CryodrgnTables,
    read_from_cryodrgn,
    write_decoded_map,
    write_for_cryodrgn,
)
from vitreous.jobs.job import Finding, Outcome

PARTICLES = (".star", ".cs", ".csg")
STACKS = (".mrcs",)
MAPS = (".mrc", ".map")


def run(
    source: Annotated[
        Path,
        Parameter(
            help="The file to convert: .star, .cs, .csg, a map or a stack; a folder of a landscape or of cryoDRGN"
        ),
    ],
    target: Annotated[
        Path, Parameter(help="The file to write: .star or .cs, .mrc or .mrcs; with --to cryodrgn a folder")
    ],
    *,
    to: Annotated[
        Literal["cryodrgn"] | None,
        Parameter(help="Write poses.pkl and ctf.pkl for cryoDRGN, of a landscape z.pkl too, into the target folder"),
    ] = None,
    poses: Annotated[Path | None, Parameter(help="cryoDRGN's poses.pkl, row by row those of the images")] = None,
    ctf: Annotated[Path | None, Parameter(help="cryoDRGN's ctf.pkl, row by row those of the images")] = None,
    latent: Annotated[
        tuple[float, ...],
        Parameter(help="Of a folder of cryoDRGN: the latent whose map is written", consume_multiple=True, negative=()),
    ] = (),
    box: Annotated[int | None, Parameter(help="Voxels along an edge of that map, instead of its own")] = None,
    passthrough: Annotated[
        list[Path], Parameter(help="cryoSPARC passthrough files, merged by uid", consume_multiple=True, negative=())
    ] = [],  # noqa: B006
    pixel_size: Annotated[float | None, Parameter(help="Pixel size in angstrom, instead of the file's")] = None,
    mode: Annotated[
        Literal["float32", "float16"], Parameter(help="Numbers of a stack's pixels; maps are always float32")
    ] = "float32",
    force: Annotated[bool, Parameter(negative=(), help="Replace the output file")] = False,
    json: Json = False,
) -> int:
    """Convert by the names' endings, and say what was written."""
    if to == "cryodrgn":
        print_outcome(write_for_cryodrgn(source, target, pixel_size=pixel_size, force=force), as_json=json)
        return 0
    if target.exists() and not force:
        raise OutputProblem(f"{target} exists", "a new file name", "choose another, or give --force")
    if poses is not None or ctf is not None:
        if target.suffix not in PARTICLES[:2]:
            raise SettingsProblem(f"--poses or --ctf for '{target.name}'", "a particle file, .star or .cs")
        tables = CryodrgnTables(poses, ctf)
        print_outcome(read_from_cryodrgn(source, target, tables, pixel_size=pixel_size), as_json=json)
        return 0
    if source.is_dir() and target.suffix in MAPS:
        print_outcome(write_decoded_map(source, target, latent, box=box, pixel_size=pixel_size), as_json=json)
        return 0
    if latent or box is not None:
        raise SettingsProblem("--latent or --box for a file", "a folder of cryoDRGN and a map to write")
    if source.suffix in PARTICLES and target.suffix in PARTICLES[:2]:
        finding = convert_particles(source, target, passthrough, pixel_size)
    elif source.suffix in STACKS and target.suffix in STACKS:
        finding = convert_stack(source, target, pixel_size, 12 if mode == "float16" else 2)
    elif target.suffix in MAPS:
        volume = read_volume(source, pixel_size)
        write_volume(target, volume)
        finding = Finding("voxels", "voxels along an edge", volume.box)
    else:
        raise SettingsProblem(
            f"a conversion of '{source.name}' to '{target.name}'",
            "particles to .star or .cs, a map to .mrc, a stack to .mrcs",
        )
    print_outcome(Outcome([finding]), as_json=json)
    return 0


def convert_particles(source: Path, target: Path, passthrough: list[Path], pixel_size: float | None) -> Finding:
    """Poses, CTF, half sets and optics groups change their form; what the other format has no name for goes along as it is."""
    particles = read_particles(source, passthrough=passthrough, load_images=False, pixel_size=pixel_size)
    write_particles(target, particles)
    return Finding("particles", "particles", len(particles))


def convert_stack(source: Path, target: Path, pixel_size: float | None, mode: int) -> Finding:
    """A stack in another number format, a chunk at a time."""
    stack = MrcStack(source)
    known = read_header(source).pixel_size
    size = pixel_size or (known[0] if known else None)
    if size is None:
        raise SettingsProblem(
            f"{source} does not give its pixel size (the header says 0)", "a pixel size", "give --pixel-size"
        )
    step = chunk_size(stack.shape[-1])
    with progress_bars() as progress, StackWriter(target, size, mode=mode) as writer:
        bar = progress("convert")
        for start in range(0, len(stack), step):
            writer.append(stack.read(slice(start, start + step)))
            bar(min(start + step, len(stack)), len(stack))
    return Finding("images", "images", len(stack))
