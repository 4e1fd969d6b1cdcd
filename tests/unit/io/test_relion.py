"""Particle STAR files: generations, units, optics groups, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem, FormatProblem
from vitreous.io.mrc_stack import write_stack
from vitreous.io.particles import read_particles, write_particles
from vitreous.io.star import parse_star, read_star, write_star
from vitreous.model.particles import Particles
from vitreous.model.pose import Pose
from vitreous.model.table import Table

OPTICS = {
    "rlnOpticsGroup": np.array([7, 3]),
    "rlnOpticsGroupName": np.array(["new", "old"], dtype=object),
    "rlnVoltage": np.array([300.0, 200.0]),
    "rlnSphericalAberration": np.array([2.7, 1.4]),
    "rlnAmplitudeContrast": np.array([0.1, 0.07]),
    "rlnImagePixelSize": np.array([1.25, 2.0]),
    "rlnBeamTiltX": np.array([0.5, 0.0]),
    "rlnBeamTiltY": np.array([-0.25, 0.0]),
    "rlnOddZernike": np.array(["[0.5,-1,2]", "[]"], dtype=object),
    "rlnEvenZernike": np.array(["[1]", "[2,3]"], dtype=object),
    "rlnMagMat00": np.array([1.01, 1.0]),
    "rlnMagMat01": np.array([0.02, 0.0]),
    "rlnMagMat10": np.array([0.03, 0.0]),
    "rlnMagMat11": np.array([0.99, 1.0]),
    "rlnCtfDataAreCtfPremultiplied": np.array([1, 0]),
    "rlnMtfFileName": np.array(["a.star", "b.star"], dtype=object),
}
ROWS = {
    "rlnImageName": np.array(["000002@a.mrcs", "1@b.mrcs", "3@a.mrcs"], dtype=object),
    "rlnOpticsGroup": np.array([3, 7, 3]),
    "rlnAngleRot": np.array([10.0, 20.0, 30.0]),
    "rlnAngleTilt": np.array([40.0, 50.0, 60.0]),
    "rlnAnglePsi": np.array([-70.0, 80.0, 90.0]),
    "rlnOriginXAngst": np.array([1.5, -2.5, 0.0]),
    "rlnOriginYAngst": np.array([3.0, 4.0, -5.0]),
    "rlnDefocusU": np.array([10000.0, 11000.0, 12000.0]),
    "rlnDefocusV": np.array([9000.0, 9500.0, 9900.0]),
    "rlnDefocusAngle": np.array([45.0, -30.0, 0.0]),
    "rlnRandomSubset": np.array([1, 2, 2]),
    "rlnMadeUp": np.array(["keep", "me", ""], dtype=object),
}


def star_file(path: Path, rows=None, optics=None, **others) -> Path:
    blocks = {"particles": Table(ROWS if rows is None else rows)}
    if optics is not None:
        blocks["optics"] = Table(optics)
    write_star(path, {**blocks, **others})
    return path


def read(path: Path) -> Particles:
    return read_particles(path, load_images=False)


@pytest.fixture
def modern(tmp_path) -> Particles:
    return read(star_file(tmp_path / "modern.star", optics=OPTICS, mine={"note": "kept"}))


def without(columns: dict, *names: str) -> dict:
    return {name: column for name, column in columns.items() if name not in names}


def test_values_and_units(modern):
    assert modern.names.index.tolist() == [1, 0, 2]
    assert [modern.names.paths[code] for code in modern.names.path_code] == ["a.mrcs", "b.mrcs", "a.mrcs"]
    assert modern.pose is not None and modern.ctf is not None and modern.half_set is not None
    np.testing.assert_allclose(modern.pose.euler[0], np.deg2rad([10, 40, -70]), rtol=1e-15)
    assert modern.pose.shift.tolist() == [[1.5, 3.0], [-2.5, 4.0], [0.0, -5.0]]
    assert modern.ctf.defocus_u.tolist() == [10000, 11000, 12000] and modern.ctf.defocus_v[1] == 9500
    np.testing.assert_allclose(modern.ctf.defocus_angle, np.deg2rad([45, -30, 0]), rtol=1e-15)
    assert (
        modern.ctf.phase_shift.tolist() == [0, 0, 0]
        and modern.ctf.b_factor.tolist() == [0, 0, 0]
        and modern.ctf.scale.tolist() == [1, 1, 1]
    )
    assert modern.half_set.tolist() == [1, 2, 2] and modern.contrast is Contrast.UNKNOWN
    assert modern.blocks == {"mine": {"note": "kept"}}


def test_optics_groups_by_their_own_numbers(modern):
    new, old = modern.optics
    assert modern.optics_index.tolist() == [1, 0, 1]
    assert (new.name, new.voltage, new.spherical_aberration, new.amplitude_contrast, new.pixel_size) == (
        "new",
        300e3,
        2.7e7,
        0.1,
        1.25,
    )
    assert (old.name, old.voltage, old.pixel_size, old.ctf_state, new.ctf_state) == (
        "old",
        200e3,
        2.0,
        CtfState.RAW,
        CtfState.PREMULTIPLIED,
    )
    assert new.beam_tilt == (0.5e-3, -0.25e-3) and old.beam_tilt == (0.0, 0.0)  # radian
    assert new.odd_zernike == (0.5, -1.0, 2.0) and old.odd_zernike == () and old.even_zernike == (2.0, 3.0)
    assert new.magnification == ((1.01, 0.02), (0.03, 0.99))
    assert new.extra == {"rlnOpticsGroup": 7, "rlnMtfFileName": "a.star"}
    with pytest.raises(DataProblem, match="one pixel size for all particles"):
        _ = modern.pixel_size
    with pytest.raises(DataProblem, match="one state for all particles"):
        _ = modern.ctf_state


def test_an_old_file(tmp_path):
    """3.0: optics in every row, pixel size from the detector, origins in pixels of it."""
    rows = {
        **without(ROWS, "rlnOriginXAngst", "rlnOriginYAngst", "rlnOpticsGroup"),
        "rlnOriginX": np.array([2.0, -1.0, 0.5]),
        "rlnOriginY": np.array([0.0, 3.0, 1.0]),
        "rlnOriginXPrior": np.array([1.0, 1.0, 1.0]),
        "rlnVoltage": np.array([300.0, 200.0, 300.0]),
        "rlnSphericalAberration": np.array([2.7, 2.7, 2.7]),
        "rlnDetectorPixelSize": np.array([5.0, 5.0, 5.0]),
        "rlnMagnification": np.array([40000.0, 25000.0, 40000.0]),
        "rlnPhaseShift": np.array([90.0, 0.0, 0.0]),
    }
    old = read(star_file(tmp_path / "old.star", rows))
    assert [group.pixel_size for group in old.optics] == [1.25, 2.0] and old.optics_index.tolist() == [0, 1, 0]
    assert [group.voltage for group in old.optics] == [300e3, 200e3]
    assert [group.amplitude_contrast for group in old.optics] == [None, None]
    assert old.pose is not None and old.ctf is not None
    assert old.pose.shift.tolist() == [[2.5, 0.0], [-2.0, 6.0], [0.625, 1.25]]
    assert old.ctf.phase_shift[0] == pytest.approx(np.pi / 2, rel=1e-15)
    with pytest.raises(DataProblem, match="does not give its amplitude contrast"):
        old.optics[0].require("voltage", "amplitude_contrast")

    write_particles(tmp_path / "new.star", old)
    table = read_star(tmp_path / "new.star")["particles"]
    assert isinstance(table, Table)
    assert not {
        "rlnOriginX",
        "rlnOriginY",
        "rlnOriginXPrior",
        "rlnVoltage",
        "rlnMagnification",
        "rlnDetectorPixelSize",
    } & set(table.names)
    assert table["rlnOriginXAngst"].tolist() == [2.5, -2.0, 0.625] and table["rlnOriginXPriorAngst"].tolist() == [
        1.25,
        2.0,
        1.25,
    ]
    new = read(tmp_path / "new.star")
    assert new.pose is not None and np.array_equal(new.pose.shift, old.pose.shift)
    assert [group.pixel_size for group in new.optics] == [1.25, 2.0] and new.optics_index.tolist() == [0, 1, 0]
    assert "rlnAmplitudeContrast" not in read_star(tmp_path / "new.star")["optics"]


def test_a_pixel_size_given_by_hand_scales_old_origins(tmp_path):
    rows = {
        **without(ROWS, "rlnOriginXAngst", "rlnOriginYAngst", "rlnOpticsGroup"),
        "rlnOriginX": np.array([2.0, 0.0, 0.0]),
    }
    path = star_file(tmp_path / "old.star", rows)
    with pytest.raises(DataProblem, match="does not give its pixel size"):
        read(path)
    given = read_particles(path, load_images=False, pixel_size=1.5)
    assert given.pixel_size == 1.5 and given.pose is not None and given.pose.shift[0].tolist() == [3.0, 0.0]


@pytest.mark.parametrize("state", ["rlnCtfDataArePhaseFlipped", "rlnCtfDataAreCtfPremultiplied"])
def test_ctf_state(tmp_path, state):
    rows = {
        **without(ROWS, "rlnOpticsGroup"),
        state: np.array([1, 1, 1]),
        "rlnImagePixelSize": np.array([1.5, 1.5, 1.5]),
    }
    particles = read(star_file(tmp_path / "old.star", rows))
    assert particles.ctf_state is (CtfState.PHASE_FLIPPED if "Flipped" in state else CtfState.PREMULTIPLIED)
    write_particles(tmp_path / "new.star", particles)
    assert read(tmp_path / "new.star").ctf_state is particles.ctf_state


def test_states_that_relion_does_not_name(tmp_path):
    """Wiener-filtered groups have labels of their own beside RELION's, also where other groups are in other states."""
    rows = {**without(ROWS, "rlnOpticsGroup"), "rlnImagePixelSize": np.array([1.5, 1.5, 1.5])}
    one = read(star_file(tmp_path / "old.star", rows))
    wiener = replace(one.optics[0], ctf_state=CtfState.WIENER, wiener_snr=0.3)
    write_particles(tmp_path / "new.star", replace(one, optics=(wiener,)))
    text = (tmp_path / "new.star").read_text()
    assert "_vitreousCtfState" in text and "wiener_filtered" in text
    copy = read(tmp_path / "new.star")
    assert copy.optics[0].ctf_state is CtfState.WIENER and copy.optics[0].wiener_snr == 0.3
    assert "vitreousCtfState" not in copy.optics[0].extra
    flipped = replace(one.optics[0], ctf_state=CtfState.PHASE_FLIPPED, name="second")
    write_particles(tmp_path / "two.star", replace(one, optics=(wiener, flipped), optics_index=np.array([0, 1, 0])))
    optics = read(tmp_path / "two.star").optics
    assert [group.ctf_state for group in optics] == [CtfState.WIENER, CtfState.PHASE_FLIPPED]
    assert [group.wiener_snr for group in optics] == [0.3, None]
    for wrong, words in (("raw_filtered", "one of raw"), ("premultiplied", "phase_flipped")):
        spoiled = text.replace("wiener_filtered", wrong)
        if wrong == "premultiplied":
            spoiled = (tmp_path / "two.star").read_text().replace("None", wrong)
        (tmp_path / "spoiled.star").write_text(spoiled)
        with pytest.raises(DataProblem, match=words):
            read(tmp_path / "spoiled.star")


