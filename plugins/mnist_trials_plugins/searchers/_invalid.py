"""The end of a search that meets invalid hyperparameters again and again."""

from __future__ import annotations

from mnist_trials.plugin import Shutdown


def too_many_invalid(invalid: int, replaced: int) -> Shutdown:
    """Said when `invalid` trials had invalid hyperparameters, of which `replaced` at most are made up for."""
    return Shutdown(
        f"{invalid} trials had invalid hyperparameters, and at most {replaced} are replaced, as many as the search "
        "makes. Narrow the ranges of the hyperparameters."
    )
