"""Facts about any file that vitreous reads, as a plain dictionary: what `vitreous info` prints."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.conventions import Contrast
from vitreous.errors import FormatProblem
from vitreous.io import cryosparc
from vitreous.io.atoms import read_atoms
from vitreous.io.cs_container import CONTAINERS, dataset_container, read_dataset
from vitreous.io.files import require_file
from vitreous.io.mrc import as_float, read_data, read_header
from vitreous.io.relion import IMAGE, generation, particle_blocks
from vitreous.io.relion import read_particles as read_relion
from vitreous.io.star import StarFile, read_star
from vitreous.model.particles import Particles
from vitreous.model.table import Table
from vitreous.units import KILOVOLT, MILLIMETRE

_SUFFIXES = {
    **dict.fromkeys((".mrc", ".mrcs", ".map", ".ccp4", ".st", ".rec", ".ali"), "mrc"),
    **dict.fromkeys((".cif", ".mmcif", ".pdb", ".ent"), "atoms"),
    ".star": "star",
    ".csg": "cryosparc",
}
_STATISTICS_SECTIONS = 512
UNKNOWN_PIXEL = "unknown (the header says 0)"


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a file holds: `kind` ("volume", "image", "stack", "particles", "star", "dataset" or "atoms"), `path`,
    `bytes`, and facts that depend on the kind. Lengths are in angstrom. Raises FileProblem or FormatProblem as the
    readers do."""
    path = require_file(path)
    about = {"mrc": _about_mrc, "star": _about_star, "cryosparc": _about_cryosparc, "atoms": _about_atoms}[_kind(path)]
    facts = about(path)
    return {"path": str(path), "bytes": path.stat().st_size, **facts}


def _kind(path: Path) -> str:
    with open(path, "rb") as stream:
        start = stream.read(1 << 16)
    if start[:6] in CONTAINERS.values():
        return "cryosparc"
    suffixes = [suffix for suffix in path.suffixes if suffix not in (".gz", ".bz2")]
    known = _SUFFIXES.get(suffixes[-1].lower()) if suffixes else None
    if known:
        return known
    if b"_atom_site." in start or start.startswith((b"HEADER", b"ATOM", b"REMARK", b"CRYST1")):
        return "atoms"
    if b"\0" not in start and b"data_" in start:
        return "star"
    if len(start) >= 1024 and b"\0" in start:
        return "mrc"
    raise FormatProblem(f"{path} is of no kind that is known here", "an MRC, STAR, .cs, mmCIF or PDB file")


def _about_mrc(path: Path) -> dict[str, Any]:
    header = read_header(path)
    data = read_data(header)
    sections = header.shape[0]
    chosen = np.unique(np.linspace(0, sections - 1, min(sections, _STATISTICS_SECTIONS)).astype(int))
    cube = len(set(header.shape)) == 1
    kind = "image" if sections == 1 else "volume" if header.space_group >= 1 or cube else "stack"
    pixel = header.pixel_size
    return {
        "kind": kind,
        "shape": list(header.shape) if sections > 1 else list(header.shape[1:]),
        "mode": f"{header.mode} ({np.dtype(header.dtype).name})",
        "pixel_size": UNKNOWN_PIXEL if pixel is None else [round(size, 6) for size in pixel],
        "start": list(header.start),
        "axes": "".join("xyz"[axis - 1] for axis in header.axes),
        "space_group": header.space_group,
        "extended_header": f"{header.extended_type or 'untyped'}, {header.extended_bytes} bytes"
        if header.extended_bytes
        else "none",
        "byte_order": header.byte_order,
        "packed": header.compression or "no",
        "labels": list(header.labels),
        **_statistics(data, chosen),
    }


