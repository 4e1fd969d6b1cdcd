"""The convention doctor's reasoning: which reading of a particle file do its images support?

Every hypothesis is judged by a trial reconstruction (`trial.py`). The file's own reading stands unless another one explains clearly
more: by `LEAST_NATS` and by `LEAST_SHARE` of the gain. Rotation, shift and CTF are searched in turn, each given the best of the others, so
that one fault does not accuse the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from vitreous.conventions import Contrast, CtfState
from vitreous.fourier.filters import apply_filter, low_pass, soft_sphere
from vitreous.fourier.transforms import radial_frequency
from vitreous.model.particles import Particles
from vitreous.optics.ctf import ctf_of_particles
from vitreous.optics.ctf_correction import state_factor
from vitreous.reconstruction.direct_inversion import MULTIPLIED, InversionSettings, solve
from vitreous.reconstruction.hypotheses import (
    AS_WRITTEN,
    Hypothesis,
    ctf_state_hypotheses,
    ctf_value_hypotheses,
    rotation_hypotheses,
    shift_hypotheses,
    shuffled_poses,
    unrelated_ctf_hypotheses,
)
from vitreous.reconstruction.projection import FourierVolume, fourier_volume, slice_grid, trilinear
from vitreous.reconstruction.trial import Trial, image_power, run_trial

# A difference of gains has a standard deviation of about the root of twice itself: 72 nats are six of them.
LEAST_NATS = 72.0
LEAST_SHARE = 0.002
# Poses that are coarse leave only low frequencies to explain, where no CTF at all does as well as the right one: it must explain more by this share.
LEAST_SHARE_UNRELATED = 0.05
# Orientations must explain this many times what shuffled ones do; those of noise explain as much.
LEAST_OVER_SHUFFLED = 1.2
# Skewness of a map's density inside the sphere that fits its box: a protein in solvent has 1 to 5, noise 0.
LEAST_SKEWNESS = 0.3
# Power near the zeros of the CTF over that at its peaks, where noise dominates: 1 for raw images, near 0 for premultiplied ones.
PREMULTIPLIED_BELOW, RAW_ABOVE = 0.35, 0.65
ZERO_BELOW, PEAK_ABOVE = 0.1, 0.7  # CTF^2 that counts as a zero, and as a peak
PIXEL_SIZE_TOLERANCE = 0.01
LEAST_MAP_CORRELATION = 0.3


# What `diagnose` judges, in the order in which it says so.
TRIAL_CHECKS = ("contrast sign", "CTF state", "CTF values", "rotation convention", "shift sign and unit")


class Status(StrEnum):
    """What became of a check."""

    PASS = "pass"
    FAULT = "fault"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """One line of the doctor's: what was checked, what became of it, and the evidence."""

    check: str
    status: Status
    evidence: str


@dataclass
class Case:
    """Particles under examination, and the reading of them that explains most so far.

    `declared_state` is what the file says of the CTF, `particles.ctf_state` what the images' power (`zero_power`) allows.
    """

    particles: Particles
    settings: InversionSettings
    noise_power: np.ndarray
    declared_state: CtfState = CtfState.RAW
    zero_power: float = float("nan")
    report: Callable[[int], None] = lambda done: None
    readings: dict[str, Hypothesis] = field(
        default_factory=lambda: {"rotation": AS_WRITTEN, "shift": AS_WRITTEN, "ctf": AS_WRITTEN}
    )
    trials: dict[tuple[str, ...], Trial] = field(default_factory=dict)

    def trial(self, **readings: Hypothesis) -> Trial:
        """The trial of the best reading with some parts exchanged. Each combination is reconstructed once."""
        combination = self.readings | readings
        key = tuple(h.name for h in combination.values())
        if key not in self.trials:
            self.trials[key] = run_trial(*self.read(combination), self.noise_power)
            self.report(len(self.trials))
        return self.trials[key]

    def gain(self, **readings: Hypothesis) -> float:
        return self.trial(**readings).total

    def read(self, combination: dict[str, Hypothesis]) -> tuple[Particles, InversionSettings]:
        particles, settings = self.particles, self.settings
        for hypothesis in combination.values():
            particles = hypothesis.change(particles)
            settings = replace(settings, use_ctf=settings.use_ctf and hypothesis.use_ctf)
        return particles, settings

    def search(self, part: str, candidates: list[Hypothesis]) -> bool:
        """Try the candidates for one part; keep the best if it explains clearly more. True if the reading has changed."""
        best = max(candidates, key=lambda h: self.gain(**{part: h}))
        if clearly_more(self.gain(**{part: best}), self.gain()):
            self.readings[part] = best
            return True
        return False


