"""Inelastic scattering as absorption: electrons that lost energy leave the image, as behind an energy filter.

    intensity = exp(-t / Lambda),      Vim = 1 / (2 sigma Lambda)

Lambda is the mean free path for inelastic scattering, Vim > 0 the imaginary part of the potential (physics.md a), sigma
the interaction constant.

Values of Lambda for ice at 300 kV lie between 176 and 395 nm, because collection angle and definition differ. So each
has a named source:

- `vulovic2013` (default): cross sections after Langmore & Smith (1992) as Vulović et al. use them (2013,
  doi:10.1016/j.jsb.2013.05.008); every inelastic electron is lost.
- `iakoubovskii2008`: a fit by the density of the material to what a spectrometer of a given collection angle measured
  (Iakoubovskii et al. 2008).
- `malis1988`: a fit by its atomic number, to +-20 % for inorganic solids (Malis et al. 1988,
  doi:10.1002/jemt.1060080206).
- `MeasuredPath`: a measured number, for one material and one voltage, under its own name.

A collection angle of a few mrad misses what is scattered further: the measured path is then the longer, the smaller the
angle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitreous.arrays import namespace
from vitreous.constants import ELECTRON_REST_ENERGY_EV
from vitreous.errors import DataProblem, SettingsProblem
from vitreous.model.slices import PotentialSlices
from vitreous.optics.electrons import interaction_constant, speed_ratio
from vitreous.specimen.materials import ICE, PROTEIN, Material, mean_inner_potential
from vitreous.units import KILOVOLT, NANOMETRE

if TYPE_CHECKING:
    from jaxtyping import Float

    Array = Any  # NumPy or JAX

SOURCES = ("vulovic2013", "iakoubovskii2008", "malis1988")
DEFAULT_SOURCE = "vulovic2013"
COLLECTION_MRAD = 10.0  # of the sources that know an angle, unless another is given

_MEAN_LOSS_EV = 20.0
_REFERENCE_VOLTAGE = 100e3  # of the two cross sections below
_HYDROGEN = 8.8e-4  # A^2 (8.8e-6 nm^2)
# Materials whose cross section is known for a mean atom, by name: A^2 at 100 kV and g/mol of that atom.
_MEAN_ATOMS = {"protein": (0.82e-2, 7.2)}
_ATOMS_PER_GRAM = 0.602214076  # 1/A^3 in 1 g/cm^3 of 1 g/mol


@dataclass(frozen=True)
class MeasuredPath:
    """A mean free path that somebody measured: `length` in angstrom in the material of this name at `voltage` volts.

    >>> rice = MeasuredPath("Rice et al. 2018, with aperture", 3950.0, material="ice", voltage=300e3)
    """

    name: str
    length: float
    material: str
    voltage: float

    def __post_init__(self) -> None:
        if not (self.length > 0 and math.isfinite(self.length)):
            raise DataProblem(f"a mean free path of {self.length} A ({self.name})", "a positive number of angstrom")
        speed_ratio(self.voltage)  # refuses what is no voltage


def mean_free_path(
    material: Material,
    voltage: float,
    source: str | MeasuredPath = DEFAULT_SOURCE,
    *,
    collection_mrad: float | None = None,
    convergence_mrad: float | None = None,
    effective_number: float | None = None,
) -> float:
    """Mean free path of inelastic scattering in angstrom, at `voltage` volts, from a named source (see the module).

    `collection_mrad` is the half-angle of collection (10 by default) of "iakoubovskii2008" and "malis1988",
    `convergence_mrad` the half-angle of the illumination (0) of the former, `effective_number` the atomic number to
    use in the latter (by default Egerton's mean, `sum n Z^1.3 / sum n Z^0.3`). A source refuses what it has no use for.

    >>> round(mean_free_path(ICE, 300e3) / 10, 1), round(mean_free_path(ICE, 300e3, "iakoubovskii2008") / 10)  # nm
    (375.4, 258)
    """
    speed_ratio(voltage)  # refuses what is no voltage
    options = {"collection_mrad": collection_mrad, "convergence_mrad": convergence_mrad}
    options["effective_number"] = effective_number
    collection = COLLECTION_MRAD if collection_mrad is None else collection_mrad
    if isinstance(source, MeasuredPath):
        _refuse_others(source.name, options, ())
        return _measured(source, material, voltage)
    if source == "vulovic2013":
        _refuse_others(source, options, ())
        return _vulovic(material, voltage)
    if source == "iakoubovskii2008":
        _refuse_others(source, options, ("collection_mrad", "convergence_mrad"))
        return _iakoubovskii(material.density, voltage, collection, convergence_mrad or 0.0)
    if source == "malis1988":
        _refuse_others(source, options, ("collection_mrad", "effective_number"))
        return _malis(effective_number or effective_atomic_number(material), voltage, collection)
    raise SettingsProblem(f"mean free path from '{source}'", f"one of {', '.join(SOURCES)}, or a MeasuredPath")


def imaginary_potential(
    material: Material, voltage: float, source: str | MeasuredPath = DEFAULT_SOURCE, **options: float
) -> float:
    """Vim in volts, `1/(2 sigma Lambda)`: a slab of thickness t passes `exp(-2 sigma Vim t) = exp(-t/Lambda)`.

    `options` are those of `mean_free_path`.

    >>> round(imaginary_potential(ICE, 300e3), 4)
    0.2041
    """
    length = mean_free_path(material, voltage, source, **options)
    return 1 / (2 * interaction_constant(voltage) * length)


def emerging_amplitude_contrast(
    solute: Material = PROTEIN,
    solvent: Material = ICE,
    *,
    voltage: float,
    source: str | MeasuredPath = DEFAULT_SOURCE,
    contrast_potential: float | None = None,
) -> float:
    """The amplitude contrast w that absorption alone gives the solute in the solvent: `dVim / hypot(dV, dVim)`.

    `contrast_potential` is dV in volts, by default the difference of the mean inner potentials of neutral atoms.
    Electrons that the aperture stops and those scattered to high angles add to w and are not counted here.

    >>> round(emerging_amplitude_contrast(voltage=300e3), 3)
    0.054
    """
    if contrast_potential is None:
        contrast_potential = mean_inner_potential(solute) - mean_inner_potential(solvent)
    loss = imaginary_potential(solute, voltage, source) - imaginary_potential(solvent, voltage, source)
    return loss / math.hypot(contrast_potential, loss)


def absorption(
    solute_fraction: Float[Array, "*slices y x"],
    thickness: float,
    voltage: float,
    *,
    solute: Material = PROTEIN,
    solvent: Material | None = ICE,
    source: str | MeasuredPath = DEFAULT_SOURCE,
) -> Float[Array, "*slices y x"]:
    """Imaginary part of the projected potential of slabs of `thickness` angstrom, in V A.

        thickness * (fraction * Vim_solute + (1 - fraction) * Vim_solvent)

    `solute_fraction`: how much of each voxel the solute fills, 0 to 1 (the voxel averages of
    `solvent.volume_profiles`); the rest is solvent, or nothing where `solvent` is None. Linear, in the dtype of the fraction.
    """
    background = 0.0 if solvent is None else imaginary_potential(solvent, voltage, source)
    excess = imaginary_potential(solute, voltage, source) - background
    return thickness * background + (thickness * excess) * solute_fraction


def with_absorption(
    slices: PotentialSlices,
    solute_fraction: Float[Array, "s y x"],
    voltage: float,
    *,
    solute: Material = PROTEIN,
    solvent: Material | None = ICE,
    source: str | MeasuredPath = DEFAULT_SOURCE,
) -> PotentialSlices:
    """The slices as complex numbers `V + i Vim`, with the `absorption` of solute and solvent at this voltage."""
    if tuple(solute_fraction.shape) != tuple(slices.projected.shape):
        raise DataProblem(
            f"a map of the solute of shape {tuple(solute_fraction.shape)}",
            f"that of the slices, {tuple(slices.projected.shape)}",
        )
    if namespace(slices.projected).iscomplexobj(slices.projected):
        raise DataProblem("slices that absorb already", "a real potential", "add all absorption at once")
    loss = absorption(solute_fraction, slices.thickness, voltage, solute=solute, solvent=solvent, source=source)
    return PotentialSlices(slices.projected + 1j * loss, slices.pixel_size, slices.thickness, slices.height)


def effective_atomic_number(material: Material) -> float:
    """Egerton's mean atomic number, `sum n Z^1.3 / sum n Z^0.3`: 4.38 for water."""
    import gemmi

    pairs = [(count, gemmi.Element(symbol).atomic_number) for symbol, count in material.composition.items()]
    return sum(n * z**1.3 for n, z in pairs) / sum(n * z**0.3 for n, z in pairs)


def _vulovic(material: Material, voltage: float) -> float:
    """`1 / (n s)`, with molar masses in whole grams as the source has them."""
    import gemmi

    if material.name in _MEAN_ATOMS:
        cross_section, mass = _MEAN_ATOMS[material.name]
        cross_section *= _relative_cross_section(voltage)
    else:
        cross_section = mass = 0.0
        for symbol, count in material.composition.items():
            element = gemmi.Element(symbol)
            cross_section += count * _element_cross_section(element.atomic_number, voltage)
            mass += count * round(element.weight)
    return 1 / (material.density * _ATOMS_PER_GRAM / mass * cross_section)


def _element_cross_section(number: int, voltage: float) -> float:
    """A^2: `1.5e-4 sqrt(Z) L / beta^2`; hydrogen from its value at 100 kV."""
    if number == 1:
        return _HYDROGEN * _relative_cross_section(voltage)
    return 1.5e-4 * math.sqrt(number) / speed_ratio(voltage) ** 2 * _logarithm(voltage)


def _relative_cross_section(voltage: float) -> float:
    """A cross section relative to that at 100 kV: `L / beta^2` over its value there."""
    here = _logarithm(voltage) / speed_ratio(voltage) ** 2
    return here / (_logarithm(_REFERENCE_VOLTAGE) / speed_ratio(_REFERENCE_VOLTAGE) ** 2)


def _logarithm(voltage: float) -> float:
    return math.log(speed_ratio(voltage) ** 2 * (voltage + ELECTRON_REST_ENERGY_EV) / (_MEAN_LOSS_EV / 2))


def _iakoubovskii(density: float, voltage: float, collection: float, convergence: float) -> float:
    """`1/Lambda = 11 rho^0.3 / (200 F E0) ln(...)`, angles in mrad, E0 in kV, Lambda in nm."""
    energy = voltage / KILOVOLT
    relativity = (1 + energy / 1022) / (1 + energy / 511) ** 2
    characteristic, cutoff = 5.5 * density**0.3 / (relativity * energy), 20.0
    sides = collection**2 + convergence**2 + abs(collection**2 - convergence**2)
    ratio = (sides + 2 * characteristic**2) / (sides + 2 * cutoff**2) * cutoff**2 / characteristic**2
    return NANOMETRE * 200 * relativity * energy / (11 * density**0.3 * math.log(ratio))


def _malis(number: float, voltage: float, collection: float) -> float:
    """`Lambda = 106 F E0 / (Em ln(2 b E0/Em))` in nm, with `Em = 7.6 Z^0.36`, E0 in kV and b in mrad."""
    energy = voltage / KILOVOLT
    relativity = (1 + energy / 1022) / (1 + energy / 511) ** 2
    mean_loss = 7.6 * number**0.36
    return NANOMETRE * 106 * relativity * energy / (mean_loss * math.log(2 * collection * energy / mean_loss))


def _measured(source: MeasuredPath, material: Material, voltage: float) -> float:
    if material.name != source.material:
        raise SettingsProblem(
            f"the mean free path of {source.material} ({source.name}) for {material.name}", "one of this material"
        )
    if abs(voltage - source.voltage) > 0.005 * source.voltage:
        raise SettingsProblem(
            f"a mean free path measured at {source.voltage / KILOVOLT:g} kV ({source.name})",
            f"one for {voltage / KILOVOLT:g} kV",
            "mean free paths change with the voltage: give the number of this one, or a source with a formula",
        )
    return source.length


def _refuse_others(source: str, options: dict[str, float | None], used: tuple[str, ...]) -> None:
    for name, value in options.items():
        if value is None:
            continue
        if name not in used:
            raise SettingsProblem(
                f"{name} = {value} with the mean free path of {source}", "no such option, it has no effect there"
            )
        if not (value >= 0 and math.isfinite(value)) or (value == 0 and name != "convergence_mrad"):
            raise SettingsProblem(f"{name} = {value}", "a positive number")
