"""The project's contract on axes, signs and states, as names that code can use instead of bare signs and booleans.

The prose is docs/conventions.md; each line of it has a test. In short:

- image `[y, x]`, stack `[n, y, x]`, volume `[z, y, x]`; vectors are `(x, y, z)`; leading axes are batch axes;
- the real-space origin of an axis of size N is index `N // 2`, for even and odd N;
- Fourier arrays are `rfftn` layout, zero frequency in the corner, last axis half; forward unnormalised, inverse 1/N; the real-space
  origin is moved to index 0 before the transform, so that a centred point has phase 0;
- `R` maps object to image coordinates, `R = Rz(psi) Ry(tilt) Rz(rot)`, and `F_image(kx, ky) = F_object(R.T @ (kx, ky, 0))`;
- shifts are RELION's origins in angstrom: the translation that brings the particle to the box centre;
- defocus is positive for underfocus; `CTF = +sin(gamma)`, `gamma = chi + phase_shift + asin(w)`, for images whose protein is white.
"""

from __future__ import annotations

from enum import StrEnum


class Contrast(StrEnum):
    """The sign of the protein in a stack of images."""

    INVERTED = "inverted"  # protein is bright: what reconstruction expects, CTF(0) = +w
    RAW = "raw"  # protein is dark at underfocus, as the detector saw it, CTF(0) = -w
    UNKNOWN = "unknown"


class CtfState(StrEnum):
    """What has been done to the images about their CTF, and with what transfer the object is in them.

    `optics.ctf_correction.state_factor` is what multiplied their transforms.
    """

    RAW = "raw"  # CTF
    PHASE_FLIPPED = "phase_flipped"  # |CTF|
    PREMULTIPLIED = "premultiplied"  # CTF^2
    WIENER = "wiener_filtered"  # CTF^2 / (CTF^2 + 1/snr)


def origin_index(size: int) -> int:
    """Index of the real-space origin of an axis of `size` samples."""
    return size // 2
