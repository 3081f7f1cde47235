"""What all ranks of a trial must agree on, and an error that says who differs where they do not."""

from __future__ import annotations

from typing import Any

from mnist_trials.errors import TrialError
from mnist_trials.plugin import Ranks
from mnist_trials.training.data.feeds import Feed


def require_same(ranks: Ranks, what: str, value: Any, advice: str) -> None:
    """Compare `value` (plain, with a readable repr) over all ranks. A collective; raises on every rank alike.

    Raises:
        TrialError: values differ; the text names `what`, every value and its ranks, then gives the `advice`.
    """
    if ranks.layout.size == 1:
        return
    values = ranks.gather(value)
    if all(other == values[0] for other in values):
        return
    holders: dict[str, list[int]] = {}
    for rank, other in enumerate(values):
        holders.setdefault(str(other), []).append(rank)
    listed = "; ".join(f"{_named(held)}: {text}" for text, held in holders.items())
    raise TrialError(f"The processes of this trial differ in {what}. {listed}. {advice}")


def require_same_data(ranks: Ranks, names: list[str], training: Feed, validation: Feed) -> None:
    """Compare what the ranks train and validate on.

    Raises:
        TrialError: as `require_same`.
    """
    advice = (
        "Each process builds the data itself, and the runtime splits it: build_data() must return the same on all "
        "machines, and all of it on each."
    )
    require_same(ranks, "the data set they train on", ", ".join(names) or "not said", advice)
    for name, feed in (("training", training), ("validation", validation)):
        require_same(ranks, f"their {name} data", _size(feed), advice)


def first_of(ranks: Ranks, value: Any) -> Any:
    """The value of the lowest rank that has one (not None). A collective."""
    if ranks.layout.size == 1:
        return value
    return next((other for other in ranks.gather(value) if other is not None), None)


def _size(feed: Feed) -> str:
    length = "a number of batches that only its end shows" if feed.length is None else f"{feed.length} batches"
    samples = "" if feed.samples is None else f" of {feed.samples} samples in all"
    return length + samples


def _named(ranks: list[int]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"
