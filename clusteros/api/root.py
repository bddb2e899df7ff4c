"""The API's root: refusals as problem+json, the routers, people's own things (me, tokens) and the stream of events."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import DataError, IntegrityError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from checkpoints.api import router as checkpoints_router
from clusteros.api.accounts import router as accounts_router
from clusteros.api.document import complete_document
from clusteros.api.middleware import problem_response
from clusteros.api.stream import router as stream_router
from clusteros.core.auth import DEFAULT_AUTH
from clusteros.core.problems import Problem
from jobs.agent_api import router as agent_router
from jobs.api import router as jobs_router
from nodes.api import router as nodes_router


class Api(NinjaAPI):
    def get_openapi_schema(self, *args: Any, **kwargs: Any) -> Any:
        return complete_document(super().get_openapi_schema(*args, **kwargs))

    def get_openapi_operation_id(self, operation: Any) -> str:
        """What a generated client calls it: the view's own name, which no other has."""
        return str(operation.view_func.__name__)


api = Api(
    title="ClusterOS",
    version="1",
    description="Submit parallel programs to the cluster, checkpoint them, bring them back to any generation.",
    auth=DEFAULT_AUTH,
    docs_url=None,
    urls_namespace="api",
)
api.add_router("", jobs_router)
api.add_router("", checkpoints_router)
api.add_router("", nodes_router)
api.add_router("", agent_router)
api.add_router("", accounts_router)
api.add_router("", stream_router)


@api.exception_handler(Problem)
def on_problem(request: HttpRequest, problem: Problem) -> HttpResponse:
    return problem_response(problem)


@api.exception_handler(ValidationError)
def on_validation(request: HttpRequest, error: ValidationError) -> HttpResponse:
    errors = [{"field": _place(item["loc"]), "words": str(item["msg"])} for item in error.errors]
    words = "; ".join(f"{item['field']}: {item['words']}" for item in errors)
    return problem_response(Problem("INVALID", words, errors=errors))


def _place(location: Any) -> str:
    return ".".join(str(part) for part in location if part not in ("body", "payload", "query", "path", "spec"))


@api.exception_handler(AuthenticationError)
def on_unauthenticated(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    return problem_response(Problem("UNAUTHENTICATED", "send a token: Authorization: Bearer …"))


@api.exception_handler(Http404)
def on_missing(request: HttpRequest, error: Http404) -> HttpResponse:
    return problem_response(Problem("NOT_FOUND", "there is nothing at this address"))


@api.exception_handler(HttpError)
def on_http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    return problem_response(Problem("USAGE", str(error), status=error.status_code))


@api.exception_handler(RequestDataTooBig)
def on_too_big(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    return problem_response(Problem("INVALID", "the request is too large: put large files one by one", status=413))


@api.exception_handler(OperationalError)
def on_database(request: HttpRequest, error: OperationalError) -> HttpResponse:
    return problem_response(Problem("BUSY", "the database does not answer at this moment: try again"))


@api.exception_handler(DataError)
def on_unstorable(request: HttpRequest, error: DataError) -> HttpResponse:
    return problem_response(Problem("INVALID", "a number or a text is beyond what can be kept"))


@api.exception_handler(UnicodeEncodeError)
def on_half_a_character(request: HttpRequest, error: UnicodeEncodeError) -> HttpResponse:
    return problem_response(Problem("INVALID", "a text holds half a character (a lone surrogate)"))


@api.exception_handler(IntegrityError)
def on_race(request: HttpRequest, error: IntegrityError) -> HttpResponse:
    return problem_response(Problem("CONFLICT", "somebody else did the same at this moment: look again"))
