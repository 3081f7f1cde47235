"""Secrets of a config are shown to nobody."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mnist_trials.config import load
from mnist_trials.config.secrets import without_secrets
from mnist_trials.errors import ConfigError

SECRET = "hunter2hunter2"
BASE: dict[str, Any] = {
    "name": "x",
    "entrypoint": "python3 train.py",
    "searcher": {"name": "single", "metric": "loss", "max_length": 8},
}
SECTIONS: list[dict[str, Any]] = [
    {"checkpoint_storage": {"type": "s3", "bucket": "b", "access_key": SECRET, "secret_key": SECRET}},
    {"checkpoint_storage": {"type": "azure", "container": "c", "connection_string": SECRET}},
    {"checkpoint_storage": {"type": "azure", "container": "c", "account_url": f"https://a.b/?sig={SECRET}"}},
    {"checkpoint_storage": {"type": "azure", "container": "c", "account_url": "https://a.b", "credential": SECRET}},
    {"checkpoint_storage": {"type": "fsspec", "url": f"sftp://me:{SECRET}@host/x", "options": {"username": SECRET}}},
    {"loggers": [{"name": "wandb", "api_key": SECRET}]},
    {"resume": {"from": f"sftp://me:{SECRET}@host/x/1234"}},
    {"resume": {"from": f"sftp://me:p@{SECRET}@host/x/1234"}},
    {"searcher": {**BASE["searcher"], "source_checkpoint_uuid": f"sftp://me:{SECRET}@host/x/1234"}},
    {"launcher": {"name": "ray", "runtime_env": {"env_vars": {"WANDB_API_KEY": SECRET}}}},
]


@pytest.mark.parametrize("section", SECTIONS, ids=json.dumps)
def test_they_are_left_out_of_what_is_shown_and_nothing_else_is(section: dict[str, Any]) -> None:
    document = load(BASE | section).config.to_dict()
    assert SECRET in json.dumps(document)
    shown = without_secrets(document)
    assert SECRET not in json.dumps(shown)
    assert "***" in json.dumps(shown)
    assert {name: value for name, value in shown.items() if name not in section} == {
        name: value for name, value in document.items() if name not in section
    }


NUMBER = "99887766554433"
MISTAKES = [
    f"secret_key: {NUMBER}",
    f"secret_key: [{NUMBER}]",
    f"access_key: {{a: {NUMBER}}}",
    f"secret_key: {NUMBER}00000000000000000000",
    f'secret_key: "{NUMBER}\\0"',
]


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_in_one_does_not_show_it(line: str, tmp_path: Any) -> None:
    path = tmp_path / "config.yaml"
    text = json.dumps(BASE)[:-1] + f", checkpoint_storage: {{type: s3, bucket: b, {line}}}}}"
    path.write_text(text)
    with pytest.raises(ConfigError) as told:
        load(path)
    assert NUMBER[:8] not in str(told.value)
    assert "_key" in str(told.value)


def test_an_override_does_not_show_it() -> None:
    with pytest.raises(ConfigError) as told:
        load(
            BASE | {"checkpoint_storage": {"type": "s3", "bucket": "b"}},
            [f"checkpoint_storage.secret_key={NUMBER}", f"checkpoint_storage.access_key.x={NUMBER}"],
        )
    assert NUMBER not in str(told.value)
    assert "--config checkpoint_storage.secret_key=***" in str(told.value)
    with pytest.raises(ConfigError) as told:
        load(BASE, [f"resume.form=sftp://me:{SECRET}@host/x/1234"])
    assert "--config resume.form=sftp://***@host/x/1234" in str(told.value)
    assert SECRET not in str(told.value)
