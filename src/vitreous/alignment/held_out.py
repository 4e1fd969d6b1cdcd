"""Evidence from images that had no part in the map: does the map of one half set explain the images of the other?

For an image x of noise alone, and any map that x had no part in, the likelihood ratio of "this map, in some pose" to "noise",

    Z(x) = sum_poses prior(pose) p(x | map, pose) / p(x | noise),

has the mean 1, because p(x | map, pose) is a distribution of x. So E[ln Z] <= 0 by Jensen's inequality: a map never explains noise, however it was made. A mean
ln Z that is clearly above 0 comes from signal that both half sets have. The poses are searched anew from the start: poses that were found with the image itself would be
a choice made with its noise.

Noise aligned to a map averages to that map (Henderson 2013, doi:10.1073/pnas.1314449110), and half maps of it, that began with one reference, can agree
beyond the resolution that this was filtered to: the correlation cannot tell, this can.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vitreous.alignment.assignment import unassigned
from vitreous.alignment.refine3d import micrographs_of, refine3d
from vitreous.alignment.refinement import Refinement, RefineSettings
from vitreous.engine.local import Progress, silent
from vitreous.engine.workers import Workers
from vitreous.model.particles import Particles

IMAGES = 600  # evenly spread; the mean over as many is known to a few per cent of the spread
BAND = 15.0  # angstrom: signal that a particle has shows at this resolution, and coarse searches are quick
SEARCH_ORDER = 4  # of the finest search
SURE = 3.0  # standard errors


@dataclass(frozen=True)
class HeldOutEvidence:
    """`mean` log evidence in nat of `count` images against the map of the other half set, and the standard error of that mean."""

    mean: float
    error: float
    count: int

    @property
    def shows_signal(self) -> bool:
        """Whether the images have something that the other half's map has too: a mean above 0 by three standard errors."""
        return self.mean > SURE * self.error


def held_out_evidence(
    particles: Particles,
    state: Refinement,
    settings: RefineSettings,
    *,
    workers: Workers | None = None,
    progress: Progress = silent,
) -> HeldOutEvidence:
    """The evidence of up to 600 of the particles, in new global searches against the maps of the half sets that they are not in.

    `particles` and `state` are those of a refinement with independent half sets. One expectation step for these few images.
    """
    count = len(particles)
    rows = np.unique(np.linspace(0, count - 1, min(IMAGES, count)).round().astype(int))
    few = particles.rows(rows)
    known = np.unique(micrographs_of(particles)[rows])
    fresh = replace(unassigned(len(rows), few.pose), norm=state.assignment.norm[rows])
    start = replace(
        state,
        iteration=0,
        references=state.references[::-1],
        assignment=fresh,
        half_set=state.half_set[rows],
        scale=state.scale[known],
        steps=(),
        converged=False,
    )
    coarse = replace(
        settings,
        iterations=1,
        local=False,
        finest=max(BAND, settings.finest or 0.0),
        order=min(settings.order, SEARCH_ORDER),
        finest_order=min(settings.finest_order, SEARCH_ORDER),
    )
    few = replace(few, half_set=state.half_set[rows])
    result = refine3d(few, start.references[0], coarse, state=start, workers=workers, progress=progress)
    evidence = result.assignment.log_evidence
    return HeldOutEvidence(float(evidence.mean()), float(evidence.std() / np.sqrt(len(rows))), len(rows))
