"""Real files of many programs and versions are read as the stored expectations say.

The expectations (`shared/data/metadata/expected.json` and the `_expected.npz` beside two files) were made with other
readers: starfile 0.5.13, numpy, mrcfile 1.5.4, and the conversions that cryoDRGN 4.3.1 keeps as test data.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vitreous.conventions import Contrast
from vitreous.geometry.rotations import matrix_from_euler
from vitreous.io import cryosparc, relion
from vitreous.io.cs_container import read_dataset
from vitreous.io.info import describe
from vitreous.io.mrc import read_data, read_header, read_volume
from vitreous.io.particles import read_particles, write_particles
from vitreous.io.star import read_star, write_star
from vitreous.model.table import Table
from vitreous.units import KILOVOLT, MILLIMETRE

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
METADATA = SHARED / "metadata"
EXPECTED = json.loads((METADATA / "expected.json").read_text()) if (METADATA / "expected.json").exists() else {}
STARS = sorted(name for name in EXPECTED if name.endswith(".star"))
PARTICLES = [name for name in STARS if "particles" in EXPECTED[name]]
MRCS = sorted(name for name in EXPECTED if name.startswith("mrc/"))

pytestmark = pytest.mark.skipif(not EXPECTED, reason="the shared data folder is absent")


def test_every_file_of_the_folder_is_expected():
    """No file is left out of the tests below. (Names in the folder differ from those in the list by the case of two
    letters.)"""
    found = {
        str(path.relative_to(METADATA)).lower()
        for path in METADATA.rglob("*")
        if path.suffix in (".star", ".cs", ".map", ".gz", ".bz2")
    }
    assert found == {name.lower() for name in EXPECTED}


# ---- STAR
# -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STARS)
def test_blocks(name):
    star, expected = read_star(METADATA / name), EXPECTED[name]
    found = [
        {"name": block, "kind": "loop", "rows": len(content), "columns": len(content.names)}
        if isinstance(content, Table)
        else {"name": block, "kind": "pairs", "entries": len(content)}
        for block, content in star.items()
    ]
    assert found[: len(expected["blocks"])] == expected["blocks"]
    assert len(found) == expected.get("blocks_count", len(expected["blocks"]))
    for block, values in expected.get("values", {}).items():
        if "columns" in values:
            table = star[block]
            assert isinstance(table, Table)
            assert ["_" + column for column in table] == values["columns"]
            for column, texts in zip(table, zip(*values["rows"]) if values["rows"] else [()] * len(table.names)):
                numeric = table[column].dtype.kind in "if"
                assert table[column].tolist() == ([float(text) for text in texts] if numeric else list(texts))
        else:
            assert {"_" + key: value for key, value in star[block].items()} == values


@pytest.mark.parametrize("name", STARS)
def test_nothing_is_lost_by_writing(tmp_path, name):
    star = read_star(METADATA / name)
    write_star(tmp_path / "copy.star", star)
    copy = read_star(tmp_path / "copy.star")
    assert list(copy) == list(star)
    for block, content in star.items():
        if not isinstance(content, Table):
            assert copy[block] == content
            continue
        assert copy[block].names == content.names
        for column in content:
            before, after = content[column], copy[block][column]
            assert before.dtype == after.dtype and np.array_equal(before, after, equal_nan=before.dtype.kind == "f"), (
                block,
                column,
            )


def close(found, expected, decimals: int = 6):
    """The stored values are rounded to this many decimals."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.6 * 10.0**-decimals)


