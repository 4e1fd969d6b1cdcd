"""Movies: frames of one exposure, with drift, fading and noise; and their sum.

Frame i is the image whose amplitudes have faded to the average over the frame (`dose.mean_exposure_weight`), which has
moved to the frame's mean position and is smeared along its way through the frame,

    F_i(k) = F(k) q_i(k) exp(-2 pi i k.(s_i + s_i+1)/2) sinc(k.(s_i+1 - s_i)),     sinc(x) = sin(pi x) / (pi x)

with s the positions at the frames' boundaries: straight, at even speed, within a frame. Then the detector records it,
each frame with noise of its own. Fading acts on the image. For a weak object, whose image is linear in its
potential, that is the same as fading of the specimen. At k = 0 nothing fades, so that the mean intensity stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vitreous.arrays import float_dtype
from vitreous.detection.detector import Detector, Mode
from vitreous.detection.dose import Exposure
from vitreous.detection.recording import check_recording, dose_per_pixel, record_filtered
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import forward, frequencies, inverse, radial_frequency, shift_phases, without_nyquist

if TYPE_CHECKING:
    from jaxtyping import Complex, Float


@dataclass(frozen=True)
class Drift:
    """Where the specimen is: `position` [n+1, 2], x and y in angstrom, before the first of n frames and after each."""

    position: Float[np.ndarray, "n+1 2"]

    def __post_init__(self) -> None:
        position = np.asarray(self.position, dtype=float)
        if position.ndim != 2 or position.shape[1] != 2 or len(position) < 2 or not np.isfinite(position).all():
            raise DataProblem(f"a drift of shape {position.shape}", "finite positions [frames + 1, 2] in angstrom")
        object.__setattr__(self, "position", position)

    def __len__(self) -> int:
        return len(self.position) - 1

    @property
    def shift(self) -> Float[np.ndarray, "n 2"]:
        """Mean position of each frame."""
        return (self.position[1:] + self.position[:-1]) / 2

    @property
    def step(self) -> Float[np.ndarray, "n 2"]:
        """Way through each frame."""
        return np.diff(self.position, axis=0)


def smooth_drift(
    exposure: Exposure, length: float, rng: np.random.Generator, *, decay: float = 5.0, wander: float = 0.1
) -> Drift:
    """A drift as beam-induced motion is: fast at first and slowing down, in a random direction, with a slow wander.

    The straight part is `length (1 - exp(-N / decay)) / (1 - exp(-total / decay))` angstrom after N electrons per
    square angstrom; the wander is a random walk of rms `wander * length` at the end. The middle of the movie is at 0.
    Made to exercise motion correction; it is a picture of such motion, not a measured law.
    """
    if not (length >= 0 and decay > 0 and wander >= 0):
        raise SettingsProblem(
            f"a drift of length {length}, decay {decay} and wander {wander}", "0 or more, decay above 0"
        )
    dose = exposure.boundaries - exposure.pre_exposure
    direction = rng.uniform(0, 2 * np.pi)
    along = length * np.expm1(-dose / decay) / np.expm1(-dose[-1] / decay)
    walk = np.cumsum(rng.standard_normal((len(exposure), 2)), axis=0) * (wander * length / np.sqrt(2 * len(exposure)))
    position = along[:, None] * np.array([np.cos(direction), np.sin(direction)])
    position[1:] += walk
    return Drift(position - position[len(position) // 2])


def motion(drift: Drift, frame: int, shape: tuple[int, int], pixel_size: float) -> Complex[np.ndarray, "y xh"]:
    """The factor on an image's transform that moves it to a frame's position and smears it along the frame's way."""
    grids = frequencies(shape, pixel_size)
    blur = np.sinc(grids[0] * drift.step[frame, 0] + grids[1] * drift.step[frame, 1])
    return without_nyquist(shift_phases(drift.shift[frame], grids) * blur, shape)


