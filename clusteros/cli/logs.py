"""`logs` and `events`: what a job printed, and what happened, once or followed."""

from __future__ import annotations

import base64
import sys
import time
from typing import Annotated, Any

import typer

from clusteros.cli import draw
from clusteros.cli.door import JobArgument, JsonFlag, about, cluster, show
from clusteros.client import FINAL_STATES, Cluster

POLL_S = 0.3
