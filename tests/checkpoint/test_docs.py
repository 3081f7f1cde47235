import re
from pathlib import Path
from typing import Any

from mnist_trials.checkpoint import CheckpointContent, verify, write_checkpoint
from mnist_trials.checkpoint.tensors import _DECODERS
from mnist_trials.plugin import CheckpointStorage

DOCS = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text()


def test_a_checkpoint_is_read_by_the_lines_in_the_docs(storage: CheckpointStorage, content: CheckpointContent) -> None:
    folder = write_checkpoint(storage, "first", content).location
    (program,) = re.findall(r"without mnist-trials\n\n```python\n(.*?)```", DOCS, re.DOTALL)
    names: dict[str, Any] = {}
    exec(program.replace("CHECKPOINT", folder), names)
    assert {name: tensor.tolist() for name, tensor in names["weights"].items()} == {
        name: tensor.tolist() for name, tensor in content.model.items()
    }


def test_the_code_in_the_docs_runs(storage: CheckpointStorage, content: CheckpointContent) -> None:
    (program,) = re.findall(r"## In code\n\n```python\n(.*?)```", DOCS, re.DOTALL)
    names: dict[str, Any] = {"storage": storage, "content": content}
    exec(program, names)
    assert names["manifest"].batches == content.batches


def test_every_key_of_the_manifest_and_every_form_is_in_the_docs(
    storage: CheckpointStorage, content: CheckpointContent
) -> None:
    folder = Path(write_checkpoint(storage, "first", content).location)
    verify(folder)
    for name in re.findall(r'^  "(\w+)"', (folder / "manifest.json").read_text(), re.MULTILINE):
        assert f"`{name}`" in DOCS, name
    for form in _DECODERS:
        assert f'{{"{form}": ' in DOCS, form
