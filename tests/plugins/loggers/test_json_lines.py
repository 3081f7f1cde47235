import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from mnist_trials.errors import PluginError
from mnist_trials.events import from_json
from mnist_trials.plugin import Logger, LoggerContext, get_plugins
from mnist_trials.testing import LoggerSuite
from mnist_trials.testing.logger import CONFIG, HPARAMS, SUMMARY, every_event, made_up


def make(options: Mapping[str, Any]) -> Logger:
    logger: Logger = get_plugins().find("logger", "json_lines").factory(options)
    return logger


def follow(logger: Logger, of: LoggerContext) -> None:
    logger.start(of)
    logger.trial_created(1, HPARAMS)
    for event in every_event(1):
        logger.event(event)
    logger.finish(SUMMARY)


def lines(path: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


class TestJsonLines(LoggerSuite):
    plugin = "json_lines"

    @override
    def options(self, root: Path) -> Mapping[str, Any]:
        return {"path": str(root / "new" / "folder" / "log.jsonl")}


class TestJsonLinesWithoutOptions(LoggerSuite):
    plugin = "json_lines"


def test_everything_that_happened_stands_in_the_file(tmp_path: Path) -> None:
    follow(make({}), made_up(tmp_path))
    start, trial, *events, finish = lines(tmp_path / "events.jsonl")
    assert (start["what"], start["name"], start["config"]) == ("start", "const", CONFIG)
    assert (trial["what"], trial["trial_id"], trial["hparams"]) == ("trial", 1, HPARAMS)
    assert [from_json(line["event"]) for line in events] == every_event(1)
    assert (finish["what"], finish["summary"]) == ("finish", SUMMARY)
    assert {line["experiment_id"] for line in (start, trial, *events, finish)} == {7}


def test_a_relative_path_starts_in_the_experiment_s_folder(tmp_path: Path) -> None:
    follow(make({"path": "deep/log.jsonl"}), made_up(tmp_path))
    assert len(lines(tmp_path / "deep" / "log.jsonl")) == len(every_event(1)) + 3


def test_several_experiments_may_append_to_one_file(tmp_path: Path) -> None:
    for experiment_id in (1, 2):
        follow(make({"path": str(tmp_path / "all.jsonl")}), made_up(tmp_path / str(experiment_id), experiment_id))
    assert {line["experiment_id"] for line in lines(tmp_path / "all.jsonl")} == {1, 2}


def test_a_line_cut_off_by_a_kill_does_not_spoil_the_next(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"what": "start"}\n{"wh')
    make({}).start(made_up(tmp_path))
    first, cut, last = (tmp_path / "events.jsonl").read_text().splitlines()
    assert (first, cut) == ('{"what": "start"}', '{"wh')
    assert json.loads(last)["what"] == "start"


def test_a_file_that_cannot_be_written_is_an_ordinary_exception(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        make({"path": str(tmp_path / "file" / "log.jsonl")}).start(made_up(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pth": "x"}, "The logger 'json_lines' does not take 'pth'. Did you mean 'path'? It takes: path."),
        ({"path": 3}, "'path' of the logger 'json_lines' must be text that is not empty, not 3."),
        ({"path": ""}, "must be text that is not empty"),
    ],
)
def test_options_it_cannot_take_are_refused(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(PluginError) as error:
        make(options)
    assert message in str(error.value)
