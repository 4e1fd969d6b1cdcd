"""Atoms and a grid that torch-calculate-electrostatic-potential and we are given, and, run with its Python, what it makes
of them.

    pip install torch==2.13.0 torch-calculate-electrostatic-potential==0.6.0
    python tests/agreement/torch_potential.py > tests/agreement/torch_potential.json

"volume": its voxel averages in volts with its own table; "projected": its two-dimensional averages in V A.
"""

from __future__ import annotations

import json
import sys

SHAPE, VOXEL = (28, 30, 32), 1.1  # z, y, x; angstrom
# element, x, y, z (angstrom), B factor (A^2), occupancy
ATOMS = [
    ("C", 0.0, 0.0, 0.0, 12.0, 1.0),
    ("N", 1.31, -0.62, 0.44, 25.0, 1.0),
    ("O", -2.05, 1.77, -1.23, 40.0, 0.5),
    ("H", 3.4, 3.1, 2.2, 8.0, 1.0),
    ("P", -3.6, -4.1, 3.3, 60.0, 1.0),
    ("S", 4.25, -2.75, -3.85, 30.0, 0.8),
    ("Zn", 0.37, 4.95, -4.4, 90.0, 1.0),
]
VOXELS = [
    (14, 15, 16),
    (14, 14, 17),
    (13, 17, 14),
    (16, 18, 19),
    (17, 11, 13),
    (10, 12, 20),
    (10, 19, 16),
    (11, 13, 16),
]
PIXELS = sorted({voxel[1:] for voxel in VOXELS})


def main() -> None:
    import gemmi
    import torch
    import torch_calculate_electrostatic_potential as peer

    kind = {"dtype": torch.float64}
    position = torch.tensor([atom[1:4] for atom in ATOMS], **kind)
    b_factor, occupancy = (torch.tensor([atom[i] for atom in ATOMS], **kind) for i in (4, 5))
    elements = [gemmi.Element(atom[0]) for atom in ATOMS]
    numbers = torch.tensor([e.atomic_number for e in elements])
    table = peer.get_peng_scattering_parameters(numbers, dtype=torch.float64)

    def grid(shape):
        settings = {"sublattice_radius": 12.0, "equal_length": False, "dtype": torch.float64}
        return peer.GridConfig(shape, (VOXEL,) * len(shape), **settings)  # voxel 0 lies at the coordinate 0

    position = position + torch.tensor([size // 2 * VOXEL for size in SHAPE[::-1]], **kind)

    volume = peer.calculate_scattering_potential_3d(
        position.flip(-1), b_factor, *table, grid(SHAPE), atom_occupancies=occupancy
    )
    flat = peer.calculate_scattering_potential_2d(
        position[:, [1, 0]], b_factor, *table, grid(SHAPE[1:]), atom_occupancies=occupancy
    )
    result = {
        "versions": {"torch-calculate-electrostatic-potential": peer.__version__, "torch": torch.__version__},
        "volume": [float(volume[voxel]) for voxel in VOXELS],
        "projected": [float(flat[pixel]) for pixel in PIXELS],
    }
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
