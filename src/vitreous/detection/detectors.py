"""The detectors that are known by name, each with its curves and their sources. docs/detectors.md shows them.

    k2        Gatan K2 Summit, RELION's MTF and a published DQE         300 kV
    k2-fl2    Gatan K2 Summit, the maker's MTF                    200, 300 kV
    k3        Gatan K3, standard mode                              200, 300 kV
    k3-cds    Gatan K3, correlated double sampling                 200, 300 kV
    falcon2   FEI Falcon II, integrating                                300 kV
    falcon3   FEI Falcon 3EC, electron counting                    200, 300 kV
    falcon4   Thermo Fisher Falcon 4, electron counting            200, 300 kV
    de20      Direct Electron DE-20, integrating                        300 kV
    ideal     a square pixel that counts every electron            any voltage

An MTF is distributed for each of them, a DQE is published for few. Where it is not, the NTF is assumed, and
`Detector.provenance` says so:

- K3, and K2 with the maker's MTF: white noise, because each electron becomes one count at one place. For the K2 at
  300 kV this can be compared with the measured DQE: it is 5 % too high at half Nyquist, 28 % at Nyquist.
- Falcon 3EC at 200 kV: the NTF and DQE(0) of 300 kV.
- DQE(0) of the K3 and of the K2 at 200 kV: that of the K2 at 300 kV.

Give a number of your own with `Detector.with_dqe_at_zero` or `Detector.with_dqe_points`.
"""

from __future__ import annotations

from collections.abc import Callable

from vitreous.detection import curves
from vitreous.detection.curve import NYQUIST, Curve, Provenance, SquarePixel
from vitreous.detection.detector import Detector, Mode
from vitreous.errors import SettingsProblem
from vitreous.units import KILOVOLT

WHITE = Curve((0.0, NYQUIST), (1.0, 1.0), Provenance.ASSUMED, "white: one electron is one count at one place")
EXACTLY_WHITE = Curve((0.0, NYQUIST), (1.0, 1.0), Provenance.EXACT, "white: one electron is one count at one place")

RELION_FILE = "{}, distributed with RELION"
MAKERS_FILE = "{}, distributed by the maker"
MCMULLAN = "McMullan et al. 2014, arXiv:1406.1389, curve read off the plot"
FEI = "maker's curve, read off the plot"
FALCON_4I = "maker's values at 0, half and full Nyquist, of the Falcon 4i, read second-hand"


def detector(name: str, voltage: float | None = None) -> Detector:
    """The detector of this name at this voltage in volt, for example `detector("k3", 300e3)`.

    Case, blanks, hyphens and underscores in the name do not matter. Raises SettingsProblem for a name or a voltage that
    has no curves, naming those that exist.

    >>> round(float(detector("Falcon 4", 300e3).mtf(0.25)), 3)
    0.535
    """
    plain = {_plain(known): known for known in DETECTORS}
    key = plain.get(_plain(name))
    if key is None:
        raise SettingsProblem(f"the detector '{name}'", " or ".join(DETECTORS))
    makers = DETECTORS[key]
    if None in makers:
        return makers[None](voltage)
    if voltage not in makers:
        known = " or ".join(f"{known / KILOVOLT:g} kV" for known in sorted(filter(None, makers)))
        given = "no voltage" if voltage is None else f"{voltage / KILOVOLT:g} kV"
        others = [other for other in DETECTORS if other.startswith(key[:2]) and voltage in DETECTORS[other]]
        remedy = f"at this voltage there is {' or '.join(others)}" if others else ""
        raise SettingsProblem(f"the detector '{key}' at {given}", f"{known}, where its curves are known", remedy)
    return makers[voltage](voltage)


def detector_names() -> tuple[str, ...]:
    """All names that `detector` knows."""
    return tuple(DETECTORS)


def voltages_of(name: str) -> tuple[float, ...]:
    """Voltages in volt at which the curves of a detector are known; empty for one to which the voltage is nothing."""
    return tuple(sorted(voltage for voltage in DETECTORS[name] if voltage is not None))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _measured(frequency: tuple[float, ...], value: tuple[float, ...], source: str) -> Curve:
    return Curve(frequency, value, Provenance.MEASURED, source)


# --- the families -----------------------------------------------------------------------------------------------------


def _k2(voltage: float | None) -> Detector:
    mtf = _measured(curves.K2_FREQUENCY, curves.MTF_K2_300, RELION_FILE.format("mtf_k2_300kV.star"))
    return Detector.of_dqe("k2", voltage, Mode.COUNTING, mtf, _measured(curves.IN_64THS, curves.DQE_K2_300, MCMULLAN))


