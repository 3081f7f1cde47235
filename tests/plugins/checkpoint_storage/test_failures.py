"""What errors of the libraries under fsspec are taken for."""

from __future__ import annotations

import errno
import http.client
import ssl
from typing import Any

import aiohttp
import botocore.exceptions
import pytest
from fsspec.exceptions import FSTimeoutError
from s3fs.errors import translate_boto_error

from mnist_trials_plugins.checkpoint_storage._failures import Failure, failure_of


def of_s3(code: str, status: int) -> BaseException:
    """As s3fs raises it."""
    response: Any = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return translate_boto_error(botocore.exceptions.ClientError(response, "PutObject"))


class WithStatus(Exception):
    """As the libraries of Azure (status_code), aiohttp (status) and Google (code) have them."""

    def __init__(self, **attributes: object) -> None:
        super().__init__("m")
        for name, value in attributes.items():
            setattr(self, name, value)


class ServiceRequestError(Exception):
    """Named as Azure's is."""


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        ConnectionResetError(),
        BrokenPipeError(),
        TimeoutError(),
        FSTimeoutError(),
        EOFError(),
        OSError(errno.EHOSTUNREACH, "no route"),
        OSError(errno.EBUSY, "busy"),
        http.client.IncompleteRead(b""),
        aiohttp.ServerDisconnectedError(),
        botocore.exceptions.EndpointConnectionError(endpoint_url="x"),
        botocore.exceptions.ReadTimeoutError(endpoint_url="x"),
        botocore.exceptions.ConnectionClosedError(endpoint_url="x"),
        of_s3("SlowDown", 503),
        of_s3("InternalError", 500),
        of_s3("RequestTimeout", 400),
        of_s3("SomethingNew", 503),
        of_s3("OperationAborted", 409),
        WithStatus(status_code=429),
        WithStatus(status=502),
        WithStatus(code=500),
        WithStatus(code="503"),
        ServiceRequestError("away"),
    ],
    ids=repr,
)
def test_errors_that_may_pass(error: BaseException) -> None:
    assert failure_of(error) is Failure.TRANSIENT


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(),
        of_s3("AccessDenied", 403),
        of_s3("InvalidAccessKeyId", 403),
        of_s3("SignatureDoesNotMatch", 403),
        of_s3("SomethingNew", 401),
        botocore.exceptions.NoCredentialsError(),
        OSError("Forbidden: https://storage.googleapis.com/...\nno"),
        WithStatus(status_code=401),
        WithStatus(status_code=403),
        WithStatus(code=403),
    ],
    ids=repr,
)
def test_errors_of_credentials(error: BaseException) -> None:
    assert failure_of(error) is Failure.DENIED


@pytest.mark.parametrize(
    "error", [FileNotFoundError(), of_s3("NoSuchBucket", 404), of_s3("NoSuchKey", 404), WithStatus(status_code=404)]
)
def test_errors_of_what_is_not_there(error: BaseException) -> None:
    assert failure_of(error) is Failure.ABSENT


@pytest.mark.parametrize(
    "error",
    [
        ValueError("odd"),
        OSError(errno.ENOSPC, "No space left on device"),
        of_s3("InvalidRequest", 400),
        of_s3("NotImplemented", 501),
        WithStatus(code=400),
        ssl.SSLCertVerificationError("self-signed"),
        botocore.exceptions.SSLError(endpoint_url="x", error="self-signed"),
    ],
    ids=repr,
)
def test_errors_that_stay(error: BaseException) -> None:
    assert failure_of(error) is Failure.OTHER


def test_the_error_behind_an_error_counts() -> None:
    told = RuntimeError("could not upload")
    told.__cause__ = ConnectionResetError()
    assert failure_of(told) is Failure.TRANSIENT
    handled = RuntimeError("could not upload")
    handled.__context__ = ConnectionResetError()
    assert failure_of(handled) is Failure.TRANSIENT
    handled.__suppress_context__ = True
    assert failure_of(handled) is Failure.OTHER
    circular = RuntimeError("a")
    circular.__cause__ = RuntimeError("b")
    circular.__cause__.__cause__ = circular
    assert failure_of(circular) is Failure.OTHER
