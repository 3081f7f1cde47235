"""`describe` of a search: its rungs, by plan and as it went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mnist_trials.cli.explain import Terms
from mnist_trials.cli.screen import table
from mnist_trials.errors import MnistTrialsError

if TYPE_CHECKING:
    from mnist_trials.store import Reader
    from mnist_trials.store.rows import ExperimentRow

_Place = tuple[int, int, int]  # bracket, rung, units


def searcher_text(config: Mapping[str, Any]) -> str:
    """`asha by accuracy (larger is better), 16 trials at most, 4 at once`."""
    searcher = config["searcher"]
    better = "smaller" if searcher["smaller_is_better"] else "larger"
    trials, at_once = searcher.get("max_trials"), searcher.get("max_concurrent_trials")
    bounds = [f"{trials} trial{'' if trials == 1 else 's'} at most"] if trials else []
    bounds += [f"{at_once} at once"] if at_once else []
    return ", ".join([f"{searcher['name']} by {searcher['metric']} ({better} is better)", *bounds])


def rung_lines(reader: Reader, experiment: ExperimentRow) -> list[str]:
    """A table of the rungs: how many trials come to each by plan, and how many ended or rest there."""
    planned = _planned(experiment)
    ended = _ended(reader, experiment.id)
    places = sorted({*planned, *ended})
    if len(places) < 2:
        return []
    unit = Terms.of(experiment.config).unit
    header = ["bracket", "rung", unit, "trials by plan", "stopped or paused there"]
    rows = [(*place, planned.get(place), ended[place]) for place in places]
    return ["rungs:", *(f"  {line}" for line in table(header, rows))]


def _planned(experiment: ExperimentRow) -> dict[_Place, int]:
    from mnist_trials.config import ExperimentConfig
    from mnist_trials.experiment.machinery import Workshop
    from mnist_trials.plugin import get_plugins

    with suppress(MnistTrialsError):  # a plugin that is not there any more; the rest can be told all the same
        config = ExperimentConfig.from_dict(experiment.config)
        brackets = Workshop(get_plugins(), config, experiment.options).searcher().brackets() or ()
        return {
            (number, rung, units): trials
            for number, bracket in enumerate(brackets)
            for rung, (units, trials) in enumerate(zip(bracket.rungs, bracket.trials, strict=True))
        }
    return {}


def _ended(reader: Reader, experiment_id: int) -> Counter[_Place]:
    where: dict[int, _Place] = {}
    for decision in reader.each_decision(experiment_id):
        for action in decision.actions:
            why = action.get("why")
            if action["action"] in ("Stop", "Pause") and isinstance(why, Mapping):
                where[action["trial_id"]] = (why["bracket"], why["rung"], why["units"])
            elif action["action"] == "Resume":
                where.pop(action["trial_id"], None)
    return Counter(where.values())
