"""The `searcher` section: which keys each searcher of this package takes.

A name that is not here belongs to a plugin, whose own keys are kept as they are.
"""

from __future__ import annotations

from typing import Final

from mnist_trials.config.kinds import Choice, Flag, FreeMap, ListOf, Real, Text, Whole
from mnist_trials.config.nodes import Node, find
from mnist_trials.config.report import Report
from mnist_trials.config.rungs import MAX_RUNGS, depth, exact
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
    Key(
        "source_checkpoint_uuid",
        Text(longest=4096),
        "Start from the weights of this checkpoint: its id or the beginning of it, its folder, or its URL.",
    ),
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


def _brackets_fit_the_length(values: Values, node: Node, path: str, report: Report) -> None:
    length = values.get("max_time") or next(iter((values.get("max_length") or {}).values()), None)
    divisor, given = values.get("divisor"), find(node, "bracket_rungs").value
    if length is None or divisor is None or not values.get("bracket_rungs"):
        return
    assert isinstance(given, tuple)
    deepest = depth(length, exact(divisor))
    for i, (rungs, item) in enumerate(zip(values["bracket_rungs"], given, strict=True)):
        if rungs > deepest:
            report.mistake(
                item.place,
                f"'{path}.bracket_rungs[{i}]' is {rungs}, but a length of {length} with divisor {divisor} has room for "
                f"{deepest} {'rung' if deepest == 1 else 'rungs'} at most.",
            )


def _rounds_make_the_length(values: Values, node: Node, path: str, report: Report) -> None:
    """`max_length` of population based training is that of a trial which lives through all rounds."""
    for name in ("max_time", "time_metric"):
        if values.get(name) is not None:
            report.mistake(
                find(node, name).place, f"'{path}' measures its rounds by 'length_per_round'; it takes no '{name}'."
            )
    if not {"max_length", "length_per_round", "num_rounds"} <= set(values):
        values.pop("max_length", None)
        return
    ((unit, each),) = values["length_per_round"].items()
    length = {unit: each * values["num_rounds"]}
    if values["max_length"] not in (None, length):
        report.mistake(
            find(node, "max_length").place,
            f"'{path}.max_length' follows from 'num_rounds' and 'length_per_round': it is {{{unit}: {length[unit]}}}. "
            "Leave it out.",
        )
    values["max_length"] = length


def _searcher(
    *keys: Key,
    needs_length: bool = False,
    open: bool = False,  # noqa: A002
    checks: tuple[Check, ...] = (),
) -> Section:
    always: tuple[Check, ...] = (_time_has_a_metric, _one_source)
    length: tuple[Check, ...] = (_rungs_need_a_length,) if needs_length else ()
    return Section((*_COMMON, *keys), open=open, checks=(*always, *length, *checks))


_REPLACE: Final = Section(
    (
        Key(
            "truncate_fraction",
            Real(minimum=0, maximum=0.5),
            "The share of the population that ends at each round, and gives way to copies of as many of the best.",
            0.2,
        ),
    )
)
_EXPLORE: Final = Section(
    (
        Key(
            "resample_probability",
            Real(minimum=0, maximum=1),
            "How likely a hyperparameter of a copy is drawn anew.",
            0.2,
        ),
        Key(
            "perturb_factor",
            Real(minimum=0, maximum=1),
            "Else it is multiplied by 1 minus or 1 plus this, within its range; one of a few values stays.",
            0.2,
        ),
    )
)


_ASHA: Final = _searcher(
    _MAX_TRIALS,
    _CONCURRENT,
    Key("num_rungs", Whole(1, MAX_RUNGS), "How many rungs there are.", REQUIRED),
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
            Key("max_rungs", Whole(1, MAX_RUNGS), "How many rungs a bracket has, at most.", 5),
            Key(
                "bracket_rungs",
                ListOf(Whole(1, MAX_RUNGS)),
                "The rungs of each bracket; `mode` and `max_rungs` then have no effect.",
                [],
            ),
            _DIVISOR,
            _STOP_ONCE,
            needs_length=True,
            checks=(_brackets_fit_the_length,),
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
            Key("replace_function", _REPLACE, "How the worst are replaced by the best.", _REPLACE.defaults()),
            Key(
                "explore_function",
                _EXPLORE,
                "How the hyperparameters of a copy are changed.",
                _EXPLORE.defaults(),
            ),
            checks=(_rounds_make_the_length,),
        ),
    },
    others=_searcher(open=True),
)
"""The `searcher` section."""
