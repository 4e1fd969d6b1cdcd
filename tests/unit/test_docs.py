"""The documentation is true where a program can tell: links, commands, options, names of tests, constants, examples."""

from __future__ import annotations

import doctest
import functools
import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from vitreous.cli import COMMANDS, Command, find, run_command
from vitreous.reconstruction import diagnosis

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
WRITTEN = [page for page in PAGES if page.parent != DOCS / "reference" and page != DOCS / "reference.md"]
LARGEST_PICTURE = 150_000  # bytes


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^( *)```.*?^\1```", "", text, flags=re.M | re.S))


def anchors(text: str) -> set[str]:
    """The names that headings get in addresses."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@functools.cache
def program(path: str) -> ModuleType:
    """A script of the documentation as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def command_lines(text: str) -> Iterator[str]:
    """Lines of code blocks that run vitreous, continued and chained ones included."""
    for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, flags=re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            yield from (part.strip() for part in re.split(r"&&|;", line.removeprefix("$ ")) if "vitreous" in part)


def mentions(text: str) -> Iterator[str]:
    """Commands in running text, between single backquotes; a line may end within them."""
    for words in re.findall(r"(?<!`)`((?:uv run )?vitreous [^`]+)`(?!`)", text):
        yield " ".join(words.split())


def words_of(line: str) -> list[str]:
    """The words after `vitreous`."""
    return shlex.split(line.partition("vitreous ")[2])


