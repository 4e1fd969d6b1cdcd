"""The options of workers: what is refused, that they are no part of a job's work, and that its files are the same whoever did it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from vitreous.cli import dispatch
from vitreous.engine.workers import LocalWorkers, available_cores
from vitreous.errors import SettingsProblem
from vitreous.io.micrograph_table import micrograph_table, write_micrograph_table
from vitreous.io.mrc_stack import write_stack
from vitreous.jobs.abinitio import Abinitio
from vitreous.jobs.classify2d import Classify2D
from vitreous.jobs.cluster import ClusterOptions, workers_of
from vitreous.jobs.estimate_ctf import EstimateCtf
from vitreous.jobs.extract import Extract
from vitreous.jobs.folder import resume_key, run_job
from vitreous.jobs.reconstruct import Reconstruct
from vitreous.jobs.refine3d import Refine
from vitreous.model.optics import OpticsGroup

JOBS = {
    "reconstruct": partial(Reconstruct, Path("p.star")),
    "ctf": partial(EstimateCtf, (Path("m.mrc"),)),
    "extract": partial(Extract, Path("p.star"), box=64),
    "classify2d": partial(Classify2D, Path("p.star")),
    "abinitio": partial(Abinitio, Path("p.star")),
    "refine": partial(Refine, Path("p.star"), reference=Path("map.mrc")),
}


def test_by_default_the_work_is_done_here():
    with workers_of(ClusterOptions()) as workers:
        assert isinstance(workers, LocalWorkers) and workers.count == available_cores()
    with workers_of(ClusterOptions(workers=3)) as workers:
        assert isinstance(workers, LocalWorkers) and workers.count == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"workers": 0}, "--workers 0"),
        ({"workers": -1, "cluster": "local"}, "--workers -1"),
        ({"cluster": "elsewhere"}, "--cluster elsewhere"),
        ({"cluster": "slurm"}, "--workers"),
    ],
)
@pytest.mark.parametrize("job", JOBS)
def test_what_cannot_be_is_refused_when_the_settings_are_made(job, options, says):
    with pytest.raises(SettingsProblem, match=says):
        JOBS[job](**options)


def test_on_the_command_line_that_is_one_line(capsys, tmp_path):
    words = ["reconstruct", "p.star", "--cluster", "elsewhere", "--out", str(tmp_path / "out")]
    assert dispatch(words) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said == [
        "vitreous reconstruct: error: --cluster elsewhere; expected local, tcp://host:port, or slurm",
    ]


def test_who_does_the_work_is_no_part_of_what_the_work_is(ring_micrograph, tmp_path):
    write_stack(tmp_path / "m.mrc", ring_micrograph()[None], 2.0)
    here = (tmp_path / "m.mrc",)
    keys = {resume_key(EstimateCtf(here, workers=workers, cluster=place)) for workers, place in WHO}
    assert len(keys) == 1
    assert resume_key(EstimateCtf(here, coarsest=25.0)) not in keys


WHO = [(None, None), (1, None), (7, None), (2, "local"), (3, "tcp://host:8786"), (64, "slurm")]


@pytest.mark.slow
def test_ctfs_are_the_same_whoever_estimates_them(ring_micrograph, tmp_path):
    pytest.importorskip("distributed", reason="the cluster extra is not installed")
    names = [f"m{number}.mrc" for number in range(3)]
    for number, name in enumerate(names):
        write_stack(tmp_path / name, ring_micrograph(seed=number)[None], 2.0)
    optics = OpticsGroup(pixel_size=2.0, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
    star = tmp_path / "micrographs.star"
    write_micrograph_table(star, micrograph_table(names, [optics], np.zeros(3)))
    found = []
    for number, (workers, place) in enumerate([(1, None), (3, None), (2, "local")]):
        out = tmp_path / f"out{number}"
        run_job(EstimateCtf((star,), workers=workers, cluster=place), out)
        rows = [json.loads((out / "micrographs" / f"m{i}.json").read_text()) for i in range(3)]
        found.append([{key: value for key, value in row.items() if key != "seconds"} for row in rows])
    assert found[0] == found[1] == found[2]
    assert found[0][0]["defocus"] != found[0][1]["defocus"]
