"""docs/trial.md: its code runs, and it names everything there is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mnist_trials as mt
from mnist_trials.plugin import rates
from mnist_trials.plugin.updates import OPTIMIZER_OPTIONS
from mnist_trials.training.context import TrialContext
from mnist_trials.training.measures.performance import Performance
from mnist_trials.training.torch_models.optimizers import OPTIMIZERS
from mnist_trials.training.torch_models.stepper import _HPARAMS

DOCS = (Path(__file__).parents[2] / "docs" / "trial.md").read_text(encoding="utf-8")


def test_the_code_in_the_docs_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_TRIALS_HOME", str(tmp_path))
    names: dict[str, Any] = {"__name__": "__main__"}
    for program in re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL):
        exec(program, names)
    trials = [value for value in names.values() if isinstance(value, type) and issubclass(value, names["Digits"])]
    assert len(trials) == 6
    for trial in trials:
        with mt.init(hparams=names["hparams"]) as context:
            assert mt.Trainer(trial(context), context).fit(max_length=mt.Epoch(1)).batches == 8


def public(cls: type) -> set[str]:
    return {name for name, value in vars(cls).items() if not name.startswith("_") and callable(value)}


def test_everything_public_is_named() -> None:
    names = public(mt.Trial) | public(mt.Callback) | (public(TrialContext) - {"split", "attach"})
    names |= {*OPTIMIZERS, *OPTIMIZER_OPTIONS, *_HPARAMS}
    names |= set(inspect.signature(mt.Trainer.fit).parameters) - {"self"}
    missing = {name for name in names if not re.search(rf"\b{name}\b", DOCS)}
    assert not missing


def test_every_schedule_is_in_its_table_with_its_options_and_their_defaults() -> None:
    for name, (_, options) in rates._SCHEDULES.items():
        row = re.search(rf"^\| `{name}` \| (.*?) \|", DOCS, re.MULTILINE)
        assert row, name
        told = re.findall(r"`(\w+)`(?: \((.*?)\))?", row[1])
        assert [(option, bool(default)) for option, default in told] == [
            (option, kind.optional) for option, kind in options.items()
        ], name
    assert re.search(r"^\| `sequence` \| `schedules` \|", DOCS, re.MULTILINE)


def test_every_key_of_the_performance_is_in_its_table(tmp_path: Path) -> None:
    execution: Any = SimpleNamespace(compilations=0, compile_seconds=0.0)
    document = Performance(tmp_path, execution, goes_on=False).document()
    rows = re.search(r"^## performance.json$(.*?)\Z", DOCS, re.MULTILINE | re.DOTALL)
    assert rows
    assert [name for name in document if f"`{name}`" not in rows[1]] == []


def test_every_attribute_of_the_context_is_in_its_table() -> None:
    doc = inspect.getdoc(TrialContext) or ""
    said = {n for line in re.findall(r"^    ([\w, ]+):", doc, re.MULTILINE) for n in line.split(", ")}
    assert said >= {"hparams", "seed", "rank", "size", "device"}
    for name in said - {
        "spec",
        "channel",
        "execution",
        "storage",
        "trainer",
        "beats",
        "rested_at",
        "datasets",
        "performance",
        "refuses_steps",
    }:  # the runtime's own
        assert f"`{name}`" in DOCS, name
