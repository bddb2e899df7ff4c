"""The OpenAPI document made complete: what may refuse every operation, as a problem, with an example of each.

Which refusals an operation can give follows from what it is: anything can be unauthenticated, denied, too much or at a
bad moment; what names a thing can miss it; what takes a body or parameters can find them unacceptable; what changes
something can find a state that does not allow it.
"""

from __future__ import annotations

from typing import Any

from clusteros.core.problems import Problem
from clusteros.core.schemas import Problem as ProblemSchema

ETAGGED = ("/jobs/{job_id}", "/jobs/{job_id}/generations/{number}")
MEDIA = "application/problem+json"
EXAMPLES = {
    "400": Problem("USAGE", "Cannot parse request body"),
    "401": Problem("UNAUTHENTICATED", "send a token: Authorization: Bearer …"),
    "403": Problem("DENIED", "this token has no scope write"),
    "404": Problem("NOT_FOUND", "there is no job 12"),
    "409": Problem("CONFLICT", "job 12 is completed: a generation can be taken of a running job"),
    "412": Problem("STALE", "it has changed since you read it: read it again", status=412),
    "413": Problem("INVALID", "the request is too large: put large files one by one", status=413),
    "422": Problem("INVALID", "pods: between 1 and 1024", field="pods"),
    "429": Problem("BUSY", "more than 6000 requests in this minute: come again in 12 s", status=429, retry_after_s=12),
    "503": Problem("BUSY", "the database does not answer at this moment: try again"),
    "507": Problem("NO_SPACE", "there is no room left to write"),
}
HTTP_METHODS = ("get", "put", "post", "delete", "patch")


def complete_document(document: Any) -> Any:
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = ProblemSchema.model_json_schema()
    components["responses"] = {f"Refused{status}": _refusal(problem) for status, problem in EXAMPLES.items()}
    for path, operations in document["paths"].items():
        for method in HTTP_METHODS:
            if method in operations:
                _complete(path.removeprefix("/api/v1"), method, operations[method])
    document["servers"] = [{"url": "/", "description": "the front end"}]
    return document


def _refusal(problem: Problem) -> dict[str, Any]:
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": problem.as_json()}
    return {"description": problem.code.words, "content": {MEDIA: content}}


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    for status in _refusals(path, method, operation):
        operation["responses"][int(status)] = {"$ref": f"#/components/responses/Refused{status}"}
    if path in ETAGGED and method == "get":
        header = {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}, "description": "the ETag that is known already"}
        operation.setdefault("parameters", []).append(header)
        operation["responses"][304] = {"description": "it is as it was"}
    if path in ETAGGED and method in ("patch", "delete"):
        header = {"name": "If-Match", "in": "header", "schema": {"type": "string"}, "description": "only if it is still that ETag's"}
        operation.setdefault("parameters", []).append(header)
        operation["responses"][412] = {"$ref": "#/components/responses/Refused412"}


def _refusals(path: str, method: str, operation: dict[str, Any]) -> set[str]:
    found = {"401", "403", "429", "503"}
    if operation.get("parameters") or "requestBody" in operation:
        found.add("422")
    if "{" in path:
        found |= {"404", "409"}
    if method != "get":
        found |= {"400", "409", "413", "422", "507"}
    return found