@pytest.mark.parametrize("name", PARTICLES)
def test_particles(name):
    particles, expected = relion.read_particles(METADATA / name, load_images=False), EXPECTED[name]["particles"]
    assert len(particles) == expected["rows"]
    assert (particles.names.index[0] + 1, particles.names.paths[particles.names.path_code[0]]) == tuple(
        expected["first_image"].values()
    )
    if "first_pose_rot_tilt_psi_deg" in expected:
        assert particles.pose is not None
        close(np.rad2deg(particles.pose.euler[0]), expected["first_pose_rot_tilt_psi_deg"])
        close(np.rad2deg(particles.pose.euler[-1]), expected["last_pose_rot_tilt_psi_deg"])
        close(particles.pose.shift[0], expected.get("first_origin_A", (0, 0)))
    else:
        assert particles.pose is None
    if "first_defocus_U_V_A_angle_deg" in expected:
        ctf = particles.ctf
        assert ctf is not None
        for row, key in ((0, "first"), (-1, "last")):
            close(
                (ctf.defocus_u[row], ctf.defocus_v[row], np.rad2deg(ctf.defocus_angle[row])),
                expected[f"{key}_defocus_U_V_A_angle_deg"],
            )
        assert np.isfinite(ctf.phase_shift).all()
    if "half_sets" in expected:
        found, counts = np.unique(particles.half_set, return_counts=True)
        assert {str(half): count for half, count in zip(found, counts)} == expected["half_sets"]
    if "distinct_rlnClassNumber" in expected:
        assert len(np.unique(particles.table["rlnClassNumber"])) == expected["distinct_rlnClassNumber"]
    if "distinct_rlnMicrographName" in expected:
        assert len(set(particles.table["rlnMicrographName"])) == expected["distinct_rlnMicrographName"]
    close(
        (particles.table["rlnCoordinateX"][-1], particles.table["rlnCoordinateY"][-1]), expected["last_coordinate_px"]
    )


@pytest.mark.parametrize("name", PARTICLES)
def test_optics_groups(name):
    particles, expected = relion.read_particles(METADATA / name, load_images=False), EXPECTED[name]["particles"]
    if expected["optics_groups"]:
        found = [
            {
                "group": group.extra["rlnOpticsGroup"],
                "pixel_size_A": group.pixel_size,
                "box": group.box,
                "kV": group.voltage / KILOVOLT,
                "Cs_mm": round(group.spherical_aberration / MILLIMETRE, 9),
                "amplitude_contrast": group.amplitude_contrast,
            }
            for group in particles.optics
        ]
        assert found == expected["optics"]
    else:
        group = particles.optics[particles.optics_index[0]]
        assert group.pixel_size == (
            None if expected["pixel_size_A"] is None else pytest.approx(expected["pixel_size_A"], rel=1e-12)
        )
        assert group.voltage == (None if expected["kV"] is None else expected["kV"] * KILOVOLT)
        assert group.spherical_aberration == (
            None if expected["Cs_mm"] is None else pytest.approx(expected["Cs_mm"] * MILLIMETRE)
        )
        assert group.amplitude_contrast == expected["amplitude_contrast"]
    if "rows_per_optics_group" in expected:
        numbers = [particles.optics[index].extra["rlnOpticsGroup"] for index in particles.optics_index]
        assert {str(number): numbers.count(number) for number in sorted(set(numbers))} == expected[
            "rows_per_optics_group"
        ]


def test_an_old_file_as_another_program_converted_it():
    """Rotations, shifts (pixels to angstrom, with their sign), CTF and pixel size of RELION 3.0 rows."""
    particles = relion.read_particles(
        METADATA / "relion30/FinalRefinement-OriginalParticles-PfCRT.star", load_images=False
    )
    assert_as_converted(
        particles, METADATA / "relion30/FinalRefinement-OriginalParticles-PfCRT_expected.npz", amplitude_contrast=None
    )


# ---- .cs
# ------------------------------------------------------------------------------------------------------------------