def clearly_more(gain: float, other: float) -> bool:
    """Whether one gain exceeds another by more than chance and more than a trifle."""
    return gain - other > max(LEAST_NATS, LEAST_SHARE * abs(other))


def diagnose(
    particles: Particles,
    settings: InversionSettings,
    *,
    seed: int = 0,
    report: Callable[[int], None] = lambda done: None,
) -> tuple[list[Verdict], Case]:
    """Verdicts on contrast, CTF state, CTF values, rotation, shift. `particles.images` must be in memory and finite."""
    assert particles.images is not None
    power = image_power(particles.images.read(slice(None)))
    declared, zero_power = particles.ctf_state, float("nan")
    if particles.ctf is not None:
        zero_power = power_at_zeros(particles)
        state = state_by_power(declared, zero_power, particles.used_optics()[0].wiener_snr)
        particles = replace(particles, optics=tuple(replace(group, ctf_state=state) for group in particles.optics))
    case = Case(particles, settings, power, declared, zero_power, report)
    rotations, shifts = rotation_hypotheses(), shift_hypotheses(particles.pixel_size)
    # The noise of multiplied images follows the CTF, so that gains under different CTFs do not compare; their power decides instead.
    judged = particles.ctf is not None and particles.ctf_state not in MULTIPLIED
    values = (
        [*ctf_state_hypotheses(particles.ctf_state), *ctf_value_hypotheses(), *unrelated_ctf_hypotheses()]
        if judged
        else []
    )
    for _ in range(2):  # a second round only if the first has changed something
        changed = case.search("rotation", [AS_WRITTEN, *rotations])
        changed |= case.search("shift", [AS_WRITTEN, *shifts])
        if values:
            changed |= case.search("ctf", [AS_WRITTEN, *values])
        if not changed:
            break
    rotation = rotation_verdict(case, seed)
    if case.gain() < LEAST_OVER_SHUFFLED * case.gain(rotation=shuffled_poses(seed)):
        known = {verdict.check: verdict for verdict in (contrast_verdict(case), rotation)}
        untold = "cannot be told while the orientations say nothing"
        return [known.get(check, Verdict(check, Status.UNKNOWN, untold)) for check in TRIAL_CHECKS], case
    return [contrast_verdict(case), *ctf_verdicts(case), rotation, shift_verdict(case, shifts)], case


def rotation_verdict(case: Case, seed: int) -> Verdict:
    written, shuffled = case.gain(rotation=AS_WRITTEN), case.gain(rotation=shuffled_poses(seed))
    best = case.readings["rotation"]
    if best is not AS_WRITTEN and case.gain() > LEAST_OVER_SHUFFLED * shuffled:
        return Verdict(
            "rotation convention",
            Status.FAULT,
            f"orientations are {best.name}: read so they explain {nats(case.gain())}, as written {nats(written)}",
        )
    if written < LEAST_OVER_SHUFFLED * shuffled:
        return Verdict(
            "rotation convention",
            Status.FAULT,
            f"the orientations say nothing about the images in any convention tried: they explain {nats(written)}, shuffled ones {nats(shuffled)}",
        )
    rivals = max(case.gain(rotation=h) for h in rotation_hypotheses())
    return Verdict(
        "rotation convention",
        Status.PASS,
        f"as written {nats(written)}, best other reading {nats(rivals)}, shuffled {nats(shuffled)}",
    )


