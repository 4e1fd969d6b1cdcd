"""The job `pick`: micrographs in, files that `extract`, `ctf --per-particle` and RELION read out."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

from vitreous.errors import DataProblem, FileProblem, SettingsProblem
from vitreous.io.micrograph_star import read_coordinates
from vitreous.io.micrograph_table import read_micrograph_table
from vitreous.io.micrographs import open_micrograph
from vitreous.io.mrc_stack import write_stack, write_volume
from vitreous.io.star import read_star
from vitreous.jobs import pick_micrograph
from vitreous.jobs.ctf_particles import read_placed_particles
from vitreous.jobs.folder import run_job, work_folder
from vitreous.jobs.job import Desk
from vitreous.jobs.micrograph_plan import FOLDER
from vitreous.jobs.pick import Pick, coarser
from vitreous.jobs.pick_input import read_pick_input
from vitreous.jobs.pick_micrograph import PickRow
from vitreous.jobs.pick_tables import coordinate_file
from vitreous.jobs.simulate_micrograph import SimulateMicrograph
from vitreous.model.volume import Volume
from vitreous.picking.picks import Picks

PIXEL_SIZE, DIAMETER, SHAPE = 4.0, 160.0, (360, 400)
TRUTH = np.array([(x, y) for y in (70, 180, 290) for x in (60, 150, 250, 340)], dtype=float)
STAR = """
# version 30001
data_optics
loop_
_rlnOpticsGroupName
_rlnOpticsGroup
_rlnMicrographPixelSize
_rlnMicrographOriginalPixelSize
_rlnVoltage
_rlnSphericalAberration
_rlnAmplitudeContrast
left 2 4.0 2.0 300 2.7 0.1
right 5 4.0 2.0 300 2.7 0.1

data_micrographs
loop_
_rlnMicrographName
_rlnOpticsGroup
_rlnDefocusU
_rlnDefocusV
_rlnDefocusAngle
_rlnCtfMaxResolution
_someColumn
MotionCorr/job002/a.mrc 5 15000 14000 20 4.5 keep
MotionCorr/job002/b.mrc 2 25000 24000 10 5.5 it
MotionCorr/job002/empty.mrc 2 25000 24000 10 5.5 it
MotionCorr/job002/nowhere.mrc 2 25000 24000 10 5.5 it
MotionCorr/job002/no_ctf.mrc 2 nan nan nan nan it
"""


def ball_image(truth: np.ndarray = TRUTH, *, seed: int = 1, depth: float = 2.0, shape=SHAPE) -> np.ndarray:
    """Dark balls on white noise."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = 50 + np.random.default_rng(seed).normal(size=shape)
    radius = DIAMETER / 2 / PIXEL_SIZE
    for column, row in truth:
        image -= depth * np.sqrt(np.maximum(1 - ((x - column) ** 2 + (y - row) ** 2) / radius**2, 0))
    return image.astype(np.float32)


@pytest.fixture
def folder(tmp_path) -> Path:
    """micrographs.star and its files: two with particles, one of noise, one that is not there, one without a CTF."""
    files = tmp_path / "MotionCorr" / "job002"
    files.mkdir(parents=True)
    write_stack(files / "a.mrc", ball_image()[None], PIXEL_SIZE)
    write_stack(files / "b.mrc", ball_image(TRUTH[:5], seed=2)[None], PIXEL_SIZE)
    write_stack(files / "empty.mrc", ball_image(TRUTH[:0], seed=3)[None], PIXEL_SIZE)
    write_stack(files / "no_ctf.mrc", ball_image(seed=4)[None], PIXEL_SIZE)
    (tmp_path / "micrographs.star").write_text(STAR)
    return tmp_path


def pick(folder: Path, out: str = "picks", **settings):
    given = {"diameter": (DIAMETER,), "threshold": 4.5, **settings}
    files = given.pop("micrographs", (folder / "micrographs.star",))
    return run_job(Pick(files, **given), folder / out)


def near(found: np.ndarray, truth: np.ndarray, within: float = 4.0) -> bool:
    """Whether each has one of the others so near, and there are as many."""
    distance = np.hypot(*(found[:, None] - truth).transpose(2, 0, 1))
    return len(found) == len(truth) and distance.min(axis=0).max() < within and distance.min(axis=1).max() < within