def test_what_is_absent(tmp_path):
    bare = read(star_file(tmp_path / "bare.star", {"rlnImageName": np.array(["1@a.mrcs"], dtype=object)}))
    assert bare.pose is None and bare.ctf is None and bare.half_set is None and len(bare.optics) == 1
    in_plane = read(
        star_file(
            tmp_path / "psi.star",
            {"rlnImageName": np.array(["1@a.mrcs"], dtype=object), "rlnAnglePsi": np.array([3.0])},
        )
    )
    assert in_plane.pose is None
    one_defocus = {
        "rlnImageName": np.array(["1@a.mrcs"], dtype=object),
        "rlnDefocusU": np.array([1e4]),
        "rlnRandomSubset": np.array([0]),
    }
    particles = read(star_file(tmp_path / "one.star", one_defocus))
    assert particles.ctf is not None and particles.ctf.defocus_v.tolist() == [1e4] and particles.half_set is None


@pytest.mark.parametrize(
    ("changes", "optics", "words"),
    [
        (
            {"rlnImageName": np.array(["2@a.mrcs", "0@a.mrcs", "1@a.mrcs"], dtype=object)},
            OPTICS,
            "row 2 names its image '0@a.mrcs'",
        ),
        (
            {"rlnImageName": np.array(["2@", "1@a.mrcs", "1@a.mrcs"], dtype=object)},
            OPTICS,
            "row 1 names its image '2@'",
        ),
        (
            {"rlnImageName": np.array(["x@a.mrcs", "1@a.mrcs", "1@a.mrcs"], dtype=object)},
            OPTICS,
            "row 1 names its image",
        ),
        ({"rlnAngleRot": np.array([1.0, np.nan, 3.0])}, OPTICS, "row 2 of column rlnAngleRot holds nan"),
        ({"rlnDefocusU": np.array([1.0, np.inf, 3.0])}, OPTICS, "row 2 of column rlnDefocusU holds inf"),
        ({"rlnDefocusU": np.array(["1", "x", "3"], dtype=object)}, OPTICS, "row 2 of column rlnDefocusU holds 'x'"),
        ({"rlnRandomSubset": np.array([1, 3, 2])}, OPTICS, "row 2 has rlnRandomSubset 3; expected half set 1 or 2"),
        ({"rlnOpticsGroup": np.array([3, 4, 7])}, OPTICS, r"row 2 belongs to optics group 4; expected one of \[7, 3\]"),
        ({}, {**OPTICS, "rlnOpticsGroup": np.array([3, 3])}, "each number once"),
        ({}, {**OPTICS, "rlnVoltage": np.array(["300", "x"], dtype=object)}, "rlnVoltage holds 'x'"),
        ({}, {**OPTICS, "rlnImagePixelSize": np.array([0.0, 1.0])}, "pixel size 0.0 A"),
        ({}, {**OPTICS, "rlnOddZernike": np.array(["[1,x]", "[]"], dtype=object)}, "a vector of numbers"),
    ],
)
def test_refusals(tmp_path, changes, optics, words):
    with pytest.raises(DataProblem, match=words):
        read(star_file(tmp_path / "bad.star", {**ROWS, **changes}, optics))


