"""A file is complete or absent."""

from __future__ import annotations

import errno
import os

import pytest

from vitreous.errors import FileProblem, OutputProblem
from vitreous.io.atomic import atomic_path
from vitreous.io.files import require_file


def test_content_appears_under_the_name_only_at_the_end(tmp_path):
    path = tmp_path / "map.mrc"
    with atomic_path(path) as temporary:
        temporary.write_text("content")
        assert not path.exists()
        assert temporary.parent == path.parent and temporary.suffix == ".mrc"
    assert path.read_text() == "content"
    assert os.listdir(tmp_path) == ["map.mrc"]


def test_an_old_file_survives_a_failure(tmp_path):
    path = tmp_path / "map.mrc"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("half of the new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["map.mrc"]


@pytest.mark.parametrize(
    ("code", "word"), [(errno.ENOSPC, "space"), (errno.EACCES, "permission"), (errno.EROFS, "read-only")]
)
def test_errors_of_the_disk_are_one_line(tmp_path, code, word):
    with pytest.raises(OutputProblem, match=word) as caught, atomic_path(tmp_path / "map.mrc") as temporary:
        temporary.write_text("half")
        raise OSError(code, os.strerror(code))
    assert str(tmp_path / "map.mrc") in str(caught.value) and "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_errors_of_other_files_pass(tmp_path):
    """An input that cannot be read while an output is written is no problem of the output."""
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "map.mrc"):
        (tmp_path / "absent_input").read_bytes()


def test_missing_folder_and_folder_of_that_name(tmp_path):
    with pytest.raises(OutputProblem, match="folder does not exist"), atomic_path(tmp_path / "absent" / "map.mrc"):
        pass
    (tmp_path / "map.mrc").mkdir()
    with pytest.raises(OutputProblem, match="a folder of that name"), atomic_path(tmp_path / "map.mrc"):
        pass


def test_require_file(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(FileProblem, match="does not exist"):
        require_file(path)
    with pytest.raises(FileProblem, match="is a folder"):
        require_file(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(FileProblem, match="is empty"):
        require_file(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    with pytest.raises(FileProblem, match=r"git-LFS pointer.*git lfs pull"):
        require_file(path)
    path.write_bytes(b"x")
    assert require_file(str(path)) == path
