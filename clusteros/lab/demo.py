"""The main job, shown (`make demo`): a parallel job loses everything, one thing after the other, and comes back.

Starts a lab of three nodes, runs an MPI program undisturbed, runs it again while web, scheduler, control worker, every node service and the
content of Redis are lost, destroys a node for good, rolls the job back to generation 2, and compares every byte that both runs wrote.
Speaks REST only (clusteros.client); what it breaks, it breaks through the lab.
"""

from __future__ import annotations

import argparse
import base64
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

from clusteros.client import Cluster, ClusterError
from clusteros.lab import lifecycle, supervise
from clusteros.lab.layout import REPOSITORY, Lab, default_lab
from clusteros.lab.mpi import Mpi, find_mpi

HEAT = REPOSITORY / "examples" / "heat"
RANKS, PODS = 6, 3
FRAMES = 15
RESULTS = FRAMES + 2  # their list and the checksum
RUN_S = 65.0  # an undisturbed run: long enough for all that is lost meanwhile, on any machine
PILOT_BLOCKS = 6
INTERVAL_S = 6
BACK_TIMEOUT_S = 60.0
JOB_TIMEOUT_S = 240.0
FINAL = {"completed", "failed", "cancelled"}

screen = Console(highlight=False)


class DemoError(RuntimeError):
    """Something did not come back, or came back wrong."""


@dataclass
class Loss:
    """One row of the table: what was lost, when, how long until it was back, and what the job noticed."""

    what: str
    at_s: float
    back_s: float
    job: str


@dataclass
class Demo:
    """What the steps share."""

    lab: Lab
    cluster: Cluster
    mpi: Mpi
    blocks: int
    started: float = field(default_factory=time.monotonic)
    losses: list[Loss] = field(default_factory=list)

    def say(self, text: str) -> None:
        """A line of progress with the time since the start."""
        screen.print(f"[dim]{time.monotonic() - self.started:6.1f} s[/]  {text}")


def wait_for(what: str, ready: Callable[[], Any], timeout_s: float, poll_s: float = 0.2) -> Any:
    """The first true value of `ready`; a cluster that cannot be reached just now counts as not yet.

    Raises:
        DemoError: it took longer than `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if found := ready():
                return found
        except (ClusterError, OSError) as error:
            reason = str(error)
        else:
            reason = ""
        if time.monotonic() > deadline:
            raise DemoError(f"{what}: not within {timeout_s:.0f} s {reason}")
        time.sleep(poll_s)


# ---- the job
def compile_heat(mpi: Mpi, directory: Path) -> Path:
    """Compile the program with this MPI's own compiler; the path of the executable."""
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "heat"
    command = [mpi.mpicc, "-O3", "-march=x86-64-v2", "-Wno-stringop-overflow", "-o", str(program), str(HEAT / "heat.c")]
    subprocess.run(command, check=True)
    return program


def submit_heat(demo: Demo, name: str, interval_s: int) -> str:
    """Submit over REST: files, command, size; nothing about checkpoints but the interval. The job's id."""
    program = compile_heat(demo.mpi, demo.lab.directory / "build" / demo.mpi.name)
    files = [
        {"path": path.name, "data": base64.b64encode(path.read_bytes()).decode(), "executable": path == program}
        for path in (program, HEAT / "obstacles.pgm")
    ]
    command = [demo.mpi.mpirun, "./heat", "obstacles.pgm", "3072", "1536", str(demo.blocks), str(FRAMES)]
    spec: dict[str, Any] = {
        "name": name, "command": command, "files": files, "pods": PODS, "ranks_per_pod": RANKS // PODS, "cores_per_rank": 1,
        "mem_bytes": 1 << 30, "walltime_s": 900, "interval_s": interval_s, "keep": 100,
    }  # fmt: skip
    return str(demo.cluster.submit(spec)["id"])  # type: ignore[arg-type]


def output(demo: Demo, job: str) -> dict[str, str]:
    """SHA-256 of each result file by its path."""
    files = {f["path"]: f["sha256"] for f in demo.cluster.files(job) if f["pod"] == 0}
    return {path: digest for path, digest in files.items() if path.startswith("frame") or path == "checksum.txt"}


