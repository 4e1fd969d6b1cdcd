"""CTF estimation measured: accuracy on simulated and real data, honesty where there is nothing, speed and memory; beside its peers.

    python benchmarks/ctf/run.py [--parts accuracy controls real speed memory] [--data FOLDER] [--seed 0] [--every 1]
                                 [--torch-ctf-python PATH] [--aspire-python PATH] [--without aspire ...] [--real FOLDER]
                                 [--repeats 3] [--json FILE]

The simulated set is made first where it is not there yet (about 2.6 GB, a quarter of an hour); README.md beside this script says what it
is and how the programs are asked. Errors are found minus true, printed as "median / root mean square / worst" without sign.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import above  # noqa: F401 - for the imports of the second group below
import real
import speed
from answers import Asker, Vitreous, all_programs
from make import CONTROLS, make_set
from recipes import PUBLISHED
from scoring import Answer, Lens, Summary, errors
from tables import (
    Check,
    Subject,
    control_table,
    coverage_table,
    covered,
    of_group,
    quantity,
    quantity_table,
    within,
    worst_check,
)

from measure import MIB, machine, print_machine, print_table, say, write_json
from vitreous.io.star import read_star

PARTS = ("accuracy", "controls", "real", "speed", "memory")
PLAIN = ("ordinary", "astigmatic", "slight", "round", "large")
WANTED = {"tilted": "tilt", "thick": "thickness"}  # group: what is asked for besides
JUDGED = ("astigmatic", "large")  # 4096 x 4096 pixels, flat and thin: what the targets are about
COVERAGE = (60.0, 76.0)  # percent
TIMES_FASTER, SECONDS = 3.0, 3.0
STABLE = 50.0  # angstrom
GROWTH = 0.05  # of memory when the number doubles: what allocators keep, less than one image in ten
HALVES = (("left", "right"), ("top", "bottom"))
SLOPES = ("slope_x", "slope_y")
DEFAULT_DATA = Path(tempfile.gettempdir()) / "vitreous-ctf-benchmark"


@dataclass
class Session:
    """Options, programs, and all that was found so far."""

    options: argparse.Namespace
    programs: list[Asker]
    folder: Path  # of what is written and thrown away
    checks: list[Check] = field(default_factory=list)
    result: dict[str, object] = field(default_factory=dict)

    @property
    def own(self) -> Vitreous:
        assert isinstance(self.programs[0], Vitreous)
        return self.programs[0]

    def table(self, name: str, rows: list[list[str]]) -> None:
        """Print it, and keep it for the file."""
        print()
        print_table(rows)
        self.result[name] = rows


# --- the simulated set ------------------------------------------------------------------------------------------------


def simulated(session: Session, groups: Sequence[str]) -> list[Subject]:
    """The set, made where it is not there."""
    options = session.options
    asked_for = groups if options.groups is None else options.groups
    subjects = read_truth(make_set(options.data, options.seed, asked_for, options.every))
    chosen = of_group(subjects, *(group for group in groups if group in asked_for))
    if options.seed == 0 and options.every == 1 and set(PLAIN) | set(WANTED) <= set(asked_for):
        print(f"the truth is {'as published' if truth_digest(chosen) == PUBLISHED else 'NOT as published'}")
    return chosen


def truth_digest(subjects: Sequence[Subject]) -> str:
    """SHA-256 of the truth to a thousandth of an angstrom or degree, whatever the order."""
    lines = []
    for one in subjects:
        if one.truth is not None:
            numbers = " ".join(f"{value:.3f}" for value in asdict(one.truth).values())
            lines.append(f"{one.path.stem} {one.group} {numbers}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def read_truth(star: Path) -> list[Subject]:
    """The rows of truth.star."""
    table = read_star(star)["micrographs"]
    found = []
    for row, name in enumerate(table["rlnMicrographName"]):
        value = {
            column: float(table[column][row])
            for column in table
            if column not in ("rlnMicrographName", "vitreousGroup")
        }
        ends = (value["rlnDefocusU"], value["rlnDefocusV"], value["rlnDefocusAngle"])
        plane = (value["vitreousTiltDeg"], value["vitreousTiltAxisDeg"])
        truth = Lens(*ends, *plane, value["vitreousIceThickness"]) if value["vitreousHasCtf"] else None
        found.append(Subject(star.parent / str(name), str(table["vitreousGroup"][row]), truth))
    return found


def asked(session: Session, subjects: Sequence[Subject]) -> dict[str, dict[Path, Answer]]:
    """Every program on every micrograph, with tilt and thickness where these are to be found and it can."""
    found: dict[str, dict[Path, Answer]] = {}
    for program in session.programs:
        answers: dict[Path, Answer] = {}
        for wanted in (None, *WANTED.values()):
            chosen = [subject.path for subject in subjects if WANTED.get(subject.group) == wanted]
            if chosen:
                say(f"{program.label}: {len(chosen)} micrographs{f', {wanted}' if wanted else ''}")
                more = [wanted] if wanted in program.can else []
                answers |= program.ask(chosen, session.folder, wanted=more)[0]
        found[program.label] = answers
    return found


def accuracy(session: Session) -> None:
    subjects = simulated(session, (*PLAIN, *WANTED))
    answers = asked(session, subjects)
    sided = {program.label: program.sided for program in session.programs}
    groups = (*PLAIN, *WANTED)
    session.table("mean", quantity_table("mean defocus, A", subjects, groups, answers, "mean"))
    session.table("size", quantity_table("astigmatism u - v, A", subjects, PLAIN, answers, "size"))
    session.table("angle", quantity_table("its angle, degrees", subjects, ("astigmatic",), answers, "angle", 1))
    kinds = {"tilt": "size of the tilt, degrees", "normal": "direction of the normal, degrees"}
    for name, title in kinds.items():
        session.table(name, quantity_table(title, subjects, ("tilted",), answers, name, 1, sided))
    session.table(
        "thickness", quantity_table("thickness, A", by_thickness(subjects), thicknesses(subjects), answers, "thickness")
    )
    own = answers[session.own.label]
    session.table("coverage", coverage_table(subjects, own))
    session.result["answers"] = {
        name: {path.name: asdict(answer) for path, answer in found.items()} for name, found in answers.items()
    }
    session.checks += accuracy_checks(subjects, own)


def by_thickness(subjects: Sequence[Subject]) -> list[Subject]:
    """The thick ones, each thickness a group of its own."""
    thick = of_group(subjects, "thick")
    return [Subject(one.path, f"{one.truth.thickness:.0f} A", one.truth) for one in thick if one.truth is not None]


def thicknesses(subjects: Sequence[Subject]) -> list[str]:
    return list(dict.fromkeys(subject.group for subject in by_thickness(subjects)))


def accuracy_checks(subjects: Sequence[Subject], own: Mapping[Path, Answer]) -> list[Check]:
    judged, astigmatic, tilted, thick = (
        of_group(subjects, *g) for g in (JUDGED, ("astigmatic",), ("tilted",), ("thick",))
    )
    coverage = covered(of_group(subjects, *PLAIN), own, ("mean", "along", "across"))
    low, high = COVERAGE
    return [
        worst_check("mean defocus, worst", quantity(judged, own, "mean"), len(judged), 20, "A"),
        worst_check("astigmatism at 500 A, worst", quantity(astigmatic, own, "size"), len(astigmatic), 20, "A"),
        worst_check("its angle, worst", quantity(astigmatic, own, "angle"), len(astigmatic), 1, "degrees", 1),
        worst_check("tilt, worst", quantity(tilted, own, "tilt"), len(tilted), 3, "degrees", 1),
        worst_check("thickness, worst", quantity(thick, own, "thickness"), len(thick), 50, "A"),
        Check(
            "68 % intervals hold the truth",
            f"{low:g}-{high:g} %",
            f"{coverage.percent:.0f} % of {coverage.count}",
            low <= coverage.percent <= high if coverage.count else None,
        ),
    ]


def controls(session: Session) -> None:
    subjects = simulated(session, (CONTROLS,))
    answers = asked(session, subjects)
    session.table("controls", control_table(subjects, answers))
    own = answers[session.own.label]
    wrong = [subject for subject in subjects if own[subject.path].found]
    reached = f"{len(wrong)} of {len(subjects)}"
    session.checks.append(Check("a CTF found where there is none", "none", reached, not wrong if subjects else None))
    session.result["evidence"] = {path.stem: answer.evidence or answer.failure for path, answer in own.items()}
    for name, evidence in session.result["evidence"].items():
        print(f"  {name}: {evidence}")


# --- real data --------------------------------------------------------------------------------------------------------


def real_data(session: Session) -> None:
    references = real.reference_spectra(session.options.real)
    if references:
        stored_spectra(session, references)
    else:
        print(f"\nreal spectra are left out: {session.options.real / real.SPECTRA} is not there")
    found = real.pieces(session.options.real, session.folder)
    if found:
        real_micrograph(session, found)
    else:
        print(f"\nthe real micrograph is left out: {session.options.real / real.MICROGRAPH} is not there")


def stored_spectra(session: Session, references: Mapping[Path, Lens]) -> None:
    subjects = [Subject(path, "spectra", truth) for path, truth in references.items()]
    answers = {}
    for program in session.programs:
        if "spectra" not in program.can:
            print(f"\n{program.label} takes micrographs only, no stored spectra")
            continue
        lens = {"pixel_size": real.SPECTRUM_PIXEL, "lens": real.SPECTRUM_LENS}
        answers[program.label], _ = program.ask(list(references), session.folder, **lens, wanted=["spectra"])
    rows = [[f"{len(subjects)} real spectra", *answers]]
    titles = {"mean": "mean defocus, A", "size": "astigmatism u - v, A", "angle": "its angle, degrees"}
    for name, title in titles.items():
        values = {program: quantity(subjects, found, name) for program, found in answers.items()}
        rows.append(
            [title, *(f"{Summary.of(one).rms:.1f} rms, {Summary.of(one).worst:.1f} worst" for one in values.values())]
        )
    session.table("spectra", rows)
    own = answers[session.own.label]
    mean, size, angle = (quantity(subjects, own, name) for name in titles)
    average = sum(map(abs, mean)) / max(1, len(mean))
    count, all_found = len(subjects), len(mean) == len(subjects)
    session.checks += [
        Check(
            "real spectra: mean defocus within 60 A", f"all {count}", str(within(mean, 60)), within(mean, 60) == count
        ),
        Check("real spectra: mean defocus on average", "30 A", f"{average:.1f} A", all_found and average <= 30),
        Check("real spectra: astigmatism within 60 A", "10", str(within(size, 60)), within(size, 60) >= 10),
        Check("real spectra: angle within 8 degrees", "10", str(within(angle, 8)), within(angle, 8) >= 10),
    ]
    session.result["spectra_errors"] = {
        path.name: errors(own[path].lens, truth) if own[path].lens else None for path, truth in references.items()
    }


def real_micrograph(session: Session, found: Mapping[str, real.Piece]) -> None:
    means: dict[str, dict[str, float | None]] = {}
    for program in session.programs:
        means[program.label] = {}
        for pixel_size in dict.fromkeys(piece.pixel_size for piece in found.values()):
            chosen = {name: piece.path for name, piece in found.items() if piece.pixel_size == pixel_size}
            answers, _ = program.ask(
                list(chosen.values()), session.folder, pixel_size=pixel_size, lens=real.MICROGRAPH_LENS
            )
            for name, path in chosen.items():
                answer = answers[path]
                means[program.label][name] = answer.lens.mean if answer.lens and answer.found else None
    rows = [["real micrograph: mean defocus, A", *means]]
    for name in found:
        rows.append([name, *(text_of(values[name]) for values in means.values())])
    own = means[session.own.label]
    for title, apart in {"halves": HALVES, "whole and downsampled": (("whole", "downsampled"),)}.items():
        rows.append([f"apart: {title}", *(text_of(largest_difference(values, apart)) for values in means.values())])
        difference = largest_difference(own, apart)
        met = difference is not None and difference <= STABLE
        session.checks.append(
            Check(f"real micrograph: {title} apart", f"{STABLE:g} A", f"{text_of(difference)} A", met)
        )
    session.table("micrograph", rows)
    without_tilt(session, found, own)


def without_tilt(session: Session, found: Mapping[str, real.Piece], own: Mapping[str, float | None]) -> None:
    """What is left of the difference of the halves when the tilt that vitreous finds in the whole is taken off: halves of a tilted specimen differ."""
    whole = found["whole"]
    shared = {"pixel_size": whole.pixel_size, "lens": real.MICROGRAPH_LENS, "wanted": ["tilt"]}
    answer = session.own.ask([whole.path], session.folder, **shared)[0][whole.path]
    if answer.lens is None or answer.lens.slope is None or not answer.found:
        print("\nno tilt was found in the whole micrograph")
        return
    moved = {
        name: None if value is None else value - sum(s * d for s, d in zip(answer.lens.slope, found[name].centre))
        for name, value in own.items()
    }
    errors_of_slope = " ".join(
        f"{value:+.3f} ± {answer.sigma[name]:.3f}" for name, value in zip(SLOPES, answer.lens.slope)
    )
    print(
        f"\nthe whole is tilted by {answer.lens.tilt_deg:.1f} degrees: the defocus grows by {errors_of_slope} A per A along x and y"
    )
    difference = largest_difference(moved, HALVES)
    met = difference is not None and difference <= STABLE
    session.checks.append(
        Check("real micrograph: halves apart, tilt taken off", f"{STABLE:g} A", f"{text_of(difference)} A", met)
    )


def largest_difference(values: Mapping[str, float | None], pairs: Sequence[tuple[str, str]]) -> float | None:
    """None if one of them is missing."""
    found = []
    for one, other in pairs:
        first, second = values[one], values[other]
        if first is None or second is None:
            return None
        found.append(abs(first - second))
    return max(found)


def text_of(value: float | None) -> str:
    return "none found" if value is None else f"{value:.0f}"


# --- cost -------------------------------------------------------------------------------------------------------------


def large_images(session: Session) -> list[Path]:
    return [subject.path for subject in simulated(session, ("large",))]


def costs(session: Session) -> None:
    options, images = session.options, large_images(session)
    warm = {
        program.label: speed.warm_seconds(program, images, session.folder, options.repeats)
        for program in session.programs
    }
    own = session.own.label
    rows = [["4096 x 4096, after warm-up", "s a micrograph", "the first, s", f"times {own}"]]
    rows += [
        [name, one.text(), f"{one.first:.2f}", f"{one.median / warm[own].median:.1f}"] for name, one in warm.items()
    ]
    session.table("warm", rows)
    session.checks.append(
        Check("4096 x 4096 after warm-up", f"{SECONDS:g} s", f"{warm[own].median:.2f} s", warm[own].median <= SECONDS)
    )
    times = [warm[program.label].median / warm[own].median for program in session.programs[1:]]
    session.checks.append(faster("a micrograph after warm-up", times))
    for count in options.counts:
        shared = (session.programs, images, count, session.folder, options.repeats, options.slow_repeats)
        found = speed.whole_processes(*shared)
        rows = [[f"whole process, {count} of 4096 x 4096", "wall s", "CPU s", "peak MiB", f"times {own}"]]
        first = found[0].median("wall_seconds")
        for cost in found:
            spreads = (cost.spread("wall_seconds"), cost.spread("cpu_seconds"), cost.spread("peak_bytes", MIB, 0))
            rows.append([cost.name, *spreads, f"{cost.median('wall_seconds') / first:.1f}"])
        session.table(f"whole_{count}", rows)
        session.result[f"whole_{count}_runs"] = [cost.as_json() for cost in found]
        times = [cost.median("wall_seconds") / first for cost in found[1:]]
        session.checks.append(faster(f"whole process, {count} micrographs", times))


def faster(what: str, times: Sequence[float]) -> Check:
    """The slowest advantage counts."""
    reached = f"{min(times):.1f} times" if times else "no peer"
    return Check(
        f"{what}, against the faster peer",
        f"{TIMES_FASTER:g} times",
        reached,
        min(times) >= TIMES_FASTER if times else None,
    )


def memory(session: Session) -> None:
    found = speed.memory(session.own, large_images(session), session.options.memory_counts, session.folder)
    session.table(
        "memory",
        [["micrographs of 4096 x 4096", "peak MiB"], *([str(n), f"{peak / MIB:.0f}"] for n, peak in found.items())],
    )
    *_, before, last = sorted(found)
    growth = found[last] / found[before] - 1
    what = f"memory, from {before} to {last} micrographs"
    session.checks.append(Check(what, f"{100 * GROWTH:g} % more", f"{100 * growth:.0f} % more", growth <= GROWTH))


RUNS = {"accuracy": accuracy, "controls": controls, "real": real_data, "speed": costs, "memory": memory}


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--data", type=Path, default=DEFAULT_DATA, help=f"folder of the simulated set, {DEFAULT_DATA} unless given"
    )
    parser.add_argument("--seed", type=int, default=0, help="0 is the published set; others are to develop on")
    parser.add_argument("--every", type=int, default=1, help="one in so many micrographs of each group")
    parser.add_argument("--groups", nargs="+", help="of the simulated set, by default all")
    parser.add_argument("--torch-ctf-python", help="the Python that has torch-ctf-estimation")
    parser.add_argument("--aspire-python", help="the Python that has ASPIRE")
    parser.add_argument(
        "--without", nargs="+", default=[], choices=["torch_ctf_estimation", "aspire"], help="peers to leave out"
    )
    parser.add_argument("--real", type=Path, default=real.DATA, help="folder of the real data")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slow-repeats", type=int, default=3, help="of whole processes of the peers")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 8], help="micrographs of a whole process")
    parser.add_argument("--memory-counts", type=int, nargs="+", default=[2, 8, 16])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if len(set(options.memory_counts)) < 2:
        parser.error("--memory-counts: at least two different numbers")
    return options


def main() -> None:
    options = parsed()
    options.data = options.data.resolve()
    options.data.mkdir(parents=True, exist_ok=True)
    facts = machine()
    print_machine(facts)
    programs = all_programs(options.torch_ctf_python, options.aspire_python, options.without)
    print(", ".join(program.label for program in programs))
    with tempfile.TemporaryDirectory(prefix="vitreous-ctf-") as place:
        session = Session(options, programs, Path(place))
        for part in PARTS:
            if part in options.parts:
                RUNS[part](session)
    rows = [["target", "at most, or as said", session.own.label, ""], *(check.row() for check in session.checks)]
    session.table("targets", rows)
    versions = {program.name: program.version for program in programs}
    checks = [asdict(check) for check in session.checks]
    write_json(options.json, {"machine": facts, "versions": versions, "checks": checks, **session.result})


if __name__ == "__main__":
    sys.exit(main())
