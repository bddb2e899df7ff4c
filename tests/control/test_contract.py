"""The API against its own description: schemathesis makes requests from the OpenAPI document, good ones and bent ones, and
every answer must be one that the document names. In between the cluster lives: jobs run, generations are there."""

from __future__ import annotations

import json
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.wsgi import get_wsgi_application
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks as openapi

from clusteros.accounts.services import make_token
from clusteros.api import api
from jobs.models import Job
from tests.control.cluster import Nodes

pytestmark = pytest.mark.django_db(transaction=True)
EXAMPLES = 5
SEED = 20260301
STREAMING = "/api/v1/events"
"""Answers for an hour; tested by itself."""
WAITING = "/api/v1/jobs/{job_id}/exec"
"""Waits for a node that is not there, when the job is."""
CHECKS = [
    not_a_server_error, openapi.status_code_conformance, openapi.content_type_conformance, openapi.response_schema_conformance,
    openapi.response_headers_conformance, openapi.negative_data_rejection, openapi.unsupported_method,
]  # fmt: skip


@pytest.fixture
def job(nodes: Nodes, carol: User) -> Job:
    """One that runs, with two generations."""
    found = nodes.run_job(carol, pods=2)
    nodes.generation(found)
    nodes.generation(found)
    return found


def operations() -> list[Any]:
    document = json.loads(json.dumps(api.get_openapi_schema()))
    del document["paths"][STREAMING]
    schema = schemathesis.openapi.from_dict(document)
    schema.app = get_wsgi_application()
    return [found.ok() for found in schema.get_all_operations()]


def test_every_answer_is_one_that_the_document_names(job: Job, carol: User) -> None:
    _, token = make_token(carol, "contract", scopes=["read", "write", "admin"], days=1)
    names = {"job_id": str(job.number), "number": 1, "name": "node1"}
    faults = []
    for operation in operations():
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            faults += _try(operation, mode, token, names)
    assert not faults, "\n\n".join(faults)


def _try(operation: Any, mode: GenerationMode, token: str, names: dict[str, Any]) -> list[str]:
    """Some requests of one kind to one operation; what was wrong with the answers."""
    faults: list[str] = []

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode), real=st.booleans())
    def ask(case: Any, real: bool) -> None:
        if real and operation.path != WAITING and mode is GenerationMode.POSITIVE:
            case.path_parameters.update({name: value for name, value in names.items() if name in case.path_parameters})
        try:
            case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=CHECKS)
        except FailureGroup as group:
            faults.extend(f"{operation.method} {operation.path}: {fault}" for fault in group.exceptions)

    try:
        ask()
    except Exception as fault:
        if type(fault).__name__ not in ("Unsatisfiable", "Skipped", "SkipTest"):
            raise
    return faults[:2]