def finish(demo: Demo, job: str) -> dict[str, str]:
    """Wait until the job has ended well and its files are there; their digests."""
    ended = wait_for("the end of the job", lambda: (j := demo.cluster.job(job))["state"] in FINAL and j, JOB_TIMEOUT_S, 0.5)
    if ended["state"] != "completed":
        log = demo.cluster.log(job, pod=0)
        raise DemoError(f"the job is {ended['state']} with status {ended.get('exit_status')}: {log}")
    return wait_for("the job's files", lambda: (f := output(demo, job)) and len(f) == RESULTS and f, 60)


def complete(demo: Demo, job: str) -> list[dict[str, Any]]:
    """The complete generations, oldest first."""
    return [g for g in _by_number(demo, job) if g["state"] == "complete"]


def _by_number(demo: Demo, job: str) -> list[dict[str, Any]]:
    return sorted((dict(g) for g in demo.cluster.generations(job)), key=lambda g: int(g["number"]))


def the_run(demo: Demo, job: str) -> dict[str, Any]:
    """The newest run of a job."""
    return max(demo.cluster.runs(job), key=lambda run: run["epoch"])


# ---- what is lost
def pid_of(supervisor: Any, name: str) -> int:
    """Pid of a running program, 0 while it does not run."""
    info = supervisor.getProcessInfo(name)
    return int(info["pid"]) if info["statename"] == "RUNNING" else 0


def heartbeats_after(demo: Demo, moment: float) -> bool:
    """Every node is up and was heard of after `moment` (Unix time)."""
    alive = [n for n in demo.cluster.nodes() if n["state"] != "lost"]
    return bool(alive) and all(datetime.fromisoformat(n["last_heartbeat"]).timestamp() > moment for n in alive)


def lose(demo: Demo, job: str, what: str, strike: Callable[[], None], back: Callable[[float], Any]) -> None:
    """Strike, wait until it is back, see that the job's run is the same as before."""
    before, moment, clock = the_run(demo, job), time.time(), time.monotonic()
    strike()
    wait_for(f"{what} back", lambda: back(moment), BACK_TIMEOUT_S)
    took = time.monotonic() - clock
    after = wait_for("the job's run", lambda: the_run(demo, job), 10)
    if after["epoch"] != before["epoch"]:
        raise DemoError(f"the job was restarted when {what} was lost")
    demo.losses.append(Loss(what, clock - demo.started, took, "noticed nothing"))
    demo.say(f"lost: {what}; back after {took:.1f} s; the job noticed nothing")


def lose_program(demo: Demo, job: str, what: str, name: str, back: Callable[[float], Any]) -> None:
    """kill -9 of a front-end process."""
    supervisor = supervise.control(demo.lab.socket)
    old = pid_of(supervisor, name)
    lose(demo, job, what, lambda: supervisor.signalProcess(name, "KILL"), lambda t: pid_of(supervisor, name) not in (0, old) and back(t))


def lose_node_services(demo: Demo, job: str) -> None:
    """kill -9 of the node service on every node."""

    def strike() -> None:
        for name in demo.lab.node_names():
            supervise.control(demo.lab.node_socket(name)).signalProcess("service", "KILL")

    lose(demo, job, "every node service", strike, lambda t: heartbeats_after(demo, t + 0.5))


def lose_redis_content(demo: Demo, job: str) -> None:
    """FLUSHALL."""
    password = demo.lab.settings()["redis_password"]
    client = redis.Redis(unix_socket_path=str(demo.lab.front / "redis" / "redis.sock"), password=password)
    lose(demo, job, "the whole content of Redis", lambda: (client.flushall(), None)[1], lambda t: heartbeats_after(demo, t + 0.5))


def pids(run: dict[str, Any]) -> dict[int, list[tuple[int, str]]]:
    """Per pod, the numbers and names of its processes as they see them themselves, as the last heartbeat told."""
    return {p["index"]: sorted((q["pid"], q["comm"]) for q in p["processes"]) for p in run["pods"]}


def lose_node(demo: Demo, job: str) -> None:
    """All processes of a node at once, and its disk."""
    before, victim = the_run(demo, job), ""
    victim = next(p["node"] for p in before["pods"] if p["index"] == 1)
    generation, clock = complete(demo, job)[-1]["number"], time.monotonic()
    demo.say(f"destroying {victim} for good: its processes and its disk")
    lifecycle.destroy_node(demo.lab, victim)
    wait_for("the job back", lambda: resumed(demo, job, before["epoch"]), BACK_TIMEOUT_S)
    took = time.monotonic() - clock
    after = the_run(demo, job)
    where = ", ".join(f"pod {p['index']} on {p['node']}" for p in sorted(after["pods"], key=lambda p: p["index"]))
    same_identity(demo, job, before)
    demo.losses.append(Loss(f"{victim} for good, with its disk", clock - demo.started, took, f"back from generation {after['generation']}"))
    demo.say(f"back after {took:.1f} s from generation {after['generation']} (the last complete before was {generation}): {where}")


