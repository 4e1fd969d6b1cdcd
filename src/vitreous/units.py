"""Units: angstrom, 1/angstrom, radian, volt, electrons per square angstrom inside; everything else is converted once, here.

Names state the unit of a value that is not in the inside units: `voltage_kv`, `cs_mm`, `angle_deg`.
"""

from __future__ import annotations

import math

DEGREE = math.pi / 180  # radian
MILLIMETRE = 1e7  # angstrom
MICROMETRE = 1e4  # angstrom
NANOMETRE = 10.0  # angstrom
KILOVOLT = 1e3  # volt
MILLIRADIAN = 1e-3  # radian
