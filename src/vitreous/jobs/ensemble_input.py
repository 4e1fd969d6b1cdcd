"""What a simulated ensemble is told, and what it refuses."""

# Annotations here are objects, not text: the command line would look their names up in the modules of the jobs that inherit them.
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vitreous.errors import SettingsProblem
from vitreous.jobs.imaging_input import ImagingInput
from vitreous.jobs.ranges import option, refuse_numbers
from vitreous.jobs.specimen import Specimen

OWN = Path("bundled")  # the specimen that each kind has by default
SPECIMENS = {"hinge": "bundled:6zu5", "mixture": "bundled:6zu5", "path": "bundled:4ake"}
END = "bundled:1ake"
ANGLES, FRACTIONS, CONFORMATIONS, SNR = (0.0, 60.0), (0.0, 1.0), 50, 0.05
OPTIONS = {  # of one kind only
    "hinge": ("moving", "angles", "axis", "point"),
    "mixture": ("species", "populations"),
    "path": ("end", "fractions"),
}
MOVING = {"bundled:6zu5": "S*", "bundled:4ake": "A:118-160", "bundled:1ake": "A:118-160"}
SPECIES = ("*", "*,-S*", "*,-L*")  # the ribosome, its large subunit, its small subunit
POPULATION_SUM = 1e-3  # by which populations may miss 1


@dataclass(frozen=True)
class EnsembleKind:
    """The first argument of a simulated ensemble.

    Parameters
    ----------
    kind
        hinge: a part of the model turns about an axis; mixture: parts of it are present or absent; path: its domains move from
        one state to another.
    """

    kind: Literal["hinge", "mixture", "path"]


