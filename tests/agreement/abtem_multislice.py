"""The potentials that abTEM and we are given, and, run with abTEM's Python, what abTEM makes of them.

    pip install abtem==1.0.11
    python tests/agreement/abtem_multislice.py > tests/agreement/abtem_multislice.json

abTEM limits the wave and the transmission to 2/3 of the Nyquist frequency, with a taper of 0.01 cycles per pixel below
it unless told otherwise. "smooth" holds Gaussians of rms 1.5 A on pixels of 0.5 A, of which the aperture takes nothing
that matters, with abTEM's own settings. "sharp" holds Gaussians of rms 0.7 A on pixels of 1 A, a quarter of whose
amplitude lies beyond the aperture, with the taper set to 0. NumPy and abTEM only.
"""

from __future__ import annotations

import json
import sys

import numpy as np

SIZE, COUNT = 96, 24
# name: pixel size, rms of the Gaussians, slab thickness (angstrom), height of the Gaussians (V A), abTEM's taper
CASES = {"smooth": (0.5, 1.5, 5.0, 20.0, 0.01), "sharp": (1.0, 0.7, 5.0, 60.0, 0.0)}
VOLTAGES_KV = (100, 300)
PIXELS = [(48, 48), (10, 20), (40, 60), (47, 31), (52, 65), (30, 48), (66, 50), (61, 33), (44, 44), (35, 70), (0, 0)]


def slabs(case: str) -> np.ndarray:
    """One Gaussian in each slab, on a winding path, [s, y, x] in V A."""
    pixel_size, rms, _, height, _ = CASES[case]
    axis = pixel_size * (np.arange(SIZE) - SIZE // 2)
    result = np.empty((COUNT, SIZE, SIZE))
    for j in range(COUNT):
        x, y = 8 * np.sin(1.7 * j) + 0.3 * j, 9 * np.cos(2.3 * j) - 0.2 * j
        along_x, along_y = (np.exp(-((axis - centre) ** 2) / (2 * rms**2)) for centre in (x, y))
        result[j] = height * (1 + np.sin(j) / 2) * along_y[:, None] * along_x
    return result


def exit_wave(case: str, voltage_kv: float) -> np.ndarray:
    """abTEM's exit wave of a plane wave, in double precision."""
    import abtem

    pixel_size, _, thickness, _, taper = CASES[case]
    abtem.config.set({"precision": "float64", "antialias.taper": taper})
    potential = abtem.PotentialArray(slabs(case), slice_thickness=[thickness] * COUNT, sampling=(pixel_size,) * 2)
    return abtem.PlaneWave(energy=voltage_kv * 1e3).multislice(potential, lazy=False).array


def main() -> None:
    import abtem

    result = {"program": f"abTEM {abtem.__version__}", "numpy": np.__version__}
    for case in CASES:
        for voltage_kv in VOLTAGES_KV:
            wave = exit_wave(case, voltage_kv)
            values = [[float(wave[p].real), float(wave[p].imag)] for p in PIXELS]
            result[f"{case} {voltage_kv} kV"] = {"values": values, "norm_of_scattered": float(np.linalg.norm(wave - 1))}
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