def shift_verdict(case: Case, candidates: list[Hypothesis]) -> Verdict:
    written, best = case.gain(shift=AS_WRITTEN), case.readings["shift"]
    if best is not AS_WRITTEN:
        return Verdict(
            "shift sign and unit",
            Status.FAULT,
            f"shifts are {best.name}: read so they explain {nats(case.gain())}, as written {nats(written)}",
        )
    name, rival = max(((h.name, case.gain(shift=h)) for h in candidates), key=lambda pair: pair[1])
    assert case.particles.pose is not None
    if not clearly_more(written, rival):
        size = float(np.sqrt(np.mean(case.particles.pose.shift**2)))
        return Verdict(
            "shift sign and unit",
            Status.UNKNOWN,
            f"shifts of {size:.1f} A rms are too small to tell: as written {nats(written)}, {name} {nats(rival)}",
        )
    return Verdict("shift sign and unit", Status.PASS, f"as written {nats(written)}, {name} {nats(rival)}")


def ctf_verdicts(case: Case) -> list[Verdict]:
    """CTF state and CTF values, which share their trials: while the values are wrong, raw and phase-flipped cannot be told apart."""
    if case.particles.ctf is None:
        return [
            Verdict("CTF state", Status.UNKNOWN, "the file has no CTF"),
            Verdict("CTF values", Status.UNKNOWN, "the file has no CTF"),
        ]
    declared, read = case.declared_state, case.particles.ctf_state
    shown = f"power at the CTF's zeros is {case.zero_power:.2f} of that at its peaks"
    if read is CtfState.WIENER:
        return wiener_verdicts(case, shown)
    if read is CtfState.PREMULTIPLIED:
        right = read is declared
        evidence = (
            f"{declared.value}: {shown}"
            if right
            else f"the file says {declared.value}, but {shown}: the images are CTF-premultiplied"
        )
        return [
            Verdict("CTF state", Status.PASS if right else Status.FAULT, evidence),
            premultiplied_values_verdict(case),
        ]
    written, best = case.gain(ctf=AS_WRITTEN), case.readings["ctf"]
    states = {h.name for h in ctf_state_hypotheses(read)}
    if read is not declared:
        state = Verdict("CTF state", Status.FAULT, f"the file says {declared.value}, but {shown}: the images are not")
    elif best.name in states:
        state = Verdict(
            "CTF state",
            Status.FAULT,
            f"the file says {declared.value}: as {best.name} they explain {nats(case.gain())}, as written {nats(written)}",
        )
    elif best is not AS_WRITTEN:
        state = Verdict("CTF state", Status.UNKNOWN, f"{shown}; phases can be judged once the CTF values are right")
    else:
        other = max(case.gain(ctf=h) for h in ctf_state_hypotheses(read))
        state = Verdict(
            "CTF state",
            Status.PASS,
            f"{declared.value}: {nats(written)}, as {', '.join(states)} {nats(other)}; {shown}",
        )
    if best is not AS_WRITTEN and best.name not in states:
        unrelated = best.name in {h.name for h in unrelated_ctf_hypotheses()}
        if unrelated and case.gain() < (1 + LEAST_SHARE_UNRELATED) * written:
            evidence = f"{best.name} explains {nats(case.gain())}, the file's values {nats(written)}: too near to tell, as with coarse poses"
            return [state, Verdict("CTF values", Status.UNKNOWN, evidence)]
        return [
            state,
            Verdict(
                "CTF values",
                Status.FAULT,
                f"{best.name} explains {nats(case.gain())}, the file's values {nats(written)}",
            ),
        ]
    name, unrelated = max(((h.name, case.gain(ctf=h)) for h in unrelated_ctf_hypotheses()), key=lambda pair: pair[1])
    return [
        state,
        Verdict(
            "CTF values",
            Status.PASS,
            f"the file's values {nats(case.gain())}, best unrelated CTF ({name}) {nats(unrelated)}",
        ),
    ]


def wiener_verdicts(case: Case, shown: str) -> list[Verdict]:
    """CTF state and CTF values of Wiener-filtered images: the noise must have been shaped as the filter shapes white noise."""
    snr = case.particles.used_optics()[0].wiener_snr
    assert snr is not None  # without it there would be no trial reconstruction
    expected = power_left_at_zeros(CtfState.WIENER, snr)
    fits = expected / 2 < case.zero_power < 2 * expected
    evidence = f"wiener_filtered: {shown}, a filter for a signal-to-noise ratio of {snr:g} leaves {expected:.2f}"
    state = Verdict("CTF state", Status.PASS if fits else Status.UNKNOWN, evidence)
    if expected < PREMULTIPLIED_BELOW:
        return [state, premultiplied_values_verdict(case)]
    untold = "images filtered for so high a signal-to-noise ratio do not show where the zeros of their CTFs are"
    return [state, Verdict("CTF values", Status.UNKNOWN, untold)]