def _falcon2(voltage: float | None) -> Detector:
    mtf = _measured(curves.IN_80THS, curves.MTF_FALCON2_300, RELION_FILE.format("mtf_falcon2_300kV.star"))
    dqe = _measured(curves.IN_64THS, curves.DQE_FALCON2_300, MCMULLAN)
    return Detector.of_dqe("falcon2", voltage, Mode.INTEGRATING, mtf, dqe)


def _de20(voltage: float | None) -> Detector:
    mtf = _measured(curves.IN_80THS, curves.MTF_DE20_300, RELION_FILE.format("mtf_de20_300kV.star"))
    dqe = _measured(curves.IN_64THS, curves.DQE_DE20_300, MCMULLAN)
    return Detector.of_dqe("de20", voltage, Mode.INTEGRATING, mtf, dqe)


def _white(name: str, values: tuple[float, ...], file: str) -> Callable[[float | None], Detector]:
    """Maker of a counting detector of Gatan: MTF of the maker, white noise, DQE(0) as the K2 has it at 300 kV."""

    def make(voltage: float | None) -> Detector:
        mtf = _measured(curves.IN_63RDS, values, MAKERS_FILE.format(file))
        measured = name == "k2-fl2" and voltage == 300e3
        provenance = Provenance.MEASURED if measured else Provenance.ASSUMED
        source = MCMULLAN if measured else f"as the K2 at 300 kV ({MCMULLAN})"
        at_zero = curves.DQE_K2_300[0]
        return Detector.of_ntf(name, voltage, Mode.COUNTING, mtf, WHITE, at_zero, provenance=provenance, source=source)

    return make


def _falcon3_300(voltage: float | None) -> Detector:
    mtf = _measured(curves.IN_128THS, curves.MTF_FALCON3_300, MAKERS_FILE.format("mtf_falcon3EC_300kV.star"))
    dqe = _measured(curves.IN_64THS, curves.DQE_FALCON3_300, FEI)
    return Detector.of_dqe("falcon3", voltage, Mode.COUNTING, mtf, dqe)


def _falcon3_200(voltage: float | None) -> Detector:
    mtf = _measured(curves.IN_128THS, curves.MTF_FALCON3_200, MAKERS_FILE.format("mtf_falcon3EC_200kV.star"))
    at_300 = _falcon3_300(None)
    ntf = tuple(float(at_300.ntf(k)) for k in curves.IN_128THS)
    return Detector.of_ntf(
        "falcon3",
        voltage,
        Mode.COUNTING,
        mtf,
        Curve(curves.IN_128THS, ntf, Provenance.ASSUMED, "as at 300 kV"),
        at_300.dqe_at_zero,
        source="as at 300 kV",
    )


def _falcon4(
    values: tuple[float, ...], file: str, dqe: tuple[float, float, float]
) -> Callable[[float | None], Detector]:
    def make(voltage: float | None) -> Detector:
        mtf = _measured(curves.IN_128THS, values, MAKERS_FILE.format(file))
        quoted = Curve.through(*dqe, Provenance.QUOTED, FALCON_4I)
        return Detector.of_dqe("falcon4", voltage, Mode.COUNTING, mtf, quoted)

    return make


def _ideal(voltage: float | None) -> Detector:
    return Detector.of_ntf(
        "ideal",
        voltage,
        Mode.COUNTING,
        SquarePixel(),
        EXACTLY_WHITE,
        1.0,
        provenance=Provenance.EXACT,
        source="every electron is counted",
    )


DETECTORS: dict[str, dict[float | None, Callable[[float | None], Detector]]] = {
    "k2": {300e3: _k2},
    "k2-fl2": {
        200e3: _white("k2-fl2", curves.MTF_K2_FL2_200, "mtf_k2_200kV_FL2.star"),
        300e3: _white("k2-fl2", curves.MTF_K2_FL2_300, "mtf_k2_300kV_FL2.star"),
    },
    "k3": {
        200e3: _white("k3", curves.MTF_K3_200, "mtf_k3_standard_200kV_FL2.star"),
        300e3: _white("k3", curves.MTF_K3_300, "mtf_k3_standard_300kV_FL2.star"),
    },
    "k3-cds": {
        200e3: _white("k3-cds", curves.MTF_K3_CDS_200, "mtf_k3_CDS_200kV_FL2.star"),
        300e3: _white("k3-cds", curves.MTF_K3_CDS_300, "mtf_k3_CDS_300kV_FL1.star"),
    },
    "falcon2": {300e3: _falcon2},
    "falcon3": {200e3: _falcon3_200, 300e3: _falcon3_300},
    "falcon4": {
        200e3: _falcon4(curves.MTF_FALCON4_200, "mtf_falcon4EC_200kV.star", (0.91, 0.62, 0.33)),
        300e3: _falcon4(curves.MTF_FALCON4_300, "mtf_falcon4EC_300kV.star", (0.92, 0.72, 0.50)),
    },
    "de20": {300e3: _de20},
    "ideal": {None: _ideal},
}
