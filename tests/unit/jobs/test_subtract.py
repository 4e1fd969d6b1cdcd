"""The job `subtract`: stacks and a STAR file to go on from, halves apart, recentred boxes, resuming, and mistakes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.errors import SettingsProblem
from vitreous.geometry.symmetry import point_group
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import MrcStack, write_stack, write_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.expand import Expand
from vitreous.jobs.folder import run_job
from vitreous.jobs.reconstruct import Reconstruct
from vitreous.jobs.subtract import Subtract, low_passed, weighted_by_fsc
from vitreous.jobs.subtract_stacks import ORIGINAL, SCALE
from vitreous.model.optics import OpticsGroup
from vitreous.model.volume import Volume
from vitreous.reconstruction.mask import soft_edge
from vitreous.simulation.images import Projector, simulate_images
from vitreous.simulation.particles import ParticleDistribution, draw_particles

BOX, PIXEL, COUNT = 32, 4.0, 400
CONTRAST = (0.6, 1.0, 1.5, 0.9)  # of the micrographs


def density(centres) -> np.ndarray:
    z, y, x = np.meshgrid(*[np.arange(BOX) - BOX // 2] * 3, indexing="ij")
    blobs = [np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / (2 * 1.4**2)) for a, b, c in centres]
    return np.sum(blobs, axis=0).astype(np.float32)


KEPT = density([(-6, 1, 2), (-5, -3, 0), (-6, 0, -3)])
REMOVED = density([(5, 3, 2), (6, -3, 0), (4, 0, 5), (6, 1, -4)])
X = np.meshgrid(*[np.arange(BOX) - BOX // 2] * 3, indexing="ij")[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of two parts in four micrographs of different contrast, SNR about 1/3; the map, noisy half maps, the mask of a part."""
    folder = tmp_path_factory.mktemp("subtract")
    optics = OpticsGroup(
        pixel_size=PIXEL,
        box=BOX,
        voltage=300e3,
        spherical_aberration=2.7e7,
        amplitude_contrast=0.1,
        beam_tilt=(1e-3, 0.0),
    )
    particles = draw_particles(ParticleDistribution(optics, (8e3, 1.6e4), astigmatism=500.0, shift=3.0, seed=2), COUNT)
    whole = Projector(Volume(KEPT + REMOVED, PIXEL))
    micrograph = np.arange(COUNT) * len(CONTRAST) // COUNT
    clean = np.concatenate(list(simulate_images(whole, particles)))
    noise = np.random.default_rng(1).normal(0, 1.7 * clean.std(), clean.shape)
    images = clean * np.array(CONTRAST)[micrograph][:, None, None] + noise
    write_stack(folder / "p.mrcs", images.astype(np.float32), PIXEL)
    columns = {
        "rlnMicrographName": np.array([f"mic{number}.mrc" for number in micrograph], dtype=object),
        "somethingElse": np.arange(COUNT) % 7,
    }
    names = replace(particles.names, paths=("p.mrcs",), path_code=np.zeros(COUNT, np.int32), index=np.arange(COUNT))
    write_particles(
        folder / "particles.star", replace(particles, names=names, table=particles.table.with_columns(columns))
    )
    write_volume(folder / "map.mrc", Volume(KEPT + REMOVED, PIXEL))
    rng = np.random.default_rng(3)
    for half in (1, 2):
        noisy = KEPT + REMOVED + rng.normal(0, 0.03, KEPT.shape)
        write_volume(folder / f"half{half}.mrc", Volume(noisy.astype(np.float32), PIXEL))
    write_volume(folder / "part.mrc", Volume(soft_edge(X < -3, 1, 4), PIXEL))
    return folder


