"""A writer that is killed once the first part of a large file was taken: `python killed_upload.py OPTIONS ROOT ID`."""

import json
import os
import signal
import sys
from pathlib import Path

import s3fs

from mnist_trials.testing.storage_process import open_storage, write_files

undisturbed = s3fs.S3FileSystem._call_s3


async def kill_after_a_part(self, method, *args, **kwargs):
    answer = await undisturbed(self, method, *args, **kwargs)
    if method == "upload_part":
        os.kill(os.getpid(), signal.SIGKILL)
    return answer


s3fs.S3FileSystem._call_s3 = kill_after_a_part
options, root, checkpoint_id = sys.argv[1:]
storage = open_storage("s3", json.loads(options), Path(root))
folder = storage.begin(checkpoint_id)
write_files(folder)
(folder / "optimizer.safetensors").write_bytes(bytes(40 * 2**20))
storage.commit(checkpoint_id)
