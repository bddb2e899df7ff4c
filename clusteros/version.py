"""Which ClusterOS this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed


def version() -> str:
    """Of the installed package; a clone that was not installed is a development version."""
    try:
        return installed("clusteros")
    except PackageNotFoundError:
        return "development"
