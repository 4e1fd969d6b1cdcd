"""Files as the readers meet them: present, readable, not empty, and not a stand-in for the real one."""

from __future__ import annotations

import os
from pathlib import Path

from vitreous.errors import FileProblem

LFS_POINTER = b"version https://git-lfs"


def require_file(path: str | os.PathLike[str]) -> Path:
    """The path, once it is sure that a non-empty file lies there and can be read. Raises FileProblem otherwise.

    A git-LFS pointer (a few lines of text that stand for a file that was not downloaded) is recognised as such.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise FileProblem(f"{path} is a folder", "a file")
        with open(path, "rb") as stream:
            start = stream.read(len(LFS_POINTER))
    except (FileNotFoundError, NotADirectoryError):
        raise FileProblem(
            f"{path} does not exist", "a readable file", "check the name and the current folder"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileProblem(f"{path} cannot be read ({reason})", "a readable file") from None
    if not start:
        raise FileProblem(f"{path} is empty", "a file with content", "write or copy it again")
    if start == LFS_POINTER:
        raise FileProblem(
            f"{path} is a git-LFS pointer, not the file itself",
            "the file's content",
            "run 'git lfs pull' where it came from",
        )
    return path
