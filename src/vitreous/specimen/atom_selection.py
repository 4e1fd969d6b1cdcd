"""Parts of an atomic model by name: chains, and residues of chains.

S*                      all chains whose names begin with S
A:118-160               residues 118 to 160 of chain A
A:1-29,A:68-117         both
*,-S*                   everything but those chains
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import SettingsProblem
from vitreous.model.atoms import Atoms

if TYPE_CHECKING:
    from jaxtyping import Bool

FORM = "chains and residues such as A:118-160,B or *,-S*"
CHAINS_NAMED = 12  # in a message
_PART = re.compile(r"(?P<without>-?)(?P<chain>[^:,\s-][^:,\s]*)(?::(?P<first>-?\d+)(?:-(?P<last>-?\d+))?)?")


def selected_atoms(atoms: Atoms, text: str) -> Bool[np.ndarray, " n"]:
    """Which atoms the text names.

    The text is a list of parts, parted by commas: a chain, in which `*` and `?` stand for any letters or one, or residues of it,
    `CHAIN:FIRST-LAST` or `CHAIN:NUMBER`. Parts are added in order; one that begins with a minus is taken away. Raises SettingsProblem for a
    part that is no such thing or names no atom, and where nothing is left.

    >>> from vitreous.io.bundled import load_bundled
    >>> kinase = load_bundled("4ake")
    >>> int(selected_atoms(kinase, "A:118-160").sum()), int(selected_atoms(kinase, "A,-A:118-160").sum())
    (339, 1317)
    """
    chains, code = np.unique(np.char.strip(atoms.chain.astype(str)), return_inverse=True)
    chosen = np.zeros(len(atoms), dtype=bool)
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise SettingsProblem(f"the selection '{text}'", FORM)
        of_chain = np.array([fnmatchcase(chain, match["chain"]) for chain in chains])
        if not of_chain.any():
            known = ", ".join(map(str, chains[:CHAINS_NAMED])) + (", ..." if len(chains) > CHAINS_NAMED else "")
            raise SettingsProblem(f"the selection '{text}': no chain {match['chain']}", f"of the chains {known}")
        named = of_chain[code]
        if match["first"] is not None:
            first, last = int(match["first"]), int(match["last"] or match["first"])
            named &= (atoms.residue_number >= first) & (atoms.residue_number <= last)
            if not named.any():
                numbers = atoms.residue_number[of_chain[code]]
                raise SettingsProblem(
                    f"the selection '{text}': no residue of {part.strip()}",
                    f"numbers from {numbers.min()} to {numbers.max()}",
                )
        chosen = chosen & ~named if match["without"] else chosen | named
    if not chosen.any():
        raise SettingsProblem(f"the selection '{text}', which leaves no atom", FORM)
    return chosen
