"""The real programs that are captured and brought back: what each needs, how it is made and started. Every program prints `step …` lines while it works
and `end` at last, and prints the same in every run. `{work}` is the directory of its source, `{here}` the one of what is built, both readable in a pod."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

WORK = Path(__file__).resolve().parent / "work"
PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class Program:
    name: str
    command: str
    steps: int
    needs: tuple[tuple[str, str], ...]  # a command or a file, and the Debian package that brings it
    build: str = ""
    unordered: bool = False  # its lines come in any order
    refused: str = ""  # the engine says so, by name

    def missing(self) -> list[str]:
        return [package for thing, package in self.needs if not is_there(thing)]


def is_there(thing: str) -> bool:
    if thing.startswith("/"):
        return any(Path("/").glob(thing[1:]))
    return shutil.which(thing) is not None


def java(name: str, collector: str) -> Program:
    command = f"java -XX:+Use{collector} -Xmx96m -XX:-UsePerfData -cp {{here}} Work"
    return Program(f"java-{name}", command, 200, (("java", "default-jdk-headless"), ("javac", "default-jdk-headless")), "javac -d {here} {work}/Work.java")


# COVERAGE: program Python with threads and NumPy | captured | equal results
# COVERAGE: program SQLite in WAL mode, three writers and a reader | captured | no transaction lost
# COVERAGE: program Node.js with worker threads and HTTP | captured | equal results
# COVERAGE: program JVM with Serial, G1, Parallel and Z collectors | captured | equal results
# COVERAGE: program Go, static, own runtime | captured | equal results
# COVERAGE: program Rust | captured | equal results
# COVERAGE: program of musl, static | captured | equal results
# COVERAGE: program Perl | captured | equal results
# COVERAGE: program bash with pipelines | captured | equal results
# COVERAGE: program gcc under make -j4 | captured | the same program comes out
# COVERAGE: program OpenMP | captured | equal results
# COVERAGE: program redis under load of three clients, with background saves | captured | equal to the clients' model
# COVERAGE: program PostgreSQL under pgbench | captured | all sums agree
# COVERAGE: program nginx under wrk | captured | no failed request
# COVERAGE: program tmux with a shell in its window | captured | keys go in, the screen is as it was
# COVERAGE: program bubblewrap (bwrap) with SQLite in its sandbox: own root, tmpfs, devices | captured | no transaction lost
# COVERAGE: program LAMMPS, its example melt, two ranks | captured | equal thermo output
PROGRAMS = (
    Program("numpy", f"{PYTHON} {{work}}/numpy_threads.py", 30, ((PYTHON, "python3"), ("/usr/lib/python3/dist-packages/numpy", "python3-numpy"))),
    Program("sqlite", f"{PYTHON} {{work}}/sqlite_wal.py", 120, ((PYTHON, "python3"),)),
    Program("node", "node {work}/worker.js", 200, (("node", "nodejs"),)),
    java("serial", "SerialGC"),
    java("g1", "G1GC"),
    java("parallel", "ParallelGC"),
    java("z", "ZGC"),
    Program("go", "{here}/work-go", 100, (("go", "golang-go"),), "env CGO_ENABLED=0 GO111MODULE=off GOCACHE={here}/cache go build -o {here}/work-go {work}/work.go"),
    Program("rust", "{here}/work-rs", 100, (("rustc", "rustc"),), "rustc -O -o {here}/work-rs {work}/work.rs"),
    Program("musl", "{here}/work-musl", 150, (("musl-gcc", "musl-tools"),), "musl-gcc -static -O2 -pthread -o {here}/work-musl {work}/work_musl.c"),
    Program("perl", "perl {work}/work.pl", 80, (("perl", "perl"),)),
    Program("bash", "bash {work}/pipeline.sh", 60, (("bash", "bash"),)),
    Program("make", "bash {work}/build.sh", 41, (("gcc", "gcc"), ("make", "make")), unordered=True),
    Program("openmp", "{here}/openmp", 150, (("gcc", "gcc"),), "gcc -fopenmp -O2 -o {here}/openmp {work}/openmp.c"),
    Program("redis", f"{PYTHON} {{work}}/redis_load.py", 900, ((PYTHON, "python3"), ("redis-server", "redis-server"))),
    Program("postgres", "bash {work}/postgres.sh", 25, (("/usr/lib/postgresql/*/bin/initdb", "postgresql"), ("/usr/lib/postgresql/*/bin/pgbench", "postgresql"))),
    Program("nginx", "bash {work}/nginx.sh", 6, (("nginx", "nginx-light"), ("wrk", "wrk"))),
    Program("tmux", "bash {work}/tmux.sh", 40, (("tmux", "tmux"),)),
    Program("bwrap", f"bwrap --unshare-user --unshare-ipc --unshare-uts --unshare-net --hostname box --ro-bind / / --tmpfs /tmp --bind /job /job --dev /dev --proc /proc {PYTHON} {{work}}/sqlite_wal.py", 120, ((PYTHON, "python3"), ("bwrap", "bubblewrap"))),
    Program("lammps", "bash {work}/lammps.sh", 30, (("lmp", "lammps"), ("/usr/share/lammps/examples/melt/in.melt", "lammps-examples"), ("mpirun.openmpi", "openmpi-bin"))),
)
