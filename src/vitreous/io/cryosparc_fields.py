"""Names of cryoSPARC's fields, shared by reading and writing."""

from __future__ import annotations

import numpy as np

from vitreous.errors import DataProblem
from vitreous.io.relion_optics import numbers
from vitreous.model.table import Table

OTHER_ABERRATIONS = {"ctf/shift_A": 2, "ctf/trefoil_A": 2, "ctf/tetra_A": 4, "ctf/anisomag": 4}
GROUP_COLUMNS = (
    "ctf/exp_group_id",
    "ctf/accel_kv",
    "ctf/cs_mm",
    "ctf/amp_contrast",
    "blob/psize_A",
    "blob/shape",
    "ctf/tilt_A",
    *OTHER_ABERRATIONS,
)
CTF = {  # column: (field, value where the column is absent)
    "ctf/df1_A": ("defocus_u", None),
    "ctf/df2_A": ("defocus_v", None),
    "ctf/df_angle_rad": ("defocus_angle", 0.0),
    "ctf/phase_shift_rad": ("phase_shift", 0.0),
    "ctf/bfactor": ("b_factor", 0.0),
    "ctf/scale": ("scale", 1.0),
}


def alignment_pixel(table: Table, kind: str) -> np.ndarray:
    """The pixel in which the shifts are given: that of the images that were aligned."""
    name = next((name for name in (f"{kind}/psize_A", "blob/psize_A") if name in table), None)
    if name is None:
        raise DataProblem(
            f"{kind}/shift without a pixel size",
            f"{kind}/psize_A or blob/psize_A",
            "give the passthrough file of its job",
        )
    column = np.asarray(table[name])
    return (
        column.astype(str).astype(np.float64)
        if column.dtype == np.float32 and (column == column[0]).all()
        else numbers(table, name)
    )