@dataclass(frozen=True)
class EnsembleInput(ImagingInput, EnsembleKind):
    """Settings of a simulated ensemble.

    Parameters
    ----------
    kind
        hinge: a part of the model turns about an axis; mixture: parts of it are present or absent; path: its domains move from
        one state to another.
    specimen
        Atomic model (.cif, .pdb), or one of bundled:6zu5 (a ribosome), bundled:4ake and bundled:1ake (adenylate kinase, open
        and closed). By default the ribosome, and for a path the open adenylate kinase.
    conformations
        Number of conformations, evenly spaced along the coordinate; 50 unless given. A mixture has as many as species.
    moving
        Of a hinge: the part that turns, chains and residues such as A:118-160,B or S*. By default the small subunit of the
        ribosome, and the lid of adenylate kinase.
    angles
        Of a hinge: first and last angle in degrees; 0 and 60 unless given.
    axis
        Of a hinge: direction of its axis (x, y, z) in the frame of the model; turns are right-handed about it. By default the
        part opens like a lid, about the rim of its contacts with the rest.
    point
        Of a hinge: a point (x, y, z) of its axis in angstrom, in the frame of the model's file.
    species
        Of a mixture: what each species holds, chains and residues such as *, *,-S* or L*,S60:1-500. By default the ribosome, its
        large subunit and its small subunit.
    populations
        Of a mixture: the share of each species; they add up to 1. By default all alike.
    end
        Of a path: the model of its last state; bundled:1ake unless given.
    fractions
        Of a path: first and last fraction of the way; 0 and 1 unless given.
    count
        Number of particles.
    box
        Box of the images in pixels.
    pixel_size
        Pixel size in angstrom. By default as small as lets the box hold the ensemble with a quarter to spare, and the CTF of the
        largest defocus.
    snr
        Signal-to-noise ratio: the mean variance of the noiseless images over all their pixels, CTF included, divided by the
        variance of the noise in a pixel; 0.05 unless given.
    noise
        Spectrum of the noise: white, falling as 1 / (1 + (10 Å k)²), or none.
    per_micrograph
        Particles that share a micrograph: its defocus and its astigmatism.
    height
        Root mean square of the particles' heights in the ice of their micrograph, in angstrom, which add to their defocus.
    view_concentration
        How much particles like to be seen along z: 0 is every direction alike, 5 has half of the views within 30 degrees.
    """

    specimen: Path = OWN
    conformations: int | None = field(default=None, kw_only=True)
    moving: str | None = field(default=None, kw_only=True)
    angles: tuple[float, float] | None = field(default=None, kw_only=True)
    axis: tuple[float, float, float] | None = field(default=None, kw_only=True)
    point: tuple[float, float, float] | None = field(default=None, kw_only=True)
    species: tuple[str, ...] = field(default=(), kw_only=True)
    populations: tuple[float, ...] = field(default=(), kw_only=True)
    end: Path | None = field(default=None, kw_only=True)
    fractions: tuple[float, float] | None = field(default=None, kw_only=True)
    count: int = field(default=10_000, kw_only=True)
    box: int = field(default=64, kw_only=True)
    pixel_size: float | None = field(default=None, kw_only=True)
    snr: float | None = field(default=None, kw_only=True)
    noise: Literal["white", "falling", "none"] = field(default="white", kw_only=True)
    per_micrograph: int = field(default=100, kw_only=True)
    height: float = field(default=100.0, kw_only=True)
    view_concentration: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        refuse_numbers(
            self,
            positive=("count", "box", "pixel_size", "snr", "per_micrograph"),
            not_negative=("height", "view_concentration"),
            finite=("angles", "axis", "point"),
        )
        self.refuse_imaging()
        self.refuse_other_kinds()
        self.refuse_ranges()
        self.refuse_populations()
        if self.noise == "none" and self.snr is not None:
            raise SettingsProblem(f"--noise none with --snr {self.snr:g}", "one of the two")
        if self.poses is not None and self.view_concentration > 0:
            raise SettingsProblem(
                f"--poses with --view-concentration {self.view_concentration:g}", "one source of orientations"
            )

    def refuse_other_kinds(self) -> None:
        """Options that do nothing for this kind."""
        for kind, names in OPTIONS.items():
            for name in names:
                if kind != self.kind and getattr(self, name) not in (None, ()):
                    raise SettingsProblem(f"{option(name)} for a {self.kind}", f"the kind {kind}", "leave it out")
        if self.kind == "mixture" and self.conformations is not None:
            raise SettingsProblem("--conformations for a mixture", "--species, one for each conformation")
        if (self.axis is None) != (self.point is None):
            given, absent = ("--axis", "--point") if self.point is None else ("--point", "--axis")
            raise SettingsProblem(f"{given} without {absent}", "both, or neither")

    def refuse_ranges(self) -> None:
        """Ranges without extent, and fewer than two conformations to fill them."""
        if self.conformations is not None and self.conformations < 2:
            raise SettingsProblem(
                f"--conformations {self.conformations}", "at least 2", "for one, use `vitreous simulate particles`"
            )
        if not self.angles_deg[0] < self.angles_deg[1] or self.angles_deg[1] - self.angles_deg[0] >= 360:
            raise SettingsProblem(
                f"--angles {self.angles_deg[0]:g} {self.angles_deg[1]:g}",
                "two different angles in degrees, the smaller first, less than a turn apart",
            )
        low, high = self.path_fractions
        if not 0 <= low < high <= 1:
            raise SettingsProblem(
                f"--fractions {low:g} {high:g}", "two different numbers from 0 to 1, the smaller first"
            )

    def refuse_populations(self) -> None:
        """Populations that are no shares of the species."""
        if self.kind != "mixture":
            return
        count = len(self.species_names)
        if count < 2:
            raise SettingsProblem("one species", "at least two", "for one, use `vitreous simulate particles`")
        if self.populations and len(self.populations) != count:
            raise SettingsProblem(
                f"{len(self.populations)} populations for {count} species", "one for each", "give --species, too"
            )
        if any(not 0 < share < 1 for share in self.populations):
            raise SettingsProblem(f"--populations {' '.join(map(str, self.populations))}", "numbers between 0 and 1")
        if self.populations and abs(sum(self.populations) - 1) > POPULATION_SUM:
            raise SettingsProblem(f"--populations that add up to {sum(self.populations):g}", "1")

    def inputs(self) -> list[Path]:
        samples = [self.sample, self.last] if self.kind == "path" else [self.sample]
        return [sample.file for sample in samples] + ([] if self.poses is None else [self.poses])

    @property
    def sample(self) -> Specimen:
        """The model."""
        own = self.specimen == OWN
        return self._specimen(Path(SPECIMENS[self.kind]) if own else self.specimen)

    @property
    def last(self) -> Specimen:
        """The model of the last state of a path."""
        return self._specimen(Path(END) if self.end is None else self.end)

    def _specimen(self, path: Path) -> Specimen:
        specimen = Specimen(path, self.box, self.pixel_size, self.b_factor, self.from_file)
        if specimen.is_map:
            raise SettingsProblem(f"the map {path}", "an atomic model, whose atoms can move")
        return specimen

    @property
    def angles_deg(self) -> tuple[float, float]:
        return ANGLES if self.angles is None else self.angles

    @property
    def path_fractions(self) -> tuple[float, float]:
        return FRACTIONS if self.fractions is None else self.fractions

    @property
    def number(self) -> int:
        """Of conformations, of a hinge or a path."""
        return CONFORMATIONS if self.conformations is None else self.conformations

    @property
    def species_names(self) -> tuple[str, ...]:
        return self.species or SPECIES

    @property
    def moving_part(self) -> str:
        """The selection of the part that turns."""
        known = MOVING.get(str(self.sample.path))
        if self.moving is None and known is None:
            raise SettingsProblem(
                f"no part of {self.sample.path} that turns", "--moving, with chains and residues such as A:118-160,B"
            )
        return self.moving or str(known)

    @property
    def signal_to_noise(self) -> float:
        return SNR if self.snr is None else self.snr
