"""`decisions`: what the searcher was told and what it decided, explained."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from mnist_trials.cli import lookup
from mnist_trials.cli.command import Command, Invocation
from mnist_trials.cli.report import hint
from mnist_trials.cli.screen import date

if TYPE_CHECKING:
    from mnist_trials.store import Reader
    from mnist_trials.store.rows import DecisionRow


def _decisions(call: Invocation) -> int:
    from mnist_trials.cli.explain import Explainer, Terms

    experiment_id, trial_id = call.arguments.experiment, call.arguments.trial
    with lookup.reading(call) as reader:
        terms = Terms.of(reader.experiment(experiment_id).config)
        rows = _chosen(reader, experiment_id, trial_id)
        if call.screen.json:
            documents = (_document(row, terms.unit) for row in rows)
            call.screen.long_document({"experiment_id": experiment_id}, "decisions", documents)
            return 0
        explainer = Explainer(experiment_id, terms, partial(reader.trial, experiment_id))
        shown, silent = 0, 0
        for row in rows:
            if not row.actions and trial_id is None and not call.arguments.all:
                silent += 1
                continue
            shown += 1
            for number, line in enumerate([explainer.sentence(row), *explainer.created(row)]):
                call.screen.say(f"{date(row.time)}  {'  ' if number else ''}{line}")
    _tell_rest(call, experiment_id, shown, silent)
    return 0


def _chosen(reader: Reader, experiment_id: int, trial_id: int | None) -> Iterator[DecisionRow]:
    """The decisions that are about a trial, or that did something to it."""
    if trial_id is not None:
        reader.trial(experiment_id, trial_id)  # says so where there is none
    for row in reader.each_decision(experiment_id):
        about = (row.trial_id, *(action.get("trial_id") for action in row.actions))
        if trial_id is None or trial_id in about:
            yield row


def _document(row: DecisionRow, unit: str) -> Mapping[str, Any]:
    return {
        "id": row.id,
        "trial_id": row.trial_id,
        "event": row.event,
        "reason": row.reason,
        "units": row.units,
        "unit": unit,
        "metric": row.metric,
        "actions": row.actions,
        "time": row.time,
    }


def _tell_rest(call: Invocation, experiment_id: int, shown: int, silent: int) -> None:
    if silent:
        command = hint(call, f"decisions {experiment_id} --all")
        call.screen.say(f"{silent} more on which nothing was to be done: `{command}` shows them")
    elif not shown:
        call.screen.say("Nothing has been decided yet.")


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"takes the number of a trial within the experiment, such as 3, not {text!r}")
    return int(text)


def _arguments(parser: argparse.ArgumentParser) -> None:
    lookup.add_experiment(parser)
    parser.add_argument("--trial", metavar="N", type=_number, help="only what concerns this trial of it")
    parser.add_argument("--all", action="store_true", help="also the reports on which nothing was to be done")


COMMANDS = (
    Command(
        name="decisions",
        group="Look",
        summary="what the searcher was told and decided, and why",
        description="Brackets and rungs are counted from 0; rung 0 is the lowest.",
        run=_decisions,
        configure=_arguments,
    ),
)
