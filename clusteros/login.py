"""Where the cluster is and who asks: CLUSTEROS_URL and CLUSTEROS_TOKEN, or the login file.

The file is ~/.config/clusteros/login.json ({"url", "token"}, mode 0600; CLUSTEROS_LOGIN names another), written
under a temporary name and renamed, so that it is always whole. A value from the environment wins over the file's.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


class NoLogin(Exception):
    """Nothing says which cluster, or with which token."""


@dataclass(frozen=True)
class Login:
    url: str
    token: str


def login_path() -> Path:
    named = os.environ.get("CLUSTEROS_LOGIN")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "clusteros" / "login.json"


def read_login() -> Login:
    """Raise NoLogin, with what to do, when url or token is missing."""
    kept = _read_file(login_path())
    url = os.environ.get("CLUSTEROS_URL") or kept.get("url", "")
    token = os.environ.get("CLUSTEROS_TOKEN") or kept.get("token", "")
    if not url:
        raise NoLogin("no cluster is known here: run  clusteros login URL  (or set CLUSTEROS_URL and CLUSTEROS_TOKEN)")
    if not token:
        raise NoLogin(f"no token for {url}: run  clusteros login {url}  (or set CLUSTEROS_TOKEN)")
    return Login(url.rstrip("/"), token)


def kept_url() -> str:
    """The cluster that the login file names, or nothing; NoLogin when the file is broken."""
    return _read_file(login_path()).get("url", "")


def write_login(login: Login, path: Path | None = None) -> Path:
    path = path or login_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(login), file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    return path


def _read_file(path: Path) -> dict[str, str]:
    try:
        kept = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as fault:
        raise NoLogin(f"the login file {path} cannot be read ({fault}): run  clusteros login URL") from fault
    if not isinstance(kept, dict):
        raise NoLogin(f"the login file {path} is not of the expected form: run  clusteros login URL")
    return {key: str(value) for key, value in kept.items() if value}
