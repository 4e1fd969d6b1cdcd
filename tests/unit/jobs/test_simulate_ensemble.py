"""The job `simulate ensemble`: each image is that of its conformation's map, and the truth says which."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.errors import SettingsProblem, VitreousError
from vitreous.io.bundled import load_bundled
from vitreous.io.ensemble_truth import read_truth
from vitreous.io.mrc import read_volume
from vitreous.io.particles import read_particles
from vitreous.jobs.ensemble_conformations import conformations_of, frame_of
from vitreous.jobs.folder import run_job
from vitreous.jobs.simulate_ensemble import SimulateEnsemble
from vitreous.simulation.images import Projector, simulate_images
from vitreous.simulation.noise import Noise
from vitreous.specimen.atom_selection import selected_atoms
from vitreous.specimen.potential import potential_volume

KINASE = Path("bundled:4ake")
SMALL = {"box": 32, "pixel_size": 3.0, "defocus_um": (0.3, 0.9), "shift": 2.0, "per_micrograph": 20}
HINGE = {"specimen": KINASE, "conformations": 4, "angles": (0.0, 45.0), **SMALL}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("ensemble") / "job"
    run_job(SimulateEnsemble("hinge", **HINGE, count=150, snr=0.08, seed=7), out)
    return out


def test_each_image_is_that_of_its_conformation_with_its_ctf_and_noise(folder):
    truth, particles = read_truth(folder), read_particles(folder / "particles.star")
    assert len(particles) == 150 and len(truth) == 4 and set(truth.index) == {0, 1, 2, 3}
    written = particles.images.read(slice(None))
    for conformation, path in enumerate(truth.maps):
        rows = np.flatnonzero(truth.index == conformation)
        made = simulate_images(Projector(read_volume(path)), particles.rows(rows), Noise(1.0, seed=7))
        # The file keeps nine decimals of degrees and angstroms; the rest is the rounding of float32.
        assert np.abs(np.concatenate(list(made)) - written[rows]).max() < 2e-5 * np.abs(written).max()


def test_a_particle_is_nearer_to_its_own_conformation_than_to_the_others(folder):
    """Without the noise's seed: over all particles the true conformation has the largest likelihood."""
    truth, particles = read_truth(folder), read_particles(folder / "particles.star")
    written = particles.images.read(slice(None))
    model = [np.concatenate(list(simulate_images(Projector(read_volume(path)), particles))) for path in truth.maps]
    squares = np.stack([((written - images) ** 2).sum(axis=(1, 2)) for images in model])
    of_true = squares[truth.index, np.arange(150)].sum()
    for turn in (1, 2, 3):
        assert of_true < squares[(truth.index + turn) % 4, np.arange(150)].sum()


def test_noise_has_variance_one_and_the_ratio_is_that_asked_for(folder):
    variance = read_particles(folder / "particles.star").images.read(slice(None)).var(axis=(1, 2), dtype=np.float64)
    # 153,600 pixels: the variance of the noise to 0.4 %; the signal of 150 views, which differ by 20 to 30 %, to 3 %.
    assert variance.mean() == pytest.approx(1.08, abs=5 * (0.004 + 0.03 * 0.08))


def test_maps_are_the_potentials_of_the_turned_atoms(folder):
    settings = SimulateEnsemble("hinge", **HINGE)
    conformations = conformations_of(settings)
    frame, scale = frame_of(settings, conformations), json.loads((folder / "result.json").read_text())["scale"]
    atoms, moving = load_bundled("4ake"), selected_atoms(load_bundled("4ake"), "A:118-160")
    assert conformations.values.tolist() == [0, 15, 30, 45]
    for number, path in enumerate(read_truth(folder).maps):
        model = conformations.atoms(number)
        assert np.array_equal(model.position[~moving], atoms.position[~moving])
        whole = frame.map(model).data * scale
        volume = read_volume(path)
        assert volume.pixel_size == 3.0 and volume.box == 32
        # Two non-uniform transforms of single precision, of the part that stands still and of that which moves: 4e-5 each.
        assert np.abs(volume.data - whole).max() < 2e-4 * np.abs(whole).max()
    centred = replace(atoms, position=atoms.position - frame.centre)
    first = potential_volume(centred, 32, 3.0, centre=False).data * scale
    assert np.corrcoef(first.ravel(), read_volume(folder / "conformations/001.mrc").data.ravel())[0, 1] > 0.9999


