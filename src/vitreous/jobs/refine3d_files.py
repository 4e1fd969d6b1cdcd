"""The files of a 3D refinement: the state of each iteration, maps of each class, particles.star with poses, model.star with the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitreous.alignment.assignment import Assignment
from vitreous.alignment.refinement import Refinement, RefineSettings, RefineStep
from vitreous.engine.checkpoint import save_state
from vitreous.errors import DataProblem
from vitreous.geometry.orientation_grid import mean_spacing_deg
from vitreous.io.atomic import atomic_path
from vitreous.io.star import StarFile, write_star
from vitreous.jobs.alignment_input import particle_name
from vitreous.jobs.classify2d_tables import CLASS, EVIDENCE, NO_RESOLUTION
from vitreous.jobs.map_products import MapAnalysis, save_maps
from vitreous.jobs.pictures import grey_picture
from vitreous.jobs.refine_ctf_tables import Micrographs
from vitreous.model.particles import Particles
from vitreous.model.pose import Pose
from vitreous.model.table import Table
from vitreous.units import DEGREE

STATE, PARTICLES, MODEL, PICTURES = "state.npz", "particles.star", "model.star", "iterations"
PICTURE_SIZE = 128  # pixels

# --- the state of each iteration --------------------------------------------------------------------------------------


def keep_state(
    state: Refinement, *, particles: Particles, path: Path, folder: Path, begun: np.ndarray | None = None
) -> None:
    """Keep the state of an iteration, from which an interrupted run goes on, and a picture of its map; with the first those of the maps that it
    has `begun` with. A state that is broken is refused, and the one before stays.
    """
    refuse_broken_state(state, particles, path, folder / STATE)
    if begun is not None and state.iteration == 1:
        keep_pictures(begun, 0, folder)
    keep_pictures(state.references.mean(axis=0), state.iteration, folder)
    save_state(folder / STATE, state)


def keep_pictures(maps: np.ndarray, iteration: int, folder: Path) -> None:
    """PNGs of the central slice across z of the map [k, z, y, x] of each class after an iteration; 0: of the references."""
    pictures = folder / PICTURES
    pictures.mkdir(exist_ok=True)
    for number, volume in enumerate(maps, start=1):
        picture = grey_picture(volume[len(volume) // 2], size=PICTURE_SIZE)
        with atomic_path(pictures / picture_name(iteration, number)) as temporary:
            temporary.write_bytes(picture)


def refuse_broken_state(state: Refinement, particles: Particles, path: Path, kept: Path) -> None:
    """Raise DataProblem naming the first particle whose evidence is no number, or else the class whose map is not."""
    last = f"the state of the last good iteration is kept in {kept}" if kept.is_file() else "nothing is kept yet"
    broken = (state.assignment.class_index >= 0) & ~np.isfinite(state.assignment.log_evidence)
    if broken.any():
        raise DataProblem(
            f"the evidence of {particle_name(particles, int(np.argmax(broken)), path)} is not a number in iteration {state.iteration} "
            f"({int(broken.sum())} such particles)",
            "finite numbers",
            f"look at this image and its CTF, or remove the row; {last}",
        )
    maps = ~np.isfinite(state.half_maps).all(axis=(0, 2, 3, 4))
    if maps.any():
        raise DataProblem(
            f"the map of class {int(np.argmax(maps)) + 1} is not a number in iteration {state.iteration}",
            "finite numbers",
            f"look at the CTFs of the file; {last}",
        )


def picture_name(iteration: int, number: int) -> str:
    return f"it{iteration:03d}_class{number}.png"


# --- particles --------------------------------------------------------------------------------------------------------


def refined_particles(particles: Particles, state: Refinement) -> Particles:
    """The particles with poses, half sets, classes (from 1; 0: in none) and how sure all that is.

    RELION's columns where it has one: `rlnNrOfSignificantSamples` is exp(entropy), the number of alternatives in play. Ours: the probability of the class,
    the entropy in nat, and standard deviations of the orientation in degrees and of the origin in angstrom.
    """
    assignment = state.assignment
    pose = Pose(np.mod(assignment.pose.euler + np.pi, 2 * np.pi) - np.pi, assignment.pose.shift)
    table = particles.table.with_columns(certainty_columns(assignment))
    return replace(particles, table=table, pose=pose, half_set=state.half_set.astype(np.int8))


def certainty_columns(assignment: Assignment) -> dict[str, np.ndarray]:
    """What particles.star says of class and certainty; columns that hold no number for some particle are left out."""
    columns = {
        CLASS: assignment.class_index.astype(np.int64) + 1,
        "rlnMaxValueProbDistribution": assignment.probability.round(6),
        EVIDENCE: assignment.log_evidence.round(4),
        "rlnNrOfSignificantSamples": effective_alternatives(assignment).round().astype(np.int64),
        "rlnNormCorrection": assignment.norm.round(6),
        "vitreousClassProbability": assignment.class_probability.round(6),
        "vitreousEntropy": assignment.entropy.round(5),
        "vitreousAngleError": (assignment.angle_deviation / DEGREE).round(4),
        "vitreousOriginError": assignment.shift_deviation.round(4),
    }
    return {name: values for name, values in columns.items() if np.isfinite(values).all()}


def effective_alternatives(assignment: Assignment) -> np.ndarray:
    """exp(entropy), at least 1: how many classes, orientations and origins are in play."""
    return np.exp(np.clip(np.nan_to_num(assignment.entropy), 0, 40))


# --- maps and history -------------------------------------------------------------------------------------------------


def class_folder(folder: Path, number: int, classes: int) -> Path:
    """Where the maps of a class go: the job's own folder, or one for each of several classes."""
    if classes == 1:
        return folder
    own = folder / f"class{number}"
    own.mkdir(exist_ok=True)
    return own


