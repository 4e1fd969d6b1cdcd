"""The folder that a training of cryoDRGN has left, read as a landscape: where each particle lies, and the map as a function of that.

config.yaml          the settings
weights.pkl, z.pkl   network and latents at the end; weights.N.pkl and z.N.pkl after epoch N
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.errors import DataProblem, FileProblem, FormatProblem, SettingsProblem
from vitreous.heterogeneity.cryodrgn_decoder import CryodrgnDecoder, cryodrgn_decoder
from vitreous.heterogeneity.latents import Latents
from vitreous.io.cryodrgn import read_ctf, read_latents
from vitreous.io.files import require_file
from vitreous.io.torch_file import read_state_dict

CONFIG, WEIGHTS, LATENTS = "config.yaml", "weights", "z"
MODEL = "model_state_dict"


@dataclass(frozen=True)
class CryodrgnRun:
    """A run: its decoder, its latents (None of a homogeneous one), and the files that they were read from."""

    decoder: CryodrgnDecoder
    latents: Latents | None
    files: tuple[Path, ...]


def read_run(folder: Path, *, epoch: int | None = None, pixel_size: float | None = None) -> CryodrgnRun:
    """The run in a folder, at its end or after `epoch`.

    A run does not note its pixel size: unless given it is that of the ctf.pkl which config.yaml names, if that is still there. Latents of an autodecoder
    have no variance, which is given as 0. Raises FileProblem, FormatProblem or DataProblem for what cannot be read, and
    SettingsProblem where the pixel size is missing.
    """
    config = read_config(folder / CONFIG)
    epoch = last_epoch(folder) if epoch is None and not (folder / f"{WEIGHTS}.pkl").is_file() else epoch
    weights, z = (folder / (f"{name}.pkl" if epoch is None else f"{name}.{epoch}.pkl") for name in (WEIGHTS, LATENTS))
    decoder = cryodrgn_decoder(config, read_state_dict(weights, MODEL), pixel_size or 1.0)
    if pixel_size is None:
        decoder = replace(decoder, pixel_size=pixel_size_of(config, folder, decoder.box))
    if not decoder.dimensions:
        return CryodrgnRun(decoder, None, (folder / CONFIG, weights))
    latents = latents_of(z)
    if latents.dimensions != decoder.dimensions:
        raise DataProblem(
            f"latents of {latents.dimensions} numbers in {z} and a network for {decoder.dimensions}", "as many"
        )
    return CryodrgnRun(decoder, latents, (folder / CONFIG, weights, z))


def last_epoch(folder: Path) -> int:
    """The last epoch of which a run that has not ended keeps its weights."""
    numbers = [path.name.split(".")[1] for path in folder.glob(f"{WEIGHTS}.*.pkl")]
    epochs = [int(number) for number in numbers if number.isdigit()]
    if not epochs:
        raise FileProblem(f"{folder} has no {WEIGHTS}.pkl and no {WEIGHTS}.N.pkl", "the folder of a run of cryoDRGN")
    return max(epochs)


def latents_of(path: Path) -> Latents:
    """The latents of a z.pkl."""
    mean, variance = read_latents(path)
    variance = np.zeros_like(mean) if variance is None else variance
    covariance = variance[:, :, None] * np.eye(mean.shape[1])
    return Latents(mean.astype(np.float32), covariance.astype(np.float32))


def read_config(path: Path) -> Mapping[str, Any]:
    """A config.yaml, of which nothing but plain values is read."""
    import yaml

    try:
        config = yaml.safe_load(require_file(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise FormatProblem(f"{path} cannot be read ({reason})", "a config.yaml of cryoDRGN's") from None
    if not isinstance(config, Mapping):
        raise FormatProblem(f"{path} holds {type(config).__name__}", "a config.yaml of cryoDRGN's")
    return config


def pixel_size_of(config: Mapping[str, Any], folder: Path, box: int) -> float:
    """That of the ctf.pkl that the run was given."""
    named = (config.get("dataset_args") or {}).get("ctf")
    for path in () if named is None else (Path(named), folder / Path(named).name, folder.parent / Path(named).name):
        if path.is_file():
            return read_ctf(path).pixel_size(box)
    raise SettingsProblem(
        f"{folder} does not say its pixel size, and its CTF table ({named}) is not there",
        "a pixel size in angstrom",
        "give --pixel-size",
    )
