"""Every particle's own defocus: the sign of the tilt, origins, heights, errors, and particles that have none."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from vitreous.errors import DataProblem, FormatProblem
from vitreous.io.star import read_star
from vitreous.jobs.ctf_particles import (
    height_note,
    lens_notes,
    match_names,
    particle_defocus,
    read_placed_particles,
    refuse_outside,
    with_defocus,
    write_particles_ctf,
)
from vitreous.jobs.ctf_row import CtfRow
from vitreous.optics.tilted_plane import TiltedPlane

PIXEL = 1.5
SHAPE = (401, 600)  # rows, columns: the middle is pixel (x, y) = (300, 200)
TEXT = """
# version 30001
data_optics
loop_
_rlnOpticsGroupName
_rlnOpticsGroup
_rlnImagePixelSize
_rlnVoltage
_rlnSphericalAberration
_rlnAmplitudeContrast
one 1 3.0 300 2.7 0.1

data_particles
loop_
_rlnImageName
_rlnMicrographName
_rlnOpticsGroup
_rlnCoordinateX
_rlnCoordinateY
_rlnOriginXAngst
_rlnOriginYAngst
_rlnDefocusU
_rlnDefocusV
_rlnDefocusAngle
_someColumn
1@s.mrcs job/a.mrc 1 300 200 0 0 1 1 1 x
2@s.mrcs job/a.mrc 1 500 200 0 0 1 1 1 y
3@s.mrcs job/a.mrc 1 300 300 0 0 1 1 1 z
4@s.mrcs job/b.mrc 1 300 200 30 -15 1 1 1 w
5@s.mrcs job/c.mrc 1 1 1 0 0 1 1 1 v
"""


def row(name: str, plane: TiltedPlane, **changes) -> CtfRow:
    slope = plane.slope
    content = {
        **dict.fromkeys(CtfRow.__dataclass_fields__),
        "name": name,
        "path": name,
        "micrograph": f"job/{name}.mrc",
        "kind": "micrograph",
        "optics_group": 1,
        "pixel_size": PIXEL,
        "shape": SHAPE,
        "voltage": 300e3,
        "spherical_aberration": 2.7e7,
        "amplitude_contrast": 0.1,
        "found": True,
        "evidence": "",
        "score": 0.9,
        "significance": 30.0,
        "fit_resolution": 4.0,
        "defocus": 15000.0,
        "defocus_u": 15200.0,
        "defocus_v": 14800.0,
        "angle": 0.5,
        "amplitude": 200.0,
        "astigmatism": (200 * math.cos(1), 200 * math.sin(1)),
        "phase_shift": 0.0,
        "slope": slope,
        "tilt": plane.tilt,
        "axis": plane.axis_angle,
        "reasons": (),
        "curves": {},
        "names": ("defocus", "slope_x", "slope_y"),
        "covariance": ((100.0, 0, 0), (0, 1e-4, 0), (0, 0, 4e-4)),
        **changes,
    }
    return CtfRow(**content)


ABOUT_Y = TiltedPlane(math.radians(30), math.pi / 2)
ABOUT_X = TiltedPlane(math.radians(30), 0.0)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "particles.star"
    path.write_text(TEXT)
    return path


def test_the_tilt_has_the_hand_of_the_contract(file):
    """By +30 degrees about +y the side of +x is less underfocused by 0.57735 a length; about +x that of +y is more."""
    particles = read_placed_particles(file, ["job/a.mrc", "job/b.mrc", "job/c.mrc"]).rows(np.arange(3))
    defocus, _ = particle_defocus(particles, {0: row("a", ABOUT_Y)})
    assert defocus == pytest.approx([15000.0, 15000.0 - 0.57735 * 200 * PIXEL, 15000.0], abs=1e-2)
    defocus, _ = particle_defocus(particles, {0: row("a", ABOUT_X)})
    assert defocus == pytest.approx([15000.0, 15000.0, 15000.0 + 0.57735 * 100 * PIXEL], abs=1e-2)
    wrong = 15000.0 + 0.57735 * 200 * PIXEL
    assert abs(particle_defocus(particles, {0: row("a", ABOUT_Y)})[0][1] - wrong) > 300


def test_the_centre_is_the_coordinate_less_the_origin(file):
    """Origin (30, -15) A: the particle lies 30 A to the left of the pixel and 15 A above it."""
    particles = read_placed_particles(file, ["job/a.mrc", "job/b.mrc"]).rows(np.array([3]))
    about_y, _ = particle_defocus(particles, {1: row("b", ABOUT_Y)})
    about_x, _ = particle_defocus(particles, {1: row("b", ABOUT_X)})
    assert about_y[0] == pytest.approx(15000.0 + 0.57735 * 30, abs=1e-2)
    assert about_x[0] == pytest.approx(15000.0 + 0.57735 * 15, abs=1e-2)


def test_old_origins_are_pixels_of_the_images(tmp_path):
    path = tmp_path / "old.star"
    path.write_text(
        "data_\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnOriginX\n_rlnOriginY\n"
        "_rlnDetectorPixelSize\n_rlnMagnification\na.mrc 300 200 10 0 5.0 10000\n"
    )
    particles = read_placed_particles(path, ["a.mrc"])  # images of 5 A a pixel
    assert particles.origin.tolist() == [[50.0, 0.0]]
    defocus, _ = particle_defocus(particles, {0: row("a", ABOUT_Y)})
    assert defocus[0] == pytest.approx(15000.0 + 0.57735 * 50, abs=1e-2)


def test_heights_of_the_file_take_the_place_of_the_planes(tmp_path):
    path = tmp_path / "heights.star"
    text = "data_p\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n"
    path.write_text(text + "a.mrc 500 200 -100\na.mrc 300 200 40\n")
    particles = read_placed_particles(path, ["a.mrc"])
    rows = {0: row("a", ABOUT_Y)}
    defocus, _ = particle_defocus(particles, rows)
    assert defocus == pytest.approx([15000.0 - 150.0, 15000.0 + 60.0])  # nearer to the detector is further underfocused
    # the plane has -173.2 and 0 there: 23.2 and 60 A off
    note = height_note(particles, rows)
    assert note is not None and f"{math.sqrt((23.2**2 + 60**2) / 2):.0f} Å" in note
    path.write_text(text + "a.mrc 500 200 0\na.mrc 300 200 0\n")  # a column of zeros says nothing
    particles = read_placed_particles(path, ["a.mrc"])
    assert particles.height is None and height_note(particles, rows) is None
    assert particle_defocus(particles, rows)[0][0] == pytest.approx(15000.0 - 173.2, abs=0.1)


def test_errors_grow_with_the_distance_from_the_middle(file):
    particles = read_placed_particles(file, ["job/a.mrc", "job/b.mrc"]).rows(np.arange(3))
    _, sigma = particle_defocus(particles, {0: row("a", ABOUT_Y)})
    # variances: 100, and 1e-4 along x at 300 A, 4e-4 along y at 150 A
    assert sigma == pytest.approx([10.0, math.sqrt(100 + 1e-4 * 300**2), math.sqrt(100 + 4e-4 * 150**2)])


def test_other_columns_and_blocks_stay(file, tmp_path):
    particles = read_placed_particles(file, ["job/a.mrc", "job/b.mrc"])
    assert particles.micrograph.tolist() == [0, 0, 0, 1, -1]
    kept = particles.rows(particles.micrograph >= 0)
    write_particles_ctf(tmp_path, with_defocus(kept, {0: row("a", ABOUT_Y), 1: row("b", ABOUT_X)}))
    before, after = read_star(file), read_star(tmp_path / "particles_ctf.star")
    assert after.version == "30001" and list(after) == list(before)
    table = after["particles"]
    for name in ("rlnImageName", "rlnMicrographName", "rlnCoordinateX", "rlnOriginXAngst", "someColumn"):
        assert list(table[name]) == list(before["particles"][name])[:4]
    mean = (table["rlnDefocusU"] + table["rlnDefocusV"]) / 2
    assert mean[1] == pytest.approx(15000.0 - 0.57735 * 200 * PIXEL, abs=1e-2)
    assert table["rlnDefocusU"] - table["rlnDefocusV"] == pytest.approx(400.0)
    assert table["rlnDefocusAngle"] == pytest.approx(math.degrees(0.5))
    assert table["vitreousDefocusError"][0] == pytest.approx(10.0)


def test_a_phase_shift_is_written_where_there_is_one(file):
    particles = read_placed_particles(file, ["job/a.mrc", "job/b.mrc"]).rows(np.arange(3))
    assert "rlnPhaseShift" not in with_defocus(particles, {0: row("a", ABOUT_Y)}).table
    shifted = with_defocus(particles, {0: row("a", ABOUT_Y, phase_shift=math.pi / 2)}).table
    assert shifted["rlnPhaseShift"] == pytest.approx(90.0)


def test_names_are_matched_whole_then_by_their_last_part():
    given = ["Motion/job2/a.mrc", "Motion/job2/b.mrc", "other/c_PS.mrc"]
    names = ["Motion/job2/a.mrc", "./Motion/job2/b.mrc", "b.mrc", "movies/b.tif", "c.mrc", "d.mrc"]
    assert match_names(names, given).tolist() == [0, 1, 1, 1, 2, -1]
    with pytest.raises(DataProblem, match="could be 2"):
        match_names(["x.mrc"], ["one/x.mrc", "two/x.mrc"])
    assert match_names(["one/x.mrc"], ["one/x.mrc", "two/x.mrc"]).tolist() == [0]


def test_files_that_do_not_belong_are_refused(file, tmp_path):
    with pytest.raises(DataProblem, match="particles of the micrographs given"):
        read_placed_particles(file, ["elsewhere.mrc"])
    particles = read_placed_particles(file, ["job/a.mrc", "job/b.mrc"])
    refuse_outside(particles, {0: SHAPE, 1: SHAPE})
    with pytest.raises(DataProblem, match=r"row 2 .* \(500, 200\), outside its micrograph of 300 x 200"):
        refuse_outside(particles, {0: (200, 300), 1: SHAPE})
    other = tmp_path / "x.star"
    other.write_text("data_p\nloop_\n_rlnImageName\n1@a.mrcs\n")
    with pytest.raises(FormatProblem, match="rlnCoordinateX"):
        read_placed_particles(other, ["a.mrc"])


def test_another_lens_is_told(file):
    particles = read_placed_particles(file, ["job/a.mrc", "job/b.mrc"]).rows(np.arange(3))
    same = row("a", ABOUT_Y)
    assert lens_notes(particles, {0: same}) == []
    notes = lens_notes(particles, {0: replace(same, spherical_aberration=1.4e7)})
    assert len(notes) == 1 and "2.7 mm" in notes[0] and "1.4" in notes[0]
