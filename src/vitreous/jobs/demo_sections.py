"""The report of the demonstration, written for someone who sees such a report for the first time: a section for each step, with a picture, what was
true, and the command that does the same by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitreous.fourier.filters import gaussian_low_pass
from vitreous.fourier.transforms import forward, inverse, radial_frequency
from vitreous.io.mrc_stack import MrcStack
from vitreous.jobs.ctf_figures import rings_figure, spectrum_figure
from vitreous.jobs.ctf_micrograph import FILE
from vitreous.jobs.ctf_row import CtfRow
from vitreous.jobs.demo_map_sections import map_sections
from vitreous.jobs.demo_steps import (
    CLASSES,
    CTF,
    DEFOCUS_UM,
    INITIAL,
    MICROGRAPHS,
    PARTICLES,
    PICKS,
    PIXEL_SIZE,
    REFINED,
    SELECTED,
    THRESHOLD,
    Scale,
)
from vitreous.jobs.demo_truth import Truths, median_degrees
from vitreous.jobs.job import Finding, Outcome
from vitreous.jobs.pictures import image_gallery
from vitreous.jobs.report import Figure, Section, Table
from vitreous.units import DEGREE

Outcomes = Mapping[str, Outcome]  # of the steps, by their folders
HEADLINE = (
    "resolution_angstrom",
    "resolution_against_truth_angstrom",
    "pick_recall",
    "pose_error_deg",
)
SHOWN_PARTICLES, SHOWN_RESOLUTION = 16, 50.0  # images, and angstrom that they are filtered to for the eye


def demo_findings(outcomes: Outcomes, truths: Truths) -> list[Finding]:
    """The numbers of the whole way; those of `HEADLINE` say most."""
    comparison, picks, kept = truths.comparison, truths.picks, truths.kept
    resolution = next(f for f in outcomes[REFINED].findings if f.key == "resolution_angstrom")
    counted = {f.key: f.value for f in outcomes[REFINED].findings}
    angle, centre = truths.poses.angle, truths.poses.centre
    return [
        resolution,
        *comparison.findings(),
        Finding("particles_true", "particles simulated", picks.true_count, "", "In all micrographs together."),
        Finding("picks", "picks", picks.found_count, "", "Places at which something stood out."),
        Finding("pick_recall", "found by picking", 100 * picks.recall, "%", "Of the true particles.", 1),
        Finding("pick_precision", "true picks", 100 * picks.precision, "%", "Of the picks; the others are noise.", 1),
        Finding("kept_recall", "kept by selection", 100 * kept.recall, "%", "Of the true particles.", 1),
        Finding("kept_precision", "true among the kept", 100 * kept.precision, "%", "Of the particles kept.", 1),
        Finding("particles", "particles in the map", counted["particles"], "", "Those that selection kept."),
        Finding(
            "defocus_error_angstrom",
            "error of defocus",
            float(np.sqrt(np.mean(truths.defocus**2))),
            "Å",
            "Root mean square over the micrographs, estimated against true.",
            0,
        ),
        Finding(
            "pose_error_deg",
            "error of orientation",
            median_degrees(angle),
            "°",
            "Median angle between the refined and the true orientation of a particle.",
        ),
        Finding(
            "poses_beyond_5_deg",
            "orientations more than 5° off",
            100 * float(np.mean(angle > 5 * DEGREE)) if len(angle) else None,
            "%",
            "Of the particles: their images were assigned another view than they show.",
            1,
        ),
        Finding(
            "origin_error_angstrom",
            "error of centre",
            float(np.median(centre)) if len(centre) else None,
            "Å",
            "Median distance of the refined from the true centre of a particle in its image.",
        ),
    ]


def demo_sections(outcome: Outcome, outcomes: Outcomes, truths: Truths, scale: Scale, folder: Path) -> list[Section]:
    """What happened in a table, a section a step, the map beside the truth, and where to go on."""
    steps = [
        micrograph_section(outcomes, scale),
        ctf_section(truths, folder),
        pick_section(outcomes, truths),
        particle_section(scale, folder),
        class_section(outcomes, scale),
        select_section(outcomes, truths),
        start_section(outcomes),
    ]
    commands = outcome.tables["commands"]
    steps = [
        by_hand(section, commands[name])
        for section, name in zip(steps, (MICROGRAPHS, CTF, PICKS, PARTICLES, CLASSES, SELECTED, INITIAL))
    ]
    first, *further = map_sections(outcome, truths)
    return [
        story_section(outcome, outcomes, truths, scale),
        *steps,
        by_hand(first, commands[REFINED]),
        *further,
        next_section(),
    ]


def by_hand(section: Section, command: str) -> Section:
    """The section with the command of its step below it."""
    table = Table(("The same by hand",), [[command]])
    return replace(section, tables=[*section.tables, table])


# --- the story --------------------------------------------------------------------------------------------------------


def story_section(outcome: Outcome, outcomes: Outcomes, truths: Truths, scale: Scale) -> Section:
    """The first thing to read: the way in a table."""
    text = (
        f"A computer played the microscope: from an atomic model it made {scale.micrographs} micrographs with "
        f"{scale.particles} ribosomes each, every one at a "
        "random place in a random orientation. From then on the truth was put aside. The same eight commands that "
        "process real data found the "
        "lens's defocus, the particles, their kinds, a first map out of nothing, and where each particle was "
        "looked at from. At the end everything "
        "was compared with the truth, which real data never tells.\n\n"
        "An image of a particle shows it from one side only, in reverse where the lens reverses it, and in noise: the "
        "dose that would show it clearly would destroy it. So many images of the same molecule are averaged. For that it "
        "must be known from which side each shows it, and that is what most of the work is about.\n\n"
        "Each section below ends with the command that does the same by hand, typed in the folder of the demonstration."
    )
    seconds, rows = outcome.tables["seconds"], []
    for (what, found), (name, time) in zip(step_words(outcomes, truths, scale), seconds.items()):
        rows.append([what, found, f"{time:.0f} s", name])
    headings = ("step", "what came out", "time", "folder")
    return Section("What happened", text, tables=[Table(headings, rows)])


def step_words(outcomes: Outcomes, truths: Truths, scale: Scale) -> list[tuple[str, str]]:
    """Name and result of each step, in a few words."""
    value = {name: {f.key: f.value for f in one.findings} for name, one in outcomes.items()}
    picks, kept, comparison = truths.picks, truths.kept, truths.comparison
    error = np.sqrt(np.mean(truths.defocus**2))
    starts = value[INITIAL]
    median = median_degrees(truths.poses.angle)
    angle = "" if median is None else f", orientations {median:.1f}° off (median)"
    return [
        ("simulate", f"{scale.micrographs} micrographs, {picks.true_count} particles"),
        ("CTF", f"defocus of {len(truths.defocus)} micrographs, {error:.0f} Å off (rms)"),
        (
            "pick",
            f"{picks.found_count} picks: {len(picks)} of the {picks.true_count} particles, and {picks.found_count - len(picks)} that are noise",
        ),
        (
            "extract",
            f"{value[PARTICLES]['particles']} images of {scale.box} × {scale.box} pixels of {scale.pixel_size:g} Å",
        ),
        ("classify in 2D", f"{value[CLASSES]['classes_used']} class averages"),
        ("select", f"{kept.found_count} kept, {kept.found_count - len(kept) or 'none'} of them noise"),
        (
            "ab-initio map",
            f"random starts that found one map: {starts['starts_agreeing']} of the {starts['starts']} made",
        ),
        (
            "refine",
            f"{shown(comparison.resolution)} by the half maps, {shown(comparison.true_resolution)} against the truth{angle}",
        ),
    ]


def shown(resolution: float | None) -> str:
    return "no resolution" if resolution is None else f"{resolution:.1f} Å"


# --- one section a step -----------------------------------------------------------------------------------------------


def micrograph_section(outcomes: Outcomes, scale: Scale) -> Section:
    low, high = DEFOCUS_UM
    text = (
        "The electrostatic potential of 165,175 atoms, in ice; the lens, "
        f"{low:g} to {high:g} µm out of focus, because particles in focus would hardly be seen; a detector, and 40 electrons on each square "
        f"ångström. {scale.micrographs} such pictures were made, with pixels of {PIXEL_SIZE:g} Å. "
        "The particles are the dark blobs; electrons that come one by one, and ice, make the grain."
    )
    simulated = outcomes[MICROGRAPHS]
    pictures = [figure for section in simulated.sections for figure in section.figures]
    figures = [replace(pictures[0], wide=False)]
    sources = [source for section in simulated.sections for source in section.sources][:1]
    return Section("1 · Micrographs", text, figures=figures, sources=sources)


def ctf_section(truths: Truths, folder: Path) -> Section:
    text = (
        "Out of focus the lens shows some details of the specimen in reverse and drops others. In the spectrum of "
        "a micrograph that makes rings, and how close they lie "
        "tells the defocus. Left half: measured. Right half: what the fit says. They belong together if the rings "
        "meet. "
        f"The estimates are {np.sqrt(np.mean(truths.defocus**2)):.0f} Å off the true defocus (rms; the worst "
        f"{np.abs(truths.defocus).max():.0f} Å), which is some 20,000 Å."
    )
    records = sorted((folder / CTF / "micrographs").glob("*.json"))
    content = json.loads(records[0].read_text(encoding="utf-8"))
    row = CtfRow.from_json({name: value for name, value in content.items() if name != FILE})
    return Section("2 · Defocus", text, figures=[spectrum_figure(row, folder / CTF), rings_figure(row)])


def pick_section(outcomes: Outcomes, truths: Truths) -> Section:
    picks = truths.picks
    text = (
        "Particles were looked for by their size alone: dark blobs between 220 and 300 Å across. Everything was "
        "taken that stands out by more than "
        f"{THRESHOLD:g} standard deviations of the noise, which is little: false picks are put apart later, and "
        "particles that are not picked are lost. "
        f"{len(picks)} of {picks.true_count} particles were found ({100 * picks.recall:.1f} %), their centres "
        f"{np.sqrt(np.mean(picks.distance**2)):.0f} Å off (rms); "
        f"{picks.found_count - len(picks)} of {picks.found_count} picks are noise."
    )
    figures = [outcomes[PICKS].sections[0].figures[0]]
    return Section("3 · Picks", text, figures=figures)


def particle_section(scale: Scale, folder: Path) -> Section:
    text = (
        f"A square was cut out about each pick, turned from dark to bright, evened out and reduced to {scale.box} "
        f"× {scale.box} pixels. Nothing finer than "
        f"{2 * scale.pixel_size:g} Å, two pixels, can be seen in them from now on."
    )
    stack = MrcStack(sorted((folder / PARTICLES / "particles").glob("*.mrcs"))[0])
    images = np.asarray(stack.read(slice(0, SHOWN_PARTICLES)), dtype=np.float32)
    k = radial_frequency(images.shape[-2:], scale.pixel_size)
    smooth = inverse(
        forward(images, 2) * gaussian_low_pass(k, 1 / SHOWN_RESOLUTION).astype(np.float32), images.shape[-2:]
    )
    half = SHOWN_PARTICLES // 2
    caption = f"Eight particles. Above as they were cut, below filtered to {SHOWN_RESOLUTION:g} Å for the eye."
    png = image_gallery([*images[:half], *smooth[:half]], columns=half, size=128)
    return Section(
        "4 · Particles", text, figures=[Figure(caption, png=png, alt="Images of eight particles", wide=True)]
    )


def class_section(outcomes: Outcomes, scale: Scale) -> Section:
    text = (
        "Images that show the particle from the same side are brought together, turned and moved onto each other, "
        "and averaged: the noise goes, the particle "
        f"stays. Nobody says what the {scale.classes} classes should look like; they begin as noise. All are "
        "below, with the number of their particles and how fine they are."
    )
    gallery = next(gallery for section in outcomes[CLASSES].sections for gallery in section.galleries)
    return Section("5 · Class averages", text, galleries=[gallery])


def select_section(outcomes: Outcomes, truths: Truths) -> Section:
    picks, kept = truths.picks, truths.kept
    text = (
        "Images of the same molecule agree with the average of their class; images of nothing agree with nothing. "
        "Particles that agree, of classes that look like projections of one molecule, are kept. Of the "
        f"{len(picks)} particles picked {len(kept)} were kept, and of the {picks.found_count - len(picks)} false picks "
        f"{kept.found_count - len(kept) or 'none'}."
    )
    return Section("6 · Selection", text, galleries=list(outcomes[SELECTED].sections[0].galleries))


def start_section(outcomes: Outcomes) -> Section:
    made = next(finding.value for finding in outcomes[INITIAL].findings if finding.key == "starts")
    text = (
        f"A map from nothing. Each of {made} starts gave the particles random orientations, made the blob "
        "that comes of it, compared particles with the blob from all "
        "sides, made it anew, and so on: what fits a little better is taken up, until a particle grows out of it. "
        "A start can go astray. So several are made, the better ones go on from half-way, and what "
        "they agree on is believed. Below they lie over each other, mirror images included: from projections alone "
        "nobody can tell a left from a right hand."
    )
    figures = next(s for s in outcomes[INITIAL].sections if s.heading == "The starts").figures
    return Section("7 · A first map", text, figures=figures)


def next_section() -> Section:
    text = (
        "Each folder has a report of its own, with more pictures and numbers than this page. At the top of the "
        "demonstration's folder lie the results: map.mrc, half1.mrc, "
        "half2.mrc and sharpened.mrc, the truth laid over them as truth.mrc, and particles.star with the refined "
        "orientations. They open in any molecular viewer.\n\n"
        "The commands above work on your own data just the same: begin with the second one, and give it your "
        "micrographs. Change an option and see what happens: "
        "fewer particles, a wrong diameter, another seed."
    )
    return Section("Where to go on", text)
