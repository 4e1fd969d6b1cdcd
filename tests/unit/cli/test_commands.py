"""The command line: every example runs, every result is the job's, every mistake is one line and exit code 2."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import numpy as np
import pytest

from vitreous.cli import COMMANDS, dispatch, find, overview
from vitreous.io.micrograph_star import write_micrographs
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import write_stack, write_volume
from vitreous.io.particles import read_particles
from vitreous.io.star import write_star
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.table import Table
from vitreous.model.volume import Volume


@pytest.fixture
def folder(blob_files, ring_micrograph, landscape_folder, tmp_path, monkeypatch):
    """A working folder with particles.star, map.mrc, two half maps, a mask of one part, a micrograph and micrographs.star with its image, and the folder
    of a trained landscape, in which the examples run."""
    (tmp_path / "trained").symlink_to(landscape_folder)
    for name in ("p.mrcs", "particles.star", "map.mrc"):
        (tmp_path / name).symlink_to(blob_files / name)
    truth = read_volume(blob_files / "map.mrc")
    rng = np.random.default_rng(0)
    for half in (1, 2):
        noisy = truth.data + rng.normal(0, 0.05, truth.data.shape)
        write_volume(tmp_path / f"half{half}.mrc", Volume(noisy.astype(np.float32), truth.pixel_size))
    part = np.broadcast_to(np.arange(truth.box) < truth.box // 2, truth.data.shape)
    write_volume(tmp_path / "part.mrc", Volume(part.astype(np.float32), truth.pixel_size))
    write_stack(tmp_path / "micrograph.mrc", rng.normal(100, 10, (1, 96, 80)).astype(np.float32), 2.0)
    write_stack(tmp_path / "rings.mrc", ring_micrograph()[None], 2.0)
    optics = OpticsGroup(pixel_size=2.0, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
    write_micrographs(tmp_path / "micrographs.star", optics, ["rings.mrc"], CtfParameters.of(15000.0, 14000.0, 0.6))
    names = np.array(["rings.mrc"] * 3, dtype=object)
    picks = {"rlnMicrographName": names, "rlnCoordinateX": [60.0, 160.4, 200.0], "rlnCoordinateY": [80.0, 100.0, 250.5]}
    write_star(
        tmp_path / "picks.star", {"particles": Table({name: np.asarray(column) for name, column in picks.items()})}
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, capsys) -> tuple[int, str, str]:
    code = dispatch([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


LONG = {
    "demo",
    "simulate particles",
    "simulate micrograph",
    "classify2d",
    "select",
    "refine",
    "landscape analyze",
    "landscape score",
}  # these examples have tests of their own


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if " ".join(c.words) not in LONG], ids=lambda c: "-".join(c.words)
)
def test_the_example_of_each_command_runs(command, folder, capsys):
    words = shlex.split(command.example)
    assert words[0] == "vitreous" and find(words[1:]) is command
    code, out, _ = run(*words[1:], capsys=capsys)
    assert code == 0
    assert out.strip()


@pytest.mark.slow
def test_the_simulation_example_runs(folder, capsys):
    command = next(c for c in COMMANDS if c.words == ("simulate", "particles"))
    words = shlex.split(command.example)[1:]
    words[words.index("model.cif")] = "bundled:4ake"
    code, _, _ = run(*words, "--count", "20", capsys=capsys)
    assert code == 0 and (folder / "simulated" / "particles.star").is_file()


@pytest.mark.slow
def test_the_example_of_micrographs_runs(folder, capsys):
    command = next(c for c in COMMANDS if c.words == ("simulate", "micrograph"))
    words = shlex.split(command.example)[1:]
    words[words.index("model.cif")] = "bundled:4ake"
    code, out, _ = run(*words, capsys=capsys)
    assert code == 0 and "particles" in out and (folder / "micrographs" / "coordinates.star").is_file()


@pytest.mark.slow
def test_the_examples_of_classification_run_one_after_the_other(folder, capsys):
    for name, more in (("classify2d", ("--iterations", "3")), ("select", ())):
        command = next(c for c in COMMANDS if c.words == (name,))
        code, out, _ = run(*shlex.split(command.example)[1:], *more, capsys=capsys)
        assert code == 0 and "particles" in out
    whole, kept = (read_particles(folder / name / "particles.star") for name in ("classes", "selected"))
    assert len(whole) == 900 and 0 < len(kept) <= 900
    assert kept.images is not None  # the names still lead to the images


@pytest.mark.slow
def test_the_refinement_example_runs(folder, capsys):
    command = next(c for c in COMMANDS if c.words == ("refine",))
    words = shlex.split(command.example)[1:]
    code, out, _ = run(*words, "--order", "1", "--iterations", "2", capsys=capsys)
    assert code == 0 and "held-out evidence" in out and (folder / "refined" / "half2.mrc").is_file()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: "-".join(c.words))
def test_each_command_explains_itself(command, capsys):
    code, out, _ = run(*command.words, "--help", capsys=capsys)
    assert code == 0
    assert command.summary.split(",")[0] in " ".join(out.split())
    assert command.example in " ".join(out.split())


def test_the_overview_names_every_command_with_its_example(capsys):
    code, out, _ = run("--help", capsys=capsys)
    assert code == 0 and out.strip() == overview().strip()
    for command in COMMANDS:
        assert command.example in out


@pytest.mark.parametrize("words", [["simulate"], ["simulate", "--help"]])
def test_a_family_of_commands_is_listed_by_its_first_word(words, capsys):
    code, out, _ = run(*words, capsys=capsys)
    assert code == 0 and "simulate particles" in out and "reconstruct " not in out


def test_the_command_with_the_most_words_is_meant(capsys):
    """`vitreous ctf` has options of its own and is the first word of others."""
    for words in (("ctf",), ("ctf", "apply"), ("ctf", "refine")):
        found = find([*words, "x.mrc", "--out", "y"])
        assert found is not None and found.words == words
    code, out, _ = run("ctf", "--help", capsys=capsys)
    assert code == 0 and "--voltage-kv" in out and "vitreous ctf apply" in out and "vitreous ctf refine" in out
    assert "vitreous ctf refine" not in run("ctf", "apply", "--help", capsys=capsys)[1]


def test_help_loads_no_numerical_library():
    """What makes `vitreous --help` quick, as a fact rather than a time."""
    code = "import sys; from vitreous.cli import dispatch; dispatch(['--help']); print(sorted({'numpy','jax','numba','scipy','rich','cyclopts'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_a_reconstruction_loads_no_jax(folder):
    """The job that must start quickly computes with NumPy and compiled loops."""
    code = "import sys; from vitreous.cli import dispatch; assert dispatch(['reconstruct', 'particles.star', '--out', 'm']) == 0; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout.strip().splitlines()[-1] == "False"


def test_reconstruct_leaves_a_whole_job_folder(folder, capsys):
    code, out, _ = run("reconstruct", "particles.star", "--out", "job", "--json", capsys=capsys)
    assert code == 0
    printed = json.loads(out)
    saved = json.loads((folder / "job" / "result.json").read_text())
    assert printed == saved
    assert printed["particles"] == 900 and 8.0 <= printed["resolution_angstrom"] < 12.0  # Nyquist is 8 angstrom
    names = {path.name for path in (folder / "job").iterdir()}
    assert names >= {
        "settings.yaml",
        "result.json",
        "provenance.json",
        "report.html",
        "half1.mrc",
        "half2.mrc",
        "map.mrc",
        "mask.mrc",
        "sharpened.mrc",
        "fsc.star",
    }
    record = json.loads((folder / "job" / "provenance.json").read_text())
    assert (
        record["inputs"][0]["bytes"] == (folder / "particles.star").stat().st_size
        and len(record["inputs"][0]["sha256"]) == 64
    )
    assert record["seed"] == 0 and record["version"] and record["machine"]["cores"]
    page = (folder / "job" / "report.html").read_text()
    for word in ("Fourier shell correlation", "Orientations", "resolution", "B factor"):
        assert word in page
    assert "http://" not in page.replace("http://www.w3.org", "") and 'src="http' not in page
    truth, volume = read_volume(folder / "map.mrc"), read_volume(folder / "job" / "map.mrc")
    assert volume.pixel_size == pytest.approx(4.0)
    assert np.corrcoef(truth.data.ravel(), volume.data.ravel())[0, 1] > 0.9


def test_a_finished_folder_is_kept_without_force(folder, capsys):
    assert run("reconstruct", "particles.star", "--out", "job", capsys=capsys)[0] == 0
    before = (folder / "job" / "result.json").read_bytes()
    code, _, err = run("reconstruct", "particles.star", "--out", "job", "--symmetry", "C2", capsys=capsys)
    assert code == 2 and "--force" in err
    assert (folder / "job" / "result.json").read_bytes() == before
    assert run("reconstruct", "particles.star", "--out", "job", "--symmetry", "C2", "--force", capsys=capsys)[0] == 0
    assert (folder / "job" / "result.json").read_bytes() != before
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_without_half_sets_they_are_drawn_and_written_back(folder, capsys):
    text = (folder / "particles.star").read_text().splitlines(keepends=True)
    column = next(line for line in text if line.startswith("_rlnRandomSubset"))
    place = int(column.split("#")[1]) - 1
    kept = []
    for line in text:
        if line.startswith("_rlnRandomSubset"):
            line = "_someOtherColumn\n"
        kept.append(line)
    (folder / "nohalf.star").write_text("".join(kept))
    code, _, err = run("reconstruct", "nohalf.star", "--out", "job", "--seed", "4", capsys=capsys)
    assert code == 0 and "half sets" in err and place >= 0
    halves = read_particles(folder / "job" / "particles.star", load_images=False).half_set
    assert sorted(np.bincount(halves)[1:]) == [450, 450]


def test_a_map_against_itself_is_told_apart_from_half_maps(folder, capsys):
    code, _, err = run("postprocess", "half1.mrc", "half1.mrc", "--out", "same", capsys=capsys)
    assert code == 0 and "one and the same map" in err
    code, _, err = run("postprocess", "half1.mrc", "half2.mrc", "--out", "different", capsys=capsys)
    assert code == 0 and "one and the same map" not in err


def test_fsc_says_what_the_noise_allows(folder, capsys):
    code, out, _ = run("fsc", "half1.mrc", "half2.mrc", "--radius", "12", "--at", "20", "30", "--json", capsys=capsys)
    result = json.loads(out)
    assert (
        code == 0
        and result["fsc_at_30_angstrom"] > 0.99
        and result["fsc_at_30_angstrom"] > result["fsc_at_20_angstrom"]
    )


def test_mask_and_convert_refuse_to_overwrite(folder, capsys):
    before = (folder / "half1.mrc").read_bytes()
    assert run("mask", "map.mrc", "half1.mrc", capsys=capsys)[0] == 2
    assert run("convert", "map.mrc", "half1.mrc", capsys=capsys)[0] == 2
    assert (folder / "half1.mrc").read_bytes() == before


def test_stack_conversion_keeps_the_pixels(folder, capsys):
    from vitreous.io.mrc_stack import MrcStack

    assert run("convert", "p.mrcs", "half.mrcs", "--mode", "float16", capsys=capsys)[0] == 0
    a, b = MrcStack(folder / "p.mrcs"), MrcStack(folder / "half.mrcs")
    assert a.shape == b.shape and b.header.mode == 12
    # float16 has 11 bits of mantissa
    assert np.allclose(a.read(slice(0, 9)), b.read(slice(0, 9)), rtol=2**-10, atol=1e-4)


def test_check_prints_one_line_a_check_and_its_exit_code(folder, capsys):
    code, out, _ = run("check", "particles.star", "--map", "map.mrc", capsys=capsys)
    lines = out.strip().splitlines()
    assert code == 0
    assert {line.split()[0] for line in lines} == {"pass"} and len(lines) == 11


BAD = {
    "missing file": (["reconstruct", "nothing.star", "--out", "o"], "does not exist"),
    "no out": (["reconstruct", "particles.star"], "--out"),
    "unknown option": (["reconstruct", "particles.star", "--out", "o", "--symetry", "C2"], "symmetry"),
    "unknown symmetry": (["reconstruct", "particles.star", "--out", "o", "--symmetry", "X9"], "X9"),
    "wrong type": (["reconstruct", "particles.star", "--out", "o", "--diameter", "wide"], "wide"),
    "negative diameter": (["reconstruct", "particles.star", "--out", "o", "--diameter", "-5"], "positive"),
    "disc larger than the box": (
        ["reconstruct", "particles.star", "--out", "o", "--diameter", "129"],
        "128 angstrom",
    ),
    "map as particles": (["reconstruct", "map.mrc", "--out", "o"], "map.mrc"),
    "particles as map": (["fsc", "particles.star", "map.mrc"], "particles.star"),
    "both masks": (["fsc", "half1.mrc", "half2.mrc", "--mask", "map.mrc", "--radius", "9"], "one mask"),
    "map as mask": (["fsc", "half1.mrc", "half2.mrc", "--mask", "map.mrc"], "from 0 to 1"),
    "impossible resolution": (["fsc", "half1.mrc", "half2.mrc", "--at", "1"], "8.00"),
    "impossible conversion": (["convert", "particles.star", "out.mrc"], "MRC"),
    "info without a file": (["info"], "at least one"),
    "negative pixel size": (["reconstruct", "particles.star", "--out", "o", "--pixel-size", "-1"], "pixel size"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_code_2(name, folder, capsys):
    words, expected = BAD[name]
    before = sorted(path.name for path in folder.iterdir())
    code, out, err = run(*words, capsys=capsys)
    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1 and "Traceback" not in err
    assert expected in err
    assert sorted(path.name for path in folder.iterdir()) == before  # nothing half-written


def test_debug_shows_the_traceback(folder):
    with pytest.raises(Exception, match="does not exist"):
        dispatch(["reconstruct", "nothing.star", "--out", "o", "--debug"])


def test_unknown_commands_are_answered_with_the_nearest(capsys):
    code, _, err = run("recnstruct", capsys=capsys)
    assert code == 2 and "did you mean 'reconstruct'?" in err
