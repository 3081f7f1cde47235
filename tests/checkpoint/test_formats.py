"""Checkpoints of every released version of the format can still be read, and trained on from."""

from __future__ import annotations

from pathlib import Path

import pytest

import mnist_trials as mt
from mnist_trials.checkpoint import read_checkpoint, verify
from mnist_trials.checkpoint.manifest import FORMAT_VERSION
from mnist_trials.events import Notice, TrialStarted
from tests.checkpoint.fixtures.write import BATCHES, HERE, Kept, kinds
from tests.training.lab import Lab, same

VERSIONS = range(1, FORMAT_VERSION + 1)


def folder(version: int) -> Path:
    return HERE / f"format-{version}"


def types(value: object) -> object:
    if isinstance(value, dict):
        return type(value), {key: types(item) for key, item in value.items()}
    return (type(value), [types(item) for item in value]) if isinstance(value, list | tuple) else type(value)


def test_each_version_has_its_fixture_and_it_is_small() -> None:
    kept = sorted(path.name for path in HERE.iterdir() if path.name.startswith("format-"))
    assert kept == sorted(folder(version).name for version in VERSIONS)
    assert sum(path.stat().st_size for path in HERE.rglob("format-*/*")) < 100_000 * len(kept)


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_read_with_the_values_and_types_that_were_written(version: int) -> None:
    assert verify(folder(version)).format_version == version
    manifest, content = read_checkpoint(folder(version))
    assert (manifest.batches, manifest.trial_class) == (BATCHES, "tests.checkpoint.fixtures.write:Kept")
    assert same(content.state["trial"]["kinds"], kinds())
    assert types(content.state["trial"]["kinds"]) == types(kinds())
    view, base = (content.state["trial"]["kinds"][name] for name in ("view", "tensor"))
    assert view.untyped_storage().data_ptr() == base.untyped_storage().data_ptr()


@pytest.mark.parametrize("version", VERSIONS)
def test_training_goes_on_from_it(tmp_path: Path, version: int) -> None:
    lab = Lab(tmp_path)
    context = lab.context({"aggregation_frequency": 3})
    run = lab.fit(Kept, context, latest_checkpoint=folder(version), max_length=mt.Batch(BATCHES + 5))
    assert [event.batches for event in run.channel.of(TrialStarted)] == [BATCHES]
    assert run.channel.of(Notice) == []
    assert run.result.batches == run.trial.seen == BATCHES + 5
    assert same(run.trial.kept, kinds())


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_loaded_for_inference(version: int) -> None:
    trial = mt.load_trial(folder(version))
    assert same(dict(trial.model.state_dict()), dict(read_checkpoint(folder(version))[1].model))
