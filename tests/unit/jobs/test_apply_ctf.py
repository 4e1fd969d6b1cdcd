"""The job `ctf apply`: what it writes is the correction, says so, and is made only once."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import forward, radial_frequency
from vitreous.io.mrc import read_header, read_image
from vitreous.io.mrc_stack import StackWriter
from vitreous.jobs.apply_ctf import CORRECTED, ApplyCtf
from vitreous.jobs.folder import run_job
from vitreous.optics.tilt import TiltedCtf, tilted_contrast
from vitreous.optics.tilted_plane import TiltedPlane

SHAPE, PIXEL_SIZE, MEAN = (230, 250), 1.5, 40.0
TILT, AXIS = 50.0, 70.0
OPTIONS = {"defocus_um": (1.25, 1.15), "angle_deg": 20.0, "tilt_deg": TILT, "tilt_axis_deg": AXIS}


@pytest.fixture(scope="module")
def truth():
    return np.random.default_rng(3).standard_normal(SHAPE)


@pytest.fixture(scope="module")
def micrograph(truth, tmp_path_factory):
    """The raw image of a tilted specimen with noise, on a bright background."""
    turn = math.radians(40.0)
    lens = TiltedCtf(
        TiltedPlane(math.radians(TILT), math.radians(AXIS)),
        12000.0,
        300e3,
        2.7e7,
        0.1,
        astigmatism=(500 * math.cos(turn), 500 * math.sin(turn)),
    )
    image = MEAN + tilted_contrast(truth, PIXEL_SIZE, lens, contrast="raw")
    image += 0.5 * np.random.default_rng(4).standard_normal(SHAPE)
    path = tmp_path_factory.mktemp("micrograph") / "m.mrc"
    with StackWriter(path, PIXEL_SIZE, label="detector") as writer:
        writer.append(image)
    return path


def agreement(image, truth, low=0.05, high=0.3):
    """Correlation with the truth in a band of frequencies."""
    k = radial_frequency(SHAPE, PIXEL_SIZE)
    band = (k > low) & (k < high)
    a, b = forward(image - image.mean(), 2)[band], forward(truth, 2)[band]
    return np.sum((a * b.conj()).real) / math.sqrt(np.sum(np.abs(a) ** 2) * np.sum(np.abs(b) ** 2))


@pytest.mark.parametrize(
    ("method", "state"),
    [("flip", "phase_flipped"), ("wiener", "wiener_filtered"), ("premultiply", "premultiplied")],
)
def test_corrects_a_tilted_micrograph_and_says_what_it_did(method, state, micrograph, truth, tmp_path):
    run_job(ApplyCtf(micrograph, method=method, snr=4.0 if method == "wiener" else None, **OPTIONS), tmp_path / "job")
    image, header = read_image(tmp_path / "job" / CORRECTED), read_header(tmp_path / "job" / CORRECTED)
    assert image.shape == SHAPE and header.pixel_size[0] == pytest.approx(PIXEL_SIZE)
    assert image.mean() == pytest.approx(MEAN, abs=0.05)  # of the frame of zeros a little comes back
    assert state in header.labels[0]
    result = json.loads((tmp_path / "job" / "result.json").read_text())
    assert result["ctf_state"] == state and result["defocus_um"] == pytest.approx(1.2)
    assert result["defocus_lowest_um"] < 1.19 and result["defocus_highest_um"] > 1.21
    page = (tmp_path / "job" / "report.html").read_text()
    assert "Thon rings" in page and "data:image/png" in page
    # What the specimen's own strips of a few hundred pixels lose at the edges is not in the bound.
    assert agreement(image, truth) < -0.55  # dark protein stays dark
    before = read_image(micrograph)
    assert abs(agreement(before, truth)) < 0.1
    if method == "wiener":
        settings = {**OPTIONS, "tilt_deg": -TILT}
        run_job(ApplyCtf(micrograph, method=method, snr=4.0, **settings), tmp_path / "hand")
        wrong = agreement(read_image(tmp_path / "hand" / CORRECTED), truth, low=0.2)
        assert wrong > agreement(image, truth, low=0.2) + 0.1  # the other hand


def test_a_corrected_micrograph_is_not_corrected_again(micrograph, tmp_path, capsys):
    words = ["ctf", "apply", str(micrograph), "--defocus-um", "1.25", "1.15", "--angle-deg", "20"]
    assert dispatch([*words, "--out", str(tmp_path / "flipped.mrc")]) == 0
    assert "phase_flipped" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["flipped.mrc"]
    assert dispatch([*words, "--out", str(tmp_path / "flipped.mrc")]) == 2
    assert "--force" in capsys.readouterr().err
    assert dispatch([*words, "--out", str(tmp_path / "flipped.mrc"), "--force"]) == 0
    words[2] = str(tmp_path / "flipped.mrc")
    capsys.readouterr()
    assert dispatch([*words, "--out", str(tmp_path / "again")]) == 2
    error = capsys.readouterr().err
    assert "corrected already" in error and "phase_flipped" in error and not (tmp_path / "again").exists()


def test_defocus_that_cannot_be_is_warned_of(micrograph, tmp_path, capsys):
    words = ["ctf", "apply", str(micrograph), "--tilt-deg", "60", "--out", str(tmp_path / "a.mrc")]
    assert dispatch([*words, "--defocus-um", "0.01", "0.01"]) == 0
    assert "overfocused" in capsys.readouterr().err
    assert dispatch([*words, "--defocus-um", "9", "9", "--force"]) == 0
    assert "lies outside" in capsys.readouterr().err


def written(path, image, pixel_size=1.0):
    with StackWriter(path, pixel_size) as writer:
        writer.append(image)
    return path


def test_bad_micrographs(tmp_path):
    good = {"defocus_um": (1.0, 1.0)}
    noise = np.random.default_rng(0).standard_normal((2, 32, 32))
    hole = noise[0].copy()
    hole[3, 4] = np.nan
    cases = {
        "one image": written(tmp_path / "stack.mrc", noise),
        "every pixel": written(tmp_path / "flat.mrc", np.ones((32, 32))),
        "NaN": written(tmp_path / "nan.mrc", hole),
        "at least 16": written(tmp_path / "small.mrc", noise[0, :8]),
    }
    unknown = written(tmp_path / "unknown.mrc", noise[0])
    content = bytearray(unknown.read_bytes())
    content[40:52] = bytes(12)  # the cell
    unknown.write_bytes(content)
    cases["--pixel-size"] = unknown
    for words, path in cases.items():
        with pytest.raises(DataProblem, match=words):
            run_job(ApplyCtf(path, **good), tmp_path / "job")
    assert not (tmp_path / "job").exists()
    run_job(ApplyCtf(unknown, pixel_size=2.0, **good), tmp_path / "job")
    assert read_header(tmp_path / "job" / CORRECTED).pixel_size[0] == pytest.approx(2.0)


BAD = {
    "--tilt-deg": {"tilt_deg": 90.0},
    "--snr": {"snr": 0.0},
    "--voltage-kv": {"voltage_kv": -300.0},
    "--amplitude-contrast": {"amplitude_contrast": 7.0},
    "--pixel-size": {"pixel_size": 0.0},
    "below 100": {"defocus_um": (15000.0, 15000.0)},
    "finite": {"angle_deg": math.nan},
    "--cs-mm": {"cs_mm": -1.0},
}


@pytest.mark.parametrize("words", BAD)
def test_bad_settings(words, micrograph):
    with pytest.raises(SettingsProblem, match=words):
        ApplyCtf(micrograph, **{"defocus_um": (1.0, 1.0), **BAD[words]})
