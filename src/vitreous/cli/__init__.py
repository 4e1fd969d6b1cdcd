"""The command line: `vitreous COMMAND ...`. One file per command: parse, call, report.

Nothing but the standard library is loaded until a command is known, so that `vitreous --help` answers at once.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from dataclasses import dataclass

USAGE = "Usage: vitreous COMMAND [ARGUMENTS] [OPTIONS]"
ABOUT = "A glass box for single-particle cryo-EM."
BAD_INPUT = 2
INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """A command: its words, its module in `vitreous.cli` (with a function `run`), what it does, and one example that works."""

    words: tuple[str, ...]
    module: str
    summary: str
    example: str


COMMANDS = (
    Command(
        ("demo",),
        "demo",
        "Go the whole way from simulated micrographs to a map, and compare with the truth",
        "vitreous demo --out demo",
    ),
    Command(
        ("reconstruct",),
        "reconstruct",
        "Make a 3D map and its resolution from particles with poses",
        "vitreous reconstruct particles.star --out map",
    ),
    Command(
        ("check",),
        "check",
        "Prove or reject a file's conventions by trial reconstructions",
        "vitreous check particles.star",
    ),
    Command(
        ("simulate", "particles"),
        "simulate_particles",
        "Make particle images of a model or a map, with the truth",
        "vitreous simulate particles model.cif --box 64 --pixel-size 4 --out simulated",
    ),
    Command(
        ("simulate", "micrograph"),
        "simulate_micrograph",
        "Make micrographs of particles in ice, with the truth",
        "vitreous simulate micrograph model.cif --pixel-size 2 --size 512 --particles 10 --out micrographs",
    ),
    Command(
        ("simulate", "ensemble"),
        "simulate_ensemble",
        "Make images of a particle in many conformations: a hinge, a mixture, or a path, with the truth",
        "vitreous simulate ensemble hinge --conformations 10 --count 1000 --out hinge",
    ),
    Command(
        ("simulate", "plan"),
        "simulate_plan",
        "Say which scattering model suffices for a thickness, a voltage and a resolution",
        "vitreous simulate plan --thickness 300 --voltage-kv 300 --resolution 4",
    ),
    Command(
        ("ctf",),
        "ctf",
        "Estimate the CTF of micrographs, with error bars, and say which to reject",
        "vitreous ctf micrographs.star --out ctf",
    ),
    Command(
        ("ctf", "apply"),
        "ctf_apply",
        "Correct micrographs or particles for their CTF, flat or tilted",
        "vitreous ctf apply micrograph.mrc --defocus-um 1.5 1.4 --tilt-deg 30 --out corrected",
    ),
    Command(
        ("ctf", "refine"),
        "ctf_refine",
        "Refine the CTFs of particles with poses against a map",
        "vitreous ctf refine particles.star --reference map.mrc --out refined",
    ),
    Command(
        ("pick",),
        "pick",
        "Find particles in micrographs, by size or by templates",
        "vitreous pick micrographs.star --diameter 80 --out picks",
    ),
    Command(
        ("extract",),
        "extract",
        "Cut particles out of micrographs, inverted and normalised",
        "vitreous extract picks.star --box 64 --micrographs micrographs.star --out extracted",
    ),
    Command(
        ("classify2d",),
        "classify2d",
        "Sort particles without poses into class averages",
        "vitreous classify2d particles.star --classes 50 --out classes",
    ),
    Command(
        ("select",),
        "select",
        "Keep the particles of good classes",
        "vitreous select classes --out selected",
    ),
    Command(
        ("abinitio",),
        "abinitio",
        "Make a first map from particles without poses, from random starts",
        "vitreous abinitio particles.star --starts 2 --iterations 3 --out initial",
    ),
    Command(
        ("refine",),
        "refine",
        "Refine a map and the poses of particles, or sort them into 3D classes",
        "vitreous refine particles.star --reference map.mrc --out refined",
    ),
    Command(
        ("expand",),
        "expand",
        "Symmetry expansion: each particle once for each operator of its point group",
        "vitreous expand particles.star --symmetry D2 --out expanded",
    ),
    Command(
        ("subtract",),
        "subtract",
        "Signal subtraction: take all but one part of a particle out of its images",
        "vitreous subtract particles.star --map map.mrc --mask part.mrc --out subtracted",
    ),
    Command(
        ("landscape", "train"),
        "landscape_train",
        "Learn a map as a function of a latent, and the latent of each particle",
        "vitreous landscape train particles.star --latent 2 --epochs 3 --width 32 --out landscape",
    ),
    Command(
        ("landscape", "analyze"),
        "landscape_analyze",
        "Show where the particles of a landscape lie, and the maps there, with movies",
        "vitreous landscape analyze trained --clusters 4 --out analysis",
    ),
    Command(
        ("landscape", "filter"),
        "landscape_filter",
        "Keep the particles of a part of a landscape: clusters, a polygon, a range",
        "vitreous landscape filter trained --range 1 -0.5 2 --out part",
    ),
    Command(
        ("landscape", "images"),
        "landscape_images",
        "Learn pictures as a function of a latent from particles without poses (spatial-VAE)",
        "vitreous landscape images particles.star --latent 1 --epochs 3 --turns 24 --out images",
    ),
    Command(
        ("landscape", "score"),
        "landscape_score",
        "Score a landscape, of any program, against the truth of a simulated ensemble",
        "vitreous landscape score trained --truth ensemble --out scores",
    ),
    Command(("fsc",), "fsc", "Fourier shell correlation of two maps", "vitreous fsc half1.mrc half2.mrc"),
    Command(
        ("postprocess",),
        "postprocess",
        "Mask, FSC, B factor and sharpening from two half maps",
        "vitreous postprocess half1.mrc half2.mrc --out sharp",
    ),
    Command(
        ("localres",),
        "localres",
        "Local resolution of two half maps, and a map filtered by it",
        "vitreous localres half1.mrc half2.mrc --out local",
    ),
    Command(("mask",), "mask", "Make a soft mask from a map", "vitreous mask map.mrc mask.mrc"),
    Command(
        ("info",),
        "info",
        "Say what is in a file: map, stack, STAR, .cs, atomic model",
        "vitreous info particles.star map.mrc",
    ),
    Command(
        ("convert",),
        "convert",
        "Convert particle files (STAR, .cs, cryoDRGN) and maps",
        "vitreous convert particles.star particles.cs",
    ),
    Command(
        ("conformance",),
        "conformance",
        "Hold this program, or another, against the numbers of the physics contract",
        "vitreous conformance --section b1 b5",
    ),
)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit: 0 done, 2 bad input, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # being told to stop is being interrupted: clean up and go
    from vitreous.engine.allocation import keep_freed_memory

    keep_freed_memory()
    sys.exit(dispatch(arguments))


def dispatch(arguments: list[str]) -> int:
    """Find the command and run it. Errors of the user become one line on stderr; `--debug` shows the traceback instead."""
    from vitreous.errors import VitreousError

    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(overview())
        return 0
    if arguments[0] in ("--version", "-V"):
        from vitreous import __version__

        print(f"vitreous {__version__}")
        return 0
    debug = "--debug" in arguments
    command = find(arguments)
    if (
        command is None
        and any(c.words[0] == arguments[0] for c in COMMANDS)
        and arguments[1:] in ([], ["--help"], ["-h"])
    ):
        print(overview(arguments[0]))
        return 0
    if command is None:
        print(f"vitreous: error: {unknown(arguments)}", file=sys.stderr)
        return BAD_INPUT
    rest = [word for word in arguments[len(command.words) :] if word != "--debug"]
    try:
        module = importlib.import_module(f"vitreous.cli.{command.module}")
        run_command = importlib.import_module("vitreous.cli.run_command")
        return run_command.run_command(command, module.run, rest)
    except VitreousError as error:
        if debug:
            raise
        print(f"vitreous {' '.join(command.words)}: error: {error.line()}", file=sys.stderr)
        return error.exit_code
    except MemoryError:
        if debug:
            raise
        print(
            f"vitreous {' '.join(command.words)}: error: not enough memory; expected a smaller problem; choose a smaller box",
            file=sys.stderr,
        )
        return BAD_INPUT
    except KeyboardInterrupt as interrupt:
        left = interrupt.args[0] if interrupt.args else "nothing was left behind"
        print(f"vitreous {' '.join(command.words)}: interrupted, {left}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone: nothing to say to anyone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def find(arguments: list[str]) -> Command | None:
    """The command that the first words name; of several the one that takes the most words (`ctf apply` before `ctf`)."""
    named = [c for c in COMMANDS if tuple(arguments[: len(c.words)]) == c.words]
    return max(named, key=lambda c: len(c.words), default=None)


def unknown(arguments: list[str]) -> str:
    """One line for words that name no command, with the nearest that does."""
    import difflib

    names = [" ".join(c.words) for c in COMMANDS]
    given = " ".join(arguments[:2]) if any(c.words[0] == arguments[0] for c in COMMANDS) else arguments[0]
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else "see `vitreous --help`"
    return f"no command '{given}'; expected one of {', '.join(names)}; {hint}"


def overview(first: str | None = None) -> str:
    """The text of `vitreous --help`: every command (that begins with the word `first`) with what it does and one example."""
    lines = [USAGE, "", ABOUT, ""]
    for command in COMMANDS:
        if first not in (None, command.words[0]):
            continue
        lines += [f"  {' '.join(command.words):<20} {command.summary}", f"  {'':<20} $ {command.example}"]
    lines += ["", "`vitreous COMMAND --help` lists a command's options. `--debug` shows the traceback of an error."]
    return "\n".join(lines)