def resumed(demo: Demo, job: str, old_epoch: int) -> bool:
    """The job runs with a newer epoch."""
    return demo.cluster.job(job)["state"] == "running" and the_run(demo, job)["epoch"] > old_epoch


def same_identity(demo: Demo, job: str, before: dict[str, Any]) -> None:
    """Addresses and pids are the same in every run."""
    old, new = ({p["index"]: p["ip"] for p in run["pods"]} for run in (before, the_run(demo, job)))
    if old != new:
        raise DemoError(f"addresses changed: {old} before, {new} after")
    known = pids(before)
    wait_for(f"the same pids ({known})", lambda: pids(the_run(demo, job)) == known, 15)
    count = sum(len(found) for found in known.values())
    demo.say(f"the same {len(new)} addresses and the same {count} pids as before")


# ---- the steps
def step_pilot(demo: Demo) -> None:
    """How fast this machine is: the length of the computation is chosen so that it lasts about RUN_S."""
    job = submit_heat(demo, "heat pilot", 0)
    ended = wait_for("the end of the pilot", lambda: (j := demo.cluster.job(job))["state"] in FINAL and j, JOB_TIMEOUT_S)
    if ended["state"] != "completed":
        raise DemoError(f"the pilot is {ended['state']}: {ended.get('reason')}")
    start, end = (datetime.fromisoformat(ended[key]) for key in ("started_at", "ended_at"))
    block_s = (end - start).total_seconds() / PILOT_BLOCKS
    demo.blocks = max(20, min(400, round(RUN_S / block_s)))
    demo.say(f"a block takes {block_s:.2f} s here: the computation will have {demo.blocks}")


def step_reference(demo: Demo) -> dict[str, str]:
    """The same program, undisturbed and without generations."""
    demo.say("an undisturbed run of the same program, to compare with")
    job, clock = submit_heat(demo, "heat undisturbed", 0), time.monotonic()
    digests = finish(demo, job)
    demo.say(f"it wrote {len(digests)} files in {time.monotonic() - clock:.1f} s")
    return digests


def step_run(demo: Demo) -> str:
    """The job that will lose everything; two generations by interval, one on demand."""
    job = submit_heat(demo, "heat", INTERVAL_S)
    wait_for("the job running", lambda: demo.cluster.job(job)["state"] == "running", 60)
    demo.say(f"the job runs: {demo.mpi.name}, {RANKS} ranks on {PODS} pods, a generation every {INTERVAL_S} s")
    wait_for("two generations", lambda: len(complete(demo, job)) >= 2, 90)
    demand = wait_for("a generation on demand", lambda: demo.cluster.checkpoint(job), 30)["number"]
    wait_for("the generation on demand", lambda: any(g["number"] == demand for g in complete(demo, job)), 60)
    demo.say(f"generations so far: {', '.join(str(g['number']) for g in complete(demo, job))} ({demand} on demand)")
    return job


def step_losses(demo: Demo, job: str) -> None:
    """Web, scheduler, control worker, node services, Redis; then a node."""
    lose_program(demo, job, "the web process", "web", lambda t: demo.cluster.me())
    lose_program(demo, job, "the scheduler", "scheduler", lambda t: True)
    lose_program(demo, job, "the control worker", "control", lambda t: heartbeats_after(demo, t + 0.5))
    lose_node_services(demo, job)
    lose_redis_content(demo, job)
    count = len(complete(demo, job))
    wait_for("a further generation", lambda: len(complete(demo, job)) > count, 60)
    lose_node(demo, job)


