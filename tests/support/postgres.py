"""A real PostgreSQL for tests, on a free port of loopback; not as root, which it refuses."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from hospital import free_port

STARTING_SECONDS = 60
USERS = ("postgres", "nobody")


def find_server() -> Path | None:
    """Where the server's programs are; None if there is no server."""
    found = shutil.which("postgres")
    candidates = [Path(found).resolve().parent] if found else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next(
        (c for c in candidates if (c / "postgres").exists() and (c / "initdb").exists()), None
    )


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start a server; yield its URL. Its files lie where the user that runs it may enter."""
    programs, port = find_server(), free_port()
    assert programs is not None
    data = Path(tempfile.mkdtemp(prefix="postgres_"))
    drop: list[str] = []
    if os.getuid() == 0:
        user = next(name for name in USERS if _exists(name))
        shutil.chown(data, user)
        drop = ["setpriv", f"--reuid={user}", "--clear-groups"]
    initdb = [*drop, str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "grata"]
    subprocess.run(
        [*initdb, "--no-sync", "--encoding=UTF8"], check=True, capture_output=True, cwd="/"
    )
    options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(data), "-c", "fsync=off"]
    server = subprocess.Popen(
        [*drop, str(programs / "postgres"), "-D", str(data), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    try:
        _wait(port)
        yield f"postgresql://grata@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(timeout=30)
        shutil.rmtree(data, ignore_errors=True)


def _exists(user: str) -> bool:
    return user in {entry.pw_name for entry in pwd.getpwall()}


def _wait(port: int) -> None:
    end = time.monotonic() + STARTING_SECONDS
    while time.monotonic() < end:
        try:
            psycopg.connect(f"postgresql://grata@127.0.0.1:{port}/postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"PostgreSQL must answer within {STARTING_SECONDS} s, it does not.")
