"""Starting an experiment from the weights of a checkpoint: found at submission, kept, handed to every trial."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.errors import ConfigError, UsageError
from mnist_trials.experiment import api
from mnist_trials.experiment.warm_start import Source
from mnist_trials.store import open_store
from mnist_trials.store.rows import CheckpointRow

YAML = """\
name: again
entrypoint: fake_trial:Fake
searcher:
  name: single
  metric: loss
  max_length: {batches: 4}
  SOURCE
launcher: inline
backend: cpu
"""


@pytest.fixture
def sources(lab: Any) -> list[CheckpointRow]:
    """The checkpoints of experiment 1, oldest first."""
    assert lab.trial()["state"] == "COMPLETED"
    with lab.reader() as reader:
        rows: list[CheckpointRow] = reader.checkpoints(1)
    assert [row.batches for row in rows] == [2, 4, 6]
    return rows


def starting_from(lab: Any, source: str) -> Path:
    path: Path = lab.context / "again.yaml"
    path.write_text(YAML.replace("SOURCE", source))
    return path


def kept(lab: Any, experiment_id: int) -> Source | None:
    with lab.reader() as reader:
        return Source.of(reader.experiment(experiment_id).options)


def refused(lab: Any, source: str) -> str:
    with pytest.raises(ConfigError) as told:
        api.submit(starting_from(lab, source), home=lab.home)
    (problem,) = told.value.problems
    assert re.search(r"again\.yaml:7:\d+: ", str(problem))
    return str(problem)


def test_of_a_trial_it_is_the_latest_checkpoint(lab: Any, sources: list[CheckpointRow]) -> None:
    again = api.submit(starting_from(lab, "source_trial_id: 1.1"), home=lab.home)
    latest = sources[-1]
    assert kept(lab, again) == Source(
        experiment_id=1, trial_id=1, checkpoint=latest.uuid, batches=6, location=latest.location
    )
    assert Path(latest.location, "manifest.json").is_file()


def test_a_checkpoint_may_be_named_by_the_beginning_of_its_id(lab: Any, sources: list[CheckpointRow]) -> None:
    given = f"source_checkpoint_uuid: '{sources[0].uuid[:13]}'"
    source = kept(lab, api.submit(starting_from(lab, given), home=lab.home))
    assert source is not None
    assert (source.checkpoint, source.batches) == (sources[0].uuid, 2)


def test_every_trial_is_told_where_it_lies(lab: Any, sources: list[CheckpointRow]) -> None:
    again = api.submit(starting_from(lab, "source_trial_id: 1.1"), home=lab.home, launcher="local")
    assert lab.run(again)["state"] == "COMPLETED"
    spec = (lab.files(again).trial(1) / "worker-rank0.json").read_text()
    assert f'"warm_start": "{sources[-1].location}"' in spec


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("source_trial_id: 9.1", "searcher.source_trial_id: There is no experiment 9 in .*; there are: 1"),
        ("source_trial_id: 1.7", "Experiment 1 has no trial 7; its trials are 1 to 1"),
        ("source_checkpoint_uuid: nosuch", "searcher.source_checkpoint_uuid: No checkpoint in .* has the id 'nosuch'"),
    ],
)
def test_a_source_that_is_not_there_is_told_at_its_place(
    lab: Any, sources: list[CheckpointRow], source: str, said: str
) -> None:
    assert re.search(said, refused(lab, source))


def test_a_trial_without_a_checkpoint_is_no_source(lab: Any) -> None:
    lab.run(lab.submit(lab.config(length=1, do="raise", at=0, retryable=False)))
    assert "trial 1.1 (ERROR) has no checkpoint to start from" in refused(lab, "source_trial_id: 1.1")


def test_a_source_in_an_empty_home_is_told_at_its_place(lab: Any) -> None:
    assert "holds none yet" in refused(lab, "source_trial_id: 1.1")
    assert not lab.home.exists()


@pytest.mark.parametrize(("state", "said"), [("DELETED", "was deleted"), ("DAMAGED", "is damaged")])
def test_a_checkpoint_that_is_deleted_or_damaged_is_no_source(
    lab: Any, sources: list[CheckpointRow], state: str, said: str
) -> None:
    with open_store(lab.home) as store, store.transaction() as transaction:
        transaction.set_checkpoint_state(sources[0].uuid, state)
    assert f"of trial 1.1 {said}" in refused(lab, f"source_checkpoint_uuid: {sources[0].uuid}")


def test_a_checkpoint_whose_folder_is_gone_is_no_source(lab: Any, sources: list[CheckpointRow]) -> None:
    shutil.rmtree(sources[-1].location)
    assert "is not where it was stored any more" in refused(lab, "source_trial_id: 1.1")


def test_a_source_is_kept_until_who_starts_from_it_has_ended(lab: Any, sources: list[CheckpointRow]) -> None:
    again = api.submit(starting_from(lab, "source_trial_id: 1.1"), home=lab.home)
    with pytest.raises(UsageError, match=f"trials of experiment {again}, not ended yet, start from a checkpoint of"):
        api.delete(1, home=lab.home)
    assert Path(sources[-1].location).is_dir()
    assert lab.run(again)["state"] == "COMPLETED"
    api.delete(1, home=lab.home)
    assert not Path(sources[-1].location).exists()


MANIFEST = Path(__file__).parents[1] / "checkpoint" / "fixtures" / "format-1" / "manifest.json"
RESUMING = YAML.replace("  SOURCE\n", "").replace("batches: 4", "batches: 9") + "resume: {from: FROM}\n"


def going_on(lab: Any, origin: str, name: str = "fake") -> Path:
    path: Path = lab.context / "again.yaml"
    path.write_text(RESUMING.replace("FROM", origin).replace("name: again", f"name: {name}"))
    return path


@pytest.mark.parametrize("origin", ["last", "best", "path", "id"])
def test_a_new_experiment_goes_on_from_all_of_a_checkpoint(lab: Any, sources: list[CheckpointRow], origin: str) -> None:
    with lab.reader() as reader:
        best = next(row for row in sources if row.uuid == reader.trial(1, 1).best_checkpoint)
    meant = {"last": sources[-1], "best": best, "path": sources[0], "id": sources[1]}[origin]
    if origin == "path":
        (Path(meant.location) / "manifest.json").write_text(MANIFEST.read_text())
    given = {"path": meant.location, "id": meant.uuid[:12]}.get(origin, origin)
    again = api.submit(going_on(lab, given), home=lab.home)
    source = kept(lab, again)
    assert source is not None
    assert (source.checkpoint, source.whole) == (meant.uuid, True)
    assert lab.run(again)["state"] == "COMPLETED"
    with lab.reader() as reader:
        assert [run.start_batches for run in reader.runs(again, 1)] == [meant.batches]
        assert [row.batches for row in reader.metrics(again, 1, "training")] == list(range(meant.batches + 1, 10))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("name: fake", "name: another"), "resume.from: no experiment called 'another' in .* has a checkpoint"),
        (("name: single", "name: random\n  max_trials: 2"), "only a trial of the searcher 'single' goes on"),
        (("metric: loss", "metric: loss\n  source_trial_id: '1.1'"), "goes with no searcher.source_"),
        (("from: last", "from: ./nowhere"), "nowhere cannot be gone on from"),
        (("from: last", "from: ffffffff"), "No checkpoint in .* has the id 'ffffffff'"),
    ],
)
def test_what_cannot_be_gone_on_from_is_told_at_its_place(
    lab: Any, sources: list[CheckpointRow], change: tuple[str, str], said: str
) -> None:
    path = going_on(lab, "last")
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(ConfigError) as told:
        api.submit(path, home=lab.home)
    (problem,) = told.value.problems
    assert re.search(said, str(problem)), problem
    assert re.search(r"again\.yaml:\d+:\d+: ", str(problem))