def premultiplied_values_verdict(case: Case) -> Verdict:
    """CTFs that the images were multiplied by have their zeros where the power is least."""
    name, least = min(
        ((h.name, power_at_zeros(h.change(case.particles))) for h in ctf_value_hypotheses()), key=lambda pair: pair[1]
    )
    if least < 0.8 * case.zero_power:
        return Verdict(
            "CTF values",
            Status.FAULT,
            f"with {name} the power at the zeros is {least:.3f} of that at the peaks, as written {case.zero_power:.3f}",
        )
    return Verdict(
        "CTF values",
        Status.PASS,
        f"the images have least power at the zeros of these CTFs: {case.zero_power:.3f} of that at the peaks",
    )


def state_by_power(declared: CtfState, zero_power: float, snr: float | None = None) -> CtfState:
    """Premultiplied or not, by the noise at the zeros of the CTF: multiplication by the CTF takes it away, and so does a Wiener
    filter for a low signal-to-noise ratio `snr`; nothing else does."""
    if declared is CtfState.WIENER:
        marked = snr is not None and power_left_at_zeros(declared, snr) < PREMULTIPLIED_BELOW
        return CtfState.RAW if marked and zero_power > RAW_ABOVE else declared
    if zero_power < PREMULTIPLIED_BELOW:
        return CtfState.PREMULTIPLIED
    if declared is CtfState.PREMULTIPLIED and zero_power > RAW_ABOVE:
        return CtfState.RAW
    return declared


def power_left_at_zeros(state: CtfState, snr: float | None = None) -> float:
    """What `power_at_zeros` is of white noise in this state, where the phase of the CTF takes all values alike.

    >>> round(power_left_at_zeros(CtfState.RAW), 3), round(power_left_at_zeros(CtfState.PREMULTIPLIED), 3)
    (1.0, 0.038)
    """
    transfer = np.sin((np.arange(20000) + 0.5) * (np.pi / 20000))
    power, square = state_factor(transfer, state, snr=snr) ** 2, transfer**2
    return float(power[square < ZERO_BELOW].mean() / power[square > PEAK_ABOVE].mean())


def power_at_zeros(particles: Particles) -> float:
    """Mean power of the images where CTF^2 < 0.1 over that where CTF^2 > 0.7, in the outer half of the shells, shell by shell."""
    import scipy.fft

    assert particles.images is not None and particles.ctf is not None
    grid = slice_grid(particles.images.shape[-1])
    outer = grid.shell > grid.box // 4
    kx, ky = (k[outer] / (grid.box * particles.pixel_size) for k in (grid.kx, grid.ky))
    shell, row, column = grid.shell[outer], grid.row[outer], grid.column[outer]
    shells = grid.box // 2 + 1
    sums = np.zeros((2, 2, shells))  # [zeros or peaks, power or count, shell]
    for group in np.unique(particles.optics_index):
        members = np.flatnonzero(particles.optics_index == group)
        for start in range(0, len(members), 256):
            part = particles.rows(members[start : start + 256])
            assert part.images is not None and part.ctf is not None
            power = np.abs(np.asarray(scipy.fft.rfft2(part.images.read(slice(None))))[:, row, column]) ** 2
            square = (
                ctf_of_particles(
                    part.used_optics()[0],
                    replace(part.ctf, b_factor=0 * part.ctf.b_factor, scale=0 * part.ctf.scale + 1),
                    kx,
                    ky,
                )
                ** 2
            )
            for kind, chosen in enumerate((square < ZERO_BELOW, square > PEAK_ABOVE)):
                sums[kind, 0] += np.bincount(shell, weights=(power * chosen).sum(axis=0), minlength=shells)
                sums[kind, 1] += np.bincount(shell, weights=chosen.sum(axis=0), minlength=shells)
    both = (sums[:, 1] > 100).all(axis=0)
    if not both.any():
        return float("nan")
    mean = sums[:, 0, both] / sums[:, 1, both]
    return float(np.median(mean[0] / mean[1]))


