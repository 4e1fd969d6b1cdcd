"""What a CTF refinement has to say in numbers and in warnings."""

from __future__ import annotations

import math

import numpy as np

from vitreous.estimation.ctf_refinement import LEAST_SPREAD, CtfRefinement, GroupRefinement, RefinementSettings
from vitreous.jobs.job import Finding
from vitreous.jobs.refine_ctf_tables import Micrographs
from vitreous.units import MILLIRADIAN

# Part of the particles at the edge of the range from which on the range is too small for the set.
MANY_AT_EDGE = 0.02
# Shells in which images and reference agree count as far as this, in standard deviations of noise.
AGREEMENT = 3.0
# Images that follow a reference only to this many times its resolution have poses or CTFs that are not its own.
FAR_BEHIND = 1.6


def refinement_findings(
    refined: CtfRefinement, settings: RefinementSettings, micrographs: Micrographs | None
) -> list[Finding]:
    """All figures, in the order in which people read them."""
    count, references = len(refined.particles), refined.images.references
    frequencies = refined.images.shell_frequency
    findings = [
        Finding("particles", "particles", count, meaning="Images whose CTFs were refined."),
        Finding(
            "micrographs",
            "micrographs",
            None if micrographs is None else len(micrographs.names),
            meaning="Of one micrograph share what is fitted for all its particles.",
        ),
        Finding(
            "finest_angstrom",
            "compared to",
            1 / float(frequencies[-1]),
            "Å",
            f"Images and reference were compared from {references.coarsest:g} Å to here.",
        ),
        Finding(
            "agreement_angstrom",
            "agree to",
            agreement_resolution(refined),
            "Å",
            "Finest resolution to which all images together show the reference above their noise.",
        ),
        Finding(
            "log_likelihood_gain",
            "log-likelihood gain",
            refined.log_likelihood_gain,
            "nats",
            f"How much more probable the images are with what was refined; {fitted_numbers(refined, settings) / 2:.0f} would come of chance.",
            1,
        ),
    ]
    if settings.freedom.defocus != "none":
        findings += defocus_findings(refined, settings)
    if settings.freedom.astigmatism:
        change = np.hypot(refined.common[:, 1], refined.common[:, 2])
        sigma = float(np.sqrt(np.nanmean(refined.common_sigma[:, 1:] ** 2)))
        findings.append(
            Finding(
                "astigmatism_change_rms_angstrom",
                "astigmatism change",
                float(np.sqrt(np.mean(change**2))),
                "Å",
                f"Root mean square over the micrographs of the change of (U - V)/2 as a vector; a component is known to ± {sigma:.0f} Å.",
                0,
            )
        )
    return findings + [finding for group in refined.groups for finding in group_findings(refined, group)]


def defocus_findings(refined: CtfRefinement, settings: RefinementSettings) -> list[Finding]:
    findings = [
        Finding(
            "defocus_change_mean_angstrom",
            "mean defocus change",
            float(refined.defocus_change.mean()),
            "Å",
            "Positive: more underfocused than the file said.",
            0,
        ),
        Finding(
            "defocus_change_rms_angstrom",
            "defocus change",
            float(np.sqrt(np.mean(refined.defocus_change**2))),
            "Å",
            "Root mean square over the particles.",
            0,
        ),
        Finding(
            "defocus_sigma_angstrom",
            "defocus known to",
            float(np.median(refined.defocus_sigma)),
            "Å",
            "Median standard deviation of a particle's defocus, by the curvature of its posterior. Near the spread below, a particle's own image "
            "says little.",
            0,
        ),
    ]
    if settings.freedom.own:
        how = "measured" if settings.spread is None else "as given"
        findings.append(
            Finding(
                "spread_angstrom",
                "spread in micrographs",
                refined.spread,
                "Å",
                f"Standard deviation of the particles' own defoci about the mean of their micrograph, {how}: what a particle's "
                "image does not say, this does.",
                0,
            )
        )
    return findings


