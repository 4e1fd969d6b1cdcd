"""cryoSPARC files: any dataset survives both containers, and any particles survive .star -> .cs -> .star."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vitreous.conventions import Contrast, CtfState
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.io.cs_container import read_dataset, write_dataset
from vitreous.io.particles import read_particles, write_particles
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import ImageName, Particles
from vitreous.model.pose import Pose
from vitreous.model.table import Table

PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)
names = st.text("abcXYZ0123_/ é", min_size=1, max_size=10)
kinds = st.sampled_from(["<f4", "<f8", "<u4", "<u8", "<i4", "<i8", "|u1", "|b1", "text"])


@st.composite
def datasets(draw) -> Table:
    rows = draw(st.integers(0, 5))
    columns = {}
    for name in draw(st.lists(names, min_size=1, max_size=5, unique=True)):
        kind = draw(kinds)
        if kind == "text":
            column = np.empty(rows, dtype=object)
            column[:] = draw(st.lists(words, min_size=rows, max_size=rows))
            columns[name] = column
        else:
            shape = draw(st.sampled_from([(), (2,), (3,), (2, 2)]))
            columns[name] = draw(hnp.arrays(kind, (rows, *shape)))
    return Table(columns)


@PROPERTY
@given(table=datasets(), container=st.sampled_from(["numpy", "csdat"]))
def test_any_dataset_comes_back(tmp_path, table, container):
    write_dataset(tmp_path / "any.cs", table, container=container)
    copy = read_dataset(tmp_path / "any.cs")
    assert copy.names == table.names
    for name in table:
        before, after = table[name], np.asarray(copy[name])
        if before.dtype == object:
            assert after.tolist() == before.tolist()
        else:
            assert after.dtype == before.dtype and after.shape == before.shape and after.tobytes() == before.tobytes()


angles = st.floats(-180, 180).map(lambda x: round(x, 6))
lengths = st.floats(-100, 100).map(lambda x: round(x, 6))


@st.composite
def particle_sets(draw) -> Particles:
    count, groups = draw(st.integers(1, 4)), draw(st.integers(1, 3))

    def column(values):
        return np.array(draw(st.lists(values, min_size=count, max_size=count)))

    optics = tuple(
        OpticsGroup(
            name=draw(st.sampled_from(["opticsGroup1", "a", "b c"])),
            pixel_size=draw(st.sampled_from([1.0, 1.25, 3.54])),
            voltage=draw(st.sampled_from([200e3, 300e3])),
            spherical_aberration=draw(st.sampled_from([0.0, 1.4e7, 2.7e7])),
            amplitude_contrast=draw(st.sampled_from([0.0, 0.07, 0.1])),
            beam_tilt=draw(st.sampled_from([(0.0, 0.0), (1e-3, -2e-3)])),
            odd_zernike=draw(st.sampled_from([(), (0.5, -1.0)])),
            magnification=draw(st.sampled_from([((1.0, 0.0), (0.0, 1.0)), ((1.01, 0.02), (0.03, 0.99))])),
            ctf_state=draw(st.sampled_from(list(CtfState))),
            wiener_snr=draw(st.sampled_from([None, 0.1, 3.0])),
        )
        for _ in range(groups)
    )
    euler = np.deg2rad(column(st.tuples(angles, angles, angles)))
    shift = column(st.tuples(lengths, lengths))
    ctf = CtfParameters.of(
        column(st.floats(1000, 50000)),
        column(st.floats(1000, 50000)),
        np.deg2rad(column(angles)),
        np.deg2rad(column(st.floats(0, 180))),
    )
    return Particles(
        names=ImageName(
            column(st.integers(0, 99)), column(st.integers(0, 1)).astype(np.int32), ("a.mrcs", "dir/b.mrcs")
        ),
        optics=optics,
        optics_index=column(st.integers(0, groups - 1)).astype(np.int32),
        pose=draw(st.sampled_from([None, Pose(euler, shift)])),
        ctf=draw(st.sampled_from([None, ctf])),
        half_set=draw(st.sampled_from([None, column(st.integers(1, 2)).astype(np.int8)])),
        contrast=draw(st.sampled_from(list(Contrast))),
    )


@PROPERTY
@given(particles=particle_sets(), first=st.sampled_from(["one.star", "one.cs"]))
def test_particles_there_and_back(tmp_path, particles, first):
    write_particles(tmp_path / first, particles)
    one = read_particles(tmp_path / first, load_images=False)
    second = "two.cs" if first == "one.star" else "two.star"
    write_particles(tmp_path / second, one)
    for copy in (one, read_particles(tmp_path / second, load_images=False)):
        assert np.array_equal(copy.names.index, particles.names.index) and copy.contrast is particles.contrast
        assert [copy.names.paths[code] for code in copy.names.path_code] == [
            particles.names.paths[code] for code in particles.names.path_code
        ]
        assert (copy.pose is None, copy.ctf is None, copy.half_set is None) == (
            particles.pose is None,
            particles.ctf is None,
            particles.half_set is None,
        )
        if particles.pose is not None and copy.pose is not None:
            rotations = [np.asarray(matrix_from_euler(pose.euler)) for pose in (particles.pose, copy.pose)]
            np.testing.assert_allclose(
                *rotations, atol=2e-6
            )  # a rotation vector of length up to pi in single precision
            np.testing.assert_allclose(copy.pose.shift, particles.pose.shift, rtol=3e-7, atol=1e-9)
        if particles.ctf is not None and copy.ctf is not None:
            for field in ("defocus_u", "defocus_v", "defocus_angle", "phase_shift", "scale"):
                # single precision in .cs, nine decimals (of a degree) in .star
                np.testing.assert_allclose(
                    getattr(copy.ctf, field), getattr(particles.ctf, field), rtol=3e-7, atol=1e-9
                )
        if particles.half_set is not None:
            assert np.array_equal(copy.half_set, particles.half_set)
        for left, right in zip(particles.optics_index, copy.optics_index):
            before, after = particles.optics[left], copy.optics[right]
            assert (before.name, before.ctf_state, before.wiener_snr, before.odd_zernike, before.magnification) == (
                after.name,
                after.ctf_state,
                after.wiener_snr,
                after.odd_zernike,
                after.magnification,
            )
            for field in ("pixel_size", "voltage", "spherical_aberration", "amplitude_contrast"):
                assert getattr(after, field) == getattr(before, field), (
                    field
                )  # shortest text of the single-precision number
            np.testing.assert_allclose(after.beam_tilt, before.beam_tilt, rtol=1e-9)
