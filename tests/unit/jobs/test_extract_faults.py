"""`extract`: borders, and input that is wrong: refused in one line, or left out, counted and named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vitreous.errors import DataProblem, FileProblem, FormatProblem, SettingsProblem
from vitreous.io.mrc import read_image
from vitreous.io.mrc_stack import MrcStack, StackWriter
from vitreous.io.particles import read_particles
from vitreous.io.star import read_star, write_star
from vitreous.jobs.extract import Extract
from vitreous.jobs.folder import run_job
from vitreous.model.table import Table

BOX = 32


BORDER = np.array([[100.0, 120.0], [5.0, 120.0], [100.4, 238.6], [-3.0, 50.0], [16.0, 16.0], [15.0, 16.0]])


@pytest.fixture
def border(scene, tmp_path) -> Path:
    """Picks of one micrograph at its border: whole, cut on the left, cut below, outside, just whole, just cut."""
    table = Table(
        {
            "rlnMicrographName": np.array([scene.names[0]] * 6, dtype=object),
            "rlnCoordinateX": BORDER[:, 0],
            "rlnCoordinateY": BORDER[:, 1],
        }
    )
    return scene.write_picks(scene.folder / "border.star", table)


def test_boxes_over_the_border_are_filled_with_the_nearest_pixel(scene, border, tmp_path):
    outcome = run_job(Extract((border,), box=BOX, ramp=False, normalise=False, invert=False), tmp_path / "job")
    written = read_star(tmp_path / "job" / "particles.star")["particles"]
    assert len(written) == 5  # the one whose middle is no pixel is left out
    image, cut = (
        read_image(scene.folder / scene.names[0]),
        MrcStack(tmp_path / "job" / "particles" / "a.mrcs").read(slice(None)),
    )
    padded = np.pad(image, BOX, mode="edge")
    for box, (x, y) in zip(cut, np.floor(BORDER[[0, 1, 2, 4, 5]] + 0.5).astype(int) + BOX // 2):
        assert np.array_equal(box, padded[y : y + BOX, x : x + BOX])
    assert np.allclose(written["vitreousFilledFraction"], [0, 11 / 32, 15 / 32, 0, 1 / 32], atol=1e-4)  # four decimals
    found = {finding.key: finding.value for finding in outcome.findings}
    assert (found["particles"], found["left_out"], found["at_edge"]) == (5, 1, 3)
    assert any("1 picks lie outside" in warning for warning in outcome.warnings)


def test_boxes_over_the_border_are_dropped_when_asked(scene, border, tmp_path):
    outcome = run_job(Extract((border,), box=BOX, edge="drop"), tmp_path / "job")
    written = read_star(tmp_path / "job" / "particles.star")["particles"]
    assert written["rlnCoordinateX"].tolist() == [100.0, 16.0] and "vitreousFilledFraction" not in written
    assert any("3 picks whose boxes reach over" in warning for warning in outcome.warnings)


# --- faults -----------------------------------------------------------------------------------------------------------


def copied(scene, tmp_path: Path, **changes) -> Path:
    """The picks of the scene with other columns."""
    return scene.write_picks(scene.folder / f"{tmp_path.name}.star", scene.table().with_columns(changes))


def test_coordinates_of_another_pixel_size_are_refused(scene, tmp_path):
    far = copied(scene, tmp_path, rlnCoordinateX=scene.centre[:, 0] * 2)
    with pytest.raises(DataProblem, match="outside its micrograph of 200 x 240"):
        run_job(Extract((far,), box=BOX, micrographs=scene.micrographs), tmp_path / "job")
    optics = Table(
        {"rlnOpticsGroupName": np.array(["x"], dtype=object), "rlnOpticsGroup": [1], "rlnMicrographPixelSize": [3.0]}
    )
    binned = scene.write_picks(
        scene.folder / "binned.star", scene.table().with_columns({"rlnOpticsGroup": np.ones(39, int)}), optics
    )
    with pytest.raises(DataProblem, match="picked on micrographs of 3 A"):
        run_job(Extract((binned,), box=BOX, micrographs=scene.micrographs), tmp_path / "job")
    assert not (tmp_path / "job").exists()


def test_headers_that_say_another_pixel_size_are_told(scene, tmp_path):
    outcome = run_job(Extract((scene.picks,), box=BOX, micrographs=scene.micrographs, pixel_size=1.5), tmp_path / "job")
    assert any("The headers of 1 micrographs" in warning and "2 Å" in warning for warning in outcome.warnings)
    assert read_particles(tmp_path / "job" / "particles.star").pixel_size == 1.5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_coordinates_that_are_no_numbers_are_named(scene, tmp_path, value):
    broken = scene.centre[:, 1].copy()
    broken[4] = value
    with pytest.raises(DataProblem, match="row 5 of column rlnCoordinateY"):
        run_job(Extract((copied(scene, tmp_path, rlnCoordinateY=broken),), box=BOX), tmp_path / "job")


def test_a_missing_micrograph_ends_the_job_before_it_begins(scene, tmp_path):
    names = np.array(["gone.mrc" if number == 1 else scene.names[number] for number in scene.micrograph], dtype=object)
    with pytest.raises(FileProblem, match=r"gone\.mrc"):
        run_job(Extract((copied(scene, tmp_path, rlnMicrographName=names),), box=BOX), tmp_path / "job")
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize("box", [201, 400])
def test_a_box_larger_than_the_micrograph_is_refused(scene, tmp_path, box):
    with pytest.raises(SettingsProblem, match="200 x 240"):
        scene.extract(tmp_path / "job", box=box)


@pytest.fixture
def broken(scene, tmp_path) -> Path:
    """picks.star with micrographs a (good), nan, flat and short."""
    good = read_image(scene.folder / scene.names[0])
    spoiled = good.copy()
    spoiled[7, 9] = np.nan
    for name, image in {"good": good, "nan": spoiled, "flat": np.ones_like(good), "short": good}.items():
        scene.write_image(tmp_path / f"{name}.mrc", image, 1.5)
    content = (tmp_path / "short.mrc").read_bytes()
    (tmp_path / "short.mrc").write_bytes(content[: len(content) // 2])
    names = np.array(
        [name for name in ("good.mrc", "nan.mrc", "flat.mrc", "short.mrc") for _ in range(2)], dtype=object
    )
    return scene.write_picks(
        tmp_path / "picks.star",
        Table({"rlnMicrographName": names, "rlnCoordinateX": np.full(8, 60.0), "rlnCoordinateY": np.arange(8) + 60.0}),
    )


def test_micrographs_that_are_no_images_are_left_out_and_named(broken, tmp_path):
    outcome = run_job(Extract((broken,), box=BOX), tmp_path / "job")
    result = json.loads((tmp_path / "job" / "result.json").read_text())
    assert result["particles"] == 2 and result["left_out"] == 6
    reasons = result["left_out_because"]
    assert "NaN" in reasons["nan.mrc"] and "every pixel" in reasons["flat.mrc"] and "truncated" in reasons["short.mrc"]
    assert any("3 micrographs with 6 picks were left out" in warning for warning in outcome.warnings)
    written = read_particles(tmp_path / "job" / "particles.star")
    assert len(written) == 2 and set(np.asarray(written.table["rlnMicrographName"])) == {"good.mrc"}
    assert sorted(path.name for path in (tmp_path / "job" / "particles").iterdir()) == ["good.json", "good.mrcs"]
    page = (tmp_path / "job" / "report.html").read_text()
    assert "Left out" in page and "nan.mrc" in page
    (tmp_path / "good.mrc").unlink()
    (tmp_path / "flat.mrc").rename(tmp_path / "good.mrc")
    (tmp_path / "good.mrc").with_name("flat.mrc").write_bytes((tmp_path / "good.mrc").read_bytes())
    with pytest.raises(DataProblem, match="none of 3 micrographs gave particles"):
        run_job(Extract((broken,), box=BOX), tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_picks_on_a_dead_part_of_the_detector_are_left_out(scene, tmp_path):
    """Their images would be constant. The others keep their rows and their places in the stack."""
    image = read_image(scene.folder / scene.names[0])
    image[:80, :80] = 0
    scene.write_image(tmp_path / "dead.mrc", image, 1.5)
    centre = np.array([[100.0, 120.0], [40.0, 40.0], [120.0, 160.0]])
    table = Table(
        {
            "rlnMicrographName": np.array(["dead.mrc"] * 3, dtype=object),
            "rlnCoordinateX": centre[:, 0],
            "rlnCoordinateY": centre[:, 1],
        }
    )
    outcome = run_job(Extract((scene.write_picks(tmp_path / "picks.star", table),), box=BOX), tmp_path / "job")
    written = read_particles(tmp_path / "job" / "particles.star")
    assert written.table["rlnCoordinateX"].tolist() == [100.0, 120.0] and written.names.index.tolist() == [0, 1]
    assert any("1 picks whose background is constant" in warning for warning in outcome.warnings)


def test_picks_of_micrographs_without_a_ctf_are_left_out(scene, tmp_path):
    star = scene.write_micrographs(tmp_path / "m.star", vitreousCtfFound=np.array([1, 0, 1]))
    outcome = scene.extract(tmp_path / "job", micrographs=star, datadir=scene.folder)
    result = json.loads((tmp_path / "job" / "result.json").read_text())
    assert (
        result["left_out"] == (scene.micrograph == 1).sum()
        and "no CTF was found" in result["left_out_because"][scene.names[1]]
    )
    few = read_star(scene.micrographs)
    few["micrographs"] = few["micrographs"].rows(np.array([0, 2]))
    write_star(tmp_path / "few.star", few)
    outcome = scene.extract(tmp_path / "few", micrographs=tmp_path / "few.star", datadir=scene.folder)
    assert any("13 picks in micrographs that --micrographs does not name" in warning for warning in outcome.warnings)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"box": 1}, "--box 1"),
        ({"scale_to": 40}, "--scale-to 40"),
        ({"diameter": 40.0}, "1.5 to 2 A per pixel"),
        ({"diameter": 49.0, "pixel_size": 1.5}, "48 angstrom wide"),
        ({"diameter": -3.0}, "--diameter"),
        ({"dust": 0.0}, "--dust"),
        ({"workers": 0}, "--workers"),
        ({"pixel_size": -1.0}, "--pixel-size"),
    ],
)
def test_settings_that_cannot_be_are_refused(scene, tmp_path, options, words):
    with pytest.raises(SettingsProblem, match=words):
        scene.extract(tmp_path / "job", **options)


def test_files_that_are_no_picks_are_refused(scene, tmp_path):
    with pytest.raises(FormatProblem, match="rlnCoordinateX"):
        run_job(Extract((scene.micrographs,), box=BOX), tmp_path / "job")
    with pytest.raises(FileProblem, match="does not exist"):
        run_job(Extract((scene.folder / "nothing.star",), box=BOX), tmp_path / "job")
    movie = scene.folder / "movie.mrc"
    with StackWriter(movie, 1.5) as writer:
        writer.append(np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32))
    table = Table(
        {"rlnMicrographName": np.array(["movie.mrc"], dtype=object), "rlnCoordinateX": [30.0], "rlnCoordinateY": [30.0]}
    )
    with pytest.raises(DataProblem, match="3 sections"):
        run_job(Extract((scene.write_picks(scene.folder / "movie.star", table),), box=BOX), tmp_path / "job")


def test_coordinates_with_two_pixel_sizes_for_one_micrograph_are_refused(scene, tmp_path):
    optics = Table(
        {
            "rlnOpticsGroupName": np.array(["x", "y"], dtype=object),
            "rlnOpticsGroup": [1, 2],
            "rlnMicrographPixelSize": [1.5, 1.6],
        }
    )
    group = np.where(np.arange(39) % 2 == 0, 1, 2)
    mixed = scene.write_picks(
        scene.folder / "mixed.star", scene.table().with_columns({"rlnOpticsGroup": group}), optics
    )
    with pytest.raises(DataProblem, match=r"in one micrograph with pixel sizes of 1\.\d and 1\.\d A.*--pixel-size"):
        run_job(Extract((mixed,), box=BOX), tmp_path / "job")
    negative = optics.with_columns({"rlnMicrographPixelSize": [-1.5, -1.5]})
    wrong = scene.write_picks(
        scene.folder / "wrong.star", scene.table().with_columns({"rlnOpticsGroup": group}), negative
    )
    with pytest.raises(DataProblem, match=r"optics group 'x' has pixel size -1\.5"):
        run_job(Extract((wrong,), box=BOX), tmp_path / "job")
    assert not (tmp_path / "job").exists()


def test_micrographs_of_two_pixel_sizes_in_one_optics_group_are_refused(scene, tmp_path):
    optics = Table({"rlnOpticsGroupName": np.array(["x"], dtype=object), "rlnOpticsGroup": [1]})
    one = scene.write_picks(
        scene.folder / "one.star", scene.table().with_columns({"rlnOpticsGroup": np.ones(39, int)}), optics
    )
    with pytest.raises(DataProblem, match=r"micrographs of 2 and 1\.5 A in optics group 'x'"):
        run_job(Extract((one,), box=BOX), tmp_path / "job")


def test_boxes_that_all_reach_over_the_border_leave_nothing(scene, tmp_path):
    table = Table(
        {
            "rlnMicrographName": np.array([scene.names[0]] * 2, dtype=object),
            "rlnCoordinateX": [3.0, 195.0],
            "rlnCoordinateY": [120.0, 120.0],
        }
    )
    picks = scene.write_picks(scene.folder / "rim.star", table)
    with pytest.raises(DataProblem, match="none of 2 boxes of 32 pixels lies in its micrograph"):
        run_job(Extract((picks,), box=BOX, edge="drop"), tmp_path / "job")
    assert not (tmp_path / "job").exists()


def test_picks_where_nothing_was_recorded_give_no_particles(scene, tmp_path):
    image = np.full((240, 200), 7.0, dtype=np.float32)
    scene.write_image(tmp_path / "flat.mrc", image, 1.5)
    image[200:] = np.arange(200)  # far from the pick
    scene.write_image(tmp_path / "dead.mrc", image, 1.5)
    for name, words in (
        ("flat.mrc", "every pixel of .* has the value 7"),
        ("dead.mrc", "every box cut from .* is constant"),
    ):
        table = Table(
            {"rlnMicrographName": np.array([name], dtype=object), "rlnCoordinateX": [90.0], "rlnCoordinateY": [90.0]}
        )
        picks = scene.write_picks(tmp_path / "picks.star", table)
        with pytest.raises(DataProblem, match=rf"none of 1 micrographs gave particles; the first: {words}"):
            run_job(Extract((picks,), box=BOX), tmp_path / "job")
    assert not (tmp_path / "job").exists()
