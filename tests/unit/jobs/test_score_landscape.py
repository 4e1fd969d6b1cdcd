"""The job `landscape score`: known methods get known scores, whatever files they come in; what cannot be scored is refused in one line."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.cli import COMMANDS, dispatch
from vitreous.fourier.transforms import fourier_crop
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.heterogeneity.decoder import decoded_volume
from vitreous.heterogeneity.latents import Latents
from vitreous.heterogeneity.map_scores import central_row
from vitreous.heterogeneity.subspace_decoder import SubspaceDecoder
from vitreous.io.ensemble_truth import EnsembleTruth, map_name, particle_columns, write_conformations
from vitreous.io.mrc import read_volume
from vitreous.io.mrc_stack import write_volume
from vitreous.io.particles import write_particles
from vitreous.io.star import StarFile, read_star, write_star
from vitreous.jobs.cryodrgn_run import read_run
from vitreous.jobs.landscape_folder import write_landscape
from vitreous.jobs.score_landscape import ScoreLandscape
from vitreous.model.optics import OpticsGroup
from vitreous.model.particles import ImageName, Particles
from vitreous.model.table import Table
from vitreous.model.volume import Volume
from vitreous.reconstruction.map_alignment import Placement, place

BOX, PIXEL, COUNT = 24, 4.0, 400
VALUES = np.linspace(-20, 20, 8)


def blob(*centre: float) -> np.ndarray:
    axis = np.arange(BOX) - BOX // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    # narrow, so that there is signal up to Nyquist
    return np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2) / (2 * 0.8**2)).astype(
        np.float32
    )


FIXED = sum(blob(*c) for c in ((0, 0, 0), (3, 1, -2), (-2, 3, 2), (1, -4, 3), (-3, -2, -3)))
PART = blob(5, 4, 1) + blob(4, 6, 2) - blob(-5, 2, 4) - blob(-6, 4, 3)  # grows as another part fades


def particles_of(truth: EnsembleTruth, stack: str = "particles.mrcs", order: np.ndarray | None = None) -> Particles:
    order = np.arange(len(truth.index)) if order is None else order
    optics = OpticsGroup(pixel_size=PIXEL, box=BOX, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
    names = ImageName(order, np.zeros(len(order), np.int32), (stack,))
    table = Table({name: column[order] for name, column in particle_columns(truth).items()})
    return Particles(names, (optics,), np.zeros(len(order), int), table=table)


def write_ensemble(folder: Path, kind: str, maps: list[np.ndarray], values: np.ndarray) -> EnsembleTruth:
    (folder / "conformations").mkdir(parents=True)
    paths = tuple(folder / map_name(number) for number in range(1, len(maps) + 1))
    for path, volume in zip(paths, maps):
        write_volume(path, Volume(volume.astype(np.float32), PIXEL))
    index = np.random.default_rng(1).integers(0, len(maps), COUNT)
    names = tuple(f"{kind} {value:g}" for value in values)
    truth = EnsembleTruth(kind, values, names, paths, np.full(len(maps), 1 / len(maps)), index)
    write_conformations(folder, truth)
    write_particles(folder / "particles.star", particles_of(truth))
    return truth


@dataclass(frozen=True)
class Scene:
    """A folder with a hinge (of which the maps are linear in the angle) and a mixture, and methods that know them."""

    folder: Path
    hinge: EnsembleTruth
    mixture: EnsembleTruth
    decoder: SubspaceDecoder

    def landscape(self, name: str, z: np.ndarray, decoder: SubspaceDecoder | None = None, **particles) -> Path:
        """The folder of a trained landscape with these latents."""
        path = self.folder / name
        path.mkdir()
        z = z.reshape(len(z), -1).astype(np.float32)
        latents = Latents(z, np.zeros((*z.shape, z.shape[1]), np.float32))
        source = self.folder / "hinge" / "particles.star"
        own = particles_of(self.hinge, **particles)
        write_landscape(path, own, latents, decoder or self.decoder, source=source)
        (path / "result.json").write_text("{}")
        write_volume(path / "consensus.mrc", Volume(self.mean, PIXEL))
        return path

    @property
    def latent(self) -> np.ndarray:
        """The latent that decodes to the true map of each particle."""
        return self.hinge.particle_values / 20

    @property
    def mean(self) -> np.ndarray:
        weight = np.bincount(self.hinge.index) / COUNT
        return (FIXED + (weight @ VALUES / 20) * PART).astype(np.float32)


@pytest.fixture
def scene(tmp_path, monkeypatch) -> Scene:
    monkeypatch.chdir(tmp_path)
    hinge = write_ensemble(tmp_path / "hinge", "hinge", [FIXED + v / 20 * PART for v in VALUES], VALUES)
    species = [FIXED, FIXED + 2 * blob(5, 4, 1), FIXED + 2 * blob(-5, 2, 4)]
    mixture = write_ensemble(tmp_path / "mixture", "mixture", species, np.arange(1.0, 4))
    return Scene(tmp_path, hinge, mixture, SubspaceDecoder(np.stack([FIXED, PART]), PIXEL, BOX / 2))


def score(*words, out: str = "scores") -> dict:
    """The scores of the only method, or of all by name."""
    assert dispatch(["landscape", "score", *map(str, words), "--out", out]) == 0
    methods = json.loads(Path(out, "result.json").read_text())["methods"]
    return next(iter(methods.values())) if len(methods) == 1 else methods


def test_a_perfect_method_gets_the_best_of_everything(scene):
    scene.landscape("perfect", scene.latent + 1e-4 * np.random.default_rng(0).normal(size=COUNT))
    found = score("perfect", "--truth", "hinge")
    # decoded in single precision; the last shells hold little
    assert found["image_fsc_auc"] > 0.999 and found["conformation_fsc_auc"] > 0.999 and found["image_fsc_gain"] > 0.99
    assert found["imbalance_latent_to_truth"] == pytest.approx(found["best"]["imbalance_latent_to_truth"], rel=1e-9)
    assert found["neighbourhood_similarity"] == 1 and found["explained_variance"] > 0.999
    assert (
        found["spearman_first_component"] > 0.98
    )  # the truth comes in eight steps, whose particles are no better than tied
    assert found["particles"] == COUNT and found["kind"] == "landscape" and found["latent_dimensions"] == 1
    assert len(found["images"]["fsc_auc"]) == 8 * 13  # about a hundred
    assert set(found["conformations"]["resolution_angstrom"]) == {2 * PIXEL}  # Nyquist
    low, high = found["intervals"]["spearman_first_component"]
    assert low <= found["spearman_first_component"] <= high


def test_a_method_that_learned_nothing_is_at_the_base_line(scene):
    """Random latents; a decoder that gives the mean of all true maps whatever it is asked for."""
    constant = SubspaceDecoder(np.stack([scene.mean, 0 * PART]), PIXEL, BOX / 2)
    scene.landscape("nothing", np.random.default_rng(3).normal(size=COUNT), constant)
    found = score("nothing", "--truth", "hinge")
    # the decoder gives its own map back to better than a thousandth
    assert found["image_fsc_auc"] == pytest.approx(found["chance"]["image_fsc_auc"], abs=1e-3)
    assert found["consensus_fsc_auc"] == pytest.approx(found["chance"]["image_fsc_auc"], abs=1e-6)
    assert found["image_fsc_gain"] == pytest.approx(0, abs=5e-3) and found["chance"]["image_fsc_auc"] < 0.99
    # 400 ranks of standard deviation 0.58 of their mean
    assert found["imbalance_latent_to_truth"] == pytest.approx(1, abs=0.1)
    assert found["neighbourhood_similarity"] == pytest.approx(found["chance"]["neighbourhood_similarity"], rel=0.25)
    assert found["spearman_first_component"] < 0.15 and found["explained_variance"] < 0.05


def test_maps_and_latents_are_judged_apart(scene):
    """The right maps, given to the wrong particles; the right latents, with maps of the other sign."""
    scene.landscape("shuffled", scene.latent[np.random.default_rng(0).permutation(COUNT)])
    scene.landscape("inverted", scene.latent, replace(scene.decoder, maps=np.stack([FIXED, -PART])))
    found = score("shuffled", "inverted", "--truth", "hinge")
    assert found["inverted"]["spearman_first_component"] > 0.99 and found["shuffled"]["spearman_first_component"] < 0.15
    for name in found:
        assert found[name]["image_fsc_auc"] < found[name]["chance"]["image_fsc_auc"]
    page = Path("scores/report.html").read_text()
    assert "shuffled" in page and "inverted" in page and "mean of all true maps" in page


def test_a_bent_latent_keeps_its_ranks(scene):
    z = scene.latent + 1e-3 * np.random.default_rng(0).normal(size=COUNT)
    for name, latents in (("straight", z), ("bent", np.exp(2 * z)), ("scaled", -7 * z + 3)):
        np.save(f"{name}.npy", latents)
    found = {
        name: score("--latents", f"{name}.npy", "--truth", "hinge", out=f"{name}_scores")
        for name in ("straight", "bent", "scaled")
    }
    spearman = {one["spearman_first_component"] for one in found.values()}
    assert max(spearman) - min(spearman) < 1e-12
    for key in ("imbalance_latent_to_truth", "imbalance_truth_to_latent", "neighbourhood_similarity"):
        # scaling in double precision leaves the order of distances but for rounding
        assert found["scaled"][key] == pytest.approx(found["straight"][key], rel=1e-6)


def test_particles_are_matched_by_the_names_of_their_images(scene):
    """A landscape of some of the particles, in another order, whose stack is told from elsewhere."""
    order = np.random.default_rng(5).permutation(COUNT)[:150]
    scene.landscape("part", scene.latent[order], stack="other/place/particles.mrcs", order=order)
    found = score("part", "--truth", "hinge")
    assert found["particles"] == 150 and found["image_fsc_auc"] > 0.999 and found["spearman_first_component"] > 0.98
    warnings = json.loads(Path("scores/result.json").read_text())["warnings"]
    assert any("150 of its 150" in warning and "400" in warning for warning in warnings)


def test_latents_without_names_take_those_of_a_particle_file(scene):
    order = np.random.default_rng(5).permutation(COUNT)[:150]
    np.savetxt("z.txt", np.column_stack([scene.latent[order], np.zeros(150)]))
    write_particles(scene.folder / "some.star", particles_of(scene.hinge, order=order))
    found = score("--latents", "z.txt", "--particles", "some.star", "--truth", "hinge")
    assert found["particles"] == 150 and found["spearman_first_component"] > 0.98 and "image_fsc_auc" not in found


def cryodrgn_folder(scene: Scene, name: str = "cryodrgn") -> np.ndarray:
    """As `cryodrgn train_vae` leaves it: latents of some epochs, means before logarithms of variances."""
    rng = np.random.default_rng(2)
    z = np.column_stack([rng.normal(0, 0.1, COUNT), scene.latent]).astype(np.float32)
    folder = scene.folder / name
    folder.mkdir()
    for epoch in (1, 9, 10):
        with open(folder / f"z.{epoch}.pkl", "wb") as stream:
            pickle.dump(z if epoch == 10 else rng.normal(size=z.shape).astype(np.float32), stream)
            pickle.dump(np.zeros_like(z), stream)
    (folder / "weights.10.pkl").write_bytes(b"PK\x03\x04")
    return z


def test_cryodrgn_folders_and_the_maps_that_it_decodes(scene):
    """First the latents alone; then, with maps of the latents that were asked for, numbered as `cryodrgn eval_vol` does."""
    z = cryodrgn_folder(scene)
    found = score("cryodrgn", "--truth", "hinge", "--images-per-conformation", "3")
    assert found["kind"] == "cryoDRGN" and found["latent_dimensions"] == 2 and "image_fsc_auc" not in found
    assert found["spearman_best_coordinate"] > 0.98 and found["best_coordinate"] == 2
    wanted = np.loadtxt("scores/latents.txt")
    assert wanted.shape == (3 * 8 + 8, 2)
    assert (np.abs(wanted[:, None] - z[None]).max(axis=2).min(axis=1) < 1e-7).all()  # latents of particles
    Path("maps").mkdir()
    for number, latent in enumerate(wanted):
        volume = decoded_volume(scene.decoder, latent[1:])
        write_volume(Path("maps") / f"vol_{number:03d}.mrc", Volume(volume.data, 1.0))  # cryoDRGN's default --Apix
    words = (
        "cryodrgn",
        "--truth",
        "hinge",
        "--images-per-conformation",
        "3",
        "--volumes",
        "maps",
        "--pixel-size",
        PIXEL,
    )
    again = score(*words, out="with_maps")
    assert again["image_fsc_auc"] > 0.999 and again["conformation_fsc_auc"] > 0.999
    assert again["spearman_best_coordinate"] == found["spearman_best_coordinate"]
    for extra in sorted(Path("maps").iterdir())[8:]:
        extra.unlink()
    few = score(*words, out="conformations_only")  # eight maps: those of the conformations, here the wrong ones
    assert "image_fsc_auc" not in few and few["conformation_fsc_auc"] < 0.99


CRYODRGN_RUN = Path(__file__).parents[2] / "agreement" / "cryodrgn"


def test_the_network_of_a_cryodrgn_run_gives_its_maps(scene):
    """A run of cryoDRGN 4.3.1: scored against an ensemble whose conformations are maps of that run, each of a quarter of its particles."""
    z = read_run(CRYODRGN_RUN, pixel_size=3.0)
    assert z.latents is not None
    component = z.latents.mean @ np.linalg.eigh(np.cov(z.latents.mean.T))[1][:, -1]
    index = np.argsort(np.argsort(component)) * 4 // len(component)
    folder = scene.folder / "truth"
    (folder / "conformations").mkdir(parents=True)
    central = [central_row(z.latents.mean, np.flatnonzero(index == one)) for one in range(4)]
    for one, row in enumerate(central):
        write_volume(folder / map_name(one + 1), decoded_volume(z.decoder, z.latents.mean[row]))
    maps = tuple(folder / map_name(one + 1) for one in range(4))
    truth = EnsembleTruth("hinge", np.arange(4.0), ("a", "b", "c", "d"), maps, np.full(4, 0.25), index)
    write_conformations(folder, truth)
    write_particles(folder / "particles.star", particles_of(truth))
    found = score(CRYODRGN_RUN, "--truth", "truth")
    assert found["kind"] == "cryoDRGN" and found["latent_dimensions"] == 2
    assert found["conformation_fsc_auc"] == pytest.approx(1, abs=1e-4)  # maps in files of single precision
    assert found["image_fsc_auc"] <= 1 and found["spearman_first_component"] > 0.95


def test_a_network_that_cannot_be_read_leaves_the_latents(scene, capsys):
    cryodrgn_folder(scene)
    Path("cryodrgn/config.yaml").write_text("model_args: {domain: wavelet}\nlattice_args: {}\n")
    found = score("cryodrgn", "--truth", "hinge")
    assert "image_fsc_auc" not in found and found["spearman_best_coordinate"] > 0.98
    assert "cannot be read" in capsys.readouterr().err and Path("scores/latents.txt").is_file()


def relion_folder(scene: Scene) -> Path:
    """As `relion_refine` leaves a 3D classification: two iterations, a class that is empty."""
    folder = scene.folder / "Class3D"
    folder.mkdir()
    species = scene.mixture.index
    names = np.array([f"{row + 1:06d}@Extract/particles.mrcs" for row in range(COUNT)], dtype=object)
    optics = Table(
        {"rlnOpticsGroup": np.array([1]), "rlnImagePixelSize": np.array([PIXEL]), "rlnVoltage": np.array([300.0])}
    )
    for iteration, member in ((0, np.zeros(COUNT, int)), (25, np.array([2, 0, 3])[species])):
        table = Table({"rlnImageName": names, "rlnOpticsGroup": np.ones(COUNT, int), "rlnClassNumber": member + 1})
        write_star(folder / f"run_it{iteration:03d}_data.star", StarFile({"optics": optics, "particles": table}))
        for number in range(4):
            owner = {2: 0, 0: 1, 3: 2}.get(number)
            data = np.zeros((BOX,) * 3, np.float32) if owner is None else read_volume(scene.mixture.maps[owner]).data
            write_volume(folder / f"run_it{iteration:03d}_class{number + 1:03d}.mrc", Volume(data, PIXEL))
    return folder


def test_relion_classes_of_a_mixture(scene):
    relion_folder(scene)
    found = score("Class3D", "--truth", "mixture")
    assert found["kind"] == "RELION" and found["latent_dimensions"] == 4
    assert found["adjusted_rand_index"] == 1 and found["mutual_information"] == pytest.approx(1)
    assert found["image_fsc_auc"] == pytest.approx(1, abs=1e-5) and found["chance"]["image_fsc_auc"] < 0.99
    assert found["neighbourhood_similarity"] == 1 and found["grouped_by"] == "the method's own classes"
    assert found["imbalance_latent_to_truth"] == pytest.approx(found["best"]["imbalance_latent_to_truth"])
    assert "spearman_first_component" not in found
    tables = read_star("scores/scores.star")
    assert set(tables) == {"images", "conformations", "fsc", "neighbourhoods"} and len(tables["images"]) == 3 * 34


def test_groups_of_latents_of_a_mixture(scene):
    rng = np.random.default_rng(0)
    np.save("z.npy", rng.normal(0, 0.3, (COUNT, 3)) + 3 * np.eye(3)[scene.mixture.index])
    found = score("--latents", "z.npy", "--truth", "mixture")
    assert found["adjusted_rand_index"] > 0.99 and found["groups"] == 3 and found["grouped_by"] == "k-means"


def test_maps_of_another_grid_are_resampled_and_said(scene, capsys):
    small, size = fourier_crop(scene.decoder.maps, (BOX // 2,) * 3, 3, PIXEL)
    scene.landscape("coarse", scene.latent, SubspaceDecoder(small.astype(np.float32), size, BOX / 4))
    found = score("coarse", "--truth", "hinge")
    assert found["image_fsc_auc"] > 0.98  # the last shell lies at the edge of what either grid holds
    err = capsys.readouterr().err
    assert "12 voxels of 8.000 Å" in err


def test_maps_in_another_frame_are_laid_over_the_truth(scene):
    turn = Placement(matrix_from_euler(np.radians([[20.0, 40.0, -15.0]]))[0], np.array([1.0, -0.5, 0.3]), True, 1.0)
    moved = np.stack([place(each, turn) for each in scene.decoder.maps]).astype(np.float32)
    scene.landscape("moved", scene.latent, SubspaceDecoder(moved, PIXEL, BOX / 2))
    assert score("moved", "--truth", "hinge")["image_fsc_auc"] < 0.6
    found = score("moved", "--truth", "hinge", "--align", out="aligned")
    assert found["image_fsc_auc"] > 0.97  # placed to about a twentieth of a voxel
    assert "mirrored" in Path("aligned/report.html").read_text()


def test_the_seed_decides_everything(scene):
    scene.landscape("a", scene.latent + 0.3 * np.random.default_rng(0).normal(size=COUNT))
    words = ("a", "--truth", "hinge", "--images-per-conformation", "2", "--neighbour-particles", "100")
    first, again, other = (score(*words, "--seed", seed, out=out) for seed, out in ((1, "x"), (1, "y"), (2, "z")))
    assert first == again and first != other
    assert first["images"]["row"] != other["images"]["row"] and first["neighbourhoods"]["particles"] == 100


def test_the_example_runs(scene, capsys):
    command = next(c for c in COMMANDS if c.words == ("landscape", "score"))
    scene.landscape("trained", scene.latent)
    (scene.folder / "hinge").rename(scene.folder / "ensemble")
    assert dispatch(command.example.split()[1:]) == 0
    assert "per-image FSC AUC" in capsys.readouterr().out


def bad(scene: Scene, name: str) -> tuple[list[str], str]:
    """(Words, what is said) of a mistake."""
    rng = np.random.default_rng(0)
    latents = np.column_stack([scene.latent, rng.normal(size=COUNT)])
    np.save("z.npy", latents)
    if name == "nothing":
        return [], "nothing to score"
    if name == "empty folder":
        Path("empty").mkdir()
        return ["empty"], "holds no landscape"
    if name == "other particles":
        scene.landscape("others", scene.latent, stack="another.mrcs")
        return ["others"], "no image of the truth"
    if name == "other number":
        np.save("z.npy", latents[:-1])
        return ["--latents", "z.npy"], "399 latents"
    if name == "nan":
        latents[7, 1] = np.nan
        np.save("z.npy", latents)
        return ["--latents", "z.npy"], "particle 8"
    if name == "volumes":
        Path("maps").mkdir()
        for number in range(5):
            write_volume(Path("maps") / f"{number}.mrc", Volume(FIXED, PIXEL))
        return ["--latents", "z.npy", "--volumes", "maps"], "holds 5 maps"
    if name == "volumes of a landscape":
        scene.landscape("own", scene.latent)
        Path("maps").mkdir()
        return ["own", "--volumes", "maps"], "which has maps"
    if name == "hostile pickle":
        Path("cryodrgn").mkdir()
        Path("cryodrgn/z.pkl").write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR.")
        return ["cryodrgn"], "posix.system"
    if name == "class without a map":
        folder = relion_folder(scene)
        (folder / "run_it025_class003.mrc").unlink()
        return ["Class3D"], "class003.mrc does not exist"
    if name == "an image twice":
        scene.landscape("double", np.append(scene.latent, 0), order=np.append(np.arange(COUNT), 0))
        return ["double"], "twice"
    if name == "text":
        Path("z.txt").write_text("one two\n")
        return ["--latents", "z.txt"], "rows of numbers"
    if name == "object array":
        np.save("z.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
        return ["--latents", "z.npy"], "rows of numbers"
    if name == "no mask":
        write_volume("mask.mrc", Volume(3 * FIXED - 1, PIXEL))
        scene.landscape("own", scene.latent)
        return ["own", "--mask", "mask.mrc"], "from 0 to 1"
    assert name == "images per conformation"
    return ["--latents", "z.npy", "--images-per-conformation", "0"], "at least 1"


BAD = (
    "nothing",
    "empty folder",
    "other particles",
    "other number",
    "nan",
    "volumes",
    "volumes of a landscape",
    "hostile pickle",
    "class without a map",
    "an image twice",
    "text",
    "object array",
    "no mask",
    "images per conformation",
)


@pytest.mark.parametrize("name", BAD)
def test_mistakes_are_one_line(scene, capsys, name):
    words, said = bad(scene, name)
    truth = "mixture" if name == "class without a map" else "hinge"
    before = sorted(path.name for path in scene.folder.iterdir())
    assert dispatch(["landscape", "score", *words, "--truth", truth, "--out", "o"]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.strip().splitlines()) == 1 and "Traceback" not in err
    assert sorted(path.name for path in scene.folder.iterdir()) == before  # nothing half-written, nothing run


def test_a_truth_that_is_none_is_refused(scene, capsys):
    np.save("z.npy", scene.latent)
    write_particles(scene.folder / "plain.star", replace(particles_of(scene.hinge), table=Table()))
    for truth, said in (("nowhere", "does not exist"), ("plain.star", "conformations.star")):
        assert dispatch(["landscape", "score", "--latents", "z.npy", "--truth", truth, "--out", "o"]) == 2
        assert said in capsys.readouterr().err


def test_settings_name_their_job():
    assert ScoreLandscape(Path("x"), truth=Path("t")).name == "landscape score"  # type: ignore[arg-type]