def _statistics(data: np.ndarray, chosen: np.ndarray) -> dict[str, Any]:
    """Minimum, maximum, mean, standard deviation of the chosen sections, section by section."""
    low, high, total, squares, count, bad = np.inf, -np.inf, 0.0, 0.0, 0, 0
    for section in chosen:
        values = as_float(data[section])
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.abs(values) if values.dtype.kind == "c" else values
        finite = values[np.isfinite(values)].astype(np.float64)
        bad += values.size - finite.size
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            total, squares, count = total + float(finite.sum()), squares + float((finite**2).sum()), count + finite.size
    mean = total / count if count else float("nan")
    deviation = float(np.sqrt(max(squares / count - mean**2, 0.0))) if count else float("nan")
    facts: dict[str, Any] = {
        "minimum": low,
        "maximum": high,
        "mean": mean,
        "standard_deviation": deviation,
        "not_finite": bad,
    }
    if len(chosen) < len(data):
        facts["values_of"] = f"{len(chosen)} of {len(data)} sections"
    return facts


def _about_star(path: Path) -> dict[str, Any]:
    star = read_star(path)
    facts: dict[str, Any] = {"kind": "star", "blocks": _blocks(star)}
    if not any(IMAGE in table and len(table) for _, table in star.tables()):
        return {**facts, "written_by": f"version {star.version}" if star.version else "unknown"}
    _, optics = particle_blocks(star, str(path))
    return {**facts, **_about_particles(read_relion(path, load_images=False)), "written_by": generation(star, optics)}


def _blocks(star: StarFile) -> list[dict[str, Any]]:
    return [
        {"name": name, "rows": len(block), "columns": len(block.names)}
        if isinstance(block, Table)
        else {"name": name, "entries": len(block)}
        for name, block in star.items()
    ]


def _about_cryosparc(path: Path) -> dict[str, Any]:
    if path.suffix == ".csg":
        return {"container": "group", **_about_particles(cryosparc.read_particles(path, load_images=False))}
    table = read_dataset(path)
    facts: dict[str, Any] = {
        "kind": "dataset",
        "container": dataset_container(path),
        "rows": len(table),
        "fields": table.names,
    }
    if len(table) and "blob/path" in table and "blob/idx" in table:
        facts.update(_about_particles(cryosparc.read_particles(path, load_images=False)))
    return facts


def _about_particles(particles: Particles) -> dict[str, Any]:
    used = np.bincount(particles.optics_index, minlength=len(particles.optics)).tolist()
    half = particles.half_set
    return {
        "kind": "particles",
        "written_by": particles.origin,
        "particles": len(particles),
        "stacks": len(np.unique(particles.names.path_code)),
        "optics": [
            {
                "name": group.name,
                "particles": count,
                "pixel_size": group.pixel_size,
                "box": group.box,
                "voltage_kv": None if group.voltage is None else group.voltage / KILOVOLT,
                "cs_mm": None if group.spherical_aberration is None else group.spherical_aberration / MILLIMETRE,
                "amplitude_contrast": group.amplitude_contrast,
                "ctf_state": group.ctf_state.value,
            }
            for group, count in zip(particles.optics, used)
        ],
        "contrast": "not recorded" if particles.contrast is Contrast.UNKNOWN else particles.contrast.value,
        "poses": particles.pose is not None,
        "ctf": particles.ctf is not None,
        "half_sets": None if half is None else [int((half == 1).sum()), int((half == 2).sum())],
        "columns": particles.table.names,
        **(
            {}
            if particles.ctf is None
            else {"defocus": [float(particles.ctf.defocus.min()), float(particles.ctf.defocus.max())]}
        ),
    }


def _about_atoms(path: Path) -> dict[str, Any]:
    atoms = read_atoms(path, ions="neutral")
    return {
        "kind": "atoms",
        "atoms": len(atoms),
        "chains": len(np.unique(atoms.chain)),
        "elements": dict(sorted(Counter(atoms.element.tolist()).items())),
        "extent": [round(float(size), 3) for size in np.ptp(atoms.position, axis=0)],
        "centre": [round(float(x), 3) for x in atoms.position.mean(axis=0)],
    }
