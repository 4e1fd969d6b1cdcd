"""`extract`: every column kept, coordinates and origins that say the same place, and the right CTF; from every kind of file of coordinates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitreous.conventions import CtfState
from vitreous.errors import DataProblem, FileProblem, SettingsProblem
from vitreous.io.particles import read_particles
from vitreous.io.star import StarFile, read_star, write_star
from vitreous.jobs.extract import Extract
from vitreous.jobs.folder import run_job
from vitreous.model.table import Table
from vitreous.optics.tilted_plane import TiltedPlane

BOX = 32


def test_every_other_column_is_kept(scene, extracted):
    picks, written = read_star(scene.picks)["particles"], read_star(extracted / "particles.star")["particles"]
    for name in ("rlnAutopickFigureOfMerit", "rlnClassNumber", "somebodysNote"):
        assert np.array_equal(np.asarray(picks[name]), np.asarray(written[name]))
    assert "vitreousFilledFraction" not in written  # none reaches over the border


def test_ctf_and_optics_are_those_of_the_micrograph(scene, extracted):
    particles = read_particles(extracted / "particles.star")
    u, v, angle = scene.defocus[scene.micrograph].T
    assert np.array_equal(particles.ctf.defocus_u, u) and np.array_equal(particles.ctf.defocus_v, v)
    assert np.allclose(np.degrees(particles.ctf.defocus_angle), angle)
    assert np.allclose(np.degrees(particles.ctf.phase_shift), np.where(scene.micrograph == 1, 90, 0))
    assert np.array_equal(particles.table["rlnCtfMaxResolution"], np.array([3.1, 3.2, 3.3])[scene.micrograph])
    assert [particles.optics[i].name for i in particles.optics_index] == [
        ("first", "first", "second")[m] for m in scene.micrograph
    ]
    assert [(group.voltage, group.amplitude_contrast) for group in particles.optics] == [(300e3, 0.1), (200e3, 0.07)]


def test_tilted_micrographs_give_each_particle_its_own_defocus(scene, tmp_path):
    """By the plane of `TiltedPlane`, its hand included, about the middle of the micrograph."""
    tilt, axis = np.array([30.0, 0.0, -20.0]), np.array([90.0, 0.0, 15.0])
    star = scene.write_micrographs(tmp_path / "tilted.star", vitreousTiltDeg=tilt, vitreousTiltAxisDeg=axis)
    options = {"micrographs": star, "datadir": scene.folder}
    outcome = scene.extract(tmp_path / "job", **options)
    particles = read_particles(tmp_path / "job" / "particles.star")
    expected, mirrored = np.empty((2, len(particles)))
    for row, number in enumerate(scene.micrograph):
        x, y = (scene.centre[row] - np.array([100, 120])) * scene.pixel_size[number]  # SHAPE is (240, 200)
        plane = TiltedPlane(np.radians(tilt[number]), np.radians(axis[number]))
        expected[row], mirrored[row] = (scene.defocus[number, 0] + sign * plane.height(x, y) for sign in (1, -1))
    assert (
        np.abs(particles.ctf.defocus_u - expected).max() < 1e-5 < 50 < np.abs(particles.ctf.defocus_u - mirrored).max()
    )
    assert np.allclose(
        particles.ctf.defocus_u - particles.ctf.defocus_v, (scene.defocus[:, 0] - scene.defocus[:, 1])[scene.micrograph]
    )
    assert next(f.value for f in outcome.findings if f.key == "ctf_source").endswith("place")
    scene.extract(tmp_path / "flat", per_particle_defocus=False, **options)
    flat = read_particles(tmp_path / "flat" / "particles.star")
    assert np.array_equal(flat.ctf.defocus_u, scene.defocus[scene.micrograph, 0])
    with pytest.raises(SettingsProblem, match="without a tilt"):
        scene.extract(tmp_path / "none", per_particle_defocus=True)


def test_the_ctf_of_the_picks_is_theirs_unless_told_otherwise(scene, tmp_path):
    own = np.linspace(8000, 9000, len(scene.micrograph))
    table = scene.table(rlnDefocusU=own, rlnDefocusV=own - 100, rlnDefocusAngle=own * 0)
    picks = scene.write_picks(scene.folder / "with_ctf.star", table)
    settings = {"box": BOX, "micrographs": scene.micrographs}
    run_job(Extract((picks,), **settings), tmp_path / "own")
    assert np.allclose(read_particles(tmp_path / "own" / "particles.star").ctf.defocus_u, own)
    run_job(Extract((picks,), ctf_from="micrographs", **settings), tmp_path / "theirs")
    assert np.array_equal(
        read_particles(tmp_path / "theirs" / "particles.star").ctf.defocus_u, scene.defocus[scene.micrograph, 0]
    )
    with pytest.raises(SettingsProblem, match="--ctf-from micrographs"):
        run_job(Extract((picks,), per_particle_defocus=True, **settings), tmp_path / "x")
    with pytest.raises(DataProblem, match="gives no defocus"):
        scene.extract(tmp_path / "y", ctf_from="picks")


def test_a_copy_of_the_micrographs_ctf_is_not_the_particles_own(scene, tmp_path):
    """As `vitreous pick` writes it: one defocus a micrograph. The tilt that --micrographs knows then counts; another defocus is told."""
    star = scene.write_micrographs(
        tmp_path / "tilted.star",
        vitreousTiltDeg=np.array([30.0, 0.0, np.nan]),
        vitreousTiltAxisDeg=np.array([90.0, 0.0, np.nan]),
    )
    u, v, angle = scene.defocus[scene.micrograph].T
    for name, shift in (("copy", 0.0), ("older", 40.0)):
        columns = {
            "rlnDefocusU": u + shift,
            "rlnDefocusV": v + shift,
            "rlnDefocusAngle": angle,
            "vitreousDefocusError": u * 0 + 9.0,
        }
        picks = scene.write_picks(scene.folder / f"{name}.star", scene.table(**columns))
        outcome = run_job(Extract((picks,), box=BOX, micrographs=star, datadir=scene.folder), tmp_path / name)
        written = read_particles(tmp_path / name / "particles.star")
        off = np.abs(written.ctf.defocus_u - u)
        assert off[scene.micrograph == 0].max() > 30 and off[scene.micrograph > 0].max() == 0
        assert "vitreousDefocusError" not in written.table
        assert any("up to 40 Å" in warning for warning in outcome.warnings) == (name == "older")
        run_job(
            Extract((picks,), box=BOX, micrographs=star, datadir=scene.folder, ctf_from="picks"),
            tmp_path / f"{name}_kept",
        )
        kept = read_particles(tmp_path / f"{name}_kept" / "particles.star")
        assert np.array_equal(kept.ctf.defocus_u, u + shift) and "vitreousDefocusError" in kept.table


def test_without_micrographs_the_picks_say_all(scene, tmp_path):
    """No STAR file of micrographs: images from the names, pixel sizes from headers, no CTF, which is told."""
    table = scene.table().rows(scene.micrograph < 2)
    outcome = run_job(Extract((scene.write_picks(scene.folder / "alone.star", table),), box=BOX), tmp_path / "job")
    particles = read_particles(tmp_path / "job" / "particles.star")
    assert particles.pixel_size == pytest.approx(1.5) and particles.ctf is None
    assert any("No CTF is known" in warning for warning in outcome.warnings)


def test_defoci_that_the_box_does_not_hold_are_told(scene, tmp_path):
    """32 pixels of 1.5 A at 1.2 um: Nyquist is displaced by 80 A, the box reaches 24 A."""
    outcome = scene.extract(tmp_path / "job")
    assert any("larger box" in warning and "39 particles" in warning for warning in outcome.warnings)
    wide = scene.extract(tmp_path / "wide", box=180, scale_to=20)  # 13 A and more a pixel: displaced by 10 A
    assert not any("larger box" in warning for warning in wide.warnings)


# --- where the coordinates come from ----------------------------------------------------------------------------------


def coordinate_files(scene, folder: Path) -> list[Path]:
    """One file a micrograph, without its name, as RELION's pickers write them; that of the last has no rows."""
    folder.mkdir(exist_ok=True)
    paths = []
    for number, stem in enumerate(("a_autopick", "b_autopick")):
        rows = scene.table().rows(scene.micrograph == number).without("rlnMicrographName", "somebodysNote")
        star = StarFile({"": rows})
        star.version = "50001"
        write_star(folder / f"{stem}.star", star)
        paths.append(folder / f"{stem}.star")
    (folder / "c_autopick.star").write_text("# version 50001\n\ndata_\n\n")
    return [*paths, folder / "c_autopick.star"]


