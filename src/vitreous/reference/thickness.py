"""The contrast of a thick specimen as an average over its layers, as definitions. Signs: physics.md (a).

The specimen reaches from z = -t/2 to t/2 about the plane of the nominal defocus; a layer at z has the defocus df + z.
"""

from __future__ import annotations

import numpy as np


def layer_heights(thickness: float, count: int) -> np.ndarray:
    """Heights of the middles of `count` equal layers."""
    return (np.arange(count) + 0.5) / count * thickness - thickness / 2


def power_of_layers(gamma: np.ndarray, phase_per_height: np.ndarray, thickness: float, count: int) -> np.ndarray:
    """Mean of sin^2 over layers that have nothing to do with each other. `phase_per_height` is pi lambda k^2."""
    return np.mean([np.sin(gamma + phase_per_height * z) ** 2 for z in layer_heights(thickness, count)], axis=0)


def amplitude_of_layers(gamma: np.ndarray, phase_per_height: np.ndarray, thickness: float, count: int) -> np.ndarray:
    """Mean of sin over layers that all hold the same structure."""
    return np.mean([np.sin(gamma + phase_per_height * z) for z in layer_heights(thickness, count)], axis=0)
