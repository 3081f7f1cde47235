"""A controller of one run, to be killed by a test: `parent.py SPEC_FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mnist_trials.plugin import WorkerSpec, get_plugins

spec = WorkerSpec.from_json(json.loads(Path(sys.argv[1]).read_text()))
handle = get_plugins().find("launcher", "local").factory({}).create([spec])
handle.start(lambda event: None)
handle.join(600)