def test_blocks_that_are_not_there(tmp_path):
    with pytest.raises(FormatProblem, match=r"no block with a column rlnImageName \(its blocks: 'movies'\)"):
        path = tmp_path / "movies.star"
        write_star(path, {"movies": Table({"rlnMicrographName": np.array(["a"], dtype=object)})})
        read(path)
    with pytest.raises(DataProblem, match="has no particles in its block 'particles'"):
        read(star_file(tmp_path / "none.star", {name: column[:0] for name, column in ROWS.items()}, OPTICS))
    with pytest.raises(DataProblem, match="2 optics groups, and no column rlnOpticsGroup"):
        read(star_file(tmp_path / "groupless.star", without(ROWS, "rlnOpticsGroup"), OPTICS))


def test_round_trip_keeps_everything(tmp_path, modern):
    write_particles(tmp_path / "copy.star", modern)
    before, after = read_star(tmp_path / "modern.star"), read_star(tmp_path / "copy.star")
    assert after["mine"] == {"note": "kept"}
    for column, values in before["particles"].columns.items():
        assert np.array_equal(values, after["particles"][column]), column
    for column, values in before["optics"].columns.items():
        if not column.endswith("Zernike"):  # compared as numbers: "[1]" is written "[1.0]"
            assert values.tolist() == after["optics"][column].tolist(), column
    copy = read(tmp_path / "copy.star")
    assert copy.optics == modern.optics and np.array_equal(copy.optics_index, modern.optics_index)