def step_rollback(demo: Demo, job: str) -> None:
    """Back to generation 2, with another placement."""
    before = the_run(demo, job)
    nodes = {p["index"]: p["node"] for p in before["pods"]}
    alive = sorted(n["name"] for n in demo.cluster.nodes() if n["state"] == "up")
    placement = [next(n for n in alive if n != nodes[k]) for k in range(PODS)]
    target, clock = complete(demo, job)[1]["number"], time.monotonic()
    plan = demo.cluster.rollback(job, target, placement=placement, dry_run=True)
    demo.say(f"rolling back to generation {target} on {', '.join(placement)}; the plan says: {plan.get('words') or plan}")
    demo.cluster.rollback(job, target, placement=placement)
    wait_for("the job rolled back", lambda: resumed(demo, job, before["epoch"]), BACK_TIMEOUT_S)
    took, after = time.monotonic() - clock, the_run(demo, job)
    same_identity(demo, job, before)
    if [p["node"] for p in sorted(after["pods"], key=lambda p: p["index"])] != placement:
        raise DemoError("the placement is not the one asked for")
    demo.losses.append(Loss(f"(rolled back to generation {target})", clock - demo.started, took, f"runs on from generation {target}"))
    demo.say(f"rolled back after {took:.1f} s; it grows from generation {target} now")


def compare(reference: dict[str, str], digests: dict[str, str]) -> None:
    """Every file of both runs is the same, byte for byte."""
    wrong = sorted(path for path in reference.keys() | digests.keys() if reference.get(path) != digests.get(path))
    if wrong:
        raise DemoError(f"these files differ from the undisturbed run: {', '.join(wrong)}")


def show_tables(demo: Demo, job: str) -> None:
    """What was lost when; what each generation cost."""
    losses = Table(title="What was lost", title_justify="left")
    for heading in ("lost", "at", "back after", "the job"):
        losses.add_column(heading, justify="right" if heading in ("at", "back after") else "left")
    for loss in demo.losses:
        losses.add_row(loss.what, f"{loss.at_s:.0f} s", f"{loss.back_s:.1f} s", loss.job)
    table = Table(title="Generations", title_justify="left")
    for heading in ("number", "parent", "state", "pause", "stored in", "size", "new", "replicas"):
        table.add_column(heading, justify="right")
    for g in _by_number(demo, job):
        pause, parent = g.get("pause_ms"), g.get("parent")
        table.add_row(
            str(g["number"]), str(parent) if parent else "-", g["state"], f"{pause:.0f} ms" if pause else "-",
            f"{(g.get('took_ms') or 0) / 1e3:.1f} s",
            f"{(g.get('bytes') or 0) / 1e6:.0f} MB", f"{(g.get('bytes_new') or 0) / 1e6:.0f} MB", str(_replicas(g)),
        )  # fmt: skip
    screen.print(losses, table)
    for g in _by_number(demo, job):
        if g["state"] == "failed":
            screen.print(f"generation {g['number']} failed, the job ran on: {g.get('reason')}")


def _replicas(generation: Any) -> int:
    replicas = generation.get("replicas") or 0
    return len(replicas) if isinstance(replicas, list) else int(replicas)


def run_demo(demo: Demo) -> None:
    """The whole show, step by step."""
    if demo.blocks == 0:
        demo.blocks = PILOT_BLOCKS
        step_pilot(demo)
    reference = step_reference(demo)
    job = step_run(demo)
    step_losses(demo, job)
    step_rollback(demo, job)
    digests = finish(demo, job)
    compare(reference, digests)
    show_tables(demo, job)
    demo.say(f"[bold green]the final checksum and all {len(digests) - 1} other files are equal, byte for byte[/]")


def main() -> int:
    """Run the demonstration in a lab of its own; 0, or 1 with the reason."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--mpi", choices=["openmpi", "mpich"], default="openmpi")
    parser.add_argument("--blocks", type=int, default=0, help="length of the computation; chosen by a short pilot run")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    arguments = parser.parse_args()
    lab = Lab(default_lab().directory.parent / "demo")
    try:
        mpi = find_mpi(arguments.mpi, screen.print)
        lifecycle.down(lab, wipe=lab.directory.exists(), say=lambda text: None)
        lifecycle.up(lab, port=lifecycle.DEFAULT_PORT + 10, say=screen.print)
        login = lifecycle.read_login(lab)
        screen.print(f"console: {lifecycle.url_of(lab)}  login: {login['demo']['username']}  password: {login['demo']['password']}")
        with Cluster(lifecycle.url_of(lab), login["admin"]["token"]) as cluster:
            run_demo(Demo(lab, cluster, mpi, arguments.blocks))
    except (DemoError, lifecycle.LabError, ClusterError) as error:
        screen.print(f"[bold red]the demonstration failed:[/] {error}")
        return 1
    finally:
        if not arguments.keep and lab.directory.exists():
            lifecycle.down(lab, say=screen.print)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
