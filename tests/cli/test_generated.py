"""A client that openapi-python-client generates from the OpenAPI document works against the API: in a process of its own, as
somebody else's program would."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from clusteros.accounts.services import make_token
from clusteros.api import api
from jobs.models import Job
from tests.control.cluster import Nodes

pytestmark = pytest.mark.django_db(transaction=True)
PLACE = Path(__file__).resolve().parents[2] / "var" / "openapi-client" / "bin"
PROGRAM = """
import sys
from cluster_client import AuthenticatedClient
from cluster_client.models import JobIn
from cluster_client.api.generations import job as one
from cluster_client.api.jobs import jobs as listed, submit

client = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2])
made = submit.sync(client=client, body=JobIn(command=["./heat", "city.png"], name="generated", pods=2))
print(made.number, made.state)
print([each.name for each in listed.sync(client=client, state="queued").items])
print(one.sync(client=client, job_id=str(made.number)).waiting_because)
refused = one.sync_detailed(client=client, job_id="4711")
print(refused.status_code.value, type(refused.parsed).__name__, refused.parsed.code)
"""


def test_a_generated_client_submits_lists_and_is_refused(console_url: str, demo: User, nodes: Nodes, tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(api.get_openapi_schema()))
    (tmp_path / "config.yaml").write_text("post_hooks: []\n")
    generate = [PLACE / "openapi-python-client", "generate", "--path", document, "--config", tmp_path / "config.yaml"]
    made = subprocess.run([*generate, "--meta", "none", "--output-path", tmp_path / "cluster_client"], capture_output=True, text=True)
    assert made.returncode == 0, f"tests/generator installs it: {made.stdout}{made.stderr}"
    assert "WARNING" not in made.stdout + made.stderr
    (tmp_path / "program.py").write_text(PROGRAM)
    _, token = make_token(demo, "generated", scopes=["read", "write"], days=1)
    done = subprocess.run([PLACE / "python", tmp_path / "program.py", console_url, token], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    job = Job.objects.get()
    assert done.stdout.splitlines() == [
        f"{job.number} queued", "['generated']", job.waiting_because, "404 Problem NOT_FOUND"
    ]  # fmt: skip
