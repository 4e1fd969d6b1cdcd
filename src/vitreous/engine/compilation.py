"""Keeping what JAX compiles, so that the second run of a command does not wait for the compiler again."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path


def use_persistent_cache() -> None:
    """Tell JAX to keep compiled programs on disk, whatever they cost to compile. Call it before the first computation.

    A folder that the user chose (JAX_COMPILATION_CACHE_DIR, or `jax.config`) stays. Without a folder that can be
    written to, programs are compiled in every run.
    """
    import jax

    if getattr(jax.config, "jax_compilation_cache_dir", None):
        return
    folder = cache_folder() / "xla"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def cache_folder() -> Path:
    """Where the program keeps what it can make again: $XDG_CACHE_HOME/vitreous, or the platform's own place for such
    files.
    """
    chosen = os.environ.get("XDG_CACHE_HOME")
    if chosen and os.path.isabs(chosen):  # a relative one must be ignored, by the specification
        return Path(chosen) / "vitreous"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "vitreous" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "vitreous"
    return Path.home() / ".cache" / "vitreous"
