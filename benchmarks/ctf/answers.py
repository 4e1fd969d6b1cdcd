"""The programs that estimate CTFs, each asked in the same way: some images, what is known of the lens, and what is wanted."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import above  # noqa: F401 - for the imports of the second group below
from scoring import Answer, Lens

from measure import Run, environment, measure
from programs import PEERS, vitreous

HERE = Path(__file__).resolve().parent
THICKNESS_NM = ("30", "400")  # that vitreous looks for; torch-ctf-estimation's own range is the same
LENS_OF_SET = {"voltage-kv": 300.0, "cs-mm": 2.7, "amplitude-contrast": 0.1}


@dataclass(frozen=True)
class Asker:
    """A program. `can` names what it may be asked for besides the plain CTF: tilt, thickness, spectra.

    `runner` is a script that `python` runs; vitreous has its own command, too. `sided` says whether its tilt axis has a side.
    """

    name: str
    version: str
    python: str
    runner: Path
    can: tuple[str, ...] = ()
    sided: bool = False
    more: tuple[str, ...] = ()
    variant: str = ""

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}{self.variant}"

    def command(
        self,
        images: Sequence[Path],
        out: Path,
        pixel_size: float,
        lens: Mapping[str, float],
        wanted: Sequence[str] = (),
    ) -> list[str]:
        """The runner, to write its answers to `out`."""
        known = {"pixel-size": pixel_size, **lens}
        options = [word for name, value in known.items() for word in (f"--{name}", f"{value:g}")]
        flags = [f"--{name}" for name in wanted]
        return [self.python, str(self.runner), *options, *flags, *self.more, "--out", str(out), *map(str, images)]

    def ask(
        self,
        images: Sequence[Path],
        folder: Path,
        *,
        pixel_size: float = 1.0,
        lens: Mapping[str, float] = LENS_OF_SET,
        wanted: Sequence[str] = (),
    ) -> tuple[dict[Path, Answer], Run]:
        """What it says of each image, by its runner, and what that cost. Raises CommandFailed."""
        out = folder / f"{self.runner.stem}.json"
        cost = measure(self.command(images, out, pixel_size, lens, wanted), folder, folder / f"{self.runner.stem}.log")
        rows = json.loads(out.read_text(encoding="utf-8"))["images"]
        return {image: answer_of(rows[str(image)]) for image in images}, cost


class Vitreous(Asker):
    """vitreous is asked by its command, `vitreous ctf`, as a user would; the runner serves to time it without its report."""

    def job(
        self,
        images: Sequence[Path],
        out: Path,
        pixel_size: float,
        lens: Mapping[str, float],
        wanted: Sequence[str] = (),
    ) -> list[str]:
        known = {"pixel-size": pixel_size, **lens}
        options = [word for name, value in known.items() for word in (f"--{name}", f"{value:g}")]
        if "tilt" in wanted:
            options.append("--tilt")
        if "thickness" in wanted:
            options += ["--thickness-nm", *THICKNESS_NM]
        if "spectra" in wanted:
            options.append("--spectra")
        return [vitreous().path, "ctf", *map(str, images), *options, "--out", str(out), "--force"]

    def ask(
        self,
        images: Sequence[Path],
        folder: Path,
        *,
        pixel_size: float = 1.0,
        lens: Mapping[str, float] = LENS_OF_SET,
        wanted: Sequence[str] = (),
    ) -> tuple[dict[Path, Answer], Run]:
        out = folder / "vitreous"
        cost = measure(self.job(images, out, pixel_size, lens, wanted), folder, folder / "vitreous.log")
        failed = json.loads((out / "result.json").read_text(encoding="utf-8")).get("failed", {})
        found = {}
        for image in images:
            row = out / "micrographs" / f"{image.stem}.json"
            if row.is_file():
                found[image] = answer_of_job(json.loads(row.read_text(encoding="utf-8")))
            else:
                found[image] = Answer(None, found=False, failure=failed.get(image.stem, "no answer"))
        return found, cost


def answer_of(row: Mapping[str, object]) -> Answer:
    """A row of a runner's answers."""
    seconds = float(row["seconds"])
    if "failed" in row:
        return Answer(None, found=False, seconds=seconds, failure=str(row["failed"]))
    lens = Lens(*(optional(row, name) for name in Lens.__dataclass_fields__))
    if not all(math.isfinite(value) for value in (lens.defocus_u, lens.defocus_v, lens.angle_deg)):
        return Answer(None, found=False, seconds=seconds, failure="numbers that are not finite")
    evidence = str(row.get("evidence", ""))
    return Answer(lens, bool(row.get("found", True)), dict(row.get("sigma", {})), seconds, evidence=evidence)


