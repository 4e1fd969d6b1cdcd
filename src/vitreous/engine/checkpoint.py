"""Checkpoints: the state of a long computation as one file, from which the computation goes on as if nothing had happened.

A state is a frozen dataclass of arrays, numbers, text, None, members of enumerations, other such dataclasses and tuples of all of
these. Its arrays become the arrays of one .npz file, unchanged to the last bit; the rest is one JSON text in the same file. Nothing is
pickled, so a file can do no more than be wrong. Only classes that the annotations of the expected type name are ever made.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import secrets
import sys
import zipfile
import zlib
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vitreous.errors import DataProblem, FileProblem, OutputProblem

State = TypeVar("State")

FORMAT = 1  # raised when the layout of the file changes
HEADER = "state"
REMEDY = "remove the file and start anew"
OTHER = "name another file, or, if a job left this one, remove it and start anew"


def save_state(path: str | Path, state: Any) -> None:
    """Write a state (any dataclass of the kind above) to `path`, which holds the old state or the new one at every moment.

    Raises OutputProblem if the file cannot be written and TypeError for a value that is none of the kinds above.

    >>> from vitreous.model.pose import Pose
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> save_state(Path(folder) / "state.npz", Pose(np.zeros((2, 3)), np.ones((2, 2))))
    >>> load_state(Path(folder) / "state.npz", Pose).shift.sum()
    np.float64(4.0)
    """
    path = Path(path)
    arrays: dict[str, np.ndarray] = {}
    content = _packed(state, "state", arrays)
    header = json.dumps({"format": FORMAT, "content": content})
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        with open(temporary, "xb") as file:
            np.savez(file, **{HEADER: np.frombuffer(header.encode(), dtype=np.uint8)}, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputProblem(
            f"{path} cannot be written: {error.strerror or error}", "a writable folder with free space"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def load_state(path: str | Path, kind: type[State]) -> State:
    """The state of class `kind` that `save_state` wrote to `path`.

    Raises FileProblem if there is no such file, DataProblem if it is damaged, holds a state of another class, or was written by a version
    of the program whose states have other fields.
    """
    path = Path(path)
    header, arrays = _read(path)
    found = header["content"].get("class")
    if found != kind.__name__:
        raise DataProblem(f"{path} holds a state of class {found}", kind.__name__, "name the file of this job")
    return _unpacked(header["content"], kind, arrays, path)


def saved_class(path: str | Path) -> str:
    """The name of the class of the state in a file. Raises what `load_state` raises."""
    return str(_read(Path(path), with_arrays=False)[0]["content"].get("class"))


def _read(path: Path, *, with_arrays: bool = True) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of a file."""
    if not path.is_file():
        raise FileProblem(f"no file {path}", "a state that was saved")
    if not zipfile.is_zipfile(path):
        raise DataProblem(f"{path} is damaged or not a saved state", "a complete state.npz", OTHER)
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(file[HEADER].tobytes().decode())
            arrays = {name: file[name] for name in file.files if with_arrays and name != HEADER}
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataProblem(f"{path} is damaged or not a saved state ({error})", "a complete file", REMEDY) from error
    if header.get("format") != FORMAT:
        raise DataProblem(f"{path} has states of format {header.get('format')}", f"format {FORMAT}", REMEDY)
    return header, arrays


def _packed(value: Any, name: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """`value` as JSON; its arrays are put into `arrays` under names that begin with `name`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: _packed(getattr(value, field.name), f"{name}.{field.name}", arrays)
            for field in dataclasses.fields(value)
        }
        return {"class": type(value).__name__, "fields": fields}
    if isinstance(value, Enum):  # before the numbers and texts, which some enumerations are
        return {"member": value.name, "class": type(value).__name__}
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError(f"{name} is an array of objects: a state holds arrays of numbers and fixed-width text")
        arrays[name] = value
        return {"array": name}
    if isinstance(value, tuple):
        return {"tuple": [_packed(item, f"{name}.{i}", arrays) for i, item in enumerate(value)]}
    if isinstance(value, np.generic):
        arrays[name] = np.asarray(value)
        return {"scalar": name}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(
        f"{name} is of type {type(value).__name__}: a state holds dataclasses, arrays, numbers, text and None"
    )


def _unpacked(content: dict[str, Any], owner: type, arrays: dict[str, np.ndarray], path: Path) -> Any:
    """The value that `_packed` made `content` of; `owner` is the class itself, or the one whose annotations name the class."""
    if "array" in content:
        return arrays[content["array"]]
    if "scalar" in content:
        return arrays[content["scalar"]][()]
    if "tuple" in content:
        return tuple(_unpacked(item, owner, arrays, path) for item in content["tuple"])
    if "value" in content:
        return content["value"]
    known = {owner.__name__: owner, **_classes_named_by(owner)}
    kind = known.get(content["class"])
    if kind is None:
        raise DataProblem(f"{path} holds a {content['class']} inside a {owner.__name__}", "no such class", REMEDY)
    if "member" in content:
        if content["member"] not in kind.__members__:
            raise DataProblem(f"{path} says {content['member']}", f"one of {', '.join(kind.__members__)}", REMEDY)
        return kind[content["member"]]
    fields = {field.name for field in dataclasses.fields(kind)}
    if fields != set(content["fields"]):
        differing = ", ".join(sorted(fields ^ set(content["fields"])))
        raise DataProblem(
            f"{path} was written by another version of the program: {kind.__name__} differs in {differing}",
            "a state of this version",
            REMEDY,
        )
    return kind(**{name: _unpacked(item, kind, arrays, path) for name, item in content["fields"].items()})


def _classes_named_by(kind: type) -> dict[str, Any]:
    """Dataclasses and enumerations that the annotations of a dataclass name, by name."""
    modules = [
        sys.modules[base.__module__] for base in kind.__mro__
    ]  # a field that is inherited is written in its own module
    words = {word for field in dataclasses.fields(kind) for word in re.findall(r"\w+", _annotation(field.type))}
    classes = [(word, getattr(module, word, None)) for module in modules for word in words]
    return {
        name: found
        for name, found in classes
        if isinstance(found, type) and (dataclasses.is_dataclass(found) or issubclass(found, Enum))
    }


def _annotation(annotation: Any) -> str:
    if isinstance(annotation, str):
        return annotation
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace(".", " ")
