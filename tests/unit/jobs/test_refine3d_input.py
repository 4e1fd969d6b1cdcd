"""What a 3D refinement starts from: symmetry told and kept, classes that differ, diameters, defoci between rounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.alignment.assignment import unassigned
from vitreous.alignment.refinement import Refinement, RefineSettings
from vitreous.engine.local import silent
from vitreous.errors import DataProblem
from vitreous.geometry.symmetry import point_group
from vitreous.jobs.refine3d_defocus import better_defoci
from vitreous.jobs.refine3d_input import filtered, reference_diameter, several_maps, symmetry_agreement
from vitreous.model.pose import Pose
from vitreous.model.table import Table
from vitreous.reconstruction.direct_inversion import InversionSettings, reconstruct
from vitreous.reconstruction.fsc import fourier_shell_correlation


def symmetric(name: str, box: int = 32) -> np.ndarray:
    """A density of Gaussian blobs that repeats under the operators of a group."""
    rng = np.random.default_rng(3)
    axis = np.arange(box) - box // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    volume = np.zeros((box,) * 3, dtype=np.float32)
    for centre in rng.uniform(-7, 7, size=(4, 3)):
        for operator in point_group(name).operators:
            u, v, w = operator @ centre
            volume += np.exp(-((x - u) ** 2 + (y - v) ** 2 + (z - w) ** 2) / (2 * 1.6**2))
    return volume


def test_symmetry_is_seen_about_the_usual_axes_only():
    volume = symmetric("D2")
    for name, least in (("C1", 1.0), ("C2", 0.99), ("D2", 0.99)):
        assert symmetry_agreement(volume, point_group(name).operators, 4.0, 16.0) >= least
    quarter = np.ascontiguousarray(np.rot90(symmetric("C2"), axes=(0, 2)))  # its axis now lies along x
    assert symmetry_agreement(symmetric("C2"), point_group("C2").operators, 4.0, 16.0) > 0.99
    assert symmetry_agreement(quarter, point_group("C2").operators, 4.0, 16.0) < 0.8
    # Coarse shapes of different symmetry are much alike: clearly below a map that has it, whatever the threshold of the warning.
    assert symmetry_agreement(symmetric("C3"), point_group("C4").operators, 4.0, 16.0) < 0.9


def test_references_of_classes_differ_by_seed_and_keep_the_symmetry():
    operators = point_group("D2").operators
    volume = symmetric("D2")
    first = several_maps(volume[None], 3, operators, 4.0, seed=1)
    again, other = (
        several_maps(volume[None], 3, operators, 4.0, seed=1),
        several_maps(volume[None], 3, operators, 4.0, seed=2),
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    for one in range(3):
        assert symmetry_agreement(first[one], operators, 4.0, 16.0) > 0.99
        for two in range(one):
            assert 0.7 < np.corrcoef(first[one].ravel(), first[two].ravel())[0, 1] < 0.99
    same = np.stack([volume, 2 * volume])
    assert several_maps(same, 2, operators, 4.0, seed=1) is same  # one for each class was given


def test_the_diameter_is_that_of_the_largest_map_with_room(blob_map):
    # The outermost of the blobs lies 40 angstrom from the middle and is seen 3 standard deviations, 16 angstrom, around it.
    assert 85 < reference_diameter(blob_map[None], 4.0) < 115
    small = np.zeros_like(blob_map)
    small[14:19, 14:19, 14:19] = 1
    assert reference_diameter(np.stack([small, blob_map]), 4.0) == reference_diameter(blob_map[None], 4.0)
    assert reference_diameter(np.zeros_like(blob_map)[None], 4.0) == pytest.approx(0.85 * 128)


def test_a_filtered_map_has_nothing_finer(blob_map, rng):
    noisy = blob_map + rng.normal(size=blob_map.shape)
    smooth = filtered(np.stack([noisy, blob_map]).astype(np.float32), 4.0, 30.0)
    curve = fourier_shell_correlation(smooth[0].astype(np.float64), noisy, 4.0)
    assert curve.correlation[:4].min() > 0.9999  # 42 angstrom and coarser, beyond the edge of the filter
    power = np.abs(np.fft.fftn(smooth[0])) ** 2
    k = np.linalg.norm(np.stack(np.meshgrid(*[np.fft.fftfreq(32, 4.0)] * 3, indexing="ij")), axis=0)
    assert power[k > 1.3 / 30].max() < 1e-9 * power.max()


@pytest.mark.slow
def test_defoci_come_back_between_rounds(blob_particles):
    """Each micrograph's particles are 800 angstrom off: against the half maps made with them, most of that is found."""
    count = 600
    few = blob_particles.rows(slice(0, count))
    micrograph = np.arange(count) // 60
    off = np.where(micrograph % 2, 800.0, -800.0)
    ctf = replace(few.ctf, defocus_u=few.ctf.defocus_u + off, defocus_v=few.ctf.defocus_v + off)
    names = np.array([f"m{number}.mrc" for number in micrograph], dtype=object)
    wrong = replace(few, ctf=ctf, table=Table({"rlnMicrographName": names}))
    result = reconstruct(wrong, InversionSettings(np.eye(3)[None], mask_radius=12.0))
    maps = np.stack(result.half_maps)[:, None]
    assignment = unassigned(count, Pose(few.pose.euler, few.pose.shift))
    state = Refinement(
        3, maps, maps, np.ones(1), np.ones((1, 17)), np.ones((2, 1, 17)), np.ones(10), assignment, few.half_set
    )
    bare = replace(wrong, pose=None)
    better = better_defoci(bare, state, RefineSettings(), lambda stage: silent)
    assert better.iteration == 3
    before = np.sqrt(np.mean((wrong.ctf.defocus - few.ctf.defocus) ** 2))
    after = np.sqrt(np.mean((better.ctf.defocus - few.ctf.defocus) ** 2))
    assert before == pytest.approx(800) and after < 350
    noise = replace(state, half_maps=np.random.default_rng(0).normal(size=maps.shape).astype(np.float32))
    with pytest.raises(DataProblem, match="--refine-defocus with half maps that agree to"):
        better_defoci(bare, noise, RefineSettings(), lambda stage: silent)