@pytest.fixture(scope="module")
def result(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "job"
    halves = (folder / "half1.mrc", folder / "half2.mrc")
    run_job(Subtract(folder / "particles.star", mask=folder / "part.mrc", half_maps=halves), out)
    return out


@pytest.fixture(scope="module")
def one_map(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "job"
    run_job(Subtract(folder / "particles.star", mask=folder / "part.mrc", map=folder / "map.mrc"), out)
    return out


def test_the_file_names_new_images_and_the_old_ones(folder, result):
    before, after = read_particles(folder / "particles.star"), read_particles(result / "particles.star")
    assert len(after) == COUNT and after.contrast == before.contrast
    assert np.array_equal(after.pose.euler, before.pose.euler) and np.array_equal(after.pose.shift, before.pose.shift)
    assert np.array_equal(np.asarray(after.table["somethingElse"]), np.arange(COUNT) % 7)
    assert (np.asarray(after.table["rlnMicrographName"]) == np.asarray(before.table["rlnMicrographName"])).all()
    number, path = after.table[ORIGINAL][7].split("@")
    np.testing.assert_array_equal(MrcStack(path).read(slice(7, 8)), before.images.read(slice(7, 8)))
    assert int(number) == 8
    # the halves lie in stacks of their own
    for half, stack in ((1, "subtracted_0001.mrcs"), (2, "subtracted_0002.mrcs")):
        codes = after.names.path_code[after.half_set == half]
        assert {after.names.paths[code].rsplit("/", 1)[-1] for code in codes} == {stack}


def test_images_are_the_recorded_ones_less_scale_times_projection(folder, one_map):
    before, after = read_particles(folder / "particles.star"), read_particles(one_map / "particles.star")
    keep = read_volume(folder / "part.mrc").data
    removed = np.concatenate(list(simulate_images(Projector(Volume((KEPT + REMOVED) * (1 - keep), PIXEL)), before)))
    scale = np.asarray(after.table[SCALE])[:, None, None]
    difference = after.images.read(slice(None)) - (before.images.read(slice(None)) - scale * removed)
    # single precision, and scales of six decimals
    assert np.abs(difference).max() < 1e-4 * removed.max()
    assert (scale > 0).all() and np.abs(
        after.images.read(slice(None)) - before.images.read(slice(None))
    ).max() > 0.5 * removed.max()


@pytest.mark.parametrize("which", ["result", "one_map"])
def test_micrographs_have_the_contrast_that_they_were_given(which, request):
    out = request.getfixturevalue(which)
    after, said = read_particles(out / "particles.star"), json.loads((out / "result.json").read_text())
    scale = np.asarray(after.table[SCALE]).reshape(len(CONTRAST), -1).mean(axis=1)
    error = said["scale_error"] / np.sqrt(COUNT / len(CONTRAST) / 2)
    # half maps are weighted by their FSC, a percent or two below 1 where there is signal
    np.testing.assert_allclose(scale, CONTRAST, atol=4 * error, rtol=0.03)
    assert abs(said["removed_after"]) < 0.1 and said["removed_before"] == pytest.approx(1.0, abs=0.1)
    assert said["kept_after"] == pytest.approx(1.0, abs=0.15)
    # half maps have a scale for either half of each micrograph
    assert said["groups"] == (2 if which == "result" else 1) * len(CONTRAST)


def test_one_map_is_warned_about_and_half_maps_are_not(result, one_map):
    warnings = [json.loads((each / "result.json").read_text())["warnings"] for each in (result, one_map)]
    assert not any("half sets are no longer independent" in text for text in warnings[0])
    assert any("no longer independent" in text for text in warnings[1])


def test_recentred_images_make_a_map_of_the_part(folder, tmp_path):
    job = Subtract(folder / "particles.star", mask=folder / "part.mrc", map=folder / "map.mrc", recentre=True, box=20)
    outcome = run_job(job, tmp_path / "job")
    assert outcome.as_json()["box"] == 20
    after = read_particles(tmp_path / "job" / "particles.star")
    assert after.images.shape == (COUNT, 20, 20) and after.optics[0].box == 20
    assert np.abs(after.pose.shift).max() <= PIXEL / 2 + 1e-6
    kept = read_volume(tmp_path / "job" / "kept.mrc")
    mask = read_volume(tmp_path / "job" / "mask.mrc")
    assert kept.box == mask.box == 20
    centre = outcome.as_json()["centre_voxel"]
    assert centre[0] < -5  # the mask lies at -x
    assert kept.data[10, 10, 10] == (KEPT + REMOVED)[tuple(BOX // 2 + c for c in centre[::-1])] * mask.data[10, 10, 10]
    run_job(Reconstruct(tmp_path / "job" / "particles.star", diameter=0), tmp_path / "map")
    found = read_volume(tmp_path / "map" / "map.mrc").data
    inside = mask.data > 0.5
    # 400 noisy images: the map is good to some percent of its power; a wrong sign of the shift would leave nothing of the part
    assert np.corrcoef((found * mask.data)[inside], kept.data[inside])[0, 1] > 0.9


def test_a_map_of_the_subtracted_images_shows_one_part_only(folder, one_map, tmp_path):
    for name, particles in (("before", folder / "particles.star"), ("after", one_map / "particles.star")):
        run_job(Reconstruct(particles, diameter=0), tmp_path / name)
    # half maps are not regularised: their density has its size whatever the noise
    before, after = (
        read_volume(tmp_path / name / "half1.mrc").data + read_volume(tmp_path / name / "half2.mrc").data
        for name in ("before", "after")
    )
    kept, removed = KEPT > 0.5, REMOVED > 0.5
    assert abs(after[removed].mean()) < 0.05 * before[removed].mean()
    assert after[kept].mean() == pytest.approx(before[kept].mean(), rel=0.05)
    # the wrong sign would double it
    assert before[removed].mean() > 0.5 * before[kept].mean()


def test_boxes_that_reach_beyond_the_image_are_counted(folder, tmp_path):
    job = Subtract(folder / "particles.star", mask=folder / "part.mrc", map=folder / "map.mrc", recentre=True)
    outcome = run_job(job, tmp_path / "job")
    assert any("reach beyond" in warning and "smaller --box" in warning for warning in outcome.warnings)
    images = read_particles(tmp_path / "job" / "particles.star").images.read(slice(None))
    assert (np.all(images == 0, axis=2).any(axis=1) | np.all(images == 0, axis=1).any(axis=1)).sum() > COUNT / 2


def test_an_interrupted_run_goes_on_to_the_same_result(folder, result, tmp_path, monkeypatch):
    from vitreous.jobs import subtract_stacks

    halves = (folder / "half1.mrc", folder / "half2.mrc")
    job = Subtract(folder / "particles.star", mask=folder / "part.mrc", half_maps=halves)
    write, done = subtract_stacks.write_stack, []

    def broken(*arguments):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        write(*arguments)

    monkeypatch.setattr(subtract_stacks, "write_stack", broken)
    with pytest.raises(KeyboardInterrupt, match="goes on from there"):
        run_job(job, tmp_path / "job")
    monkeypatch.setattr(subtract_stacks, "write_stack", write)
    run_job(job, tmp_path / "job")
    for name in ("stacks/subtracted_0001.mrcs", "stacks/subtracted_0002.mrcs"):
        assert (tmp_path / "job" / name).read_bytes()[1024:] == (result / name).read_bytes()[1024:]
    assert [path.name for path in tmp_path.iterdir()] == ["job"]


def test_expanded_particles_are_subtracted_copy_by_copy(folder, tmp_path):
    few = read_particles(folder / "particles.star").rows(slice(0, 40))
    write_particles(folder / "few.star", few)
    run_job(Expand(folder / "few.star", symmetry="C2"), tmp_path / "expanded")
    job = Subtract(
        tmp_path / "expanded" / "particles.star", mask=folder / "part.mrc", map=folder / "map.mrc", scale="none"
    )
    run_job(job, tmp_path / "job")
    images = read_particles(tmp_path / "job" / "particles.star").images.read(slice(None))
    keep = read_volume(folder / "part.mrc").data
    removed = Projector(Volume((KEPT + REMOVED) * (1 - keep), PIXEL))
    expected = few.images.read(slice(None)) - np.concatenate(list(simulate_images(removed, few)))
    np.testing.assert_allclose(images[::2], expected, atol=1e-4)
    assert np.abs(images[1::2] - expected).max() > 0.1
    assert point_group("C2").order == 2


def test_half_maps_are_weighted_by_their_correlation():
    rng = np.random.default_rng(5)
    halves = [Volume((KEPT + REMOVED + rng.normal(0, 0.05, KEPT.shape)).astype(np.float32), PIXEL) for _ in range(2)]
    first, second = weighted_by_fsc(*halves, 0)
    truth = KEPT + REMOVED
    errors = [np.sqrt(((volume.data - truth) ** 2).mean()) for volume in (halves[0], first)]
    assert errors[1] < 0.6 * errors[0]  # noise beyond the resolution is gone
    assert abs((first.data * truth).sum() / (truth**2).sum() - 1) < 0.05  # the signal is not
    assert not np.array_equal(first.data, second.data)
    smooth = low_passed(Volume(truth, PIXEL), 20.0)
    assert np.abs(smooth.data - truth).max() > 0 and low_passed(smooth, None) is smooth


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"map": "m", "half_maps": ("a", "b")},
        {"map": "m", "box": 32},
        {"map": "m", "recentre": True, "box": 4},
        {"half_maps": ("a", "b"), "resolution": 9.0},
        {"map": "m", "resolution": -1.0},
    ],
)
def test_settings_that_cannot_work_are_refused(options):
    with pytest.raises(SettingsProblem):
        Subtract("p.star", mask="k.mrc", **options)


def test_mistakes_are_one_line(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    particles = read_particles("particles.star")
    write_volume(tmp_path / "ones.mrc", Volume(np.ones((BOX,) * 3, np.float32), PIXEL))
    write_volume(tmp_path / "small.mrc", Volume(np.ones((16,) * 3, np.float32), PIXEL))
    for name, changed in (
        ("unposed", replace(particles, pose=None)),
        ("noctf", replace(particles, ctf=None)),
        ("nohalf", replace(particles, half_set=None)),
    ):
        write_particles(f"{name}.star", changed)
    part, one = ["--mask", "part.mrc"], ["--map", "map.mrc"]
    for words, said in (
        (["particles.star", *one, "--mask", str(tmp_path / "ones.mrc")], "nothing is left"),
        (["particles.star", *one, "--mask", str(tmp_path / "small.mrc")], "32"),
        (["particles.star", "--map", str(tmp_path / "small.mrc"), *part], "16 voxels"),
        (["particles.star", *one, "--mask", "map.mrc"], "from 0 to 1"),
        (["unposed.star", *one, *part], "orientations"),
        (["noctf.star", *one, *part], "defocus"),
        (["nohalf.star", "--half-maps", "half1.mrc", "half2.mrc", *part], "half sets"),
        (["particles.star", *one], "--mask"),
        (["particles.star", *one, *part, "--pixel-size", "-2"], "positive"),
    ):
        code = dispatch(["subtract", *words, "--out", str(tmp_path / "o")])
        err = capsys.readouterr().err
        assert code == 2 and said in err and len(err.strip().splitlines()) == 1, (words, err)
        assert not (tmp_path / "o").exists()
