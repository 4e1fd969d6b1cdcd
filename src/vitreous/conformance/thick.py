"""b7: thick specimens. Two averages over depth, their nodes, and the first against an explicit sum over layers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from vitreous.conformance.check import Check, Mistake, Tolerance, number, quoted
from vitreous.optics import ctf, thickness
from vitreous.units import MILLIMETRE

TITLE = "Thick specimens"
LENS = {"voltage": 300e3, "spherical_aberration": 2.7 * MILLIMETRE, "amplitude_contrast": 0.07}
# thickness in angstrom: first node in 1/angstrom, and as a resolution in angstrom; the node of an average of amplitudes
NODES = {1000: (".225375", "4.437", ".318728"), 2000: (".159364", "6.275", ".225375")}
LAYERS = {100: "1.2e-4", 1000: "1.2e-6", 10000: "1.2e-8"}


def checks() -> Iterator[Check]:
    for depth, (frequency, resolution, coherent) in NODES.items():
        inputs = f"{depth} Å, 300 kV, unrelated layers"
        yield number(
            f"b7.node.{depth}A",
            "first node",
            inputs,
            frequency,
            "1/Å",
            partial(node, depth),
            mistakes=(Mistake(coherent, "amplitudes are averaged where powers should be"),),
        )
        yield number(f"b7.node.{depth}A.d", "first node", inputs, resolution, "Å", lambda t=depth: 1 / node(t))
    for layers, printed in LAYERS.items():
        yield number(
            f"b7.layers.{layers}",
            "formula - sum of layers",
            f"1000 Å in {layers} layers, 300 kV, Cs 2.7 mm, w 0.07, df 10000 Å, k to 1/2 1/Å, largest",
            printed,
            "",
            partial(difference_from_layers, layers),
        )
    yield number(
        "b7.coherent-node",
        "first node of amplitudes",
        "1000 Å, 300 kV, over that of powers, squared",
        "2",
        "",
        lambda: (float(thickness.amplitude_nodes(1000.0, 300e3)[0]) / node(1000)) ** 2,
        tolerance=Tolerance(1e-12, reason="exact: sqrt(2n/(lambda t))"),
    )
    reason = "literature: Tichelaar et al. 2020"
    yield quoted("b7.verified.least", "verified from", "carbon films", "40", "kV", reason)
    yield quoted("b7.verified.largest", "verified up to", "carbon films", "300", "kV", reason)


def node(depth: float) -> float:
    return float(thickness.power_nodes(depth, 300e3)[0])


def difference_from_layers(layers: int) -> float:
    """Largest difference of the formula from the mean of sin^2 over the middles of equal layers."""
    k = np.linspace(0, 0.5, 501)
    heights = (np.arange(layers) + 0.5) / layers * 1000 - 500
    total = np.zeros_like(k)
    for chunk in np.array_split(heights, max(1, layers // 1000)):
        total += (np.sin(ctf.gamma(k, 0.0 * k, 1e4 + chunk, **LENS)) ** 2).sum(axis=0)
    return float(np.abs(thickness.thick_power(k, 0.0 * k, 1e4, thickness=1000.0, **LENS) - total / layers).max())