def optional(row: Mapping[str, object], name: str) -> float | None:
    return None if row.get(name) is None else float(row[name])


def answer_of_job(row: Mapping[str, object]) -> Answer:
    """A row of `vitreous ctf`, DIR/micrographs/NAME.json: angstrom and radian."""
    degrees = {name: None if row[name] is None else math.degrees(row[name]) for name in ("angle", "tilt", "axis")}
    ends = (row["defocus_u"], row["defocus_v"], degrees["angle"])
    lens = Lens(*ends, degrees["tilt"], degrees["axis"], row["thickness"])
    sigma = {name: math.sqrt(row["covariance"][place][place]) for place, name in enumerate(row["names"])}
    return Answer(lens, row["found"], sigma, row["seconds"], evidence=row["evidence"])


# --- where they are ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Peer:
    """A program to compare with: the module that its Python must be able to import, and how to install it."""

    name: str
    module: str
    distribution: str
    requirements: str
    runner: str
    can: tuple[str, ...] = ()
    variants: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"": ()})  # options of the runner, by name

    @property
    def place(self) -> Path:
        """Where it is looked for unless told: a virtual environment of its own."""
        return PEERS / self.distribution

    def found(self, python: str | None) -> list[Asker]:
        """Its variants, or none after a line that says how to get it. `python` is a path, or None for the usual places."""
        given = python or os.environ.get(self.variable)
        candidates = [given] if given else [str(self.place / "bin" / "python"), sys.executable]
        for candidate in candidates:
            path = shutil.which(candidate)
            version = None if path is None else self.version(path)
            if path is not None and version is not None:
                runner = HERE / self.runner
                return [
                    Asker(self.name, version, path, runner, self.can, more=more, variant=variant)
                    for variant, more in self.variants.items()
                ]
        place = os.path.relpath(self.place)
        command = f"python -m venv {place}; {place}/bin/pip install {self.requirements}"
        print(
            f"{self.name} is not installed and is left out; to install it: {command} (or name its Python in {self.variable})"
        )
        return []

    @property
    def variable(self) -> str:
        return f"{self.module.upper()}_PYTHON"

    def version(self, python: str) -> str | None:
        code = f"import importlib.metadata as m, importlib.util as u; assert u.find_spec({self.module!r}); print(m.version({self.distribution!r}))"
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, env=environment(), check=False)
        return done.stdout.strip() if done.returncode == 0 else None


TORCH_CTF = Peer(
    "torch-ctf-estimation",
    "torch_ctf_estimation",
    "torch-ctf-estimation",
    "torch==2.13.0 torch-ctf-estimation==0.6.0 mrcfile",
    "run_torch_ctf.py",
    ("tilt", "thickness", "spectra"),
    # As its documentation shows it, and with the best of what was tried on a set of other seeds.
    {"": (), ", tuned": ("--spacing", "2", "--resolution", "15", "4.5")},
)
ASPIRE = Peer("ASPIRE", "aspire", "aspire", "torch==2.13.0 aspire==0.14.3", "run_aspire.py")


def own() -> Vitreous:
    """vitreous, of the Python that runs this."""
    program = vitreous()
    can = ("tilt", "thickness", "spectra")
    return Vitreous("vitreous", program.version, sys.executable, HERE / "run_vitreous.py", can, sided=True)


def all_programs(torch_ctf: str | None, aspire: str | None, without: Sequence[str] = ()) -> list[Asker]:
    """vitreous, and the peers that are installed and wanted."""
    programs: list[Asker] = [own()]
    for peer, python in ((TORCH_CTF, torch_ctf), (ASPIRE, aspire)):
        if peer.module not in without:
            programs += peer.found(python)
    return programs
