"""The report page: complete, escaped, balanced, and asking nothing of the network."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from vitreous.errors import DataProblem
from vitreous.jobs.curves import Series, line_plot, sphere_map
from vitreous.jobs.pictures import image_gallery
from vitreous.jobs.report import (
    Figure,
    Gallery,
    Number,
    Report,
    Section,
    Source,
    Table,
    Thumbnail,
    Tile,
    flat_rows,
    value_text,
)

VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags in order, their nesting checked, and the text between them."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def report(**changes) -> Report:
    svg = line_plot([Series("FSC", [0, 0.1], [1, 0])], x_label="1/Å", y_label="FSC", title="FSC")
    png = image_gallery(np.random.default_rng(0).random((4, 8, 8)), size=16)
    sections = [
        Section(
            "Resolution",
            "Two halves agree.\n\nThis is how far.",
            figures=[
                Figure("The curve.", svg=svg),
                Figure("Some <images>.", png=png, alt="Four images", columns=["a", "b"], rows=["r"]),
            ],
            numbers=[Number("Resolution", 7.654321, "Å", "The finest detail on which the half maps agree.")],
            tables=[Table(("Shell", "FSC"), [(1, 0.99), (2, None)], "FSC by shell")],
            warnings=["The mask reaches the border."],
            sources=[Source("Chen et al. 2013", "10.1016/j.ultramic.2013.06.004"), Source("A book")],
        ),
        Section("Views", figures=[Figure("Where from.", svg=sphere_map(np.ones(192), title="Views"), wide=True)]),
        Section("Last"),
    ]
    base = {"headline": [Number("Particles", 1468)], "warnings": ["Poses were refined together."], "lead": "In short."}
    return Report("Reconstruction", "64 voxels", sections, **(base | changes))


def test_everything_given_is_on_the_page():
    page = Page(report().html(settings={"symmetry": "D2"}, provenance={"inputs": [{"path": "a.star", "bytes": 12}]}))
    for words in (
        "Reconstruction",
        "64 voxels",
        "In short.",
        "Two halves agree.",
        "This is how far.",
        "7.654",
        "The finest detail on which the half maps agree.",
        "The mask reaches the border.",
        "Poses were refined together.",
        "FSC by shell",
        "The curve.",
        "Chen et al. 2013",
        "A book",
        "1 468",
        "inputs › 1 › path a.star",
        "symmetry D2",
    ):
        assert words in page.text
    assert [tag for tag, _ in page.tags].count("figure") == 3
    assert ("img", "Four images") in [(tag, attributes.get("alt")) for tag, attributes in page.tags]
    assert {"resolution", "views", "last", "how"} <= {
        attributes.get("id") for tag, attributes in page.tags if tag == "section"
    }


def test_the_page_fetches_nothing():
    html = report().html(settings={"a": 1})
    page = Page(html)
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset", "background", "xlink:href"):
            value = attributes.get(name) or ""
            if tag == "a" and name == "href":
                assert value.startswith(("#", "https://doi.org/"))  # followed only when the reader clicks
            else:
                assert not value or value.startswith("data:image/png;base64,"), (tag, name, value[:60])
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
    assert not re.findall(r"@import|url\((?!#)", html)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'") and "http" not in policy


def test_text_is_escaped_everywhere():
    nasty = "<script>bad()</script>&\"'"
    hostile = Report(
        nasty,
        nasty,
        [
            Section(
                nasty,
                nasty,
                figures=[Figure(nasty, png=image_gallery(np.zeros((1, 4, 4))), alt=nasty, columns=[nasty])],
                numbers=[Number(nasty, nasty, nasty, nasty)],
                tables=[Table([nasty], [[nasty]], nasty)],
                warnings=[nasty],
                sources=[Source(nasty, nasty)],
            )
        ],
        warnings=[nasty],
        headline=[Number(nasty, nasty)],
        lead=nasty,
    )
    html = hostile.html(settings={nasty: nasty}, provenance={"x": [nasty, {"y": nasty}]})
    assert "bad()" in html and "<script>bad" not in html
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 1  # the page's own
    assert page.text.count(nasty) >= 18


def test_both_themes_phones_and_printers_are_provided_for():
    html = report().html()
    assert "prefers-color-scheme: dark" in html and '[data-theme="dark"]' in html
    assert 'name="viewport"' in html and "max-width: 520px" in html and "@media print" in html
    page = Page(html)
    assert ("button", "theme") in [(tag, attributes.get("id")) for tag, attributes in page.tags]
    assert next(attributes for tag, attributes in page.tags if tag == "html")["lang"] == "en"


def test_every_theme_colour_of_the_figures_is_defined_in_both_themes():
    html = report().html()
    used = set(re.findall(r"var\((--[a-z0-9-]+)", html))
    style = html[html.index("<style>") : html.index("</style>")]
    light = set(re.findall(r"(--[a-z0-9-]+):", style[: style.index("prefers-color-scheme")]))
    dark = set(re.findall(r"(--[a-z0-9-]+):", style[style.index(':root[data-theme="dark"]') : style.index("* {")]))
    assert used <= light
    assert used - {"--sans"} <= dark


def test_same_report_same_page():
    assert report().html(settings={"a": 1}) == report().html(settings={"a": 1})


def test_a_small_report_is_only_what_it_is():
    page = Page(Report("Title", "").html())
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"nav", "aside", "details", "section", "dl"}


def test_values_as_people_read_them():
    assert [value_text(v) for v in (0.000123456, -2.5, 1e6, False, 0, "x")] == [
        "0.0001235",
        "\u22122.5",
        "1e+06",
        "no",
        "0",
        "x",
    ]


def test_nested_provenance_becomes_rows():
    record = {
        "seed": None,
        "seconds": 0.25,
        "libraries": {"numpy": "2.1"},
        "inputs": [{"path": "a"}, {"path": "b"}],
        "command": ["v", "fsc"],
    }
    assert list(flat_rows(record)) == [
        ("seed", "–"),
        ("seconds", "0.25"),
        ("libraries › numpy", "2.1"),
        ("inputs › 1 › path", "a"),
        ("inputs › 2 › path", "b"),
        ("command", "v fsc"),
    ]


def test_incomplete_parts_are_refused():
    with pytest.raises(DataProblem, match="either SVG or PNG"):
        Figure("nothing")
    with pytest.raises(DataProblem, match="alt text"):
        Figure("no words", png=b"x")
    with pytest.raises(DataProblem, match="2 cells"):
        Table(["a"], [[1, 2]])


def test_tables_hold_pictures_and_lists_and_fold():
    png = image_gallery(np.random.default_rng(0).random((1, 8, 8)), size=16)
    pictured = Table(("picture", "name", "why"), [(Thumbnail(png, "Rings <1>"), "a", ["First.", "Second <b>."])])
    folded = Table(("name",), [("z",)], folded="One & only")
    page = Page(Report("T", "", [Section("S", tables=[pictured, folded, Table(("n",), [(1,)])])]).html())
    assert pictured.pictured and not folded.pictured
    images = [dict(attributes) for tag, attributes in page.tags if tag == "img"]
    assert [image["alt"] for image in images] == ["Rings <1>"] and images[0]["src"] == Thumbnail(png, "x").uri
    assert "First. Second <b>." in page.text and "One & only" in page.text
    names = [tag for tag, _ in page.tags]
    assert names.count("details") == 1 and names.index("details") > names.index("table")
    labels = [attributes["data-label"] for tag, attributes in page.tags if tag == "td" and "data-label" in attributes]
    assert labels == ["picture", "name", "why"]  # on phones, where a table of pictures has no headings


def test_galleries_show_tiles_with_their_lines():
    png = image_gallery(np.random.default_rng(0).random((1, 8, 8)), size=16)
    tiles = [Tile(png, "First <one>", ("class 1", "12 · 8 Å")), Tile(png, "Second")]
    section = Section("Classes", galleries=[Gallery(tiles, "Kept", round=True), Gallery(tiles[:1], "Rejected")])
    page = Page(Report("Classes", "", [section]).html())
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert [picture["alt"] for picture in pictures] == ["First <one>", "Second", "First <one>"]
    assert all(str(picture["src"]).startswith("data:image/png") for picture in pictures)
    assert "class 1 12 · 8 Å" in page.text and page.text.index("Kept") < page.text.index("Rejected")
