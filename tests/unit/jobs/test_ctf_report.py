"""The report on CTFs: pictures whose halves correspond, a list of exactly what is to be rejected and why, sound pages of any size."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from vitreous.estimation.ctf_estimate import Alternative, CtfEstimate, Lens, RingProfile
from vitreous.estimation.spectrum import Spectrum
from vitreous.fourier.transforms import frequencies
from vitreous.jobs import ctf_pictures
from vitreous.jobs.ctf_figures import plus_minus, rings_figure, spectrum_figure
from vitreous.jobs.ctf_pictures import (
    fitted_rings,
    measured_rings,
    spectrum_picture,
    spectrum_png,
    thumbnail_png,
    whole_plane,
)
from vitreous.jobs.ctf_report import HEADLINE, PICTURED, chosen, ctf_findings, ctf_report_sections, reasons, worst_first
from vitreous.jobs.ctf_row import FOLDER, CtfFailure, CtfRow
from vitreous.jobs.job import Outcome
from vitreous.jobs.report import Table, Thumbnail
from vitreous.optics.ctf import ctf

LENS = Lens(300e3, 2.7e7, 0.1)
BOX, STEP = 200, 1 / 400  # to 4 angstrom
PIXEL_SIZE = 1 / (BOX * STEP)
COARSEST, FINEST = 1 / 30, 1 / 4.2  # 1/angstrom


def depth_of(k: np.ndarray) -> np.ndarray:
    return 0.5 * np.exp(-40 * k * k)


def background_of(k: np.ndarray) -> np.ndarray:
    return 50 * np.exp(-12 * k) + 3


def wave(kx, ky, defocus, astigmatism) -> np.ndarray:
    """-cos(2 gamma), by way of the CTF squared: 2 sin^2 - 1."""
    values = ctf(
        kx,
        ky,
        defocus,
        np.array(astigmatism),
        voltage=LENS.voltage,
        spherical_aberration=LENS.spherical_aberration,
        amplitude_contrast=LENS.amplitude_contrast,
    )
    return 2 * values**2 - 1


def estimate_of(defocus=15000.0, astigmatism=(1200.0, 1500.0), *, averaged=400, found=True, **changes) -> CtfEstimate:
    """Made up: rings of a strong oblique astigmatism on a falling background, with noise of so many averages."""
    rng = np.random.default_rng(5)
    kx, ky = frequencies((BOX, BOX), PIXEL_SIZE)
    k = np.hypot(kx, ky)
    power = background_of(k) * (1 + found * depth_of(k) * wave(kx, ky, defocus, astigmatism))
    power = power * rng.gamma(averaged, 1 / averaged, size=power.shape)
    frequency = np.arange(COARSEST, FINEST, STEP)
    model = depth_of(frequency) * wave(frequency, 0 * frequency, defocus, (0.0, 0.0))
    background, one = background_of(frequency), np.ones_like(frequency)
    profile = RingProfile(
        frequency, background * (1 + model), background, model, model, depth_of(frequency), 0.9 * one, 100 * one
    )
    made = CtfEstimate(
        LENS,
        defocus,
        astigmatism,
        0.0,
        90.0,
        8.0,
        ("defocus", "astigmatism_along", "astigmatism_across"),
        np.diag([64.0, 36.0, 36.0]),
        found,
        "Rings to 4 A." if found else "The search finds noise.",
        0.8 if found else 0.05,
        31.0 if found else 2.1,
        4.4,
        0.02,
        (Alternative(1.4 * defocus, 9.1),),
        profile,
        Spectrum(power.astype(np.float32), PIXEL_SIZE, finest=4.0, averaged=averaged),
    )
    return replace(made, **changes)


@pytest.fixture(scope="module")
def estimate() -> CtfEstimate:
    return estimate_of()


@pytest.fixture(scope="module")
def png(estimate) -> bytes:
    return spectrum_png(spectrum_picture(estimate), 120)


def row_of(name: str, *, why=(), made: CtfEstimate | None = None, **changes) -> CtfRow:
    row = CtfRow.of_estimate(
        ROW_ESTIMATE if made is None else made,
        name=name,
        path=f"{name}.mrc",
        micrograph=f"{name}.mrc",
        kind="micrograph",
        optics_group=1,
        pixel_size=1.0,
        shape=(64, 64),
        reasons=why,
        seconds=1.0,
    )
    return replace(row, **changes)


ROW_ESTIMATE = estimate_of()


def absent(name: str, significance: float) -> CtfRow:
    return row_of(name, found=False, evidence="The search finds noise.", significance=significance)


def page_of(rows, folder, png, failures=()) -> tuple[str, list]:
    """The page, and its sections; all pictures are the same."""
    (folder / FOLDER).mkdir(exist_ok=True)
    for row in rows:
        (folder / row.spectrum_png).write_bytes(png)
    outcome = Outcome(ctf_findings(rows), title="CTF", headline=HEADLINE)
    outcome.sections = ctf_report_sections(outcome, rows, folder, failures)
    return outcome.report().html(), outcome.sections


def section(sections, heading):
    return next(one for one in sections if one.heading == heading)


# --- pictures ---------------------------------------------------------------------------------------------------------


def centred() -> tuple[np.ndarray, np.ndarray]:
    kx, ky = frequencies((BOX, BOX), PIXEL_SIZE, half=False)
    return np.fft.fftshift(np.broadcast_to(kx, (BOX, BOX))), np.fft.fftshift(np.broadcast_to(ky, (BOX, BOX)))


def test_the_right_half_is_the_formula(estimate):
    kx, ky = centred()
    k = np.hypot(kx, ky)
    inside = (k > COARSEST) & (k < FINEST - STEP)
    expected = depth_of(k) * wave(kx, ky, estimate.defocus, estimate.astigmatism)
    # depth by linear interpolation of a curve sampled every STEP: its error is STEP^2 / 8 times a curvature of 40
    np.testing.assert_allclose(fitted_rings(estimate)[inside], expected[inside], atol=5e-5)
    # the picture is that divided by a contrast that depends on |k| alone
    picture = spectrum_picture(estimate)
    right = inside & (kx >= 0) & (abs(expected) > 0.05)
    contrast = expected[right] / picture[right]
    ring = np.rint(k[right] / STEP).astype(int)
    for number in np.unique(ring):
        some = contrast[ring == number]
        assert some.min() > 0 and np.ptp(some) < 0.05 * some.mean()  # within a ring, 80 k STEP of m
    assert picture.dtype == np.float32 and picture.shape == (BOX, BOX)


def test_the_left_half_is_the_measurement(estimate):
    kx, ky = centred()
    k = np.hypot(kx, ky)
    full = np.fft.fft2(np.random.default_rng(0).normal(size=(8, 8)))
    np.testing.assert_allclose(
        whole_plane(abs(full[:, :5]) ** 2), np.fft.fftshift(abs(full) ** 2), rtol=1e-12
    )  # P(-k) = P(k)
    measured = measured_rings(estimate)
    assert measured.shape == (BOX, BOX // 2)
    truth = depth_of(k) * wave(kx, ky, estimate.defocus, estimate.astigmatism)
    left = ((k > 0.06) & (k < 0.16))[:, : BOX // 2]
    # rings are some six samples apart here: arcs of 4 samples damp those that run across them by some percent
    assert np.corrcoef(measured[left], truth[:, : BOX // 2][left])[0, 1] > 0.95
    # the other sign of the angle's sine, as rows counted from the wrong end have it, does not fit
    assert np.corrcoef(measured[left], truth[::-1, : BOX // 2][left])[0, 1] < 0.6


def test_the_halves_correspond(estimate):
    picture = spectrum_picture(estimate)
    k = np.hypot(*centred())
    turned = np.roll(picture[::-1, ::-1], (1, 1), axis=(0, 1))  # at -k, where a spectrum has the same value
    mirrored = np.roll(picture[:, ::-1], 1, axis=1)  # at (-kx, ky), where it has not, for want of symmetry
    some = (k > 0.05) & (k < 0.16) & np.isfinite(turned)
    some[:, BOX // 2 :] = False
    assert np.corrcoef(picture[some], turned[some])[0, 1] > 0.95
    assert np.corrcoef(picture[some], mirrored[some])[0, 1] < 0.6
    wrong = spectrum_picture(replace(estimate, astigmatism=(1200.0, -1500.0)))
    turned = np.roll(wrong[::-1, ::-1], (1, 1), axis=(0, 1))
    assert np.corrcoef(wrong[some], turned[some])[0, 1] < 0.6


def test_nothing_is_drawn_where_nothing_was_fitted(estimate):
    k = np.hypot(*centred())
    picture = spectrum_picture(estimate)
    last = estimate.profile.frequency[-1]
    np.testing.assert_array_equal(np.isfinite(picture), (k >= COARSEST) & (k <= last))


def test_faint_rings_far_out_are_as_bright_as_the_first(estimate):
    kx, ky = centred()
    k, picture = np.hypot(kx, ky), spectrum_picture(estimate)
    for low, high in ((0.04, 0.08), (0.12, 0.16)):  # the depth falls from 0.45 to 0.23 between the two
        part = (k > low) & (k < high) & (kx > 0)
        assert np.abs(picture[part]).max() > 0.9
    # and a spectrum without rings is drawn in fainter noise than rings are
    empty = spectrum_picture(estimate_of(found=False))
    left = np.isfinite(empty) & (kx < 0)
    rings = np.isfinite(picture) & (kx < 0) & (k < 0.1)
    assert empty[left].std() < picture[rings].std()


def test_the_scale_of_the_spectrum_does_not_matter(estimate):
    scaled = replace(estimate, spectrum=replace(estimate.spectrum, power=estimate.spectrum.power * np.float32(1e6)))
    np.testing.assert_allclose(spectrum_picture(scaled), spectrum_picture(estimate), rtol=1e-4, atol=1e-5)


def test_thickness_reverses_the_rings_beyond_its_node(estimate):
    thickness = 2000.0  # the node is at 1 / 6.3 A, see physics.md b7
    kx, ky = centred()
    k = np.hypot(kx, ky)
    thin, thick = fitted_rings(estimate), fitted_rings(replace(estimate, thickness=thickness))
    before, behind = (k > 0.1) & (k < 0.15), (k > 0.17) & (k < 0.2)
    assert (thin * thick)[before].min() >= 0 and (thin * thick)[behind].max() <= 0
    assert (thin * thick)[behind].min() < -1e-3


def test_arcs_leave_circles_and_average_noise():
    y, x = np.mgrid[:129, :129] - 64.0
    circles = np.cos(np.hypot(x, y))
    averaged = ctf_pictures.along_arcs(circles, 64)
    outside = (np.hypot(x, y)[:, :64] > 6) & (np.hypot(x, y)[:, :64] < 62)  # arcs of the corners leave the plane
    # linear interpolation within samples, of waves of 2 pi samples: at most (2 / 8 * 1), at the corners of a cell
    assert abs(averaged - circles[:, :64])[outside].max() < 0.25
    assert np.corrcoef(averaged[outside], circles[:, :64][outside])[0, 1] > 0.99
    noise = np.random.default_rng(1).normal(size=(129, 129))
    far = np.hypot(x, y)[:, :64] > 40
    # a Gaussian of rms 4 leaves 1 / sqrt(2 sqrt(pi) 4) = 0.27 of it, less what interpolation across the arc averages
    assert 0.15 < ctf_pictures.along_arcs(noise, 64)[far].std() < 0.3


def test_pictures_have_y_upwards_and_clear_corners(estimate):
    picture = np.full((BOX, BOX), np.nan, dtype=np.float32)
    k = np.hypot(*centred())
    picture[k < 0.2] = 0.0
    picture[(k < 0.2) & (centred()[1] > 0)] = 1.5  # white where ky is positive
    shown = np.asarray(Image.open(io.BytesIO(spectrum_png(picture, 100))).convert("LA"))
    assert shown.shape == (100, 100, 2)
    assert shown[20, 50].tolist() == [255, 255] and shown[80, 50, 0] in range(118, 138) and shown[80, 50, 1] == 255
    assert shown[2, 2, 1] == 0 and shown[-3, -3, 1] == 0
    assert shown[1, 50, 1] == 255  # it ends where the fit ends, not where the plane ends
    small = np.asarray(Image.open(io.BytesIO(thumbnail_png(spectrum_png(picture, 100), 40))).convert("LA"))
    assert small.shape == (40, 40, 2) and small[8, 20, 0] > 240 and small[32, 20, 0] in range(110, 146)
    assert small[0, 0, 1] == 0


def test_pictures_are_small(estimate):
    picture = spectrum_png(spectrum_picture(estimate))
    assert len(picture) < 80_000  # half a byte a pixel
    assert len(thumbnail_png(picture)) < 8_000


# --- the list of those to reject --------------------------------------------------------------------------------------


def test_the_list_has_exactly_the_rejected_with_their_reasons(tmp_path, png):
    rows = [
        row_of("good_1"),
        row_of("icy", why=("Crystalline ice.", "Astigmatism of 900 Å."), fit_resolution=4.0),
        row_of("coarse", why=("Rings end at 12 Å.",), fit_resolution=12.0),
        absent("empty", 3.0),
        row_of("good_2"),
        absent("emptier", 1.0),
    ]
    page, sections = page_of(rows, tmp_path, png)
    (table,) = section(sections, "To reject").tables
    assert [cells[1] for cells in table.rows] == ["emptier", "empty", "coarse", "icy"]  # the worst first
    nothing = ["No CTF found. The search finds noise."]
    assert [cells[2] for cells in table.rows] == [
        nothing,
        nothing,
        ["Rings end at 12 Å."],
        ["Crystalline ice.", "Astigmatism of 900 Å."],
    ]
    assert all(isinstance(cells[0], Thumbnail) for cells in table.rows)
    # numbers of fits that found nothing are not shown, those of the others are
    assert [cells[3] for cells in table.rows] == [None, None, "1.5000 ± 0.0008", "1.5000 ± 0.0008"]
    html = page[page.index('id="to-reject"') : page.index('id="defocus-and-fit"')]
    assert "good_1" not in html and "good_2" not in html
    for words in ("emptier", "Crystalline ice.", "Rings end at 12 Å.", "4 of 6 micrographs"):
        assert words in html
    (everything,) = section(sections, "All micrographs").tables
    assert [cells[:2] for cells in everything.rows] == [
        ("good_1", "keep"),
        ("icy", "reject"),
        ("coarse", "reject"),
        ("empty", "no CTF"),
        ("good_2", "keep"),
        ("emptier", "no CTF"),
    ]


def test_evidence_is_said_once():
    row = row_of("a", why=("The search finds noise.", "Ice."), found=False, evidence="The search finds noise.")
    assert reasons(row) == ["No CTF found. The search finds noise.", "Ice."]
    assert reasons(row_of("b", why=("Rings to 4 A.",), evidence="Rings to 4 A.")) == ["Rings to 4 A."]


def test_findings_are_of_what_was_found():
    rows = [row_of(str(i), defocus=1e4 * (1 + i), fit_resolution=float(3 + i)) for i in range(3)]
    rows += [absent("x", 2.0), row_of("y", why=("Ice.",), defocus=2e4, fit_resolution=None)]
    values = {finding.key: finding.value for finding in ctf_findings(rows)}
    assert set(HEADLINE) == set(values)
    assert values["micrographs"] == 5 and values["found"] == 4 and values["to_reject"] == 2
    assert values["defocus_um"] == pytest.approx(2.0) and values["fit_resolution"] == pytest.approx(4.0)
    low, high = np.percentile([1, 2, 2, 3], (16, 84))
    assert values["defocus_spread_um"] == pytest.approx((high - low) / 2)


def test_text_is_escaped(tmp_path, png):
    name = "<script>alert('&')<"
    nasty = [
        row_of(name, why=("<b>why</b>",), spectrum_png=f"{FOLDER}/a.png"),
        row_of("b", found=False, evidence="<i>none</i>", spectrum_png=f"{FOLDER}/b.png"),
        row_of("c", spectrum_png=f"{FOLDER}/c.png"),
    ]
    page, _ = page_of(nasty, tmp_path, png, [CtfFailure("<u>d", "<u>d.mrc", "<s>broken</s>")])
    for raw in (name, "<b>why", "<i>none", "<u>d", "<s>broken"):
        assert raw not in page
    for escaped in ("&lt;script&gt;alert(", "&lt;b&gt;why", "&lt;i&gt;none", "&lt;u&gt;d", "&lt;s&gt;broken"):
        assert escaped in page


# --- sets of any size -------------------------------------------------------------------------------------------------


def drawings(sections) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(figure.svg) for one in sections for figure in one.figures if figure.svg]


def test_one_good_micrograph(tmp_path, png):
    page, sections = page_of([row_of("only")], tmp_path, png)
    assert section(sections, "To reject").tables == () and "None of 1" in section(sections, "To reject").text
    assert len(section(sections, "A closer look").figures) == 2
    assert len(drawings(sections)) == 6 and "nan" not in page.lower().split("<script>")[0].replace("nanometre", "")


def test_nothing_found(tmp_path, png):
    _, sections = page_of([absent("a", 1.0), absent("b", 2.0)], tmp_path, png)
    first = section(sections, "To reject")
    assert [cells[1] for cells in first.tables[0].rows] == ["a", "b"]
    assert any("pixel size" in warning for warning in first.warnings)
    headings = [one.heading for one in sections]
    assert "Defocus and fit" not in headings and "A closer look" in headings
    found = {finding.key: finding.value for finding in ctf_findings([absent("a", 1.0)])}
    assert found["defocus_um"] is None and found["fit_resolution"] is None and found["found"] == 0


def test_a_thousand_micrographs_are_a_few_megabytes(tmp_path, png):
    rng = np.random.default_rng(3)
    rows = [
        row_of(
            f"FoilHole_{i:08d}_Data_fractions_patch_aligned_doseweighted",
            why=("A ring of crystalline ice stands 0.9 above its surroundings.",) if i % 5 == 0 else (),
            defocus=float(rng.uniform(5e3, 3e4)),
            astigmatism=tuple(rng.normal(200, 60, 2).tolist()),
            fit_resolution=float(rng.uniform(3, 5)),
        )
        for i in range(1000)
    ]
    page, sections = page_of(rows, tmp_path, spectrum_png(spectrum_picture(ROW_ESTIMATE)))
    assert len(page.encode()) < 3_000_000
    pictured, rest = section(sections, "To reject").tables
    assert len(pictured.rows) == PICTURED and len(rest.rows) == 200 - PICTURED and rest.folded
    assert {cells[1] for cells in pictured.rows} | {cells[0] for cells in rest.rows} == {
        r.name for r in rows if not r.good
    }
    assert len(section(sections, "All micrographs").tables[0].rows) == 1000
    shown = section(sections, "A closer look")
    kept = sorted((row.fit_resolution, row.name) for row in rows if row.good)
    captions = " ".join(figure.caption for figure in shown.figures)
    for _, name in (kept[0], kept[len(kept) // 2], kept[-1]):  # finest, typical and coarsest of those kept
        assert name in captions
    assert [row.name for row in chosen(rows, worst_first(rows))[:6]] == [row.name for row in worst_first(rows)[:6]]


def test_rejected_ones_are_told_apart_by_shape_and_named(tmp_path, png):
    rows = [row_of(f"k{i}", defocus=1e4 + 100 * i) for i in range(9)] + [
        row_of("bad", why=("Ice.",)),
        absent("none", 1.0),
    ]
    _, sections = page_of(rows, tmp_path, png)
    spot = ElementTree.fromstring(section(sections, "Defocus and fit").figures[0].svg)
    titles = {e.tag.split("}")[1]: set() for e in spot.iter()}
    for mark in spot.iter():
        for title in mark:
            if title.tag.endswith("}title") and mark is not spot:
                titles[mark.tag.split("}")[1]].add(title.text)
    assert titles["circle"] == {f"k{i}" for i in range(9)} and titles["path"] == {"bad: Ice."}
    assert "1 without a CTF" in section(sections, "Defocus and fit").text


def test_what_was_not_fitted_has_no_figure_and_no_column(tmp_path, png):
    _, plain = page_of([row_of("a"), row_of("b", ice_ring=None)], tmp_path, png)
    assert "Specimen and phase plate" not in [one.heading for one in plain]
    assert not {"tilt (°)", "thickness (nm)", "phase (°)"} & set(section(plain, "All micrographs").tables[0].headings)
    names = (*ROW_ESTIMATE.names, "phase_shift", "slope_x", "slope_y", "thickness")
    made = replace(
        ROW_ESTIMATE,
        slope=(0.3, 0.4),
        thickness=1234.0,
        phase_shift=1.5,
        names=names,
        covariance=np.diag([64.0, 36.0, 36.0, 1e-4, 1e-4, 1e-4, 900.0]),
    )
    page, full = page_of([row_of("a", made=made)], tmp_path, png)
    assert len(section(full, "Specimen and phase plate").figures) == 3
    (table,) = section(full, "All micrographs").tables
    cells = dict(zip(table.headings, table.rows[0]))
    assert cells["tilt (°)"] == "26.6 ± 0.5" and cells["thickness (nm)"] == "123.4 ± 3.0"  # atan 0.5; sigma 0.01 / 1.25
    assert cells["phase (°)"] == "85.9 ± 0.6"
    assert "tilt 26.6 ± 0.5°" in page and "123.4 ± 3.0 nm thick" in page
    _, without = page_of([row_of("a", ice_ring=None)], tmp_path, png)
    assert len(section(without, "Astigmatism and ice").figures) == 1
    assert "nothing can be said" in section(without, "Astigmatism and ice").text


def test_the_arrow_points_to_more_defocus(tmp_path, png):
    """To the right and upwards, where the picture has x and y; SVG counts y downwards."""
    (tmp_path / FOLDER).mkdir()
    row = row_of("a", slope=(0.3, 0.4), tilt=math.atan(0.5), tilt_sigma=0.01)
    (tmp_path / row.spectrum_png).write_bytes(png)

    def direction(one: CtfRow) -> tuple[float, float]:
        root = ElementTree.fromstring(spectrum_figure(one, tmp_path).svg)
        group = next(e for e in root.iter() if any((t.text or "").startswith("Direction") for t in e))
        path = next(e.get("d") or "" for e in group if e.tag.endswith("path"))
        x0, y0, x1, y1 = (float(v) for v in re.findall(r"-?[\d.]+", path)[:4])
        return (x1 - x0) / math.hypot(x1 - x0, y1 - y0), -(y1 - y0) / math.hypot(x1 - x0, y1 - y0)

    assert direction(row) == pytest.approx((0.6, 0.8), abs=0.01)
    assert direction(replace(row, slope=(-0.3, 0.4))) == pytest.approx((-0.6, 0.8), abs=0.01)
    assert "Direction" not in spectrum_figure(replace(row, tilt_sigma=0.3), tmp_path).svg  # noise points anywhere


def test_circles_are_where_their_resolutions_are(tmp_path, png):
    (tmp_path / FOLDER).mkdir()
    made = estimate_of()
    row = row_of(
        "a",
        fit_resolution=8.0,
        curves={
            name: (*values[:-1], 0.25 + (name != "frequency")) for name, values in row_of("b", made=made).curves.items()
        },
    )
    (tmp_path / row.spectrum_png).write_bytes(png)
    root = ElementTree.fromstring(spectrum_figure(row, tmp_path).svg)
    radii = [float(e.get("r", 0)) for e in root.iter() if e.tag.endswith("circle")]
    assert radii == [pytest.approx(99.0)]  # 4 A is at the border, 200 units out, less half a line; ice lies beyond
    curves = ElementTree.fromstring(rings_figure(row).svg)
    assert "8 Å" in [e.text for e in curves.iter() if e.tag.endswith("text")]


def test_numbers_with_errors():
    assert plus_minus(15234.0, 12.3, 1e4) == "1.5234 ± 0.0012"
    assert plus_minus(15234.0, 42.0, 1e4) == "1.523 ± 0.004"
    assert plus_minus(-12.34, 0.31) == "−12.34 ± 0.31"
    assert plus_minus(1234.0, 150.0) == "1234 ± 150"
    assert plus_minus(1.5, None) == "1.5" and plus_minus(1.5, 0.0) == "1.5"
    table = Table(("a",), [(["x", 1.0],)])
    assert table.cells() == [[["x", "1"]]]


def test_inputs_are_unchanged(estimate):
    before = estimate.spectrum.power.copy()
    spectrum_picture(estimate)
    np.testing.assert_array_equal(estimate.spectrum.power, before)
