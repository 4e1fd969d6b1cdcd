"""MRC files: what is written is read back, by us and by mrcfile."""

from __future__ import annotations

import mrcfile
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vitreous.io.images import open_images
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import MrcStack, StackWriter, write_volume
from vitreous.model.particles import ImageName
from vitreous.model.volume import Volume

PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
singles = st.floats(width=32, allow_nan=True, allow_infinity=True)
pixel_sizes = st.floats(0.0625, 100.0, width=32)


@PROPERTY
@given(size=st.integers(2, 6), pixel_size=pixel_sizes, data=st.data())
def test_volume_round_trip(tmp_path, size, pixel_size, data):
    values = data.draw(hnp.arrays(np.float32, (size, size, size), elements=singles))
    before = values.copy()
    with np.errstate(all="ignore"):
        write_volume(tmp_path / "map.mrc", Volume(values, pixel_size))
    volume = read_volume(tmp_path / "map.mrc")
    assert volume.data.tobytes() == before.tobytes() == values.tobytes()
    # cell = size * pixel in single precision, divided by size: two roundings of 6e-8
    np.testing.assert_allclose(volume.pixel_size, pixel_size, rtol=2e-7)
    with mrcfile.open(tmp_path / "map.mrc", permissive=True) as mrc:
        assert mrc.data.tobytes() == before.tobytes()


@PROPERTY
@given(
    images=hnp.arrays(np.float32, st.tuples(st.integers(1, 8), st.just(3), st.just(3)), elements=singles),
    cuts=st.lists(st.integers(0, 8), max_size=3),
)
def test_a_stack_does_not_depend_on_its_chunks(tmp_path, images, cuts):
    with np.errstate(all="ignore"), StackWriter(tmp_path / "s.mrcs", 1.5) as writer:
        for chunk in np.split(images, sorted(cut for cut in cuts if cut <= len(images))):
            writer.append(chunk)
    assert MrcStack(tmp_path / "s.mrcs").read(slice(None)).tobytes() == images.tobytes()


@PROPERTY
@given(rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=20), data=st.data())
def test_any_rows_of_any_stacks(tmp_path, rows, data):
    """Reading a selection equals selecting from everything, whatever the order, with one gather or with slices."""
    stacks = np.arange(3 * 5 * 2 * 2, dtype=np.float32).reshape(3, 5, 2, 2)
    for number, stack in enumerate(stacks):
        with StackWriter(tmp_path / f"{number}.mrcs", 1.0) as writer:
            writer.append(stack)
    codes, index = np.array(rows).T
    source = open_images(ImageName(index, codes.astype(np.int32), ("0.mrcs", "1.mrcs", "2.mrcs")), tmp_path)
    expected = stacks[codes, index]
    selection = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12)), dtype=int)
    assert np.array_equal(source.read(slice(None)), expected)
    assert np.array_equal(source.read(selection), expected[selection])
    assert np.array_equal(source.rows(selection).read(slice(None, None, -1)), expected[selection][::-1])
