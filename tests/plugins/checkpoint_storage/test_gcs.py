"""The storage `gcs`: its options, URLs and errors. Google cannot be reached here; see test_remote.py for the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mnist_trials.errors import CheckpointError, PluginError
from mnist_trials.plugin import CheckpointStorage
from mnist_trials_plugins.checkpoint_storage import gcs
from mnist_trials_plugins.checkpoint_storage._retry import Retry
from tests.plugins.checkpoint_storage.refusing_server import answering

BUCKET = {"bucket": "my-bucket"}


def make(options: Mapping[str, Any], root: Path = Path("/nonexistent")) -> CheckpointStorage:
    return gcs.create(options, root, Retry(seconds=0.0, wait=pytest.fail))


def test_it_is_located_by_bucket_and_prefix() -> None:
    assert make(BUCKET).locate("first") == "gs://my-bucket/first"
    assert make({**BUCKET, "prefix": "a/b/"}).locate("first") == "gs://my-bucket/a/b/first"
    assert not make(BUCKET).local


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "The checkpoint storage 'gcs' needs 'bucket', the name of the bucket."),
        ({"bucket": "gs://a"}, "must be the plain name of a bucket"),
        ({**BUCKET, "prefix": "../a"}, "'prefix' of the checkpoint storage 'gcs' must be folder names"),
        ({**BUCKET, "endpoint_url": "x"}, "does not take 'endpoint_url'. It takes: bucket, prefix."),
    ],
)
def test_options_it_cannot_take_are_refused(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(PluginError) as error:
        make(options)
    assert message in str(error.value)


def test_without_its_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert gcs.available() == "the package gcsfs is not installed; install it with: pip install 'mnist-trials[gcs]'"


def test_without_credentials_the_places_to_put_them_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gcsfs", reason="gcsfs is not installed: pip install 'mnist-trials[gcs]'")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(CheckpointError) as error:
        make(BUCKET, tmp_path).ids()
    assert "gs://my-bucket: access was denied: File " in str(error.value)
    assert "'gcloud auth application-default login'" in str(error.value)


@pytest.mark.parametrize(("status", "said"), [(403, "access was denied: Forbidden"), (404, "it was not found: ")])
def test_a_service_that_refuses_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    core = pytest.importorskip("gcsfs.core", reason="gcsfs is not installed: pip install 'mnist-trials[gcs]'")
    body = json.dumps({"error": {"code": status, "message": "no"}})
    with answering(status, body, "application/json") as url:
        monkeypatch.setattr(
            gcs, "_connect", lambda: core.GCSFileSystem(endpoint_url=url, token="anon", skip_instance_cache=True)
        )
        with pytest.raises(CheckpointError) as error:
            make(BUCKET, tmp_path).begin("first")
    assert f"gs://my-bucket: {said}" in str(error.value)
    assert "have the role Storage Object Admin on it" in str(error.value)
