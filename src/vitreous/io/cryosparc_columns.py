"""The columns of a .cs file that say what `Particles` says, in cryoSPARC's conventions (see `cryosparc`)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from vitreous.conventions import Contrast, CtfState
from vitreous.errors import DataProblem
from vitreous.geometry.rotations import matrix_from_euler, matrix_from_rotation_vector, rotation_vector_from_matrix
from vitreous.io.carried import CARRIED_HALF, OPTICS_PREFIX
from vitreous.io.cryosparc_fields import CTF, OTHER_ABERRATIONS, alignment_pixel
from vitreous.io.relion_optics import CONTRAST, NUMBER, numbers
from vitreous.model.particles import ImageName, Particles
from vitreous.model.table import TextColumn
from vitreous.units import KILOVOLT, MILLIMETRE


def particle_columns(particles: Particles) -> dict[str, Any]:
    """Images, CTF, poses, half sets and optics of the particles, by cryoSPARC's names."""
    return {
        **_blob_columns(particles),
        **_ctf_columns(particles),
        **_alignment_columns(particles),
        **_carried_optics(particles),
    }


def new_uids(names: ImageName) -> np.ndarray:
    """A distinct number for each row, the same for the same images: splitmix64 (Steele et al. 2014,
    doi:10.1145/2660193.2660195), a bijection, of a counter that starts at a hash of the image names."""
    digest = hashlib.blake2b(
        "\n".join(names.paths).encode("utf-8", "surrogateescape") + names.index.tobytes(), digest_size=8
    ).digest()
    with np.errstate(over="ignore"):
        x = np.frombuffer(digest, dtype="<u8")[0] + np.arange(1, len(names) + 1, dtype=np.uint64) * np.uint64(
            0x9E3779B97F4A7C15
        )
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _per_particle(particles: Particles, values: Sequence[Any], dtype: Any) -> np.ndarray:
    return np.array(values, dtype=dtype)[particles.optics_index]


def _blob_columns(particles: Particles) -> dict[str, Any]:
    for group in particles.used_optics():
        group.require("pixel_size")
    columns: dict[str, Any] = {
        "blob/path": TextColumn(particles.names.path_code, particles.names.paths),
        "blob/idx": particles.names.index.astype(np.uint32),
        "blob/psize_A": _per_particle(particles, [group.pixel_size or 0 for group in particles.optics], np.float32),
    }
    if all(group.box for group in particles.used_optics()):
        columns["blob/shape"] = _per_particle(
            particles, [(group.box or 0, group.box or 0) for group in particles.optics], np.uint32
        )
    if particles.contrast is not Contrast.UNKNOWN:
        columns["blob/sign"] = np.full(
            len(particles), -1 if particles.contrast is Contrast.RAW else 1, dtype=np.float32
        )
    return columns


def _ctf_columns(particles: Particles) -> dict[str, Any]:
    own = [group.extra.get(NUMBER, number) for number, group in enumerate(particles.optics, 1)]
    usable = all(isinstance(n, int) and n > 0 for n in own) and len(set(own)) == len(own)
    columns: dict[str, Any] = {
        "ctf/exp_group_id": _per_particle(particles, [n - 1 for n in own] if usable else range(len(own)), np.uint32)
    }
    for name, field, factor in (
        ("ctf/accel_kv", "voltage", KILOVOLT),
        ("ctf/cs_mm", "spherical_aberration", MILLIMETRE),
        ("ctf/amp_contrast", "amplitude_contrast", 1.0),
    ):
        if particles.ctf is not None:
            for group in particles.used_optics():
                group.require(field)
        values = [getattr(group, field) for group in particles.optics]
        if all(value is not None for value in values):
            columns[name] = _per_particle(particles, [value / factor for value in values], np.float32)
    if particles.ctf is None:
        return columns
    columns.update({name: getattr(particles.ctf, field).astype(np.float32) for name, (field, _) in CTF.items()})
    tilts = [np.sin(group.beam_tilt) * (group.spherical_aberration or 0) for group in particles.optics]
    columns["ctf/tilt_A"] = _per_particle(particles, tilts, np.float32)
    for name, width in OTHER_ABERRATIONS.items():
        columns[name] = _per_particle(
            particles, [_vector(group.extra.get(name), width) for group in particles.optics], np.float32
        )
    if "ctf/type" not in particles.table:
        columns["ctf/type"] = TextColumn(np.zeros(len(particles), dtype=np.int32), ("imported",))
    return columns


