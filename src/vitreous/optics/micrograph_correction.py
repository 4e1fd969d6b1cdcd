"""Correction of a whole micrograph for its CTF, flat or tilted. Signs are those of physics.md (a)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vitreous.conventions import CtfState
from vitreous.engine.local import Progress, silent
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.transforms import crop_real, forward, frequencies, inverse, pad_real, without_nyquist
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.optics.aberrations import wave_factor
from vitreous.optics.ctf import has_odd_phase, odd_phase
from vitreous.optics.ctf_correction import corrected_images, refuse_corrected
from vitreous.optics.delocalisation import delocalisation
from vitreous.optics.tilt import TiltedCtf, tilted_contrast_adjoint
from vitreous.optics.tilt_correction import phase_flipped, wiener_filtered
from vitreous.optics.tilted_plane import TiltedPlane

if TYPE_CHECKING:
    from jaxtyping import Float

# Of a transform of one micrograph: more of them add up in another order, and the last digits would depend on the machine.
THREADS = 1
SAMPLES = 64  # of the frequencies up to Nyquist, at which the spread is looked at


@dataclass(frozen=True)
class MicrographLens:
    """What made a micrograph: the microscope (`optics`, with the pixel size), the CTF in its middle (one row), and the plane
    of the specimen.

    Raises DataProblem for what is not known or not finite, and for a tilted specimen under even Zernike terms, an anisotropic
    magnification or a CTF scale, which the tilted transfer does not have.
    """

    optics: OpticsGroup
    ctf: CtfParameters
    plane: TiltedPlane = field(default_factory=lambda: TiltedPlane(0.0))

    def __post_init__(self) -> None:
        self.optics.require("pixel_size", "voltage", "spherical_aberration", "amplitude_contrast")
        if len(self.ctf) != 1:
            raise DataProblem(f"{len(self.ctf)} CTFs for a micrograph", "one, that of its middle")
        for name in self.ctf.__dataclass_fields__:
            if not np.isfinite(getattr(self.ctf, name)).all():
                raise DataProblem(f"a {name.replace('_', ' ')} of {getattr(self.ctf, name)[0]}", "a finite number")
        if self.plane.tilt == 0:
            return
        higher = {
            "even Zernike terms": any(self.optics.even_zernike),
            "an anisotropic magnification": not np.array_equal(self.optics.magnification, np.eye(2)),
            "a CTF scale": self.ctf.scale[0] != 1,
        }
        for name, present in higher.items():
            if present:
                raise DataProblem(f"a tilted micrograph with {name}", "one without, or without a tilt")

    @property
    def pixel_size(self) -> float:
        assert self.optics.pixel_size is not None
        return self.optics.pixel_size

    @property
    def voltage(self) -> float:
        assert self.optics.voltage is not None
        return self.optics.voltage

    @property
    def defocus(self) -> float:
        """Mean defocus in the middle, angstrom."""
        return float(self.ctf.defocus[0])

    @property
    def tilted(self) -> TiltedCtf:
        """The lens as `optics.tilt` has it."""
        assert self.optics.spherical_aberration is not None and self.optics.amplitude_contrast is not None
        along, across = self.ctf.astigmatism[0]
        return TiltedCtf(
            self.plane,
            self.defocus,
            self.voltage,
            self.optics.spherical_aberration,
            self.optics.amplitude_contrast,
            astigmatism=(float(along), float(across)),
            phase_shift=float(self.ctf.phase_shift[0]),
            b_factor=float(self.ctf.b_factor[0]),
        )

    def delocalisation(self, k: np.ndarray, defocus: float) -> np.ndarray:
        """How far in angstrom a defocus moves the signal of the frequencies `k`."""
        assert self.optics.spherical_aberration is not None
        return delocalisation(
            k, defocus=defocus, voltage=self.voltage, spherical_aberration=self.optics.spherical_aberration
        )

    def defocus_range(self, shape: tuple[int, ...]) -> tuple[float, float]:
        """Smallest and largest mean defocus in angstrom at the corners of a micrograph [y, x]."""
        x, y = (np.array([-1, 1]) * size * self.pixel_size / 2 for size in shape[::-1])
        corners = self.plane.local_defocus(x[None, :], y[:, None], self.defocus)
        return float(corners.min()), float(corners.max())


def corrected_micrograph(
    image: Float[np.ndarray, "y x"],
    lens: MicrographLens,
    state: CtfState | str,
    *,
    snr: float | None = None,
    progress: Progress = silent,
) -> Float[np.ndarray, "y x"]:
    """The raw micrograph brought into this state by the CTF of each place, float32. Contrast stays: dark protein stays dark.

    What deviates from the mean is corrected, in a frame of zeros that what the lens spreads does not cross (`frame_of`), and the
    mean is put back. A flat specimen has `ctf_correction.corrected_images`, a tilted one the transforms of `tilt_correction`, after its
    odd phase, which is the same everywhere, is undone. The result does not depend on the number of cores.
    """
    state = CtfState(state)
    refuse_corrected(lens.optics)
    mean = image.mean(dtype=np.float64)
    frame = pad_real((image - mean).astype(np.float32), frame_of(image.shape, lens), 2)
    if lens.plane.tilt == 0:
        result = corrected_images(frame[None], lens.optics, lens.ctf, state, snr=snr)[0]
    else:
        result = _corrected_tilted(_without_odd_phase(frame, lens), lens, state, snr, progress)
    return crop_real(result, image.shape, 2) + np.float32(mean)


def frame_of(shape: tuple[int, ...], lens: MicrographLens) -> tuple[int, int]:
    """The size in pixels that is transformed: a margin as wide as the lens spreads the signal up to Nyquist, at most the image's
    own size."""
    from scipy.fft import next_fast_len

    k = np.linspace(0, 0.5 / lens.pixel_size, SAMPLES)
    spread = max(float(np.abs(lens.delocalisation(k, defocus)).max()) for defocus in lens.defocus_range(shape))
    margin = math.ceil(spread / lens.pixel_size)
    rows, columns = (int(next_fast_len(size + min(margin, size), real=True) or size) for size in shape)
    return rows, columns


def _corrected_tilted(
    frame: np.ndarray, lens: MicrographLens, state: CtfState, snr: float | None, progress: Progress
) -> np.ndarray:
    if state is CtfState.PHASE_FLIPPED:
        return phase_flipped(frame, lens.pixel_size, lens.tilted, threads=THREADS, progress=progress)
    if state is CtfState.WIENER:
        if snr is None:
            raise SettingsProblem("a Wiener filter without a signal-to-noise ratio", "a positive number")
        return wiener_filtered(frame, lens.pixel_size, lens.tilted, snr=snr, threads=THREADS, progress=progress)
    if state is CtfState.PREMULTIPLIED:
        return tilted_contrast_adjoint(frame, lens.pixel_size, lens.tilted, threads=THREADS)
    return frame


def _without_odd_phase(frame: np.ndarray, lens: MicrographLens) -> np.ndarray:
    if not has_odd_phase(lens.optics):
        return frame
    factor = wave_factor(-odd_phase(lens.optics, *frequencies(frame.shape, lens.pixel_size))).astype(np.complex64)
    return inverse(without_nyquist(forward(frame, 2) * factor, frame.shape), frame.shape)
