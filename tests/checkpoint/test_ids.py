"""Ids tell whose a checkpoint is."""

from __future__ import annotations

import re
import uuid

from mnist_trials.checkpoint.ids import is_owned, new_checkpoint_id, new_owner
from mnist_trials.plugin import require_checkpoint_id


def test_ids_are_uuids_whoever_they_are_made_for() -> None:
    owner = new_owner()
    for name in (new_checkpoint_id(), new_checkpoint_id(owner)):
        require_checkpoint_id(name)
        assert re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-[48][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", name)
        assert str(uuid.UUID(name)) == name
        assert uuid.UUID(name).variant == uuid.RFC_4122


def test_no_two_ids_of_an_owner_begin_alike() -> None:
    owner = new_owner()
    ids = {new_checkpoint_id(owner) for _ in range(1000)}
    assert len({name[:13] for name in ids}) == 1000
    assert {name[-12:] for name in ids} == {owner}
    assert len({name[14:18] for name in ids}) > 500
    assert {name[19] for name in ids} == set("89ab")


def test_an_id_is_its_owners_alone() -> None:
    one, other = new_owner(), new_owner()
    assert one != other
    name = new_checkpoint_id(one)
    assert is_owned(name, one)
    assert not is_owned(name, other)
    assert not is_owned(name, "")
    assert not is_owned(new_checkpoint_id(), one)
