"""The benchmark against cryoDRGN measures what it says: stand-ins for both programs leave known times and scores behind."""

from __future__ import annotations

import argparse
import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = str(Path(__file__).resolve().parents[2] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
try:
    from landscapes import commands, outputs, parts
    from landscapes.session import Session
    from measure import Run
    from programs import Program
finally:
    sys.path.remove(BENCHMARKS)

LOG = """\
(INFO) (train_vae.py) (23-Nov-2026 12:10:31) # =====> Epoch: 1 Average gen loss = 0.68, KLD = 0.67, total loss = 0.68; Finished in 0:00:52.291230
(INFO) (train_vae.py) (23-Nov-2026 12:10:43) # =====> Epoch: 2 Average gen loss = 0.64, KLD = 2.64, total loss = 0.64; Finished in 0:00:11.317738
"""
AGAIN = LOG.replace("0:00:52.291230", "1 day, 1:01:01").replace("0:00:11.317738", "0:02:00")

# A stand-in for both programs: it does what the words say in no time, and says how long that took.
STAND_IN = """\
import json, pathlib, pickle, sys
words = sys.argv[1:]
given = dict(zip(words, words[1:]))
out = pathlib.Path(given.get("--out") or given.get("-o") or ".")
out.mkdir(parents=True, exist_ok=True)
with open("calls", "a") as calls:
    print(" ".join(word for word in words if "/" not in word), file=calls)
result = {}
if words[:2] == ["simulate", "ensemble"]:
    columns = "loop_\\n_rlnImageName\\n_rlnImagePixelSize\\n1@particles.mrcs 2.5\\n"
    (out / "particles.star").write_text("data_particles\\n\\n" + columns)
elif words[0] == "convert":
    pathlib.Path("cryodrgn").mkdir(exist_ok=True)
    pathlib.Path("cryodrgn/ctf.pkl").touch()
elif words[:2] == ["landscape", "train"]:
    each = 1.3 if "--lazy" in words else 1.0
    result = {"epoch_seconds": [9.0] + [each] * (int(given["--epochs"]) - 1), "particles": 100, "held_out": 10}
    result["epochs"] = {"pixels": [100, 200]}
elif words[:2] == ["landscape", "score"]:
    folders = [pathlib.Path(word).name for word in words[2 : words.index("--truth")]]
    scores = {"spearman_first_component": 0.97, "chance": {"image_fsc_auc": 0.5}}
    result = {"methods": {name: scores | {"image_fsc_auc": 0.6 + 0.1 * ("vitreous" in name)} for name in folders}}
elif words[0] == "train_vae":
    with open(out / "run.log", "a") as log:
        for epoch in range(1, int(given["-n"]) + 1):
            print(f"# =====> Epoch: {epoch} loss; Finished in 0:00:05.0", file=log)
(out / "result.json").write_text(json.dumps(result))
"""


def test_epochs_of_a_log_are_those_of_the_last_training():
    assert outputs.epochs_of(LOG) == [52.29123, 11.317738]
    assert outputs.epochs_of(LOG + AGAIN) == [90_061.0, 120.0]
    assert outputs.epochs_of("nothing") == []


def test_throughput_is_that_from_the_second_epoch_on():
    training = outputs.Training("x", Run(100.0, 150.0, 1), [50.0, 10.0, 12.0, 9.0], 600, 1)
    assert training.seconds == 10.0 and training.throughput == 60.0 and training.rest == 19.0
    assert outputs.Training("x", Run(9.0, 9.0, 1), [8.0], 8, 1).throughput == 1.0


def test_frequencies_that_cryodrgn_decodes():
    """The mask of cryoDRGN 4.3.1 has 796 points of images of 32 px and 3,208 of 64 px; half are the others' mirror images."""
    assert outputs.half_circle(64) == 1604
    assert outputs.half_circle(32) == 398


NETWORK = commands.Network(epochs=5, latent=4, width=64, layers=2)


def options_of(command: list[str]) -> dict[str, str]:
    return {word: value for word, value in pairwise(command) if word.startswith("-")}


def test_both_programs_get_the_same_network():
    program = Program("x", "/bin/x", "1")
    theirs = options_of(commands.cryodrgn_train(program, NETWORK, Path("out")))
    ours = options_of(commands.vitreous_train(program, NETWORK, Path("out")))
    for side in ("enc", "dec"):
        assert (
            (theirs[f"--{side}-dim"], theirs[f"--{side}-layers"]) == (ours["--width"], ours["--layers"]) == ("64", "2")
        )
    assert (theirs["--zdim"], theirs["-n"]) == (ours["--latent"], ours["--epochs"]) == ("4", "5")


def test_vitreous_takes_the_options_it_is_given():
    from vitreous.jobs.train_landscape import TrainLandscape

    program = Program("x", "/bin/x", "1")
    given = options_of(commands.vitreous_train(program, NETWORK, Path("out"), "--lazy", "--finest", "5"))
    given |= options_of(commands.vitreous_subspace(program, 4, 20, Path("out")))
    known = set(TrainLandscape.__dataclass_fields__) | {"out", "force"}
    assert {name.removeprefix("--").replace("-", "_") for name in given} <= known


@pytest.fixture
def session(tmp_path, monkeypatch):
    """Both programs are stand-ins; sizes are small."""
    script = tmp_path / "program"
    script.write_text(f"#!{sys.executable}\n{STAND_IN}")
    script.chmod(0o755)
    sizes = {
        "count": 100,
        "epochs": 3,
        "boxes": [32],
        "snr": 0.1,
        "conformations": 5,
        "latent": 4,
        "width": 64,
        "layers": 2,
    }
    sizes |= {f"hinge_{name}": sizes[name] for name in ("count", "epochs", "snr", "conformations")} | {
        "hinge_box": 32,
        "hinge_iterations": 5,
    }
    given = sizes | {"data": tmp_path / "data", "reuse_cryodrgn": False, "score_images": 1}
    ours, peer = (Program(name, str(script), "1") for name in ("vitreous", "cryoDRGN"))
    return Session(argparse.Namespace(**given), ours, peer)


def reached(session: Session) -> dict[str, tuple[str, bool | None]]:
    return {target.what: (target.reached, target.met) for target in session.targets}


def test_speed_and_quality_against_cryodrgn(session, capsys):
    parts.speed(session)
    # 90 particles in 1 s, and 100 in 5 s
    assert reached(session) == {
        "32 px, particles a second against cryoDRGN": ("4.5 times", True),
        "32 px, per-image FSC AUC after 3 epochs": ("0.700", True),
    }
    printed = capsys.readouterr().out
    assert "90.0" in printed and "20.0" in printed and "4.50" in printed
    found = session.result["speed_32"]
    assert [round(t["particles_per_second"]) for t in found["trainings"]] == [90, 90, 20]
    assert found["trainings"][2]["epoch_seconds"] == [5.0, 5.0, 5.0]
    assert [t["pixels"] for t in found["trainings"]] == [200, 200, 398]
    json.dumps(found)
    calls = next((session.options.data).glob("hinge_*/calls")).read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["convert", "landscape", "train_vae", "landscape", "landscape"]
    assert "--finest 5.0" in calls[3]  # Nyquist's of 2.5 angstrom


def test_without_the_peer_ours_is_measured_and_no_target_is_judged(session):
    session.peer = None
    parts.speed(session)
    parts.hinge(session)
    judged = reached(session)
    assert judged["32 px, particles a second against cryoDRGN"] == ("cryoDRGN was not run", None)
    assert judged["32 px, per-image FSC AUC after 3 epochs"] == ("0.700", None)
    assert judged["hinge, |Spearman| of the first component, drgn"] == ("0.970", True)


def test_an_earlier_run_of_the_peer_is_judged_but_its_time_is_not(session, capsys):
    parts.speed(session)
    session.targets.clear()
    session.options.reuse_cryodrgn = True
    parts.speed(session)
    speed, quality = reached(session).values()
    assert speed == ("4.5 times, not in one run", None) and quality == ("0.700", True)
    assert "was not run: its times are those of" in capsys.readouterr().out
    session.options.epochs = 4
    with pytest.raises(SystemExit, match="3 epochs of cryoDRGN instead of 4"):
        parts.speed(session)


def test_streaming(session):
    parts.streaming(session)
    assert reached(session) == {"an epoch from the disk against memory": ("1.30 times", True)}


def test_the_hinge(session, capsys):
    parts.hinge(session)
    assert reached(session) == {
        "hinge, |Spearman| of the first component, drgn": ("0.970", True),
        "hinge, |Spearman| of the first component, subspace": ("0.970", True),
        "hinge, per-image FSC AUC of drgn, the subspace's": ("0.700", True),
        "hinge, per-image FSC AUC of drgn, cryoDRGN's": ("0.700", True),
    }
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "0.970" in line]
    assert [row[0] for row in rows] == ["drgn", "subspace", "cryoDRGN"]
    assert np.isclose(float(rows[1][1]), 0.6)
