"""Writing so that a file is either complete or absent: a temporary name in the same folder, then a rename."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vitreous.errors import OutputProblem

_REASONS = {
    errno.ENOSPC: ("no space is left on the disk", "free some space, or choose another folder"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or choose another folder"),
    errno.EFBIG: ("the file is too large for this disk", "choose another folder"),
    errno.EACCES: ("permission was denied", "choose a folder that you may write to"),
    errno.EPERM: ("permission was denied", "choose a folder that you may write to"),
    errno.EROFS: ("the disk is read-only", "choose a folder that you may write to"),
    errno.ENOENT: ("its folder does not exist", "create the folder first"),
    errno.ENOTDIR: ("its folder is a file", "choose another folder"),
    errno.EISDIR: ("a folder of that name exists", "choose another name"),
    errno.EIO: ("the disk reported an error", "check the disk"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter name"),
}


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it becomes `path` when the block ends, and is removed if the block
    fails.

    The suffix is kept. A full disk, a missing folder or a lack of permission becomes one OutputProblem.

        with atomic_path("map.mrc") as temporary:
            temporary.write_bytes(content)
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem[:100]}.{secrets.token_hex(4)}{path.suffix}")
    try:
        if not path.parent.is_dir():
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(temporary))
        if path.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(temporary))
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        about_this = isinstance(error, OSError) and error.filename in (None, str(temporary), temporary)
        if about_this and isinstance(error, OSError) and error.errno in _REASONS:
            reason, remedy = _REASONS[error.errno]
            raise OutputProblem(f"{path} cannot be written: {reason}", "", remedy) from error
        raise
