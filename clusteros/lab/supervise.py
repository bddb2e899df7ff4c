"""Supervisor (supervisord.org) keeps the lab's processes alive: its configuration files, and its control socket."""

from __future__ import annotations

import http.client
import socket
import sys
import xmlrpc.client
from pathlib import Path
from typing import Any

MINFDS = 256  # supervisord closes inherited descriptors below this; LISTEN_FD lies above


def config(socket_path: Path, log_dir: Path, programs: dict[str, dict[str, str]]) -> str:
    """Text of a supervisord configuration: all programs are restarted for ever and log below `log_dir`."""
    lines = ["[supervisord]", "nodaemon=true", f"minfds={MINFDS}", "user=root"]  # root at least of its own user namespace
    lines += [f"logfile={log_dir}/supervisord.log", f"pidfile={log_dir}/supervisord.pid"]
    lines += ["[unix_http_server]", f"file={socket_path}", "chmod=0700", "[supervisorctl]", f"serverurl=unix://{socket_path}"]
    lines += ["[rpcinterface:supervisor]", "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface"]
    for name, options in programs.items():
        log = f"{log_dir}/{name}.log"
        base = {"autorestart": "true", "startsecs": "0", "startretries": "1000000", "stdout_logfile": log, "redirect_stderr": "true"}
        lines.append(f"[program:{name}]")
        lines += [f"{key}={value.replace('%', '%%')}" for key, value in {**base, **options}.items()]
    return "\n".join(lines) + "\n"


def environment_option(environment: dict[str, str]) -> str:
    """The `environment=` value of a program."""
    return ",".join(f'{key}="{value}"' for key, value in environment.items())


def supervisord_command(config_path: Path) -> list[str]:
    """Command line that runs supervisord in the foreground."""
    return [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(config_path)]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(self.path)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _UnixConnection(self.path)


def control(socket_path: Path) -> Any:
    """The supervisor's XML-RPC interface (`.startProcess(name)`, `.signalProcess(name, "KILL")`, …)."""
    return xmlrpc.client.ServerProxy("http://localhost", transport=_UnixTransport(str(socket_path)), allow_none=True).supervisor
