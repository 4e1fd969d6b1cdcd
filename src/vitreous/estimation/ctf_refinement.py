"""Refinement of CTFs against a reference: passes over all particles, in which everything asked for improves in turn.

A pass first surveys how images and reference agree (`agreement_survey`): gain and noise of each shell, from whose sums
the beam tilt (`beam_tilt`) and the magnification (`magnification`) of each optics group follow. Then it goes from micrograph to
micrograph and fits defoci and astigmatism (`micrograph_fit`), always beginning with the values that the file has. The next pass knows
all that better: how much weight each shell deserves, and how far the particles of a micrograph are apart. A last survey says
what has been reached.

Images are read in chunks. What is held grows with the largest micrograph, not with the number of particles, but for the few
numbers of each particle that are the result. The sums are made in a fixed order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vitreous.conventions import Contrast, CtfState
from vitreous.engine.chunks import chunks
from vitreous.engine.local import Counter, Progress, side_by_side, silent
from vitreous.errors import DataProblem
from vitreous.estimation.agreement_survey import AgreementSums, CtfRows, ShellAgreement, shell_agreement, survey_chunk
from vitreous.estimation.beam_tilt import BeamTilt, fit_beam_tilt, odd_phase_basis
from vitreous.estimation.ctf_estimate import Lens
from vitreous.estimation.magnification import MagnificationStep, defocus_after, magnification_step
from vitreous.estimation.micrograph_fit import SPREADS, Freedom, MicrographFit, fit_micrograph
from vitreous.estimation.particle_likelihood import ParticleLikelihood, likelihood_of_chunk, scan_offsets
from vitreous.estimation.reference_images import GroupOptics, ReferenceImages, References
from vitreous.model.optics import CtfParameters
from vitreous.model.particles import Particles
from vitreous.model.pose import Pose
from vitreous.model.table import Table

if TYPE_CHECKING:
    from jaxtyping import Float, Int

SHARES = 2  # threads; a number of its own, so that sums do not depend on the machine
# Particles of a file without micrographs that are fitted at a time.
UNIT = 256
FIRST_SPREAD = 300.0  # angstrom, until the data have said what it is
LEAST_SPREAD = 10.0
# A pass is the last if it changed the log-likelihood and the spread by no more than these parts of themselves.
SETTLED_GAIN, SETTLED_SPREAD = 0.02, 0.1
# Spreads looked at next, in parts of the present one.
CLOSER = (0.3, 0.5, 0.65, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0)
# Agreement of images and reference, in standard deviations of noise, below which it may be chance.
LEAST_AGREEMENT = 5.0


@dataclass(frozen=True)
class RefinementSettings:
    """What is fitted: see `Freedom`, whose `spread` is replaced by this one; None: measured. `contrast` of the images as they
    are. `passes` at most.
    """

    freedom: Freedom = field(default_factory=Freedom)
    spread: float | None = None
    beam_tilt: bool = False
    magnification: bool = False
    contrast: Contrast = Contrast.INVERTED
    passes: int = 3


@dataclass(frozen=True)
class GroupRefinement:
    """One optics group before and after: agreement of its images with the reference, the sums of the first and the last
    survey, and what was found of tilt and magnification in the last pass (None if not asked for). `image_shift` (x, y) in
    angstrom: where all particles lay besides their origins, which have it now.
    """

    name: str
    count: int
    before: ShellAgreement
    after: ShellAgreement
    first_sums: AgreementSums
    last_sums: AgreementSums
    tilt: BeamTilt | None
    magnification: MagnificationStep | None
    image_shift: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class CtfRefinement:
    """Particles with better CTFs, and how much better.

    Of n particles: `defocus_change`, `defocus_sigma` in angstrom (NaN where no defocus was fitted), `gain` in
    log-likelihood (nats, without prior), `at_edge`. Of m micrographs (units): `unit` [n], `common` [m, 3] (mean defocus,
    astigmatism along, across; changes, NaN where not fitted), `common_sigma` [m, 3].
    `spread` in angstrom: the standard deviation of the particles' own defoci that was used in the last pass;
    `spread_evidence`: the log-likelihoods of `spreads` in it.
    """

    particles: Particles
    defocus_change: Float[np.ndarray, " n"]
    astigmatism_change: Float[np.ndarray, "n 2"]
    defocus_sigma: Float[np.ndarray, " n"]
    gain: Float[np.ndarray, " n"]
    at_edge: np.ndarray
    unit: Int[np.ndarray, " n"]
    common: Float[np.ndarray, "m 3"]
    common_sigma: Float[np.ndarray, "m 3"]
    spread: float
    spreads: tuple[float, ...]
    spread_evidence: Float[np.ndarray, " s"]
    groups: tuple[GroupRefinement, ...]
    images: ReferenceImages

    @property
    def log_likelihood_gain(self) -> float:
        """How much more probable all images are than before, by everything that was fitted: nats."""
        return sum(group.after.log_likelihood - group.before.log_likelihood for group in self.groups)


def refine_ctf(
    particles: Particles,
    references: References,
    settings: RefinementSettings,
    *,
    micrograph: Int[np.ndarray, " n"] | None = None,
    progress: Callable[[str], Progress] = lambda stage: silent,
) -> CtfRefinement:
    """The particles with refined CTFs.

    `micrograph` [n] numbers the micrograph of each particle, None if that is not known: then nothing can be shared by the particles of one.
    Raises DataProblem for particles without poses, CTFs or optics, images whose CTF has been dealt with already, a reference of
    another box or pixel size, and one that the images do not show.
    """
    refuse(particles, references)
    bare = replace(particles, table=Table(), blocks={})  # what else the file says would be copied with every chunk
    study = _Study(bare, references, settings, micrograph)
    first: list[tuple[AgreementSums, ShellAgreement]] = []
    for number in range(1, settings.passes + 1):
        surveyed = study.survey(progress(f"pass {number}: compare"), slopes=settings.magnification)
        first = first or surveyed
        refuse_disagreement([agreement for _, agreement in first])
        if settings.beam_tilt or settings.magnification:
            study.refine_groups(surveyed)
        settled = study.refine_defoci([agreement for _, agreement in surveyed], progress(f"pass {number}: refine"))
        if settled and not (settings.beam_tilt or settings.magnification):
            break
    last = study.survey(progress("compare"), slopes=settings.magnification)
    return study.result(particles, first, last)


def refuse(particles: Particles, references: References) -> None:
    """Raise DataProblem if these particles cannot be refined against these references."""
    if particles.images is None or particles.pose is None or particles.ctf is None:
        raise DataProblem(
            "particles without images, poses or CTF parameters", "all three", "refine poses first, and estimate the CTF"
        )
    for group in particles.used_optics():
        group.require("pixel_size", "voltage", "spherical_aberration", "amplitude_contrast")
        if group.ctf_state is not CtfState.RAW:
            raise DataProblem(
                f"images of optics group '{group.name}' that are {group.ctf_state.value.replace('_', '-')}",
                "images as recorded: those have taken the present CTF in, and no longer show a better one",
                "extract the particles again without correction",
            )
    box = particles.images.shape[-1]
    if references.box != box:
        raise DataProblem(
            f"a reference of {references.box} voxels for images of {box} pixels",
            "the same box",
            "reconstruct these particles, or resample the map",
        )
    if abs(references.pixel_size / particles.pixel_size - 1) > 1e-3:
        raise DataProblem(
            f"a reference of {references.pixel_size:.4f} A per voxel for images of {particles.pixel_size:.4f} A per pixel",
            "the same pixel size",
            "give the right one as --pixel-size, or resample the map",
        )


def refuse_disagreement(groups: list[ShellAgreement]) -> None:
    """Raise DataProblem if no group's images show the reference."""
    best = max(groups, key=lambda agreement: abs(agreement.total_deviations))
    if max(agreement.total_deviations for agreement in groups) > LEAST_AGREEMENT:
        return
    if best.total_deviations < -LEAST_AGREEMENT:
        raise DataProblem(
            "images that show the reference with the opposite contrast",
            "the same sign of the protein in both",
            "give --contrast raw or --contrast inverted; if it was right, the CTFs are far off: estimate them anew",
        )
    raise DataProblem(
        f"images that do not show the reference (agreement {best.total_deviations:.1f} standard deviations of noise)",
        f"at least {LEAST_AGREEMENT:g}",
        "give the map that the poses belong to; `vitreous check` tests poses and CTFs",
    )


