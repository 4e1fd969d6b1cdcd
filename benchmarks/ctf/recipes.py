"""What the simulated set consists of: the options of `vitreous simulate micrograph` for each micrograph, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scoring import angle_between

from vitreous.simulation.streams import Quantity, image_stream, stream_key

PIXEL_SIZE = 1.0  # angstrom
RIBOSOME, KINASE = "bundled:6zu5", "bundled:4ake"
PARTICLES = {RIBOSOME: 22, KINASE: 300}  # in a field of 2048 x 2048
DOSE = {RIBOSOME: 50.0, KINASE: 30.0}  # e/A^2
THICK_DOSE = 50.0
LENS = {"voltage-kv": 300.0, "cs-mm": 2.7, "amplitude-contrast": 0.1}
ASTIGMATISM = 500.0  # angstrom, u - v
SEEDS = 1_000  # between the seeds of two recipes, of which one is taken whose astigmatism points where it shall
RECIPES = 1_000  # that a set may have
NEAR = 3.0  # degrees
# Of the set of seed 0: see run.truth_digest.
PUBLISHED = "50a55ee983d45c9e2f57c9c2a72d770f475709ff85830680d7ec8f37b209bc71"


@dataclass(frozen=True)
class Recipe:
    """`count` micrographs of one kind, made by one command: lengths in angstrom, defocus in micrometre, angles in degrees.

    `astigmatism` is u - v: the root mean square of the set's, or, with an `angle_deg`, that of the one micrograph, whose angle is then
    within NEAR of this one.
    """

    group: str
    specimen: str
    defocus_um: tuple[float, float]
    size: int = 2048
    count: int = 1
    astigmatism: float = 200.0
    angle_deg: float | None = None
    tilt_deg: float = 0.0
    tilt_axis_deg: float = 90.0
    ice_thickness: float | None = None
    particles: int | None = None
    dose: float | None = None
    seed: int = 0

    @property
    def words(self) -> list[str]:
        """The arguments of `vitreous simulate micrograph`, without --out."""
        particles = PARTICLES[self.specimen] * (self.size // 2048) ** 2 if self.particles is None else self.particles
        options = {
            "pixel-size": PIXEL_SIZE,
            "size": self.size,
            "count": self.count,
            "particles": particles,
            "dose": DOSE[self.specimen] if self.dose is None else self.dose,
            "astigmatism": self.root_mean_square,
            **LENS,
            "seed": self.seed,
        }
        if self.tilt_deg:
            options |= {"tilt-deg": self.tilt_deg, "tilt-axis-deg": self.tilt_axis_deg}
        if self.ice_thickness is not None:
            options["ice-thickness"] = self.ice_thickness
        low, high = self.defocus_um
        words = [self.specimen, "--defocus-um", f"{low:g}", f"{high:g}"]
        return words + [word for name, value in options.items() for word in (f"--{name}", f"{value:.12g}")]

    @property
    def drawn(self) -> tuple[float, float]:
        """The two normal numbers that the first micrograph's astigmatism is made of: its direction is twice the angle."""
        rng = image_stream(stream_key(self.seed, Quantity.MICROGRAPH_CTF), 0)
        rng.random()  # the defocus
        along, across = rng.standard_normal(2)
        return float(along), float(across)

    @property
    def root_mean_square(self) -> float:
        """What --astigmatism must be, so that the first micrograph of this seed has exactly the astigmatism asked for."""
        if self.angle_deg is None:
            return self.astigmatism
        return self.astigmatism * math.sqrt(2) / math.hypot(*self.drawn)

    def seeded(self, seed: int) -> Recipe:
        """With this seed, or the first after it whose astigmatism points where it shall."""
        for candidate in range(seed, seed + SEEDS):
            recipe = replace(self, seed=candidate)
            if self.angle_deg is None:
                return recipe
            along, across = recipe.drawn
            if abs(angle_between(math.degrees(math.atan2(across, along)) / 2, self.angle_deg)) <= NEAR:
                return recipe
        raise ValueError(f"none of {SEEDS} seeds from {seed} on has an astigmatism near {self.angle_deg} degrees")


def recipes(seed: int = 0) -> list[Recipe]:
    """The whole set: seed 0 is the published one."""
    made = [*ordinary(), *astigmatic(), *large(), *tilted(), *thick()]
    return [recipe.seeded((seed * RECIPES + number) * SEEDS) for number, recipe in enumerate(made)]


def ordinary() -> list[Recipe]:
    """1 to 3 um, astigmatism of 200 A rms: enough of them to count how often an interval holds the truth."""
    return [Recipe("ordinary", specimen, (1.0, 3.0), count=24) for specimen in (KINASE, RIBOSOME)]


def astigmatic() -> list[Recipe]:
    """Of 500 A, 4096 x 4096 pixels; of 50 A and of none, 2048 x 2048. The angles go all around, those of neighbours far apart."""
    kinds = (("astigmatic", ASTIGMATISM, 8, 4096), ("slight", 50.0, 4, 2048), ("round", 0.0, 4, 2048))
    found = []
    for group, astigmatism, count, size in kinds:
        for number in range(count):
            defocus = round(1.0 + 2.0 * number / (count - 1), 2)
            angle = number * 67.5 % 180 - 90
            specimen = RIBOSOME if size == 4096 or number % 2 else KINASE
            found.append(Recipe(group, specimen, (defocus, defocus), size, astigmatism=astigmatism, angle_deg=angle))
    return found


def large() -> list[Recipe]:
    """4096 x 4096 pixels."""
    kinds = ((KINASE, 1.2), (RIBOSOME, 2.0), (KINASE, 2.8))
    return [Recipe("large", specimen, (defocus, defocus), 4096) for specimen, defocus in kinds]


def tilted() -> list[Recipe]:
    """10 to 40 degrees about several axes. Axis and sign: physics.md (a), vitreous.optics.tilted_plane."""
    kinds = ((10, 90, 1.5), (10, 20, 2.5), (20, 0, 2.0), (20, 130, 2.8), (30, 65, 2.2), (-30, 100, 2.6), (40, 170, 2.5))
    return [
        Recipe("tilted", KINASE, (defocus, defocus), 4096, tilt_deg=tilt, tilt_axis_deg=axis)
        for tilt, axis, defocus in kinds
    ]


def thick() -> list[Recipe]:
    """Ice of 100 to 300 nm, alone: particles inside it would be a second, thinner specimen, by all of their diameter."""
    kinds = [(thickness, defocus) for thickness in (1000, 1500, 2000, 3000) for defocus in (1.5, 2.5)]
    return [
        Recipe("thick", KINASE, (defocus, defocus), 4096, ice_thickness=thickness, particles=0, dose=THICK_DOSE)
        for thickness, defocus in kinds
    ]


def every(step: int, whole: list[Recipe]) -> list[Recipe]:
    """One in `step` of the recipes of each group, and of the micrographs of each, but at least one: a set to develop on."""
    kept: list[Recipe] = []
    for group in dict.fromkeys(recipe.group for recipe in whole):
        chosen = [recipe for recipe in whole if recipe.group == group][::step]
        kept += [replace(recipe, count=max(1, recipe.count // step)) for recipe in chosen]
    return kept
