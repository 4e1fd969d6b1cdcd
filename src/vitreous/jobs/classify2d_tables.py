"""The files of a 2D classification: particles.star with classes and poses, classes.star, averages.mrcs; and reading them back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.alignment.assignment import Assignment
from vitreous.alignment.classification import Classification
from vitreous.errors import FileProblem, FormatProblem
from vitreous.io.mrc_stack import MrcStack, write_stack
from vitreous.io.relion_optics import numbers
from vitreous.io.star import StarFile, read_star, write_star
from vitreous.jobs.classify2d_quality import ClassQuality, class_quality
from vitreous.model.particles import Particles
from vitreous.model.pose import Pose
from vitreous.model.table import Table
from vitreous.units import DEGREE

if TYPE_CHECKING:
    from jaxtyping import Float, Int

AVERAGES, PARTICLES, CLASSES = "averages.mrcs", "particles.star", "classes.star"
CLASS = "rlnClassNumber"
EVIDENCE = "rlnLogLikeliContribution"
AGREEMENT = "vitreousAgreement"
NO_RESOLUTION = 999.0  # RELION's number, in angstrom, for none at all


# --- particles --------------------------------------------------------------------------------------------------------


def assigned_particles(particles: Particles, assignment: Assignment, agreement: Float[np.ndarray, " n"]) -> Particles:
    """The particles with their classes (from 1; 0: in none), in-plane angles, origins and how sure these are.

    RELION's columns where it has one: `rlnNrOfSignificantSamples` is exp(entropy), the number of alternatives in play. Ours: the
    probability of the class, the entropy in nat, standard deviations of the in-plane angle in degrees and of the origin in angstrom, and the
    `agreement` with the others of the class.
    """
    table = particles.table.with_columns(
        {
            CLASS: assignment.class_index.astype(np.int64) + 1,
            "rlnMaxValueProbDistribution": assignment.probability.round(6),
            EVIDENCE: assignment.log_evidence.round(4),
            "rlnNrOfSignificantSamples": np.maximum(1, np.rint(np.exp(assignment.entropy))).astype(np.int64),
            "rlnNormCorrection": assignment.norm.round(6),
            "vitreousClassProbability": assignment.class_probability.round(6),
            "vitreousEntropy": assignment.entropy.round(5),
            "vitreousPsiError": (assignment.angle_deviation / DEGREE).round(4),
            "vitreousOriginError": assignment.shift_deviation.round(4),
            AGREEMENT: agreement.round(6),
        }
    )
    psi = np.mod(assignment.pose.euler[:, 2] + np.pi, 2 * np.pi) - np.pi
    euler = np.stack([np.zeros_like(psi), np.zeros_like(psi), psi], axis=-1)
    return replace(particles, table=table, pose=Pose(euler, assignment.pose.shift))


# --- classes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Classes:
    """What is known of k classes. `number` [k] counts from 1; `share` [k] of the particles; `resolution` [k] in angstrom is infinite for an
    empty class; `average` [k, y, x] the class averages, `pixel_size` and mask `diameter` in angstrom.
    """

    number: Int[np.ndarray, " k"]
    share: Float[np.ndarray, " k"]
    resolution: Float[np.ndarray, " k"]
    quality: ClassQuality
    average: Float[np.ndarray, "k y x"]
    pixel_size: float
    diameter: float

    def __len__(self) -> int:
        return len(self.number)

    def rows(self, selection: np.ndarray) -> Classes:
        """The selected classes, in the order given."""
        names = ("number", "share", "resolution", "average")
        chosen = {name: getattr(self, name)[selection] for name in names}
        return replace(self, quality=self.quality.rows(selection), **chosen)


def classes_of(
    state: Classification, agreement: Float[np.ndarray, " n"], pixel_size: float, diameter: float
) -> Classes:
    """The classes of a classification with a mask of `diameter` angstrom."""
    quality = class_quality(state, agreement, pixel_size, diameter)
    return Classes(
        np.arange(1, len(state.averages) + 1),
        quality.count / max(1, quality.count.sum()),
        np.where(quality.count > 0, state.resolution, np.inf),
        quality,
        state.averages,
        pixel_size,
        diameter,
    )


_QUALITY = {  # column of classes.star: field of ClassQuality
    "vitreousParticles": "count",
    "vitreousQuality": "score",
    "vitreousQualityInformation": "information",
    "vitreousQualityAgreement": "agreement",
    "vitreousQualityMass": "mass",
    "vitreousQualityCompactness": "compactness",
    "vitreousQualityCertainty": "certainty",
    "vitreousMeanAgreement": "mean_agreement",
    "vitreousMeanLogEvidence": "mean_evidence",
}
_SHARE, _RESOLUTION = "rlnClassDistribution", "rlnEstimatedResolution"


def write_classes(
    folder: Path, classes: Classes, place: Path | None = None, signal_to_noise: np.ndarray | None = None
) -> None:
    """averages.mrcs and classes.star, with a block a class for its spectral signal-to-noise ratio if that is given.

    Image names begin with `place`, the name that the folder will have.
    """
    write_stack(folder / AVERAGES, classes.average, classes.pixel_size)
    name = str((place or folder) / AVERAGES)
    resolution = np.where(np.isfinite(classes.resolution), classes.resolution, NO_RESOLUTION)
    columns: dict[str, np.ndarray] = {
        "rlnReferenceImage": np.array([f"{i:06d}@{name}" for i in range(1, len(classes) + 1)], dtype=object),
        CLASS: classes.number.astype(np.int64),
        _SHARE: classes.share.round(8),
        _RESOLUTION: resolution.round(4),
    }
    for column, field in _QUALITY.items():
        values = getattr(classes.quality, field)
        columns[column] = values.astype(np.int64) if field == "count" else values.round(5)
    general = {
        "rlnReferenceDimensionality": 2,
        "rlnOriginalImageSize": classes.average.shape[-1],
        "rlnPixelSize": f"{classes.pixel_size:.6g}",
        "rlnNrClasses": len(classes),
        "rlnParticleDiameter": f"{classes.diameter:.6g}",
    }
    star = StarFile({"model_general": general, "model_classes": Table(columns)})
    if signal_to_noise is not None:
        for number, ratio in zip(classes.number.tolist(), signal_to_noise):
            star[f"model_class_{number}"] = _spectrum(ratio, classes.average.shape[-1], classes.pixel_size)
    star.version = "30001"
    write_star(folder / CLASSES, star)


def _spectrum(ratio: np.ndarray, box: int, pixel_size: float) -> Table:
    shell = np.arange(len(ratio))
    frequency = shell / (box * pixel_size)
    angstrom = np.where(shell > 0, 1 / np.where(shell > 0, frequency, 1.0), NO_RESOLUTION)
    return Table(
        {
            "rlnSpectralIndex": shell,
            "rlnResolution": frequency.round(8),
            "rlnAngstromResolution": angstrom.round(5),
            "rlnSsnrMap": np.nan_to_num(np.asarray(ratio, dtype=np.float64), posinf=1e9).round(6),
        }
    )


def read_classes(folder: Path) -> Classes:
    """The classes in the folder of a `classify2d` or `select` job."""
    for name in (CLASSES, AVERAGES, PARTICLES):
        if not (folder / name).is_file():
            raise FileProblem(f"{folder} has no {name}", "the folder of a finished `vitreous classify2d`")
    star = read_star(folder / CLASSES)
    general, table = star.get("model_general"), star.get("model_classes")
    wanted = {CLASS, _SHARE, _RESOLUTION, *_QUALITY}
    if not isinstance(table, Table) or not isinstance(general, dict) or not wanted <= set(table.names):
        raise FormatProblem(f"{folder / CLASSES} lacks columns", "the classes.star of `vitreous classify2d`")
    stack = MrcStack(folder / AVERAGES)
    if len(stack) != len(table):
        raise FormatProblem(f"{folder / AVERAGES} holds {len(stack)} averages, classes.star {len(table)}", "as many")
    quality = {field: numbers(table, column) for column, field in _QUALITY.items()}
    quality["count"] = quality["count"].astype(np.int64)
    resolution = numbers(table, _RESOLUTION)
    return Classes(
        numbers(table, CLASS).astype(np.int64),
        numbers(table, _SHARE),
        np.where(resolution < NO_RESOLUTION, resolution, np.inf),
        ClassQuality(**quality),
        stack.read(slice(None)),
        float(general["rlnPixelSize"]),
        float(general["rlnParticleDiameter"]),
    )
