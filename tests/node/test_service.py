"""The whole node service on a real engine and a real Redis; the test plays the control side."""

from __future__ import annotations

import os
import signal
import time
import uuid
from typing import Any

import pytest

from tests.node.bodies import spec_body
from tests.node.harness import TestNode, wait_for

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="the namespaces of a node need root"), pytest.mark.timeout(240)]


def start_body(*command: str, **changes: Any) -> dict[str, Any]:
    return {**spec_body(job=str(uuid.uuid4())), "command": list(command) or None, "files": [], **changes}


def run(node: TestNode, *command: str, **changes: Any) -> dict[str, Any]:
    """Start a pod and wait until it runs (or is over)."""
    body = start_body(*command, **changes)
    node.control.send("start_pod", body)
    wait_for("the pod's report", lambda: [r for r in node.control.reports("pod", run=body["run"]) if r["state"] != "starting"] or None)
    return body


def state_of(node: TestNode, body: dict[str, Any]) -> str | None:
    pods = node.control.heartbeat()["pods"]
    return next((pod["state"] for pod in pods if pod["run"] == body["run"]), None)


def name(body: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {key: body[key] for key in ("run", "epoch", "pod")} | more


def test_a_command_runs_and_its_output_and_status_come_back(node: TestNode) -> None:
    body = run(node, "sh", "-c", "echo out $CLUSTEROS_RANKS; echo err >&2; id -u; pwd; exit 7")
    ended = node.control.wait_report("pod", run=body["run"], state="ended")
    assert ended["exit_status"] == 7
    wait_for("the log", lambda: node.control.text(body["run"], 0, "stdout").count(b"\n") == 3)
    assert node.control.text(body["run"], 0, "stdout") == b"out 2\n20000\n/home/someone/job-1\n"
    wait_for("the errors", lambda: node.control.text(body["run"], 0, "stderr") == b"err\n")


def test_a_command_that_is_not_there_is_a_clear_failure(node: TestNode) -> None:
    body = run(node, "no-such-program")
    failed = node.control.wait_report("pod", run=body["run"], state="failed")
    assert failed["code"] == "NO_COMMAND"
    assert "no-such-program" in failed["message"]
    assert not node.pod_dir(body).exists()


def test_what_stands_in_the_way_of_a_checkpoint_is_reported_and_so_is_its_end(node: TestNode) -> None:
    hold = "import ctypes, os, sys; fd = ctypes.CDLL(None).syscall(323, 1 | 0o2000000); assert fd >= 0"
    wait = "os.mkfifo('/tmp/gate'); open('/tmp/gate').read(); os.close(fd); os.execlp('sleep', 'sleep', '1000')"
    body = run(node, "/usr/bin/python3", "-c", f"{hold}; {wait}")
    refused = node.control.wait_report("pod", run=body["run"], checkpointable=False)
    assert any("userfaultfd" in item["words"] and item["pid"] > 0 and item["fd"] >= 0 for item in refused["obstacles"])
    node.native("exec", "--pod", str(node.pod_dir(body)), "--", "sh", "-c", "echo go > /tmp/gate")
    again = node.control.wait_report("pod", run=body["run"], checkpointable=True)
    assert again["obstacles"] == []
    node.control.send("end_pod", name(body))


def test_a_malformed_start_is_refused_by_its_field(node: TestNode) -> None:
    node.control.send("start_pod", body := start_body("true", uid=0))
    failed = node.control.wait_report("pod", run=body["run"], state="failed")
    assert failed["code"] == "USAGE"
    assert "uid" in failed["message"]


def test_a_doubled_start_starts_one_pod(node: TestNode) -> None:
    body = start_body("sh", "-c", "echo once; sleep 60")
    for _ in range(3):
        node.control.send("start_pod", body)
    node.control.wait_report("pod", run=body["run"], state="running")
    node.control.send("start_pod", body)
    wait_for("the log", lambda: node.control.text(body["run"], 0, "stdout"))
    time.sleep(0.5)
    assert node.control.text(body["run"], 0, "stdout") == b"once\n"
    assert [p["run"] for p in node.control.heartbeat()["pods"]] == [body["run"]]


def test_an_older_epoch_is_refused_and_a_newer_one_ends_the_older_pod(node: TestNode) -> None:
    job = str(uuid.uuid4())
    old = run(node, "sleep", "60", job=job, epoch=3)
    new = run(node, "sleep", "60", job=job, epoch=4)
    wait_for("the older pod gone", lambda: state_of(node, old) is None)
    late = start_body("sleep", "60", job=job, epoch=3)
    node.control.send("start_pod", late)
    node.control.send("end_pod", name(new, epoch=3))
    time.sleep(1.0)
    assert state_of(node, late) is None
    assert state_of(node, new) == "running"


def test_a_message_with_a_wrong_mac_does_nothing(node: TestNode) -> None:
    body = run(node, "sleep", "60")
    node.control.send("end_pod", name(body), secret="another")
    time.sleep(1.0)
    assert state_of(node, body) == "running"


def test_an_ended_pod_leaves_nothing_behind(node: TestNode) -> None:
    body = run(node, "sleep", "60")
    node.control.send("end_pod", name(body))
    ended = node.control.wait_report("pod", run=body["run"], state="ended")
    assert ended["exit_status"] is None
    wait_for("the pod gone", lambda: state_of(node, body) is None)
    assert not node.pod_dir(body).exists()
    wait_for("the network gone", lambda: not list(node.config.folder("net").iterdir()))
    node.control.send("end_pod", name(body))
    wait_for("a second answer", lambda: len(node.control.reports("pod", run=body["run"], state="ended")) > 1)


def test_a_killed_service_loses_nothing_and_adopts_its_pods(node: TestNode) -> None:
    body = run(node, "sh", "-c", "for k in 1 2 3 4 5 6 7 8 9; do echo line $k; sleep 0.4; done; exit 5")
    node.kill_service()
    time.sleep(2.0)
    node.start_service()
    ended = node.control.wait_report("pod", run=body["run"], state="ended")
    assert ended["exit_status"] == 5
    expected = b"".join(b"line %d\n" % k for k in range(1, 10))
    wait_for("the whole log", lambda: node.control.text(body["run"], 0, "stdout") == expected)


def test_a_pod_that_ended_while_the_service_was_dead_is_reported(node: TestNode) -> None:
    body = run(node, "sh", "-c", "sleep 1; exit 3")
    node.kill_service()
    time.sleep(2.0)
    node.start_service()
    assert node.control.wait_report("pod", run=body["run"], state="ended")["exit_status"] == 3


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_a_service_killed_in_a_start_starts_the_pod_once(node: TestNode, delay_s: float) -> None:
    body = start_body("sh", "-c", "echo once; sleep 60")
    node.control.heartbeat()
    node.control.send("start_pod", body)
    wait_for("the record", lambda: (node.config.folder("records") / f"{body['run']}-0" / "pod.json").exists())
    time.sleep(delay_s)
    node.kill_service()
    node.start_service()
    node.control.wait_report("pod", run=body["run"], state="running")
    wait_for("the log", lambda: node.control.text(body["run"], 0, "stdout"))
    time.sleep(0.7)
    assert node.control.text(body["run"], 0, "stdout") == b"once\n"


def test_a_dead_keeper_is_replaced_and_the_pod_runs_on(node: TestNode) -> None:
    body = run(node, "sh", "-c", "sleep 4; exit 6")
    pid_line = next(line for line in (node.pod_dir(body) / "state").read_text().splitlines() if line.startswith("keeper_pid="))
    node.holder_kill(int(pid_line.split("=")[1]))
    assert node.control.wait_report("pod", run=body["run"], state="ended")["exit_status"] == 6


def test_reports_are_kept_while_the_control_side_is_silent_and_forgotten_when_acked(node: TestNode) -> None:
    node.control.acking = False
    body = run(node, "true")
    node.control.wait_report("pod", run=body["run"], state="ended")
    kinds = wait_for("repeats", lambda: [r["kind"] for r in node.control.heartbeat()["unacked"]] or None)
    assert "pod" in kinds
    node.control.acking = True
    wait_for("an empty outbox", lambda: not list(node.config.folder("outbox").glob("*.json")))


def test_emptied_redis_is_no_loss(node: TestNode) -> None:
    body = run(node, "sh", "-c", "echo before; sleep 2; echo after; exit 4")
    node.client.flushall()
    assert node.control.wait_report("pod", run=body["run"], state="ended")["exit_status"] == 4
    wait_for("the whole log", lambda: node.control.text(body["run"], 0, "stdout") == b"before\nafter\n")


def test_redis_that_goes_away_and_comes_back_is_reached_again(node: TestNode) -> None:
    from clusteros.lab.embedded import start_redis

    body = run(node, "sh", "-c", "sleep 3; exit 9")
    node.redis.stop()
    time.sleep(4.0)
    node.redis = start_redis(node.folder / "redis")
    assert node.control.wait_report("pod", 40, run=body["run"], state="ended")["exit_status"] == 9
    assert node.service
    assert node.service.poll() is None, "the service lived through it"
    other = run(node, "true")
    assert node.control.wait_report("pod", run=other["run"], state="ended")["exit_status"] == 0


def test_the_owner_suspends_and_thaws(node: TestNode) -> None:
    body = run(node, "sleep", "60")
    node.control.send("freeze_pod", name(body))
    node.control.wait_report("pod", run=body["run"], state="suspended")
    assert state_of(node, body) == "suspended"
    node.control.send("thaw_pod", name(body))
    wait_for("running again", lambda: state_of(node, body) == "running")


def test_without_leases_a_pod_freezes_and_a_late_lease_thaws_it(node: TestNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.node.harness.TTL_S", 2.0)
    body = run(node, "sh", "-c", "while :; do date +%s%N; sleep 0.05; done")
    time.sleep(1.5)
    node.control.leasing = False
    wait_for("frozen", lambda: state_of(node, body) == "frozen", 15)
    size = node.control.heartbeat()["pods"][0]["log"]["stdout"]
    assert node.control.heartbeat()["pods"][0]["log"]["stdout"] == size, "nothing runs while frozen"
    node.control.leasing = True
    wait_for("running again", lambda: state_of(node, body) == "running", 15)


def test_a_signal_reaches_the_command_once(node: TestNode) -> None:
    body = run(node, "sh", "-c", "trap 'echo got' USR1; echo up; while :; do sleep 0.1; done")
    wait_for("the trap", lambda: b"up" in node.control.text(body["run"], 0, "stdout"))
    message = str(uuid.uuid4())
    for _ in range(3):
        node.control.send("signal_pod", name(body, signal=int(signal.SIGUSR1)), id=message)
    wait_for("the signal", lambda: b"got" in node.control.text(body["run"], 0, "stdout"))
    time.sleep(0.8)
    assert node.control.text(body["run"], 0, "stdout").count(b"got") == 1


def test_a_command_in_the_pod_gives_its_output_back(node: TestNode) -> None:
    body, exec_id = run(node, "sleep", "60"), str(uuid.uuid4())
    node.control.send("exec_pod", name(body, id=exec_id, argv=["sh", "-c", "hostname; id -u; exit 3"], timeout_s=10))
    answer = node.control.wait_report("exec", id=exec_id)
    assert (answer["exit_status"], answer["output"]) == (3, "pod-0\n20000\n")


def test_a_script_runs_in_the_working_directory(node: TestNode) -> None:
    body = start_body(script="#!/bin/sh\necho script in $(pwd) by $0\n", command=None)
    node.control.send("start_pod", body)
    node.control.wait_report("pod", run=body["run"], state="ended")
    wait_for("the log", lambda: node.control.text(body["run"], 0, "stdout"))
    assert node.control.text(body["run"], 0, "stdout") == b"script in /home/someone/job-1 by ./.clusteros-script\n"


def test_heartbeats_tell_what_the_node_is_and_has(node: TestNode) -> None:
    first = node.control.heartbeat()
    assert (first["cores"], first["mem_bytes"], first["store_url"]) == (4, 1 << 30, "http://127.0.0.1:7711")
    assert first["images"] == []
    assert first["disk_free_bytes"] > 0
    assert node.control.heartbeat()["boottime_ns"] > first["boottime_ns"]


def test_what_a_pod_said_last_is_not_lost_when_it_is_ended(node: TestNode) -> None:
    body = run(node, "sh", "-c", "seq 1 400000; sleep 60")
    wait_for("some of it", lambda: node.control.text(body["run"], 0, "stdout"))
    time.sleep(1.0)
    node.control.send("end_pod", name(body))
    expected = "".join(f"{n}\n" for n in range(1, 400001)).encode()
    wait_for("all of it", lambda: node.control.text(body["run"], 0, "stdout") == expected)


def test_files_of_the_working_directory_come_back_and_links_do_not(node: TestNode) -> None:
    script = "#!/bin/sh\nmkdir -p out\necho result > out/a.txt\nln -s /etc/shadow out/link\nmkfifo out/pipe\ncp given.txt copy.txt\n"
    body = start_body(script=script, command=None, files=[node.offer("given.txt", b"given\n")])
    node.control.send("start_pod", body)
    files = node.control.wait_report("files", run=body["run"])["files"]
    assert {entry["path"] for entry in files} == {"given.txt", "copy.txt", "out/a.txt"}
    uploaded = node.uploads / body["run"] / "0"
    assert (uploaded / "out" / "a.txt").read_text() == "result\n"
    assert (uploaded / "copy.txt").read_text() == "given\n"


def test_a_file_that_is_not_what_was_announced_fails_the_start(node: TestNode) -> None:
    entry = node.offer("data", b"right") | {"sha256": "0" * 64}
    (node.files / ("0" * 64)).write_bytes(b"wrong")
    body = run(node, "true", files=[entry | {"url": "/files/" + "0" * 64}])
    assert node.control.wait_report("pod", run=body["run"], state="failed")["code"] == "BAD_IMAGE"


def test_a_signature_is_never_sent_to_another_host(node: TestNode) -> None:
    entry = node.offer("data", b"right") | {"url": "http://192.0.2.9/steal"}
    body = run(node, "true", files=[entry])
    assert node.control.wait_report("pod", run=body["run"], state="failed")["code"] == "USAGE"


def test_an_end_in_the_middle_of_a_start_leaves_nothing(node: TestNode) -> None:
    for delay_s in (0.0, 0.05, 0.1, 0.2):
        body = start_body("sleep", "60")
        node.control.send("start_pod", body)
        time.sleep(delay_s)
        node.control.send("end_pod", name(body))
        node.control.wait_report("pod", run=body["run"], state="ended")
        time.sleep(0.3)
        assert state_of(node, body) is None
        assert not node.pod_dir(body).exists()