@functools.cache
def options_of(command: Command) -> set[str]:
    arguments = program(str(DOCS / "make_reference.py")).options(command)
    return {option for argument in arguments for option in argument.names} | {"--help", "--debug"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", without_code(text_of(page))):
        if re.match(r"https://", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.is_file(), f"{target} is not there"
        assert linked.is_relative_to(ROOT)
        assert not anchor or anchor in anchors(text_of(linked)), f"{target}: no such heading"


def test_every_page_is_reached_from_the_index():
    reached, open_pages = set(), [DOCS / "index.md"]
    while open_pages:
        page = open_pages.pop()
        if page in reached or page.suffix != ".md" or not page.is_relative_to(DOCS):
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)#]+)", without_code(text_of(page)))
        open_pages += [(page.parent / link).resolve() for link in links if not link.startswith("https:")]
    assert reached == set(DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_command_lines_are_what_the_command_line_takes(page, monkeypatch):
    """Each is parsed by the command's own signature, types and choices included; nothing is run."""
    for line in command_lines(text_of(page)):
        words = words_of(line)
        command = find(words)
        assert command is not None, line
        module = importlib.import_module(f"vitreous.cli.{command.module}")
        nothing = functools.wraps(module.run)(lambda *_, **__: 0)
        assert run_command.run_command(command, nothing, words[len(command.words) :]) == 0, line


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_mentioned_commands_and_options_exist(page):
    for mention in mentions(text_of(page)):
        words = words_of(mention)
        if words[0] in ("COMMAND", "--help", "--version"):
            continue
        command = find(words)
        assert command is not None, mention
        unknown = {word for word in words if word.startswith("--")} - options_of(command)
        assert not unknown, f"{mention}: {unknown}"


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_options_mentioned_alone_are_some_commands(page):
    everything = set().union(*(options_of(command) for command in COMMANDS))
    scripts = {"--rows", "--repeats", "--version"}  # of benchmarks, and of the program itself
    alone = set(re.findall(r"`(--[a-z][a-z0-9-]*)[^`]*`", text_of(page)))
    assert alone <= everything | scripts


def test_checks_of_commands_can_fail():
    assert list(command_lines("```sh\nuv run vitreous nothing --out x\n```\n")) == ["uv run vitreous nothing --out x"]
    assert find(words_of("vitreous nothing --out x")) is None
    fsc = find(["fsc"])
    assert fsc is not None and "--radius" in options_of(fsc) and "--symmetry" not in options_of(fsc)


def test_readme_opens_with_the_two_commands():
    opening = [line for line in text_of(ROOT / "README.md").splitlines()[1:] if line.strip()][:4]
    assert opening == [
        "```sh",
        "pip install uv && uv run vitreous demo",
        "pip install uv && uv run pytest",
        "```",
    ]


def test_readme_lists_every_command_as_the_program_does():
    rows = re.findall(r"^\| `([a-z0-9 ]+)` \| (.+?) \| `(vitreous .+?)` \|$", text_of(ROOT / "README.md"), flags=re.M)
    assert rows == [(" ".join(c.words), c.summary, c.example) for c in COMMANDS]


def test_reference_is_current():
    made = program(str(DOCS / "make_reference.py")).pages()
    stale = [name(path) for path, content in made.items() if not path.is_file() or text_of(path) != content]
    assert not stale, "run `python docs/make_reference.py`"
    assert set((DOCS / "reference").glob("*.md")) <= set(made)


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_named_tests_exist(page):
    for path, test in re.findall(r"`((?:unit|agreement|faults|properties)/[\w/]+\.py)::(\w+)`", text_of(page)):
        assert f"def {test}(" in text_of(ROOT / "tests" / path), f"{path}::{test}"


def test_conventions_name_a_test_each():
    items = re.split(r"^- ", text_of(DOCS / "conventions.md"), flags=re.M)[1:]
    assert len(items) > 25
    assert [item for item in items if ".py::test_" not in item] == []


def test_thresholds_of_the_doctor_are_those_of_the_code():
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([\d.]+) \|", text_of(DOCS / "doctor.md"), flags=re.M)
    constants = {key: value for key, value in vars(diagnosis).items() if key.isupper() and isinstance(value, float)}
    assert {key: float(value) for key, value in rows} == constants


def test_every_dependency_is_justified_with_its_bound():
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    rows = re.findall(r"^\| ([a-z0-9-]+) \| (\S+) \|", text_of(DOCS / "decisions" / "0001-dependencies.md"), flags=re.M)
    assert [key + bound for key, bound in rows if key not in ("package", "---")] == project["dependencies"]
    assert all(re.search(r"<\d", requirement) for requirement in project["dependencies"])


def test_layers_are_those_of_the_contract():
    contract = tomllib.loads(text_of(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"][0]["layers"]
    page = text_of(DOCS / "decisions" / "0006-layers.md")
    block = re.search(r"^```\n(.*?)^```", page, flags=re.M | re.S)
    assert block is not None
    rows = [re.split(r"  +", line)[0] for line in block[1].splitlines()]
    drawn = [row for line in rows for row in line.split(", ")]
    assert drawn == contract


@pytest.mark.parametrize("page", [page for page in WRITTEN if ">>>" in text_of(page)], ids=name)
def test_examples_run(page):
    test = doctest.DocTestParser().get_doctest(text_of(page), {}, name(page), name(page), 0)
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test)
    assert test.examples and runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_speak_of_no_machine(page):
    text = text_of(page)
    found = re.findall(r"(?<![\w.])/(?:work|tmp|home|root|usr|opt|mnt|data)/\S*", text)
    found += re.findall(
        r"\S*(?:py{1}pi\.org|python{1}hosted|conda\.anaconda|index-url|127\.0\.0\.1|localhost)\S*", text
    )
    assert found == []


def test_pictures_are_small_and_used():
    shown = {link for page in PAGES for link in re.findall(r"pictures/([\w.]+)\)", text_of(page))}
    pictures = {path.name: path.stat().st_size for path in (DOCS / "pictures").iterdir()}
    assert set(pictures) == shown
    assert max(pictures.values()) < LARGEST_PICTURE


def test_the_scripts_explain_themselves():
    for script in ("docs/make_pictures.py", "benchmarks/insertion.py"):
        done = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and "usage" in done.stdout
