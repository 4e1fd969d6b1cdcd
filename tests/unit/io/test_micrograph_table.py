"""STAR files of micrographs: every generation, several optics groups, all columns there and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitreous.errors import DataProblem, FormatProblem
from vitreous.io.micrograph_table import (
    micrograph_table,
    read_micrograph_table,
    write_micrograph_table,
)
from vitreous.io.star import read_star
from vitreous.model.optics import OpticsGroup

TWO_GROUPS = """
# version 30001
data_optics
loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
_rlnMicrographOriginalPixelSize #4
_rlnVoltage #5
_rlnSphericalAberration #6
_rlnAmplitudeContrast #7
_rlnMtfFileName #8
first 7 1.7 0.85 300.0 2.7 0.1 mtf.star
second 3 1.1 1.1 200.0 1.4 0.07 other.star

data_micrographs
loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
_rlnCtfPowerSpectrum #3
_someOneElses #4
a/x.mrc 3 a/x_PS.mrc 007
a/y.mrc 7 a/y_PS.mrc hello
a/z.mrc 3 a/z_PS.mrc 'two words'

data_more
loop_
_anything #1
1
"""


@pytest.fixture
def star(tmp_path):
    path = tmp_path / "micrographs.star"
    path.write_text(TWO_GROUPS)
    return path


def test_groups_names_and_pixel_sizes(star):
    table = read_micrograph_table(star)
    assert table.names == ["a/x.mrc", "a/y.mrc", "a/z.mrc"]
    assert table.optics_index.tolist() == [1, 0, 1] and table.group_numbers.tolist() == [7, 3]
    assert [group.pixel_size for group in table.optics] == [1.7, 1.1]  # of the micrographs, not of the movies
    assert [group.voltage for group in table.optics] == [300e3, 200e3]
    assert table.optics[1].spherical_aberration == pytest.approx(1.4e7)


def test_everything_comes_back(star, tmp_path):
    written = tmp_path / "written.star"
    write_micrograph_table(written, read_micrograph_table(star))
    before, after = read_star(star), read_star(written)
    assert set(before) == set(after)
    for name, table in before.tables():
        assert set(table.names) == set(after[name].names)
        for column in table:
            assert list(after[name][column]) == list(table[column])


def test_what_a_group_learns_is_written(star, tmp_path):
    table = read_micrograph_table(star)
    groups = (table.optics[0], replace(table.optics[1], voltage=120e3, pixel_size=1.2))
    written = tmp_path / "written.star"
    write_micrograph_table(written, replace(table, optics=groups).rows(np.array([2])))
    again = read_micrograph_table(written)
    assert again.names == ["a/z.mrc"] and again.optics[again.optics_index[0]].voltage == 120e3
    optics = read_star(written)["optics"]
    assert list(optics["rlnMicrographPixelSize"]) == [1.7, 1.2]
    assert list(optics["rlnMicrographOriginalPixelSize"]) == [0.85, 1.1] and list(optics["rlnVoltage"]) == [300, 120]


def test_one_group_for_each_lens_of_an_old_file(shared_data, tmp_path):
    path = shared_data / "metadata" / "relion1x" / "micrographs_ctf_T20S.star"
    table = read_micrograph_table(path)
    assert len(table) == 30 and len(table.optics) == 1
    # 10000 x detector pixel / magnification
    assert table.optics[0].pixel_size == pytest.approx(10000 * 2.5 / 38023) and table.optics[0].voltage == 300e3
    written = tmp_path / "new.star"
    write_micrograph_table(written, table)
    again = read_micrograph_table(written)
    assert again.names == table.names and again.optics[0].pixel_size == pytest.approx(10000 * 2.5 / 38023)
    assert "rlnMagnification" not in again.table and list(again.table["rlnDefocusU"]) == list(
        table.table["rlnDefocusU"]
    )


def test_a_real_file_with_spectra(shared_data):
    table = read_micrograph_table(shared_data / "spectra" / "reference.star")
    assert len(table) == 12 and table.optics[0].pixel_size == 0.885
    assert str(table.table["rlnCtfPowerSpectrum"][0]) == "20170629_00021_frameImage_PS.mrc"


def test_plain_files_become_a_table(tmp_path):
    groups = [OpticsGroup("a", pixel_size=1.5, voltage=3e5), OpticsGroup("b", pixel_size=2.0, voltage=3e5)]
    write_micrograph_table(tmp_path / "m.star", micrograph_table(["x.mrc", "y.mrc"], groups, np.array([1, 0])))
    again = read_micrograph_table(tmp_path / "m.star")
    assert [again.optics[i].pixel_size for i in again.optics_index] == [2.0, 1.5] and again.names == ["x.mrc", "y.mrc"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data_particles\nloop_\n_rlnMicrographName\n_rlnCoordinateX\na.mrc 3\n", "lists particles"),
        ("data_movies\nloop_\n_rlnMicrographMovieName\na.mrcs\n", "lists movies"),
        ("data_x\nloop_\n_rlnOther\n1\n", "no micrographs"),
    ],
)
def test_other_files_are_refused(text, message, tmp_path):
    path = tmp_path / "x.star"
    path.write_text(text)
    with pytest.raises(FormatProblem, match=message):
        read_micrograph_table(path)


def test_unknown_groups_and_empty_tables_are_refused(star, tmp_path):
    star.write_text(TWO_GROUPS.replace("a/y.mrc 7", "a/y.mrc 5"))
    with pytest.raises(DataProblem, match="group 5"):
        read_micrograph_table(star)
    with pytest.raises(DataProblem, match="no micrographs"):
        write_micrograph_table(tmp_path / "x.star", micrograph_table([], [OpticsGroup()], np.zeros(0)))