def _vector(value: Any, width: int) -> tuple[float, ...]:
    """The numbers of an aberration from `extra`: a tuple, or the text "[a,b]" that it was in a STAR file; zeros if
    absent."""
    if value is None or value == "None":
        return (0.0,) * width
    parts = value.strip("[]").split(",") if isinstance(value, str) else value
    try:
        numbers_ = tuple(float(part) for part in parts)
    except ValueError:
        numbers_ = ()
    if len(numbers_) != width:
        raise DataProblem(f"an aberration of {value!r}", f"{width} numbers")
    return numbers_


def _alignment_columns(particles: Particles) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if particles.half_set is not None:
        columns["alignments3D/split"] = (particles.half_set - 1).astype(np.uint32)
        if (
            particles.half_set == particles.half_set[0]
        ).all():  # one half alone: cryoSPARC's field could not be told from an unused one
            columns[CARRIED_HALF] = particles.half_set.astype(np.int64)
    if particles.pose is None:
        return columns
    plane = "alignments2D/pose" in particles.table and "alignments3D/pose" not in particles.table
    kind = "alignments2D" if plane else "alignments3D"
    pixel = alignment_pixel(particles.table, kind) if f"{kind}/psize_A" in particles.table else None
    if pixel is None:
        pixel = _per_particle(particles, [group.pixel_size or 1 for group in particles.optics], np.float64)
    if plane:
        columns[f"{kind}/pose"] = particles.pose.euler[:, 2].astype(np.float32)
    else:
        columns[f"{kind}/pose"] = _rotation_vectors(particles)
    columns[f"{kind}/shift"] = (particles.pose.shift / pixel[:, None]).astype(np.float32)
    columns[f"{kind}/psize_A"] = pixel.astype(np.float32)
    return columns


def _rotation_vectors(particles: Particles) -> np.ndarray:
    """The poses as cryoSPARC has them; the file's own vectors, which may be longer than pi, where they still say the
    same."""
    assert particles.pose is not None
    matrix = np.swapaxes(matrix_from_euler(particles.pose.euler), -1, -2)
    vectors = np.asarray(rotation_vector_from_matrix(matrix)).astype(np.float32)
    if "alignments3D/pose" not in particles.table:
        return vectors
    own = numbers(particles.table, "alignments3D/pose")
    same = np.abs(matrix_from_rotation_vector(own) - matrix).max(axis=(-2, -1)) < 1e-6  # single precision of a vector
    return np.where(same[:, None], own, vectors).astype(np.float32)


def _carried_optics(particles: Particles) -> dict[str, Any]:
    """Columns for what an optics group knows and cryoSPARC does not: per particle, because a .cs file has no other
    place."""
    groups, columns = particles.optics, {}
    if any(group.name != f"opticsGroup{group.extra.get(NUMBER, number)}" for number, group in enumerate(groups, 1)):
        columns["name"] = [group.name for group in groups]
    for name in ("odd_zernike", "even_zernike"):
        width = max(len(getattr(group, name)) for group in groups)
        if width:
            columns[name] = [
                (*getattr(group, name), *(np.nan,) * (width - len(getattr(group, name)))) for group in groups
            ]
    if any(group.magnification != ((1.0, 0.0), (0.0, 1.0)) for group in groups):
        columns["magnification"] = [(*group.magnification[0], *group.magnification[1]) for group in groups]
    if any(
        group.beam_tilt != (0.0, 0.0) for group in groups
    ):  # exact also where Cs is 0 or single precision is not enough
        columns["beam_tilt"] = [group.beam_tilt for group in groups]
    if any(group.ctf_state is not CtfState.RAW for group in groups):
        columns["ctf_state"] = [group.ctf_state.value for group in groups]
    if any(group.wiener_snr is not None for group in groups):
        columns["wiener_snr"] = [np.nan if group.wiener_snr is None else group.wiener_snr for group in groups]
    labels = dict.fromkeys(
        label
        for group in groups
        for label in group.extra
        if label not in (NUMBER, CONTRAST) and label not in OTHER_ABERRATIONS
    )
    for label in labels:
        columns[label] = [group.extra.get(label, "None") for group in groups]
    return {OPTICS_PREFIX + name: _spread(values, particles.optics_index) for name, values in columns.items()}


def _spread(values: list[Any], index: np.ndarray) -> Any:
    if any(isinstance(value, str) for value in values):
        texts = tuple(dict.fromkeys(str(value) for value in values))
        return TextColumn(np.array([texts.index(str(value)) for value in values], dtype=np.int32)[index], texts)
    return np.array(values)[index]
