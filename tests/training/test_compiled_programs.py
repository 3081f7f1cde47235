"""Programs as the compiler makes them: the numbers of a training without, once built and once used again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import mnist_trials as mt
from mnist_trials.events import Notice
from tests.training.lab import SEARCHED, Lab, Run, Small, same

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++, to compile programs"),
]


def told(run: Run) -> list[str]:
    texts = [event.message for event in run.channel.events if isinstance(event, Notice)]
    return [text for text in texts if text.startswith("Program ")]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_compiled_programs_learn_the_same_dropout_included_and_are_used_again(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    monkeypatch.setenv("MNIST_TRIALS_HOME", str(tmp_path / "home"))
    hparams = {"optimizer": optimizer, "learning_rate": 0.01, "max_gradient_norm": 1.0}
    config = {**SEARCHED, "compile": "program"}
    eager = lab.fit(Small, lab.context(hparams), max_length=mt.Batch(20))
    built = lab.fit(Small, lab.context(hparams, config), max_length=mt.Batch(20))
    again = lab.fit(Small, lab.context(hparams, config), max_length=mt.Batch(20))
    assert [("built" in text, "reused" in text) for text in told(built)] == [(True, False)] * 4
    assert [text for text in told(again) if "reused" not in text] == []
    assert max(float((eager.weights[name] - value).abs().max()) for name, value in built.weights.items()) < 1e-6
    assert same(built.weights, again.weights)
    assert built.context.performance is not None
    assert built.context.performance.programs_built == 4
    assert again.context.performance is not None
    assert again.context.performance.program_seconds < built.context.performance.program_seconds
