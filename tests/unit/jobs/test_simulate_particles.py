"""The job `simulate particles`: what it writes is what it says, and a reconstruction finds the truth again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem, SettingsProblem, VitreousError
from vitreous.fourier.shells import shell_sum
from vitreous.fourier.transforms import forward
from vitreous.geometry.symmetry import point_group
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import write_volume
from vitreous.io.particles import read_particles
from vitreous.jobs.folder import run_job
from vitreous.jobs.simulate_particles import SimulateParticles
from vitreous.jobs.specimen import Specimen, fitting_box
from vitreous.model.volume import Volume
from vitreous.reconstruction.direct_inversion import InversionSettings, reconstruct
from vitreous.reconstruction.fsc import fourier_shell_correlation
from vitreous.simulation.images import Projector, simulate_images
from vitreous.simulation.noise import Noise

KINASE = Path("bundled:4ake")
SMALL = {"box": 40, "pixel_size": 2.4, "defocus_um": (0.3, 0.9)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated") / "job"
    run_job(SimulateParticles(KINASE, count=80, snr=0.2, seed=7, shift=2.0, **SMALL), out)
    return out


def test_star_file_is_the_truth_that_was_used(folder):
    particles = read_particles(folder / "particles.star")
    truth = read_volume(folder / "truth_map.mrc")
    assert len(particles) == 80 and particles.pixel_size == 2.4 and truth.box == 40
    assert particles.contrast is Contrast.INVERTED and particles.ctf_state is CtfState.RAW
    assert sorted(np.bincount(particles.half_set)[1:]) == [40, 40]
    again = np.concatenate(list(simulate_images(Projector(truth), particles, Noise(1.0, seed=7))))
    written = particles.images.read(slice(None))
    # The file keeps nine decimals of degrees and angstroms; the rest is the rounding of float32.
    assert np.abs(again - written).max() < 2e-5 * np.abs(written).max()


def test_images_have_noise_of_variance_one_and_the_asked_ratio(folder):
    variance = (
        read_particles(folder / "particles.star").images.read(slice(None)).var(axis=(1, 2), dtype=np.float64).mean()
    )
    # 128,000 pixels: relative standard error of the variance 0.4 %; signal of 80 views, which differ by 20 %, known to
    # 3 % of 0.2.
    assert variance == pytest.approx(1.2, abs=5 * (0.004 * 1.2 + 0.03 * 0.2 / np.sqrt(2)))


def test_unposed_file_holds_the_same_without_poses(folder):
    posed, unposed = (read_particles(folder / name) for name in ("particles.star", "particles_unposed.star"))
    assert unposed.pose is None and "rlnOriginXAngst" not in unposed.table
    assert np.array_equal(posed.ctf.defocus_u, unposed.ctf.defocus_u) and np.array_equal(
        posed.half_set, unposed.half_set
    )


def test_folder_is_complete(folder):
    assert {"settings.yaml", "result.json", "provenance.json", "report.html", "particles.mrcs"} <= {
        p.name for p in folder.iterdir()
    }
    result = json.loads((folder / "result.json").read_text())
    assert result["particles"] == 80 and result["snr"] == 0.2 and "10.1016/S0969-2126(96)00018-4" in result["specimen"]
    page = (folder / "report.html").read_text()
    assert "particles_unposed.star" in page and page.count("<svg") >= 2 and page.count("data:image/png") >= 2


def test_a_longer_set_begins_with_the_shorter_one(folder, tmp_path):
    run_job(SimulateParticles(KINASE, count=30, snr=0.2, seed=7, shift=2.0, **SMALL), tmp_path / "few")
    few, many = (read_particles(f / "particles.star") for f in (tmp_path / "few", folder))
    assert np.array_equal(few.pose.euler, many.pose.euler[:30])
    # Equal to rounding: the last chunk of the short set is filled up with other particles.
    assert np.abs(few.images.read(slice(None)) - many.images.read(slice(0, 30))).max() < 1e-5


def test_orientations_of_a_file_are_used(folder, tmp_path):
    run_job(SimulateParticles(KINASE, count=100, seed=8, poses=folder / "particles.star", **SMALL), tmp_path / "again")
    new, old = (read_particles(f / "particles.star") for f in (tmp_path / "again", folder))
    assert np.allclose(new.pose.euler, old.pose.euler[np.arange(100) % 80], atol=1e-9)
    with pytest.raises(DataProblem, match="no orientations"):
        run_job(SimulateParticles(KINASE, poses=folder / "particles_unposed.star", **SMALL), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("contrast", ["inverted", "raw"])
@pytest.mark.parametrize("state", ["raw", "phase_flipped", "premultiplied"])
def test_reconstruction_of_noiseless_images_recovers_the_truth(tmp_path, state, contrast):
    """Known poses, no noise: the map agrees with the truth to near Nyquist, on its scale and with its sign."""
    settings = SimulateParticles(
        KINASE, count=500, noise="none", shift=2.0, ctf_state=state, contrast=contrast, **SMALL
    )
    run_job(settings, tmp_path / "job")
    particles, truth = (
        read_particles(tmp_path / "job" / "particles.star"),
        read_volume(tmp_path / "job" / "truth_map.mrc"),
    )
    assert particles.ctf_state.value == state
    result = reconstruct(particles, InversionSettings(point_group("C1").operators, contrast=Contrast(contrast)))
    curve = fourier_shell_correlation(result.map, truth.data, truth.pixel_size).correlation
    # What is missing is the interpolation's error, 1 to 2 % in amplitude, so 1 - FSC below 1e-3 in most shells. Shells
    # beyond 90 % of Nyquist hold the edge of the slices.
    assert curve[: int(0.9 * 20)].min() > 0.99
    found, true = forward(result.map, 3), forward(truth.data, 3)
    gain = shell_sum((found * true.conj()).real, truth.data.shape) / shell_sum(np.abs(true) ** 2, truth.data.shape)
    # The same error, and the Wiener filter that takes it for noise, lower the amplitudes by a few percent. Shell 0 is
    # one voxel, where the transform has its peak and insertion averages over the slope: it has no say.
    assert np.abs(gain[1 : int(0.9 * 20)] - 1).max() < 0.05


def test_map_is_taken_on_its_own_grid_and_cropped_on_request(tmp_path):
    rng = np.random.default_rng(0)
    from vitreous.fourier.filters import apply_filter, gaussian_low_pass
    from vitreous.fourier.transforms import radial_frequency

    smooth = apply_filter(
        rng.standard_normal((36, 36, 36)), gaussian_low_pass(radial_frequency((36,) * 3, 2.0), 0.05), 3
    ).astype(np.float32)
    write_volume(tmp_path / "map.mrc", Volume(smooth, 2.0))
    whole, radius = Specimen(tmp_path / "map.mrc").volume()
    assert whole.box == 36 and whole.pixel_size == 2.0 and np.array_equal(whole.data, smooth) and radius is None
    cropped, _ = Specimen(tmp_path / "map.mrc", box=24).volume()
    assert cropped.box == 24 and cropped.pixel_size == pytest.approx(3.0)
    blurred, _ = Specimen(tmp_path / "map.mrc", b_factor=200.0).volume()
    assert blurred.data.std() < 0.9 * smooth.std()
    renamed, _ = Specimen(tmp_path / "map.mrc", pixel_size=1.5).volume()
    assert renamed.pixel_size == 1.5
    with pytest.raises(SettingsProblem, match="--box 48"):
        Specimen(tmp_path / "map.mrc", box=48).volume()


def test_model_is_centred_in_a_box_that_holds_it():
    volume, radius = Specimen(KINASE, pixel_size=2.0).volume()
    assert volume.box % 2 == 0 and volume.box * 2.0 >= 3 * radius
    axis = (np.arange(volume.box) - volume.box // 2) * 2.0
    mass = volume.data / volume.data.sum()
    centre = [
        np.sum(mass * axis[shape]) for shape in (np.s_[None, None, :], np.s_[None, :, None], np.s_[:, None, None])
    ]
    assert np.abs(centre).max() < 0.5  # centre of potential and centre of mass differ by little


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"count": 0}, "--count 0"),
        ({"snr": 0.0}, "--snr 0"),
        ({"snr": float("nan")}, "--snr nan"),
        ({"pixel_size": -1.0}, "--pixel-size"),
        ({"box": 0}, "--box 0"),
        ({"voltage_kv": 0.0}, "--voltage-kv"),
        ({"shift": -1.0}, "--shift"),
        ({"defocus_um": (2.0, 1.0)}, "--defocus-um"),
        ({"defocus_um": (float("nan"), 1.0)}, "--defocus-um"),
        ({"amplitude_contrast": 1.5}, "--amplitude-contrast"),
        ({"seed": -1}, "--seed"),
        ({"b_factor": float("inf")}, "--b-factor"),
    ],
)
def test_impossible_options_are_refused_at_once(options, said):
    with pytest.raises(SettingsProblem, match=said) as error:
        SimulateParticles(KINASE, **options)
    assert "\n" not in error.value.line()


@pytest.mark.parametrize(
    ("specimen", "options", "said"),
    [
        ("bundled:4ake", {}, "give --pixel-size"),
        ("bundled:4ake", {"pixel_size": 2.0, "box": 16}, "at least .* px"),
        ("bundled:9xyz", {"pixel_size": 2.0}, "one of 6zu5"),
        ("model.txt", {}, "neither a model nor a map"),
        ("absent.cif", {"pixel_size": 2.0}, "does not exist"),
        ("absent.mrc", {}, "does not exist"),
    ],
)
def test_bad_specimens_give_one_line_and_leave_nothing(tmp_path, monkeypatch, specimen, options, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VitreousError, match=said) as error:
        run_job(SimulateParticles(Path(specimen), **options), tmp_path / "job")
    assert "\n" not in error.value.line() and not list(tmp_path.iterdir())


def test_maps_that_cannot_be_used_are_refused(tmp_path):
    data = np.zeros((16, 16, 16), np.float32)
    write_volume(tmp_path / "empty.mrc", Volume(data, 2.0))
    with pytest.raises(DataProblem, match="without any signal"):
        run_job(SimulateParticles(tmp_path / "empty.mrc"), tmp_path / "job")
    data[3, 3, 3] = np.nan
    write_volume(tmp_path / "nan.mrc", Volume(data, 2.0))
    with pytest.raises(DataProblem, match="not finite"):
        Specimen(tmp_path / "nan.mrc").volume()


def test_aliased_defocus_and_tight_boxes_are_warned_of():
    volume = Volume(np.zeros((40, 40, 40), np.float32), 2.4)
    # N p^2 / lambda = 40 * 2.4^2 / 0.0196875 = 11,703 A
    assert not SimulateParticles(KINASE, defocus_um=(0.3, 1.17)).warnings(volume, None)
    assert "1.17 µm" in SimulateParticles(KINASE, defocus_um=(0.3, 1.18)).warnings(volume, None)[0]
    # The box reaches 48 A from its centre.
    assert not SimulateParticles(KINASE, shift=3.0, defocus_um=(0.3, 0.9)).warnings(volume, 38.0)
    assert "other side" in SimulateParticles(KINASE, shift=3.0, defocus_um=(0.3, 0.9)).warnings(volume, 40.0)[0]


def test_kind_of_specimen_is_told_by_its_name():
    kinds = {
        "bundled:6zu5": "bundled",
        "a.cif": "model",
        "a.CIF.gz": "model",
        "a.b.pdb": "model",
        "run.1.mrc": "map",
        "a.map.gz": "map",
        "a.mrc.bz2": "map",
    }
    assert {name: Specimen(Path(name)).kind for name in kinds} == kinds


def test_fitting_box_is_even_and_factors_small():
    assert [fitting_box(n) for n in (63.2, 64, 97, 119.5)] == [64, 64, 100, 120]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_particles(tmp_path):
    """Peak of what Python allocates: 16 times as many images need no more, but for the table of their poses."""
    import tracemalloc

    def peak(count: int) -> int:
        tracemalloc.start()
        run_job(SimulateParticles(KINASE, count=count, **SMALL), tmp_path / str(count))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(100)  # imports and compiled programs
    few, many = peak(500), peak(8000)
    assert (
        many - few < 7500 * 1600
    )  # bytes: a quarter of an image (6400 bytes) for each more particle, its row of text included