def test_the_files_say_where_the_particles_are(folder):
    outcome = pick(folder)
    star = read_star(folder / "picks" / "picks.star")
    table, optics = star["particles"], star["optics"]
    names = np.asarray(table["rlnMicrographName"], dtype=object)
    places = np.stack([np.asarray(table[f"rlnCoordinate{axis}"]) for axis in "XY"], axis=-1)
    for name, group, defocus, truth in (("a", 5, 15000, TRUTH), ("b", 2, 25000, TRUTH[:5])):
        rows = names == f"MotionCorr/job002/{name}.mrc"
        assert near(places[rows], truth)
        assert set(np.asarray(table["rlnOpticsGroup"])[rows]) == {group}
        assert set(np.asarray(table["rlnDefocusU"])[rows]) == {defocus}
    assert len(table) == 17 and "someColumn" not in table
    assert set(table) >= {
        "rlnAutopickFigureOfMerit",
        "vitreousPickSignificance",
        "vitreousPickDiameter",
        "rlnCtfMaxResolution",
    }
    assert np.asarray(optics["rlnOpticsGroup"]).tolist() == [2, 5] and np.asarray(optics["rlnVoltage"]).tolist() == [
        300,
        300,
    ]
    assert np.asarray(optics["rlnImageSize"]).tolist() == [60, 60]  # 1.5 diameters of 40 pixels
    assert outcome.as_json()["picks"] == 17 and outcome.as_json()["empty"] == 1 and outcome.as_json()["not_read"] == 2
    reasons = outcome.tables["failed"]
    assert "nan" in reasons["MotionCorr/job002/no_ctf.mrc"] and "not found" in reasons["MotionCorr/job002/nowhere.mrc"]


def test_relion_finds_the_coordinates_of_each_micrograph(folder):
    pick(folder)
    combined = read_star(folder / "picks" / "picks.star")["particles"]
    own = read_star(folder / "picks" / "coordinates" / "a_autopick.star")
    table = next(iter(own.values()))
    assert "rlnMicrographName" not in table
    np.testing.assert_array_equal(np.asarray(table["rlnCoordinateX"]), np.asarray(combined["rlnCoordinateX"])[:12])
    listed = read_star(folder / "picks" / "autopick.star")["coordinate_files"]
    assert listed["rlnMicrographName"].tolist() == [f"MotionCorr/job002/{name}.mrc" for name in "ab"]
    assert listed["rlnMicrographCoordinates"].tolist() == [
        str(folder / "picks" / "coordinates" / f"{name}_autopick.star") for name in "ab"
    ]
    assert not (folder / "picks" / "coordinates" / "empty_autopick.star").exists()


def test_names_of_coordinate_files():
    for micrograph, expected in (
        ("a/b/x.mrc", "coordinates/a/b/x_autopick.star"),
        ("MotionCorr/job012/raw/x.01.tiff", "coordinates/raw/x.01_autopick.star"),
        ("/data/x.mrc:mrc", "coordinates/data/x_autopick.star"),
        ("../x.mrc", "coordinates/own_autopick.star"),
    ):
        assert coordinate_file(micrograph, "own") == expected


def test_ctf_per_particle_reads_the_picks(folder):
    pick(folder)
    names = read_micrograph_table(folder / "micrographs.star").names
    placed = read_placed_particles(folder / "picks" / "picks.star", names)
    assert sorted(set(placed.micrograph.tolist())) == [0, 1] and near(placed.coordinate[placed.micrograph == 0], TRUTH)


def test_plain_files_need_no_optics(folder):
    files = folder / "MotionCorr" / "job002"
    tifffile.imwrite(folder / "c.tif", ball_image(TRUTH[:7], seed=9))
    outcome = pick(folder, micrographs=(files / "a.mrc", folder / "c.tif"), pixel_size=PIXEL_SIZE)
    star = read_star(folder / "picks" / "picks.star")
    assert outcome.as_json()["picks"] == 19 and "rlnVoltage" not in star["optics"]
    assert outcome.tables["picks_of"] == {str(files / "a.mrc"): 12, str(folder / "c.tif"): 7}
    assert float(star["optics"]["rlnMicrographPixelSize"][0]) == PIXEL_SIZE


def test_a_movie_is_summed_and_a_spectrum_refused(folder):
    frames = np.stack([ball_image(seed=seed, depth=0.7) for seed in range(5)])
    write_stack(folder / "movie.mrcs", frames, PIXEL_SIZE)
    assert pick(folder, micrographs=(folder / "movie.mrcs",)).as_json()["picks"] == 12
    write_stack(folder / "x_PS.mrc", ball_image()[None], PIXEL_SIZE)
    with pytest.raises(DataProblem, match="spectrum"):
        pick(folder, "other", micrographs=(folder / "x_PS.mrc",))


