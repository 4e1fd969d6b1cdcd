"""The image of a flat tilted specimen, whose defocus changes along the image. Signs are those of physics.md (a).

A specimen turned right-handed by theta about +y has the defocus `df(x) = df0 - x tan(theta)`, about +x `df(y) = df0 + y
tan(theta)`; x, y are positions in the image. A weak object o(r) then makes the image, by the scatterer or by the pixel,

    c(x) = sum_r o(r) h(x - r; df(r))    each scatterer is imaged with its own defocus: the physics of a thin tilted sheet
    c(x) = sum_r o(r) h(x - r; df(x))    each pixel is made by the CTF of its own defocus: how an image is filtered

with `h(x; df) = (1/N^2) sum_k sin(gamma(k; df)) exp(2 pi i k.x)`. h is even, so each is the transpose, and the exact
adjoint, of the other. They differ by the defocus slope times the distance over which the lens spreads a frequency,
a phase of about `pi lambda^2 df k^3 tan(theta)`: 0.1 radian at 4 A, 1 um, 300 kV and 30 degrees.

Because the defocus g.x is linear in the position, `exp(i pi lambda k^2 g.x)` moves each frequency k to `k +- s`, `s(k) =
(1/2) lambda k^2 g`: a tilted grating has two satellites (Philippsen, Engel & Engel 2007; with astigmatism Mariani et al.
2011, doi:10.1016/j.jsb.2011.02.008). With the transform O(k) of o and b(k) = envelope exp(+i gamma(k; df0)),

    by the pixel       c(x) = Im (1/N^2) sum_k O(k) b(k) exp(2 pi i (k + s).x)
    by the scatterer   c(x) = Im (1/N^2) sum_k [ sum_r o(r) exp(-2 pi i (k - s).r) ] b(k) exp(2 pi i k.x)

one non-uniform and one ordinary FFT each, exact to the tolerance of the former, at any tilt about any axis in the plane.
Voortman et al. 2011 (doi:10.1016/j.ultramic.2011.03.001) showed how much such an algorithm saves. The box is periodic.
The Nyquist row and column of even sizes are dropped: the two signs of that frequency share one sample, and move apart.

The transforms run on the CPU, by finufft. JAX arrays are taken too and may be differentiated (reverse mode, with respect to
the objects): the host computes, also under jit and vmap. The transform is computed in double precision whatever the images are, because its
points, in single precision, are off by 2e-4 of a 4096 px image's contrast; in this form that costs no time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vitreous.arrays import float_dtype, namespace
from vitreous.conventions import Contrast
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.fourier.nonuniform import transform_at, transform_at_adjoint
from vitreous.fourier.transforms import fft, frequencies, ifft
from vitreous.optics.ctf import gamma, named_contrast
from vitreous.optics.electrons import wavelength
from vitreous.optics.tilted_plane import TiltedPlane

if TYPE_CHECKING:
    from jaxtyping import Float

By = Literal["scatterer", "pixel"]
PRECISION = {4: 1e-5, 8: 1e-10}  # tolerance of the transform by the bytes of the images' numbers
THREADED = 1 << 17  # points from which on more than one thread is worth its start
BLOCK = 1 << 18  # frequencies whose phases are computed at a time
CHUNK = 1 << 22  # pixels of a batch that are transformed at a time


@dataclass(frozen=True)
class TiltedCtf:
    """The lens and the plane of the specimen, of one image or of a batch of images of one plane.

    `defocus` in angstrom is that at the middle of the image, positive for underfocus; `astigmatism` = (u-v)/2 (cos 2 angle, sin 2
    angle) in angstrom; `phase_shift` in radian; `b_factor` in angstrom^2; voltage and spherical aberration in volt and
    angstrom. For a batch of n images `defocus`, `phase_shift` and `b_factor` may be arrays [n] and `astigmatism` [n, 2].
    """

    plane: TiltedPlane
    defocus: Any
    voltage: float
    spherical_aberration: float
    amplitude_contrast: float
    astigmatism: Any = (0.0, 0.0)
    phase_shift: Any = 0.0
    b_factor: Any = 0.0

    def __post_init__(self) -> None:
        if not self.voltage > 0:
            raise DataProblem(f"a lens of {self.voltage} V", "a positive voltage in volts, for example 300e3")
        if not -1 <= self.amplitude_contrast <= 1:
            raise DataProblem(f"amplitude contrast {self.amplitude_contrast}", "a value in [-1, 1]")
        if np.shape(self.astigmatism)[-1:] != (2,):
            raise DataProblem(f"astigmatism of shape {np.shape(self.astigmatism)}", "two components on its last axis")
        values = (self.defocus, self.astigmatism, self.phase_shift, self.b_factor, self.spherical_aberration)
        if not all(np.isfinite(value).all() for value in values):
            raise DataProblem("a lens with parameters that are not finite", "finite numbers")

    @property
    def batch(self) -> tuple[int, ...]:
        """() for one lens, (n,) for one lens an image."""
        parts = (self.defocus, np.asarray(self.astigmatism)[..., 0], self.phase_shift, self.b_factor)
        return np.broadcast_shapes(*(np.shape(part) for part in parts))

    def at(self, x: Any, y: Any) -> TiltedCtf:
        """The same lens and plane for boxes centred at (x, y) angstrom: what particles [n] of a micrograph have."""
        return replace(self, defocus=self.plane.local_defocus(x, y, np.asarray(self.defocus)))

    def phase(self, kx: Any, ky: Any) -> np.ndarray:
        """gamma in radian at the middle of the image(s), whole turns included."""
        return np.asarray(
            gamma(
                kx,
                ky,
                np.asarray(self.defocus, dtype=np.float64),
                np.asarray(self.astigmatism, dtype=np.float64),
                voltage=self.voltage,
                spherical_aberration=self.spherical_aberration,
                amplitude_contrast=self.amplitude_contrast,
                phase_shift=np.asarray(self.phase_shift, dtype=np.float64),
            )
        )

    def rows(self, count: int, selection: slice | int) -> TiltedCtf:
        """The lens of the selected image or images of a batch of `count`."""

        def pick(value: Any, trailing: int) -> np.ndarray:
            array = np.asarray(value, dtype=np.float64)
            whole = np.broadcast_to(array, (count, *array.shape[array.ndim - trailing :]))
            return whole[selection]

        return replace(
            self,
            defocus=pick(self.defocus, 0),
            astigmatism=pick(self.astigmatism, 1),
            phase_shift=pick(self.phase_shift, 0),
            b_factor=pick(self.b_factor, 0),
        )


def tilted_contrast(
    objects: Float[np.ndarray, "*batch y x"],
    pixel_size: float,
    lens: TiltedCtf,
    *,
    by: By = "scatterer",
    contrast: Contrast | str = Contrast.INVERTED,
    envelope: Float[np.ndarray, "y xh"] | None = None,
    eps: float | None = None,
    threads: int | None = None,
) -> Float[np.ndarray, "*batch y x"]:
    """The contrast c of a tilted specimen: `objects` convolved with a CTF whose defocus changes along the image.

    `objects` is what `ctf.ctf` would multiply in Fourier space, as seen along the beam: for the image of a projected potential
    Vz, give `2 sigma Vz` and add 1 to the result with `contrast="raw"`. `by="scatterer"` is the physics of a thin tilted sheet,
    `by="pixel"` its transpose (see above). `envelope`, real amplitudes on the half grid of `frequencies(shape, pixel_size)`,
    multiplies the CTF: coherence, MTF, thickness. It does not change along the image.

    A batch [n, y, x] are boxes of one plane, each with its defocus in `lens` (`lens.at(x, y)`). Precision is that of `objects`;
    the tolerance `eps` of the transform is 1e-5 for float32 and 1e-10 for float64. Raises SettingsProblem for an
    unknown `by` or `contrast`, DataProblem for shapes that do not fit.
    """
    if namespace(objects) is not np:
        return _in_jax(
            objects, pixel_size, lens, by, {"contrast": contrast, "envelope": envelope, "eps": eps, "threads": threads}
        )
    sign = -1.0 if named_contrast(contrast) is Contrast.RAW else 1.0
    if by not in ("scatterer", "pixel"):
        raise SettingsProblem(f"defocus by '{by}'", "'scatterer' or 'pixel'")
    objects = checked_images(objects, pixel_size)
    dtype, shape = float_dtype(objects), objects.shape[-2:]
    amplitude = None if envelope is None else full_plane(np.asarray(envelope), shape)
    method = transform_options(dtype, math.prod(shape), eps, threads)
    result = np.empty(objects.shape, dtype)
    for rows, part in batches(objects, lens):
        factor = sign * phase_factor(part, shape, pixel_size, amplitude, dtype)
        points = satellites(shape, pixel_size, part, 1 if by == "pixel" else -1)
        chosen = objects[rows]
        if by == "pixel":
            amplitudes = (fft(chosen, 2) * factor).reshape(*chosen.shape[:-2], -1)
            image = transform_at_adjoint(amplitudes, points, shape, **method) / math.prod(shape)
        else:
            spectrum = transform_at(chosen.astype(np.float64), points, **method).reshape(chosen.shape)
            image = ifft(spectrum * factor, 2)
        result[rows] = image.imag
    return result


def tilted_contrast_adjoint(
    images: Float[np.ndarray, "*batch y x"],
    pixel_size: float,
    lens: TiltedCtf,
    *,
    by: By = "scatterer",
    contrast: Contrast | str = Contrast.INVERTED,
    envelope: Float[np.ndarray, "y xh"] | None = None,
    eps: float | None = None,
    threads: int | None = None,
) -> Float[np.ndarray, "*batch y x"]:
    """The adjoint of `tilted_contrast`: <tilted_contrast(o), c> = <o, tilted_contrast_adjoint(c)>, to rounding.

    Point spread functions are even, so it is the same operation with the defocus taken the other way. On a recorded image it is
    the multiplication by the CTF ("premultiplied") of a tilted specimen.
    """
    if by not in ("scatterer", "pixel"):
        raise SettingsProblem(f"defocus by '{by}'", "'scatterer' or 'pixel'")
    other: By = "pixel" if by == "scatterer" else "scatterer"
    return tilted_contrast(
        images, pixel_size, lens, by=other, contrast=contrast, envelope=envelope, eps=eps, threads=threads
    )


def constant_defocus_phase(plane: TiltedPlane, width: float, resolution: float, voltage: float) -> float:
    """The phase error in radian at the edge of a particle `width` angstrom wide that has one defocus, that of its middle.

    `pi lambda (width / 2) |tan(theta)| / d^2`. The amplitude at the edge is multiplied by its cosine at worst.

    >>> round(constant_defocus_phase(TiltedPlane(math.radians(30)), 200.0, 3.0, 300e3), 3)
    0.397
    """
    return math.pi * wavelength(voltage) * width / 2 * math.hypot(*plane.slope) / resolution**2


def satellites(shape: tuple[int, int], pixel_size: float, lens: TiltedCtf, multiple: int) -> np.ndarray:
    """The frequencies `k + multiple s(k)` of the full grid [y x, 2], in cycles per pixel; `s = (1/2) lambda k^2 g`."""
    kx, ky = frequencies(shape, half=False)
    along_x, along_y = lens.plane.slope
    shift = (multiple * 0.5 * wavelength(lens.voltage) / pixel_size) * (kx * kx + ky * ky)
    points = np.empty((*shape, 2))
    np.add(kx, along_x * shift, out=points[..., 0])
    np.add(ky, along_y * shift, out=points[..., 1])
    return points.reshape(-1, 2)


def phase_factor(
    lens: TiltedCtf, shape: tuple[int, int], pixel_size: float, amplitude: np.ndarray | None, dtype: np.dtype
) -> np.ndarray:
    """`amplitude exp(-B k^2 / 4) exp(+i gamma)` on the full grid, complex, 0 at the Nyquist frequencies of even sizes.

    `dtype` is that of sine and cosine, whose argument is less than a turn; the result is in double precision.
    """
    kx, ky = frequencies(shape, pixel_size, half=False)
    batch = lens.batch
    factor = np.empty((*batch, *shape), dtype=np.complex128)
    damping = np.asarray(lens.b_factor, dtype=np.float64)[..., None, None]
    rows = max(1, BLOCK // (math.prod(batch) * shape[1]))
    for start in range(0, shape[0], rows):
        part = np.s_[..., start : start + rows, :]
        turns = lens.phase(kx, ky[start : start + rows]) / (2 * math.pi)
        turns = (2 * math.pi * (turns - np.round(turns))).astype(dtype)
        factor[part].real, factor[part].imag = np.cos(turns), np.sin(turns)
        if np.any(damping):
            factor[part] *= np.exp(-0.25 * damping * (kx * kx + ky[start : start + rows] ** 2))
        if amplitude is not None:
            factor[part] *= amplitude[start : start + rows]
    return _without_nyquist(factor)


def transform_options(dtype: np.dtype, points: int, eps: float | None, threads: int | None) -> dict[str, Any]:
    """How the non-uniform transform is computed. A fine grid of 1.25 times the size is twice as fast as one of twice the
    size, where it is exact enough; threads cost more than they gain below some hundred thousand points.
    """
    tolerance = PRECISION[dtype.itemsize] if eps is None else eps
    threads = 1 if threads is None and points < THREADED else threads
    return {"eps": tolerance, "threads": threads, "upsampling": 1.25 if tolerance >= 1e-6 else 2.0}


def full_plane(half: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A real even function of the frequency on the half grid of a box `shape`, on the full grid."""
    rows, columns = shape
    if half.shape != (rows, columns // 2 + 1):
        raise DataProblem(f"an envelope of shape {half.shape}", f"{(rows, columns // 2 + 1)}, the half grid of {shape}")
    opposite = half[(-np.arange(rows)) % rows][:, np.arange(columns - columns // 2 - 1, 0, -1)]
    return np.concatenate([half, opposite], axis=1)


def checked_images(images: np.ndarray, pixel_size: float) -> np.ndarray:
    """The images as floating-point numbers; raises DataProblem for what is no image or has no size."""
    images = np.asarray(images)
    if images.ndim < 2 or 0 in images.shape or images.dtype.kind not in "fiu":
        raise DataProblem(f"images of shape {images.shape} and type {images.dtype}", "real numbers [..., y, x]")
    if not 0 < pixel_size < math.inf:
        raise DataProblem(f"images of pixel size {pixel_size} A", "a positive number of angstrom")
    return images.astype(float_dtype(images), copy=False)


def _in_jax(objects: Any, pixel_size: float, lens: TiltedCtf, by: By, options: dict[str, Any]) -> Any:
    """`tilted_contrast` of a JAX array, computed by the host; its transpose is the adjoint."""
    import jax

    @jax.custom_vjp
    def contrast_of(o: Any) -> Any:
        return on_host(tilted_contrast, o)

    def on_host(function: Any, o: Any) -> Any:
        shape = jax.ShapeDtypeStruct(o.shape, float_dtype(o))

        def compute(values: Any) -> np.ndarray:
            return function(np.asarray(values), pixel_size, lens, by=by, **options)

        return jax.pure_callback(compute, shape, o, vmap_method="sequential")

    contrast_of.defvjp(
        lambda o: (on_host(tilted_contrast, o), None), lambda _, c: (on_host(tilted_contrast_adjoint, c),)
    )
    return contrast_of(objects)


def batches(objects: np.ndarray, lens: TiltedCtf) -> Iterator[tuple[Any, TiltedCtf]]:
    """Images to be transformed together, as many as fit in some memory, each with its lens."""
    varied = lens.batch
    if varied and (objects.ndim != 3 or varied != objects.shape[:1]):
        raise DataProblem(f"parameters of {varied} images for images {objects.shape}", "one set, or one for each image")
    if objects.ndim == 2:
        yield ..., lens
        return
    step = max(1, CHUNK // math.prod(objects.shape[1:]))
    for start in range(0, objects.shape[0], step):
        rows = slice(start, start + step)
        yield rows, lens.rows(objects.shape[0], rows) if varied else lens


def _without_nyquist(spectrum: np.ndarray) -> np.ndarray:
    """The Nyquist row and column of even sizes set to 0, in place."""
    rows, columns = spectrum.shape[-2:]
    if rows % 2 == 0:
        spectrum[..., rows // 2, :] = 0
    if columns % 2 == 0:
        spectrum[..., :, columns // 2] = 0
    return spectrum
