"""The `searcher` section: which keys each searcher of this package takes.

A name that is not here belongs to a plugin, whose own keys are kept as they are.
"""

from __future__ import annotations

from typing import Final

from mnist_trials.config.kinds import Choice, Flag, FreeMap, ListOf, Real, Text, Whole
from mnist_trials.config.nodes import Node
from mnist_trials.config.report import Report
from mnist_trials.config.sections import REQUIRED, ByName, Check, Key, Section, Values
from mnist_trials.config.shapes import Length, TrialReference

NAME: Final = Text(longest=128, meant="the name of a searcher")

_COMMON: Final = (
    Key("name", NAME, "Which searcher decides on the trials.", REQUIRED),
    Key("metric", Text(longest=256), "The validation metric by which trials are judged.", REQUIRED),
    Key("smaller_is_better", Flag(), "Whether a smaller metric is better.", True),
    Key(
        "max_length",
        Length(),
        "How long one trial trains at most; a plain number counts batches. A Trial class as entrypoint needs it.",
    ),
    Key("max_time", Whole(1), "How long one trial trains at most, in units of `time_metric`."),
    Key("time_metric", Text(longest=256), "The metric that tells how far a trial is, for `max_time`."),
    Key("source_trial_id", TrialReference(), "Start from the weights of this trial's latest checkpoint."),
    Key("source_checkpoint_uuid", Text(longest=128), "Start from the weights of this checkpoint."),
)
_MAX_TRIALS: Final = Key("max_trials", Whole(1), "How many trials are made in all, at most.", REQUIRED)
_CONCURRENT: Final = Key(
    "max_concurrent_trials", Whole(0), "How many trials run at once, at most; 0 sets no bound.", 16
)
_DIVISOR: Final = Key(
    "divisor", Real(above=1, keep_int=True), "One in this many trials goes on from each rung to the next.", 4
)
_STOP_ONCE: Final = Key(
    "stop_once",
    Flag(),
    "true: a trial is judged once at each rung and goes on or ends; false: it pauses at a rung and may go on later.",
    True,
)


def _time_has_a_metric(values: Values, node: Node, path: str, report: Report) -> None:
    given = [name for name in ("max_time", "time_metric") if values.get(name) is not None]
    if len(given) == 1 and {"max_time", "time_metric"} <= set(values):
        other = "time_metric" if given == ["max_time"] else "max_time"
        report.mistake(node.place, f"'{path}' has '{given[0]}', which needs '{other}' beside it.")


def _one_source(values: Values, node: Node, path: str, report: Report) -> None:
    if values.get("source_trial_id") is not None and values.get("source_checkpoint_uuid") is not None:
        report.mistake(node.place, f"'{path}' takes 'source_trial_id' or 'source_checkpoint_uuid', not both.")


def _rungs_need_a_length(values: Values, node: Node, path: str, report: Report) -> None:
    names = ("max_length", "max_time")
    if set(names) <= set(values) and not any(values[name] is not None for name in names):
        report.mistake(node.place, f"'{path}' needs 'max_length', or 'max_time', to place its rungs.")


def _searcher(*keys: Key, needs_length: bool = False, open: bool = False) -> Section:  # noqa: A002
    checks: tuple[Check, ...] = (_time_has_a_metric, _one_source)
    return Section((*_COMMON, *keys), open=open, checks=(*checks, _rungs_need_a_length) if needs_length else checks)


_ASHA: Final = _searcher(
    _MAX_TRIALS,
    _CONCURRENT,
    Key("num_rungs", Whole(1), "How many rungs there are.", REQUIRED),
    _DIVISOR,
    _STOP_ONCE,
    needs_length=True,
)

SEARCHER: Final = ByName(
    selector="name",
    tables={
        "single": _searcher(),
        "random": _searcher(_MAX_TRIALS, _CONCURRENT),
        "grid": _searcher(_CONCURRENT),
        "asha": _ASHA,
        "async_halving": _ASHA,
        "adaptive_asha": _searcher(
            _MAX_TRIALS,
            _CONCURRENT,
            Key(
                "mode",
                Choice(("aggressive", "standard", "conservative")),
                "How many brackets there are: one that stops early and often, some, or all.",
                "standard",
            ),
            Key("max_rungs", Whole(1), "How many rungs a bracket has, at most.", 5),
            Key(
                "bracket_rungs",
                ListOf(Whole(1)),
                "The rungs of each bracket; `mode` and `max_rungs` then have no effect.",
                [],
            ),
            _DIVISOR,
            _STOP_ONCE,
            needs_length=True,
        ),
        "optuna": _searcher(
            _MAX_TRIALS,
            _CONCURRENT,
            Key("sampler", Text(longest=128), "The Optuna sampler that proposes hyperparameters.", "TPESampler"),
            Key("sampler_options", FreeMap(), "What the sampler is made with.", {}),
        ),
        "pbt": _searcher(
            _CONCURRENT,
            Key("population_size", Whole(2), "How many trials live at once.", REQUIRED),
            Key("num_rounds", Whole(1), "How many times the population is judged.", REQUIRED),
            Key("length_per_round", Length(), "How long each trial trains from one round to the next.", REQUIRED),
            Key("replace_function", FreeMap(), "How the worst are replaced by the best.", {}),
            Key("explore_function", FreeMap(), "How the hyperparameters of a copy are changed.", {}),
        ),
    },
    others=_searcher(open=True),
)
"""The `searcher` section."""
