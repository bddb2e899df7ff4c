#!/usr/bin/env python3
"""Some victims through the engine as an ordinary user, in a user namespace that root has no part in: t_victims.py, started there. As root
it becomes nobody first. `t_victims_user.py NAME…` runs only those."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from t_pod_user import HERE, NOBODY, forbidden

VICTIMS = ("c_single", "c_threads", "c_tree", "c_shared", "f_pipes", "f_unix", "f_tcp", "f_files")
SPACES = ("unshare", "--user", "--map-root-user", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")


def copies(top: Path, names: list[str]) -> Path:
    """Engine, victims and their test where every user can read them; answers the engine's path."""
    engine = Path(os.environ.get("CLUSTEROS_NATIVE") or HERE.parent / "build" / "native")
    for folder in ("build/victims", "native/tests/victims"):
        (top / folder).mkdir(parents=True)
    for file in (engine, engine.parent / "clusteros-rsh"):
        shutil.copy(file, top / "build")
    for file in ("pod_lab.py", "huge_pages.py", "t_victims.py"):
        shutil.copy(HERE / file, top / "native" / "tests")
    for name in names:
        shutil.copy(engine.parent / "victims" / name, top / "build" / "victims")
        shutil.copy(HERE / "victims" / f"{name}.c", top / "native" / "tests" / "victims")
    return top / "build" / engine.name


def main() -> int:
    names = sys.argv[1:] or list(VICTIMS)
    with tempfile.TemporaryDirectory(prefix="clusteros-user-test-") as scratch:
        top = Path(scratch)
        engine, tmp = copies(top, names), top / "tmp"
        tmp.mkdir()
        subprocess.run(["chmod", "-R", "a+rX", str(top)], check=True)
        become = []
        if os.geteuid() == 0:
            os.chown(tmp, NOBODY, NOBODY)
            become = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
        env = {"PATH": os.environ.get("PATH", ""), "CLUSTEROS_NATIVE": str(engine), "TMPDIR": str(tmp), "HOME": str(tmp)}
        if subprocess.run([*become, *SPACES, "true"], env=env, capture_output=True).returncode != 0:
            return forbidden([*become, str(engine)], env)
        python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
        test = top / "native" / "tests" / "t_victims.py"
        return subprocess.run([*become, *SPACES, python, str(test), *names], env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
