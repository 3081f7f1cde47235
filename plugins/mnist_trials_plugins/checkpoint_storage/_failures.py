"""What an error of a remote file system means, whichever library raised it.

The libraries under fsspec have no errors in common. They are told apart by what they have: a type of Python's own, an
HTTP status, an error number, or the name of their class; so none of them need be imported here.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any, Final


class Failure(Enum):
    """What to do about an error."""

    TRANSIENT = auto()
    """It may pass: no connection, no answer in time, or the service asks for patience."""
    DENIED = auto()
    """The service refuses these credentials, or there are none."""
    ABSENT = auto()
    """There is no such object, bucket or folder."""
    OTHER = auto()


def failure_of(error: BaseException) -> Failure:
    """What `error`, or the first error behind it that says anything, means."""
    for link in _chain(error):
        if (failure := _of_one(link)) is not Failure.OTHER:
            return failure
        if _names(link) & _FINAL:
            return Failure.OTHER
    return Failure.OTHER


_PASSING_NUMBERS: Final = {
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT, errno.EBUSY),
    *(errno.EAGAIN, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET),
}
_PASSING_STATUSES: Final = {408, 425, 429, 500, 502, 503, 504, 507, 509}
_PASSING: Final = {
    *("ConnectionError", "TimeoutError", "FSTimeoutError", "EOFError"),
    *("ClientConnectionError", "ClientPayloadError", "ServerTimeoutError"),  # aiohttp
    *("EndpointConnectionError", "HTTPClientError", "IncompleteReadError", "ResponseParserError"),  # botocore
    *("ServiceRequestError", "ServiceResponseError", "IncompleteRead"),  # Azure, http.client
    *("Timeout", "ChunkedEncodingError", "ChecksumError", "TransportError"),  # requests, gcsfs, google.auth
}
_DENIED: Final = {
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),  # botocore
    *("ClientAuthenticationError", "CredentialUnavailableError"),  # Azure
    *("DefaultCredentialsError", "RefreshError"),  # google.auth
    *("AuthenticationException", "error_perm"),  # paramiko, ftplib
}
_FINAL: Final = {"SSLError", "SSLCertVerificationError", "ClientConnectorCertificateError", "InvalidURL"}
"""Errors that are of a kind that passes, and do not."""


def _of_one(error: BaseException) -> Failure:
    names = _names(error)
    status = _status(error)
    if isinstance(error, PermissionError) or names & _DENIED or status in (401, 403):
        return Failure.DENIED
    if isinstance(error, FileNotFoundError) or status == 404:
        return Failure.ABSENT
    if isinstance(error, OSError) and str(error).startswith("Forbidden: "):  # all that gcsfs leaves of status 403
        return Failure.DENIED
    if names & _FINAL:
        return Failure.OTHER
    if status in _PASSING_STATUSES or names & _PASSING or getattr(error, "errno", None) in _PASSING_NUMBERS:
        return Failure.TRANSIENT
    return Failure.OTHER


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _status(error: Any) -> int | None:
    """The HTTP status that a library kept in its error."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status if isinstance(status, int) else None
    for name in ("status_code", "status", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()):
            return int(value)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