def test_folder_is_complete(folder):
    truth = read_truth(folder)
    mean = sum(p * read_volume(path).data for p, path in zip(truth.populations, truth.maps))
    assert np.allclose(read_volume(folder / "mean_map.mrc").data, mean, atol=1e-5 * np.abs(mean).max())
    unposed = read_particles(folder / "particles_unposed.star")
    assert unposed.pose is None and "vitreousConformation" not in unposed.table
    names = read_particles(folder / "particles.star", load_images=False).table["rlnMicrographName"]
    assert len(set(names)) == 8 and names[19] == "micrographs/00001.mrc" and names[20] == "micrographs/00002.mrc"
    result = json.loads((folder / "result.json").read_text())
    assert result["kind"] == "hinge" and sum(result["particles_of_conformation"]) == 150
    assert 0 < result["extremes_fsc"] < 1 and len(result["hinge"]["axis"]) == 3
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png") >= 2 and page.count("<svg") >= 4 and "10.1016/S0969-2126(96)00018-4" in page


def test_a_longer_set_begins_with_the_shorter_one_and_seeds_decide(folder, tmp_path):
    run_job(SimulateEnsemble("hinge", **HINGE, count=30, snr=0.08, seed=7), tmp_path / "few")
    run_job(SimulateEnsemble("hinge", **HINGE, count=150, snr=0.08, seed=7), tmp_path / "same")
    run_job(SimulateEnsemble("hinge", **HINGE, count=30, snr=0.08, seed=8), tmp_path / "other")
    few, other = (read_particles(tmp_path / f / "particles.star").images.read(slice(None)) for f in ("few", "other"))
    many = read_particles(folder / "particles.star").images.read(slice(0, 30))
    assert np.abs(few - many).max() < 1e-5 and np.abs(other - many).max() > 1
    for name in ("particles.mrcs", "particles.star", "conformations.star", "conformations/003.mrc"):
        assert (folder / name).read_bytes() == (tmp_path / "same" / name).read_bytes()


def test_species_of_a_mixture_hold_their_parts_in_their_shares(tmp_path):
    settings = SimulateEnsemble(
        "mixture", KINASE, species=("*", "*,-A:118-160"), populations=(0.75, 0.25), count=400, noise="none", **SMALL
    )
    run_job(settings, tmp_path / "job")
    truth = read_truth(tmp_path / "job")
    assert truth.kind == "mixture" and truth.values.tolist() == [1, 2] and truth.names == ("*", "*,-A:118-160")
    assert (truth.index == 0).mean() == pytest.approx(0.75, abs=5 * np.sqrt(0.75 * 0.25 / 400))
    whole, part = (read_volume(path).data.sum(dtype=np.float64) for path in truth.maps)
    atoms = load_bundled("4ake")
    # Potential is nearly as much for each atom of a protein: C, N and O differ by a fifth.
    left = (~selected_atoms(atoms, "A:118-160")).mean()
    assert part / whole == pytest.approx(left, abs=0.01)
    images = read_particles(tmp_path / "job" / "particles.star").images.read(slice(None))
    assert images.var(axis=(1, 2)).mean() == pytest.approx(1, rel=0.05)  # without noise the signal has variance 1


def test_a_path_begins_and_ends_with_its_states(tmp_path):
    settings = SimulateEnsemble("path", conformations=3, count=40, **SMALL)
    conformations = conformations_of(settings)
    assert conformations.values.tolist() == [0, 0.5, 1]
    assert np.array_equal(conformations.atoms(0).position, load_bundled("4ake").position)
    run_job(settings, tmp_path / "job")
    result = json.loads((tmp_path / "job" / "result.json").read_text())
    assert result["domains"][0]["turn_deg"] < 1 and result["way_angstrom"] == pytest.approx(7.8, abs=0.5)
    assert read_truth(tmp_path / "job").kind == "path"