def contrast_verdict(case: Case) -> Verdict:
    """The sign of the protein, from the skewness of the best map's density."""
    volume = solve(case.trial().halves).map
    skewness = density_skewness(volume, case.particles.pixel_size)
    if case.settings.contrast is Contrast.RAW:
        skewness = -skewness  # of the density as it stands in the images
    bright = "bright" if skewness > 0 else "dark"
    evidence = f"skewness of the density {skewness:+.2f}: protein is {bright}"
    if abs(skewness) < LEAST_SKEWNESS:
        return Verdict(
            "contrast sign", Status.UNKNOWN, f"skewness of the density {skewness:+.2f} is too near 0 to tell"
        )
    declared = "bright" if case.settings.contrast is Contrast.INVERTED else "dark"
    return Verdict("contrast sign", Status.PASS if bright == declared else Status.FAULT, evidence)


def density_skewness(volume: np.ndarray, pixel_size: float) -> float:
    """Skewness of the density, low-passed to 20 angstrom (at least 3 pixels), inside the sphere that fits the box."""
    resolution = max(20.0, 3 * pixel_size)
    k = radial_frequency(volume.shape, pixel_size, dtype=np.float32)
    smooth = apply_filter(volume, low_pass(k, 1 / resolution, 0.25 / resolution), 3)
    inside = smooth[soft_sphere(volume.shape[0], volume.shape[0] / 2 - 1, 0, dtype=np.bool_)]
    centred = inside - inside.mean()
    return float((centred**3).mean() / max(float((centred**2).mean()) ** 1.5, np.finfo(np.float64).tiny))


def pixel_size_verdict(case: Case, reference: np.ndarray, reference_pixel_size: float) -> Verdict:
    """Compare the best map with a given one at a range of scales, in the region of frequencies that both hold well."""
    volume = solve(case.trial().halves).map
    scales = np.arange(0.85, 1.1501, 0.0025)
    ours, theirs = fourier_volume(volume), fourier_volume(reference)
    correlation, hand = max(
        (
            scale_correlation(ours, case.particles.pixel_size, theirs, reference_pixel_size, scales, mirror)
            for mirror in (False, True)
        ),
        key=lambda c: c[0].max(),
    )
    best = float(scales[correlation.argmax()])
    evidence = f"the map fits best with its pixels scaled by {best:.4f} (correlation {correlation.max():.2f}{', mirror image' if hand else ''})"
    if correlation.max() < LEAST_MAP_CORRELATION:
        return Verdict(
            "pixel size",
            Status.UNKNOWN,
            f"the given map does not lie on the reconstruction (correlation {correlation.max():.2f})",
        )
    return Verdict("pixel size", Status.PASS if abs(best - 1) < PIXEL_SIZE_TOLERANCE else Status.FAULT, evidence)


def scale_correlation(
    ours: FourierVolume,
    pixel_size: float,
    theirs: FourierVolume,
    their_pixel_size: float,
    scales: np.ndarray,
    mirror: bool,
) -> tuple[np.ndarray, bool]:
    """Correlation of two transforms at random frequencies between 60 and 12 angstrom, theirs read as if its pixels were `scale` times as large."""
    rng = np.random.default_rng(0)
    finest = min(1 / 12, 0.4 / pixel_size, 0.4 / their_pixel_size / scales.max())
    direction = rng.normal(size=(20_000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction[:, 0] = np.abs(direction[:, 0])  # the stored half
    k = direction * rng.uniform(1 / 60, finest, size=(20_000, 1))

    def read(volume: FourierVolume, size: float, points: np.ndarray) -> np.ndarray:
        return trilinear(volume.data, points * (size * volume.box * volume.padding))

    mine = read(ours, pixel_size, k * np.array([1, 1, -1 if mirror else 1]))
    values = []
    for scale in scales:
        other = read(theirs, their_pixel_size * scale, k)
        values.append(
            np.real(mine * np.conj(other)).sum() / np.sqrt((np.abs(mine) ** 2).sum() * (np.abs(other) ** 2).sum())
        )
    return np.array(values), mirror


def nats(value: float) -> str:
    """A gain in log-likelihood as people read it."""
    return f"{value:,.0f} nats"
