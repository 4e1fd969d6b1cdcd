"""The parts on simulated particles: 2D classes, one 3D class, scaling, and pure noise."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np

from alignment import sets
from alignment.class_quality import ideal_spread, mean_view_spread, nearest_projections, used_classes
from alignment.commands import Task, relion_2d, relion_3d, vitreous_2d, vitreous_3d, vitreous_refine
from alignment.map_quality import agreement, mean_beyond, mean_up_to, sphere_correlation
from alignment.outputs import Classes, Poses, classes_in, iteration_seconds, poses_in, relion_files
from alignment.pose_quality import pose_errors
from alignment.session import Session
from comparison import Target, at_least, at_most, result_of
from measure import MIB, Run, measure, print_table, say
from vitreous.io.mrc import read_volume
from vitreous.io.particles import read_particles
from vitreous.model.volume import Volume

COUNT, BOX = 2000, 64
CLASSES, ITERATIONS_2D, ITERATIONS_3D = 10, 10, 8
START = 50.0  # angstrom, that the true map is filtered to before it is a reference
TIMES = 20.0  # faster than RELION
LONGER, LARGER = 1.15, 1.2  # what counts as constant time a particle and constant memory
NOISE_START = 40.0  # angstrom: the reference that noise is aligned to
NOISE_LEVEL = 0.1  # mean FSC beyond it that independent half maps of noise stay below


# --- 2D ---------------------------------------------------------------------------------------------------------------


def two_dimensional(session: Session) -> None:
    wanted = sets.SimulatedSet(COUNT, BOX, session.options.snr, session.options.seed)
    place = sets.make(session.vitreous, wanted, session.options.data.resolve())
    count = session.iterations(ITERATIONS_2D)
    task = session.task(sets.UNPOSED, wanted.pixel_size, sets.DIAMETER, count)
    ours_at, theirs_at = session.folder("vitreous_2d"), session.folder("relion_2d")
    theirs = None if session.relion is None else relion_2d(session.relion, task, CLASSES, theirs_at)
    costs = session.time(place, vitreous_2d(session.vitreous, task, CLASSES, ours_at), theirs, theirs_at)
    print(f"\n2D: {COUNT:,} particles of {BOX} px, {CLASSES} classes, {count} iterations, 6 degrees, 1 px within 5 px")
    tell_short(count, ITERATIONS_2D)
    session.print_costs(*costs, dict.fromkeys(names(costs), count))
    found = {costs[0].name: (ours_at / "particles.star", ours_at / "averages.mrcs")}
    if costs[1] is not None:
        found[costs[1].name] = relion_files(theirs_at, count)
    qualities = {name: class_quality(*files, place) for name, files in found.items()}
    print_class_qualities(qualities)
    session.speed_target("2D, wall time against RELION", *costs, TIMES)
    ours, other = [*qualities.values(), None][:2]
    assert ours is not None
    for key, what, better, form in (
        ("correlation", "2D, mean correlation with the nearest projection", at_least, "{:.4f}"),
        ("spread_deg", "2D, mean angle of a view to its class's axis, degrees", at_most, "{:.1f}"),
    ):
        session.compare_target(what, ours[key], None if other is None else other[key], better, form)
    session.result["2d"] = {
        "iterations": count,
        "costs": [cost.as_json() for cost in costs if cost is not None],
        "relion_iteration_seconds": iteration_seconds(theirs_at),
        "quality": qualities,
    }


def class_quality(star: Path, averages: Path, place: Path) -> dict[str, float]:
    """The measures of a 2D classification of the set in the folder `place`."""
    true = read_particles(place / sets.POSED, load_images=False)
    truth = read_volume(place / sets.TRUTH)
    classes = classes_in(star, averages, true)
    return judged_classes(classes, poses_in(place / sets.POSED, true), truth)


def judged_classes(classes: Classes, true: Poses, truth: Volume) -> dict[str, float]:
    matches = nearest_projections(classes.averages, truth.data, sets.DIAMETER / truth.pixel_size)
    correlation = np.array([match.correlation for match in matches])
    population = classes.population
    assigned = classes.class_index >= 0
    spread = {
        mirror: math.degrees(mean_view_spread(true.rotation[assigned], classes.class_index[assigned], mirror=mirror)[0])
        for mirror in (True, False)
    }
    used = population > 0
    return {
        "correlation": float(correlation[used].mean()),
        "weighted_correlation": float(np.average(correlation, weights=population)),
        "worst_correlation": float(correlation[used].min()),
        "spread_deg": spread[True],
        "spread_without_mirror_deg": spread[False],
        "classes_used": used_classes(population),
        "smallest_class": float(population.min()),
    }


def print_class_qualities(qualities: dict[str, dict[str, float]]) -> None:
    rows = [["correlation with the nearest true projection", "mean", "by population", "worst"]]
    for name, found in qualities.items():
        rows.append(
            [name, *(f"{found[key]:.4f}" for key in ("correlation", "weighted_correlation", "worst_correlation"))]
        )
    print_table(rows)
    rows = [["mean angle of views to the middle of their class, degrees", "with mirror", "without", "classes in use"]]
    for name, found in qualities.items():
        angles = [f"{found[key]:.1f}" for key in ("spread_deg", "spread_without_mirror_deg")]
        rows.append([name, *angles, f"{found['classes_used']:.1f}"])
    ideal = [f"{math.degrees(ideal_spread(CLASSES, mirror=mirror)):.1f}" for mirror in (True, False)]
    chance = [f"{math.degrees(ideal_spread(1, mirror=mirror)):.1f}" for mirror in (True, False)]
    print_table([*rows, ["equal caps, the ideal", *ideal, f"{CLASSES}"], ["drawn by lot", *chance, ""]])


# --- 3D ---------------------------------------------------------------------------------------------------------------


def three_dimensional(session: Session) -> None:
    wanted = sets.SimulatedSet(COUNT, BOX, session.options.snr, session.options.seed)
    place = sets.make(session.vitreous, wanted, session.options.data.resolve())
    count = session.iterations(ITERATIONS_3D)
    task = session.task(sets.UNPOSED, wanted.pixel_size, sets.DIAMETER, count)
    ours_at, theirs_at = session.folder("vitreous_3d"), session.folder("relion_3d")
    theirs = None if session.relion is None else relion_3d(session.relion, task, sets.TRUTH, theirs_at, start=START)
    ours = vitreous_3d(session.vitreous, task, sets.TRUTH, ours_at, start=START)
    costs = session.time(place, ours, theirs, theirs_at)
    done = int(result_of(ours_at)["iterations"])
    print(
        f"\n3D: {COUNT:,} particles of {BOX} px, C1, HEALPix order 2 and 3, 1 px within 5 px, from the truth at {START:g} A, {count} iterations"
    )
    tell_short(count, ITERATIONS_3D)
    iterations = dict.fromkeys(names(costs), count) | {costs[0].name: done}
    session.print_costs(*costs, iterations)
    found = {costs[0].name: (ours_at / "particles.star", ours_at / "map.mrc")}
    if costs[1] is not None:
        found[costs[1].name] = relion_files(theirs_at, count)
    qualities = {name: map_quality(*files, place) for name, files in found.items()}
    print_map_qualities(qualities)
    if costs[1] is not None:
        each = [cost.median("wall_seconds") / iterations[cost.name] for cost in costs if cost is not None]
        session.judge_speed("3D, wall time an iteration against RELION", each[1] / each[0], TIMES)
    mine, other = [*qualities.values(), None][:2]
    assert mine is not None
    for key, what, better, form in (
        ("median_angle", "3D, median pose error, degrees", at_most, "{:.2f}"),
        ("median_shift", "3D, median shift error, A", at_most, "{:.2f}"),
        ("resolution", "3D, FSC 0.5 with the truth at, A", at_most, "{:.2f}"),
    ):
        session.compare_target(what, mine[key], None if other is None else other[key], better, form)
    session.result["3d"] = {
        "iterations": iterations,
        "costs": [cost.as_json() for cost in costs if cost is not None],
        "relion_iteration_seconds": iteration_seconds(theirs_at),
        "quality": qualities,
    }


def map_quality(star: Path, map_path: Path, place: Path) -> dict:
    """Pose errors and FSC with the truth of a run on the set in the folder `place`."""
    true = read_particles(place / sets.POSED, load_images=False)
    truth = read_volume(place / sets.TRUTH)
    found, known = poses_in(star, true), poses_in(place / sets.POSED, true)
    errors = pose_errors(found.rotation, known.rotation, found.shift, known.shift)
    radius = sets.DIAMETER / 2 / truth.pixel_size
    volume = read_volume(map_path)
    agreed = agreement(Volume(volume.data, truth.pixel_size), truth, radius, resolutions(truth))
    return asdict(errors) | {"fsc": agreed.fsc, "resolution": agreed.resolution or math.inf, "text": agreed.text}


def resolutions(volume: Volume) -> list[float]:
    """A quarter, half, two thirds and nine tenths of the Nyquist frequency, in angstrom."""
    return [round(2 * volume.pixel_size / fraction, 1) for fraction in (0.25, 0.5, 2 / 3, 0.9)]


def print_map_qualities(qualities: dict[str, dict]) -> None:
    rows = [["error of poses: median", "angle, degrees", "shift, A", "below 10 degrees"]]
    for name, found in qualities.items():
        rows.append([name, f"{found['median_angle']:.2f}", f"{found['median_shift']:.2f}", f"{found['within']:.1%}"])
    print_table(rows)
    first = next(iter(qualities.values()))
    rows = [["FSC with the truth at", *(f"{r:g} A" for r in first["fsc"]), "FSC 0.5 at"]]
    for name, found in qualities.items():
        rows.append([name, *(f"{value:.3f}" for value in found["fsc"].values()), found["text"]])
    print_table(rows)


# --- scaling ----------------------------------------------------------------------------------------------------------


def scaling(session: Session) -> None:
    """Wall time and memory of `classify2d` on the first N images of one stack."""
    options = session.options
    counts = sorted(options.counts)
    wanted = sets.SimulatedSet(counts[-1], options.box, options.snr, options.seed)
    place = sets.make(session.vitreous, wanted, options.data.resolve())
    rows = [["particles", "wall s", "CPU s", "peak MiB", "wall ms each", "more ms for each more"]]
    found = []
    for number, count in enumerate(counts):
        star = sets.first(place, count)
        task = session.task(star.name, wanted.pixel_size, sets.DIAMETER, options.scaling_iterations)
        command = vitreous_2d(session.vitreous, task, CLASSES, session.folder("vitreous_scaling"))
        if number == 0:
            measure(command, place, place / "scaling.log")  # what is compiled once
        say(f"{count:,} particles")
        found.append(measure(command, place, place / "scaling.log"))
        more = "-"
        if number:
            more = f"{1e3 * (found[-1].wall_seconds - found[-2].wall_seconds) / (count - counts[number - 1]):.2f}"
        run = found[-1]
        times = [f"{run.wall_seconds:.1f}", f"{run.cpu_seconds:.1f}", f"{run.peak_bytes / MIB:.0f}"]
        rows.append([f"{count:,}", *times, f"{1e3 * run.wall_seconds / count:.2f}", more])
    print(
        f"\nscaling: classify2d, {options.box} px, {CLASSES} classes, {options.scaling_iterations} iterations, {options.threads} threads; start-up counts"
    )
    print_table(rows)
    session.result["scaling"] = {"counts": counts, "box": options.box, "runs": [asdict(run) for run in found]}
    if len(found) > 1:
        session.targets += scaling_targets(counts, found)


def scaling_targets(counts: list[int], runs: list[Run]) -> list[Target]:
    """Of three counts and more: a further particle costs no more time at the end than at the beginning; of two, a particle no more than before. And memory."""
    walls = [run.wall_seconds for run in runs]
    times = [run / count for run, count in zip(walls, counts)]
    if len(counts) > 2:
        times = list(np.diff(walls) / np.diff(counts))
    between = f"from {counts[0]:,} to {counts[-1]:,} particles"
    longer, larger = float(times[-1] / times[0]), runs[-1].peak_bytes / runs[0].peak_bytes
    return [
        Target(f"wall time a particle, {between}", f"{LONGER:g} times", f"{longer:.2f} times", longer <= LONGER),
        Target(f"peak memory, {between}", f"{LARGER:g} times", f"{larger:.2f} times", larger <= LARGER),
    ]


# --- noise ------------------------------------------------------------------------------------------------------------


def noise(session: Session) -> None:
    """Einstein from noise: images without any particle aligned to a map in independent halves, and images of the particle for comparison."""
    like = sets.SimulatedSet(COUNT, BOX, session.options.snr, session.options.seed)
    data = session.options.data.resolve()
    signal = sets.make(session.vitreous, like, data)
    places = {"pure noise": sets.pure_noise(session.vitreous, like, data), "particles": signal}
    truth = read_volume(signal / sets.TRUTH)
    radius = sets.DIAMETER / 2 / truth.pixel_size
    found = {}
    for kind, place in places.items():
        out = session.folder(f"vitreous_{kind.replace(' ', '_')}")
        task = Task(sets.UNPOSED, like.pixel_size, sets.DIAMETER, 0, session.options.threads)
        reference = str(signal / sets.TRUTH)
        command = vitreous_refine(session.vitreous, task, reference, out, symmetry="C1", start=NOISE_START)
        say(f"refining {kind}")
        run = measure(command, place, place / "refine.log")
        halves = [read_volume(out / f"half{half}.mrc") for half in (1, 2)]
        mean = Volume((halves[0].data + halves[1].data) / 2, truth.pixel_size)
        between, with_truth = sphere_correlation(*halves, radius), sphere_correlation(mean, truth, radius)
        found[kind] = {
            "half_maps_beyond": mean_beyond(between, NOISE_START),
            "reference_up_to": mean_up_to(with_truth, NOISE_START),
            "reference_beyond": mean_beyond(with_truth, NOISE_START),
            "reported": result_of(out).get("resolution_angstrom"),
            "wall_seconds": run.wall_seconds,
        }
    print(
        f"\nnoise: {COUNT:,} images refined against the true map at {NOISE_START:g} A, independent halves, soft sphere"
    )
    start = f"{NOISE_START:g} A"
    rows = [["mean FSC", f"half maps beyond {start}", f"with the map up to {start}", "with the map beyond", "reported"]]
    for kind, one in found.items():
        means = [f"{one[key]:.3f}" for key in ("half_maps_beyond", "reference_up_to", "reference_beyond")]
        rows.append([kind, *means, "none" if one["reported"] is None else f"{one['reported']:.2f} A"])
    print_table(rows)
    nothing = found["pure noise"]
    session.targets.append(Target("pure noise, resolution reported", "none", rows[1][-1], nothing["reported"] is None))
    session.targets.append(
        Target(
            "pure noise, mean FSC of half maps beyond the reference",
            f"within {NOISE_LEVEL:g}",
            rows[1][1],
            abs(nothing["half_maps_beyond"]) <= NOISE_LEVEL,
        )
    )
    session.result["noise"] = found


def names(costs: tuple) -> list[str]:
    return [cost.name for cost in costs if cost is not None]


def tell_short(count: int, full: int) -> None:
    if count < full:
        print(
            f"both programs ran {count} of the {full} iterations of the benchmark: times and quality are those after {count}"
        )