def assert_as_converted(particles, path: Path, amplitude_contrast: float | None) -> None:
    expected = np.load(path)
    box, ctf = int(np.ravel(expected["box"])[0]), dict(zip(expected["ctf_columns"].tolist(), expected["ctf"].T))
    matrix = np.asarray(matrix_from_euler(particles.pose.euler))
    # single precision in the stored values: 1e-6 is 16 roundings of a matrix element; the transpose is far away
    np.testing.assert_allclose(matrix, expected["rotation"], atol=1e-6)
    assert np.abs(np.swapaxes(matrix, 1, 2) - expected["rotation"]).max() > 0.1
    fraction = particles.pose.shift / particles.pixel_size / box
    np.testing.assert_allclose(fraction, expected["shift_fraction_of_box"], atol=1e-7)
    assert np.abs(-fraction - expected["shift_fraction_of_box"]).max() > 1e-4
    group = particles.optics[0]
    single = {"rtol": 2e-7}  # two roundings in single precision
    np.testing.assert_allclose(particles.ctf.defocus_u, ctf["defocusU_A"], **single)
    np.testing.assert_allclose(particles.ctf.defocus_v, ctf["defocusV_A"], **single)
    np.testing.assert_allclose(np.rad2deg(particles.ctf.defocus_angle), ctf["defocus_angle_deg"], rtol=4e-7)
    np.testing.assert_allclose(np.rad2deg(particles.ctf.phase_shift), ctf["phase_shift_deg"], atol=1e-6)
    np.testing.assert_allclose(group.pixel_size, ctf["pixel_size_A"], **single)
    np.testing.assert_allclose(group.voltage / KILOVOLT, ctf["kV"], **single)
    np.testing.assert_allclose(group.spherical_aberration / MILLIMETRE, ctf["Cs_mm"], **single)
    if amplitude_contrast is None:
        assert group.amplitude_contrast is None
    else:
        np.testing.assert_allclose(group.amplitude_contrast, ctf["amplitude_contrast"], **single)


def test_cs_as_another_program_converted_it():
    particles = read_particles(METADATA / "cs/particles_3d.cs", load_images=False)
    assert_as_converted(particles, METADATA / "cs/particles_3d_expected.npz", amplitude_contrast=0.07)
    assert np.bincount(particles.half_set)[1:].tolist() == list(
        EXPECTED["cs/particles_3d.cs"]["alignments3D/split counts"].values()
    )


@pytest.mark.parametrize("name", ["cs/particles_2d.cs", "cs/particles_3d.cs"])
def test_cs_facts(name):
    expected = EXPECTED[name]
    table, particles = read_dataset(METADATA / name), cryosparc.read_particles(METADATA / name, load_images=False)
    group = particles.optics[0]
    assert (len(table), len(table.names), len(particles.optics)) == (
        expected["rows"],
        expected["fields"],
        expected["exposure_groups"],
    )
    assert particles.names.paths[particles.names.path_code[0]] == expected["blob_path"]
    assert particles.names.index[0] == expected["blob_idx_0based"]
    assert (group.box, group.box) == tuple(expected["box"])
    # single precision in the file
    assert group.pixel_size == pytest.approx(expected["pixel_size_A"], rel=1e-7)
    assert group.voltage == expected["kV"] * KILOVOLT and group.spherical_aberration == pytest.approx(
        expected["Cs_mm"] * MILLIMETRE, rel=1e-7
    )
    assert group.amplitude_contrast == pytest.approx(expected["amplitude_contrast"], rel=1e-7)
    assert particles.contrast is Contrast.RAW and expected["sign"] == -1
    ctf = particles.ctf
    assert ctf is not None
    assert [ctf.defocus_u[0], ctf.defocus_v[0], ctf.defocus_angle[0]] == expected["first_df1_df2_A_angle_rad"]
    for key in ("alignments2D", "alignments3D"):
        if f"first {key}/pose" in expected:
            assert np.asarray(table[f"{key}/pose"][0]).tolist() == expected[f"first {key}/pose"]
            assert particles.pose is not None
            np.testing.assert_allclose(
                particles.pose.shift[0] / group.pixel_size, expected[f"first {key}/shift"], rtol=2e-7
            )
    if "classes 2D" in expected:
        found = np.bincount(table["alignments2D/class"])
        assert {str(number): count for number, count in enumerate(found)} == expected["classes 2D"]


