"""What a pod's first process is given: environment, host files, command line.

Owns the settings by which an unmodified mpirun or mpiexec of Open MPI 4, Open MPI 5 (PRRTE) and MPICH (Hydra)
starts on all pods of a job with no argument but the program: agent, hosts and slots, all by environment.
Ranks are bound to no core: two pods may share a node after a restart, and would then share the same cores.
"""

from __future__ import annotations

import json

from nodes.agent.spec import PodSpec

TOOLS = "/opt/clusteros/bin"
AGENT = f"{TOOLS}/clusteros-rsh"
OWN = "/etc/clusteros"
JOB_FILE, HOSTFILE, HYDRA_HOSTFILE = f"{OWN}/job.json", f"{OWN}/hostfile", f"{OWN}/hostfile.hydra"
PATH = f"{TOOLS}/shims:{TOOLS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def job_file(spec: PodSpec, generation: str | None = None) -> bytes:
    """Always tells the present job, run and owner."""
    facts = {"job": spec.job, "job_number": spec.job_number, "run": spec.run, "epoch": spec.epoch, "pod": spec.pod}
    facts |= {"pods": len(spec.pods), "ranks_per_pod": spec.ranks_per_pod, "owner": spec.user, "generation": generation}
    return json.dumps(facts, indent=1).encode() + b"\n"


def _host(pod: int) -> str:
    return f"pod-{pod}"


def hosts(spec: PodSpec) -> bytes:
    """/etc/hosts of the pod: every pod of the job by name."""
    lines = ["127.0.0.1 localhost"]
    for place in sorted(spec.pods, key=lambda p: p.pod):
        own = f" {spec.hostname}" if place.pod == spec.pod and spec.hostname != _host(place.pod) else ""
        lines.append(f"{place.ip} {_host(place.pod)}{own}")
    return ("\n".join(lines) + "\n").encode()


def hostfiles(spec: PodSpec) -> dict[str, bytes]:
    """Path in the pod -> content: Open MPI's and Hydra's notation of the same hosts."""
    names = [_host(place.pod) for place in sorted(spec.pods, key=lambda p: p.pod)]
    return {
        HOSTFILE: "".join(f"{name} slots={spec.ranks_per_pod}\n" for name in names).encode(),
        HYDRA_HOSTFILE: "".join(f"{name}:{spec.ranks_per_pod}\n" for name in names).encode(),
    }


def _launchers(spec: PodSpec) -> dict[str, str]:
    open_mpi_4 = {
        "OMPI_MCA_plm_rsh_agent": AGENT,
        "OMPI_MCA_orte_default_hostfile": HOSTFILE,
        "OMPI_MCA_hwloc_base_binding_policy": "none",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "OMPI_MCA_mpi_yield_when_idle": "1",
    }
    prrte = {
        "PRTE_MCA_plm_ssh_agent": AGENT,
        "PRTE_MCA_prte_default_hostfile": HOSTFILE,
        "PRTE_MCA_hwloc_default_binding_policy": "none",
    }
    hydra = {"HYDRA_LAUNCHER": "rsh", "HYDRA_LAUNCHER_EXEC": AGENT, "HYDRA_HOST_FILE": HYDRA_HOSTFILE}
    return open_mpi_4 | prrte | hydra


def environment(spec: PodSpec) -> dict[str, str]:
    """The environment of the pod's processes; what the owner set wins, but for what tells the job who it is."""
    base = {"PATH": PATH, "HOME": spec.workdir, "PWD": spec.workdir, "SHELL": "/bin/sh", "LANG": "C.UTF-8", "TMPDIR": "/tmp"}
    own = {
        "USER": spec.user,
        "LOGNAME": spec.user,
        "CLUSTEROS_JOB_FILE": JOB_FILE,
        "CLUSTEROS_HOSTFILE": HOSTFILE,
        "CLUSTEROS_JOB": str(spec.job_number),
        "CLUSTEROS_POD": str(spec.pod),
        "CLUSTEROS_PODS": str(len(spec.pods)),
        "CLUSTEROS_RANKS": str(len(spec.pods) * spec.ranks_per_pod),
        "CLUSTEROS_WORKDIR": spec.workdir,
    }
    env = base | _launchers(spec) | spec.env | own
    if "PATH" in spec.env and f"{TOOLS}/shims" not in spec.env["PATH"]:
        env["PATH"] = f"{TOOLS}/shims:{spec.env['PATH']}"
    return env


def environment_file(spec: PodSpec) -> bytes:
    """The engine's --env file: NUL-ended KEY=VALUE."""
    return b"".join(f"{key}={value}\0".encode() for key, value in sorted(environment(spec).items()))


def command_line(command: list[str] | None) -> list[str]:
    """The first process: the remote execution server, with the job's command under it in pod 0."""
    return [AGENT, "--serve", *(["--", *command] if command else [])]
