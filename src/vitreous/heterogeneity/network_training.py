"""What every training of a network shares: epochs with a state that is kept after each, Adam with a falling rate, batches of one size, pytrees as arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

from vitreous.errors import DataProblem

# (fraction of the epochs from which it holds, fraction of the final radius): coarse first, because a latent that orders the coarse differences
# is found before the fine ones can be fitted; and coarse rings have few pixels.
OPENING = ((0.0, 0.5), (0.15, 0.75), (0.35, 1.0))


class EpochState(Protocol):
    """Whatever a training is after `epoch` epochs."""

    @property
    def epoch(self) -> int: ...


S = TypeVar("S", bound=EpochState)


def train_epochs(state: S, epochs: int, one_epoch: Callable[[S], S], keep: Callable[[S], None] | None = None) -> S:
    """The state after all epochs; `keep` is called with the state after each."""
    while state.epoch < epochs:
        state = one_epoch(state)
        if keep is not None:
            keep(state)
    return state


def falling_adam(rate: float, steps: int) -> Any:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980), whose rate falls from `rate` to 0 as the cosine of half a turn over all `steps`: large steps find the
    way, small ones average the noise of the batches out (Loshchilov and Hutter 2017, arXiv:1608.03983)."""
    import optax

    return optax.adam(optax.cosine_decay_schedule(rate, steps))


def changes(optimiser: Any, state: Any, weights: Any, slope: Any) -> tuple[Any, Any]:
    """By how much a step changes the weights, which have a `decoder` whose `points` stay where they were drawn; and the optimiser's new state."""
    import jax

    fixed = jax.numpy.zeros_like(weights.decoder.points)
    slope = slope._replace(decoder=slope.decoder._replace(points=fixed))
    return optimiser.update(slope, state)


def refuse_loss(loss: float, epoch: int, number: int, rows: np.ndarray, name_of: Callable[[int], str]) -> None:
    """Raise DataProblem for a loss that is no number, of batch `number` in epoch `epoch` (from 0); it names the first of its particles."""
    names = ", ".join(name_of(int(row)) for row in rows[:3])
    raise DataProblem(
        f"a loss of {loss} in epoch {epoch + 1}, batch {number + 1}, whose {len(rows)} particles begin with {names}",
        "a finite number",
        "look at these images and their CTFs, or give a smaller --rate; the checkpoint of the epoch before is kept",
    )


def batches(order: np.ndarray, size: int) -> list[np.ndarray]:
    """`order` in pieces of `size`, the last of what is left."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def filled_up(values: np.ndarray, size: int) -> np.ndarray:
    """`values` with zeros appended up to `size` rows."""
    if len(values) == size:
        return values
    return np.concatenate([values, np.zeros((size - len(values), *values.shape[1:]), values.dtype)])


def leaves(tree: Any) -> tuple[np.ndarray, ...]:
    """The arrays of a pytree, as NumPy."""
    import jax

    return tuple(np.asarray(leaf) for leaf in jax.tree.leaves(tree))


def like(arrays: tuple[np.ndarray, ...], structure: Any) -> Any:
    """The pytree of the structure of `structure` whose leaves are `arrays`."""
    import jax

    return jax.tree.unflatten(jax.tree.structure(structure), arrays)
