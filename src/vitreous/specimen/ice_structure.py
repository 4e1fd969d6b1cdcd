"""Structure factor S(k) of the centres of the molecules in low-density amorphous ice, as a table.

Measured: the strong ring at 3.7 A (in micrographs: McMullan et al. 2015, arXiv:1504.00947), neighbours at 2.75 A, and
coordination shells up to 23 A (X-ray diffraction, doi:10.1021/acs.jpcb.1c06899). A second ring near 2.1 A is reported
(unverified). The table itself is computed, not measured: molecular dynamics of the monatomic model of water mW (Molinero &
Moore 2009, J. Phys. Chem. B 113, 4008), 2744 molecules at 0.94 g/cm^3 quenched from 320 to 80 K at 0.4 K/ps, the mean of
two quenches, by `docs/make_ice_structure.py`. Its rings lie at 3.7 and 2.04 A, its neighbours at 2.72 A. It was cooled far
faster than a specimen is: heights and widths of the rings, and the value at k = 0, are the model's. The standard error of
an entry is 0.02.

Beyond the table only neighbours matter: four at the distance of the first shell, with a Gaussian spread.
"""

from __future__ import annotations

TABLE_STEP = 0.01  # 1/angstrom between entries; the first is at k = 0
TABLE = (
    0.022, 0.022, 0.022, 0.022, 0.022, 0.024, 0.023, 0.029, 0.037, 0.052,
    0.049, 0.052, 0.056, 0.065, 0.069, 0.073, 0.086, 0.100, 0.120, 0.153,
    0.199, 0.267, 0.375, 0.538, 0.791, 1.043, 1.257, 1.335, 1.247, 1.119,
    0.956, 0.897, 0.812, 0.688, 0.669, 0.635, 0.625, 0.626, 0.643, 0.695,
    0.741, 0.805, 0.920, 1.045, 1.207, 1.343, 1.506, 1.723, 1.939, 1.942,
    1.932, 1.807, 1.607, 1.341, 1.085, 0.871, 0.744, 0.623, 0.552, 0.516,
    0.493, 0.493, 0.511, 0.531, 0.572, 0.625, 0.670, 0.729, 0.791, 0.870,
    0.952, 1.020, 1.086, 1.150, 1.200, 1.252, 1.274, 1.289, 1.281, 1.278,
    1.240, 1.189, 1.146, 1.126, 1.075, 1.059, 1.040, 1.015, 1.015, 1.008,
    1.014, 1.001, 1.000, 0.997, 0.977, 0.953, 0.931, 0.893, 0.861, 0.847,
    0.836, 0.828, 0.821, 0.830, 0.849, 0.866, 0.889, 0.929, 0.953, 0.985,
    1.014, 1.041, 1.071, 1.093, 1.110, 1.135, 1.148, 1.165, 1.159, 1.154,
    1.159,
)  # fmt: skip
NEIGHBOURS, DISTANCE, SPREAD = 4.0, 2.725, 0.09  # number, angstrom, angstrom rms: continues the table
