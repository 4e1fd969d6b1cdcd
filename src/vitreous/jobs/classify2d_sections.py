"""The report of a 2D classification: the classes from best to worst, how it went, how sure it is, what the scores are made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitreous.alignment.classification import Classification, ClassifySettings
from vitreous.jobs.classify2d_gallery import class_gallery, resolution_text
from vitreous.jobs.classify2d_quality import PARTS
from vitreous.jobs.classify2d_tables import Classes
from vitreous.jobs.curves import Points, Series, Threshold, histogram, line_plot, scatter_plot
from vitreous.jobs.job import Finding, Outcome
from vitreous.jobs.report import Figure, Section, Source, Table
from vitreous.units import DEGREE

SETTLED = 0.1  # of the particles: more than that changing class in the last iteration is worth a warning
AT_EDGE = 0.1  # of the particles with origins at the edge of the range: the same
HEADLINE = ("particles", "classes_used", "finest_resolution_angstrom", "changed")
CERTAINTY = ("probability", "alternatives", "log_evidence", "pruning_loss")
SOURCES = (
    Source("Sigworth 1998, maximum-likelihood refinement", "10.1006/jsbi.1998.4014"),
    Source("Scheres et al. 2005, maximum-likelihood multi-reference refinement", "10.1016/j.jmb.2005.02.031"),
    Source("Scheres 2012, a Bayesian view, regularisation by the power of the signal", "10.1016/j.jmb.2011.11.010"),
)


def classification_findings(state: Classification, classes: Classes, settings: ClassifySettings) -> list[Finding]:
    """Every number of a classification that is printed."""
    assignment, used = state.assignment, classes.quality.count > 0
    finest = classes.resolution[used].min() if used.any() else np.inf
    share = classes.share[used]
    effective = float(np.exp(-(share * np.log(share)).sum())) if used.any() else 0.0
    lost = float(state.pruning_loss)
    return [
        Finding("particles", "particles", len(assignment), "", "Images that were classified."),
        Finding(
            "classes_used", "classes used", int(used.sum()), "", f"Of {settings.classes}; the others became empty."
        ),
        Finding(
            "finest_resolution_angstrom",
            "finest class",
            float(finest) if np.isfinite(finest) else None,
            "Å",
            "Where the signal of the finest average falls to its noise.",
        ),
        Finding(
            "effective_classes",
            "effective classes",
            effective,
            "",
            "Classes of equal size that would spread the particles as much.",
            1,
        ),
        Finding(
            "changed",
            "changed class at last",
            100 * float(state.changed[-1]) if len(state.changed) else None,
            "%",
            "Particles whose class the last iteration changed: few when it has settled.",
            1,
        ),
        Finding(
            "probability",
            "mean largest probability",
            float(assignment.probability.mean()),
            "",
            "Of one class, angle and origin together: 1 means that no other is possible.",
        ),
        Finding(
            "alternatives",
            "median alternatives",
            float(np.exp(np.median(assignment.entropy))),
            "",
            "exp(entropy): so many classes, angles and origins are in play for a particle.",
            1,
        ),
        Finding(
            "log_evidence",
            "mean log evidence",
            float(assignment.log_evidence.mean()),
            "nat",
            "How much better a particle is explained by the classes than by noise.",
        ),
        Finding(
            "pruning_loss",
            "loss by pruning",
            lost if np.isfinite(lost) else None,
            "nat",
            "Log evidence of a particle with all alternatives at full band, minus that of the coarse-to-fine search; measured on some particles."
            if np.isfinite(lost)
            else "Not measured: nothing was pruned.",
            4,
        ),
        Finding("diameter_angstrom", "mask", settings.diameter, "Å", "Diameter of the circular mask.", 0),
        Finding("psi_step_deg", "angular step", settings.psi_step / DEGREE, "°", "Of in-plane angles.", 1),
        Finding("shift_range_angstrom", "range of origins", settings.shift_range, "Å", "To each side.", 1),
        Finding("shift_step_angstrom", "step of origins", settings.shift_step, "Å", "The finest.", 2),
    ]


def classification_warnings(state: Classification, classes: Classes, settings: ClassifySettings) -> list[str]:
    """What must not be overlooked, a sentence each."""
    warnings = []
    changed = float(state.changed[-1]) if len(state.changed) else 0.0
    if changed > SETTLED:
        warnings.append(
            f"{changed:.0%} of the particles changed class in the last iteration: it has not settled. Give more --iterations, or fewer --classes."
        )
    at_edge = edge_share(state, settings)
    if at_edge > AT_EDGE:
        warnings.append(
            f"{at_edge:.0%} of the origins lie at the edge of the range: give a larger --shift-range, or centre the picks."
        )
    fallen = settings.exact and settings.batch is None and (np.diff(state.log_likelihood) < 0).any()
    if fallen and len(state.log_likelihood) > 1:
        worst = int(np.argmin(np.diff(state.log_likelihood))) + 2
        warnings.append(
            f"The log-likelihood fell in iteration {worst}, which it does only if the noise is re-estimated."
        )
    mean = len(state.assignment) / max(1, int((classes.quality.count > 0).sum()))
    if mean < 20:
        warnings.append(f"{mean:.0f} particles a class on average are few: give fewer --classes.")
    return warnings


def edge_share(state: Classification, settings: ClassifySettings) -> float:
    """Fraction of the particles whose origin lies within a step of the edge of the range about 0."""
    reach = np.abs(state.assignment.pose.shift).max(axis=1)
    return float((reach > settings.shift_range - settings.shift_step / 2).mean())


def classification_sections(
    outcome: Outcome, state: Classification, classes: Classes, settings: ClassifySettings, agreement: np.ndarray
) -> list[Section]:
    """All sections, with the findings that are not in the headline."""
    further = [one.key for one in outcome.findings if one.key not in (*outcome.headline, *CERTAINTY)]
    return [
        classes_section(classes),
        replace(course_section(state), numbers=outcome.numbers(further)),
        replace(certainty_section(state, agreement), numbers=outcome.numbers(CERTAINTY)),
        origin_section(state, settings),
        quality_section(state, classes),
    ]


def classes_section(classes: Classes) -> Section:
    order = classes.quality.order
    used = order[classes.quality.count[order] > 0]
    text = (
        "From the best to the worst by quality, which the last section explains. Under each its number, how many particles it has, and the "
        "resolution to which its average has more signal than noise. Protein is bright; each picture has a grey scale of its own, and shows "
        "what is inside the mask.\n\nviews of one molecule have sharp edges and detail inside. Classes that are blurred, that touch the edge of the "
        "mask or show streaks hold what is not the molecule, or hold it badly."
    ).replace("views of", "Views of")
    empty = len(order) - len(used)
    caption = f"Not shown: {empty} empty." if empty else ""
    return Section("Classes", text, galleries=[class_gallery(classes, used.tolist(), caption=caption)])


def course_section(state: Classification) -> Section:
    """Likelihood and changes of class by iteration."""
    figures = []
    for values, label, title, caption in (
        (
            state.log_likelihood / max(1, len(state.assignment)),
            "log evidence of a particle (nat)",
            "Log-likelihood by iteration",
            "Mean log evidence of a particle after each iteration. It rises while classes and angles are found, and levels off when they are.",
        ),
        (
            100 * state.changed,
            "changed class (%)",
            "Changes of class by iteration",
            "Particles whose most probable class changed. What is left at the end are particles that two classes explain about as well.",
        ),
    ):
        if not np.isfinite(values).any():
            continue
        curve = Series(title, np.arange(1, len(values) + 1), values)
        svg = line_plot([curve], x_label="iteration", y_label=label, title=title, description=caption)
        figures.append(Figure(caption, svg=svg))
    return Section("How it went", figures=figures)


def certainty_section(state: Classification, agreement: np.ndarray) -> Section:
    """How sure classes and poses are."""
    assignment = state.assignment
    shown = (
        (
            agreement,
            "agreement with the class",
            "Agreement with the others of the class",
            "Correlation of each image with the average of the others of its class, mean over the rings that carry signal. Two humps are two kinds of images: "
            "those that agree hold the particle.",
        ),
        (
            assignment.log_evidence,
            "log evidence (nat)",
            "Evidence of the particles",
            "How much better each particle is explained by the classes than by noise alone. Its own noise and strong contrast raise it.",
        ),
        (
            assignment.class_probability,
            "probability of the class",
            "Probability of the classes named",
            "Posterior probability of the class that each particle was put into. Low ones are shared by several classes, as neighbouring views are.",
        ),
        (
            assignment.probability,
            "largest probability",
            "Largest probabilities",
            "Posterior probability of the best class, angle and origin together. It is small where steps are finer than the image can tell.",
        ),
        (
            assignment.entropy,
            "entropy (nat)",
            "Entropy of the posteriors",
            "exp(entropy) is the number of classes, angles and origins that are in play for a particle.",
        ),
    )
    figures = [
        Figure(
            caption,
            svg=histogram(values, x_label=label, y_label="particles", title=title, description=caption),
        )
        for values, label, title, caption in shown
    ]
    return Section("How sure it is", figures=figures)


def origin_section(state: Classification, settings: ClassifySettings) -> Section:
    """Where the particles lie in their boxes, and how sure angle and origin are."""
    shift = state.assignment.pose.shift
    step = max(1, len(shift) // 3000)
    caption = (
        f"Origins of the particles{'' if step == 1 else f' (every {step}th)'}: how far, and to where, each has to be moved to lie in the middle. A cloud that "
        "is cut off straight needs a larger range; one that is off the middle says that the picks are."
    )
    scatter = scatter_plot(
        [Points("origins", shift[::step, 0], shift[::step, 1])],
        x_label="origin x (Å)",
        y_label="origin y (Å)",
        title="Origins",
        description=caption,
        same_scale=True,
    )
    figures = [Figure(caption, svg=scatter)]
    deviation = state.assignment.angle_deviation / DEGREE
    if np.isfinite(deviation).any():
        caption = "Standard deviation of the in-plane angle within the class named, from the posterior."
        angle = histogram(
            deviation,
            x_label="standard deviation of the angle (°)",
            y_label="particles",
            title="Uncertainty of the angles",
            description=caption,
            thresholds=[Threshold(settings.psi_step / DEGREE, "step", vertical=True)],
        )
        figures.append(Figure(caption, svg=angle))
    return Section("Origins and angles", figures=figures)


def quality_section(state: Classification, classes: Classes) -> Section:
    """Spectra of some classes and the parts of the score of all."""
    order = classes.quality.order
    used = order[classes.quality.count[order] > 0]
    named = {"best": used[:1], "in the middle": used[len(used) // 2 : len(used) // 2 + 1], "worst": used[-1:]}
    figures = []
    frequency = np.arange(state.signal_to_noise.shape[1]) / (classes.average.shape[-1] * classes.pixel_size)
    curves = []
    for word, place in named.items():
        if len(place) and (len(used) > 2 or word == "best"):
            ratio = np.asarray(state.signal_to_noise[place[0], 1:], dtype=np.float64)
            height = np.log10(np.clip(ratio, 1e-2, None))
            curves.append(Series(f"class {classes.number[place[0]]}, {word}", frequency[1:], height))
    if curves:
        caption = (
            "Ratio of signal to noise in the averages, shell by shell, as a power of ten: 0 is as much signal as noise, which is where the "
            "resolution of a class is read off. Below 0.01 it is drawn at -2."
        )
        svg = line_plot(
            curves,
            x_label="spatial frequency (1/Å)",
            y_label="log10(signal / noise)",
            title="Signal-to-noise ratio of class averages",
            description=caption,
            resolution_axis=True,
            thresholds=[Threshold(0.0, "signal = noise")],
        )
        figures.append(Figure(caption, svg=svg))
    return Section("Quality", QUALITY, figures=figures, tables=[class_table(classes, used)], sources=SOURCES)


def class_table(classes: Classes, places: np.ndarray) -> Table:
    """A row a class: the score and its parts."""
    quality = classes.quality
    headings = ("class", "particles", "share", "resolution", "quality", *PARTS, "mean agreement", "mean log evidence")
    rows = [
        (
            str(classes.number[i]),
            int(quality.count[i]),
            f"{classes.share[i]:.1%}",
            resolution_text(float(classes.resolution[i])) or None,
            *(f"{getattr(quality, name)[i]:.2f}" for name in ("score", *PARTS)),
            f"{quality.mean_agreement[i]:.3f}",
            f"{quality.mean_evidence[i]:.1f}",
        )
        for i in places.tolist()
    ]
    return Table(headings, rows, folded=f"{len(rows)} classes with the parts of their quality")


QUALITY = (
    "The quality of a class is the geometric mean of five numbers from 0 to 1: information (what the average tells above its noise) and agreement (of each "
    "particle with the others of the class), both relative to the best classes; mass (the integrated density against the median, which all views of one "
    "molecule share); compactness (no variance at the edge of the mask, where neighbours and edges show); and certainty (the mean probability with which "
    "particles belong to it). A class that fails in one of them fails."
)
