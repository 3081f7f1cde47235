"""A process that speaks like Amazon S3: moto's server."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from typing import Any

KEY, SECRET = "AKIDMADEUP", "made+up/secret"


class MotoServer:
    """Listens on 127.0.0.1, on `port` or on a free one; what it holds ends with it."""

    def __init__(self, port: int = 0) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        for line in self._process.stderr:  # it ends with the process, if that cannot listen
            if found := re.search(r"Running on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            raise RuntimeError(f"moto's server ended with status {self._process.wait(timeout=10)}")
        self._drain()

    def _drain(self) -> None:
        # Its log of requests must not fill the pipe.
        self._log = subprocess.Popen(["cat"], stdin=self._process.stderr, stdout=subprocess.DEVNULL)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """End it with all it holds; its port is free then."""
        self._process.kill()
        self._process.wait(timeout=30)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._log.wait(timeout=30)

    def make_bucket(self, bucket: str) -> None:
        self.connect().mkdir(bucket)

    def connect(self) -> Any:
        """Its file system, not that of any storage."""
        import s3fs

        return s3fs.S3FileSystem(
            endpoint_url=self.url, key=KEY, secret=SECRET, skip_instance_cache=True, use_listings_cache=False
        )

    def options(self, bucket: str, **more: Any) -> Mapping[str, Any]:
        """Options of the storage for that bucket."""
        return {"bucket": bucket, "endpoint_url": self.url, "access_key": KEY, "secret_key": SECRET, **more}

    def check_credentials_after(self, requests: int) -> None:
        """Take any credentials for so many requests, and only those of known users from then on."""
        request = urllib.request.Request(
            f"{self.url}/moto-api/reset-auth", data=str(requests).encode(), headers={"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(request, timeout=30).close()
