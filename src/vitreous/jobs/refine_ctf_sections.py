"""The report of a CTF refinement: defoci and their errors, positions, spread, odd phase, agreement, micrographs."""

from __future__ import annotations

import numpy as np

from vitreous.estimation.agreement_survey import AgreementSums
from vitreous.estimation.ctf_refinement import CtfRefinement, GroupRefinement, RefinementSettings
from vitreous.estimation.reference_images import ReferenceImages
from vitreous.jobs.curves import Series, Threshold, histogram, line_plot
from vitreous.jobs.job import Outcome
from vitreous.jobs.pictures import png_bytes
from vitreous.jobs.refine_ctf_tables import Micrographs, coordinates_of, micrograph_rows
from vitreous.jobs.report import Figure, Section, Source, Table

POINTS = 3000  # drawn of a scatter, at most
BINS = 10
LOWEST_EVIDENCE = 30.0  # nats below the best spread, where the curve ends
PICTURE = 240  # pixels of a picture of phases
SMOOTH = 1.5  # Fourier pixels, rms, over which phases are averaged for the eye
SHOWN_PHASE = np.pi / 2  # of full colour
BLUE, WHITE, RED = np.array([33.0, 102, 172]), np.array([247.0, 247, 247]), np.array([178.0, 24, 43])
SOURCES = (
    Source("Zivanov et al. 2018, per-particle defocus and beam tilt in RELION-3", "10.7554/eLife.42166"),
    Source("Zivanov et al. 2020, higher-order aberrations and anisotropic magnification", "10.1107/S2052252520000081"),
)


def refinement_sections(
    outcome: Outcome, refined: CtfRefinement, settings: RefinementSettings, micrographs: Micrographs | None
) -> list[Section]:
    """All sections that this refinement has something to say in."""
    sections = [
        Section(
            "Result",
            "Each particle image is compared with the projection of the reference at its own pose, multiplied by its CTF. The CTF that "
            "makes the image most probable is the better one; how fast the probability falls on both sides says how sure it is.",
            numbers=outcome.numbers(),
            sources=SOURCES,
        )
    ]
    if settings.freedom.defocus != "none":
        sections.append(defocus_section(refined))
        coordinates = coordinates_of(refined.particles)
        if coordinates is not None:
            sections.append(position_section(refined, coordinates))
        if settings.freedom.own:
            sections.append(spread_section(refined))
    sections.append(phase_section(refined, settings))
    sections.append(agreement_section(refined))
    if micrographs is not None and settings.freedom.shared:
        sections.append(micrograph_section(refined, micrographs))
    return sections


def defocus_section(refined: CtfRefinement) -> Section:
    """Histograms of the changes of defocus and of their standard deviations."""
    change = histogram(
        refined.defocus_change,
        x_label="change of defocus (Å)",
        y_label="particles",
        title="Changes of defocus",
        thresholds=[Threshold(0.0, "as in the file", vertical=True)],
    )
    sigma = histogram(
        refined.defocus_sigma,
        x_label="standard deviation (Å)",
        y_label="particles",
        title="How sure the defoci are",
    )
    text = (
        "Changes to the right make a particle more underfocused. The second histogram is the standard deviation of each new defocus. Where it is as "
        "wide as the first, the images say little, and most of what they seem to say is noise."
    )
    return Section(
        "Defocus",
        text,
        figures=[
            Figure("Change of the defocus of each particle.", svg=change, alt="Histogram of changes"),
            Figure("Standard deviation of each new defocus.", svg=sigma, alt="Histogram of standard deviations"),
        ],
    )


