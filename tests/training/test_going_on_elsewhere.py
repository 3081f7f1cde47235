"""A new experiment that goes on from all of a checkpoint; and what checkpoints do not tell of its config."""

from __future__ import annotations

from dataclasses import replace

import mnist_trials as mt
from mnist_trials.checkpoint import read_manifest
from mnist_trials.events import TrialStarted
from tests.training.lab import SEARCHED, Lab, same
from tests.training.stateful import Adam


def test_it_goes_on_as_if_it_had_not_been_cut_off(lab: Lab) -> None:
    whole = lab.fit(Adam, max_length=mt.Batch(10))
    first = lab.fit(Adam, max_length=mt.Batch(6))
    context = lab.context(warm_start=str(lab.folder / "checkpoints" / str(first.result.checkpoint)), experiment_id=2)
    context.spec = replace(context.spec, resume=True)
    run = lab.fit(Adam, context, max_length=mt.Batch(10))
    assert [event.batches for event in run.channel.of(TrialStarted)] == [6]
    assert run.result.batches == 10
    assert same(run.weights, whole.weights)


def test_secrets_of_the_config_are_not_in_the_manifest(lab: Lab) -> None:
    config = SEARCHED | {"checkpoint_storage": {"type": "s3", "bucket": "mine", "secret_key": "hunter2"}}
    run = lab.fit(Adam, lab.context(config=config), max_length=mt.Batch(2))
    folder = lab.folder / "checkpoints" / str(run.result.checkpoint)
    assert b"hunter2" not in b"".join(path.read_bytes() for path in folder.iterdir())
    storage = read_manifest(folder).config["checkpoint_storage"]
    assert storage == {"type": "s3", "bucket": "mine", "secret_key": "***"}
