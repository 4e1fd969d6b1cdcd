"""The ladder of scattering models: one potential, one switch, from one multiplication to the whole wave equation.

With slabs V_j at heights z_j, Vz their sum, `P_d(k) = exp(-i pi lambda d k^2)`, E the potential on the Ewald parabola
(`ewald.parabola_potential`) and z_e = height of the last slab + thickness:

    model                 exit wave                                        at height   once    often     depth
    projection            none: the image is linear in Vz                  0           yes     no        no
    weak_phase            1 + i sigma Vz                                   0           yes     no        no
    phase_object          exp(i sigma Vz)                                  0           yes     yes       no
    ewald                 1 + i sigma E                                    0           yes     no        yes
    thick_phase_grating   exp(i sigma E)                                   0           yes     about     yes
    rytov                 exp(i sigma sum_j V_j convolved with P_(z_e-z_j))  z_e       yes     about     yes
    multislice            slab by slab                                     z_e         yes     yes       yes

The last columns: is what scatters once right, what scatters several times, the height of each atom.
`thick_phase_grating` is the model of Vulovic et al. 2013 (doi:10.1016/j.jsb.2013.05.008) and 2014 (Ultramicroscopy 136,
61-66). All take potentials that absorb, `V + i Vim`. All waves are limited to the same band (`propagation`). A wave
at height 0 is brought to the exit plane by `propagation.propagate(wave, z_e)`: that of `ewald` is then
`1 + i sigma sum_j V_j convolved with P_(z_e-z_j)`, multislice to first order in V.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from vitreous.arrays import complex_dtype
from vitreous.errors import SettingsProblem
from vitreous.model.slices import ExitWave, PotentialSlices
from vitreous.optics.electrons import interaction_constant
from vitreous.scattering.ewald import parabola_potential
from vitreous.scattering.multislice import multislice, transmission_less_one
from vitreous.scattering.propagation import BAND_LIMIT, band, filtered


class ScatteringModel(StrEnum):
    """The rungs, from the simplest to the most complete."""

    PROJECTION = "projection"
    WEAK_PHASE = "weak_phase"
    PHASE_OBJECT = "phase_object"
    EWALD = "ewald"
    THICK_PHASE_GRATING = "thick_phase_grating"
    RYTOV = "rytov"
    MULTISLICE = "multislice"


# Rungs that see the specimen through its projection alone, and those that see it on the Ewald parabola.
FLAT = (ScatteringModel.PROJECTION, ScatteringModel.WEAK_PHASE, ScatteringModel.PHASE_OBJECT)
CURVED = (ScatteringModel.EWALD, ScatteringModel.THICK_PHASE_GRATING, ScatteringModel.RYTOV)


def scattering_model(name: ScatteringModel | str) -> ScatteringModel:
    """The model of that name. Raises SettingsProblem with all names if there is none."""
    try:
        return ScatteringModel(name)
    except ValueError:
        raise SettingsProblem(
            f"the scattering model '{name}'", f"one of {', '.join(model.value for model in ScatteringModel)}"
        ) from None


def exit_wave(
    slices: PotentialSlices,
    voltage: float,
    model: ScatteringModel | str = ScatteringModel.MULTISLICE,
    *,
    band_limit: float | None = BAND_LIMIT,
    limit_transmission: bool = False,
    workers: int | None = None,
) -> ExitWave:
    """The wave behind the specimen for a plane wave 1, by one of the models in the table above, at its height.

    `voltage` in volts. `band_limit` is a fraction of the Nyquist frequency, None for no limit; `limit_transmission` is
    an option of `multislice`. NumPy slabs use `workers` threads (None: SciPy's own setting). Raises SettingsProblem for
    `projection`, which has no wave: its image is `optics.imaging.linear_image`.

    >>> import numpy as np
    >>> slices = PotentialSlices(np.zeros((4, 16, 16)), pixel_size=1.0, thickness=10.0, height=-15.0)
    >>> exit_wave(slices, 300e3).height, exit_wave(slices, 300e3, "phase_object").height
    (25.0, 0.0)
    """
    model = scattering_model(model)
    if model is ScatteringModel.PROJECTION:
        raise SettingsProblem(
            "the model 'projection', which has no exit wave",
            "a model with a wave: weak_phase or any rung above it",
            "its image is linear in the projected potential: use optics.imaging.linear_image",
        )
    if model is ScatteringModel.MULTISLICE:
        settings = {"band_limit": band_limit, "limit_transmission": limit_transmission, "workers": workers}
        wave = multislice(slices.projected, slices.pixel_size, slices.thickness, voltage, **settings)
        return ExitWave(wave, slices.pixel_size, exit_height(slices))
    height = exit_height(slices) if model is ScatteringModel.RYTOV else 0.0
    potential = _potential(slices, voltage, model, height, workers)
    if model in (ScatteringModel.WEAK_PHASE, ScatteringModel.EWALD):
        scattered = (1j * interaction_constant(voltage) * potential).astype(complex_dtype(potential))
    else:
        scattered = transmission_less_one(potential, voltage)
    if band_limit is not None:
        scattered = filtered(scattered, band(scattered.shape, band_limit), workers=workers)
    return ExitWave(1 + scattered, slices.pixel_size, height)


def exit_height(slices: PotentialSlices) -> float:
    """Height in angstrom of the exit plane, `z_e` = height of the last slab + thickness."""
    return slices.height + len(slices) * slices.thickness


def _potential(
    slices: PotentialSlices, voltage: float, model: ScatteringModel, plane: float, workers: int | None
) -> Any:
    """Vz or E in V A."""
    if model in (ScatteringModel.WEAK_PHASE, ScatteringModel.PHASE_OBJECT):
        return slices.projected.sum(axis=0)
    return parabola_potential(
        slices.projected, slices.pixel_size, slices.thickness, slices.height, voltage, plane=plane, workers=workers
    )
