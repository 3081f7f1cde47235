"""Made-up searches at full speed: some trials at a time, in turn, with metrics out of a table."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mnist_trials.plugin import Action, Create, Resume, Searcher, Shutdown, Stop
from searches.ours import CONTEXT
from searches.workload import LENGTH, metric


def drive(searcher: Searcher) -> int:
    """A whole search; returns how many validations were reported: so many decisions were made."""
    running: deque[int] = deque()
    reached: dict[int, int] = {}  # how many rungs a trial that has not ended has come to
    made = decisions = 0
    over = False

    def apply(actions: Sequence[Action]) -> None:
        nonlocal made, over
        for action in actions:
            if isinstance(action, Create):
                made += 1
                running.append(made)
            elif isinstance(action, Resume):
                running.append(action.trial_id)
            elif isinstance(action, Shutdown):
                over = True

    apply(searcher.initial_trials(CONTEXT))
    while running:
        trial = running.popleft()
        rung = reached.get(trial, 0)
        reached[trial] = rung + 1
        units = searcher.validate_at(trial)[rung]
        actions = searcher.validation_completed(CONTEXT, trial, units, metric(trial, units))
        decisions += 1
        apply(actions)
        if units == LENGTH or (actions and isinstance(actions[0], Stop)):
            del reached[trial]
            apply(searcher.trial_exited(CONTEXT, trial))
        elif not actions:
            running.append(trial)
    assert over
    return decisions
