"""cryoSPARC particles: conventions of pose, shift, sign and half set, and what is written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem, FormatProblem, SettingsProblem
from vitreous.io import cryosparc
from vitreous.io.cs_container import read_dataset, write_dataset
from vitreous.io.mrc_stack import write_stack
from vitreous.io.particles import read_particles, write_particles
from vitreous.model.particles import Particles
from vitreous.model.pose import Pose
from vitreous.model.table import Table, TextColumn


def f4(*values) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def u4(*values) -> np.ndarray:
    return np.array(values, dtype=np.uint32)


COLUMNS = {
    "uid": np.array([11, 22, 33], dtype=np.uint64),
    "blob/path": TextColumn(np.array([0, 1, 0]), (">J1/a.mrc", "J1/b.mrc")),
    "blob/idx": u4(2, 0, 1),
    "blob/shape": u4((8, 8), (8, 8), (8, 8)),
    "blob/psize_A": f4(1.5, 1.5, 1.5),
    "blob/sign": f4(-1, -1, -1),
    "ctf/exp_group_id": u4(4, 9, 4),
    "ctf/accel_kv": f4(300, 300, 300),
    "ctf/cs_mm": f4(2.7, 2.7, 2.7),
    "ctf/amp_contrast": f4(0.1, 0.1, 0.1),
    "ctf/df1_A": f4(10000, 11000, 12000),
    "ctf/df2_A": f4(9000, 9100, 9200),
    "ctf/df_angle_rad": f4(0.5, -0.5, 0.25),
    "ctf/tilt_A": f4((0, 0), (2.7e4, -5.4e4), (0, 0)),
    "ctf/trefoil_A": f4((0, 0), (100, 50), (0, 0)),
    "alignments3D/pose": f4((0, 0, np.pi / 2), (0.1, -0.2, 0.3), (0, np.pi / 3, 0)),
    "alignments3D/shift": f4((2, -1), (0.5, 0), (0, 4)),
    "alignments3D/psize_A": f4(3, 3, 3),
    "alignments3D/split": u4(0, 1, 0),
    "alignments3D/error": f4(1, 2, 3),
}


def cs_file(path, **changes):
    columns = {**COLUMNS, **{name.replace("__", "/"): column for name, column in changes.items()}}
    write_dataset(path, Table({name: column for name, column in columns.items() if column is not None}))
    return path


def read(path, **options) -> Particles:
    return read_particles(path, load_images=False, **options)


@pytest.fixture
def particles(tmp_path) -> Particles:
    return read(cs_file(tmp_path / "p.cs"))


def test_pose_is_the_transpose_of_the_rotation_vector(particles):
    """A turn by +90 degrees about z, right-handed, takes x to y; R is its transpose, which is Rz(psi = 90) of the
    house."""
    assert particles.pose is not None
    np.testing.assert_allclose(np.rad2deg(particles.pose.euler[0]).sum(), 90, atol=1e-5)  # rot + psi, tilt = 0
    # a turn by +60 degrees about y is Ry(-60) of the house after transposition: canonical tilt 60 with rot or psi
    # turned by 180
    assert np.rad2deg(particles.pose.euler[2][1]) == pytest.approx(60, abs=1e-4)


def test_shifts_are_in_pixels_of_the_alignment(particles, tmp_path):
    assert particles.pose is not None
    assert particles.pose.shift.tolist() == [[6.0, -3.0], [1.5, 0.0], [0.0, 12.0]]
    other = read(cs_file(tmp_path / "q.cs", alignments3D__psize_A=None))
    assert other.pose is not None and other.pose.shift[0].tolist() == [
        3.0,
        -1.5,
    ]  # blob/psize_A where there is nothing better
    none = cs_file(tmp_path / "r.cs", alignments3D__psize_A=None, blob__psize_A=None)
    with pytest.raises(DataProblem, match="shift without a pixel size"):
        read(none)


def test_names_halves_contrast(particles):
    assert particles.names.index.tolist() == [2, 0, 1]
    assert particles.names.paths == (">J1/a.mrc", "J1/b.mrc")
    assert particles.half_set is not None and particles.half_set.tolist() == [1, 2, 1]
    assert particles.contrast is Contrast.RAW and particles.origin == "cryoSPARC"


def test_exposure_groups(particles):
    assert particles.optics_index.tolist() == [0, 1, 0]
    first, second = particles.optics
    assert (first.name, second.name) == ("opticsGroup5", "opticsGroup10") and first.extra["rlnOpticsGroup"] == 5
    assert (first.voltage, first.spherical_aberration, first.amplitude_contrast, first.pixel_size, first.box) == (
        300e3,
        2.7e7,
        0.1,
        1.5,
        8,
    )
    assert first.beam_tilt == (0.0, 0.0)
    # Cs sin(tilt) = 27,000 A of 27,000,000 A: 1 mrad, in single precision
    np.testing.assert_allclose(second.beam_tilt, (1e-3, -2e-3), rtol=2e-6)
    assert second.extra["ctf/trefoil_A"] == (100.0, 50.0) and "ctf/trefoil_A" not in first.extra


def test_what_is_absent(tmp_path):
    bare = read(
        cs_file(
            tmp_path / "bare.cs",
            **{name.replace("/", "__"): None for name in COLUMNS if not name.startswith(("uid", "blob"))},
        )
    )
    assert bare.pose is None and bare.ctf is None and bare.half_set is None
    assert bare.optics[0].voltage is None and bare.pixel_size == 1.5
    one = read(
        cs_file(
            tmp_path / "one.cs",
            alignments3D__split=u4(0, 0, 0),
            blob__sign=None,
            ctf__df2_A=None,
            ctf__df_angle_rad=None,
        )
    )
    assert one.half_set is None and one.contrast is Contrast.UNKNOWN
    assert (
        one.ctf is not None and np.array_equal(one.ctf.defocus_v, one.ctf.defocus_u) and not one.ctf.phase_shift.any()
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blob__path": None}, "does not name its images .blob/path missing.*passthrough"),
        ({"alignments3D__pose": f4((0, 0, np.nan), (0, 0, 0), (0, 0, 0))}, "column alignments3D/pose holds"),
        ({"alignments3D__pose": f4(1, 2, 3)}, "3 numbers a row"),
        ({"alignments3D__split": u4(0, 1, 2)}, "split with the values"),
        ({"blob__sign": f4(1, -1, 1)}, "one contrast for all particles"),
        ({"blob__shape": u4((8, 9), (8, 9), (8, 9))}, "square particle images"),
        ({"ctf__tilt_A": f4((9e9, 0), (9e9, 0), (9e9, 0))}, r"tilt_A"),
        ({"ctf__accel_kv": f4(np.nan, np.nan, np.nan)}, "an optics value of nan"),
        ({"blob__psize_A": f4(0, 0, 0)}, "pixel size 0.0 A"),
        ({"blob__path": TextColumn(np.array([0, 0, 0]), (">",))}, "an empty blob/path"),
    ],
)
def test_refusals(tmp_path, changes, words):
    with pytest.raises(DataProblem, match=words):
        read(cs_file(tmp_path / "bad.cs", **changes))


def test_passthrough_and_group(tmp_path):
    blob = {name: column for name, column in COLUMNS.items() if name.startswith(("uid", "blob"))}
    rest = {name: column for name, column in COLUMNS.items() if not name.startswith("blob")}
    order = np.array([2, 0, 1])
    write_dataset(tmp_path / "J2_passthrough_particles.cs", Table(blob).rows(order))
    write_dataset(tmp_path / "J2_particles.cs", Table(rest))
    whole = read(cs_file(tmp_path / "whole.cs"))
    joined = read(tmp_path / "J2_particles.cs", passthrough=tmp_path / "J2_passthrough_particles.cs")
    results = {
        prefix: "J2_passthrough_particles" if prefix == "blob" else "J2_particles"
        for prefix in ("blob", "ctf", "alignments3D")
    }
    (tmp_path / "J2.csg").write_text(
        "results:\n" + "".join(f"  {prefix}: {{metafile: '>{file}.cs'}}\n" for prefix, file in results.items())
    )
    for other in (joined, read(tmp_path / "J2.csg")):
        assert [other.names.paths[code] for code in other.names.path_code] == [
            whole.names.paths[code] for code in whole.names.path_code
        ]
        assert np.array_equal(other.names.index, whole.names.index) and other.optics == whole.optics
        assert other.pose is not None and whole.pose is not None and np.array_equal(other.pose.euler, whole.pose.euler)


def test_images(tmp_path):
    (tmp_path / "J1").mkdir()
    (tmp_path / "J5").mkdir()
    images = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    for name in ("a.mrc", "b.mrc"):
        write_stack(tmp_path / "J1" / name, images, 1.5)
    found = read_particles(cs_file(tmp_path / "J5" / "p.cs"))  # names start from the project, one folder up
    assert found.images is not None and np.array_equal(found.images.read(slice(None)), images[[2, 0, 1]])
    with pytest.raises(DataProblem, match="row 1 names image 6"):
        read_particles(cs_file(tmp_path / "J5" / "q.cs", blob__idx=u4(5, 0, 0)))


@pytest.mark.parametrize("container", ["numpy", "csdat"])
def test_unchanged_columns_come_back_bit_for_bit(tmp_path, particles, container):
    cryosparc.write_particles(tmp_path / "copy.cs", particles, container=container)
    before, after = particles.table, read_dataset(tmp_path / "copy.cs")
    for name in before:
        a, b = np.asarray(before[name]), np.asarray(after[name])
        assert a.dtype == b.dtype and np.array_equal(a, b), name


def test_changes_are_written_in_the_units_of_the_file(tmp_path, particles):
    assert particles.pose is not None
    changed = replace(
        particles,
        pose=Pose(np.deg2rad([[0.0, 0.0, 30.0]] * 3), particles.pose.shift + 3.0),
        half_set=np.array([2, 2, 1]),
        contrast=Contrast.INVERTED,
        optics=tuple(
            replace(group, ctf_state=CtfState.PHASE_FLIPPED, odd_zernike=(1.0, 2.0)) for group in particles.optics
        ),
    )
    write_particles(tmp_path / "changed.cs", changed)
    table = read_dataset(tmp_path / "changed.cs")
    np.testing.assert_allclose(table["alignments3D/pose"], [[0, 0, np.pi / 6]] * 3, atol=1e-6)  # single precision
    np.testing.assert_allclose(
        table["alignments3D/shift"], COLUMNS["alignments3D/shift"] + 1, atol=1e-6
    )  # 3 A are one pixel
    assert table["alignments3D/split"].tolist() == [1, 1, 0] and table["blob/sign"].tolist() == [1, 1, 1]
    assert table["alignments3D/error"].tolist() == [1, 2, 3]
    copy = read(tmp_path / "changed.cs")
    assert copy.ctf_state is CtfState.PHASE_FLIPPED and copy.optics[0].odd_zernike == (1.0, 2.0)
    dropped = replace(changed, pose=None, ctf=None, half_set=None)
    write_particles(tmp_path / "dropped.cs", dropped)
    copy = read(tmp_path / "dropped.cs")
    assert copy.pose is None and copy.ctf is None and copy.half_set is None


def test_star_files_made_of_it_have_plain_names(tmp_path, particles):
    """The mark '>' before a path is cryoSPARC's own: RELION would look for a file of that name."""
    write_particles(tmp_path / "copy.star", particles)
    assert read(tmp_path / "copy.star").names.paths == ("J1/a.mrc", "J1/b.mrc")


