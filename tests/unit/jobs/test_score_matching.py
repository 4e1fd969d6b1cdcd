"""Particles of two files by the names of their images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from vitreous.errors import DataProblem
from vitreous.io.mrc_stack import write_stack
from vitreous.jobs.score_matching import ListedImages, matched_rows
from vitreous.model.particles import ImageName


def names(*texts: str, folder: Path = Path("nowhere")) -> ListedImages:
    pairs = [text.split("@") for text in texts]
    paths = tuple(dict.fromkeys(path for _, path in pairs))
    codes = np.array([paths.index(path) for _, path in pairs], dtype=np.int32)
    return ListedImages(ImageName(np.array([int(number) - 1 for number, _ in pairs]), codes, paths), folder)


def test_images_are_found_in_any_order_and_from_any_folder():
    truth = names("1@a.mrcs", "2@a.mrcs", "3@a.mrcs", "1@b.mrcs")
    own, rows = matched_rows(names("1@x/b.mrcs", "3@x/a.mrcs", "9@x/a.mrcs", "1@x/c.mrcs", "1@x/a.mrcs"), truth, "m")
    assert own.tolist() == [0, 1, 4] and rows.tolist() == [3, 2, 0]


def test_stacks_of_one_name_are_told_apart_by_their_folders():
    truth = names("1@sim/first/p.mrcs", "1@sim/second/p.mrcs", "2@sim/second/p.mrcs")
    own, rows = matched_rows(names("1@/data/second/p.mrcs", "1@/data/first/p.mrcs"), truth, "m")
    assert own.tolist() == [0, 1] and rows.tolist() == [1, 0]
    with pytest.raises(DataProblem, match="could be"):
        matched_rows(names("1@p.mrcs"), truth, "m")


def test_part_of_a_name_is_not_the_name():
    with pytest.raises(DataProblem, match="no image of the truth"):
        matched_rows(names("1@xp.mrcs"), names("1@p.mrcs"), "m")
    with pytest.raises(DataProblem, match="no image of the truth"):
        matched_rows(names("3@p.mrcs"), names("1@p.mrcs"), "m")


def test_another_stack_of_the_same_name_is_told_by_its_content(tmp_path, rng):
    folders = [tmp_path / name for name in ("truth", "copy", "other", "longer", "absent")]
    for folder in folders:
        folder.mkdir()
    images = rng.normal(size=(3, 8, 8)).astype(np.float32)
    write_stack(folders[0] / "p.mrcs", images, 1.0)
    shutil.copy(folders[0] / "p.mrcs", folders[1] / "p.mrcs")
    write_stack(folders[2] / "p.mrcs", -images, 1.0)
    write_stack(folders[3] / "p.mrcs", np.concatenate([images, images]), 1.0)
    truth, copy, other, longer, absent = (names("1@p.mrcs", "2@p.mrcs", folder=folder) for folder in folders)
    for own in (truth, copy, absent):
        assert matched_rows(own, truth, "m")[1].tolist() == [0, 1]
    for own in (other, longer):
        with pytest.raises(DataProblem, match="no image of the truth"):
            matched_rows(own, truth, "m")


def test_copies_are_refused_on_either_side():
    for own, truth in (
        (names("1@p.mrcs", "1@q/p.mrcs"), names("1@p.mrcs")),
        (names("1@p.mrcs"), names("1@p.mrcs", "1@p.mrcs")),
    ):
        with pytest.raises(DataProblem, match="twice"):
            matched_rows(own, truth, "m")
