"""The job `refine`: particles and a reference become a map with an honest resolution, and a pose with its uncertainty for each particle."""

# Annotations here are objects, not text: the command line reads them of classes that inherit fields from other modules.
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vitreous.alignment.held_out import HeldOutEvidence, held_out_evidence
from vitreous.alignment.refinement import Refinement, RefineSettings
from vitreous.conventions import Contrast
from vitreous.engine.checkpoint import load_state, save_state
from vitreous.engine.workers import Workers
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.geometry.rotations import matrix_from_euler, view_direction
from vitreous.geometry.symmetry import point_group
from vitreous.io.mrc_stack import write_volume
from vitreous.io.particles import write_particles
from vitreous.jobs.alignment_input import refuse_shifts, refuse_unusable_images, shift_step
from vitreous.jobs.cluster import ClusterOptions, workers_of
from vitreous.jobs.job import Desk, Finding, Outcome
from vitreous.jobs.localres import LABEL
from vitreous.jobs.map_products import MapAnalysis, analyse
from vitreous.jobs.particle_input import ParticleInput, declared_contrast, header_warning, ready_particles, stacks_of
from vitreous.jobs.ranges import refuse_numbers
from vitreous.jobs.refine3d_defocus import RefinedDefocus, better_defoci
from vitreous.jobs.refine3d_files import (
    MODEL,
    PARTICLES,
    STATE,
    class_folder,
    keep_state,
    refined_particles,
    save_class_maps,
    write_model,
)
from vitreous.jobs.refine3d_findings import (
    ClassResult,
    Finished,
    finished_findings,
    refinement_warnings,
    trusted_resolution,
)
from vitreous.jobs.refine3d_input import (
    LEAST_SYMMETRY,
    StartMaps,
    checked_diameter,
    filtered,
    on_scale,
    read_start_maps,
    read_start_mask,
    reference_diameter,
    several_maps,
    start_poses,
    symmetry_agreement,
    with_halves,
)
from vitreous.jobs.refine3d_report import HEADLINE, refinement_sections
from vitreous.jobs.refine_ctf_tables import micrographs_of
from vitreous.jobs.stack_names import lasting_names
from vitreous.model.particles import Particles
from vitreous.model.volume import Volume
from vitreous.reconstruction.local_resolution import LocalResolution, local_resolution
from vitreous.reconstruction.orientations import OrientationCoverage, orientation_coverage

DEFOCUS = "defocus.npz"
SHIFT_RANGE = 0.1  # of the mask's diameter, unless a range is given
SECOND_ROUND = 8  # iterations at most, after new defoci
FINEST_ORDER = 7


