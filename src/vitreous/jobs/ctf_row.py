"""CtfRow: what the job `ctf` keeps of one micrograph. Angstrom and radian, plain numbers only, so that it travels as JSON.

The job writes it to `micrographs/NAME.json` when a micrograph is finished. A micrograph that could not be read is a
`CtfFailure` instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.estimation.ctf_estimate import CtfEstimate, RingProfile
from vitreous.optics.tilted_plane import TiltedPlane

FOLDER = "micrographs"  # in the job folder: NAME.json, NAME_ctf.mrc, NAME_ctf.png
CURVE_SAMPLES = 512  # of a profile, at most
CURVE_DIGITS = 5
# standard deviations of directions of which nothing is known: uniform over 180 and over 360 degrees
UNKNOWN_AXIS = math.pi / math.sqrt(12)
UNKNOWN_DIRECTION = math.pi / math.sqrt(3)


@dataclass(frozen=True)
class CtfFailure:
    """A micrograph that gave no estimate: its name in the job, its file, and why, in one line."""

    name: str
    path: str
    reason: str


@dataclass(frozen=True)
class CtfRow:
    """One micrograph. Every `..._sigma` is a standard deviation, None where the value was not fitted.

    `name` is unique in the job and what its files are called; `path` the file that was read; `micrograph` the name that STAR
    files give it. `kind` is "micrograph", "movie" or "spectrum"; `shape` (rows, columns) and `pixel_size` are those of the image or
    spectrum. Defocus is positive for underfocus, in the middle of the micrograph; `angle` is the direction of `defocus_u`
    from +x towards +y. `astigmatism` is (u - v) / 2 times (cos 2 angle, sin 2 angle), `amplitude` its size (u - v) / 2. `tilt` >= 0 and `axis`
    are those of `TiltedPlane`. `fit_resolution` is None where nothing agrees, `b_factor` where too few
    rings are clear. `names` and `covariance` are those of the
    estimate. `alternatives` are (defocus, score) pairs. `reasons` say why to reject it, one short sentence each: none means that it
    is good. `spectrum_mrc` and `spectrum_png` are files relative to the job folder.
    """

    name: str
    path: str
    micrograph: str
    kind: str
    optics_group: int
    pixel_size: float
    shape: tuple[int, int]
    voltage: float
    spherical_aberration: float
    amplitude_contrast: float
    found: bool
    evidence: str
    score: float
    significance: float
    fit_resolution: float | None
    defocus: float
    defocus_sigma: float | None
    defocus_u: float
    defocus_u_sigma: float | None
    defocus_v: float
    defocus_v_sigma: float | None
    angle: float
    angle_sigma: float | None
    astigmatism: tuple[float, float]
    amplitude: float
    amplitude_sigma: float | None
    phase_shift: float
    phase_shift_sigma: float | None
    b_factor: float | None
    b_factor_sigma: float | None
    slope: tuple[float, float] | None
    tilt: float | None
    tilt_sigma: float | None
    axis: float | None
    axis_sigma: float | None
    thickness: float | None
    thickness_sigma: float | None
    ice_ring: float | None
    alternatives: tuple[tuple[float, float], ...]
    names: tuple[str, ...]
    covariance: tuple[tuple[float, ...], ...]
    reasons: tuple[str, ...]
    curves: dict[str, tuple[float, ...]]
    spectrum_mrc: str
    spectrum_png: str
    seconds: float
    header_pixel_size: float | None = None  # what the file itself says, where `pixel_size` came from elsewhere too

    @staticmethod
    def of_estimate(
        estimate: CtfEstimate,
        *,
        name: str,
        path: str | Path,
        micrograph: str,
        kind: str,
        optics_group: int,
        pixel_size: float,
        shape: tuple[int, int],
        reasons: Sequence[str],
        seconds: float,
        header_pixel_size: float | None = None,
    ) -> CtfRow:
        """The row of an estimate. Derived standard deviations are propagated to first order."""
        plane = estimate.plane
        return CtfRow(
            name=name,
            path=str(path),
            micrograph=micrograph,
            kind=kind,
            optics_group=int(optics_group),
            pixel_size=float(pixel_size),
            shape=(int(shape[0]), int(shape[1])),
            voltage=float(estimate.lens.voltage),
            spherical_aberration=float(estimate.lens.spherical_aberration),
            amplitude_contrast=float(estimate.lens.amplitude_contrast),
            found=bool(estimate.found),
            evidence=estimate.evidence,
            score=float(estimate.score),
            significance=float(estimate.significance),
            fit_resolution=_finite(estimate.fit_resolution),
            defocus=float(estimate.defocus),
            defocus_u=float(estimate.defocus_u),
            defocus_v=float(estimate.defocus_v),
            angle=float(estimate.defocus_angle),
            astigmatism=(float(estimate.astigmatism[0]), float(estimate.astigmatism[1])),
            amplitude=float(estimate.amplitude),
            phase_shift=float(estimate.phase_shift),
            b_factor=_finite(estimate.b_factor),
            b_factor_sigma=_finite(estimate.b_factor_sigma),
            slope=None if estimate.slope is None else (float(estimate.slope[0]), float(estimate.slope[1])),
            tilt=None if plane is None else float(plane.tilt),
            axis=None if plane is None else float(plane.axis_angle),
            thickness=None if estimate.thickness is None else float(estimate.thickness),
            ice_ring=None if estimate.ice_ring is None else _finite(estimate.ice_ring),
            alternatives=tuple((float(one.defocus), float(one.score)) for one in estimate.alternatives),
            names=tuple(estimate.names),
            covariance=tuple(tuple(float(value) for value in row) for row in np.asarray(estimate.covariance)),
            reasons=tuple(reasons),
            curves=thinned(estimate.profile),
            spectrum_mrc=f"{FOLDER}/{name}_ctf.mrc",
            spectrum_png=f"{FOLDER}/{name}_ctf.png",
            seconds=float(seconds),
            header_pixel_size=header_pixel_size,
            **sigmas(estimate),
        )

    @property
    def good(self) -> bool:
        """A CTF was found, and nothing speaks against the micrograph."""
        return self.found and not self.reasons

    @property
    def plane(self) -> TiltedPlane | None:
        return None if self.slope is None else TiltedPlane.of_slope(*self.slope)

    def as_json(self) -> dict[str, Any]:
        """A dictionary of plain numbers, texts and lists."""
        return asdict(self)

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> CtfRow:
        """The row that `as_json` described, also after a journey through a file. Unknown keys raise TypeError, missing ones too."""
        values = {name: _tuples(value) for name, value in content.items()}
        values["curves"] = {name: _tuples(curve) for name, curve in content["curves"].items()}
        return CtfRow(**values)


def sigmas(estimate: CtfEstimate) -> dict[str, float | None]:
    """Standard deviations of everything that follows from the fitted parameters, to first order in them.

    Of directions they grow as size / sigma falls, and end at those of directions of which nothing is known.
    """
    along, across = estimate.astigmatism
    size = estimate.amplitude
    cosine, sine = (along / size, across / size) if size > 0 else (1.0, 0.0)
    radial = {"astigmatism_along": cosine, "astigmatism_across": sine}
    turn = _propagated(estimate, {"astigmatism_along": -sine, "astigmatism_across": cosine})
    found = {
        "defocus_sigma": _propagated(estimate, {"defocus": 1.0}),
        "defocus_u_sigma": _propagated(estimate, {"defocus": 1.0, **radial}),
        "defocus_v_sigma": _propagated(estimate, {"defocus": 1.0, **{key: -value for key, value in radial.items()}}),
        "amplitude_sigma": _propagated(estimate, radial),
        "angle_sigma": _direction_sigma(turn, 2 * size, UNKNOWN_AXIS),
        "phase_shift_sigma": _propagated(estimate, {"phase_shift": 1.0}),
        "thickness_sigma": _propagated(estimate, {"thickness": 1.0}),
        "tilt_sigma": None,
        "axis_sigma": None,
    }
    if estimate.slope is not None:
        steepness = math.hypot(*estimate.slope)
        x, y = (part / steepness for part in estimate.slope) if steepness > 0 else (1.0, 0.0)
        steeper = _propagated(estimate, {"slope_x": x, "slope_y": y})
        found["tilt_sigma"] = None if steeper is None else steeper / (1 + steepness**2)
        turn = _propagated(estimate, {"slope_x": -y, "slope_y": x})
        found["axis_sigma"] = _direction_sigma(turn, steepness, UNKNOWN_DIRECTION)
    return found


def _propagated(estimate: CtfEstimate, gradient: Mapping[str, float]) -> float | None:
    """sqrt(g^T C g); None if one of these parameters was not fitted."""
    if not set(gradient) <= set(estimate.names):
        return None
    weights = np.array([gradient.get(name, 0.0) for name in estimate.names])
    return math.sqrt(max(float(weights @ np.asarray(estimate.covariance, dtype=np.float64) @ weights), 0.0))


def _direction_sigma(sigma: float | None, size: float, unknown: float) -> float | None:
    if sigma is None:
        return None
    return unknown if sigma >= unknown * size else sigma / size


def thinned(profile: RingProfile) -> dict[str, tuple[float, ...]]:
    """The curves of a profile at no more than `CURVE_SAMPLES` evenly chosen samples, to five digits; gaps are nan in, 0 out."""
    count = len(profile.frequency)
    chosen = np.unique(np.linspace(0, count - 1, min(count, CURVE_SAMPLES)).round().astype(int))
    return {
        curve.name: tuple(
            float(f"{value:.{CURVE_DIGITS}g}") for value in np.nan_to_num(getattr(profile, curve.name)[chosen]).tolist()
        )
        for curve in fields(RingProfile)
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
