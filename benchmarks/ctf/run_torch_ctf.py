"""torch-ctf-estimation on some images, by the Python that has it: what was found of each, and its seconds, as JSON.

    python run_torch_ctf.py --pixel-size 1 --voltage-kv 300 --cs-mm 2.7 --amplitude-contrast 0.1 --out found.json
                            [--tilt] [--thickness] IMAGE.mrc ...

Its functions `estimate_ctf` and `estimate_ctf_and_thickness` with the settings below. In its model the defocus goes from the mean plus to the mean
minus `astigmatism`, which is therefore half of u - v, while its `defocus_u` and `defocus_v` are only half as far apart; here they are what
its model means. Its angle is from +x towards +y. Its tilt axis angle is the direction of the gradient, from +y towards +x, without a side.
The thickness is refined in one dimension: in two ("2d", its default) version 0.6.0 answered 1 A for every micrograph tried.
"""

import argparse
import json
import time
from pathlib import Path

STARTED = time.perf_counter()
import mrcfile  # noqa: E402 - imports are part of what is timed
import torch  # noqa: E402
import torch_ctf_estimation as peer  # noqa: E402
from torch_ctf_estimation.estimate_ctf_2d.estimate_background_2d import estimate_background_2d  # noqa: E402


def found_of(image: Path, options: argparse.Namespace) -> dict[str, float]:
    with mrcfile.open(image, permissive=True) as mrc:
        pixels = torch.from_numpy(mrc.data.astype("float32"))
    optics = peer.OpticalParams(
        pixel_spacing_angstroms=options.pixel_size,
        voltage_kev=options.voltage_kv,
        spherical_aberration_mm=options.cs_mm,
        amplitude_contrast_fraction=options.amplitude_contrast,
        target_pixel_spacing_angstroms=options.spacing,
    )
    settings = {"frequency_fit_range_angstroms": tuple(options.resolution), "patch_sidelength": options.box}
    if options.tilt:
        settings |= {"defocus_model": "linear", "use_1d_defocus_for_spatial": True}
    fitting = peer.CTFFittingParams(
        defocus_grid_resolution=(1, 1, 1), defocus_range_microns=tuple(options.defocus_um), **settings
    )
    more: dict[str, float] = {}
    if options.thickness:
        thickness = peer.ThicknessParams(refine_dim="1d", use_equiphase=True)
        result = peer.estimate_ctf_and_thickness(pixels, optics, fitting, thickness)
        found, joint = result.result2d, result.thickness_joint
        more["thickness"] = float(joint.thickness_angstroms)
    else:
        _, _, found = peer.estimate_ctf(pixels, optics, fitting)
    if options.tilt:
        # its gradient points `angle` from +y towards +x, ours of the axis goes from +x towards +y: the axis lies across
        more |= {"tilt_deg": float(found.tilt_magnitude_deg), "tilt_axis_deg": -float(found.tilt_axis_angle_deg)}
    return {**ends_of(found), **more}


def found_of_spectrum(path: Path, options: argparse.Namespace) -> dict[str, float]:
    """Of a stored amplitude spectrum [y, x] with the origin in its middle: the same steps, by the package's functions for spectra."""
    with mrcfile.open(path, permissive=True) as mrc:
        amplitude = torch.from_numpy(mrc.data.astype("float32"))
    side = amplitude.shape[-1]
    power = torch.fft.ifftshift(amplitude)[:, : side // 2 + 1] ** 2
    power[0, 0] = power[0, 1]
    shared = {
        "frequency_fit_range_angstroms": tuple(options.resolution),
        "pixel_spacing_angstroms": options.pixel_size,
        "voltage_kev": options.voltage_kv,
        "spherical_aberration_mm": options.cs_mm,
    }
    first = peer.estimate_ctf_1d(
        power,
        image_sidelength=side,
        defocus_range_microns=tuple(options.defocus_um),
        amplitude_contrast=options.amplitude_contrast,
        **shared,
    ).ctf_model
    found = peer.estimate_ctf_2d(
        (power - estimate_background_2d(power, side))[None, None, None],
        torch.full((1, 1, 1, 3), 0.5),
        defocus_grid_resolution=(1, 1, 1),
        initial_defocus=float(first.defocus_um),
        initial_envelope_B=float(first.envelope_B),
        optimize_astigmatism=True,
        amplitude_contrast_fraction=options.amplitude_contrast,
        defocus_bounds_microns=tuple(options.defocus_um),
        **shared,
    )
    return ends_of(found)


def ends_of(found: peer.Defocus2DResults) -> dict[str, float]:
    """Largest and smallest defocus in angstrom as its model means them, and the direction of the larger."""
    mean, half = (found.defocus_u + found.defocus_v) / 2 * 1e4, found.astigmatism * 1e4
    ends = {"defocus_u": mean + half, "defocus_v": mean - half, "angle_deg": found.astigmatism_angle}
    return {name: float(value) for name, value in ends.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pixel-size", "voltage-kv", "cs-mm", "amplitude-contrast"):
        parser.add_argument(f"--{name}", type=float, required=True)
    parser.add_argument("--resolution", type=float, nargs=2, default=(30.0, 5.0))
    parser.add_argument("--defocus-um", type=float, nargs=2, default=(0.2, 8.0))
    parser.add_argument("--box", type=int, default=256)
    parser.add_argument("--spacing", type=float, default=3.0)
    parser.add_argument("--tilt", action="store_true")
    parser.add_argument("--thickness", action="store_true")
    parser.add_argument("--spectra", action="store_true", help="the files are stored amplitude spectra")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("images", nargs="+", type=Path)
    options = parser.parse_args()
    answer = {"version": peer.__version__, "start_up_seconds": time.perf_counter() - STARTED, "images": {}}
    for image in options.images:
        started = time.perf_counter()
        try:
            found = found_of_spectrum(image, options) if options.spectra else found_of(image, options)
        except Exception as problem:  # one image it cannot do must not end the others
            found = {"failed": f"{type(problem).__name__}: {problem}"}
        answer["images"][str(image)] = {**found, "seconds": time.perf_counter() - started}
    options.out.write_text(json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    main()
