"""The job `localres`: files, figures, both kinds of map, warnings, mistakes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.errors import SettingsProblem
from vitreous.fourier.filters import apply_filter, soft_sphere
from vitreous.fourier.transforms import radial_frequency
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import write_volume
from vitreous.jobs.folder import run_job
from vitreous.jobs.localres import LocalRes
from vitreous.jobs.reconstruct import Reconstruct
from vitreous.model.volume import Volume

SIZE, PIXEL, NOISE = 64, 2.0, 0.1


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """A ball whose left part is blurred by B = 800 and its right part by B = 200, in noise."""
    folder = tmp_path_factory.mktemp("halves")
    rng = np.random.default_rng(0)
    k = radial_frequency((SIZE,) * 3, PIXEL)
    detail = rng.standard_normal((SIZE,) * 3)
    ball = soft_sphere(SIZE, 22, 4)
    parts = [apply_filter(ball * (detail + 1), np.exp(-b / 4 * k**2), 3) for b in (800.0, 200.0)]
    signal = np.where(np.arange(SIZE) < SIZE // 2, *parts)
    for half in (1, 2):
        noisy = signal + NOISE * rng.standard_normal(signal.shape)
        write_volume(folder / f"half{half}.mrc", Volume(noisy.astype(np.float32), PIXEL))
    write_volume(folder / "mask.mrc", Volume(soft_sphere(SIZE, 22, 4, dtype=np.float32), PIXEL))
    return folder


@pytest.fixture(scope="module")
def result(halves, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "job"
    run_job(LocalRes(halves / "half1.mrc", halves / "half2.mrc", mask=halves / "mask.mrc", window=26.0), out)
    return out


def test_the_map_says_where_detail_is(result):
    local, mask = read_volume(result / "local_resolution.mrc"), read_volume(result / "mask.mrc")
    said = json.loads((result / "result.json").read_text())
    left = np.median(local.data[24:40, 24:40, 14:18])
    right = np.median(local.data[24:40, 24:40, 46:50])
    true = [np.sqrt(b / (-4 * np.log(NOISE))) for b in (800.0, 200.0)]
    # 10 %: windows in a part of half a ball hold something of the other part
    assert left == pytest.approx(true[0], rel=0.1) and right == pytest.approx(true[1], rel=0.1)
    assert said["best_resolution_angstrom"] < said["median_resolution_angstrom"] < said["worst_resolution_angstrom"]
    assert said["best_resolution_angstrom"] < 1.1 * right and said["worst_resolution_angstrom"] > 0.9 * left
    coarsest = 1 / said["bands"]["frequency"][0]
    assert local.pixel_size == PIXEL and local.data.max() == pytest.approx(coarsest, rel=1e-5)
    assert (local.data[mask.data < 0.4] == local.data.max()).all() and np.isfinite(local.data).all()
    assert said["voxels"] == (mask.data > 0.5).sum() and said["window_angstrom"] == 26.0


def test_the_filtered_map_keeps_detail_where_it_is(result, halves):
    filtered = read_volume(result / "filtered.mrc").data
    mean = (read_volume(halves / "half1.mrc").data + read_volume(halves / "half2.mrc").data) / 2

    def roughness(volume: np.ndarray, place: slice) -> float:
        """Power between 6 and 5 angstrom, where the left part is noise and the right one signal."""
        k = radial_frequency((SIZE,) * 3, PIXEL)
        band = apply_filter(volume, ((k > 1 / 6) & (k < 1 / 5)).astype(float), 3)
        return float((band[24:40, 24:40, place] ** 2).mean())

    left, right = slice(12, 20), slice(44, 52)
    kept = [roughness(filtered, place) / roughness(mean, place) for place in (left, right)]
    assert kept[1] > 10 * kept[0]


def test_the_report_shows_slices_bar_and_curves(result):
    page = (result / "report.html").read_text()
    for word in ("Distribution", "Bands", "resolution-scale", "Cardone", "10.1107/S2052252520011574", "level in use"):
        assert word in page
    assert page.count("data:image/png") >= 2


def test_real_half_maps_give_a_mean_that_agrees_with_their_fsc(blob_files, tmp_path):
    run_job(Reconstruct(blob_files / "particles.star"), tmp_path / "map")
    outcome = run_job(LocalRes(tmp_path / "map" / "half1.mrc", tmp_path / "map" / "half2.mrc"), tmp_path / "local")
    said = outcome.as_json()
    whole = json.loads((tmp_path / "map" / "result.json").read_text())["resolution_at_0.5_angstrom"]
    # bands of half a shell's width at 0.03 1/A in a box of 32: 10 % is one band
    assert said["median_resolution_angstrom"] == pytest.approx(whole, rel=0.1)
    assert said["whole_resolution_angstrom"] == pytest.approx(whole, rel=0.1)


def test_noise_gives_none_and_says_so(tmp_path, capsys):
    rng = np.random.default_rng(3)
    for half in (1, 2):
        write_volume(tmp_path / f"h{half}.mrc", Volume(rng.standard_normal((32,) * 3).astype(np.float32), 4.0))
    out = tmp_path / "local"
    code = dispatch(["localres", str(tmp_path / "h1.mrc"), str(tmp_path / "h2.mrc"), "--out", str(out)])
    assert code == 0
    said = json.loads((out / "result.json").read_text())
    assert said["fsc_resolution_angstrom"] is None and said["whole_resolution_angstrom"] is None
    assert said["unresolved_fraction"] > 0.99
    assert "none" in capsys.readouterr().out


def test_a_low_threshold_is_said_to_be_raised(halves, tmp_path):
    job = LocalRes(halves / "half1.mrc", halves / "half2.mrc", threshold=0.143, window=26.0)
    outcome = run_job(job, tmp_path / "job")
    assert any("three standard deviations" in warning for warning in outcome.warnings)
    levels, deviations = (np.array(outcome.tables["bands"][name]) for name in ("level", "noise_deviation"))
    np.testing.assert_allclose(levels, np.maximum(0.143, 3 * deviations))


def test_a_map_with_itself_is_told_apart(halves, tmp_path):
    same = run_job(LocalRes(halves / "half1.mrc", halves / "half1.mrc", mask=halves / "mask.mrc"), tmp_path / "same")
    assert any("one and the same map" in warning for warning in same.warnings)
    assert same.as_json()["pixel_limited_fraction"] == 1.0


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": -1.0}, {"window": 0.0}, {"b_factor": np.inf}])
def test_numbers_that_cannot_be_are_refused(options):
    with pytest.raises(SettingsProblem):
        LocalRes("a", "b", **options)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--window", "9"], "ten voxels"),
        (["--window", "90"], "half the box"),
        (["--threshold", "1.5"], "between 0 and 1"),
        (["--mask", "half2.mrc"], "from 0 to 1"),
    ],
)
def test_mistakes_are_one_line(halves, tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(halves)
    assert dispatch(["localres", "half1.mrc", "half2.mrc", "--out", str(tmp_path / "o"), *words]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.strip().splitlines()) == 1 and not list(tmp_path.iterdir())
