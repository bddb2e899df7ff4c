"""What the control side sends is checked before it becomes a path, a name or a uid."""

from __future__ import annotations

from typing import Any

import pytest

from native.engine import EngineError
from nodes.agent import launch
from nodes.agent.spec import take_path, take_spec
from tests.node.bodies import spec_body


def test_a_good_spec_is_taken() -> None:
    spec = take_spec(spec_body())
    assert spec.place.ip == "10.77.0.1"
    assert spec.key == f"{spec.run}-0"


@pytest.mark.parametrize(
    "change",
    [{"run": "../../etc"}, {"job": 7}, {"epoch": -1}, {"epoch": True}, {"pod": 1}, {"pod": "0"}, {"uid": 0}, {"gid": 0},
     {"uid": -1}, {"user": "root; rm"}, {"user": ""}, {"hostname": "pod 0"}, {"hostname": "-x"}, {"workdir": "home"},
     {"workdir": "/home/../etc"}, {"workdir": "/"}, {"workdir": None}, {"vni": 0}, {"vni": 1 << 24}, {"mtu": 100},
     {"env": {"A=B": "x"}}, {"env": {"A": 1}}, {"env": ["A"]}, {"env": {"A": "x\0y"}}, {"pods": []}, {"pods": None},
     {"pods": [{"pod": 0, "node": "n", "underlay_ip": "x", "ip": "10.77.0.1"}]},
     {"pods": [{"pod": 0, "node": "n", "underlay_ip": "1.2.3.4", "ip": "10.77.0.1"}] * 2}],
)  # fmt: skip
def test_a_bad_spec_is_refused_with_its_field(change: dict[str, Any]) -> None:
    with pytest.raises(EngineError) as caught:
        take_spec(spec_body(**change))
    assert caught.value.code.name == "USAGE"
    field = next(iter(change))
    assert field in caught.value.message or "address" in caught.value.message


@pytest.mark.parametrize("path", ["", ".", "..", "a/../b", "/a", "a\0b", 7, None, "../x", "a/.."])
def test_a_path_of_a_file_stays_below_the_working_directory(path: Any) -> None:
    with pytest.raises(EngineError):
        take_path(path, "path", absolute=False)


def three_pods() -> dict[str, Any]:
    return spec_body(
        pods=[{"pod": k, "node": f"node{k}", "underlay_ip": f"192.0.2.{k + 1}", "ip": f"10.77.0.{k + 1}"} for k in range(3)]
    )


def test_launchers_find_every_pod_and_its_slots() -> None:
    files = launch.hostfiles(take_spec(three_pods()))
    assert files[launch.HOSTFILE] == b"pod-0 slots=2\npod-1 slots=2\npod-2 slots=2\n"
    assert files[launch.HYDRA_HOSTFILE] == b"pod-0:2\npod-1:2\npod-2:2\n"
    assert launch.hosts(take_spec(three_pods())).decode().splitlines()[1:] == ["10.77.0.1 pod-0", "10.77.0.2 pod-1", "10.77.0.3 pod-2"]


def test_the_owners_environment_wins_but_not_over_who_it_is() -> None:
    env = launch.environment(take_spec(spec_body(env={"LANG": "de_DE", "CLUSTEROS_JOB_FILE": "/x", "PATH": "/opt/mine:/bin"})))
    assert env["LANG"] == "de_DE"
    assert env["CLUSTEROS_JOB_FILE"] == launch.JOB_FILE
    assert env["PATH"] == "/opt/clusteros/bin/shims:/opt/mine:/bin"
    assert env["OMPI_MCA_plm_rsh_agent"] == env["PRTE_MCA_plm_ssh_agent"] == env["HYDRA_LAUNCHER_EXEC"]
