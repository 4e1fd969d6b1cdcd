"""What a signal subtraction has to say: figures, warnings, pictures before and after, scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.fourier.filters import apply_filter, gaussian_low_pass
from vitreous.fourier.transforms import radial_frequency
from vitreous.jobs.curves import Threshold, histogram
from vitreous.jobs.job import Finding, Outcome
from vitreous.jobs.particle_input import header_warning, stacks_of
from vitreous.jobs.pictures import image_gallery, slices_picture
from vitreous.jobs.report import Figure, Section, Source, Table
from vitreous.jobs.subtract_stacks import FOLDER, ORIGINAL, STAR, Subtraction
from vitreous.simulation.images import simulate_images
from vitreous.simulation.subtraction import Remains, ScaleFit

if TYPE_CHECKING:
    from vitreous.jobs.subtract import Subtract

SHOWN_PARTICLES = 6
SHOWN_RESOLUTION = 20.0  # angstrom
MEANING = (
    "From each image the projection of everything outside the mask was taken, along the particle's pose, with its CTF and at its "
    "contrast. The part inside the mask is left, in the noise of the whole image. Noise is what single images show; that the right "
    "thing was taken is told by how much of either part all images together still hold."
)
SOURCES = (Source("Bai et al. 2015, masked classification with signal subtraction", "10.7554/eLife.11182"),)


@dataclass(frozen=True)
class Shown:
    """A finished subtraction: the fit of the scales, what `sampled` particles still hold, and how many groups share one."""

    subtraction: Subtraction
    fit: ScaleFit
    remains: Remains
    groups: int
    sampled: int

    @property
    def outside(self) -> tuple[int, float]:
        """How many recentred images reach beyond the recorded one, and the largest fraction of one that does."""
        cut = self.subtraction.cut
        if cut is None:
            return 0, 0.0
        inside = np.ones(len(cut.offset))
        size, low = self.subtraction.maps.box, -(cut.box // 2)
        for axis in range(2):
            start = size // 2 + cut.offset[:, axis] + low
            inside *= np.clip(np.minimum(start + cut.box, size) - np.maximum(start, 0), 0, None) / cut.box
        return int((inside < 1).sum()), float(1 - inside.min())


def subtraction_outcome(shown: Shown, job: Subtract) -> Outcome:
    """Everything that the job says."""
    subtraction = shown.subtraction
    outcome = Outcome(findings(shown, job), warnings(shown, job), title=f"Signal subtraction from {job.particles.name}")
    outcome.headline = ("particles", "removed_after", "kept_after")
    outcome.subtitle = (
        f"{len(subtraction.particles):,} particles, {subtraction.box} px of {subtraction.maps.pixel_size:.4g} Å"
    )
    outcome.inputs = stacks_of(subtraction.particles)
    outcome.tables = {"pixel_size_angstrom": subtraction.maps.pixel_size}
    if subtraction.cut is not None:
        outcome.tables["centre_voxel"] = subtraction.cut.centre.tolist()
    numbers = outcome.numbers([f.key for f in outcome.findings if f.key not in outcome.headline])
    figures = [before_and_after(subtraction), parts_figure(subtraction)]
    outcome.sections = [
        Section("Result", MEANING, figures=figures, numbers=numbers, sources=SOURCES),
        scale_section(shown, job),
        Section("Files", "", tables=[Table(("file", "content"), files(subtraction))]),
    ]
    return outcome


def findings(shown: Shown, job: Subtract) -> list[Finding]:
    subtraction, remains = shown.subtraction, shown.remains
    scale = subtraction.scale
    kept = float(subtraction.maps.keep.mean(dtype=np.float64))
    found = [
        Finding("particles", "particles", len(scale), "", "Images from which the rest of the particle was subtracted."),
        Finding(
            "removed_before",
            "other parts, before",
            remains.removed[0],
            "",
            f"How much of what was subtracted the images held, 1 as much as was taken, over {shown.sampled:,} particles.",
            3,
        ),
        Finding(
            "removed_after", "other parts, after", remains.removed[1], "", "How much of it is left; 0 is nothing.", 3
        ),
        Finding(
            "kept_after", "kept part, after", remains.kept[1], "", "How much of the kept part is left; 1 is all.", 3
        ),
        Finding("mask_fraction", "mask", kept, "of the box", "How much of the box the part that was kept takes up.", 3),
        Finding(
            "scale_median",
            "scale",
            float(np.median(scale)),
            "",
            "Median of what the images of the map were multiplied by; 1 if it is on the images' scale.",
            3,
        ),
    ]
    if job.scale != "none":
        found.append(
            Finding("scale_spread", "spread", float(scale.std()), "", "Standard deviation of the scales in use.", 3)
        )
        found.append(
            Finding(
                "scale_error",
                "error of one particle's",
                float(np.median(shown.fit.error)),
                "",
                "Standard deviation of the scale that one image alone gives, from its noise.",
                3,
            )
        )
    if job.scale == "group":
        found.append(
            Finding(
                "groups",
                "groups",
                shown.groups,
                "",
                "Particles of a micrograph (or optics group) share a scale, either half set its own where there are half maps.",
            )
        )
    if subtraction.cut is not None:
        offset = float(np.linalg.norm(subtraction.cut.centre))
        found += [
            Finding(
                "centre_offset_angstrom",
                "centre of the mask",
                offset * subtraction.maps.pixel_size,
                "Å",
                "From the origin of the map; the new boxes are centred on it.",
                1,
            ),
            Finding("box", "new box", subtraction.cut.box, "px", "Of the images that were cut out anew."),
        ]
    return found


def warnings(shown: Shown, job: Subtract) -> list[str]:
    subtraction, scale = shown.subtraction, shown.fit.scale
    found = header_warning(subtraction.particles)
    if job.map is not None:
        found.append(
            "One map for all particles: if it was made of them, their own noise is in it and is subtracted too, and half sets are no "
            "longer independent. Half maps (--half-maps) avoid that."
        )
    weak = int((scale <= 0).sum())
    if weak:
        found.append(
            f"{weak:,} of {len(scale):,} images do not show the map at all (scale 0 or below): junk, or wrong poses or CTFs."
        )
    overall = float(shown.fit.cross.sum() / shown.fit.power.sum())
    if job.scale == "none" and not 0.8 < overall < 1.25:
        found.append(
            f"The images hold {overall:.2f} times as much of the map as was subtracted: --scale group measures that."
        )
    if abs(shown.remains.removed[1]) > 0.1:
        found.append(
            f"{shown.remains.removed[1]:.0%} of what was subtracted is still in the images: the two parts have other contrasts than in the map."
        )
    if ORIGINAL in subtraction.particles.table:
        found.append(f"The column {ORIGINAL} of the file was replaced by the names of the images that it lists.")
    count, worst = shown.outside
    if count:
        found.append(
            f"{count:,} of the new boxes reach beyond the recorded images, by up to {worst:.0%} of their pixels, which are 0: give a smaller --box."
        )
    return found


def before_and_after(subtraction: Subtraction) -> Figure:
    """Some particles: recorded, what was taken out, what is left, and what the map says should be left."""
    half, rows = subtraction.maps.rows(subtraction.particles)[0]
    few = rows[np.linspace(0, len(rows) - 1, min(len(rows), SHOWN_PARTICLES)).astype(int)]
    part, scale = subtraction.particles.rows(few), subtraction.scale[few, None, None]
    assert part.images is not None
    recorded = part.images.read(slice(None))
    maps = subtraction.maps
    removed, kept = (
        scale * np.concatenate(list(simulate_images(each[half], part)))
        for each in (maps.removed_projectors, maps.kept_projectors)
    )
    k = radial_frequency(recorded.shape[1:], part.pixel_size)
    transfer = gaussian_low_pass(k, 1 / SHOWN_RESOLUTION)
    rows_shown = [apply_filter(images, transfer) for images in (recorded, removed, recorded - removed, kept)]
    return Figure(
        f"Some particles, filtered to {SHOWN_RESOLUTION:g} Å for the eye, before they are cut out anew: as recorded, the projection "
        "that was subtracted, what is left, and what the map says should be left.",
        png=image_gallery(np.concatenate(rows_shown), columns=len(few), size=120),
        alt="Particles before and after subtraction",
        rows=("recorded", "subtracted", "left", "map"),
        wide=True,
    )


def parts_figure(subtraction: Subtraction) -> Figure:
    """The part that was kept, in the box of the particles."""
    maps = subtraction.maps
    return Figure(
        "The part that was kept: central slices of map times mask across z, y and x, and projections along them.",
        png=slices_picture(maps.whole[0].data * maps.keep),
        alt="Slices and projections of the part that was kept",
        columns=("along z", "along y", "along x"),
        rows=("slices", "projections"),
        wide=True,
    )


def scale_section(shown: Shown, job: Subtract) -> Section:
    """How the scales of single particles scatter."""
    scale = shown.fit.scale
    low, high = np.percentile(scale, (0.5, 99.5))
    plot = histogram(
        scale,
        x_label="scale of a particle",
        y_label="particles",
        title="Scales of the particles",
        description=f"Median {np.median(scale):.2f}; the noise of an image makes an error of {np.median(shown.fit.error):.2f}.",
        x_limits=(float(low), float(high)) if high > low else None,
        thresholds=[Threshold(float(np.median(shown.subtraction.scale)), "in use (median)", vertical=True)],
    )
    used = {
        "group": "The scale in use is that of all particles of a group together.",
        "particle": "Each particle's own is in use, noise and all.",
        "none": "None is in use: the map was subtracted as it is.",
    }[job.scale]
    text = (
        "How much of the whole map each image shows, by least squares. Thin ice and strong contrast raise it; much of the scatter is the "
        f"noise of single images. {used}"
    )
    caption = f"Scales of single particles; noise alone scatters them by {np.median(shown.fit.error):.2f}."
    return Section("Contrast", text, figures=[Figure(caption, svg=plot, alt="Histogram of scales")])


def files(subtraction: Subtraction) -> list[tuple[str, str]]:
    moved = "" if subtraction.cut is None else ", with origins and box of the recentred images"
    return [
        (f"{FOLDER}/", "The subtracted images"),
        (STAR, f"The columns of the file that was read{moved}; {ORIGINAL} has the image before subtraction"),
        ("kept.mrc", "The map times the mask, as the new images show it: a start for refinement"),
        ("mask.mrc", "The mask, in the box of the new images"),
    ]
