"""Where things run: this machine in words, children in either interpreter, and the environment of the peers."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent.parent
_PEERS = Path(tempfile.gettempdir()) / "mnist-trials-benchmark-peers"
_WANTED = ("ray[tune]", "optuna")


def machine() -> str:
    """Processor, cores, Python."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    name = names[0] if names else platform.processor()
    return f"{name}, {os.cpu_count()} cores; Python {platform.python_version()}"


def child(module: str, *arguments: object, python: str = sys.executable) -> list[dict[str, Any]]:
    """What `python -m searches.MODULE ARGUMENTS` printed: a line of JSON each."""
    command = [python, "-m", f"searches.{module}", *map(str, arguments)]
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    out = subprocess.run(command, cwd=HERE, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def peers(named: str | None) -> str | None:
    """The interpreter that has the peers: the one named, or of an environment made for it; None: it cannot be had."""
    if named is not None:
        return named
    python = str(_PEERS / "bin" / "python")
    try:
        if not Path(python).exists():
            # Named by --python: a uv started as a module takes the environment of its own interpreter otherwise.
            subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", str(_PEERS)], check=True)
            install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python]
            subprocess.run([*install, *_WANTED], check=True)
        subprocess.run([python, "-c", "import ray.tune, optuna"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"The peers are left out: {error}", file=sys.stderr)
        return None
    return python


def versions(python: str) -> str:
    """The peers' versions."""
    code = "from searches.peers import versions; print(versions())"
    return subprocess.run([python, "-c", code], cwd=HERE, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