def position_section(refined: CtfRefinement, coordinates: np.ndarray) -> Section:
    """Change of defocus against x and y."""
    change = refined.defocus_change
    own = change - np.bincount(refined.unit, change)[refined.unit] / np.bincount(refined.unit)[refined.unit]
    chosen = np.linspace(0, len(own) - 1, min(POINTS, len(own))).astype(int)
    figures = []
    for axis, name in enumerate("xy"):
        place = coordinates[:, axis]
        edges = np.linspace(place.min(), place.max() + 1e-6, BINS + 1)
        bin_of = np.digitize(place, edges) - 1
        count = np.maximum(np.bincount(bin_of, minlength=BINS), 1)
        mean = np.where(
            np.bincount(bin_of, minlength=BINS) > 0, np.bincount(bin_of, own, minlength=BINS) / count, np.nan
        )
        plot = line_plot(
            [
                Series("particles", place[chosen], own[chosen], style="points"),
                Series("mean", (edges[1:] + edges[:-1]) / 2, mean),
            ],
            x_label=f"{name} in the micrograph (px)",
            y_label="change, less the micrograph's (Å)",
            title=f"Change of defocus along {name}",
        )
        figures.append(Figure(f"Along {name}, all micrographs.", svg=plot, alt=f"Change of defocus against {name}"))
    text = (
        "The change of each particle less the mean of its micrograph. A slope common to all micrographs is a tilt of the stage; scatter without "
        "slope is the thickness of the ice, or noise."
    )
    return Section("Position", text, figures=figures)


def spread_section(refined: CtfRefinement) -> Section:
    """The log-likelihood of each spread."""
    evidence = refined.spread_evidence - refined.spread_evidence.max()
    reached = np.flatnonzero(evidence > -LOWEST_EVIDENCE)[-1] + 2
    spreads, evidence = refined.spreads[:reached], np.maximum(evidence[:reached], -LOWEST_EVIDENCE)
    plot = line_plot(
        [Series("log-likelihood", spreads, evidence)],
        x_label="standard deviation of the defoci in a micrograph (Å)",
        y_label="log-likelihood (nats)",
        title="What the images say of the spread",
        thresholds=[Threshold(-0.5), Threshold(refined.spread, "used", vertical=True)],
    )
    text = (
        "Particles lie at different heights in the ice, and their defoci differ by as much. How much, all images together say even where each "
        "alone says little: this curve. A particle whose image says nothing gets the defocus of its micrograph, with this spread as its error."
    )
    return Section(
        "Spread",
        text,
        figures=[
            Figure("Above the dashed line, half a nat below the top, is the 68 % interval.", svg=plot, alt="Spreads")
        ],
    )


def phase_section(refined: CtfRefinement, settings: RefinementSettings) -> Section:
    """Pictures of the odd phase that is left between images and reference."""
    shown = refined.groups[:4]
    figures = [phase_figure(refined.images, group) for group in shown]
    text = (
        "The phase by which images differ from the reference, in Fourier space, zero frequency in the middle: white is none, red and blue are "
        "a quarter of a turn or more forwards and back. A beam tilt paints one side red and the other blue, in rings whose colour "
        "deepens outwards. White noise of colours means that nothing is left."
    )
    if not settings.beam_tilt:
        text += " No beam tilt was fitted: if the two sides differ in colour, --beam-tilt will find it."
    if len(refined.groups) > len(shown):
        text += f" The first {len(shown)} of {len(refined.groups)} optics groups are shown."
    return Section("Odd phase", text, figures=figures)


def phase_figure(images: ReferenceImages, group: GroupRefinement) -> Figure:
    panels = [phase_picture(images, sums) for sums in (group.first_sums, group.last_sums)]
    gap = np.zeros((PICTURE, 10, 4), np.uint8)
    return Figure(
        f"Optics group {group.name}, {group.count:,} particles.",
        png=png_bytes(np.concatenate([panels[0], gap, panels[1]], axis=1)),
        alt="Phase differences between images and reference before and after the refinement",
        columns=("before", "after"),
        wide=True,
    )


