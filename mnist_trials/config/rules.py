"""What several sections say together: looked at once each of them was read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from mnist_trials.config.grid import axis_length
from mnist_trials.config.hyperparameters import ranges
from mnist_trials.config.nodes import Node, find, quoted
from mnist_trials.config.report import Report
from mnist_trials.config.sections import Values

MAX_GRID_POINTS: Final = 1_000_000

_BETTER_LARGE: Final = frozenset({"accuracy", "acc", "f1", "auc", "auroc"})
_BETTER_SMALL: Final = frozenset({"loss", "error", "err"})


def check_together(values: Values, root: Node, report: Report) -> None:
    """Report what does not fit together. `values` holds the keys of the whole config that have no mistake."""
    _class_needs_length(values, root, report)
    _mesh_fills_slots(values, root, report)
    _slots_fit(values, root, report)
    _scale_fits_precision(values, root, report)
    _grid_is_finite(values, root, report)
    _direction_fits_metric(values, root, report)


def _class_needs_length(values: Values, root: Node, report: Report) -> None:
    searcher = values.get("searcher", {})
    if not isinstance(values.get("entrypoint"), str) or not {"max_length", "max_time"} <= set(searcher):
        return
    trial_class = f"the entrypoint {quoted(values['entrypoint'])} is a Trial class"
    if searcher["max_length"] is not None:
        return
    if searcher["max_time"] is None:
        report.mistake(
            find(root, "searcher").place,
            f"'searcher' needs 'max_length', because {trial_class}: such as max_length: {{epochs: 1}}.",
        )
    elif "min_validation_period" in values and values["min_validation_period"] is None:
        report.mistake(
            find(root, "searcher.max_time").place,
            f"'searcher.max_time' needs 'min_validation_period', because {trial_class}: how far it is is only told at "
            "validations, and without a period there is one at the end, which never comes.",
        )


def _mesh_fills_slots(values: Values, root: Node, report: Report) -> None:
    mesh, slots = values.get("mesh"), values.get("resources", {}).get("slots_per_trial")
    if mesh is None or not isinstance(slots, int):
        return
    size = mesh["data"] * mesh["tensor"]
    if size != slots:
        report.mistake(
            find(root, "mesh").place,
            f"'mesh' takes {mesh['data']} x {mesh['tensor']} = {size} slots, but 'resources.slots_per_trial' is "
            f"{slots}. They must be equal.",
        )


def _slots_fit(values: Values, root: Node, report: Report) -> None:
    resources = values.get("resources", {})
    most, each = resources.get("max_slots"), resources.get("slots_per_trial")
    if most is not None and isinstance(each, int) and most < each:
        report.mistake(
            find(root, "resources.max_slots").place,
            f"'resources.max_slots' is {most}, so that no trial can run: 'resources.slots_per_trial' is {each}.",
        )


def _scale_fits_precision(values: Values, root: Node, report: Report) -> None:
    if values.get("loss_scale") == "dynamic" and values.get("precision", "fp16-mixed") != "fp16-mixed":
        report.mistake(
            find(root, "loss_scale").place,
            "'loss_scale: dynamic' looks for the largest scale at which float16 does not overflow, and 'precision' is "
            f"{values['precision']}. Leave it out, give a number, or set precision: fp16-mixed.",
        )


def _grid_is_finite(values: Values, root: Node, report: Report) -> None:
    if values.get("searcher", {}).get("name") != "grid" or "hyperparameters" not in values:
        return
    points = 1
    for path, leaf in ranges(values["hyperparameters"]):
        full = f"hyperparameters.{path}"
        if leaf["type"] != "categorical" and "count" not in leaf:
            node, count = find(root, full), find(root, f"{full}.count")
            if count is node or count.value is None:  # else it has a mistake that was told
                report.mistake(node.place, f"'{full}' needs 'count' in a grid: how many of its values are tried.")
        elif _is_whole(leaf):
            points *= axis_length(leaf)
    if points > MAX_GRID_POINTS:
        report.mistake(
            find(root, "hyperparameters").place,
            f"this grid has {points:,} points, and {MAX_GRID_POINTS:,} are allowed. Lower some 'count', or search at "
            "random.",
        )


def _is_whole(leaf: Mapping[str, Any]) -> bool:
    """Whether the range has no mistake that hides how many values there are."""
    return "vals" in leaf if leaf["type"] == "categorical" else {"minval", "maxval"} <= set(leaf)


def _direction_fits_metric(values: Values, root: Node, report: Report) -> None:
    searcher = values.get("searcher", {})
    metric, smaller = searcher.get("metric"), searcher.get("smaller_is_better")
    if metric is None or smaller is None:
        return
    words = _words(metric)
    large, small = bool(words & _BETTER_LARGE), bool(words & _BETTER_SMALL)
    if large != small and large == smaller:
        way, other = ("minimised", "false") if smaller else ("maximised", "true")
        report.warn(
            find(root, "searcher.metric").place,
            f"the metric {quoted(metric)} is {way}. If that is not meant, set searcher.smaller_is_better: {other}.",
        )


def _words(name: str) -> set[str]:
    """The words of a metric's name: `valAcc`, `val_acc` and `val/acc` all hold `acc`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return set(re.split(r"[^a-z0-9]+", spaced.lower()))
