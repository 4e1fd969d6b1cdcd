"""cryoDRGN's files on the command line, and folders of its runs."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.conventions import Contrast
from vitreous.errors import DataProblem, FileProblem, FormatProblem, SettingsProblem
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.heterogeneity.decoder import decoded_volume
from vitreous.heterogeneity.latents import Latents
from vitreous.heterogeneity.subspace_decoder import SubspaceDecoder
from vitreous.io.cryodrgn import read_ctf, read_latents, read_poses
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import write_stack
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.cryodrgn_run import read_run
from vitreous.jobs.folder import FINISHED
from vitreous.jobs.landscape_folder import write_landscape

RUN = Path(__file__).resolve().parents[2] / "agreement" / "cryodrgn"


@pytest.fixture
def folder(blob_files, tmp_path, monkeypatch) -> Path:
    """The particles, images and truth of `blob_files`, in the working folder."""
    for name in ("p.mrcs", "particles.star", "map.mrc"):
        (tmp_path / name).symlink_to(blob_files / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words, capsys) -> tuple[int, str, str]:
    code = dispatch(["convert", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_star_file_to_cryodrgn_and_back(folder, capsys):
    code, out, _ = run("particles.star", "drgn", "--to", "cryodrgn", capsys=capsys)
    assert code == 0
    assert "cryodrgn train_vae particles.star --poses drgn/poses.pkl --ctf drgn/ctf.pkl" in out
    code, out, err = run("p.mrcs", "back.star", "--poses", "drgn/poses.pkl", "--ctf", "drgn/ctf.pkl", capsys=capsys)
    assert code == 0 and "900" in out and not err
    given, back = read_particles("particles.star"), read_particles("back.star")
    np.testing.assert_allclose(matrix_from_euler(back.pose.euler), matrix_from_euler(given.pose.euler), atol=1e-7)
    np.testing.assert_allclose(back.pose.shift, given.pose.shift, atol=1e-8)  # as many decimals as STAR files get
    np.testing.assert_allclose(back.ctf.defocus_u, given.ctf.defocus_u, rtol=1e-7)
    np.testing.assert_array_equal(back.images.read(slice(0, 900, 100)), given.images.read(slice(0, 900, 100)))
    assert back.pixel_size == given.pixel_size and back.optics[0].voltage == given.optics[0].voltage


def test_new_poses_for_a_particle_file(folder, capsys, rng):
    """As pose refinement in cryoDRGN leaves them: all else stays."""
    given = read_particles("particles.star", load_images=False)
    order = rng.permutation(len(given))
    turned = matrix_from_euler(given.pose.euler)[order]
    with open("poses.pkl", "wb") as stream:
        pickle.dump((turned.astype(np.float32), np.full((len(given), 2), 0.125, dtype=np.float32)), stream)
    assert run("particles.star", "new.star", "--poses", "poses.pkl", capsys=capsys)[0] == 0
    new = read_particles("new.star", load_images=False)
    np.testing.assert_allclose(matrix_from_euler(new.pose.euler), turned, atol=1e-5)
    np.testing.assert_allclose(new.pose.shift, 0.125 * 32 * given.pixel_size)
    np.testing.assert_array_equal(new.ctf.defocus_u, given.ctf.defocus_u)
    np.testing.assert_array_equal(new.half_set, given.half_set)


def test_a_landscape_goes_with_its_latents(folder, capsys, rng):
    particles = read_particles("particles.star").rows(slice(0, 50))
    mean, variance = rng.normal(size=(50, 2)).astype(np.float32), rng.uniform(0.1, 1, (50, 2))
    latents = Latents(mean, (variance[:, :, None] * np.eye(2)).astype(np.float32))
    decoder = SubspaceDecoder(np.zeros((3, 32, 32, 32), dtype=np.float32), 4.0, 16.0)
    Path("landscape").mkdir()
    write_landscape(Path("landscape"), particles, latents, decoder, source=Path("particles.star"))
    Path("landscape", FINISHED).write_text("{}")
    assert run("landscape", "drgn", "--to", "cryodrgn", capsys=capsys)[0] == 0
    read, spread = read_latents("drgn/z.pkl")
    np.testing.assert_array_equal(read, mean)
    np.testing.assert_allclose(spread, variance, rtol=1e-5)
    assert len(read_poses("drgn/poses.pkl")[0]) == len(read_ctf("drgn/ctf.pkl")) == 50


def test_what_is_lost_and_what_the_sign_means_is_said(folder, capsys):
    given = read_particles("particles.star", load_images=False)
    odd = (replace(given.optics[0], beam_tilt=(0.1, 0.0)),)
    ctf = replace(given.ctf, b_factor=np.full(len(given), 50.0))
    write_particles("odd.star", replace(given, optics=odd, ctf=ctf, contrast=Contrast.RAW))
    _, out, err = run("odd.star", "odd", "--to", "cryodrgn", capsys=capsys)
    assert "--uninvert-data" in out and "no place for B factors, beam tilt" in err
    write_particles("unknown.star", replace(given, contrast=Contrast.UNKNOWN))
    _, out, err = run("unknown.star", "unknown", "--to", "cryodrgn", capsys=capsys)
    assert "--uninvert-data" not in out and "contrast is unknown" in err
    write_particles("white.star", replace(given, contrast=Contrast.INVERTED))
    _, out, err = run("white.star", "white", "--to", "cryodrgn", capsys=capsys)
    assert "--uninvert-data" not in out and not err


def test_absent_phase_shifts_are_said(folder, capsys):
    run("particles.star", "drgn", "--to", "cryodrgn", capsys=capsys)
    values = read_ctf("drgn/ctf.pkl").values
    values[:, 8] = np.nan
    with open("ctf.pkl", "wb") as stream:
        pickle.dump(values.astype(np.float32), stream)
    code, _, err = run("p.mrcs", "back.star", "--ctf", "ctf.pkl", capsys=capsys)
    assert code == 0 and "900 of 900 particles have no phase shift" in err
    assert (read_particles("back.star", load_images=False).ctf.phase_shift == 0).all()


def test_the_map_of_a_run(folder, capsys):
    code, out, _ = run(RUN, "decoded.mrc", "--latent", "0.3", "-0.7", "--json", capsys=capsys)
    assert code == 0 and json.loads(out)["pixel_size_angstrom"] == 4.0
    volume, decoder = read_volume("decoded.mrc"), read_run(RUN).decoder
    np.testing.assert_array_equal(volume.data, decoded_volume(decoder, np.array([0.3, -0.7])).data)
    assert run(RUN, "larger.mrc", "--latent", "0.3", "-0.7", "--box", "48", capsys=capsys)[0] == 0
    assert read_volume("larger.mrc").data.shape == (48, 48, 48)


MISTAKES = {
    "a folder with tables": (["particles.star", "drgn", "--to", "cryodrgn"], "drgn/poses.pkl exists"),
    "a number too few": ([RUN, "m.mrc", "--latent", "1"], "a latent of 1 numbers"),
    "no latent": ([RUN, "m.mrc"], "give --latent"),
    "a folder that is no run": (["drgn", "m.mrc", "--latent", "1"], "config.yaml does not exist"),
    "a folder that is no landscape": (["drgn", "new", "--to", "cryodrgn"], "no trained landscape"),
    "a latent of a file": (["map.mrc", "m.mrc", "--latent", "1"], "--latent or --box for a file"),
    "tables of a map": (["map.mrc", "m.mrc", "--poses", "drgn/poses.pkl"], "a particle file"),
    "the other table": (["p.mrcs", "n.star", "--poses", "drgn/ctf.pkl"], "drgn/ctf.pkl"),
    "images of another set": (["few.mrcs", "n.star", "--ctf", "drgn/ctf.pkl"], "900 rows and there are 3 images"),
    "no pixel size": (["few.mrcs", "n.star", "--poses", "drgn/poses.pkl"], "pixel size"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line_and_nothing_is_written(folder, capsys, mistake):
    assert run("particles.star", "drgn", "--to", "cryodrgn", capsys=capsys)[0] == 0
    write_stack("few.mrcs", np.zeros((3, 32, 32), dtype=np.float32), 1.0)
    with open("few.mrcs", "r+b") as stream:  # a header that gives no pixel size
        stream.seek(40)
        stream.write(bytes(12))
    before = sorted(path.name for path in folder.iterdir())
    words, said = MISTAKES[mistake]
    code, _, err = run(*words, capsys=capsys)
    assert code == 2 and said in err and err.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == before


# --- folders of runs --------------------------------------------------------------------------------------------------


@pytest.fixture
def going(tmp_path) -> Path:
    """A run that has not ended: epochs 9 and 10."""
    place = tmp_path / "run"
    place.mkdir()
    for name in ("config.yaml", "ctf.pkl"):
        shutil.copyfile(RUN / name, place / name)
    for epoch in (9, 10):
        for name in ("weights", "z"):
            shutil.copyfile(RUN / f"{name}.pkl", place / f"{name}.{epoch}.pkl")
    return place


def test_the_last_epoch_of_a_run_that_goes_on(going):
    assert [path.name for path in read_run(going).files[1:]] == ["weights.10.pkl", "z.10.pkl"]
    assert [path.name for path in read_run(going, epoch=9).files[1:]] == ["weights.9.pkl", "z.9.pkl"]
    with pytest.raises(FileProblem, match=r"weights\.3\.pkl"):
        read_run(going, epoch=3)


def test_the_pixel_size_is_in_the_ctf_table_or_given(going):
    assert read_run(going).decoder.pixel_size == 4.0
    (going / "ctf.pkl").unlink()
    with pytest.raises(SettingsProblem, match="--pixel-size"):
        read_run(going)
    assert read_run(going, pixel_size=2.5).decoder.pixel_size == 2.5


def test_damaged_runs_are_refused(going):
    text = (going / "config.yaml").read_text()
    for wrong, problem in (
        ("- a", FormatProblem),
        ("a: [", FormatProblem),
        ("a: !!python/object/apply:os.getcwd []", FormatProblem),
        ("a: 1", DataProblem),
        (text.replace("norm:\n  - 0.0", "norm:"), DataProblem),
        (text.replace("extent: 0.5", "extent: 0.25"), DataProblem),
        (text.replace("D: 33", "D: 32"), DataProblem),
    ):
        (going / "config.yaml").write_text(wrong)
        with pytest.raises(problem):
            read_run(going, pixel_size=4.0)
    (going / "config.yaml").write_text(text)
    with open(going / "z.10.pkl", "wb") as stream:
        pickle.dump(np.zeros((4, 3)), stream)
    with pytest.raises(DataProblem, match="latents of 3 numbers"):
        read_run(going)
    (going / "weights.9.pkl").unlink()
    (going / "weights.10.pkl").unlink()
    with pytest.raises(FileProblem, match="no weights"):
        read_run(going)
