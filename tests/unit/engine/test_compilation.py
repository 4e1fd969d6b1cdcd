"""The cache of compiled programs: where it is, that it is filled, and that it never stands in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitreous.engine.compilation import cache_folder

PROGRAM = """
import sys
from vitreous.engine.compilation import use_persistent_cache
assert "jax" not in sys.modules
use_persistent_cache()
import jax
jax.block_until_ready(jax.jit(lambda x: x * 3.0 + 1.0)(2.0))
print(jax.config.jax_compilation_cache_dir)
"""


def run(**variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**kept, **variables}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="XDG is not Windows'")
def test_compiled_programs_are_kept_however_cheap(tmp_path):
    assert run(XDG_CACHE_HOME=str(tmp_path)) == str(tmp_path / "vitreous" / "xla")
    assert any((tmp_path / "vitreous" / "xla").iterdir())


def test_a_chosen_folder_stays_and_an_unwritable_one_is_no_error(tmp_path):
    chosen = tmp_path / "chosen"
    assert run(JAX_COMPILATION_CACHE_DIR=str(chosen)) == str(chosen)
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert run(XDG_CACHE_HOME=str(blocked)) == "None"


def test_relative_cache_home_is_ignored(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert cache_folder().is_absolute() and "somewhere" not in str(cache_folder())
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("/var/tmp").absolute()))
    assert cache_folder() == Path("/var/tmp").absolute() / "vitreous"