def test_the_box_holds_every_conformation_and_the_ctf():
    """Pixel sizes found: nothing reaches over the edge, and the largest defocus is sampled; the job warns of neither."""
    for settings in (SimulateEnsemble("path"), SimulateEnsemble("hinge", KINASE, box=48, defocus_um=(0.3, 0.5))):
        conformations = conformations_of(settings)
        frame = frame_of(settings, conformations)
        for number in range(len(conformations)):
            reach = np.linalg.norm(conformations.atoms(number).position - frame.centre, axis=1).max()
            assert reach < frame.box * frame.pixel_size / 2
        assert settings.box_warnings(frame.box, frame.pixel_size, frame.radius) == []


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("hinge", {"angles": (30.0, 30.0)}, "two different angles"),
        ("hinge", {"angles": (0.0, 400.0)}, "less than a turn"),
        ("hinge", {"conformations": 1}, "at least 2"),
        ("hinge", {"snr": 0.0}, "--snr 0.0; expected a positive number"),
        ("hinge", {"axis": (0.0, 0.0, 1.0)}, "--axis without --point"),
        ("hinge", {"species": ("*", "A")}, "--species for a hinge"),
        ("hinge", {"noise": "none", "snr": 0.1}, "one of the two"),
        ("hinge", {"poses": Path("p.star"), "view_concentration": 2.0}, "one source of orientations"),
        ("path", {"fractions": (0.5, 0.5)}, "two different numbers from 0 to 1"),
        ("path", {"angles": (0.0, 1.0)}, "--angles for a path"),
        ("mixture", {"populations": (0.5, 0.5)}, "2 populations for 3 species"),
        ("mixture", {"species": ("*", "A"), "populations": (0.5, 0.6)}, "add up to 1.1"),
        ("mixture", {"species": ("*", "A"), "populations": (1.0, 0.0)}, "between 0 and 1"),
        ("mixture", {"species": ("*",)}, "at least two"),
        ("mixture", {"conformations": 5}, "--conformations for a mixture"),
    ],
)
def test_settings_that_cannot_be_are_refused(kind, changes, message):
    with pytest.raises(SettingsProblem, match=message) as caught:
        SimulateEnsemble(kind, **changes)
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("hinge", {"moving": "Q"}, "no chain Q; expected of the chains A"),
        ("hinge", {"moving": "A"}, "the whole model"),
        ("hinge", {"pixel_size": 1.0}, "a box of 32 A .* conformations .* A across; expected a pixel size of at least"),
        ("mixture", {"species": ("*", "A")}, "which are one"),
        ("path", {"end": Path("bundled:6zu5")}, "the same chains"),
        ("path", {"end": Path("bundled:nothing")}, "no bundled model"),
        ("hinge", {"specimen": Path("model.pdb")}, "no part of model.pdb that turns|does not exist"),
        ("hinge", {"specimen": Path("map.mrc")}, "an atomic model, whose atoms can move"),
    ],
)
def test_what_the_model_cannot_do_is_refused_and_nothing_is_left(kind, changes, message, tmp_path):
    common = {"specimen": KINASE, **SMALL, "count": 5} | ({} if kind == "mixture" else {"conformations": 3})
    with pytest.raises(VitreousError, match=message) as caught:
        run_job(SimulateEnsemble(kind, **{**common, **changes}), tmp_path / "job")
    assert "\n" not in caught.value.line() and not any(tmp_path.iterdir())


def test_the_command_says_what_it_made(tmp_path, capsys):
    words = "simulate ensemble hinge bundled:4ake --conformations 3 --count 12 --box 24 --pixel-size 4 --angles 0 30 --axis 0 0 1 --point 0 10 14"
    assert dispatch([*words.split(), "--json", "--out", str(tmp_path / "out")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (
        result["conformations"] == 3
        and result["hinge"]["axis"] == [0, 0, 1]
        and result["hinge"]["point"] == [0, 10, 14]
    )
    assert dispatch([*words.split(), "--snr", "-1", "--out", str(tmp_path / "bad")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "bad").exists()
