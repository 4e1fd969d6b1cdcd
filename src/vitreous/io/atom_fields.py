"""The fields of an atomic model's text that a parser would fill in silently: missing B factors and occupancies, and
charges written into element symbols.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from vitreous.errors import DataProblem

if TYPE_CHECKING:
    import gemmi

_NULL = frozenset(["?", ".", ""])
_CHARGED_SYMBOL = re.compile(r"([A-Za-z]{1,2})(?:(\d*)([+-])|([+-])(\d+))")
# columns of an ATOM line: x, y, z, occupancy, B factor
_COORDINATES = {"x": slice(30, 38), "y": slice(38, 46), "z": slice(46, 54)}
_OCCUPANCY, _B_FACTOR = slice(54, 60), slice(60, 66)


def charge_of_symbol(symbol: str) -> tuple[str, int]:
    """The element and the charge of a symbol such as "Mg2+", "O1-" or "Na+"; without a charge, the symbol and 0."""
    match = _CHARGED_SYMBOL.fullmatch(symbol.strip())
    if match is None:
        return symbol, 0
    element, digits, sign, other_sign, other_digits = match.groups()
    size = int(digits or other_digits or 1)
    return element, size if (sign or other_sign) == "+" else -size


def mend_block(block: gemmi.cif.Block, path: Path) -> bool:
    """Move the charges of symbols to the column of formal charges, in place; say whether no atom has a B factor.

    Raises DataProblem if only some of the atoms have one.
    """
    symbols = block.find_values("_atom_site.type_symbol")
    charged = {symbol for symbol in set(symbols) if charge_of_symbol(symbol)[1]}
    if charged:
        loop = symbols.get_loop()
        assert loop is not None
        if "_atom_site.pdbx_formal_charge" not in loop.tags:
            loop.add_columns(["_atom_site.pdbx_formal_charge"], "?")
        for row in block.find("_atom_site.", ["type_symbol", "pdbx_formal_charge"]):
            if row[0] in charged:
                row[0], charge = charge_of_symbol(row[0])
                row[1] = str(charge)
    atoms, b_factors = len(symbols), block.find_values("_atom_site.B_iso_or_equiv")
    missing = sum(value in _NULL for value in b_factors) if len(b_factors) else atoms
    return _all_missing(missing, atoms, path)


def mend_pdb(text: str, path: Path) -> tuple[str, bool]:
    """The text with the occupancy 1 where that field is empty, and whether no atom has a B factor.

    Raises DataProblem for a coordinate, an occupancy or a B factor that is not a number, by line, and for B factors that
    only some of the atoms have.
    """
    lines, atoms, missing = text.splitlines(), 0, 0
    for number, line in enumerate(lines):
        if not line.startswith(("ATOM  ", "HETATM")):
            continue
        atoms += 1
        for name, field in _COORDINATES.items():
            _number(line[field], name, number + 1, path)
        if line[_OCCUPANCY].strip():
            _number(line[_OCCUPANCY], "occupancy", number + 1, path)
        else:
            line = f"{line[:54]:<54}  1.00{line[60:]}"
        if line[_B_FACTOR].strip():
            _number(line[_B_FACTOR], "B factor", number + 1, path)
        else:
            missing += 1
            line = f"{line[:60]:<60}  0.00{line[66:]}"
        lines[number] = line
    return "\n".join(lines) + "\n", _all_missing(missing, atoms, path)


def _number(field: str, name: str, line: int, path: Path) -> None:
    try:
        finite = math.isfinite(float(field))
    except ValueError:
        finite = False
    if not finite:
        raise DataProblem(f"{path} line {line}: {name} '{field.strip()}' is not a number", "finite numbers")


def _all_missing(missing: int, atoms: int, path: Path) -> bool:
    if 0 < missing < atoms:
        raise DataProblem(
            f"{path} gives no B factor for {missing} of its {atoms} atoms",
            "a B factor for each atom, or for none",
            "complete the column, or remove it and give the same B factor to all",
        )
    return missing > 0
