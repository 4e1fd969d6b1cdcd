"""The job `expand`: folder or file, STAR or .cs, half sets, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.geometry.symmetry import point_group
from vitreous.io.mrc import read_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.expand import Expand
from vitreous.jobs.folder import run_job
from vitreous.jobs.reconstruct import Reconstruct
from vitreous.reconstruction.symmetry_expansion import OPERATOR, SOURCE

# What RELION 3.1.3 wrote for the first particle of beta-galactosidase (`relion_particle_symmetry_expand --i particles_posed.star --o out.star
# --sym D2`): rot, tilt, psi in degrees.
RELION_FIRST = (
    (80.626994, 41.496342, -96.18594),
    (-99.37301, 41.496342, -96.18594),
    (-80.62699, 138.503658, 83.814060),
    (99.373006, 138.503658, 83.814060),
)


@pytest.fixture
def folder(blob_files, tmp_path, monkeypatch):
    for name in ("p.mrcs", "particles.star"):
        shutil.copy(blob_files / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_folder_has_a_file_that_programs_can_go_on_from(folder):
    outcome = run_job(Expand(folder / "particles.star", symmetry="D2"), folder / "job")
    before, after = read_particles("particles.star"), read_particles("job/particles.star")
    assert len(after) == 4 * len(before) == outcome.as_json()["rows"]
    found = matrix_from_euler(after.pose.euler).reshape(-1, 4, 3, 3)
    # angles are written with nine decimals of a degree
    np.testing.assert_allclose(
        found, matrix_from_euler(before.pose.euler)[:, None] @ point_group("D2").operators, atol=1e-7
    )
    assert np.array_equal(np.asarray(after.table[SOURCE]), np.repeat(np.arange(1, 901), 4))
    assert np.array_equal(np.asarray(after.table[OPERATOR]), np.tile(np.arange(1, 5), 900))
    np.testing.assert_array_equal(after.images.read(slice(4, 8)), np.repeat(before.images.read(slice(1, 2)), 4, axis=0))
    page = (folder / "job" / "report.html").read_text()
    assert "before expansion" in page and "after expansion" in page


def test_reconstruction_of_the_file_without_symmetry_is_that_with_it(folder):
    run_job(Reconstruct(folder / "particles.star", symmetry="D2", diameter=0), folder / "with")
    run_job(Expand(folder / "particles.star", symmetry="D2"), folder / "job")
    run_job(Reconstruct(folder / "job" / "particles.star", diameter=0), folder / "without")
    for name in ("half1.mrc", "half2.mrc", "map.mrc"):
        one, other = (read_volume(folder / each / name).data for each in ("with", "without"))
        # the same terms in another order, in single precision, and angles of nine decimals
        assert np.abs(one - other).max() < 5e-5 * np.abs(one).max()


def test_one_file_alone(folder, capsys):
    assert dispatch(["expand", "particles.star", "--symmetry", "C3", "--out", "three.star"]) == 0
    assert len(read_particles("three.star")) == 2700
    assert dispatch(["expand", "particles.star", "--symmetry", "C3", "--out", "three.star"]) == 2
    assert "--force" in capsys.readouterr().err
    assert dispatch(["expand", "particles.star", "--symmetry", "C2", "--out", "three.star", "--force"]) == 0
    assert len(read_particles("three.star")) == 1800
    assert {path.name for path in folder.iterdir()} == {"p.mrcs", "particles.star", "three.star"}


def test_images_are_found_from_another_folder(folder, tmp_path_factory):
    away = tmp_path_factory.mktemp("away") / "expanded.star"
    assert dispatch(["expand", "particles.star", "--symmetry", "C2", "--out", str(away)]) == 0
    np.testing.assert_array_equal(
        read_particles(away).images.read(slice(2, 3)), read_particles("particles.star").images.read(slice(1, 2))
    )


def test_missing_half_sets_are_drawn_one_for_all_copies(folder, capsys):
    particles = read_particles("particles.star")
    write_particles("nohalf.star", replace(particles, half_set=None))
    assert dispatch(["expand", "nohalf.star", "--symmetry", "C4", "--out", "job"]) == 0
    assert "one for all copies" in capsys.readouterr().err
    half = read_particles("job/particles.star").half_set.reshape(-1, 4)
    assert (half == half[:, :1]).all() and sorted(np.bincount(half[:, 0])[1:]) == [450, 450]


def test_each_copy_has_an_identity_in_cryosparc_files(folder):
    write_particles("particles.cs", read_particles("particles.star"))
    assert dispatch(["expand", "particles.cs", "--symmetry", "C2", "--out", "two.cs"]) == 0
    before, after = read_particles("particles.cs"), read_particles("two.cs")
    assert len(set(np.asarray(after.table["uid"]).tolist())) == 1800
    assert np.array_equal(np.asarray(after.table["sym_expand/src_uid"])[::2], np.asarray(before.table["uid"]))
    assert np.array_equal(np.asarray(after.table["sym_expand/idx"]), np.tile([0, 1], 900))
    turned = matrix_from_euler(after.pose.euler)[1::2]
    # rotation vectors of single precision
    np.testing.assert_allclose(turned, matrix_from_euler(before.pose.euler) @ point_group("C2").operators[1], atol=2e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["expanded.star", "--symmetry", "C2"], "expanded already"),
        (["particles.star", "--symmetry", "C1"], "C1"),
        (["particles.star", "--symmetry", "Q7"], "Q7"),
        (["unposed.star", "--symmetry", "C2"], "orientations"),
        (["particles.star"], "--symmetry"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, words, said):
    assert dispatch(["expand", "particles.star", "--symmetry", "C2", "--out", "expanded.star"]) == 0
    write_particles("unposed.star", replace(read_particles("particles.star"), pose=None))
    capsys.readouterr()
    assert dispatch(["expand", *words, "--out", "o"]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.strip().splitlines()) == 1 and not (folder / "o").exists()


def test_orientations_are_those_that_relion_writes(shared_data, tmp_path):
    run_job(Expand(shared_data / "betagal" / "particles_posed.star", symmetry="D2"), tmp_path / "job")
    written = read_particles(tmp_path / "job" / "particles.star", load_images=False)
    ours, theirs = matrix_from_euler(written.pose.euler[:4]), matrix_from_euler(np.radians(RELION_FIRST))
    distance = np.abs(ours[:, None] - theirs[None]).max(axis=(2, 3))
    # five decimals of a degree
    assert distance.min(axis=1).max() < 3e-7 and sorted(distance.argmin(axis=1)) == [0, 1, 2, 3]
    assert len(written) == 4 * 1468