def phase_picture(images: ReferenceImages, sums: AgreementSums) -> np.ndarray:
    """Colours [y, x, 4] of the phase of `sums.cross`, kx to the right and ky upwards, averaged for the eye."""
    from scipy.ndimage import gaussian_filter, zoom

    grid, middle = images.grid, int(np.ceil(np.hypot(images.grid.kx, images.grid.ky).max())) + 1
    plane = np.zeros((2 * middle + 1, 2 * middle + 1), dtype=complex)
    weighted = sums.cross / np.sqrt(np.maximum(sums.power, np.finfo(float).tiny))
    plane[middle + grid.ky, middle + grid.kx] = weighted
    plane[middle - grid.ky, middle - grid.kx] = weighted.conj()
    compared = np.zeros(plane.shape)
    compared[middle + grid.ky, middle + grid.kx] = compared[middle - grid.ky, middle - grid.kx] = 1
    real, imaginary = (np.asarray(gaussian_filter(part, SMOOTH)) for part in (np.real(plane), np.imag(plane)))
    factor = PICTURE / len(plane)
    phase = np.asarray(zoom(np.arctan2(imaginary, real), factor, order=0))[:PICTURE, :PICTURE]
    inside = np.asarray(zoom(compared, factor, order=0))[:PICTURE, :PICTURE] > 0.5
    amount = np.clip(phase / SHOWN_PHASE, -1, 1)[..., None]
    colour = WHITE + np.abs(amount) * (np.where(amount > 0, RED, BLUE) - WHITE)
    picture = np.zeros((PICTURE, PICTURE, 4), np.uint8)
    height, width = inside.shape
    picture[:height, :width, :3] = colour.round().astype(np.uint8)
    picture[:height, :width, 3] = 255 * inside
    return picture[::-1]


def agreement_section(refined: CtfRefinement) -> Section:
    """Correlation of images and reference by shell, before and after."""
    group = max(refined.groups, key=lambda group: group.count)
    frequency = refined.images.shell_frequency
    plot = line_plot(
        [
            Series("before", frequency, group.before.correlation),
            Series("after", frequency, group.after.correlation),
        ],
        x_label="spatial frequency (1/Å)",
        y_label="correlation",
        title="Correlation of images and reference",
        resolution_axis=True,
    )
    text = (
        "The correlation of single images with the reference, CTF included, averaged over the particles: small, since images are "
        "mostly noise, and higher where CTFs are right."
    )
    return Section(
        "Agreement",
        text,
        figures=[Figure(f"Optics group {group.name}.", svg=plot, alt="Correlation by shell before and after")],
    )


def micrograph_section(refined: CtfRefinement, micrographs: Micrographs) -> Section:
    """A table of what changed in each micrograph."""
    rows = micrograph_rows(refined, micrographs)
    shown = {
        "rlnMicrographName": "micrograph",
        "vitreousParticles": "particles",
        "rlnDefocusU": "U (Å)",
        "rlnDefocusV": "V (Å)",
        "rlnDefocusAngle": "angle (°)",
        "vitreousDefocusChange": "defocus change (Å)",
        "vitreousDefocusError": "±",
        "vitreousAstigmatismChangeAlong": "astigmatism change along (Å)",
        "vitreousAstigmatismChangeAcross": "across (Å)",
        "vitreousAstigmatismSigma": "± ",
        "vitreousLogLikelihoodGain": "gain (nats)",
    }
    kept = [name for name in shown if name in rows]
    cells = [[_cell(rows[name][row]) for name in kept] for row in range(len(rows))]
    folded = f"{len(rows)} micrographs" if len(rows) > 20 else ""
    table = Table([shown[name] for name in kept], cells, folded=folded)
    text = "What is shared by the particles of a micrograph, and what it gained. U, V and angle are means over its particles."
    return Section("Micrographs", text, tables=[table])


def _cell(value: object) -> object:
    if isinstance(value, np.integer):
        return int(value)
    return f"{float(value):.1f}" if isinstance(value, np.floating) else str(value)
