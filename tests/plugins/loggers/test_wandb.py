import importlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from mnist_trials.errors import PluginError
from mnist_trials.events import CheckpointSaved, Event, HistogramsReported, MetricsReported, TrialExited
from mnist_trials.plugin import Logger, LoggerContext, get_plugins
from mnist_trials.records import CheckpointInfo, ErrorInfo, Outcome
from mnist_trials.testing import LoggerSuite
from mnist_trials.testing.logger import CONFIG, HPARAMS, SUMMARY, every_event, made_up

wandb = pytest.importorskip("wandb", reason="wandb is not installed: pip install 'mnist-trials[wandb]'")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Without the account, settings and files of whoever runs the tests; the service is ended afterwards."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_RUN_GROUP"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb-of-the-user"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    yield
    wandb.teardown()


def make(options: Mapping[str, Any]) -> Logger:
    logger: Logger = get_plugins().find("logger", "wandb").factory(options)
    return logger


def metrics(batches: int, run: int = 1) -> Event:
    at = {"batches": batches, "epochs": batches / 200, "records": batches * 64}
    return MetricsReported(trial_id=1, run=run, metrics={"loss": 1 / batches}, seconds=1.0, **at)  # type: ignore[arg-type]


def saved(location: str, batches: int) -> Event:
    at = {"batches": batches, "epochs": batches / 200, "records": batches * 64}
    info = CheckpointInfo(uuid="d1e8", metrics={}, bytes=2, location=location, **at)  # type: ignore[arg-type]
    return CheckpointSaved(trial_id=1, run=1, checkpoint=info)


def histograms(batches: int) -> Event:
    event = next(event for event in every_event(1) if isinstance(event, HistogramsReported))
    return replace(event, batches=batches)


def records(path: Path) -> list[Any]:
    """What stands in a `.wandb` file: a LevelDB log with a header of its own, a protobuf record per entry."""
    proto: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
    content = path.read_bytes()
    found, position, entry = [], 7, b""
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        entry += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or its last part
            record = proto.Record()
            record.ParseFromString(entry)
            found.append(record)
            entry = b""
    return found