def test_nothing_found_is_a_result(folder):
    outcome = pick(folder, micrographs=(folder / "MotionCorr" / "job002" / "empty.mrc",), threshold=6.0)
    assert outcome.as_json()["picks"] == 0 and outcome.as_json()["diameter"] is None
    assert any("Nothing was found" in warning for warning in outcome.warnings)
    assert not (folder / "picks" / "picks.star").exists() and (folder / "picks" / "report.html").is_file()


def test_the_wrong_contrast_is_told(folder):
    outcome = pick(folder, contrast="inverted", micrographs=(folder / "MotionCorr" / "job002" / "a.mrc",))
    assert any("--contrast raw" in warning for warning in outcome.warnings)
    assert not any("--contrast" in warning for warning in pick(folder, "right").warnings)


def test_most_is_for_each_micrograph(folder):
    assert pick(folder, most=3).tables["picks_of"] == {
        "MotionCorr/job002/a.mrc": 3,
        "MotionCorr/job002/b.mrc": 3,
        "MotionCorr/job002/empty.mrc": 0,
    }


def test_an_interrupted_run_goes_on(folder, monkeypatch):
    """What is finished is not done again, and the answer is that of an unbroken run; a changed file is done again."""
    whole = pick(folder)
    settings = Pick((folder / "micrographs.star",), diameter=(DIAMETER,), threshold=4.5)
    looked: list[str] = []
    search = pick_micrograph.PickTask.search

    def counted(self, item, file):
        looked.append(item.name)
        if item.name == "empty" and len(looked) < 4:
            raise KeyboardInterrupt
        return search(self, item, file)

    monkeypatch.setattr(pick_micrograph.PickTask, "search", counted)
    with pytest.raises(KeyboardInterrupt), work_folder(folder / "again", "key") as work:
        settings.run(Desk(work))
    assert {"a", "b"} <= set(looked)
    first = list(looked)
    with work_folder(folder / "again", "key") as work:
        second = settings.run(Desk(work))
    assert set(looked[len(first) :]) == {"empty"}
    assert second.tables == whole.tables
    text = [(folder / name / "picks.star").read_text() for name in ("picks", "again")]
    assert text[0] == text[1]


def test_one_and_two_workers_find_the_same(folder):
    pick(folder, "one", workers=1)
    pick(folder, "two", workers=2)
    assert (folder / "one" / "picks.star").read_text() == (folder / "two" / "picks.star").read_text()


def test_a_row_survives_its_file():
    picks = Picks(
        np.array([[1.25, 2.5]]), np.array([0.3]), np.array([6.1]), psi=np.array([1.0]), template=np.array([4])
    )
    row = PickRow("a", "a.mrc", "x/a.mrc", (30, 40), 1.5, None, picks, picks.rows(slice(0, 0)), 0.1, False, 2.0)
    again = PickRow.from_json(json.loads(json.dumps(row.as_json())))
    assert again.shape == (30, 40) and again.picks.diameter is None and again.picks.template is not None
    assert again.picks.template.dtype == np.int64 and again.picks.template.tolist() == [4]
    assert again.picks.position.tolist() == [[1.25, 2.5]] and again.suspect.position.shape == (0, 2)


# --- templates --------------------------------------------------------------------------------------------------------


def ball(box: int = 48) -> np.ndarray:
    """An egg, so that it has a direction."""
    y, x = np.mgrid[:box, :box] - box // 2
    return 2 * np.sqrt(np.maximum(20.0**2 - x**2 - (1.2 * y) ** 2, 0)) + 3 * np.exp(-((x - 8) ** 2 + y**2) / 30)


def test_class_averages_are_looked_for(folder):
    write_stack(folder / "classes.mrcs", np.stack([0 * ball(), ball()]).astype(np.float32), PIXEL_SIZE)
    outcome = pick(folder, templates=folder / "classes.mrcs", diameter=None, resolution=30.0, threshold=None)
    table = read_star(folder / "picks" / "picks.star")["particles"]
    names = np.asarray(table["rlnMicrographName"], dtype=object)
    places = np.stack([np.asarray(table[f"rlnCoordinate{axis}"]) for axis in "XY"], axis=-1)
    assert near(places[names == "MotionCorr/job002/a.mrc"], TRUTH, 5.0)
    assert (
        set(np.asarray(table["rlnClassNumber"])) == {2} and "rlnAnglePsi" in table
    )  # the empty class keeps its number
    assert np.abs(np.asarray(table["rlnAutopickFigureOfMerit"])).max() <= 1
    assert not any("No CTF" in warning for warning in outcome.warnings)
    plain = pick(
        folder,
        "plain",
        templates=folder / "classes.mrcs",
        diameter=None,
        micrographs=(folder / "MotionCorr/job002/a.mrc",),
    )
    assert any("No CTF" in warning for warning in plain.warnings)