def test_lists_and_single_files_give_the_same_images(scene, tmp_path):
    files = coordinate_files(scene, scene.folder / "pick")
    names = ("raw/a.mrc", "raw/b.mrc", "other/a.mrc")
    relative = [str(path.relative_to(scene.folder)) for path in files]
    listed = Table(
        {
            "rlnMicrographName": np.array(names, dtype=object),
            "rlnMicrographCoordinates": np.array(relative, dtype=object),
        }
    )
    write_star(scene.folder / "pick" / "autopick.star", StarFile({"coordinate_files": listed}))
    run_job(
        Extract((scene.folder / "pick" / "autopick.star",), box=BOX, micrographs=scene.micrographs), tmp_path / "list"
    )
    one = Extract((files[1],), box=BOX, micrographs=scene.micrographs)
    run_job(one, tmp_path / "one")
    scene.extract(tmp_path / "all")
    for job in ("list", "one"):
        assert (tmp_path / job / "particles" / "b.mrcs").read_bytes() == (
            tmp_path / "all" / "particles" / "b.mrcs"
        ).read_bytes()
    written = read_star(tmp_path / "list" / "particles.star")["particles"]
    assert len(written) == (scene.micrograph < 2).sum() and "rlnAutopickFigureOfMerit" in written
    # two micrographs are called a.mrc: the file's name alone does not say which is meant
    with pytest.raises(DataProblem, match="2 micrographs"):
        run_job(Extract((files[0], files[1]), box=BOX, micrographs=scene.micrographs), tmp_path / "two")
    with pytest.raises(DataProblem, match="--micrographs"):
        run_job(Extract((files[0],), box=BOX), tmp_path / "nameless")
    with pytest.raises(DataProblem, match="no coordinates"):
        run_job(Extract((files[2],), box=BOX, micrographs=scene.micrographs), tmp_path / "empty")
    files[1].unlink()
    with pytest.raises(FileProblem, match="b_autopick"):
        run_job(Extract((scene.folder / "pick" / "autopick.star",), box=BOX), tmp_path / "missing")


