"""The benchmarks measure what they say: costs of processes, data that they make, agreement with the truth."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitreous.conventions import Contrast
from vitreous.io.mrc_stack import write_stack, write_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.model.optics import CtfParameters, OpticsGroup
from vitreous.model.particles import ImageName, Particles
from vitreous.model.pose import Pose
from vitreous.model.volume import Volume

BENCHMARKS = str(Path(__file__).resolve().parents[2] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
try:
    import betagal
    import memory
    import programs
    import reconstruct
    from measure import MIB, CommandFailed, Contender, Cost, Run, compare, environment, measure
finally:
    sys.path.remove(BENCHMARKS)

BUSY = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_waiting_costs_wall_time_and_working_costs_cpu_time(tmp_path):
    waiting = measure(python("import time; time.sleep(0.3)"), tmp_path, tmp_path / "log")
    working = measure(python(BUSY), tmp_path, tmp_path / "log")
    assert waiting.wall_seconds >= 0.3 > 0.2 > waiting.cpu_seconds  # an interpreter starts in some 0.02 s
    assert working.cpu_seconds >= 0.29  # the clock of the accounting ticks in hundredths of a second


def test_the_work_of_children_counts(tmp_path):
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}], check=True)"
    assert measure(python(code), tmp_path, tmp_path / "log").cpu_seconds >= 0.29


def test_peak_memory_is_the_commands_and_not_ours(tmp_path):
    ours = np.ones(256 * MIB, dtype=np.uint8)  # a process started from here directly would be said to need this, too
    small = measure(python("pass"), tmp_path, tmp_path / "log").peak_bytes
    large = measure(python(f"b = bytearray(b'1') * (100 * {MIB})"), tmp_path, tmp_path / "log").peak_bytes
    assert small < 64 * MIB < ours.nbytes
    assert large - small == pytest.approx(100 * MIB, abs=2 * MIB)  # what the allocator adds


def test_a_command_that_fails_ends_the_benchmark_with_its_last_words(tmp_path):
    with pytest.raises(CommandFailed, match=r"ended with 3.*no such particle"):
        measure(python("import sys; print('no such particle'); sys.exit(3)"), tmp_path, tmp_path / "log")


def test_programs_run_in_turn_after_one_untimed_run_each(tmp_path):
    def says(letter: str) -> list[str]:
        return python(f"open('order', 'a').write({letter!r})")

    slow = Contender("slow", says("B"), warm_up=says("w"), repeats=1)
    costs = compare([Contender("fast", says("A")), slow], tmp_path, repeats=3)
    assert (tmp_path / "order").read_text() == "Aw" + "AB" + "A" + "A"
    assert [len(cost.runs) for cost in costs] == [3, 1]


def test_every_program_may_keep_its_byte_code(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert "PYTHONDONTWRITEBYTECODE" not in environment()
    assert environment()["OMP_NUM_THREADS"] == "2"


def test_ratios_and_spreads():
    ours = Cost("ours", [Run(1.0, 2.0, 100), Run(3.0, 2.0, 100), Run(1.5, 2.0, 100)])
    peer = Cost("peer", [Run(6.0, 3.0, 50)])
    assert ours.spread("wall_seconds", digits=1) == "1.5 (1.0-3.0)"
    assert peer.spread("wall_seconds", digits=1) == "6.0"
    assert reconstruct.ratios(ours, peer) == {"wall_seconds": 4.0, "cpu_seconds": 1.5, "peak_bytes": 0.5}


def test_a_peer_that_is_not_installed_is_left_out_and_the_line_says_how_to_get_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "PEERS", tmp_path)
    assert programs.relion_reconstruct() is None
    assert programs.cryodrgn() is None
    relion, drgn = capsys.readouterr().out.splitlines()
    assert "apt-get install --no-install-recommends relion" in relion
    assert "torch==2.13.0 cryodrgn==4.3.1" in drgn


@pytest.fixture
def truth(tmp_path) -> np.ndarray:
    """A map without symmetry, written as truth_map.mrc."""
    data = np.random.default_rng(0).standard_normal((16, 16, 16)).astype(np.float32)
    write_volume(tmp_path / "truth_map.mrc", Volume(data, 2.0))
    return data


@pytest.mark.parametrize(
    ("change", "fsc", "mirrored"),
    [
        (lambda data: 7 * data, 1, False),
        (lambda data: -data, -1, False),
        (lambda data: np.roll(data[::-1], 1, axis=0), 1, True),
    ],
)
def test_quality_ignores_scale_and_finds_hand_and_contrast(truth, tmp_path, change, fsc, mirrored):
    write_volume(tmp_path / "map.mrc", Volume(change(truth), 2.0))
    found = reconstruct.quality(tmp_path / "map.mrc", tmp_path / "truth_map.mrc", [16.0, 5.0])
    assert found.mirrored is mirrored
    assert list(found.fsc.values()) == pytest.approx([fsc, fsc], abs=1e-5)  # float32 transforms


@pytest.fixture
def particles(tmp_path) -> Particles:
    """Three particles with images, as particles.star."""
    rng = np.random.default_rng(1)
    optics = OpticsGroup(pixel_size=2.0, box=8, voltage=300e3, spherical_aberration=2.7e7, amplitude_contrast=0.1)
    names = ImageName(np.arange(3), np.zeros(3, dtype=np.int32), ("particles.mrcs",))
    pose = Pose(np.zeros((3, 3)), np.arange(6.0).reshape(3, 2))
    ctf = CtfParameters.of(np.array([8e3, 9e3, 1e4]), np.array([7e3, 8e3, 9e3]), np.zeros(3))
    write_stack(tmp_path / "particles.mrcs", rng.standard_normal((3, 8, 8)), 2.0)
    made = Particles(names, (optics,), np.zeros(3, dtype=int), pose, ctf, np.array([1, 2, 1]), Contrast.INVERTED)
    write_particles(tmp_path / "particles.star", made)
    return read_particles(tmp_path / "particles.star")


def test_repeated_particles_are_the_same_images_in_stacks_of_other_names(particles, tmp_path):
    memory.repeated(tmp_path / "particles.star", 7, tmp_path / "many.star")
    many = read_particles(tmp_path / "many.star")
    rows = np.arange(7) % 3
    assert len(many.names.paths) == 3
    np.testing.assert_array_equal(many.images.read(slice(None)), particles.images.read(rows))
    np.testing.assert_array_equal(many.pose.shift, particles.pose.shift[rows])


def test_wrong_ctfs_are_joined_by_image_name(particles):
    others = replace(particles, ctf=replace(particles.ctf, defocus_u=particles.ctf.defocus_u + 2e4))
    joined = betagal.with_ctf_of(particles, others.rows(np.array([2, 0, 1])))
    np.testing.assert_array_equal(joined.ctf.defocus_u, others.ctf.defocus_u)
    np.testing.assert_array_equal(joined.pose.shift, particles.pose.shift)


def test_an_image_without_a_wrong_ctf_is_refused(particles):
    with pytest.raises(SystemExit, match="1 particles"):
        betagal.with_ctf_of(particles, particles.rows(slice(1, None)))


def test_a_size_is_written_as_count_times_box():
    size = reconstruct.Size.parse("2000x64")
    assert (size.count, size.box) == (2000, 64)
    assert size.pixel_size * 64 == pytest.approx(reconstruct.WIDTH, abs=0.01)  # a pixel size of four digits