def group_findings(refined: CtfRefinement, group: GroupRefinement) -> list[Finding]:
    """Beam tilt and magnification of an optics group, with error bars."""
    optics = next(optics for optics in refined.particles.optics if optics.name == group.name)
    several = len(refined.groups) > 1
    of, key = (f" of {group.name}", f"_{group.name}") if several else ("", "")
    findings = []
    if group.tilt is not None:
        for axis, value, sigma in zip("xy", optics.beam_tilt, group.tilt.tilt_sigma):
            findings.append(
                Finding(
                    f"beam_tilt_{axis}_mrad{key}",
                    f"beam tilt {axis}{of}",
                    value / MILLIRADIAN,
                    "mrad",
                    f"± {sigma / MILLIRADIAN:.3f} mrad; what the file had is in it.",
                    3,
                )
            )
        findings.append(
            Finding(
                f"image_shift_angstrom{key}",
                f"common shift{of}",
                math.hypot(*group.image_shift),
                "Å",
                f"All particles lay ({group.image_shift[0]:.3f}, {group.image_shift[1]:.3f}) Å from where their poses put them: a tilt that a "
                "pose refinement did not know of looks like a shift. It is in the origins now.",
                3,
            )
        )
    if group.magnification is not None:
        stretches = np.linalg.svd(np.array(optics.magnification), compute_uv=False)
        sigma = math.sqrt(max(np.diag(group.magnification.covariance).mean(), 0))
        findings.append(
            Finding(
                f"magnification_anisotropy_percent{key}",
                f"anisotropy{of}",
                float(100 * (stretches[0] / stretches[1] - 1)),
                "%",
                f"How much longer a pixel is along one direction than across it; elements of the matrix are known to ± {100 * sigma:.3f} %.",
                3,
            )
        )
        findings.append(
            Finding(
                f"magnification_scale_percent{key}",
                f"scale{of}",
                float(100 * (np.sqrt(stretches.prod()) - 1)),
                "%",
                "How much higher the images' frequencies truly are than their pixel size says, beside the reference's pixel size.",
                3,
            )
        )
    return findings


def fitted_numbers(refined: CtfRefinement, settings: RefinementSettings) -> float:
    """How many numbers were fitted; a particle's own defocus counts by the part that its image decides."""
    freedom = settings.freedom
    count = len(refined.common) * len(freedom.shared)
    if freedom.own and refined.spread > 0:
        count += float(np.clip(1 - (refined.defocus_sigma / refined.spread) ** 2, 0, 1).sum())
    count += 4 * len(refined.groups) * (settings.beam_tilt + settings.magnification)
    return float(count)


def agreement_resolution(refined: CtfRefinement) -> float | None:
    """The finest shell, in angstrom, up to which every shell agrees; of the group that agrees furthest."""
    finest = 0.0
    for group in refined.groups:
        agrees = group.after.deviations > AGREEMENT
        shells = len(agrees) if agrees.all() else int(np.argmin(agrees))
        if shells:
            finest = max(finest, float(refined.images.shell_frequency[shells - 1]))
    return 1 / finest if finest else None


def refinement_warnings(refined: CtfRefinement, settings: RefinementSettings, resolution: float | None) -> list[str]:
    """What must not be overlooked."""
    warnings, gain, freedom = [], refined.log_likelihood_gain, settings.freedom
    numbers = fitted_numbers(refined, settings)
    if gain < numbers / 2 + 3 * math.sqrt(numbers / 2):
        warnings.append(
            f"The log-likelihood rose by {gain:.1f}, no more than {numbers:.0f} fitted numbers give by chance: the CTFs were right "
            "already, or poses, hand or reference are wrong."
        )
    edge = float(refined.at_edge.mean())
    if freedom.defocus != "none" and edge > MANY_AT_EDGE:
        warnings.append(
            f"{edge:.1%} of the particles ran into the edge of the range of {freedom.reach:.0f} Å: give a larger --defocus-range-um, or "
            "estimate the CTFs anew."
        )
    agreement = agreement_resolution(refined)
    if resolution is not None and (agreement is None or agreement > FAR_BEHIND * resolution):
        reached = "at no resolution" if agreement is None else f"to {agreement:.1f} Å only"
        warnings.append(
            f"The images show the reference {reached}, the half maps agree to {resolution:.1f} Å: poses, hand or CTFs may be those of another map. "
            "`vitreous check` finds out which."
        )
    if freedom.own and settings.spread is None and refined.spread <= LEAST_SPREAD:
        warnings.append(
            "The images do not show that the particles of a micrograph differ in defocus: each has that of its micrograph. "
            "--defocus micrograph says the same in less time."
        )
    return warnings