@dataclass(frozen=True)
class Refine(ClusterOptions, ParticleInput):
    """Settings of a 3D refinement or classification.

    Parameters
    ----------
    particles
        Particle file: STAR (.star) or cryoSPARC (.cs, .csg). Poses are not needed; origins are used as start values.
    reference
        Map to begin with; for several classes one, or one for each. Its pixel size, box and contrast may differ from those of the images.
    reference_pixel_size
        Pixel size of the reference in angstrom, instead of its header's.
    start_resolution
        Resolution in angstrom that the reference is filtered to before anything is compared with it.
    diameter
        Diameter in angstrom of the mask on images and maps; by default measured on the reference, with a tenth of room.
    mask
        Soft mask for the map, values from 0 to 1, instead of a sphere.
    ctf
        Correct for the CTF.
    classes
        Number of classes: one map is refined, several are a 3D classification.
    half_sets
        Refine two halves independently: those of the file or random ones; or none, all particles against one map. By default file for one class, none for several.
    local
        Start from the orientations of the file and search in their neighbourhood only.
    order
        HEALPix order of the first search of all orientations: 1 is 30, 2 is 15, 3 is 7.5 degrees.
    finest_order
        HEALPix order of the finest local search.
    shift_range
        Origins are searched this far to each side, in angstrom; by default a tenth of the mask's diameter.
    shift_step
        Step of that search in angstrom; by default the pixel size, or of smaller pixels the multiple from 2 angstrom on.
    tau_fudge
        Factor on the power of the signal by which each shell of a map is regularised: larger ones trust it more.
    finest
        Resolution in angstrom that is never passed; by default that of the pixel size.
    iterations
        Number of iterations at most: it stops when nothing gets better.
    refine_defocus
        When it has settled, fit the defocus of each particle against the map of its half set, and go on.
    continue_from
        state.npz of an earlier refinement of the same particles, to go on from instead of from a reference.
    """

    reference: tuple[Path, ...] = field(default=(), kw_only=True)
    reference_pixel_size: float | None = field(default=None, kw_only=True)
    start_resolution: float = field(default=40.0, kw_only=True)
    diameter: float | None = field(default=None, kw_only=True)
    mask: Path | None = field(default=None, kw_only=True)
    ctf: bool = field(default=True, kw_only=True)
    classes: int = field(default=1, kw_only=True)
    half_sets: Literal["file", "random", "none"] | None = field(default=None, kw_only=True)
    local: bool = field(default=False, kw_only=True)
    order: int = field(default=2, kw_only=True)
    finest_order: int = field(default=5, kw_only=True)
    shift_range: float | None = field(default=None, kw_only=True)
    shift_step: float | None = field(default=None, kw_only=True)
    tau_fudge: float = field(default=1.0, kw_only=True)
    finest: float | None = field(default=None, kw_only=True)
    iterations: int = field(default=30, kw_only=True)
    refine_defocus: bool = field(default=False, kw_only=True)
    continue_from: Path | None = field(default=None, kw_only=True)

    name: ClassVar[str] = "refine"
    resumable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_numbers(
            self,
            positive=(
                "classes",
                "iterations",
                "start_resolution",
                "diameter",
                "shift_step",
                "tau_fudge",
                "finest",
                "pixel_size",
                "reference_pixel_size",
            ),
            not_negative=("shift_range", "order", "finest_order"),
        )
        if not self.order <= self.finest_order <= FINEST_ORDER:
            raise SettingsProblem(
                f"--order {self.order} and --finest-order {self.finest_order}",
                f"the first at most the second, which is at most {FINEST_ORDER}",
            )
        if bool(self.reference) == (self.continue_from is not None):
            raise SettingsProblem(
                "--reference and --continue-from together" if self.reference else "no reference",
                "a map to begin with (--reference MAP) or an earlier state (--continue-from state.npz)",
            )
        if self.reference and len(self.reference) not in (1, self.classes):
            raise SettingsProblem(
                f"{len(self.reference)} references for {self.classes} classes", "one reference, or one for each class"
            )
        if self.refine_defocus and not self.ctf:
            raise SettingsProblem("--refine-defocus with --no-ctf", "images that are corrected for their CTF")
        if self.refine_defocus and (self.classes > 1 or self.halves_option == "none"):
            raise SettingsProblem(
                "--refine-defocus without half sets", "one class and independent half sets", "leave one of them out"
            )

    @property
    def halves_option(self) -> str:
        return self.half_sets or ("file" if self.classes == 1 else "none")

    def inputs(self) -> list[Path]:
        others = [path for path in (self.mask, self.continue_from) if path is not None]
        return [self.particles, *self.passthrough, *self.reference, *others]

    def run(self, desk: Desk) -> Outcome:
        particles = ready_particles(self, use_ctf=self.ctf, poses=self.local)
        particles, drawn = with_halves(particles, self.halves_option, self.seed, self.particles)
        earlier = self.earlier_state(particles)
        if not (desk.folder / STATE).is_file():
            refuse_unusable_images(particles, self.particles, desk.progress("look at the images"))
        maps = self.start_maps(particles) if earlier is None else StartMaps(earlier.references.mean(axis=0))
        settings = self.settings(particles, maps)
        if earlier is None:
            maps = self.made_ready(maps, particles, settings)
        refined, state = self.refine(particles, maps, settings, earlier, desk)
        evidence = self.evidence(refined, state, settings, desk)
        results = self.results(state, settings, refined, evidence, desk)
        self.save(refined, state, settings, results, desk)
        finished = Finished(state, settings, results, self.views(state), evidence)
        outcome = self.outcome(refined, finished)
        outcome.findings.append(self.reference_finding(maps))
        outcome.warnings += [*maps.notes, *self.half_set_notes(drawn), *header_warning(particles)]
        outcome.sections = refinement_sections(outcome, finished, desk.folder)
        return outcome

    # --- what it starts from ---

    def start_maps(self, particles: Particles) -> StartMaps:
        assert particles.images is not None
        box, pixel_size = particles.images.shape[-1], particles.pixel_size
        coarsest = max(self.start_resolution, 2 * pixel_size)
        return read_start_maps(self.reference, box, pixel_size, self.reference_pixel_size, coarsest)

    def settings(self, particles: Particles, maps: StartMaps) -> RefineSettings:
        """Every number that the refinement needs, in the inside units; refused where it cannot be."""
        box, pixel_size = maps.maps.shape[-1], particles.pixel_size
        if len(particles) < 2 * self.classes:
            raise SettingsProblem(
                f"--classes {self.classes} for the {len(particles)} particles of {self.particles}",
                "at least two particles for each class",
            )
        diameter = (
            reference_diameter(maps.maps, pixel_size)
            if self.diameter is None
            else checked_diameter(self.diameter, box, pixel_size)
        )
        nyquist = 2 * pixel_size
        for option, value in (("--start-resolution", self.start_resolution), ("--finest", self.finest)):
            if value is not None and not nyquist <= value < diameter:
                raise SettingsProblem(
                    f"{option} {value:g}", f"a resolution from {nyquist:.2f} (Nyquist) to {diameter:.0f} angstrom"
                )
        reach = SHIFT_RANGE * diameter if self.shift_range is None else self.shift_range
        refuse_shifts(reach, self.shift_step, box * pixel_size)
        return RefineSettings(
            symmetry=self.symmetry,
            classes=self.classes,
            iterations=self.iterations,
            diameter=diameter,
            start_resolution=self.start_resolution,
            order=self.order,
            finest_order=self.finest_order,
            shift_range=reach,
            shift_step=shift_step(self.shift_step, pixel_size),
            tau_fudge=self.tau_fudge,
            finest=self.finest,
            half_sets=self.halves_option != "none",
            local=self.local,
            use_ctf=self.ctf,
            contrast=declared_contrast(particles, self.contrast),
            seed=self.seed,
        )

    def made_ready(self, maps: StartMaps, particles: Particles, settings: RefineSettings) -> StartMaps:
        """References on the scale of the images, one for each class; notes on what is odd about them."""
        operators, resolution = point_group(self.symmetry).operators, self.start_resolution
        maps = on_scale(
            maps,
            particles,
            diameter=settings.diameter,
            resolution=resolution,
            use_ctf=self.ctf,
            contrast=settings.contrast,
        )
        notes = list(maps.notes)
        for path, volume in zip(self.reference, maps.maps):
            agreement = symmetry_agreement(volume, operators, particles.pixel_size, resolution)
            if agreement < LEAST_SYMMETRY:
                notes.append(
                    f"{path.name} has no {self.symmetry} symmetry about the axes that are usual for it (turned copies correlate to {agreement:.2f}): "
                    "turn the map, or begin with C1."
                )
        width = maps.maps.shape[-1] * particles.pixel_size
        periods = 2 * width / settings.diameter
        return replace(
            maps, maps=several_maps(maps.maps, self.classes, operators, periods, self.seed), notes=tuple(notes)
        )

    def earlier_state(self, particles: Particles) -> Refinement | None:
        """The state that --continue-from names, if it is one of these particles."""
        if self.continue_from is None:
            return None
        state = load_state(self.continue_from, Refinement)
        assert particles.images is not None
        wanted = (len(particles), self.classes, particles.images.shape[-1])
        found = (len(state.assignment), state.half_maps.shape[1], state.half_maps.shape[-1])
        if found != wanted:
            raise DataProblem(
                f"{self.continue_from} is of {found[0]} particles, {found[1]} classes and {found[2]} voxels along an edge",
                f"{wanted[0]}, {wanted[1]} and {wanted[2]}",
                "give the particles of that refinement",
            )
        return replace(state, converged=False)

    # --- the refinement ---

    def refine(
        self, particles: Particles, maps: StartMaps, settings: RefineSettings, earlier: Refinement | None, desk: Desk
    ) -> tuple[Particles, Refinement]:
        """Particles (with new defoci if asked for) and the last state; goes on from what an interrupted run has left in the folder."""
        kept, defoci = desk.folder / STATE, desk.folder / DEFOCUS
        state = load_state(kept, Refinement) if kept.is_file() else earlier
        mask = None
        if self.mask is not None:
            mask = read_start_mask(self.mask, maps.maps.shape[-1], particles.pixel_size).values
        with workers_of(self) as workers:
            align = partial(self.align, maps=maps.maps, mask=mask, workers=workers, desk=desk)
            if not self.refine_defocus:
                return particles, align(particles, state, settings)
            if not defoci.is_file():
                state = align(particles, state, settings)
                save_state(defoci, better_defoci(particles, state, settings, desk.progress))
            better = load_state(defoci, RefinedDefocus)
            assert state is not None
            if state.iteration == better.iteration:
                state = replace(state, converged=False)
            again = replace(settings, iterations=better.iteration + SECOND_ROUND, local=True)
            particles = replace(particles, ctf=better.ctf)
            return particles, align(particles, state, again)

    def align(
        self,
        particles: Particles,
        state: Refinement | None,
        settings: RefineSettings,
        *,
        maps: np.ndarray,
        mask: np.ndarray | None,
        workers: Workers,
        desk: Desk,
    ) -> Refinement:
        """Iterations until it has settled; each state is kept."""
        from vitreous.alignment.refine3d import refine3d

        if state is not None and (state.converged or state.iteration >= settings.iterations):
            return state
        return refine3d(
            start_poses(particles, local=self.local, path=self.particles),
            maps,
            settings,
            state=state,
            mask=mask,
            workers=workers,
            progress=desk.progress("refine"),
            on_iteration=partial(
                keep_state,
                particles=particles,
                path=self.particles,
                folder=desk.folder,
                begun=None if state is not None else filtered(maps, particles.pixel_size, self.start_resolution),
            ),
        )

    # --- what comes of it ---

    def evidence(
        self, particles: Particles, state: Refinement, settings: RefineSettings, desk: Desk
    ) -> HeldOutEvidence | None:
        """What the map of one half says of the images of the other; None where both were aligned to one map."""
        if not settings.half_sets:
            return None
        start = start_poses(particles, local=False, path=self.particles)
        with workers_of(self) as workers:
            return held_out_evidence(
                start, state, settings, workers=workers, progress=desk.progress("evidence of the other half")
            )

    def results(
        self,
        state: Refinement,
        settings: RefineSettings,
        particles: Particles,
        evidence: HeldOutEvidence | None,
        desk: Desk,
    ) -> list[ClassResult]:
        """The maps of each class, and how far they can be trusted."""
        made, start = [], None if self.continue_from is not None else settings.start_resolution
        bar = desk.progress("local resolution")
        for index in range(state.half_maps.shape[1]):
            first, second = (np.ascontiguousarray(state.half_maps[half, index]) for half in (0, 1))
            analysis = analyse((first, second), (first + second) / 2, particles.pixel_size, seed=self.seed)
            resolution = trusted_resolution(analysis.curves, start, evidence)
            local = None
            if resolution is not None and not np.array_equal(first, second):
                local = self.local_values(analysis)
            bar(index + 1, state.half_maps.shape[1])
            count = int((state.assignment.class_index == index).sum())
            made.append(ClassResult(index + 1, count, float(state.population[index]), analysis, resolution, local))
        return made

    def local_values(self, analysis: MapAnalysis) -> LocalResolution | None:
        mask = None if analysis.mask.empty else analysis.mask.values
        try:
            return local_resolution(*analysis.half_maps, analysis.pixel_size, mask, workers=self.workers)
        except (
            DataProblem,
            SettingsProblem,
        ):  # a box too small for any window: there is no such thing as a local resolution
            return None

    def save(
        self,
        particles: Particles,
        state: Refinement,
        settings: RefineSettings,
        results: Sequence[ClassResult],
        desk: Desk,
    ) -> None:
        place = desk.place or desk.folder
        analyses = [result.analysis for result in results]
        save_class_maps(desk.folder, analyses)
        for result in results:
            if result.local is not None:
                values = np.minimum(result.local.values, result.local.coarsest).astype(np.float32)
                write_volume(
                    class_folder(desk.folder, result.number, len(results)) / "local_resolution.mrc",
                    Volume(values, particles.pixel_size),
                    label=f"{LABEL} {result.local.coarsest:.4g}",
                )
        named = self.named_particles(particles, settings, place)
        refined = refined_particles(named, state)
        write_particles(desk.folder / PARTICLES, refined)
        if len(results) > 1:
            for result in results:
                own = np.flatnonzero(state.assignment.class_index == result.number - 1)
                if len(own):
                    folder = class_folder(desk.folder, result.number, len(results))
                    write_particles(folder / PARTICLES, refined.rows(own))
        resolutions = [result.resolution for result in results]
        micrographs = micrographs_of(particles)
        write_model(desk.folder / MODEL, state, settings, analyses, resolutions, micrographs, place)

    def named_particles(self, particles: Particles, settings: RefineSettings, place: Path) -> Particles:
        """The particles with names that lead to their images from the job's folder, and their contrast noted."""
        contrast = particles.contrast if self.contrast == "file" else settings.contrast
        datadir = () if self.datadir is None else (self.datadir,)
        return lasting_names(replace(particles, contrast=Contrast(contrast)), self.particles, place, datadir)

    def half_set_notes(self, drawn: bool) -> list[str]:
        if not drawn or self.halves_option == "none" or not self.local:
            return []
        return [
            f"Half sets were drawn at random (seed {self.seed}), but the orientations to begin with are those of the file: "
            "if these were refined together, the FSC is too good."
        ]

    def views(self, state: Refinement) -> OrientationCoverage:
        directions = view_direction(matrix_from_euler(state.assignment.pose.euler))
        return orientation_coverage(directions, operators=point_group(self.symmetry).operators)

    def reference_finding(self, maps: StartMaps) -> Finding:
        """What it began with, and what was done to that."""
        begun = [path.name for path in self.reference] or [f"state of {self.continue_from}"]
        value = ", ".join([*begun, *maps.changes])
        return Finding(
            "reference",
            "reference",
            value,
            "",
            f"What it began with; a reference is brought to the grid and contrast of the images and filtered to {self.start_resolution:g} Å.",
        )

    def outcome(self, particles: Particles, finished: Finished) -> Outcome:
        """Everything but the sections of the report."""
        outcome = Outcome(finished_findings(finished), refinement_warnings(finished))
        kind = "3D refinement" if self.classes == 1 else "3D classification"
        outcome.title = f"{kind} of {self.particles.name}"
        box = finished.state.half_maps.shape[-1]
        outcome.subtitle = (
            f"{len(particles):,} particles, {self.symmetry}, {box} px of {particles.pixel_size:.4g} Å"
            + ("" if self.classes == 1 else f", {self.classes} classes")
        )
        outcome.headline = HEADLINE
        outcome.inputs = stacks_of(particles)
        for result in finished.results:
            own = result.analysis.tables()
            outcome.tables |= own if self.classes == 1 else {f"class{result.number}_{key}": own[key] for key in own}
        outcome.tables |= {"pixel_size_angstrom": particles.pixel_size}
        return outcome
