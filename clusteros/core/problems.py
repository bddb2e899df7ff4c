"""Problem: the one exception by which services refuse. Its code is from native/codes.def, its detail is for people.

Doors translate it (api.py: problem+json; console: words; commands: exit status); nobody else catches it to hide it.
"""

from __future__ import annotations

from typing import Any

from native.codes import CODES, Code


class Problem(Exception):
    """Refused: `code` names the reason, `detail` says it in words, `fields` are machine-readable extras."""

    def __init__(self, code: str, detail: str, **fields: Any) -> None:
        super().__init__(detail)
        self.code: Code = CODES[code]
        self.detail = detail
        self.fields = fields

    def as_json(self) -> dict[str, Any]:
        """RFC 9457 problem details."""
        return {
            "type": "about:blank", "title": self.code.words, "status": self.code.http,
            "detail": self.detail, "code": self.code.name, **self.fields,
        }  # fmt: skip


def invalid(field: str, words: str) -> Problem:
    return Problem("INVALID", f"{field}: {words}", field=field)


def not_found(what: str) -> Problem:
    return Problem("NOT_FOUND", f"there is no {what}")


def conflict(words: str, **fields: Any) -> Problem:
    return Problem("CONFLICT", words, **fields)
