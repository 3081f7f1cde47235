"""Whether a folder lies on a network file system, where SQLite's locks and shared memory cannot be relied on."""

from __future__ import annotations

import re
from pathlib import Path

_NETWORK = {
    "afs", "beegfs", "ceph", "cifs", "coda", "fuse.ceph", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
    "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "smb3", "smbfs",
    "wekafs",
}  # fmt: skip

_MOUNTS = Path("/proc/self/mountinfo")


def network_file_system(folder: Path, mounts: str | None = None) -> str | None:
    """The type of the network file system that `folder` lies on (such as "nfs4"), or None.

    `mounts` is the text of /proc/self/mountinfo; where there is no such file the answer is None.
    """
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
    folder = folder.resolve()
    kind, depth = "", -1
    for line in mounts.splitlines():
        before, found, after = line.partition(" - ")
        fields = before.split()
        if not found or len(fields) < 5:
            continue
        mount_point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4]))
        # A later line at the same point lies over the earlier one.
        if len(mount_point.parts) >= depth and folder.is_relative_to(mount_point):
            kind, depth = after.split()[0], len(mount_point.parts)
    return kind if kind in _NETWORK else None
