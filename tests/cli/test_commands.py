"""The commands, from the words typed to the rows made; refusals with their exit status and what to type next."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.utils import timezone
from typer.testing import CliRunner

from checkpoints.models import Generation, Resume
from clusteros.accounts.models import ApiToken
from clusteros.accounts.services import ensure_user, make_token
from clusteros.cli.main import app
from jobs.models import Job
from jobs.services import cancel_job
from nodes.models import Node
from tests.console.story import Story
from tests.control.cluster import Nodes

pytestmark = pytest.mark.django_db(transaction=True)
RunAs = Callable[..., Callable[..., Any]]
USAGE, NO_INPUT, BUSY, DENIED, CONFLICT, NO_ROOM, INVALID, NOT_FOUND, UNAUTHENTICATED = 64, 66, 75, 77, 78, 81, 82, 83, 84


# ---- submit


def test_submit_sends_what_was_asked_and_says_what_to_type_next(run_as: RunAs, demo: User, nodes: Nodes, tmp_path: Path) -> None:
    program = tmp_path / "heat"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o755)
    done = run_as(demo)(
        "submit", "--pods", "3", "--ranks", "2", "--mem", "256M", "--walltime", "1h30m", "--every", "30s", "--keep", "4",
        "--file", str(program), "--file", f"{program}:bin/copy", "--env", "A=b=c", "--name", "heat", "--", "mpirun", "-n", "6", "./heat",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    job = Job.objects.get()
    assert f"clusteros logs -f {job.number}" in done.stdout
    assert job.command == ["mpirun", "-n", "6", "./heat"]
    assert (job.pods, job.ranks_per_pod, job.mem_bytes, job.walltime_s, job.interval_s, job.keep) == (3, 2, 256 << 20, 5400, 30, 4)
    assert job.env == {"A": "b=c"}
    assert [(file.path, file.executable) for file in job.job_files.all()] == [("bin/copy", True), ("heat", True)]


def test_a_script_is_submitted_by_its_name(run_as: RunAs, demo: User, nodes: Nodes, tmp_path: Path) -> None:
    script = tmp_path / "night.sh"
    script.write_text("#!/bin/sh\necho night\n")
    answer = run_as(demo)("submit", "--json", str(script))
    assert json.loads(answer.stdout)["script"] == "#!/bin/sh\necho night\n"
    assert Job.objects.get().name == "night.sh"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], USAGE, "no command"),
        (["--env", "NOVALUE", "--", "x"], USAGE, "NAME=VALUE"),
        (["--file", "/nowhere/at/all", "--", "x"], NO_INPUT, "there is no file"),
        (["--script", "/nowhere.sh"], NO_INPUT, "cannot be read"),
        (["--cores", "9", "--", "x"], NO_ROOM, "needs 9 cores on one node, the largest has 4"),
        (["--mem", "1K", "--", "x"], INVALID, "mem_bytes"),
        (["--queue", "fast", "--", "x"], INVALID, "there is no queue"),
    ],
)
def test_what_cannot_be_submitted_is_refused_in_words(
    run_as: RunAs, demo: User, nodes: Nodes, words: list[str], status: int, said: str
) -> None:
    done = run_as(demo)("submit", *words)
    assert (done.exit_code, Job.objects.count()) == (status, 0), done.stderr
    assert said in done.stderr


@pytest.mark.parametrize(("option", "value"), [("--mem", "lots"), ("--walltime", "soon"), ("--pods", "0"), ("--every", "-5s")])
def test_a_malformed_option_is_refused_before_anything_is_sent(run_as: RunAs, demo: User, option: str, value: str) -> None:
    done = run_as(demo)("submit", option, value, "--", "x")
    assert done.exit_code == USAGE
    assert Job.objects.count() == 0


# ---- looking


def test_ps_says_why_a_job_waits_and_hides_what_has_ended(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    run = run_as(demo)
    assert "clusteros submit" in run("ps").stdout
    ended = Story(nodes, demo, name="ended").start()
    cancel_job(ended)
    assert "clusteros ps --all" in run("ps").stdout
    Story(nodes, demo, name="running").start()
    run("submit", "--name", "waiting", "--cores", "4", "--pods", "3", "--", "x")
    nodes.tick()
    listed = run("ps").stdout
    assert "waits for room" in listed
    assert "running" in listed
    assert "ended" not in listed
    assert "ended" in run("ps", "--all").stdout
    assert [job["name"] for job in json.loads(run("ps", "--json").stdout)] == ["waiting", "running"]


def test_show_logs_and_generations_tell_a_jobs_story(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo).told()
    run, number = run_as(demo), str(story.job.number)
    shown = run("show", number).stdout
    assert "heat-city" in shown
    assert "checkpointable   yes" in shown
    assert "node1" in shown
    log = run("logs", number)
    assert log.stdout.splitlines() == ["step  100", "step  200", "step  300"], "what was rolled back is not in it"
    assert "the job was brought back: run 2" in log.stderr
    tree = run("generations", number).stdout
    assert "◉" in tree
    assert "├" in tree
    assert "pinned" in tree
    assert "disk full" in tree
    assert run("events", "--job", number).exit_code == 0


def test_logs_follow_until_the_job_has_ended(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    story.print("first\n")

    def go_on() -> None:
        time.sleep(1)
        story.print("second\n")
        cancel_job(story.job)
        connections.close_all()

    thread = threading.Thread(target=go_on)
    thread.start()
    done = run_as(demo)("logs", "--follow", str(story.job.number))
    thread.join()
    assert (done.exit_code, done.stdout) == (0, "first\nsecond\n")


def test_nodes_are_listed_and_an_empty_cluster_says_how_to_begin(run_as: RunAs, demo: User, transactional_db: None) -> None:
    run = run_as(demo)
    assert "clusteros node join" in run("nodes").stdout
    Nodes(2).beat()
    assert "node2" in run("nodes").stdout
    assert [node["name"] for node in json.loads(run("nodes", "--json").stdout)] == ["node1", "node2"]


def test_events_are_streamed_from_where_one_says(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    done = run_as(demo)("events", "--after", "0", "--limit", "2", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["node.token_made", "node.joined"]


# ---- generations


def play(nodes: Nodes, stop: threading.Event) -> None:
    """Nodes that take every generation that is asked for."""
    while not stop.wait(0.1):
        for generation in Generation.objects.filter(state="taking"):
            nodes.capture(generation)
    connections.close_all()


def test_checkpoint_waits_until_the_generation_is_complete(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    stop = threading.Event()
    thread = threading.Thread(target=play, args=(nodes, stop))
    thread.start()
    try:
        done = run_as(demo)("checkpoint", str(story.job.number))
    finally:
        stop.set()
        thread.join()
    assert done.exit_code == 0, done.stderr
    assert "generation 1: complete, the job paused 12 ms" in done.stdout


def test_a_second_checkpoint_at_once_is_refused_with_the_next_command(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    run, number = run_as(demo), str(story.job.number)
    assert run("checkpoint", "--no-wait", number).exit_code == 0
    again = run("checkpoint", "--no-wait", number)
    assert again.exit_code == CONFLICT
    assert "one at a time" in again.stderr
    assert f"clusteros show {number}" in again.stderr


def test_a_rollback_says_what_is_lost_and_does_nothing_without_a_yes(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    story.generation()
    run, number = run_as(demo), str(story.job.number)
    dry = run("rollback", number, "--to", "1", "--dry-run")
    assert dry.exit_code == 0
    assert "undone by it" in dry.stdout
    assert "pod 0 on node1" in dry.stdout
    unasked = run("rollback", number, "--to", "1")
    assert unasked.exit_code == USAGE
    assert "add --yes" in unasked.stderr
    assert Resume.objects.count() == 0


def test_a_rollback_goes_where_it_is_told(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    story.generation()
    done = run_as(demo)("rollback", str(story.job.number), "--yes", "--node", "node3", "--node", "node1")
    assert done.exit_code == 0, done.stderr
    assert "goes back to generation 1" in done.stdout
    assert Resume.objects.get().wanted == {"0": "node3", "1": "node1", "2": "node3"}


@pytest.mark.parametrize(
    ("words", "status"), [(["--to", "9"], NOT_FOUND), (["--to", "1", "--node", "nowhere"], INVALID), (["--to", "2"], CONFLICT)]
)
def test_a_rollback_that_cannot_be_is_refused(run_as: RunAs, demo: User, nodes: Nodes, words: list[str], status: int) -> None:
    story = Story(nodes, demo)
    story.start()
    story.generation()
    story.fail()
    done = run_as(demo)("rollback", str(story.job.number), "--yes", *words)
    assert (done.exit_code, Resume.objects.count()) == (status, 0), done.stderr


def test_a_job_without_generations_says_how_to_take_one(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    job = Story(nodes, demo).start()
    done = run_as(demo)("rollback", str(job.number), "--yes")
    assert done.exit_code == CONFLICT
    assert f"clusteros checkpoint {job.number}" in done.stderr


def test_pin_and_delete(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    for _ in range(2):
        story.generation()
    run, number = run_as(demo), str(story.job.number)
    assert run("pin", number, "1").exit_code == 0
    assert run("delete-generation", number, "1", "--yes").exit_code == CONFLICT
    assert run("unpin", number, "1").exit_code == 0
    assert run("delete-generation", number, "1", "--yes").exit_code == 0
    assert Generation.objects.get(job=story.job, number=1).state == "deleted"


def test_retention_says_what_goes_before_it_does(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    for _ in range(3):
        story.generation()
    run, number = run_as(demo), str(story.job.number)
    said = run("retention", number, "--keep", "1", "--every", "2", "--dry-run").stdout
    assert "kept: the last 1 and every 2nd; would remove: 1" in said
    assert Generation.objects.filter(job=story.job, state="complete").count() == 3
    assert run("retention", number, "--keep", "1", "--every", "2", "--yes").exit_code == 0
    assert list(Generation.objects.filter(job=story.job, state="complete").values_list("number", flat=True)) == [2, 3]
    assert run("retention", number, "--per", "week").exit_code != 0
    assert "the last 1 and every 2nd" in run("retention", number).stdout


# ---- moving jobs and nodes


def test_verbs_move_a_job_and_say_its_state(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    run = run_as(demo)
    run("submit", "--", "x")
    number = str(Job.objects.get().number)
    assert "held" in run("hold", number).stdout
    assert "queued" in run("release", number).stdout
    assert run("signal", number, "USR1").exit_code == CONFLICT
    assert run("cancel", number).exit_code == USAGE, "a loss needs a yes"
    assert "cancelled" in run("cancel", number, "--yes").stdout
    assert run("copy", number, "--name", "again").exit_code == 0
    assert Job.objects.count() == 2


def test_only_an_administrator_drains(run_as: RunAs, demo: User, admin: User, nodes: Nodes) -> None:
    assert run_as(demo)("drain", "node1", "--yes").exit_code == DENIED
    assert Node.objects.get(name="node1").state == "up"
    assert "draining" in run_as(admin)("drain", "node1", "--yes").stdout
    assert "up" in run_as(admin)("undrain", "node1").stdout
    assert run_as(admin)("drain", "nowhere", "--yes").exit_code == NOT_FOUND


def test_an_administrator_gets_a_join_token_with_the_command(run_as: RunAs, admin: User) -> None:
    assert "clusteros node join http://127.0.0.1" in run_as(admin)("node", "token").stdout


# ---- who


@pytest.mark.parametrize("words", [["show"], ["logs"], ["checkpoint"], ["cancel", "--yes"], ["rollback", "--to", "1", "--yes"], ["exec"]])
def test_the_job_of_another_does_not_exist(run_as: RunAs, demo: User, nodes: Nodes, words: list[str]) -> None:
    job = Story(nodes, ensure_user("other")).start()
    verb, *options = words
    program = ["--", "true"] if verb == "exec" else []
    done = run_as(demo)(verb, str(job.number), *options, *program)
    assert done.exit_code == NOT_FOUND
    assert "clusteros ps --all" in done.stderr


def test_an_expired_token_says_so_and_how_to_go_on(run_as: RunAs, demo: User) -> None:
    run = run_as(demo)
    ApiToken.objects.update(expires_at=timezone.now() - timezone.timedelta(minutes=1))
    done = run("ps")
    assert done.exit_code == UNAUTHENTICATED
    assert "expired" in done.stderr
    assert "clusteros login" in done.stderr


def test_without_a_login_it_says_how_to_get_one() -> None:
    done = CliRunner().invoke(app, ["ps"])
    assert done.exit_code == DENIED
    assert "clusteros login URL" in done.stderr


def test_a_cluster_that_does_not_answer_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTEROS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("CLUSTEROS_TOKEN", "x")
    done = CliRunner().invoke(app, ["submit", "--", "x"])
    assert done.exit_code == BUSY
    assert "cannot be reached" in done.stderr


def test_login_keeps_a_token_that_works_and_only_for_its_owner(console_url: str, demo: User, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(os.environ["CLUSTEROS_LOGIN"])
    refused = CliRunner().invoke(app, ["login", console_url, "--token", "cos_wrong"])
    assert refused.exit_code == UNAUTHENTICATED
    assert not path.exists()
    _, token = make_token(demo, "test", scopes=["read", "write"], days=1)
    done = CliRunner().invoke(app, ["login", console_url, "--token", token])
    assert done.exit_code == 0, done.stderr
    assert "Logged in as demo" in done.stdout
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "No jobs" in CliRunner().invoke(app, ["ps"]).stdout


@pytest.mark.parametrize("content", ["{", "[]", '"text"'])
def test_a_broken_login_file_is_named(content: str) -> None:
    Path(os.environ["CLUSTEROS_LOGIN"]).write_text(content)
    done = CliRunner().invoke(app, ["ps"])
    assert done.exit_code == DENIED
    assert os.environ["CLUSTEROS_LOGIN"] in done.stderr.replace("\n", "")


# ---- copies, arrays, dry runs, top and store


def test_a_copy_grows_from_a_generation(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    job = nodes.run_job(demo, pods=2)
    nodes.generation(job)
    run = run_as(demo)
    plan = run("copy", str(job.number), "--from", "1", "--dry-run")
    assert "grows on beside its job" in plan.stdout
    assert "pod 0 on node" in plan.stdout
    made = run("copy", str(job.number), "--from", "1", "--name", "what-if", "--hold")
    assert f"made from generation 1 of job {job.number}" in made.stdout
    copy = Job.objects.get(name="what-if")
    assert (copy.state, copy.resume_from) == ("held", 1)
    assert run("copy", str(job.number), "--from", "9").exit_code == 83


def test_a_dry_run_and_an_array_are_submitted_by_options(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    run = run_as(demo)
    assert "it would start at once on node" in run("submit", "--dry-run", "--", "true").stdout
    assert not Job.objects.exists()
    made = run("submit", "--array", "1-3", "--", "true")
    assert "array" in made.stdout
    first = Job.objects.order_by("number")[0].number
    assert run("ps", "--array", str(first)).stdout.count("true") == 3
    assert run("submit", "--array", "x", "--", "true").exit_code == 82
    assert run("submit", "--array", "1-3", "--wait", "--", "true").exit_code == 64


def test_top_and_store_show_the_whole(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    job = nodes.run_job(demo, name="heat")
    nodes.generation(job)
    run = run_as(demo)
    seen = run("top")
    assert "3 of 3 nodes up, 12 cores" in seen.stdout
    assert "heat" in seen.stdout
    assert {"nodes", "jobs"} == json.loads(run("top", "--json").stdout).keys()
    assert "1 generation kept" in run("store").stdout
    assert json.loads(run("store", "--json").stdout)["jobs"][0]["number"] == job.number
    place = {"id": "f" * 32, "directory": "/mnt/images", "ok": True, "words": "", "bytes": 7, "free_bytes": 9}
    nodes.heartbeat("node1", shared=place)
    nodes.heartbeat("node2", shared={**place, "ok": False, "words": "it does not answer"})
    shown = run("store").stdout
    assert "/mnt/images" in shown
    assert "node2: it does not answer" in " ".join(shown.split())


def test_the_store_of_a_job_is_shown_by_generation(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    job = nodes.run_job(demo)
    nodes.generation(job)
    Node.objects.update(store_url="http://127.0.0.1:9")
    run = run_as(demo)
    shown = run("store", str(job.number)).stdout
    assert "REMOVAL FREES" in shown
    assert "did not answer" in shown, "who could not be asked is named"
    assert json.loads(run("store", str(job.number), "--json").stdout)["generations"][0]["number"] == 1
    assert run("store", "999").exit_code == NOT_FOUND


def test_the_present_is_kept_first_unless_refused(run_as: RunAs, demo: User, nodes: Nodes) -> None:
    from checkpoints.models import Resume

    job = nodes.run_job(demo)
    nodes.generation(job)
    assert run_as(demo)("rollback", str(job.number), "1", "--yes", "--no-safety").exit_code == 0
    assert Resume.objects.get().wants_safety is False



# ---- completion


def completed(environment: dict[str, str], line: str) -> str:
    asked = {"_CLUSTEROS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    return str(CliRunner().invoke(app, [], prog_name="clusteros", env=environment | asked).stdout)


def test_the_shell_offers_jobs_generations_and_nodes_and_is_silent_without_a_cluster(console_url: str, demo: User, nodes: Nodes) -> None:
    story = Story(nodes, demo)
    story.start()
    story.generation()
    _, token = make_token(demo, "tab", scopes=["read"], days=1)
    environment, number = {"CLUSTEROS_URL": console_url, "CLUSTEROS_TOKEN": token}, str(story.job.number)
    assert completed(environment, "clusteros logs ").split() == [number]
    assert completed(environment, f"clusteros diff {number} ").split() == ["1"]
    assert completed(environment, "clusteros drain node2").split() == ["node2"]
    assert "checkpoint" in completed(environment, "clusteros check")
    assert completed({"CLUSTEROS_URL": "http://127.0.0.1:9", "CLUSTEROS_TOKEN": "x"}, "clusteros logs ").strip() == ""
