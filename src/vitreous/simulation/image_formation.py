"""From potential to intensity by one switch: scattering model, lens, partial coherence.

    projection            1 - 2 sigma Vz * sin(gamma)                      linear in the potential
    every other rung      |IFT[FT[exit wave] exp(+i chi) ...]|^2           the exit wave of `scattering.ladder`

Signs: physics.md (a). Intensity is relative to the incident beam; the detector comes after (`detection`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vitreous.errors import SettingsProblem
from vitreous.model.microscope import Microscope
from vitreous.model.slices import PotentialSlices
from vitreous.optics.imaging import with_amplitude_contrast
from vitreous.optics.lens import projection_image, wave_image
from vitreous.optics.turns import is_present
from vitreous.scattering.ladder import ScatteringModel, exit_wave, scattering_model

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX


def form_image(
    slices: PotentialSlices,
    microscope: Microscope,
    model: ScatteringModel | str = ScatteringModel.MULTISLICE,
    *,
    coherence: str = "envelope",
    nodes: int | None = None,
    **scattering: Any,
) -> Float[Array, "y x"]:
    """Intensity [y, x] behind the microscope, 1 where nothing scatters.

    The defocus of the microscope is that of z = 0. A stack of slices whose middle is at z has the defocus `df + z`; the
    rungs that take the specimen as flat take it to lie there. `amplitude_contrast` makes the potential of every rung `V
    (sqrt(1 - w^2) + i w)`: leave it 0 for slices that are complex because their absorption was computed. `coherence` is
    "envelope", or "sum" over the defoci and angles of the source, `nodes` of each (`optics.lens.wave_image`). Other
    options go to `scattering.ladder.exit_wave` (`band_limit`, `workers`). A wave is band-limited to 2/3 of Nyquist
    unless told otherwise, a projection is not: compare rungs below that.

    NumPy or JAX, differentiable in the slices and in the numbers of the microscope. Raises SettingsProblem for unknown
    models, and for "sum" with `projection`, which has no wave to be summed over.
    """
    model = scattering_model(model)
    slices, microscope = _about_the_middle(slices, microscope)
    if model is ScatteringModel.PROJECTION:
        if coherence != "envelope" or scattering:
            asked = ", ".join([f"coherence '{coherence}'", *scattering])
            raise SettingsProblem(
                f"the model 'projection' with {asked}",
                "coherence 'envelope', which for a linear image is the sum, and no options of a wave",
                "use weak_phase or a rung above it",
            )
        return projection_image(slices.projected.sum(axis=0), slices.pixel_size, microscope)
    if is_present(microscope.amplitude_contrast, 0.0):
        slices = replace(slices, projected=with_amplitude_contrast(slices.projected, microscope.amplitude_contrast))
    wave = exit_wave(slices, microscope.voltage, model, **scattering)
    return wave_image(wave, microscope, coherence=coherence, nodes=nodes)


def _about_the_middle(slices: PotentialSlices, microscope: Microscope) -> tuple[PotentialSlices, Microscope]:
    """The same specimen with the middle of its slices at z = 0, and the defocus of the microscope referred to that."""
    centred = -(len(slices) - 1) / 2 * slices.thickness
    return replace(slices, height=centred), microscope.at_height(slices.height - centred)


def electrons_per_pixel(intensity: Float[Array, ...], dose: Any, pixel_size: float) -> Float[Array, ...]:
    """Expected electrons in each pixel, `dose pixel_size^2 intensity`: the dose in electrons per square angstrom."""
    return intensity * (dose * pixel_size**2)
