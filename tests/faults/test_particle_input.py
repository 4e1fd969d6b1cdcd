"""Particle files with something wrong in them: `vitreous reconstruct` answers with one line that names it, and leaves nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.io.mrc_stack import write_stack
from vitreous.io.particles import read_particles, write_particles

PIXEL_SIZE = 4.0


@pytest.fixture
def folder(tmp_path, blob_particles) -> Path:
    """60 of the blob particles as files that may be spoiled."""
    few = blob_particles.rows(np.arange(60))
    write_stack(tmp_path / "p.mrcs", few.images.pixels, PIXEL_SIZE)
    write_particles(tmp_path / "p.star", few)
    return tmp_path


def edit(folder: Path, old: str, new: str, count: int = -1) -> None:
    text = (folder / "p.star").read_text()
    assert old in text
    (folder / "p.star").write_text(text.replace(old, new, count))


def truncated_stack(folder: Path) -> None:
    content = (folder / "p.mrcs").read_bytes()
    (folder / "p.mrcs").write_bytes(content[: len(content) // 2])


def nan_pixel(folder: Path) -> None:
    images = read_particles(folder / "p.star").images.read(slice(None))
    images[17, 5, 5] = np.nan
    write_stack(folder / "p.mrcs", images, PIXEL_SIZE)


def nan_angle(folder: Path) -> None:
    particles = read_particles(folder / "p.star")
    euler = particles.pose.euler.copy()
    euler[8, 0] = np.nan
    write_particles(folder / "p.star", replace(particles, pose=replace(particles.pose, euler=euler)))


def second_box(folder: Path) -> None:
    write_stack(folder / "q.mrcs", np.zeros((5, 24, 24), dtype=np.float32), PIXEL_SIZE)
    edit(folder, "000003@p.mrcs", "000003@q.mrcs")


def second_pixel_size(folder: Path) -> None:
    particles = read_particles(folder / "p.star")
    other = replace(particles.optics[0], name="second", pixel_size=5.0)
    index = (np.arange(60) >= 30).astype(int)
    write_particles(folder / "p.star", replace(particles, optics=(particles.optics[0], other), optics_index=index))


def without_column(name: str):
    def spoil(folder: Path) -> None:
        edit(folder, f"_rln{name} ", "_someThingElse ")

    return spoil


def no_rows(folder: Path) -> None:
    text = (folder / "p.star").read_text()
    (folder / "p.star").write_text("\n".join(line for line in text.splitlines() if "@p.mrcs" not in line) + "\n")


SPOILED = {
    "stack is missing": (lambda f: (f / "p.mrcs").unlink(), "p.mrcs"),
    "stack is truncated": (truncated_stack, "truncated"),
    "stack is empty": (lambda f: (f / "p.mrcs").write_bytes(b""), "empty"),
    "stack is a pointer file": (
        lambda f: (f / "p.mrcs").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        "LFS",
    ),
    "star is empty": (lambda f: (f / "p.star").write_text(""), "p.star"),
    "star is truncated": (lambda f: (f / "p.star").write_text((f / "p.star").read_text()[:-30]), "p.star"),
    "star is no star": (lambda f: (f / "p.star").write_bytes(bytes(range(256)) * 9), "p.star"),
    "zero rows": (no_rows, "at least one row"),
    "row outside the stack": (lambda f: edit(f, "000060@p.mrcs", "000061@p.mrcs"), "row 60"),
    "text for a number": (
        lambda f: edit(f, "_rlnAngleTilt", "_rlnWas") or edit(f, "_rlnImageName", "_rlnAngleTilt", 1),
        "",
    ),
    "NaN pixel": (nan_pixel, "18@"),
    "NaN angle": (nan_angle, "row 9"),
    "mixed boxes": (second_box, "24 pixels"),
    "mixed pixel sizes": (second_pixel_size, "pixel sizes"),
    "no voltage": (without_column("Voltage"), "voltage"),
    "no amplitude contrast": (without_column("AmplitudeContrast"), "amplitude contrast"),
    "no spherical aberration": (without_column("SphericalAberration"), "spherical aberration"),
    "no angles": (without_column("AngleRot"), "orientations"),
    "no defocus": (without_column("DefocusU"), "defocus"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_one_line_says_what_is_wrong(name, folder, capsys):
    spoil, word = SPOILED[name]
    spoil(folder)
    before = sorted(path.name for path in folder.iterdir())
    code = dispatch(["reconstruct", str(folder / "p.star"), "--out", str(folder / "map")])
    captured = capsys.readouterr()
    assert code == 2
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("vitreous reconstruct: error: ")
    assert word in lines[0]
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_absent_phase_shift_is_zero(folder, capsys):
    """Not NaN: the map is the same with the column as without it."""
    particles = read_particles(folder / "p.star")
    assert np.all(particles.ctf.phase_shift == 0)
    if "_rlnPhaseShift" in (folder / "p.star").read_text():
        without_column("PhaseShift")(folder)
    assert np.all(read_particles(folder / "p.star").ctf.phase_shift == 0)
    assert dispatch(["reconstruct", str(folder / "p.star"), "--out", str(folder / "map"), "--json"]) == 0
    assert '"resolution_angstrom"' in capsys.readouterr().out


def test_the_doctor_reports_what_reconstruction_refuses(folder, capsys):
    """Broken images are findings of `check`, not errors: it goes on with the others."""
    nan_pixel(folder)
    edit(folder, "000060@p.mrcs", "000061@p.mrcs")
    edit(folder, "000002@p.mrcs", "000001@p.mrcs")
    code = dispatch(["check", str(folder / "p.star")])
    text = capsys.readouterr().out
    assert code == 1
    assert "1 of 60 images cannot be read" in text
    assert "1 rows name an image that an earlier row names" in text
    assert "1 with NaN" in text and "row 18" in text
