"""The parts: throughput and quality after the same epochs, streaming, and the hinge."""

from __future__ import annotations

from comparison import Target, at_least
from landscapes.commands import vitreous_subspace
from landscapes.session import Session, print_scores, print_trainings
from landscapes.sets import Hinge, make
from measure import measure, say
from vitreous.io.particles import read_particles

TIMES = 4.0  # as fast as cryoDRGN
STREAMING = 1.3  # longer an epoch from the disk than from memory
CORRELATION = 0.95  # |Spearman| of the latent's first component with the angle


def speed(session: Session) -> None:
    """Both programs on the same particles, at each box; ours once more with every frequency up to Nyquist, as cryoDRGN has them."""
    options = session.options
    network = session.network(options.epochs)
    for box in options.boxes:
        wanted = Hinge(options.count, box, options.snr, options.conformations)
        place = make(session.vitreous, wanted, options.data.resolve())
        ours = session.train(place, network, f"vitreous_speed_{box}")
        theirs = session.train_cryodrgn(place, network, f"cryodrgn_speed_{box}", wanted)
        pixel_size = read_particles(place / "particles.star", load_images=False).pixel_size
        name = f"{session.vitreous.label}, to Nyquist"
        every = session.train(
            place, network, f"vitreous_nyquist_{box}", "--finest", f"{2.0001 * pixel_size:.4f}", label=name
        )
        trainings = [training for training in (ours, every, theirs) if training is not None]
        print(f"\nspeed: {wanted}; {network}")
        print_trainings(trainings)
        folders = {
            ours.name: session.runs / f"vitreous_speed_{box}",
            every.name: session.runs / f"vitreous_nyquist_{box}",
        }
        if theirs is not None:
            folders[theirs.name] = session.runs / f"cryodrgn_speed_{box}"
        scores = session.score(place, folders, f"scores_speed_{box}")
        print_scores(scores)
        what = f"{box} px, particles a second against cryoDRGN"
        if theirs is None:
            session.not_run(what, f"{TIMES:g} times")
        else:
            session.judge_speed(what, ours.throughput / theirs.throughput, TIMES)
        quality = [scores[one.name].get("image_fsc_auc") for one in (ours, theirs) if one is not None]
        if quality[0] is not None:
            session.compare_target(
                f"{box} px, per-image FSC AUC after {network.epochs} epochs",
                quality[0],
                [*quality, None][1],
                at_least,
                "{:.3f}",
            )
        session.result[f"speed_{box}"] = {"trainings": [t.as_json() for t in trainings], "scores": scores}


def streaming(session: Session) -> None:
    """Ours with images read in every epoch, beside images in memory. The files are in the system's cache: it is the reading that is timed, not the disk."""
    options = session.options
    network = session.network(options.epochs)
    wanted = Hinge(options.count, options.boxes[0], options.snr, options.conformations)
    place = make(session.vitreous, wanted, options.data.resolve())
    kinds = {"in memory": (), "from the disk (--lazy)": ("--lazy",)}
    trainings = [
        session.train(place, network, f"vitreous_streaming_{number}", *more, label=f"{session.vitreous.label}, {kind}")
        for number, (kind, more) in enumerate(kinds.items())
    ]
    print(f"\nstreaming: {wanted}; {network}")
    print_trainings(trainings)
    ratio = trainings[1].seconds / trainings[0].seconds
    target = Target(
        "an epoch from the disk against memory", f"{STREAMING:g} times", f"{ratio:.2f} times", ratio <= STREAMING
    )
    session.targets.append(target)
    session.result["streaming"] = {"trainings": [training.as_json() for training in trainings], "ratio": ratio}


def hinge(session: Session) -> None:
    """What the latents say of the hinge's angle, and how good the maps are: both networks and the subspace."""
    options = session.options
    network = session.network(options.hinge_epochs)
    wanted = Hinge(options.hinge_count, options.hinge_box, options.hinge_snr, options.hinge_conformations)
    place = make(session.vitreous, wanted, options.data.resolve())
    ours = session.train(place, network, "vitreous_hinge", label="drgn")
    say("subspace: fitting")
    command = vitreous_subspace(
        session.vitreous, options.latent, options.hinge_iterations, session.folder("subspace_hinge")
    )
    subspace = measure(command, place, session.runs / "subspace_hinge.log")
    theirs = session.train_cryodrgn(place, network, "cryodrgn_hinge", wanted)
    folders = {"drgn": session.runs / "vitreous_hinge", "subspace": session.runs / "subspace_hinge"}
    seconds = {"drgn": ours.run.wall_seconds, "subspace": subspace.wall_seconds}
    if theirs is not None:
        folders[theirs.name] = session.runs / "cryodrgn_hinge"
        seconds[theirs.name] = theirs.run.wall_seconds
    scores = session.score(place, folders, "scores_hinge")
    print(f"\nhinge: {wanted}; {network}; the subspace {options.hinge_iterations} iterations")
    print("Whole processes: " + ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()))
    print_scores(scores)
    for name in ("drgn", "subspace"):
        reached = scores[name].get("spearman_first_component")
        what, met = f"hinge, |Spearman| of the first component, {name}", reached is not None and reached >= CORRELATION
        session.targets.append(Target(what, f"{CORRELATION:g}", "none" if reached is None else f"{reached:.3f}", met))
    for other, key in (("subspace", "the subspace's"), *(((theirs.name, "cryoDRGN's"),) if theirs is not None else ())):
        mine, its = scores["drgn"].get("image_fsc_auc"), scores[other].get("image_fsc_auc")
        if mine is not None and its is not None:
            session.compare_target(f"hinge, per-image FSC AUC of drgn, {key}", mine, its, at_least, "{:.3f}")
    trainings = [ours, *([] if theirs is None else [theirs])]
    session.result["hinge"] = {
        "trainings": [training.as_json() for training in trainings],
        "wall_seconds": seconds,
        "scores": scores,
    }
