"""What cryoDRGN 4.3.1 makes of a STAR file, and a network that it has trained on the images: run with its Python, in a folder with `cryodrgn` in PATH.

    vitreous simulate particles bundled:4ake --box 32 --pixel-size 4 --count 40 --snr 0.5 --out simulated
    pip install torch==2.13.0 cryodrgn==4.3.1
    python tests/agreement/cryodrgn_run.py simulated/particles.star tests/agreement/cryodrgn

Into the folder go particles.star, poses.pkl, ctf.pkl (whose phase shifts are NaN), the settings, network and latents of `cryodrgn train_vae`, and numbers.json:
voxels of `cryodrgn eval_vol`, a latent, and values of networks of other kinds, whose arrays `arrays_of` draws. Folders are taken out of config.yaml.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

LATENT = (0.3, -0.7)
COMMAND = "--zdim 2 -n 1 --enc-dim 8 --enc-layers 1 --enc-mask 4 --dec-dim 32 --dec-layers 2 --pe-dim 8 --seed 1 --no-analysis --no-amp"
# domain, positional encoding, its size, hidden layers, their width, activation
KINDS = [
    ("fourier", "gaussian", 4, 2, 10, "relu"),
    ("hartley", "gaussian", 4, 2, 26, "leaky_relu"),  # as wide as its input: the first layer is residual
    ("fourier", "geom_lowf", 5, 1, 7, "relu"),
    ("hartley", "geom_ft", 5, 1, 7, "relu"),
    ("fourier", "geom_full", 5, 1, 7, "leaky_relu"),
    ("fourier", "geom_nohighf", 5, 1, 7, "relu"),
    ("fourier", "linear_lowf", 8, 1, 7, "relu"),
]
BOX, DIMENSIONS = 16, 2
VOXELS = [(16, 16, 16), (12, 17, 20), (20, 9, 15), (3, 16, 28), (31, 0, 5), (15, 18, 13), (10, 10, 10), (24, 20, 16)]


def points() -> np.ndarray:
    """Frequencies in cycles per box, on both sides of z = 0."""
    return np.random.default_rng(0).uniform(-4.5, 4.5, (12, 3)).astype(np.float32)


def config_of(kind: tuple) -> dict:
    domain, encoding, size, count, width, activation = kind
    model = {
        "qlayers": 1,
        "qdim": 3,
        "players": count,
        "pdim": width,
        "zdim": DIMENSIONS,
        "encode_mode": "resid",
        "enc_mask": 2,
    }
    model |= {"pe_type": encoding, "feat_sigma": 0.5, "pe_dim": size, "domain": domain, "activation": activation}
    lattice = {"D": BOX + 1, "extent": 0.5, "ignore_DC": True}
    return {"model_args": model, "lattice_args": lattice, "dataset_args": {"norm": [0.0, 3.0]}}


def arrays_of(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Arrays of these shapes from one seed, in the order of their names."""
    rng = np.random.default_rng(1)
    return {name: rng.normal(0, 0.4, shapes[name]).astype(np.float32) for name in sorted(shapes)}


def network(kind: tuple) -> dict:
    """The shapes of a network's arrays, and its values: real and imaginary part, or the one of the Hartley domain."""
    import torch
    from cryodrgn.models import HetOnlyVAE

    model, _ = HetOnlyVAE.load(config_of(kind))
    shapes = {name: list(array.shape) for name, array in model.state_dict().items() if name.startswith("decoder.")}
    drawn = {name: torch.tensor(array) for name, array in arrays_of(shapes).items()}
    model.load_state_dict(drawn, strict=False)
    model.eval()
    k = np.concatenate([points() / BOX, np.tile(np.float32(LATENT), (len(points()), 1))], axis=1)
    with torch.no_grad():
        decode = model.decoder.decode if kind[0] == "fourier" else model.decoder
        values = decode(torch.tensor(k))
    return {"shapes": shapes, "values": np.asarray(values, dtype=float).round(7).tolist()}


def main() -> None:
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)

    def cryodrgn(*words: str) -> None:
        subprocess.run(["cryodrgn", *words], check=True)

    shutil.copyfile(source, folder / "particles.star")
    cryodrgn("parse_pose_star", str(source), "-o", str(folder / "poses.pkl"))
    cryodrgn("parse_ctf_star", str(source), "-o", str(folder / "ctf.pkl"))
    cryodrgn("parse_ctf_star", str(source), "-o", "ctf.pkl", "--ps", "0")
    images = str(source.with_name("particles.mrcs"))
    given = ["--poses", str(folder / "poses.pkl"), "--ctf", "ctf.pkl", "-o", "run", *COMMAND.split()]
    cryodrgn("train_vae", images, *given)
    cryodrgn("eval_vol", "run/weights.pkl", "-c", "run/config.yaml", "-o", "map.mrc", "-z", *map(str, LATENT))
    for name in ("weights.pkl", "z.pkl"):
        shutil.copyfile(f"run/{name}", folder / name)
    config = Path("run/config.yaml").read_text()
    (folder / "config.yaml").write_text(re.sub(r"[\w./-]*/", "", config))

    import cryodrgn as peer
    import torch
    from cryodrgn.mrcfile import parse_mrc

    volume = parse_mrc("map.mrc")[0]
    with open("run/z.pkl", "rb") as stream:
        mean, log_variance = pickle.load(stream), pickle.load(stream)
    found = {
        "versions": {"cryodrgn": peer.__version__, "torch": torch.__version__},
        "voxels": [float(volume[voxel]) for voxel in VOXELS],
        # what eval_vol has at the Nyquist frequency along x, y and z
        "nyquist": [float((volume * (-1.0) ** np.indices(volume.shape)[axis]).sum()) for axis in (2, 1, 0)],
        "latent": [float(value) for value in (*mean[3], *log_variance[3])],  # of the fourth particle
        "networks": [network(kind) for kind in KINDS],
    }
    text = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found.items())
    (folder / "numbers.json").write_text(f"{{{text}}}\n".replace('{"shapes"', '\n {"shapes"'))


if __name__ == "__main__":
    main()