def written(directory: Path) -> list[dict[str, Any]]:
    """Every offline run in the order of its making."""
    wandb.teardown()  # the service writes until it ends
    runs = []
    for path in sorted(directory.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_ctime_ns):
        all_records = records(path)
        (run,) = (record.run for record in all_records if record.HasField("run"))
        history = [
            {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            for record in all_records
            if record.HasField("history")
        ]
        runs.append(
            {
                "id": run.run_id,
                "name": run.display_name,
                "project": run.project,
                "group": run.run_group,
                "tags": list(run.tags),
                "config": {update.key: json.loads(update.value_json) for update in run.config.update},
                "history": [
                    {key: row[key] for key in row if not key.startswith("_") or key == "_step"} for row in history
                ],
                "summary": {
                    ".".join(item.nested_key) or item.key: json.loads(item.value_json)
                    for record in all_records
                    if record.HasField("summary")
                    for item in record.summary.update
                },
                "alerts": [
                    (record.alert.title, record.alert.text, record.alert.level)
                    for record in all_records
                    if record.HasField("alert")
                ],
                "artifacts": [
                    (
                        artifact.name,
                        artifact.type,
                        list(artifact.aliases),
                        [entry.ref for entry in artifact.manifest.contents],
                    )
                    for record in all_records
                    if (artifact := record.artifact or record.request.log_artifact.artifact).name
                ],
                "exit": [record.exit.exit_code for record in all_records if record.HasField("exit")],
            }
        )
    return runs


@pytest.fixture
def context(tmp_path: Path) -> LoggerContext:
    return made_up(tmp_path / "files")


class TestWandb(LoggerSuite):
    plugin = "wandb"

    @override
    def options(self, root: Path) -> Mapping[str, Any]:
        return {"mode": "offline"}


def test_a_trial_is_a_run_with_its_hyperparameters_and_metrics(context: LoggerContext) -> None:
    logger = make({})
    logger.start(context)
    logger.trial_created(1, HPARAMS)
    for event in every_event(1):
        logger.event(event)
    logger.finish(SUMMARY)
    (run,) = written(context.directory)
    assert (run["name"], run["project"], run["group"], run["tags"]) == (
        "const-7.1",
        "mnist-trials",
        "const-7",
        ["first"],
    )
    assert {name: run["config"][name] for name in HPARAMS} == HPARAMS
    assert run["config"]["mnist_trials"] == {"experiment_id": 7, "trial_id": 1, "config": CONFIG}
    (row,) = run["history"]
    assert row["_step"] == 100
    assert (row["training/loss"], row["validation/accuracy"], row["epochs"], row["records"]) == (0.25, 0.9, 0.5, 6400)
    assert row["training/not finite"] == "NaN" or row["training/not finite"] != row["training/not finite"]
    assert run["summary"]["dataset"] == "mnist"
    assert run["exit"] == [0]


def test_options_name_project_run_and_tags(context: LoggerContext) -> None:
    logger = make({"project": "p", "run_name": "baseline", "tags": ["a", "b"]})
    logger.start(context)
    for trial_id in (1, 2):
        logger.trial_created(trial_id, {})
        logger.event(every_event(trial_id)[1])
    logger.finish(SUMMARY)
    runs = written(context.directory)
    assert {(run["project"], run["name"], *run["tags"]) for run in runs} == {
        ("p", "baseline-7.1", "a", "b"),
        ("p", "baseline-7.2", "a", "b"),
    }
    assert len({run["id"] for run in runs}) == 2


def test_a_restart_goes_on_in_the_same_run_and_repeats_nothing(context: LoggerContext) -> None:
    logger = make({})
    logger.start(context)
    logger.trial_created(1, {})
    for event in (metrics(100), metrics(200), metrics(150, run=2), metrics(200, run=2), metrics(300, run=2)):
        logger.event(event)
    logger.finish(SUMMARY)
    (run,) = written(context.directory)
    assert [row["_step"] for row in run["history"]] == [100, 200, 300]


def test_an_experiment_that_goes_on_keeps_the_id_of_the_run(context: LoggerContext) -> None:
    for batches in (100, 200):
        logger = make({})
        logger.start(context)
        if batches == 100:
            logger.trial_created(1, {"lr": 0.5})
        logger.event(metrics(batches))
        logger.finish(SUMMARY)
    first, second = written(context.directory)
    assert first["id"] == second["id"]
    assert first["config"]["lr"] == second["config"]["lr"] == 0.5


def test_a_trial_that_ended_in_error_is_a_failed_run(context: LoggerContext) -> None:
    logger = make({})
    logger.start(context)
    logger.event(metrics(100))
    logger.finish({"trials": [{"trial_id": 1, "state": "ERROR"}]})
    (run,) = written(context.directory)
    assert run["exit"] == [1]


def test_histograms_are_logged_with_their_bins(context: LoggerContext) -> None:
    logger = make({})
    logger.start(context)
    logger.event(histograms(100))
    logger.finish(SUMMARY)
    (run,) = written(context.directory)
    (row,) = run["history"]
    assert row["gradients/fc1.weight._type"] == "histogram"
    assert row["gradients/fc1.weight.values"] == [1, 0, 2]
    assert row["gradients/fc1.weight.bins"] == pytest.approx([-1, -1 / 3, 1 / 3, 1])
    assert row["parameters/fc1.weight.values"] == [1, 0, 2]


def test_names_are_those_that_options_give(context: LoggerContext) -> None:
    templates = {"log_gradients": "Gradients/{name}", "log_weights": "{name} (weights)"}
    logger = make({"log_train_loss": "loss/train", "log_val_loss": "loss/val", "log_val_accuracy": "acc", **templates})
    logger.start(context)
    for event in every_event(1):
        logger.event(event)
    logger.finish(SUMMARY)
    (run,) = written(context.directory)
    (row,) = run["history"]
    names = {name.removesuffix(".values") for name in row}
    assert {"loss/train", "acc", "Gradients/fc1.weight", "fc1.weight (weights)", "training/not finite"} <= names
    assert not {"training/loss", "validation/accuracy", "gradients/fc1.weight"} & names


def test_a_failure_gives_an_alert_with_the_traceback_and_an_invalid_choice_does_not(context: LoggerContext) -> None:
    logger = make({})
    logger.start(context)
    for trial_id, outcome in ((1, Outcome.FAILED), (2, Outcome.INVALID_HP)):
        error = ErrorInfo(type="ValueError", message="no", traceback="Traceback: here", batches=150)
        logger.event(every_event(trial_id)[1])
        logger.event(TrialExited(trial_id=trial_id, run=1, outcome=outcome, batches=150, error=error))
    logger.finish(SUMMARY)
    alerts = {run["name"]: run["alerts"] for run in written(context.directory)}
    assert alerts == {"const-7.1": [("Trial 7.1 failed at batch 150", "Traceback: here", "ERROR")], "const-7.2": []}


def test_checkpoints_are_artifacts_that_refer_to_where_they_lie_if_asked_for(
    context: LoggerContext, tmp_path: Path
) -> None:
    (tmp_path / "d1e8").mkdir()
    (tmp_path / "d1e8" / "manifest.json").write_text("{}")
    for asked in (False, True):
        logger = make({"log_checkpoints": asked})
        logger.start(context)
        logger.event(saved(str(tmp_path / "d1e8"), batches=100))
        logger.event(saved(str(tmp_path / "gone"), batches=200))
        logger.event(metrics(300))
        logger.finish(SUMMARY)
    without, with_them = (run["artifacts"] for run in written(context.directory))
    assert without == []
    ((name, kind, aliases, references),) = with_them
    assert (name, kind, sorted(aliases)) == ("const-7.1-checkpoint", "checkpoint", ["batch_100", "latest"])
    assert references == [f"file://{tmp_path}/d1e8/manifest.json"]


def test_disabled_writes_nothing(context: LoggerContext) -> None:
    logger = make({"mode": "disabled"})
    logger.start(context)
    logger.event(metrics(100))
    logger.finish(SUMMARY)
    assert written(context.directory) == []


def test_online_without_a_key_fails_without_a_question(context: LoggerContext) -> None:
    logger = make({"mode": "online"})
    logger.start(context)
    with pytest.raises(Exception, match=r"(?i)api key"):
        logger.event(metrics(100))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projct": "x"}, "The logger 'wandb' does not take 'projct'. Did you mean 'project'? It takes: "),
        ({"mode": "on"}, "'mode' of the logger 'wandb' must be one of online, offline, disabled, not 'on'."),
        ({"tags": "cnn"}, "'tags' of the logger 'wandb' must be a list of texts, not 'cnn'."),
        ({"tags": [1]}, "must be a list of texts, not [1]"),
        ({"project": ""}, "'project' of the logger 'wandb' must be text that is not empty"),
        ({"run_name": 3}, "not 3"),
        (
            {"log_weights": "w"},
            "'log_weights' of the logger 'wandb' must hold {name}, which stands for the parameter's, not 'w'",
        ),
        ({"log_val_loss": ""}, "'log_val_loss' of the logger 'wandb' must be text that is not empty"),
        ({"log_checkpoints": "yes"}, "'log_checkpoints' of the logger 'wandb' must be true or false, not 'yes'."),
    ],
)
def test_options_it_cannot_take_are_refused(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(PluginError) as error:
        make(options)
    assert message in str(error.value)


def test_without_the_package_it_says_how_to_install_it() -> None:
    program = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "wandb" else find(name, *rest)
from mnist_trials.plugin import PluginError, get_plugins
try:
    get_plugins().find("logger", "wandb")
except PluginError as error:
    print(error)
assert "wandb" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == (
        "The logger 'wandb' is not available: the package wandb is not installed; "
        "install it with: pip install 'mnist-trials[wandb]'"
    )