def test_changed_values_are_written_and_the_others_kept(tmp_path, modern):
    assert modern.pose is not None and modern.ctf is not None
    euler, shift = modern.pose.euler.copy(), modern.pose.shift.copy()
    euler[1], shift[2] = np.deg2rad([1.25, 2.5, -3.75]), (0.125, -7.0)
    changed = replace(modern, pose=Pose(euler, shift), half_set=np.array([2, 2, 1]), contrast=Contrast.RAW)
    write_particles(tmp_path / "changed.star", changed)
    table = read_star(tmp_path / "changed.star")["particles"]
    assert table["rlnAngleRot"].tolist() == [10.0, 1.25, 30.0] and table["rlnAnglePsi"].tolist() == [-70.0, -3.75, 90.0]
    assert table["rlnOriginXAngst"].tolist() == [1.5, -2.5, 0.125] and table["rlnRandomSubset"].tolist() == [2, 2, 1]
    assert read(tmp_path / "changed.star").contrast is Contrast.RAW
    write_particles(tmp_path / "again.star", replace(read(tmp_path / "changed.star"), contrast=Contrast.INVERTED))
    assert read(tmp_path / "again.star").contrast is Contrast.INVERTED


def test_what_was_dropped_does_not_stay_in_the_file(tmp_path, modern):
    write_particles(tmp_path / "bare.star", replace(modern, pose=None, ctf=None, half_set=None))
    bare = read(tmp_path / "bare.star")
    assert bare.pose is None and bare.ctf is None and bare.half_set is None
    assert not {"rlnOriginXAngst", "rlnDefocusV"} & set(bare.table.names)
    assert bare.table["rlnMadeUp"].tolist() == ["keep", "me", ""]


