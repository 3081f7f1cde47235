"""docs/cluster.md and examples/cluster: every YAML is what it says it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnist_trials.config import load
from mnist_trials_plugins.launchers.ray import create

ROOT = Path(__file__).parent.parent.parent.parent
PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
EXAMPLES = ROOT / "examples" / "cluster"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
CONFIGS = [block for block in BLOCKS if "entrypoint:" in block]
FILES = {path.name: path.read_text(encoding="utf-8") for path in sorted(EXAMPLES.glob("*.yaml"))}


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all(FILES[name]))


@pytest.mark.parametrize("block", CONFIGS)
def test_every_config_of_the_page_is_one(block: str, tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(block)
    loaded = load(path)
    assert loaded.warnings == ()
    assert loaded.config.launcher.name == "ray"
    create(loaded.config.launcher.options)


def test_every_other_block_stands_in_one_of_the_files() -> None:
    assert len(CONFIGS) == 2
    assert [
        block for block in BLOCKS if block not in CONFIGS and not any(block in file for file in FILES.values())
    ] == []
    assert FILES["experiment.yaml"] in CONFIGS


def test_every_pod_of_the_cluster_mounts_the_volumes_that_it_needs() -> None:
    claims = {claim["metadata"]["name"] for claim in documents("storage.yaml")}
    (cluster,) = documents("ray-cluster.yaml")
    config = load(EXAMPLES / "experiment.yaml").config
    storage = config.checkpoint_storage.storage
    assert storage is not None
    for group in (cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]}
        assert set(volumes.values()) <= claims
        (container,) = pod["containers"]
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert volumes[mounted[storage.options["host_path"]]] == "mnist-shared"


def test_the_image_and_the_cluster_have_the_same_ray() -> None:
    (cluster,) = documents("ray-cluster.yaml")
    assert f"ray[default]=={cluster['spec']['rayVersion']}" in (EXAMPLES / "Dockerfile").read_text()


def test_a_slot_of_the_example_fits_on_a_worker() -> None:
    (cluster,) = documents("ray-cluster.yaml")
    (worker,) = cluster["spec"]["workerGroupSpecs"]
    (container,) = worker["template"]["spec"]["containers"]
    options = load(EXAMPLES / "experiment.yaml").config.launcher.options
    assert options["cpus_per_slot"] <= int(container["resources"]["limits"]["cpu"])
