"""The soft disc that images are masked with."""

from __future__ import annotations

from vitreous.errors import SettingsProblem
from vitreous.model.particles import Particles
from vitreous.reconstruction.direct_inversion import InversionSettings
from vitreous.reconstruction.particle_extent import particle_radius


def disc_radius(diameter: float | None, particles: Particles, settings: InversionSettings) -> float | None:
    """Radius in pixels of the disc that images are masked with: of `--diameter` in angstrom, or measured on a trial map if that is None; None for
    whole images. Raises SettingsProblem for a diameter that the box does not hold."""
    if diameter is None:
        return particle_radius(particles, settings)
    if diameter < 0:
        raise SettingsProblem(f"--diameter {diameter}", "a positive number of angstrom, or 0 for whole images")
    assert particles.images is not None
    largest = particles.images.shape[-1] * particles.pixel_size
    if diameter > largest:
        raise SettingsProblem(
            f"--diameter {diameter:g}", f"at most the box, {largest:.0f} angstrom", "give 0 for whole images"
        )
    return diameter / 2 / particles.pixel_size or None
