"""Writes docs/reference.md and docs/reference/*.md: every command with its options, from the command line's own schema,
and every public function and class with its signature and its first sentence, from the source.

    python docs/make_reference.py

A test compares the committed pages with what this makes.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitreous.cli import COMMANDS, Command

DOCS = Path(__file__).resolve().parent
SOURCE = DOCS.parent / "src" / "vitreous"
MAKE = "made by `python docs/make_reference.py`; do not edit"
# Rooms from the ground up; what a room is for stands in the docstring of its __init__.py.
ROOMS = (
    "model",
    "geometry",
    "io",
    "engine",
    "fourier",
    "optics",
    "specimen",
    "scattering",
    "detection",
    "reconstruction",
    "simulation",
    "picking",
    "estimation",
    "alignment",
    "heterogeneity",
    "conformance",
    "jobs",
    "reference",
)
Definition = ast.FunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Module:
    """A module by its dotted name, with its text and its syntax tree."""

    name: str
    text: str
    tree: ast.Module

    @property
    def sentence(self) -> str:
        return first_sentence(ast.get_docstring(self.tree))

    def definitions(self) -> Iterator[Definition]:
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield node

    def source(self, node: ast.expr) -> str:
        return " ".join((ast.get_source_segment(self.text, node) or "").split())

    def header(self, node: ast.FunctionDef) -> str:
        """The text between `def` and the body on one line, as the author wrote it: `name(arguments) -> result`."""
        lines = self.text.splitlines()[node.lineno - 1 : node.body[0].lineno]
        lines[-1] = lines[-1][: node.body[0].col_offset]
        text = " ".join(re.sub(r"\s#.*", "", line).strip() for line in lines).strip()
        text = text.removeprefix("def ").removesuffix(":")
        return re.sub(r",? \)", ")", re.sub(r"\( ", "(", text))


def pages() -> dict[Path, str]:
    """The content of every page, by its path."""
    made = {DOCS / "reference.md": index_page(), DOCS / "reference" / "commands.md": commands_page()}
    return made | {DOCS / "reference" / f"{room}.md": room_page(room) for room in ROOMS}


def index_page() -> str:
    """The rooms, and the modules that stand outside them."""
    lines = [
        f"<!-- {MAKE} -->",
        "# Reference",
        "",
        "[Commands and their options](reference/commands.md)",
        "",
        "Every public function and class with its signature and the first sentence of its docstring; the rest of the",
        "docstring (formula, units, errors, source, example) stands in the code. Arrays are annotated with their shapes:",
        '`Float[Array, "n y x"]`. Axes, units and signs: [conventions](conventions.md), [physics](physics.md). A room imports',
        "only from rooms above it in this list: [layers](decisions/0006-layers.md).",
        "",
        "| room | what it is |",
        "|---|---|",
    ]
    for room in ROOMS:
        lines.append(f"| [{room}](reference/{room}.md) | {cell(read(SOURCE / room / '__init__.py').sentence)} |")
    lines += ["", "## Outside the rooms", ""]
    for path in sorted(SOURCE.glob("*.py")):
        if not path.stem.startswith("__"):
            lines += module_lines(read(path))
    return "\n".join(lines).rstrip() + "\n"


def commands_page() -> str:
    """Every command with its options."""
    lines = [
        f"<!-- {MAKE} -->",
        "# Commands",
        "",
        "`vitreous COMMAND --help` prints the same. [Which one](../choose.md)?",
        "",
    ]
    for command in COMMANDS:
        lines += [f"## `vitreous {' '.join(command.words)}`", "", f"{command.summary}.", ""]
        lines += [f"    {command.example}", "", "| option | default | what it is |", "|---|---|---|"]
        lines += [option_row(argument) for argument in options(command)]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def options(command: Command) -> list[Any]:
    """The arguments of a command, as the command line parses them."""
    from cyclopts import App, Parameter

    app = App(default_parameter=Parameter(negative_iterable=()), version_flags=())
    app.default(importlib.import_module(f"vitreous.cli.{command.module}").run)
    return [argument for argument in app.assemble_argument_collection(parse_docstring=True) if argument.show]


def option_row(argument: Any) -> str:
    """An option, or the name of an argument that stands by its place."""
    places = argument.index is not None
    names = [name.removeprefix("--").upper() for name in argument.names[:1]] if places else argument.names
    about = " ".join(argument.parameter.help.split())
    about += "" if about.endswith(".") else "."
    choices = argument.get_choices()
    if choices:
        about += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
    names = ", ".join(f"`{name}`" for name in names) or "`FILES`"
    return f"| {names} | {cell(default_text(argument))} | {cell(about)} |"


def default_text(argument: Any) -> str:
    if argument.required:
        return "required"
    value = argument.field_info.default
    if value is None or value == [] or not isinstance(value, bool | int | float | str | tuple | Path):
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    values = value if isinstance(value, tuple) else (value,)
    return " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)


def room_page(room: str) -> str:
    """The modules of one room."""
    package = read(SOURCE / room / "__init__.py")
    lines = [f"<!-- {MAKE} -->", f"# {room}", "", package.sentence, "", "[All rooms](../reference.md)", ""]
    lines += [line for node in package.definitions() for line in entry_lines(package, node)]
    for path in sorted((SOURCE / room).glob("*.py")):
        if not path.stem.startswith("__"):
            lines += module_lines(read(path))
    return "\n".join(lines).rstrip() + "\n"


def read(path: Path) -> Module:
    relative = path.relative_to(SOURCE.parent).with_suffix("")
    name = ".".join(relative.parts).removesuffix(".__init__")
    text = path.read_text(encoding="utf-8")
    return Module(name, text, ast.parse(text))


def module_lines(module: Module) -> list[str]:
    lines = [f"## `{module.name}`", "", module.sentence, ""]
    for node in module.definitions():
        lines += entry_lines(module, node)
    return [*lines, ""] if lines[-1] else lines


def entry_lines(module: Module, node: Definition) -> list[str]:
    """A definition as an item of a list; below a class, its public methods that have something to say."""
    sentence = first_sentence(ast.get_docstring(node))
    kinds = parents(module, node) if isinstance(node, ast.ClassDef) else ""
    lines = [f"- `{signature(module, node)}`{kinds}" + (f"<br>{sentence}" if sentence else "")]
    if isinstance(node, ast.ClassDef):
        for part in node.body:
            if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                about = first_sentence(ast.get_docstring(part))
                lines += [f"  - `{signature(module, part)}`: {about}"] if about else []
    return lines


def signature(module: Module, node: Definition) -> str:
    """Name, arguments and result; of a dataclass its fields, of a property its type."""
    if isinstance(node, ast.ClassDef):
        return f"{node.name}({', '.join(fields(module, node))})"
    header = re.sub(
        r"\((self|cls)(, |\))", lambda found: "(" if found[2] == ", " else "()", module.header(node), count=1
    )
    if decorated(node, "property") or decorated(node, "cached_property"):
        return header.replace("()", "", 1)
    return header


def fields(module: Module, node: ast.ClassDef) -> list[str]:
    """The fields of a dataclass, else the arguments of `__init__`, else the bases."""
    if decorated(node, "dataclass"):
        typed = [part for part in node.body if isinstance(part, ast.AnnAssign)]
        pairs = [(module.source(part.target), module.source(part.annotation)) for part in typed]
        return [f"{name}: {kind}" for name, kind in pairs if not kind.startswith("ClassVar")]
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            inside = signature(module, part).removeprefix("__init__(").removesuffix(")")
            return [inside] if inside else []
    return [module.source(base) for base in node.bases]


def parents(module: Module, node: ast.ClassDef) -> str:
    """The bases of a dataclass, whose fields come first; those of other classes stand in their signature."""
    names = [f"`{module.source(base)}`" for base in node.bases] if decorated(node, "dataclass") else []
    return f", a {' and a '.join(names)}" if names else ""


def decorated(node: Definition, name: str) -> bool:
    texts = [ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list]
    return any(text.split(".")[-1] == name for text in texts)


def first_sentence(docstring: str | None) -> str:
    """The docstring up to the end of its first sentence, on one line."""
    paragraph = " ".join((docstring or "").split("\n\n")[0].split())
    end = re.search(r"(?<!et al)\.(?=\s+[A-Z`(]|$)", paragraph)
    return paragraph[: end.start() + 1] if end else paragraph


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    (DOCS / "reference").mkdir(exist_ok=True)
    made = pages()
    for path, content in made.items():
        path.write_text(content, encoding="utf-8")
    for stale in set((DOCS / "reference").glob("*.md")) - set(made):
        stale.unlink()
    print(f"{len(made)} pages in {DOCS}")


if __name__ == "__main__":
    main()