def test_aligned_particles_are_cut_again_about_their_centres(scene, tmp_path):
    """From a particle file whose images are reduced: coordinates stay pixels of the micrographs, origins angstrom."""
    scene.extract(tmp_path / "first", scale_to=16)
    star = read_star(tmp_path / "first" / "particles.star")
    known = np.array(scene.pixel_size)[scene.micrograph]
    found = np.random.default_rng(2).uniform(-9, 9, (len(known), 2))  # what an alignment says, in angstrom
    moved = {f"rlnOrigin{letter}Angst": found[:, axis] for axis, letter in enumerate("XY")}
    prior = {"rlnOriginXPriorAngst": found[:, 0] + 1.0}
    angles = {f"rlnAngle{name}": np.linspace(0, 90, len(known)) for name in ("Rot", "Tilt", "Psi")}
    star["particles"] = star["particles"].with_columns({**moved, **prior, **angles})
    write_star(tmp_path / "aligned.star", star)
    before = read_particles(tmp_path / "aligned.star", load_images=False)
    centre = (
        np.stack([before.table["rlnCoordinateX"], before.table["rlnCoordinateY"]], axis=-1) - found / known[:, None]
    )
    for recentre in (False, True):
        out = tmp_path / f"recentre_{recentre}"
        run_job(Extract((tmp_path / "aligned.star",), box=BOX, micrographs=scene.micrographs, recentre=recentre), out)
        after = read_particles(out / "particles.star")
        pixel = np.stack([after.table["rlnCoordinateX"], after.table["rlnCoordinateY"]], axis=-1)
        assert np.abs(pixel - after.pose.shift / known[:, None] - centre).max() < 1e-7
        assert np.array_equal(after.pose.euler, before.pose.euler)
        assert [group.pixel_size for group in after.optics] == pytest.approx([1.5, 2.0])
        assert (np.abs(after.pose.shift).max() <= 1.0 + 1e-9) == recentre  # half a pixel of 2 A
        assert np.allclose(after.table["rlnOriginXPriorAngst"] - after.pose.shift[:, 0], 1.0)
        assert np.array_equal(pixel, np.floor((centre if recentre else pixel) + 0.5))
    # without the micrographs' STAR file the headers say the pixel size, not that of the small images
    run_job(Extract((tmp_path / "aligned.star",), box=BOX, datadir=scene.folder), tmp_path / "headers")
    assert [
        group.pixel_size for group in read_particles(tmp_path / "headers" / "particles.star").optics
    ] == pytest.approx([1.5, 2.0])


def test_what_a_refinement_knows_of_the_optics_stays(scene, tmp_path):
    """Beam tilt of the particles' group, state of the CTF of the micrographs'."""
    scene.extract(tmp_path / "first")
    star = read_star(tmp_path / "first" / "particles.star")
    star["optics"] = star["optics"].with_columns(
        {"rlnBeamTiltX": np.array([0.25, 0.0]), "rlnCtfDataAreCtfPremultiplied": np.array([1, 1])}
    )
    write_star(tmp_path / "refined.star", star)
    run_job(Extract((tmp_path / "refined.star",), box=BOX, micrographs=scene.micrographs), tmp_path / "job")
    groups = read_particles(tmp_path / "job" / "particles.star").optics
    assert [group.beam_tilt[0] for group in groups] == pytest.approx([0.25e-3, 0.0])
    assert {group.ctf_state for group in groups} == {CtfState.RAW}
    with pytest.raises(DataProblem, match="says nothing of their micrographs"):
        run_job(Extract((tmp_path / "refined.star",), box=BOX, datadir=scene.folder), tmp_path / "unknown")


def test_corrected_micrographs_say_so(scene, tmp_path):
    from vitreous.jobs.apply_ctf import ApplyCtf

    run_job(ApplyCtf(scene.micrographs, method="premultiply"), tmp_path / "corrected")
    options = {"box": BOX, "datadir": tmp_path}
    names = read_star(tmp_path / "corrected" / "micrographs.star")["micrographs"]["rlnMicrographName"]
    table = scene.table().with_columns({"rlnMicrographName": np.asarray(names)[scene.micrograph]})
    picks = scene.write_picks(tmp_path / "picks.star", table)
    run_job(Extract((picks,), micrographs=tmp_path / "corrected" / "micrographs.star", **options), tmp_path / "job")
    assert {group.ctf_state for group in read_particles(tmp_path / "job" / "particles.star").optics} == {
        CtfState.PREMULTIPLIED
    }
    with pytest.raises(DataProblem, match="premultiplied"):  # the label of each micrograph is not what the picks say
        run_job(Extract((picks,), **options), tmp_path / "silent")
