"""One multislice calculation by one program, for `multislice.py`: NumPy and that program are all that is imported.

    python benchmarks/multislice_run.py PROGRAM SLABS.npy WAVE.npy --threads 2 [--repeats 1]

Prints as JSON the seconds of each repeat of the calculation alone, slabs in memory, and the program's version. The first
includes what a program prepares once: plans of transforms, compilation.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

PIXEL_SIZE, THICKNESS, VOLTAGE = 1.0, 2.0, 300e3
PROGRAMS = ("vitreous", "vitreous-textbook", "vitreous-jax", "abtem")


def vitreous(slabs: np.ndarray, threads: int, *, limit_transmission: bool) -> tuple[str, Callable[[], np.ndarray]]:
    import vitreous
    from vitreous.scattering.multislice import multislice

    settings = {"limit_transmission": limit_transmission, "workers": threads}
    return vitreous.__version__, lambda: multislice(slabs, PIXEL_SIZE, THICKNESS, VOLTAGE, **settings)


def vitreous_jax(slabs: np.ndarray, threads: int) -> tuple[str, Callable[[], np.ndarray]]:
    """JAX takes the cores that the process may use, whatever `threads` says."""
    import jax

    import vitreous
    from vitreous.scattering.multislice import multislice

    compiled = jax.jit(lambda v: multislice(v, PIXEL_SIZE, THICKNESS, VOLTAGE))
    placed = jax.numpy.asarray(slabs)
    return f"{vitreous.__version__}, JAX {jax.__version__}", lambda: np.asarray(compiled(placed))


def abtem(slabs: np.ndarray, threads: int) -> tuple[str, Callable[[], np.ndarray]]:
    import abtem

    # Without its taper abTEM's aperture ends where ours does, and the waves can be compared; it costs the same.
    abtem.config.set({"precision": "float32", "fft": "fftw", "fftw.threads": threads, "antialias.taper": 0.0})
    count = len(slabs)
    potential = abtem.PotentialArray(slabs, slice_thickness=[THICKNESS] * count, sampling=(PIXEL_SIZE,) * 2)
    wave = abtem.PlaneWave(energy=VOLTAGE)
    return abtem.__version__, lambda: wave.multislice(potential, lazy=False).array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("slabs")
    parser.add_argument("wave")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    slabs = np.load(options.slabs)
    if options.program == "abtem":
        version, work = abtem(slabs, options.threads)
    elif options.program == "vitreous-jax":
        version, work = vitreous_jax(slabs, options.threads)
    else:
        textbook = options.program == "vitreous-textbook"
        version, work = vitreous(slabs, options.threads, limit_transmission=textbook)
    seconds = []
    for _ in range(options.repeats):
        started = time.perf_counter()
        wave = work()
        seconds.append(time.perf_counter() - started)
    np.save(options.wave, wave)
    print(json.dumps({"version": version, "seconds": seconds}))


if __name__ == "__main__":
    main()