class _Study:
    """Particles and references, and what is known of the CTFs so far."""

    def __init__(
        self,
        particles: Particles,
        references: References,
        settings: RefinementSettings,
        micrograph: np.ndarray | None,
    ):
        assert particles.ctf is not None
        self.particles, self.settings = particles, settings
        self.images = ReferenceImages(references, particles.used_optics())
        self.group_numbers = [int(number) for number in np.unique(particles.optics_index)]
        self.optics = list(particles.optics)
        self.image_shift = np.zeros((len(self.optics), 2))
        self.tilts: dict[int, BeamTilt] = {}
        self.magnifications: dict[int, MagnificationStep] = {}
        ctf = particles.ctf
        sign = -1.0 if settings.contrast is Contrast.RAW else 1.0
        self.start = np.column_stack([ctf.defocus, ctf.astigmatism])
        self.change = np.zeros_like(self.start)
        self.fixed = np.column_stack([ctf.phase_shift, ctf.b_factor, sign * ctf.scale])
        self.half = references.of_half(particles.half_set, len(particles))
        self.units, self.unit = units_of(particles, micrograph)
        self.freedom = replace(
            settings.freedom,
            common=settings.freedom.common and micrograph is not None,
            spread=max(FIRST_SPREAD if settings.spread is None else settings.spread, LEAST_SPREAD),
        )
        count = len(particles)
        self.sigma, self.gain, self.at_edge = np.full(count, np.nan), np.zeros(count), np.zeros(count, dtype=bool)
        self.common = np.full((len(self.units), 3), np.nan)
        self.common_sigma = np.full((len(self.units), 3), np.nan)
        self.used_spread, self.spreads = self.freedom.spread, self.freedom.spreads
        self.evidence = np.zeros(len(self.freedom.spreads))

    def lens(self, number: int) -> Lens:
        group = self.optics[number]
        assert group.voltage and group.spherical_aberration is not None and group.amplitude_contrast is not None
        return Lens(float(group.voltage), float(group.spherical_aberration), float(group.amplitude_contrast))

    def parameters(self, rows: np.ndarray) -> CtfRows:
        return CtfRows(self.start[rows] + self.change[rows], self.fixed[rows])

    def group_optics(self, number: int) -> GroupOptics:
        x, y = self.image_shift[number]
        return self.images.optics(self.optics[number], (float(x), float(y)))

    def pieces(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """The rows in chunks that compare with one reference: its number, and rows."""
        for half in range(len(self.images.volumes)):
            for piece in chunks(rows[self.half[rows] == half], self.images.images_per_chunk):
                yield half, piece

    def survey(self, progress: Progress, *, slopes: bool) -> list[tuple[AgreementSums, ShellAgreement]]:
        """Sums and agreement of each used optics group."""
        counter, found = Counter(len(self.particles), progress), []
        for number in self.group_numbers:
            members = np.flatnonzero(self.particles.optics_index == number)
            shares = [part for part in np.array_split(members, SHARES) if len(part)]
            parts = side_by_side([partial(self.sums, share, number, slopes, counter) for share in shares], counter)
            sums = sum(parts[1:], parts[0])
            found.append((sums, shell_agreement(sums, self.images.shells)))
        return found

    def sums(self, rows: np.ndarray, number: int, slopes: bool, counter: Counter) -> AgreementSums:
        optics, lens, total = self.group_optics(number), self.lens(number), None
        for half, piece in self.pieces(rows):
            chunk = self.images.read(self.particles.rows(piece), optics, half)
            part = survey_chunk(self.images, chunk, optics, self.parameters(piece), lens, magnification=slopes)
            total = part if total is None else total + part
            counter.add(len(piece))
        assert total is not None
        return total

    def refine_groups(self, surveyed: list[tuple[AgreementSums, ShellAgreement]]) -> None:
        """Beam tilt, common shift and magnification of each optics group."""
        for number, (sums, agreement) in zip(self.group_numbers, surveyed):
            group = self.optics[number]
            if self.settings.beam_tilt:
                tilt = fit_beam_tilt(sums, self.images, odd_phase_basis(self.images, self.lens(number)))
                self.tilts[number] = tilt
                beam = (group.beam_tilt[0] + tilt.tilt[0], group.beam_tilt[1] + tilt.tilt[1])
                group = replace(group, beam_tilt=beam)
                self.image_shift[number] += tilt.shift
            if self.settings.magnification:
                step = magnification_step(sums, agreement, self.images.shells)
                self.magnifications[number] = step
                before = np.array(group.magnification)
                after = before @ (np.eye(2) + step.change)
                group = replace(group, magnification=tuple(tuple(float(x) for x in row) for row in after))
                rows = self.particles.optics_index == number
                stretch = after @ np.linalg.inv(before)
                mean, astigmatism = defocus_after(self.start[rows, 0], self.start[rows, 1:], stretch)
                self.start[rows] = np.column_stack([mean, astigmatism])
            self.optics[number] = group

    def refine_defoci(self, agreements: list[ShellAgreement], progress: Progress) -> bool:
        """Defocus and astigmatism, micrograph by micrograph; then the spread of the defoci within micrographs.

        Returns whether another pass would find the same: gain and spread are those of the pass before.
        """
        if self.freedom.defocus == "none" and not self.freedom.astigmatism:
            return True
        by_group = dict(zip(self.group_numbers, agreements))
        optics = {number: self.group_optics(number) for number in self.group_numbers}
        counter = Counter(len(self.particles), progress)

        def share(numbers: np.ndarray) -> list[MicrographFit]:
            fits = []
            for unit in numbers:
                group = int(self.particles.optics_index[self.units[unit][0]])
                fits.append(self.fit(int(unit), optics[group], by_group[group], group))
                counter.add(len(self.units[unit]))
            return fits

        shares = [part for part in np.array_split(np.arange(len(self.units)), SHARES) if len(part)]
        results = side_by_side([partial(share, part) for part in shares], counter)
        before = self.gain.sum()
        self.take([fit for fits in results for fit in fits])
        spread = abs(self.freedom.spread - self.used_spread) <= SETTLED_SPREAD * self.used_spread
        return bool(spread and abs(self.gain.sum() - before) <= SETTLED_GAIN * self.gain.sum())

    def fit(self, unit: int, optics: GroupOptics, agreement: ShellAgreement, group: int) -> MicrographFit:
        rows = self.units[unit]
        data, power = (np.empty((len(rows), len(self.images.grid)), dtype=np.float32) for _ in range(2))
        place = {int(row): number for number, row in enumerate(rows)}
        for half, piece in self.pieces(rows):
            chunk = self.images.read(self.particles.rows(piece), optics, half)
            into = [place[int(row)] for row in piece]
            data[into], power[into] = likelihood_of_chunk(self.images, chunk, optics, agreement, len(piece))
        lens = self.lens(group)
        # from where the file had it, in every pass: the priors are about changes from there
        start = CtfRows(self.start[rows], self.fixed[rows])
        likelihood = ParticleLikelihood(data, power, start, optics, lens)
        finest = float(np.hypot(optics.true_x, optics.true_y).max())
        return fit_micrograph(likelihood, self.freedom, scan_offsets(finest, lens, self.freedom.reach))

    def take(self, fits: list[MicrographFit]) -> None:
        """Make what was found what is known."""
        for unit, fit in enumerate(fits):
            rows = self.units[unit]
            self.change[rows], self.gain[rows] = fit.change, fit.gain
            self.sigma[rows], self.at_edge[rows] = fit.sigma, fit.at_edge
            self.common[unit], self.common_sigma[unit] = fit.common, fit.common_sigma
        self.used_spread = self.freedom.spread
        self.spreads, self.evidence = self.freedom.spreads, np.sum([fit.spread_evidence for fit in fits], axis=0)
        if self.settings.spread is None and self.freedom.own:
            spread = max(LEAST_SPREAD, most_likely_spread(self.spreads, self.evidence))
            closer = {spread * factor for factor in CLOSER}
            self.freedom = replace(self.freedom, spread=spread, spreads=tuple(sorted(closer | set(SPREADS))))

    def result(
        self,
        particles: Particles,
        first: list[tuple[AgreementSums, ShellAgreement]],
        last: list[tuple[AgreementSums, ShellAgreement]],
    ) -> CtfRefinement:
        groups = tuple(
            GroupRefinement(
                self.optics[number].name,
                before[0].count,
                before[1],
                after[1],
                before[0],
                after[0],
                self.tilts.get(number),
                self.magnifications.get(number),
                (float(self.image_shift[number, 0]), float(self.image_shift[number, 1])),
            )
            for number, before, after in zip(self.group_numbers, first, last)
        )
        return CtfRefinement(
            refined_particles(particles, self),
            self.change[:, 0],
            self.change[:, 1:],
            self.sigma,
            self.gain,
            self.at_edge,
            self.unit,
            self.common,
            self.common_sigma,
            self.used_spread,
            self.spreads,
            self.evidence,
            groups,
            self.images,
        )


def units_of(particles: Particles, micrograph: np.ndarray | None) -> tuple[list[np.ndarray], np.ndarray]:
    """The rows of each micrograph and optics group, or of each `UNIT` rows of a group where micrographs are not known; and the
    unit of each row."""
    unit, found = np.empty(len(particles), dtype=np.int64), []
    if micrograph is None:
        for group in np.unique(particles.optics_index):
            found += list(chunks(np.flatnonzero(particles.optics_index == group), UNIT))
    else:
        key = micrograph.astype(np.int64) * len(particles.optics) + particles.optics_index
        order = np.argsort(key, kind="stable")
        found = np.split(order, np.flatnonzero(np.diff(key[order])) + 1)
    for number, rows in enumerate(found):
        unit[rows] = number
    return found, unit


def most_likely_spread(spreads: Sequence[float], evidence: Float[np.ndarray, " s"]) -> float:
    """The spread in angstrom at the top of the parabola through the best one and its two neighbours."""
    best = int(np.argmax(evidence))
    if best in (0, len(spreads) - 1):
        return float(spreads[best])
    x, y = np.array(spreads[best - 1 : best + 2]), np.asarray(evidence)[best - 1 : best + 2]
    curvature, slope, _ = np.polyfit(x - x[1], y - y[1], 2)
    return float(np.clip(x[1] - slope / (2 * curvature), x[0], x[2])) if curvature < 0 else float(x[1])


def refined_particles(particles: Particles, study: _Study) -> Particles:
    """The particles with the CTFs, optics and origins that were found; angles of defocus from -90 to 90 degrees."""
    assert particles.ctf is not None and particles.pose is not None
    mean, along, across = (study.start + study.change).T
    size = np.hypot(along, across)
    fitted = study.freedom.defocus != "none" or study.freedom.astigmatism or study.settings.magnification
    ctf = particles.ctf
    if fitted:
        changed = CtfParameters.of(mean + size, mean - size, np.arctan2(across, along) / 2)
        ctf = replace(
            ctf,
            defocus_u=changed.defocus_u,
            defocus_v=changed.defocus_v,
            defocus_angle=changed.defocus_angle,
        )
    pose = particles.pose
    if study.image_shift.any():
        pose = Pose(pose.euler, pose.shift - study.image_shift[particles.optics_index])
    return replace(particles, ctf=ctf, pose=pose, optics=tuple(study.optics))