def test_a_map_is_projected(folder, blob_files):
    z, y, x = np.mgrid[:48, :48, :48] - 24
    data = ((x**2 + y**2 + (1.3 * z) ** 2) < 400) * 1.0
    write_volume(folder / "map.mrc", Volume(data.astype(np.float32), PIXEL_SIZE))
    pick(folder, reference=folder / "map.mrc", diameter=None, order=0, symmetry="D2", resolution=30.0, threshold=None)
    table = read_star(folder / "picks" / "picks.star")["particles"]
    assert len(table) >= 15
    small = coarser(Volume(data.astype(np.float32), PIXEL_SIZE), 8.0)
    assert small.box == 24 and small.pixel_size == 8.0 and small.data.mean() == pytest.approx(data.mean(), rel=1e-3)
    assert coarser(small, 7.9).box == 24


# --- settings and faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"diameter": None}, "no --diameter"),
        ({"diameter": (200.0, 100.0)}, "smaller first"),
        ({"diameter": (1.0, 2.0, 3.0)}, "one or two"),
        ({"diameter": (math.nan,)}, "--diameter"),
        ({"templates": Path("t.mrcs"), "reference": Path("m.mrc")}, "one or the other"),
        ({"templates": Path("t.mrcs"), "diameter": (1.0, 2.0)}, "one, with templates"),
        ({"resolution": 20.0}, "--resolution without"),
        ({"order": 1}, "--order without"),
        ({"templates": Path("t.mrcs"), "symmetry": "D2"}, "--symmetry without --reference"),
        ({"reference": Path("m.mrc"), "order": 9}, "--order 9"),
        ({"reference": Path("m.mrc"), "symmetry": "Q7"}, "Q7"),
        ({"highest": 3.0}, "--highest 3"),
        ({"threshold": 0.0}, "--threshold"),
        ({"border": -1.0}, "--border"),
        ({"most": 0}, "--most"),
        ({"pixel_size": 0.0}, "--pixel-size"),
        ({"workers": 0}, "--workers"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(SettingsProblem, match=re.escape(words)):
        Pick((Path("a.mrc"),), **{"diameter": (100.0,), **settings})


def test_no_micrographs():
    with pytest.raises(SettingsProblem, match="at least one"):
        Pick((), diameter=(100.0,))


def test_micrographs_that_cannot_be_used(folder):
    def one(name: str, image: np.ndarray, size: float = PIXEL_SIZE) -> Path:
        write_stack(folder / name, image[None].astype(np.float32), size)
        return folder / name

    nan = ball_image()
    nan[100, 100] = np.nan
    for path, words in (
        (one("constant.mrc", np.full(SHAPE, 3.0)), "all have the value 3"),
        (one("nan.mrc", nan), "NaN"),
        (one("small.mrc", ball_image()[:30, :30]), "a diameter of 160 A"),
        (folder / "missing.mrc", "missing.mrc"),
    ):
        with pytest.raises((DataProblem, FileProblem), match=re.escape(words)):
            pick(folder, "never", micrographs=(path,))
        assert not (folder / "never").exists()
    tifffile.imwrite(folder / "unknown.tif", ball_image())
    with pytest.raises(DataProblem, match="--pixel-size"):
        pick(folder, "never", micrographs=(folder / "unknown.tif",))
    good = folder / "MotionCorr" / "job002" / "a.mrc"
    outcome = pick(folder, micrographs=(folder / "nan.mrc", good, folder / "constant.mrc"))
    assert outcome.as_json()["picks"] == 12 and outcome.as_json()["not_read"] == 2
    assert any("NaN" in warning for warning in outcome.warnings)


def test_star_files_that_lead_nowhere(folder):
    with pytest.raises(SettingsProblem, match="one STAR file alone"):
        read_pick_input([folder / "micrographs.star", folder / "x.mrc"])
    (folder / "lost").mkdir()
    (folder / "lost" / "micrographs.star").write_text(STAR.replace("MotionCorr", "Lost"))
    with pytest.raises(FileProblem, match="none of the 5 files"):
        read_pick_input([folder / "lost" / "micrographs.star"])
    given = read_pick_input([folder / "micrographs.star"], pixel_size=4.2)
    assert given.has_ctf and given.items[0].pixel_size == 4.2 and any("4.2" in note for note in given.notes)


def test_templates_that_cannot_be_used(folder):
    write_stack(folder / "t.mrcs", ball()[None].astype(np.float32), PIXEL_SIZE)
    with pytest.raises(SettingsProblem, match="a resolution of 8 A"):
        pick(folder, templates=folder / "t.mrcs", diameter=None, resolution=6.0)
    with pytest.raises(SettingsProblem, match="templates hold"):
        pick(folder, templates=folder / "t.mrcs", diameter=(500.0,))
    header = bytearray((folder / "t.mrcs").read_bytes())
    header[40:52] = bytes(12)  # the cell, from which the pixel size follows
    (folder / "unknown.mrcs").write_bytes(header)
    with pytest.raises(DataProblem, match=r"unknown\.mrcs has pixel size 0 .*--template-pixel-size"):
        pick(folder, templates=folder / "unknown.mrcs", diameter=None)


def test_the_report_shows_the_picks(folder):
    pick(folder)
    page = (folder / "picks" / "report.html").read_text()
    assert page.count('<svg xmlns="http://www.w3.org/2000/svg"') >= 4 and "data:image/png;base64" in page
    assert "Picks in a" in page and "12 picks" in page and "Significance of the picks" in page
    rings = re.search(r'<path d="(M[^"]+)" fill="none" stroke="#ffb02e"', page)
    assert rings is not None
    # y upwards: the ring of the first pick, whose y is counted from the bottom of the picture
    star = read_star(folder / "picks" / "picks.star")["particles"]
    x, y = (float(star[f"rlnCoordinate{axis}"][0]) for axis in "XY")
    left, middle = (float(value) for value in re.findall(r"M([\d.]+) ([\d.]+)a", rings[1])[0])
    radius = float(re.findall(r"a([\d.]+) ", rings[1])[0])
    scale = 1.0  # 400 pixels are drawn as they are
    assert left + radius == pytest.approx(x * scale, abs=0.2) and middle == pytest.approx(
        (SHAPE[0] - y) * scale, abs=0.2
    )


# --- simulated and real -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_simulated_particles_are_found_both_ways(tmp_path):
    """20 particles of a ribosome at 1.5 um, 20 electrons per square angstrom: every one, and nothing else, placed to 5 % of its diameter."""
    settings = SimulateMicrograph(
        Path("bundled:6zu5"),
        pixel_size=3.0,
        size=(768,),
        particles=20,
        dose=20.0,
        defocus_um=(1.5, 1.5),
        distance=320.0,
        seed=5,
    )
    run_job(settings, tmp_path / "job")
    assert open_micrograph(tmp_path / "job" / FOLDER / "micrograph_0001.mrc").shape == (768, 768)
    truth = read_coordinates(tmp_path / "job" / "coordinates.star")
    centre = truth.pixel - truth.pose.shift / 3.0
    star = (tmp_path / "job" / "micrographs.star",)
    for out, way in (
        ("blobs", {"diameter": (200.0, 320.0)}),
        ("templates", {"reference": tmp_path / "job" / "truth_map.mrc"}),
    ):
        run_job(Pick(star, **way), tmp_path / out)  # type: ignore[arg-type]
        table = read_star(tmp_path / out / "picks.star")["particles"]
        found = np.stack([np.asarray(table[f"rlnCoordinate{axis}"]) for axis in "XY"], axis=-1)
        distance = 3.0 * np.hypot(*(found[:, None] - centre).transpose(2, 0, 1))
        assert (distance.min(axis=0) < 30).all()  # recall 1
        assert (distance.min(axis=1) < 30).sum() == 20 and len(found) <= 21
        assert np.sqrt(np.mean(distance.min(axis=0) ** 2)) < 0.05 * 260


@pytest.mark.slow
def test_particles_of_a_real_micrograph(shared_data, tmp_path):
    """Isolated particles of about 130 A that are seen by eye: some hundred of them. What is picked is darker than its surroundings out to
    half a diameter, and the other contrast finds a few times fewer, less significant places."""
    path = shared_data / "micrograph" / "fei-extended.mrc.gz"
    outcomes = {
        contrast: run_job(Pick((path,), diameter=(100.0, 170.0), contrast=contrast), tmp_path / contrast)  # type: ignore[arg-type]
        for contrast in ("raw", "inverted")
    }
    raw, inverted = (outcomes[contrast].as_json() for contrast in ("raw", "inverted"))
    assert 90 <= raw["picks"] <= 150 and raw["suspect"] <= 3 and 100 < raw["diameter"] < 140
    assert inverted["picks"] < 0.5 * raw["picks"]
    assert any("--contrast raw" in warning for warning in outcomes["inverted"].warnings)
