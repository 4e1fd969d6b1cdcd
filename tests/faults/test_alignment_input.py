"""What a new user gets wrong with `classify2d`, `abinitio` and `refine`: one line that says what to do, exit code 2, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.io.mrc_stack import write_stack, write_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.model.particles import Particles
from vitreous.model.volume import Volume

COUNT, PIXEL_SIZE = 60, 4.0
COMMANDS = {
    "classify2d": ("--classes", "3"),
    "abinitio": ("--starts", "1", "--end-resolution", "16"),
    "refine": ("--reference", "map.mrc", "--order", "1"),
}


@pytest.fixture
def folder(blob_particles, blob_map, tmp_path, monkeypatch) -> Path:
    """particles.star without poses, p.mrcs and map.mrc, in the current folder."""
    few = replace(blob_particles, pose=None, half_set=None).rows(slice(0, COUNT))
    write_stack(tmp_path / "p.mrcs", few.images.pixels, PIXEL_SIZE)
    write_particles(tmp_path / "particles.star", few)
    write_volume(tmp_path / "map.mrc", Volume(blob_map, PIXEL_SIZE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *words: str) -> str:
    """The one line on stderr of a command that must fail with exit code 2 and leave the folder as it was."""
    before = set(Path().rglob("*"))
    assert dispatch(list(words)) == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message and "Traceback" not in message and "expected" in message
    assert set(Path().rglob("*")) == before
    return message


def with_pixels(change: Callable[[np.ndarray], None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        pixels = read_particles(folder / "particles.star").images.read(slice(None)).copy()
        change(pixels)
        write_stack(folder / "p.mrcs", pixels, PIXEL_SIZE)

    return spoil


def with_particles(change: Callable[[Particles], Particles]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        write_particles(folder / "particles.star", change(read_particles(folder / "particles.star")))

    return spoil


def assign(row: int, value: float) -> Callable[[np.ndarray], None]:
    def change(pixels: np.ndarray) -> None:
        pixels[row] *= value

    return change


def defocus(value: float) -> Callable[[Particles], Particles]:
    def change(particles: Particles) -> Particles:
        changed = particles.ctf.defocus_u.copy()
        changed[4] = value
        return replace(particles, ctf=replace(particles.ctf, defocus_u=changed))

    return change


def truncated(folder: Path) -> None:
    stack = folder / "p.mrcs"
    stack.write_bytes(stack.read_bytes()[:-100])


def cut_short(folder: Path) -> None:
    star = folder / "particles.star"
    text = star.read_text().rstrip()
    star.write_text(text[: text.rindex(" ")] + "\n")


def broken_defocus(folder: Path) -> None:
    star = folder / "particles.star"
    u = read_particles(star, load_images=False).ctf.defocus_u[4]
    text = star.read_text()
    star.write_text(text.replace(next(word for word in text.split() if word.startswith(f"{u:.6f}"[:10])), "nan", 1))


SPOILT = {
    "larger than squares can be": (with_pixels(assign(9, 1e30)), "row 10 of particles.star"),
    "smaller than squares can be": (with_pixels(lambda pixels: np.multiply(pixels, 1e-25, out=pixels)), "row 1 of"),
    "infinite pixels": (with_pixels(assign(11, np.inf)), "row 12 of"),
    "defocus that is no number": (broken_defocus, "row 5 of column rlnDefocusU holds nan"),
    "defocus beyond all measure": (with_particles(defocus(1e12)), "the defocus of row 5 of particles.star is 1e+12 A"),
    "defocus of metres": (with_particles(defocus(-1e20)), "at most 1e+06 A"),
    "truncated stack": (truncated, "the file is truncated"),
    "stack that is gone": (lambda folder: (folder / "p.mrcs").unlink(), "'p.mrcs' was not found"),
    "row that is cut short": (cut_short, "line"),
    "no file": (lambda folder: (folder / "particles.star").unlink(), "particles.star does not exist"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", SPOILT)
def test_files_that_cannot_be_used(name, command, folder, capsys):
    spoil, words = SPOILT[name]
    spoil(folder)
    assert words in refused(capsys, command, "particles.star", *COMMANDS[command], "--out", "job")


OPTIONS = {
    "a seed below 0": (("--seed", "-1"), "--seed -1; expected 0 or more"),
    "a folder that is not there": (("--datadir", "nowhere"), "--datadir nowhere, which is no folder"),
    "a mask wider than the box": (("--diameter", "500"), "--diameter 500"),
    "a mask that is no number": (("--diameter", "nan"), "--diameter nan"),
    "no workers": (("--workers", "0"), "--workers 0; expected at least 1"),
    "an unknown cluster": (("--workers", "2", "--cluster", "moon"), "--cluster moon; expected local"),
    "a job folder in a file": (("--out", "map.mrc/job"), "cannot be written"),
    "a job folder that is a file": (("--out", "map.mrc"), "map.mrc is a file"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_cannot_be_used(name, command, folder, capsys):
    options, words = OPTIONS[name]
    out = () if "--out" in options else ("--out", "job")
    assert words in refused(capsys, command, "particles.star", *COMMANDS[command], *options, *out)


@pytest.mark.parametrize("command", ["classify2d", "refine"])
def test_a_step_of_origins_beyond_their_range(command, folder, capsys):
    words = (command, "particles.star", *COMMANDS[command], "--shift-range", "8", "--shift-step", "9", "--out", "job")
    assert "--shift-step 9 for origins up to 8 angstrom away" in refused(capsys, *words)


def test_references_and_masks_of_refine(folder, blob_map, capsys):
    def message(*words: str) -> str:
        return refused(capsys, "refine", "particles.star", *words, "--out", "job")

    def file(name: str, data: np.ndarray, pixel_size: float = PIXEL_SIZE) -> str:
        write_volume(folder / name, Volume(np.asarray(data, dtype=np.float32), pixel_size))
        return name

    reference = ("--reference", "map.mrc")
    scale = "give --reference-pixel-size if the header of the map is wrong"
    assert scale in message("--reference", file("nm.mrc", blob_map, 0.4))  # its pixel size in nanometres
    assert scale in message("--reference", file("coarse.mrc", blob_map, 400.0))
    assert scale in message(*reference, "--reference-pixel-size", "1e6")
    assert "zero.mrc is 0 everywhere" in message(*reference, "--mask", file("zero.mrc", 0 * blob_map))
    assert "values from 0 to 1" in message(*reference, "--mask", file("signed.mrc", blob_map - 0.5))
    assert "is damaged or not a saved state; expected a complete state.npz" in message("--continue-from", "map.mrc")
    assert "none.npz does not exist" in message("--continue-from", "none.npz")


def test_localres_and_subtract_take_no_empty_mask_or_map(folder, blob_map, blob_particles, capsys):
    write_volume(folder / "zero.mrc", Volume(0 * blob_map, PIXEL_SIZE))
    whole = np.zeros_like(blob_map)
    whole[:16] = 1
    write_volume(folder / "half.mrc", Volume(whole, PIXEL_SIZE))
    write_particles(folder / "posed.star", blob_particles.rows(slice(0, COUNT)))
    found = refused(capsys, "localres", "map.mrc", "map.mrc", "--mask", "zero.mrc", "--out", "job")
    assert "the mask zero.mrc is 0 everywhere" in found
    words = ("subtract", "posed.star", "--map", "zero.mrc", "--mask", "half.mrc", "--out", "job")
    assert "a map that is 0 everywhere" in refused(capsys, *words)