def movie_frames(
    intensity: Float[np.ndarray, "y x"],
    pixel_size: float,
    exposure: Exposure,
    detector: Detector,
    rng_of_frame: Callable[[int], np.random.Generator],
    *,
    drift: Drift | None = None,
    fading: bool = True,
    mode: Mode | str | None = None,
    readout_noise: float = 0.0,
) -> Iterator[Float[np.ndarray, "y x"]]:
    """The frames of a movie of an `intensity` (1 where the beam arrives undisturbed), one at a time, in its dtype.

    `rng_of_frame(i)` gives the stream of frame i, so that any frame can be made again without those before.
    `fading=False` leaves out radiation damage. Memory: one frame and the transform of the intensity.
    """
    if drift is not None and len(drift) != len(exposure):
        raise DataProblem(f"a drift of {len(drift)} frames for a movie of {len(exposure)}", "one step for each frame")
    doses = [dose_per_pixel(dose, pixel_size) for dose in exposure.dose_per_frame]
    check_recording(min(doses), readout_noise)
    if not (np.isfinite(intensity).all() and (intensity >= 0).all()):
        raise DataProblem("intensities that are negative or not finite", "electrons per incident electron, 0 or more")
    return _frames(intensity, pixel_size, exposure, detector, rng_of_frame, doses, drift, fading, mode, readout_noise)


def _frames(
    intensity: np.ndarray,
    pixel_size: float,
    exposure: Exposure,
    detector: Detector,
    rng_of_frame: Callable[[int], np.random.Generator],
    doses: list[float],
    drift: Drift | None,
    fading: bool,
    mode: Mode | str | None,
    readout_noise: float,
) -> Iterator[np.ndarray]:
    shape, dtype = (intensity.shape[0], intensity.shape[1]), float_dtype(intensity)
    signal = forward(intensity, 2)
    signal *= detector.signal_transfer(*frequencies(shape)).astype(dtype)
    k = radial_frequency(shape, pixel_size, dtype=dtype)
    for i, dose in enumerate(doses):
        transform = signal * exposure.fading(i, k) if fading else signal
        if drift is not None:
            transform = transform * motion(drift, i, shape, pixel_size).astype(transform.dtype)
        yield record_filtered(
            inverse(transform, shape), dose, detector, rng_of_frame(i), mode=mode, readout_noise=readout_noise
        )


def sum_frames(
    frames: Iterable[Float[np.ndarray, "y x"]],
    pixel_size: float = 1.0,
    *,
    drift: Drift | None = None,
    exposure: Exposure | None = None,
) -> Float[np.ndarray, "y x"]:
    """Sum of frames, one at a time: plain, aligned (`drift` given), dose-weighted (`exposure` given), or both.

    Aligned: each frame is moved back by its mean position; the smear within a frame stays. Dose-weighted: as
    `dose.optimal_sum`, `sum q_i F_i / sqrt(sum q_i^2)`, whose mean is that of a plain sum over sqrt(n) frames and whose
    white noise is that of one frame.
    """
    total: np.ndarray | None = None
    k: np.ndarray | None = None
    count, shape = 0, (0, 0)
    for frame in frames:
        _check_frame(count, frame, shape, drift, exposure)
        shape = frame.shape
        if drift is None and exposure is None:
            total = frame.copy() if total is None else np.add(total, frame, out=total)
            count += 1
            continue
        transform = forward(frame, 2)
        if drift is not None:
            phases = shift_phases(-drift.shift[count], frequencies(shape, pixel_size))
            transform *= without_nyquist(phases, shape).astype(transform.dtype)
        if exposure is not None:
            k = radial_frequency(shape, pixel_size, dtype=float_dtype(frame)) if k is None else k
            transform *= exposure.fading(count, k)
        total = transform if total is None else np.add(total, transform, out=total)
        count += 1
    if total is None or any(given is not None and len(given) != count for given in (drift, exposure)):
        raise DataProblem(f"{count} frames", "as many as the drift and the exposure have, at least one")
    if drift is None and exposure is None:
        return total
    if exposure is not None and k is not None:
        total /= exposure.filter_norm(k)
    return inverse(total, shape)


def _check_frame(
    count: int, frame: np.ndarray, shape: tuple[int, ...], drift: Drift | None, exposure: Exposure | None
) -> None:
    if count and frame.shape != shape:
        raise DataProblem(f"frame {count + 1} of {frame.shape} pixels after frames of {shape}", "frames of one size")
    for given in (drift, exposure):
        if given is not None and count >= len(given):
            raise DataProblem(f"more than {len(given)} frames", f"{len(given)}, as the drift or the exposure has")