# ---- there and back
# -------------------------------------------------------------------------------------------------------


def image_paths(particles) -> list[str]:
    """The stack of each particle, without cryoSPARC's mark '>', which a STAR file does not keep."""
    return [particles.names.paths[code].removeprefix(">") for code in particles.names.path_code]


def assert_same_particles(before, after) -> None:
    """Same images, orientations, shifts, CTF, half sets and optics, to the single precision of a .cs file."""
    assert np.array_equal(before.names.index, after.names.index)
    assert image_paths(before) == image_paths(after)
    if before.pose is None:
        assert after.pose is None
    else:
        rotations = [np.asarray(matrix_from_euler(particles.pose.euler)) for particles in (before, after)]
        np.testing.assert_allclose(*rotations, atol=1e-6)
        np.testing.assert_allclose(before.pose.shift, after.pose.shift, rtol=2e-7, atol=1e-5)
    for field in ("defocus_u", "defocus_v", "defocus_angle", "phase_shift", "b_factor", "scale"):
        np.testing.assert_allclose(getattr(before.ctf, field), getattr(after.ctf, field), rtol=2e-7, atol=1e-9)
    assert (before.half_set is None) == (after.half_set is None)
    assert before.half_set is None or np.array_equal(before.half_set, after.half_set)
    assert before.contrast == after.contrast
    for left, right in zip(
        [before.optics[i] for i in before.optics_index], [after.optics[i] for i in after.optics_index]
    ):
        for field in (
            "pixel_size",
            "voltage",
            "spherical_aberration",
            "amplitude_contrast",
            "beam_tilt",
            "odd_zernike",
            "even_zernike",
            "magnification",
        ):
            a, b = getattr(left, field), getattr(right, field)
            assert (a is None) == (b is None) and (a is None or np.allclose(a, b, rtol=2e-7, atol=0)), field
        assert (left.name, left.box, left.ctf_state) == (right.name, right.box, right.ctf_state)


ROUND_TRIPS = [
    "relion1x/ap_s_c2d_red.star",
    "relion30/single_block_named_model_class_1.star",
    "relion31/six_optics_groups.star",
    "relion31/optics_after_particles.star",
    "relion4/refine3d_run_it016_data_mics21-25.star",
    "relion5/relion5.star",
    "cs/particles_3d.cs",
    "cs/particles_2d.cs",
]


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_star_and_cs_there_and_back(tmp_path, name):
    original = read_particles(METADATA / name, load_images=False)
    write_particles(tmp_path / "one.cs", original)
    one = read_particles(tmp_path / "one.cs", load_images=False)
    write_particles(tmp_path / "two.star", one)
    two = read_particles(tmp_path / "two.star", load_images=False)
    cryosparc.write_particles(tmp_path / "three.cs", two, container="csdat")
    three = read_particles(tmp_path / "three.cs", load_images=False)
    for copy in (one, two, three):
        assert_same_particles(original, copy)
    assert len(np.unique(one.table["uid"])) == len(original)
    if name.endswith(".cs"):
        assert np.array_equal(original.table["uid"], three.table["uid"])
        for column in original.table:
            before, after = np.asarray(original.table[column]), np.asarray(three.table[column])
            assert before.dtype == after.dtype, column
            # these are compared as names, rotations and lengths above
            if column not in ("blob/path", "alignments3D/pose", "alignments3D/shift"):
                assert np.array_equal(before, after), column


@pytest.mark.parametrize("name", ["relion31/six_optics_groups.star", "relion5/relion5.star"])
def test_columns_that_only_star_knows_come_back_from_cs(tmp_path, name):
    original = read_particles(METADATA / name, load_images=False)
    write_particles(tmp_path / "one.cs", original)
    write_particles(tmp_path / "two.star", read_particles(tmp_path / "one.cs", load_images=False))
    two = read_star(tmp_path / "two.star")["particles"]
    kept = [column for column in original.table if column not in relion.TYPED_COLUMNS]
    assert len(kept) >= 8
    for column in kept:
        assert np.array_equal(np.asarray(original.table[column]), np.asarray(two[column])), column


