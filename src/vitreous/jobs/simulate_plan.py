"""The job `simulate plan`: which scattering model suffices for a specimen, a voltage and a resolution."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vitreous.errors import SettingsProblem
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.model_input import ModelInput
from vitreous.jobs.plan_sections import plan_sections
from vitreous.jobs.ranges import option
from vitreous.jobs.specimen import FROM_FILE, Specimen, fitting_box
from vitreous.model.atoms import Atoms
from vitreous.model.microscope import Microscope
from vitreous.model.slices import PotentialSlices
from vitreous.optics.depth import depth_of_field
from vitreous.scattering.ladder import ScatteringModel
from vitreous.scattering.phantom import protein_column, slices_in_ice
from vitreous.scattering.plan import (
    Rung,
    RungError,
    equivalent_phase,
    first_sufficient,
    flatness_error,
    merged,
    rung_error,
    slab_count,
)
from vitreous.scattering.propagation import BAND_LIMIT
from vitreous.simulation.image_formation import form_image
from vitreous.units import DEGREE, KILOVOLT, MICROMETRE, MILLIMETRE

SMALLEST_BOX = 160  # pixels, of a specimen that leaves the choice
PIXELS_PER_PERIOD = 4.0  # of the resolution
MARGIN = 20.0  # angstrom of ice at the sides of a model
LARGEST_BYTES = 8e9
REPEATS = 3  # of each timing


@dataclass(frozen=True)
class SimulatePlan(ModelInput):
    """Settings of the comparison of scattering models.

    Parameters
    ----------
    specimen
        Atomic model (.cif, .pdb) or one of bundled:6zu5, bundled:4ake and bundled:1ake, in its file's orientation in the
        middle of the ice; hydrogens are added where they are missing. By default a column of protein atoms through the
        whole ice, which is harder on every model than a particle in it.
    thickness
        Thickness of the specimen with its ice, in angstrom.
    resolution
        Finest detail in angstrom that must be right.
    voltage_kv
        Voltage in kilovolt.
    tolerance
        Largest relative error of the image that is allowed, at the resolution and up to it.
    defocus_um
        Defocus in micrometre of the middle of the specimen, positive for underfocus.
    cs_mm
        Spherical aberration in millimetre.
    pixel_size
        Pixel size in angstrom, at most a third of the resolution: waves end at 2/3 of the Nyquist frequency. By default a
        quarter of the resolution.
    box
        Box in pixels. By default 160, or as much as the model and 20 Å of ice on either side need.
    threads
        Threads of the computation.
    seed
        Seed of the ice and of the atoms of the column.
    """

    specimen: Path | None = None
    thickness: float = field(kw_only=True)
    resolution: float = field(kw_only=True)
    voltage_kv: float = field(default=300.0, kw_only=True)
    tolerance: float = field(default=0.1, kw_only=True)
    defocus_um: float = field(default=1.0, kw_only=True)
    cs_mm: float = field(default=2.7, kw_only=True)
    pixel_size: float | None = field(default=None, kw_only=True)
    box: int | None = field(default=None, kw_only=True)
    threads: int = field(default=1, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    name: ClassVar[str] = "simulate plan"

    def __post_init__(self) -> None:
        ranges = {
            "thickness": (1.0, 1e5, "1 to 100,000 angstrom"),
            "resolution": (0.8, 50.0, "0.8 to 50 angstrom"),
            "voltage_kv": (10.0, 3000.0, "kilovolts, from 10 to 3000: 300 and not 300000"),
            "tolerance": (1e-4, 1.0, "a fraction from 0.0001 to 1: 0.1 is an error of 10 %"),
            "defocus_um": (-100.0, 100.0, "micrometres, from -100 to 100: 1 and not 10000"),
            "cs_mm": (0.0, 100.0, "millimetres, from 0 to 100"),
            "pixel_size": (0.2, 20.0, "0.2 to 20 angstrom"),
            "box": (32, 8192, "32 to 8192 pixels"),
            "threads": (1, 1024, "1 thread or more"),
            "seed": (0, 2**63, "0 or more"),
        }
        for name, (least, most, expected) in ranges.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise SettingsProblem(f"{option(name)} {value:g}", expected)
        if self.specimen is None and (given := self.from_file.given(FROM_FILE)):
            raise SettingsProblem(f"{' '.join(given)} without a specimen", "an atomic model", "give the model's file")
        if self.sampling > self.resolution / 2 * BAND_LIMIT * (1 + 1e-9):
            raise SettingsProblem(
                f"--pixel-size {self.pixel_size:g} for a resolution of {self.resolution:g} A",
                f"at most {self.resolution / 2 * BAND_LIMIT:.4g} A per pixel: waves end at 2/3 of the Nyquist frequency",
                "give a smaller --pixel-size or none",
            )

    def inputs(self) -> list[Path]:
        return [] if self.specimen is None else [Specimen(self.specimen).file]

    @property
    def sampling(self) -> float:
        return self.resolution / PIXELS_PER_PERIOD if self.pixel_size is None else self.pixel_size

    def run(self, desk: Desk) -> Outcome:
        slices = self.slices(self.atoms())
        microscope = Microscope(
            self.voltage_kv * KILOVOLT, self.cs_mm * MILLIMETRE, defocus=self.defocus_um * MICROMETRE
        )
        rungs, own = self.climb(slices, microscope, desk)
        outcome = self.outcome(rungs, own, len(slices))
        outcome.sections = plan_sections(outcome, rungs, slices.pixel_size, self.resolution, self.tolerance)
        return outcome

    def atoms(self) -> Atoms | None:
        """The atoms of the model, their middle at the origin; None for the column of protein."""
        if self.specimen is None:
            return None
        sample = Specimen(self.specimen, choices=replace(self.from_file, hydrogens="implicit"))
        if sample.is_map:
            raise SettingsProblem(
                f"{self.specimen}, a map",
                "an atomic model, whose atoms stand at known heights",
                "give a .cif or .pdb file",
            )
        found = sample.atoms()
        assert found is not None
        position = np.asarray(found.position, dtype=np.float64)
        middle = (position.min(axis=0) + position.max(axis=0)) / 2
        extent = np.ptp(position, axis=0)
        if extent[2] > self.thickness:
            raise SettingsProblem(
                f"--thickness {self.thickness:g} A for {self.specimen}, which is {extent[2]:.0f} A thick along z",
                f"at least {math.ceil(extent[2])} A",
                "give a larger --thickness",
            )
        if self.box is not None and self.box * self.sampling < extent[:2].max():
            raise SettingsProblem(
                f"--box {self.box} px of {self.sampling:g} A = {self.box * self.sampling:.0f} A for a model "
                f"{extent[:2].max():.0f} A across",
                f"at least {math.ceil(extent[:2].max() / self.sampling)} px",
                "give a larger --box or --pixel-size, or none",
            )
        return Atoms(
            **{**{name: getattr(found, name) for name in found.__dataclass_fields__}, "position": position - middle}
        )

    def slices(self, atoms: Atoms | None) -> PotentialSlices:
        """The specimen in its ice."""
        box, count = self.box, slab_count(self.thickness, self.resolution, self.voltage_kv * KILOVOLT)
        if box is None:
            width = 0.0 if atoms is None else float(np.ptp(atoms.position[:, :2], axis=0).max()) + 2 * MARGIN
            box = max(SMALLEST_BOX, fitting_box(width / self.sampling))
        if 3 * 4.0 * count * box**2 > LARGEST_BYTES:  # slabs, ice, and their sum, in single precision
            raise SettingsProblem(
                f"{count} slabs of {box} x {box} pixels, {12e-9 * count * box**2:.0f} GB",
                f"up to {LARGEST_BYTES / 1e9:.0f} GB",
                "give a smaller --box or --thickness, or a coarser --resolution",
            )
        if atoms is None:
            atoms = protein_column(box * self.sampling, self.thickness, self.seed)
        return slices_in_ice(atoms, box, self.sampling, self.thickness, count, seed=self.seed, threads=self.threads)

    def climb(self, slices: PotentialSlices, microscope: Microscope, desk: Desk) -> tuple[list[Rung], RungError]:
        """Every model with its errors, the simplest first; and the error of multislice with slabs twice as thick."""
        from scipy import fft as scipy_fft

        progress, made = desk.progress("models"), {}
        with scipy_fft.set_workers(self.threads):
            for done, model in enumerate(ScatteringModel):
                made[model] = timed(lambda model=model: form_image(slices, microscope, model))
                progress(done + 1, len(ScatteringModel))
            coarser = form_image(merged(slices), microscope)
        reference = made[ScatteringModel.MULTISLICE][0]

        def errors(image: np.ndarray) -> RungError:
            return rung_error(image, reference, slices.pixel_size, self.resolution)

        rungs = [Rung(model.value, image, errors(image), seconds) for model, (image, seconds) in made.items()]
        return rungs, errors(coarser)

    def outcome(self, rungs: list[Rung], own: RungError, slabs: int) -> Outcome:
        chosen = first_sufficient({rung.name: rung.errors for rung in rungs}, self.tolerance)
        best = next(rung for rung in rungs if rung.name == chosen)
        depth = depth_of_field(self.resolution, self.voltage_kv * KILOVOLT)
        findings = [
            Finding("model", "simplest model that suffices", chosen, meaning="The one to simulate with."),
            Finding(
                "error_at_resolution", f"its error at {self.resolution:g} Å", best.errors.at_resolution, "", ERROR, 4
            ),
            Finding("error_overall", f"its error up to {self.resolution:g} Å", best.errors.overall, "", OVERALL, 4),
            Finding("depths_of_field", "thickness in depths of field", self.thickness / depth, "d²/λ", DEPTH),
            Finding(
                "flatness_error",
                "error of a flat weak specimen",
                flatness_error(self.thickness / depth),
                "",
                FLATNESS,
                4,
            ),
            Finding("slabs", "slabs of multislice", slabs, "", "How many slabs the specimen was cut into."),
            Finding("slab_error", "multislice with half as many slabs", own.at_resolution, "", OWN, 4),
        ]
        warnings = []
        if own.larger > self.tolerance:
            warnings.append(
                f"Multislice with slabs twice as thick differs by {own.larger:.2g}: the yardstick is not finer than the tolerance."
            )
        return Outcome(
            findings,
            warnings,
            title="Which scattering model",
            subtitle=self.recommendation(best, depth),
            headline=("model", "error_at_resolution", "depths_of_field"),
            tables={"recommendation": self.recommendation(best, depth), "rungs": [row_of(rung) for rung in rungs]},
        )

    def recommendation(self, best: Rung, depth: float) -> str:
        """The answer in one sentence."""
        what = f"{self.thickness:g} Å at {self.voltage_kv:g} kV and {self.resolution:g} Å"
        share = f"{self.thickness / depth:.2f} of the depth of field d²/λ = {depth:.0f} Å"
        if best.name == ScatteringModel.MULTISLICE:
            return f"{what} ({share}) need multislice: no simpler model is within {self.tolerance:g}."
        return (
            f"{best.name} suffices for {what} ({share}): its images are within {best.errors.larger:.2g} of multislice."
        )


ERROR = (
    "Norm of the difference from the image of multislice in the last shell, as a part of the image's contrast there."
)
OVERALL = "The same over all frequencies up to the resolution."
DEPTH = "At 1 the faces of the specimen are a quarter turn out of phase with its middle."
FLATNESS = "What every model without depth gets wrong at the resolution in a weak specimen this thick: sqrt(2 (1 - sin A/A)), A = (π/2) t λ/d²."
OWN = "Error at the resolution of multislice with slabs twice as thick: how good the yardstick is."


def row_of(rung: Rung) -> dict[str, Any]:
    """A model as result.json has it."""
    return {
        "model": rung.name,
        "error_at_resolution": rung.errors.at_resolution,
        "error_overall": rung.errors.overall,
        "phase_error_deg": equivalent_phase(rung.errors.at_resolution) / DEGREE,
        "milliseconds": 1e3 * rung.seconds,
        "frequency": rung.errors.frequency,
        "error": rung.errors.error,
    }


def timed(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """The result and the seconds of the fastest of a few runs."""
    seconds, result = math.inf, None
    for _ in range(REPEATS):
        started = time.perf_counter()
        result = work()
        seconds = min(seconds, time.perf_counter() - started)
    assert result is not None
    return result, seconds