def test_in_plane_poses_of_2d_alignments(tmp_path):
    plane = {
        "alignments2D/pose": f4(0.5, 6.0, -1.0),
        "alignments2D/shift": f4((1, 2), (0, 0), (3, 4)),
        "alignments2D/psize_A": f4(3, 3, 3),
    }
    columns = {**{name: column for name, column in COLUMNS.items() if not name.startswith("alignments3D")}, **plane}
    write_dataset(tmp_path / "plane.cs", Table(columns))
    particles = read(tmp_path / "plane.cs")
    assert particles.pose is not None and particles.half_set is None
    np.testing.assert_allclose(particles.pose.euler, [[0, 0, 0.5], [0, 0, 6.0], [0, 0, -1.0]])
    assert particles.pose.shift[0].tolist() == [3.0, 6.0]
    write_particles(tmp_path / "copy.cs", particles)
    table = read_dataset(tmp_path / "copy.cs")
    assert "alignments3D/pose" not in table and np.array_equal(table["alignments2D/pose"], plane["alignments2D/pose"])


def test_identities_are_distinct_and_repeatable(tmp_path, particles):
    bare = replace(particles, table=Table())
    write_particles(tmp_path / "one.cs", bare)
    write_particles(tmp_path / "two.cs", bare)
    one, two = read_dataset(tmp_path / "one.cs")["uid"], read_dataset(tmp_path / "two.cs")["uid"]
    assert np.array_equal(one, two) and len(set(one.tolist())) == 3
    write_particles(tmp_path / "other.cs", bare.rows(np.array([1, 2])))
    assert not set(one.tolist()) & set(read_dataset(tmp_path / "other.cs")["uid"].tolist())


def test_what_cannot_be_written(tmp_path, particles):
    unknown = replace(particles, optics=tuple(replace(group, voltage=None) for group in particles.optics))
    with pytest.raises(DataProblem, match="does not give its voltage"):
        write_particles(tmp_path / "out.cs", unknown)
    with pytest.raises(DataProblem, match="no particles"):
        write_particles(tmp_path / "out.cs", particles.rows(slice(0, 0)))
    with pytest.raises(SettingsProblem, match=r"ends in .star or .cs"):
        write_particles(tmp_path / "out.txt", particles)
    assert not (tmp_path / "out.cs").exists()
    (tmp_path / "text.cs").write_text("hello")
    with pytest.raises(FormatProblem, match=r"not a .cs file"):
        read(tmp_path / "text.cs")
    (tmp_path / "p.star").write_text("data_\n")
    with pytest.raises(SettingsProblem, match="passthrough"):
        read(tmp_path / "p.star", passthrough=tmp_path / "p.cs")