def test_selected_rows_and_new_image_names(tmp_path, modern):
    part = modern.rows(np.array([2, 0]))
    write_particles(tmp_path / "part.star", part)
    copy = read(tmp_path / "part.star")
    assert copy.names.index.tolist() == [2, 1] and copy.table["rlnImageName"].tolist() == ["3@a.mrcs", "000002@a.mrcs"]
    moved = replace(part, names=replace(part.names, paths=("new.mrcs", "b.mrcs")))
    write_particles(tmp_path / "moved.star", moved)
    assert read(tmp_path / "moved.star").table["rlnImageName"].tolist() == ["000003@new.mrcs", "000002@new.mrcs"]


def test_particles_made_without_a_file(tmp_path, modern):
    made = replace(modern, table=Table(), blocks={})
    write_particles(tmp_path / "made.star", made)
    copy = read(tmp_path / "made.star")
    assert copy.pose is not None and copy.ctf is not None and modern.pose is not None
    np.testing.assert_allclose(copy.pose.euler, modern.pose.euler, atol=1e-11)  # nine decimals of a degree
    assert np.array_equal(copy.pose.shift, modern.pose.shift) and np.array_equal(copy.ctf.defocus_u, made.ctf.defocus_u)
    assert copy.optics == modern.optics


def test_images_and_their_box(tmp_path):
    images = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    for name in ("a.mrcs", "b.mrcs"):
        write_stack(tmp_path / name, images, 1.25)
    path = star_file(tmp_path / "particles.star", optics=OPTICS)
    particles = read_particles(path)
    assert particles.images is not None and np.array_equal(particles.images.read(slice(None)), images[[1, 0, 2]])
    assert [group.box for group in particles.optics] == [8, 8]
    with pytest.raises(DataProblem, match="gives images of 9 pixels, their stacks hold 8"):
        read_particles(star_file(tmp_path / "wrong.star", optics={**OPTICS, "rlnImageSize": np.array([8, 9])}))


def test_compiled_columns_read_the_same(tmp_path, monkeypatch, modern):
    """Image names of a long file are codes, not texts: the particles are equal."""
    from vitreous.io import star

    monkeypatch.setattr(star, "_FAST_LOOP_BYTES", 0)
    fast = read(tmp_path / "modern.star")
    assert np.array_equal(fast.names.index, modern.names.index) and np.array_equal(
        fast.names.path_code, modern.names.path_code
    )
    assert fast.names.paths == modern.names.paths and fast.optics == modern.optics
    write_particles(tmp_path / "fast.star", fast)
    write_particles(tmp_path / "slow.star", modern)
    assert (tmp_path / "fast.star").read_bytes() == (tmp_path / "slow.star").read_bytes()
    content = (tmp_path / "modern.star").read_bytes().replace(b"1@b.mrcs", b"0@b.mrcs")
    (tmp_path / "zero.star").write_bytes(content)
    with pytest.raises(DataProblem, match=r"row 2 names its image '0@b.mrcs'"):
        read(tmp_path / "zero.star")


def test_written_files_say_their_version(tmp_path, modern):
    write_particles(tmp_path / "copy.star", modern)
    assert read(tmp_path / "copy.star").origin == "RELION 3.1"
    assert parse_star((tmp_path / "copy.star").read_bytes()).version == "30001"
    with pytest.raises(DataProblem, match="no particles to write"):
        write_particles(tmp_path / "none.star", modern.rows(slice(0, 0)))
