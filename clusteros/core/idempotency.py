"""Requests that may be sent twice: with the header Idempotency-Key the second gets the first one's answer.

The key's row is written in the transaction of the effect: either both are there or neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.http import HttpRequest

from clusteros.core.models import IdempotencyKey
from clusteros.core.problems import conflict, invalid


def answer_once(request: HttpRequest, effect: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer of `effect`, or the one it gave when this user's key came first."""
    key = request.headers.get("Idempotency-Key", "")
    if not key:
        return effect()
    if len(key) > 200 or not key.isprintable():
        raise invalid("Idempotency-Key", "at most 200 printable characters")
    digest = hashlib.sha256(f"{request.method} {request.path}\n".encode() + request.body).hexdigest()
    user: Any = request.user
    with transaction.atomic():
        row, made = IdempotencyKey.objects.get_or_create(user=user, key=key, defaults={"request": digest})
        if not made:
            return _former_answer(row, digest)
        answer = effect()
        IdempotencyKey.objects.filter(pk=row.pk).update(response=answer, status=200)
    return answer


def _former_answer(row: IdempotencyKey, digest: str) -> dict[str, Any]:
    if row.request != digest:
        raise conflict("this idempotency key was used for another request")
    answer: dict[str, Any] = row.response
    return answer