def save_class_maps(folder: Path, analyses: Sequence[MapAnalysis]) -> None:
    """half1.mrc, half2.mrc (unmasked, unfiltered), map.mrc, sharpened.mrc, mask.mrc and fsc.star of each class."""
    for number, analysis in enumerate(analyses, start=1):
        save_maps(class_folder(folder, number, len(analyses)), analysis)


def write_model(
    path: Path,
    state: Refinement,
    settings: RefineSettings,
    analyses: Sequence[MapAnalysis],
    resolutions: Sequence[float | None],
    micrographs: Micrographs | None,
    place: Path,
) -> None:
    """model.star: what was refined, its classes, each iteration, the contrast of each micrograph and the spectrum of the noise."""
    box, pixel_size = state.half_maps.shape[-1], analyses[0].pixel_size
    general = {
        "rlnReferenceDimensionality": 3,
        "rlnOriginalImageSize": box,
        "rlnPixelSize": f"{pixel_size:.6g}",
        "rlnNrClasses": len(analyses),
        "rlnSymmetryGroup": settings.symmetry,
        "rlnParticleDiameter": f"{settings.diameter:.6g}",
        "vitreousIterations": state.iteration,
        "vitreousConverged": int(state.converged),
    }
    numbers = np.arange(1, len(analyses) + 1)
    names = [str(place / ("map.mrc" if len(analyses) == 1 else f"class{number}/map.mrc")) for number in numbers]
    classes = {
        "rlnReferenceImage": np.array(names, dtype=object),
        CLASS: numbers,
        "rlnClassDistribution": np.asarray(state.population, dtype=np.float64).round(8),
        "rlnEstimatedResolution": np.array(
            [NO_RESOLUTION if value is None else round(value, 4) for value in resolutions]
        ),
    }
    star = StarFile({"model_general": general, "model_classes": Table(classes)})
    if state.steps:
        star["iterations"] = Table(history_columns(state.steps))
    for number, analysis in enumerate(analyses, start=1):
        star[f"model_class_{number}"] = _curve(analysis)
    if micrographs is not None and len(micrographs.names) == len(state.scale):
        star["model_groups"] = Table(
            {
                "rlnGroupName": np.array(micrographs.names, dtype=object),
                "rlnGroupScaleCorrection": np.asarray(state.scale, dtype=np.float64).round(6),
            }
        )
    for group, spectrum in enumerate(state.noise.mean(axis=0), start=1):
        star[f"model_optics_group_{group}"] = _noise(spectrum, box, pixel_size)
    star.version = "30001"
    write_star(path, star)


def history_columns(steps: Sequence[RefineStep]) -> dict[str, np.ndarray]:
    """A row for each iteration. Resolution and band in angstrom (999: none), angles in degrees."""

    def column(name: str, factor: float = 1.0) -> np.ndarray:
        return np.array([getattr(step, name) * factor for step in steps], dtype=np.float64)

    resolution = column("resolution")
    columns = {
        "vitreousIteration": np.arange(1, len(steps) + 1),
        "vitreousResolution": np.where(np.isfinite(resolution), resolution, NO_RESOLUTION),
        "vitreousBand": column("band"),
        "vitreousHealpixOrder": np.array([step.order for step in steps]),
        "vitreousAngleStep": np.array([mean_spacing_deg(step.order) for step in steps]),
        "vitreousOriginStep": column("shift_step"),
        "vitreousLogLikelihood": column("log_likelihood"),
        "vitreousMeanProbability": column("probability"),
        "vitreousAngleChange": column("angle_change", 1 / DEGREE),
        "vitreousOriginChange": column("shift_change"),
        "vitreousClassChange": column("class_change"),
        "vitreousSeconds": column("seconds"),
    }
    return {name: np.nan_to_num(values, nan=-1.0, posinf=NO_RESOLUTION).round(6) for name, values in columns.items()}


def _curve(analysis: MapAnalysis) -> Table:
    frequency = analysis.curves.frequency
    return Table(
        {
            "rlnSpectralIndex": np.arange(len(frequency)),
            "rlnResolution": frequency.round(8),
            "rlnAngstromResolution": np.array([NO_RESOLUTION, *(1 / frequency[1:])]).round(5),
            "rlnGoldStandardFsc": analysis.curves.best.round(6),
        }
    )


def _noise(spectrum: np.ndarray, box: int, pixel_size: float) -> Table:
    shell = np.arange(len(spectrum))
    return Table(
        {
            "rlnSpectralIndex": shell,
            "rlnResolution": (shell / (box * pixel_size)).round(8),
            "rlnSigma2Noise": np.asarray(spectrum, dtype=np.float64),
        }
    )
