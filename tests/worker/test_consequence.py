"""Which errors only say that another rank is gone. The texts are torch's own, as seen."""

from __future__ import annotations

import pytest

from mnist_trials.errors import TrialError
from mnist_trials.worker.consequence import is_consequence

GLOO = "[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:2719"


@pytest.mark.parametrize(
    "message",
    [
        GLOO,
        "[../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1000ms for recv",
        "[gloo/transport/tcp/pair.cc:538] Read error [127.0.0.1]:1: Connection reset by peer",
        "NCCL communicator was aborted on rank 1.",
        "[c10d] failed to recv, got 0 bytes",
    ],
)
def test_a_lost_connection_is_a_consequence(message: str) -> None:
    assert is_consequence(RuntimeError(message))


def test_torchs_own_errors_of_that_kind_are_consequences() -> None:
    import torch.distributed as dist

    assert is_consequence(dist.DistNetworkError("whatever it says"))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("gloo: op.preamble.length <= op.nbytes. 4 vs 8"),
        RuntimeError("DataLoader timed out after 5 seconds"),
        ValueError(GLOO),
        TrialError(GLOO),
    ],
)
def test_other_errors_are_this_ranks_own(error: Exception) -> None:
    assert not is_consequence(error)


def test_what_was_raised_because_of_one_is_one() -> None:
    def wrapped() -> None:
        try:
            raise RuntimeError(GLOO)
        except RuntimeError as error:
            raise ValueError("the step failed") from error

    with pytest.raises(ValueError, match="the step failed") as caught:
        wrapped()
    assert is_consequence(caught.value)


def test_an_error_on_purpose_says_more_than_its_cause() -> None:
    error = TrialError("rank 1 did not come")
    error.__cause__ = RuntimeError(GLOO)
    assert not is_consequence(error)
