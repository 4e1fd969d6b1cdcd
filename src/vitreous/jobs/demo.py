"""The job `demo`: the whole way once, with known truth. Simulate particles of a bundled model, reconstruct them,
compare.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from vitreous.errors import SettingsProblem
from vitreous.io.bundled import PREFIX, bundled_source
from vitreous.jobs.demo_sections import agreement_section, images_text, next_section, result_section, story_section
from vitreous.jobs.job import Desk, Outcome
from vitreous.jobs.reconstruct import Reconstruct
from vitreous.jobs.report import Section, Source
from vitreous.jobs.simulate_particles import SimulateParticles
from vitreous.jobs.truth_comparison import Comparison, compare

SIMULATED = "simulated"


@dataclass(frozen=True)
class Scene:
    """What is simulated of a model: box in pixels, pixel size in angstrom, number of particles, signal-to-noise ratio,
    defocus.
    """

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
        return self.simulation().inputs()

    def run(self, desk: Desk) -> Outcome:
        (desk.folder / SIMULATED).mkdir()
        simulated = self.simulation().run(Desk(desk.folder / SIMULATED, desk.progress))
        reconstructed = Reconstruct(desk.folder / SIMULATED / "particles.star", seed=self.seed).run(desk)
        comparison = compare(desk.folder, desk.folder / SIMULATED / "truth_map.mrc")
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
