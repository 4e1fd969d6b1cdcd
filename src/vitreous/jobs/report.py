"""The report of a job: one page that holds everything it shows, for a person to read, keep and send on.

The page asks the network for nothing. It follows the light or dark theme of the reader's system, fits a phone, prints,
and explains each number in a sentence. All text is escaped; figures are SVG made by `curves` or PNG made by `pictures`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vitreous
from vitreous.errors import DataProblem
from vitreous.jobs.pictures import data_uri

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Number:
    """One figure of the result. `meaning` says in one sentence what it tells. A float is shown with four figures; give
    text for any other form.
    """

    label: str
    value: str | float | int | None
    unit: str = ""
    meaning: str = ""

    @property
    def text(self) -> str:
        return value_text(self.value)


@dataclass(frozen=True)
class Figure:
    """A drawing (`svg`) or a picture (`png`) with its caption. `alt` describes a picture to those who cannot see it.

    `columns` are headings above a picture of several panels, one a column, and `rows` at its left, one a row. A `wide`
    figure takes the whole width of the page.
    """

    caption: str
    svg: str = ""
    png: bytes = b""
    alt: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[str] = ()
    wide: bool = False

    def __post_init__(self) -> None:
        if bool(self.svg) == bool(self.png):
            raise DataProblem(f"figure '{self.caption[:40]}'", "either SVG or PNG")
        if self.png and not self.alt:
            raise DataProblem(f"picture '{self.caption[:40]}' without alt text", "a description of what it shows")

    @property
    def uri(self) -> str:
        return data_uri(self.png)


@dataclass(frozen=True)
class Thumbnail:
    """A small picture in a cell of a table. `alt` describes it to those who cannot see it."""

    png: bytes
    alt: str

    @property
    def uri(self) -> str:
        return data_uri(self.png)


@dataclass(frozen=True)
class Tile:
    """A small picture with up to two short lines under it. `alt` describes it to those who cannot see it."""

    png: bytes
    alt: str
    lines: Sequence[str] = ()

    @property
    def uri(self) -> str:
        return data_uri(self.png)


@dataclass(frozen=True)
class Gallery:
    """Tiles row by row, as many in a row as there is room for. Several galleries of a section stand side by side where that fits.
    `round` shows pictures as discs.
    """

    tiles: Sequence[Tile]
    heading: str = ""
    caption: str = ""
    round: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under headings; each row as long as the headings. A cell is a value, a list of sentences or a `Thumbnail`.

    `folded` is what stands in place of a long table until it is opened. A table with thumbnails becomes a list on phones.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    folded: str = ""

    def __post_init__(self) -> None:
        lengths = {len(row) for row in self.rows} - {len(self.headings)}
        if lengths:
            raise DataProblem(f"a table row of {lengths.pop()} cells", f"{len(self.headings)}, one a heading")

    @property
    def pictured(self) -> bool:
        return any(isinstance(cell, Thumbnail) for row in self.rows for cell in row)

    def cells(self) -> list[list[str | list[str] | Thumbnail]]:
        return [[_cell(cell) for cell in row] for row in self.rows]


@dataclass(frozen=True)
class Source:
    """Where a method comes from: a citation and, if it has one, its DOI."""

    citation: str
    doi: str = ""


@dataclass(frozen=True)
class Section:
    """One part of a report. Blank lines part the paragraphs of `text`."""

    heading: str
    text: str = ""
    figures: Sequence[Figure] = ()
    numbers: Sequence[Number] = ()
    tables: Sequence[Table] = ()
    warnings: Sequence[str] = ()
    sources: Sequence[Source] = ()
    galleries: Sequence[Gallery] = ()

    @property
    def paragraphs(self) -> list[str]:
        return paragraphs(self.text)

    @property
    def anchor(self) -> str:
        """The name of the section in addresses: its heading in lower case, words joined by hyphens."""
        words = "".join(c if c.isalnum() else " " for c in self.heading.lower()).split()
        return "-".join(words) or "section"


@dataclass(frozen=True)
class Report:
    """A whole page. `headline` are the few numbers that a hurried reader needs, `warnings` what must not be overlooked,
    `lead` some sentences before all else.
    """

    title: str
    subtitle: str
    sections: Sequence[Section] = ()
    warnings: Sequence[str] = ()
    headline: Sequence[Number] = ()
    lead: str = ""

    def html(self, *, settings: Mapping[str, Any] | None = None, provenance: Mapping[str, Any] | None = None) -> str:
        """The page. `settings` and `provenance`, nested mappings and lists of plain values, are shown folded at its
        end.

        >>> page = Report("Map <1>", "64 voxels").html(settings={"symmetry": "D2"})
        >>> page.startswith("<!doctype html>"), "Map &lt;1&gt;" in page, "https://" in page
        (True, True, False)
        """
        folded = {"Settings": settings, "Provenance": provenance}
        return _template().render(
            report=self,
            lead=paragraphs(self.lead),
            details={name: list(flat_rows(values)) for name, values in folded.items() if values},
            version=vitreous.__version__,
        )


def _cell(value: Any) -> str | list[str] | Thumbnail:
    if isinstance(value, list | tuple):
        return [value_text(one) for one in value]
    return value if isinstance(value, Thumbnail) else value_text(value)


def value_text(value: Any) -> str:
    """A value as people read it: 4 figures of a float, thousands apart, yes or no, a dash for nothing.

    >>> value_text(7.654321), value_text(12345), value_text(None), value_text(True), value_text("D2")
    ('7.654', '12\\u2009345', '–', 'yes', 'D2')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u2009").replace("-", "\u2212")
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "\u2212")
    return str(value)


def paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def flat_rows(values: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings and lists as rows of (name, value), the names of the levels joined by ` › `; lists of plain
    values on one row.

    >>> list(flat_rows({"symmetry": "D2", "machine": {"cores": 2}, "command": ["vitreous", "fsc"]}))
    [('symmetry', 'D2'), ('machine › cores', '2'), ('command', 'vitreous fsc')]
    """
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from flat_rows(value, f"{name} › {key}" if name else str(key))
    elif isinstance(values, list | tuple) and any(isinstance(value, Mapping | list | tuple) for value in values):
        for index, value in enumerate(values, start=1):
            yield from flat_rows(value, f"{name} › {index}" if name else str(index))
    elif isinstance(values, list | tuple):
        yield name, " ".join(str(value) for value in values)
    else:
        yield (
            name,
            str(values) if isinstance(values, float | int) and not isinstance(values, bool) else value_text(values),
        )


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawing"] = Markup  # SVG of `curves`, which escapes the text in it
    environment.globals["style"] = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))
    environment.globals["script"] = Markup((TEMPLATES / "report.js").read_text(encoding="utf-8"))
    return environment.get_template("report.html.j2")
