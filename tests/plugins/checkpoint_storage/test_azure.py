"""The storage `azure`: its options, URLs and errors. No account is reached here; test_remote.py has the rest."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.errors import CheckpointError, PluginError
from mnist_trials.plugin import CheckpointStorage
from mnist_trials.testing.storage_process import write_files
from mnist_trials_plugins.checkpoint_storage import azure
from mnist_trials_plugins.checkpoint_storage._retry import Retry
from tests.plugins.checkpoint_storage.refusing_server import answering

KEY = base64.b64encode(b"the key of an account").decode()
SAS = f"sv=2024-01-01&sr=c&sig={KEY}"
URL = "https://myaccount.blob.core.windows.net"
CONTAINER = {"container": "my-container"}
CONNECTION = f"DefaultEndpointsProtocol=https;AccountName=myaccount;AccountKey={KEY};EndpointSuffix=core.windows.net"


def make(options: Mapping[str, Any], root: Path = Path("/nonexistent")) -> CheckpointStorage:
    return azure.create(options, root, Retry(seconds=0.0, wait=pytest.fail))


@pytest.mark.parametrize(
    "options",
    [
        {"account_url": URL},
        {"account_url": f"{URL}/"},
        {"account_url": f"{URL}?{SAS}"},
        {"account_url": URL, "credential": KEY},
        {"account_url": URL, "credential": f"?{SAS}"},
        {"connection_string": CONNECTION},
    ],
)
def test_it_is_located_by_container_and_shows_no_secret(options: Mapping[str, Any]) -> None:
    storage = make({**CONTAINER, **options})
    assert storage.locate("first") == "az://my-container/first"
    assert not storage.local
    assert KEY not in repr(storage)


@pytest.mark.parametrize(
    ("url", "credential", "settings"),
    [
        (URL, None, {}),
        (URL, KEY, {"account_key": KEY}),
        (URL, SAS, {"sas_token": SAS}),
        (URL, f"?{SAS}", {"sas_token": SAS}),
        (f"{URL}?{SAS}", None, {"sas_token": SAS}),
        (
            "https://myaccount.blob.core.chinacloudapi.cn",
            None,
            {"account_host": "myaccount.blob.core.chinacloudapi.cn"},
        ),
    ],
)
def test_the_account_url_and_the_credential_are_told_apart_for_adlfs(
    url: str, credential: str | None, settings: dict[str, str]
) -> None:
    host = {"account_name": "myaccount", "account_host": "myaccount.blob.core.windows.net"}
    assert azure._account(url, credential) == {**host, **settings}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"account_url": URL}, "needs 'container', the name of the container"),
        ({"container": "a/b", "account_url": URL}, "must be the plain name of a container"),
        (CONTAINER, "needs either 'connection_string' or 'account_url'; neither is given"),
        ({**CONTAINER, "account_url": URL, "connection_string": CONNECTION}, "both are given"),
        ({**CONTAINER, "connection_string": CONNECTION, "credential": KEY}, "goes with 'account_url'"),
        ({**CONTAINER, "account_url": f"{URL}?{SAS}", "credential": KEY}, "give no 'credential' beside it"),
        ({**CONTAINER, "account_url": "http://127.0.0.1:10000/dev"}, "by a connection_string"),
        ({**CONTAINER, "account_url": f"{URL}/path"}, "without a path"),
        ({**CONTAINER, "account_url": "myaccount"}, "must be such as https://myaccount.blob.core.windows.net"),
        ({**CONTAINER, "account_url": URL, "prefix": "a"}, "does not take 'prefix'"),
        ({**CONTAINER, "account_url": URL, "credential": 31415926}, "put it in quotes if it is a number"),
    ],
)
def test_options_it_cannot_take_are_refused_without_telling_secrets(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(PluginError) as error:
        make(options)
    assert message in str(error.value)
    assert KEY not in str(error.value)
    assert "31415926" not in str(error.value)


def test_without_its_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert azure.available() == "the package adlfs is not installed; install it with: pip install 'mnist-trials[azure]'"


def connection_to(url: str) -> str:
    return f"DefaultEndpointsProtocol=http;AccountName=dev;AccountKey={KEY};BlobEndpoint={url}/dev"


def test_a_service_that_refuses_is_told_at_once_without_the_key(tmp_path: Path) -> None:
    code = "AuthorizationPermissionMismatch"
    pytest.importorskip("adlfs", reason="adlfs is not installed: pip install 'mnist-trials[azure]'")
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>no, {KEY}</Message></Error>'
    with answering(403, body, "application/xml", x_ms_error_code=code) as url:
        storage = make({**CONTAINER, "connection_string": connection_to(url)}, tmp_path)
        for work in (lambda: storage.begin("first"), storage.ids):
            with pytest.raises(CheckpointError) as error:
                work()
            assert "az://my-container: access was denied: " in str(error.value)
            assert "Check that the container 'my-container' exists" in str(error.value)
            assert KEY not in str(error.value)
            assert KEY not in repr(error.value.__cause__)


def test_a_container_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    pytest.importorskip("adlfs", reason="adlfs is not installed: pip install 'mnist-trials[azure]'")
    body = '<?xml version="1.0" encoding="utf-8"?><Error><Code>ContainerNotFound</Code><Message>no</Message></Error>'
    with answering(404, body, "application/xml", x_ms_error_code="ContainerNotFound") as url:
        storage = make({**CONTAINER, "connection_string": connection_to(url)}, tmp_path)
        write_files(storage.begin("first"))
        with pytest.raises(CheckpointError, match=r"az://my-container: it was not found: .*No such container"):
            storage.commit("first")


def test_a_connection_string_that_is_none_is_an_error_without_it(tmp_path: Path) -> None:
    pytest.importorskip("adlfs", reason="adlfs is not installed: pip install 'mnist-trials[azure]'")
    storage = make({**CONTAINER, "connection_string": f"AccountKey={KEY};nonsense"}, tmp_path)
    with pytest.raises(CheckpointError) as error:
        storage.ids()
    assert "could not be listed in az://my-container" in str(error.value)
    assert KEY not in json.dumps([str(error.value), repr(error.value.__cause__)])
