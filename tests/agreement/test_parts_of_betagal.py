"""Beta-galactosidase, real images: local resolution beside a control, and one quarter of the map by itself.

Expansion to 5,872 rows, subtraction of all but one quarter of the map, and a reconstruction of what is left.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import write_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.jobs.expand import Expand
from vitreous.jobs.folder import run_job
from vitreous.jobs.localres import LocalRes
from vitreous.jobs.reconstruct import Reconstruct
from vitreous.jobs.subtract import Subtract
from vitreous.model.volume import Volume
from vitreous.reconstruction.fsc import fourier_shell_correlation
from vitreous.reconstruction.mask import automatic_mask, soft_edge

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def maps(shared_data, tmp_path_factory):
    """Half maps of the posed particles, of every sixth of them, and of all with the CTFs of the negative control."""
    folder, data = tmp_path_factory.mktemp("betagal"), shared_data / "betagal"
    right = read_particles(data / "particles_posed.star")
    wrong = read_particles(data / "particles_wrong_ctf.star")

    def keys(particles):
        names = particles.names
        return [(names.paths[code], int(index)) for code, index in zip(names.path_code, names.index)]

    place = {key: row for row, key in enumerate(keys(wrong))}
    control = replace(right, ctf=wrong.ctf.rows(np.array([place[key] for key in keys(right)])))
    for name, particles in (("all", right), ("few", right.rows(np.arange(len(right))[::6])), ("control", control)):
        write_particles(folder / f"{name}.star", particles)
        run_job(Reconstruct(folder / f"{name}.star", datadir=data, symmetry="D2"), folder / name)
    return folder


def local(maps, name: str) -> dict:
    return run_job(LocalRes(maps / name / "half1.mrc", maps / name / "half2.mrc"), maps / f"local_{name}").as_json()


def test_local_resolution_follows_the_data(maps):
    every, few, control = (local(maps, name) for name in ("all", "few", "control"))
    # All 1,468 particles reach the limit of their pixels, 7.08 angstrom, nearly everywhere; 245 of them at 9.1 angstrom in the median; and with
    # wrong CTFs there is nothing finer than 13 angstrom anywhere.
    assert every["median_resolution_angstrom"] < 7.3 and every["pixel_limited_fraction"] > 0.9
    assert 8.0 < few["median_resolution_angstrom"] < 10.0
    assert control["best_resolution_angstrom"] > 11.0
    for said in (few, control):
        assert said["median_resolution_angstrom"] == pytest.approx(said["whole_resolution_angstrom"], rel=0.05)
        assert said["unresolved_fraction"] < 0.01


def test_one_quarter_is_left_of_the_images(maps, shared_data):
    data = shared_data / "betagal"
    whole = read_volume(maps / "all" / "map.mrc")
    inside = automatic_mask(whole.data, whole.pixel_size, grow_px=0, edge_px=0).values > 0.5
    axis = np.arange(whole.box) - whole.box // 2
    quarter = inside & (axis[None, :, None] > 0) & (axis > 0)
    write_volume(maps / "part.mrc", Volume(soft_edge(quarter, 2, 4), whole.pixel_size))
    run_job(Expand(maps / "all.star", symmetry="D2", datadir=data), maps / "expanded")
    halves = (maps / "all" / "half1.mrc", maps / "all" / "half2.mrc")
    job = Subtract(
        maps / "expanded" / "particles.star",
        mask=maps / "part.mrc",
        half_maps=halves,
        recentre=True,
        box=40,
        datadir=data,
    )
    said = run_job(job, maps / "part").as_json()
    print({key: said[key] for key in ("particles", "removed_before", "removed_after", "kept_after", "scale_median")})
    assert said["particles"] == 5872
    # 256 images tell how much there is of a part to about 0.01
    assert said["removed_before"] == pytest.approx(1.0, abs=0.05) and abs(said["removed_after"]) < 0.05
    assert said["kept_after"] == pytest.approx(1.0, abs=0.08)
    assert 0.8 < said["scale_median"] < 1.25
    result = run_job(Reconstruct(maps / "part" / "particles.star", diameter=0), maps / "part_map").as_json()
    assert result["resolution_angstrom"] < 7.5
    found, kept, mask = (
        read_volume(path).data
        for path in (maps / "part_map" / "map.mrc", maps / "part" / "kept.mrc", maps / "part" / "mask.mrc")
    )
    agreement = fourier_shell_correlation(found * mask, kept, whole.pixel_size)
    assert agreement.at(8.0) > 0.9
    # where the other three quarters were there is nothing now
    assert np.sqrt((found[mask < 0.01] ** 2).mean()) < 0.1 * np.sqrt((found[mask > 0.9] ** 2).mean())
