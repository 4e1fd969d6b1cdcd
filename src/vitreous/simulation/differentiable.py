"""The whole chain from atoms to expected counts as one differentiable function.

    atoms -> pose -> potential (projected, or in slices) -> exit wave -> image -> expected electrons per pixel

    counts = dose p^2 I,   I = form_image(potential(R r - shift, B, occupancy), microscope(defocus, astigmatism), model)

With JAX arrays every step can be differentiated, compiled and mapped over particles: `jax.grad`, `jax.jit`, `jax.vmap`.
All gradients are finite, at zero astigmatism, zero shift, zero defocus, the identity rotation and for atoms in one
place too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vitreous.arrays import namespace
from vitreous.errors import SettingsProblem
from vitreous.geometry.rotations import compose, matrix_from_rotation_vector
from vitreous.model.microscope import Microscope
from vitreous.model.slices import PotentialSlices
from vitreous.scattering.ladder import FLAT, ScatteringModel, scattering_model
from vitreous.simulation.image_formation import electrons_per_pixel, form_image
from vitreous.specimen.atom_transform import atom_slices, posed, projected_potential
from vitreous.specimen.profiles import AtomProfiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float

    Array = Any  # NumPy or JAX


class ImageParameters(NamedTuple):
    """What an image can be differentiated by. A tuple with names is a pytree: JAX maps over it as it is.

    `position` [n, 3] (angstrom, frame of the object), `b_factor` [n] (angstrom^2), `occupancy` [n]; `rotation_vector`
    [3], a right-handed turn by |v| radian about v, after the rotation given to `expected_counts`; `shift` [2], RELION's
    origin (angstrom); `defocus` and `astigmatism` [2] (angstrom); `dose` in electrons per square angstrom.
    """

    position: Any
    b_factor: Any
    occupancy: Any
    rotation_vector: Any
    shift: Any
    defocus: Any
    astigmatism: Any
    dose: Any


def image_parameters(
    position: Float[Array, "n 3"], profiles: AtomProfiles, microscope: Microscope, *, dose: float = 1.0
) -> ImageParameters:
    """Parameters of an image of these atoms as they stand: no turn, no shift, the focus of the microscope.

    Arrays are NumPy, in the precision of the positions.
    """
    dtype = np.asarray(position).dtype

    def array(values: Any) -> np.ndarray:
        return np.array(values, dtype=dtype)

    return ImageParameters(
        array(position),
        array(profiles.b_factor),
        array(profiles.occupancy),
        array([0.0, 0.0, 0.0]),
        array([0.0, 0.0]),
        array(microscope.defocus),
        array(microscope.astigmatism),
        array(dose),
    )


def expected_counts(
    parameters: ImageParameters,
    profiles: AtomProfiles,
    shape: Sequence[int],
    pixel_size: float,
    microscope: Microscope,
    *,
    model: ScatteringModel | str = ScatteringModel.PROJECTION,
    rotation: Float[Array, "3 3"] | None = None,
    slice_thickness: float | None = None,
    slice_count: int | None = None,
    **imaging: Any,
) -> Float[Array, "y x"]:
    """Expected electrons in each pixel: the mean of a Poisson distribution, before the detector.

    The image has the `shape` (y, x).     `profiles` gives the kinds of the atoms and their Gaussians, `parameters`
    everything that varies. `rotation` (default the identity) maps object to image coordinates and is followed by the
    turn of `parameters.rotation_vector`. The microscope's defocus and astigmatism are replaced by those of the
    parameters. Rungs with depth need `slice_count` slices of `slice_thickness` angstrom, a stack centred on z = 0 that
    must hold the atoms: what lies beyond it does not scatter. `imaging` goes to `image_formation.form_image`
    (`coherence`, `nodes`, `band_limit`).

    Raises SettingsProblem if slices are missing, or if concrete atoms stick out of them.
    """
    model = scattering_model(model)
    xp = namespace(*parameters)
    turn = matrix_from_rotation_vector(parameters.rotation_vector)
    if rotation is not None:
        turn = compose(turn, xp.asarray(rotation, dtype=turn.dtype))
    position = posed(parameters.position, turn, parameters.shift)
    varied = replace(profiles, b_factor=parameters.b_factor, occupancy=parameters.occupancy)
    seen = replace(microscope, defocus=parameters.defocus, astigmatism=parameters.astigmatism)
    if model in FLAT:
        projected = projected_potential(position, varied, shape, pixel_size)
        slices = PotentialSlices(projected[None], pixel_size, pixel_size, 0.0)  # one sheet at z = 0
    else:
        thickness, count = _stack(model, position, slice_thickness, slice_count)
        slices = atom_slices(position, varied, shape, pixel_size, thickness=thickness, count=count)
    return electrons_per_pixel(form_image(slices, seen, model, **imaging), parameters.dose, pixel_size)


def _stack(model: ScatteringModel, position: Any, thickness: float | None, count: int | None) -> tuple[float, int]:
    """Thickness and number of the slices, once they are known to be there and, where it can be known, to hold the
    atoms.
    """
    if thickness is None or count is None:
        raise SettingsProblem(
            f"the model '{model.value}' without slices", "slice_thickness and slice_count, a stack centred on z = 0"
        )
    if isinstance(position, np.ndarray) and (reach := float(np.abs(position[:, 2]).max())) > thickness * count / 2:
        raise SettingsProblem(
            f"{count} slices of {thickness:g} A for atoms that reach {reach:.1f} A from z = 0",
            f"a stack at least {2 * reach:.1f} A thick",
            "use more slices, or centre the atoms",
        )
    return thickness, count
