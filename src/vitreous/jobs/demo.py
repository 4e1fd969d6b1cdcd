"""The job `demo`: the whole way once, with known truth. Simulate particles of a bundled model, reconstruct them, compare."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vitreous.errors import SettingsProblem
from vitreous.fourier.filters import apply_filter
from vitreous.fourier.shells import spread_shells
from vitreous.io.bundled import PREFIX, bundled_source
from vitreous.io.mrc import read_volume
from vitreous.jobs.curves import Marker, Series, Threshold, line_plot
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.pictures import image_gallery, isosurface_picture
from vitreous.jobs.reconstruct import Reconstruct
from vitreous.jobs.report import Figure, Section, Source
from vitreous.jobs.simulate_particles import SimulateParticles
from vitreous.model.volume import Volume
from vitreous.reconstruction.fsc import (
    HALF_MAPS,
    MODEL,
    ShellCorrelation,
    fourier_shell_correlation,
    reference_correlation,
    resolution_at,
)
from vitreous.reconstruction.mask import level_enclosing

SIMULATED = "simulated"


@dataclass(frozen=True)
class Scene:
    """What is simulated of a model: box in pixels, pixel size in angstrom, number of particles, signal-to-noise ratio, defocus."""

    box: int
    pixel_size: float
    count: int
    snr: float
    defocus_um: tuple[float, float] = (0.8, 2.0)


KINASE, QUICK_KINASE = Scene(96, 1.6, 3000, 0.05, (0.4, 1.2)), Scene(64, 2.2, 600, 0.1, (0.4, 1.2))
SCENES = {"6zu5": Scene(120, 3.05, 3000, 0.05), "4ake": KINASE, "1ake": KINASE}
QUICK = {"6zu5": Scene(64, 5.7, 600, 0.1), "4ake": QUICK_KINASE, "1ake": QUICK_KINASE}
# Blur in addition to the model's own B factors, as motion, radiation and imperfect optics cause it in real data.
B_FACTOR = 120.0


@dataclass(frozen=True)
class Demo:
    """Settings of the demonstration.

    Parameters
    ----------
    model
        What to simulate: 6zu5 (a ribosome), 4ake or 1ake (adenylate kinase, open or closed).
    count
        Number of particles; by default 3000, with --quick 600.
    quick
        Fewer and smaller images: done in seconds, at a lower resolution.
    seed
        Seed of everything random.
    """

    model: Literal["6zu5", "4ake", "1ake"] = field(default="6zu5", kw_only=True)
    count: int | None = field(default=None, kw_only=True)
    quick: bool = field(default=False, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    name: ClassVar[str] = "demo"

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 2:
            raise SettingsProblem(f"--count {self.count}", "at least 2, one for each half map")

    def inputs(self) -> list[Path]:
        return []

    def run(self, desk: Desk) -> Outcome:
        (desk.folder / SIMULATED).mkdir()
        simulated = self.simulation().run(Desk(desk.folder / SIMULATED, desk.progress))
        reconstructed = Reconstruct(desk.folder / SIMULATED / "particles.star", seed=self.seed).run(desk)
        comparison = compare(desk.folder)
        return self.outcome(simulated, reconstructed, comparison)

    def scene(self) -> Scene:
        return (QUICK if self.quick else SCENES)[self.model]

    def simulation(self) -> SimulateParticles:
        """The settings that `vitreous simulate particles` would take."""
        scene = self.scene()
        count = scene.count if self.count is None else self.count
        return SimulateParticles(
            Path(PREFIX + self.model),
            box=scene.box,
            pixel_size=scene.pixel_size,
            count=count,
            snr=scene.snr,
            defocus_um=scene.defocus_um,
            b_factor=B_FACTOR,
            seed=self.seed,
        )

    def outcome(self, simulated: Outcome, reconstructed: Outcome, comparison: Comparison) -> Outcome:
        of_map = {finding.key: finding for finding in reconstructed.findings if finding.key != "symmetry"}
        first = of_map.pop("resolution_angstrom")
        findings = [first, *comparison.findings(), *of_map.values()]
        outcome = Outcome(findings, [*simulated.warnings, *reconstructed.warnings])
        settings = self.simulation()
        outcome.title = f"From {settings.count:,} noisy images to a map: {self.model.upper()}"
        outcome.subtitle = "A demonstration with known truth"
        outcome.tables = {"simulated": simulated.as_json(), "truth_fsc": comparison.table(), **reconstructed.tables}
        outcome.sections = [
            story_section(settings, comparison),
            Section(
                "What was simulated",
                images_text(settings, self.model),
                figures=[simulated.sections[0].figures[0]],
                sources=[Source(bundled_source(self.model))],
            ),
            result_section(outcome, comparison),
            agreement_section(comparison),
            *reconstructed.sections[1:],
            next_section(),
        ]
        return outcome


@dataclass(frozen=True)
class Comparison:
    """The map beside the truth, both under the map's own mask.

    `against_truth` is the FSC of the masked map with the masked truth, `half_maps` the corrected one of the half maps and `unmasked` theirs
    without a mask; `predicted` is what `half_maps` says that `against_truth` should be, `sqrt(2 FSC / (1 + FSC))`. `correlation` is over
    the voxels in the mask.
    """

    map: Volume
    truth: Volume
    mask: np.ndarray
    against_truth: ShellCorrelation
    half_maps: np.ndarray
    unmasked: np.ndarray
    correlation: float

    @property
    def predicted(self) -> np.ndarray:
        return reference_correlation(self.half_maps)

    @property
    def resolution(self) -> float | None:
        """By the half maps alone, as with real data: FSC 0.143."""
        return resolution_at(self.half_maps, HALF_MAPS, self.against_truth.frequency).value

    @property
    def true_resolution(self) -> float | None:
        """By comparison with the truth: FSC 0.5, the same criterion."""
        return self.against_truth.resolution(MODEL).value

    def findings(self) -> list[Finding]:
        return [
            Finding(
                "resolution_against_truth_angstrom",
                "against the truth",
                self.true_resolution,
                "Å",
                "Where the map's FSC with the truth falls below 0.5: how good the map really is.",
            ),
            Finding(
                "correlation_with_truth",
                "correlation",
                self.correlation,
                "",
                "Correlation of map and truth over the voxels of the mask; 1 would be a perfect copy.",
                3,
            ),
        ]

    def table(self) -> dict[str, np.ndarray]:
        return {
            "frequency": self.against_truth.frequency,
            "against_truth": self.against_truth.correlation,
            "predicted_from_half_maps": self.predicted,
        }


def compare(folder: Path) -> Comparison:
    """Read back what the two jobs have written and compare."""
    from vitreous.io.star import read_star

    whole, mask = read_volume(folder / "map.mrc"), read_volume(folder / "mask.mrc").data
    truth = read_volume(folder / SIMULATED / "truth_map.mrc")
    against_truth = fourier_shell_correlation(whole.data * mask, truth.data * mask, whole.pixel_size)
    curves = read_star(folder / "fsc.star")["fsc"]
    unmasked = np.asarray(curves["unmasked"], dtype=np.float64)
    half_maps = np.asarray(curves["corrected"], dtype=np.float64) if "corrected" in curves else unmasked
    inside = mask > 0.5
    correlation = float(np.corrcoef(whole.data[inside], truth.data[inside])[0, 1]) if inside.any() else 0.0
    return Comparison(whole, truth, mask, against_truth, half_maps, unmasked, correlation)


def story_section(settings: SimulateParticles, comparison: Comparison) -> Section:
    """The first thing to read."""
    true, halves = (
        f"{value:.1f} Å" if value else "no resolution" for value in (comparison.true_resolution, comparison.resolution)
    )
    text = (
        f"A computer played the microscope: from an atomic model it made {settings.count:,} images, each of the same particle in a random orientation, blurred by the "
        f"optics and buried in noise {1 / settings.snr:.0f} times as strong as the signal. From these images and their orientations the map below was reconstructed.\n\n"
        f"With real data nobody knows the truth. There the particles are divided into two halves, a map is made from each, and their agreement says how far the map can be "
        f"believed: here to {halves}. This time the truth is known, and the map agrees with it to {true}. The two ways should come to the same answer, and they do so here "
        "because no particle was used twice and no orientation was fitted to noise."
    )
    return Section("What happened", text)


def images_text(settings: SimulateParticles, model: str) -> str:
    low, high = settings.defocus_um
    small = (
        ""
        if model == "6zu5"
        else "\n\nReal images of a protein this small hold too little signal to find its orientation: here the orientations are given."
    )
    return (
        f"The electrostatic potential of the atoms, projected along random directions; the contrast transfer function of a {settings.voltage_kv:g} kV microscope at {low:g} to "
        f"{high:g} µm underfocus; offsets of {settings.shift:g} Å from the box centre; white noise. Reconstruction undoes all of these but the noise, which it averages away."
    ) + small


def result_section(outcome: Outcome, comparison: Comparison) -> Section:
    """Surfaces and slices of the map beside those of the truth."""
    voxels = max(1, int((comparison.mask > 0.5).sum() // 2))
    maps = {
        "The reconstructed map": comparison.map.data,
        "The truth, filtered as the map is": filtered_truth(comparison),
    }
    figures = [
        Figure(
            f"{what}, seen along z and after quarter turns about the vertical and the horizontal axis.",
            png=isosurface_picture(volume, level_enclosing(volume, voxels)),
            alt=f"Surface of {what.lower()}",
        )
        for what, volume in maps.items()
    ]
    middle = comparison.truth.box // 2
    across = (np.s_[middle], np.s_[:, middle], np.s_[:, :, middle])
    slices = image_gallery(
        [volume[axis] for volume in (*maps.values(), comparison.truth.data) for axis in across], columns=3, size=240
    )
    caption = "Central slices. The finest detail of the truth is lost in noise; what is left agrees."
    figures.append(
        Figure(
            caption,
            png=slices,
            alt="Slices of the map and of the truth",
            rows=("map", "truth, filtered", "truth"),
            columns=("across z", "across y", "across x"),
        )
    )
    return Section("The map and the truth", "", figures=figures, numbers=outcome.numbers())


def filtered_truth(comparison: Comparison) -> np.ndarray:
    """The truth with the amplitudes that are left in the Wiener-filtered map: times SNR / (1 + SNR) = 2 FSC / (1 + FSC) in each shell.

    The FSC is that of the half maps without a mask, from which the reconstruction knew the SNR.
    """
    gain = spread_shells(
        (reference_correlation(comparison.unmasked) ** 2).astype(np.float32), comparison.truth.data.shape
    )
    return apply_filter(comparison.truth.data, gain, 3)


def agreement_section(comparison: Comparison) -> Section:
    """The FSC with the truth, and what the half maps alone predict of it."""
    frequency, curve = comparison.against_truth.frequency, comparison.against_truth.correlation
    series = [
        Series("map and truth", frequency, curve),
        Series("the same, predicted from the half maps", frequency, comparison.predicted, style="dashed"),
        Series("half maps", frequency, comparison.half_maps, style="dotted"),
    ]
    true = comparison.true_resolution
    markers = [Marker(1 / true, 0.5, f"{true:.1f} Å")] if true else []
    plot = line_plot(
        series,
        x_label="spatial frequency (1/Å)",
        y_label="FSC",
        title="Agreement of the map with the truth",
        y_limits=(-0.1, 1.02),
        resolution_axis=True,
        thresholds=[Threshold(HALF_MAPS, "0.143"), Threshold(MODEL, "0.5")],
        markers=markers,
    )
    text = (
        "Each half map holds half of the particles, so the two agree less with each other than their average agrees with the truth. If their correlation is FSC, the average has "
        "the correlation sqrt(2 FSC / (1 + FSC)) with the truth: at FSC 0.143 it is 0.5. This is where the threshold 0.143 comes from, and here it can be seen to hold."
    )
    source = Source("Rosenthal PB, Henderson R (2003) J Mol Biol 333:721", "10.1016/j.jmb.2003.07.013")
    return Section(
        "Was the resolution honest?",
        text,
        figures=[Figure("Solid and dashed should lie on each other.", svg=plot, alt="FSC curves")],
        sources=[source],
    )


def next_section() -> Section:
    text = (
        "simulated/particles.star holds the orientations, shifts and defoci that the images were made with, simulated/particles_unposed.star all but the orientations. "
        "map.mrc, half1.mrc, half2.mrc and sharpened.mrc open in any molecular viewer.\n\n"
        "The same two steps on your own: `vitreous simulate particles model.cif --pixel-size 2 --out simulated`, then "
        "`vitreous reconstruct simulated/particles.star --out map`. `vitreous check particles.star` finds out what is wrong with a particle file."
    )
    return Section("Where to go on", text)
