"""Refined with the CTFs of a fit that locked on a wrong ring, real particles reach less, and `vitreous check` says why."""

from __future__ import annotations

import numpy as np
import pytest

from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.check import Check
from vitreous.jobs.folder import run_in_passing, run_job
from vitreous.jobs.reconstruct import Reconstruct
from vitreous.jobs.refine3d import Refine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reference(shared_data, tmp_path_factory):
    """The map of the published poses; only what is coarser than 40 angstrom is looked at."""
    folder = tmp_path_factory.mktemp("reference") / "job"
    run_job(Reconstruct(shared_data / "betagal" / "particles_posed.star", symmetry="D2"), folder)
    return folder / "map.mrc"


def refined(name: str, reference, data, folder) -> tuple[dict, list[str]]:
    """result.json of a short, coarse refinement of every third pick without poses, and the faults that `check` finds in its particles."""
    particles = read_particles(data / f"{name}.star", load_images=False)
    write_particles(folder / f"{name}.star", particles.rows(np.arange(0, len(particles), 3)))
    job = Refine(
        folder / f"{name}.star",
        datadir=data,
        reference=(reference,),
        symmetry="D2",
        order=1,
        finest_order=2,
        iterations=3,
        workers=1,
    )
    outcome = run_job(job, folder / name)
    checked = run_in_passing(Check(folder / name / "particles.star", symmetry="D2", datadir=data))
    return outcome.as_json(), checked.tables["faults"]


def test_wrong_ctfs_are_worse_and_named(shared_data, reference, tmp_path):
    data = shared_data / "betagal"
    right, faults = refined("particles", reference, data, tmp_path)
    assert "CTF values" not in faults and right["resolution_angstrom"] < 12
    wrong, faults = refined("particles_wrong_ctf", reference, data, tmp_path)
    assert "CTF values" in faults
    # None at all, or several angstrom worse.
    assert wrong["resolution_angstrom"] is None or wrong["resolution_angstrom"] > right["resolution_angstrom"] + 3
    assert wrong["held_out_evidence"] < right["held_out_evidence"] - 2