@pytest.mark.parametrize("name", PARTICLES)
def test_star_is_rewritten_with_its_own_digits(tmp_path, name):
    """Columns of 3.1 and later come back bit for bit; older ones are upgraded and nothing stale is left."""
    original = relion.read_particles(METADATA / name, load_images=False)
    relion.write_particles(tmp_path / "copy.star", original)
    star = read_star(tmp_path / "copy.star")
    assert list(star)[:2] == ["optics", "particles"] and set(original.blocks) <= set(star)
    table = star["particles"]
    stale = {
        "rlnOriginX",
        "rlnOriginY",
        "rlnVoltage",
        "rlnSphericalAberration",
        "rlnAmplitudeContrast",
        "rlnMagnification",
        "rlnDetectorPixelSize",
    }
    assert isinstance(table, Table) and not stale & set(table.names)
    for column in set(original.table.names) - stale:
        assert np.array_equal(original.table[column], table[column]), column
    copy = relion.read_particles(tmp_path / "copy.star", load_images=False)
    assert np.array_equal(original.optics_index, copy.optics_index)
    for before, after in zip(original.optics, copy.optics):
        assert (before.name, before.box, before.ctf_state, before.odd_zernike) == (
            after.name,
            after.box,
            after.ctf_state,
            after.odd_zernike,
        )
        assert before.voltage == after.voltage
        # written with 12 significant digits
        assert after.pixel_size == (None if before.pixel_size is None else pytest.approx(before.pixel_size, rel=1e-11))


# ---- MRC
# ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MRCS)
def test_mrc(name):
    path = next(path for path in (METADATA / "mrc").iterdir() if path.name.lower() == Path(name).name.lower())
    header, expected = read_header(path), EXPECTED[name]
    data = np.asarray(read_data(header), dtype=np.float64)
    shape = expected["shape_zyx"]
    assert list(header.shape) == [1] * (3 - len(shape)) + shape
    assert (header.mode, header.space_group, header.extended_bytes, header.extended_type) == tuple(
        expected[k] for k in ("mode", "ispg", "nsymbt", "exttyp")
    )
    np.testing.assert_allclose(header.pixel_size, expected["voxel_size_A_xyz"], atol=1e-6)
    assert list(header.axes) == expected["mapc_mapr_maps"] and list(header.start) == expected["nstart_xyz"]
    close([data.mean(), data.std()], [expected["mean"], expected["std"]])
    assert data.ravel()[0] == expected["first_value"]
    assert describe(path)["mean"] == pytest.approx(expected["mean"], abs=1e-6)


def test_emdb_volume():
    volume = read_volume(METADATA / "mrc/EMD-3197.map")
    assert volume.box == 20 and volume.pixel_size == pytest.approx(11.4, rel=1e-6)


# ---- images
# ---------------------------------------------------------------------------------------------------------------


def test_real_stacks_as_described():
    """2374 float16 particles in ten stacks, normalised to the border: mean 0.01 and standard deviation 1.00 there."""
    path = SHARED / "betagal" / "particles.star"
    if not path.exists():
        pytest.skip("the beta-galactosidase particles are absent")
    particles = read_particles(path)
    assert particles.images is not None and particles.images.shape == (2374, 64, 64)
    images = particles.images.read(slice(None))
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    # the edge rows are a part of the border region that RELION normalises on
    assert abs(border.mean() - 0.01) < 0.03 and abs(border.std() - 1) < 0.05
    order = np.random.default_rng(0).permutation(len(particles))
    assert np.array_equal(particles.rows(order).images.read(slice(0, 50)), images[order[:50]])
    assert particles.images.pixel_size == pytest.approx(particles.pixel_size, rel=1e-3)
