"""What the control side is told by its environment (CLUSTEROS_…), checked once; knows no Django.

Invariants: `restart_margin_s` is added to every lease before a pod may run elsewhere; two heartbeats fit into a
lease and into the time after which a node counts as lost.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Environment(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CLUSTEROS_", extra="ignore")

    database_url: str = "postgresql:///clusteros"
    redis_url: str = "redis://127.0.0.1:6379/0"
    node_redis_url: str = ""
    """What joining nodes are told; the same Redis seen from their side. Empty: redis_url."""
    state: Path = Path("var/front")
    secret_key: str = ""
    allowed_hosts: str = "127.0.0.1,localhost"
    csrf_trusted_origins: str = ""
    debug: bool = False
    secure_cookies: bool = False

    heartbeat_s: float = Field(1.0, gt=0, le=60)
    lease_s: float = Field(8.0, gt=0, le=3600)
    lost_after_s: float = Field(5.0, gt=0, le=3600)
    restart_margin_s: float = Field(1.0, ge=0, le=60)
    cut_deadline_s: float = Field(30.0, gt=0, le=600)
    store_deadline_s: float = Field(600.0, gt=0)
    restore_deadline_s: float = Field(120.0, gt=0, le=3600)
    prefetch_deadline_s: float = Field(600.0, gt=0)
    replicas: int = Field(2, ge=1, le=8)
    shared_counts: bool = False
    """A whole image in a directory that nodes share stands for one of the replicas."""
    tick_s: float = Field(0.5, gt=0, le=5)
    store_quota_bytes: int = Field(0, ge=0)
    """What the kept generations of one user may have taken before further ones are refused; 0 for no limit."""
    requests_per_minute: int = Field(6000, ge=0)
    """Of one user over REST; 0 for no limit."""
    max_restarts: int = Field(5, ge=1)
    """Recoveries in a row without a new complete generation after which a job is held instead."""

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: str) -> str:
        if not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("the database must be PostgreSQL: postgresql:///NAME?host=SOCKET_DIRECTORY")
        return value

    @model_validator(mode="after")
    def _numbers_fit(self) -> Environment:
        if self.lost_after_s < 2 * self.heartbeat_s:
            raise ValueError("lost_after_s must be at least two heartbeats")
        if self.lease_s < 2 * self.heartbeat_s:
            raise ValueError("lease_s must be at least two heartbeats")
        return self

    def hosts(self) -> list[str]:
        return [host.strip() for host in self.allowed_hosts.split(",") if host.strip()]

    def origins(self) -> list[str]:
        return [origin.strip() for origin in self.csrf_trusted_origins.split(",") if origin.strip()]

    def broker_url(self) -> str:
        """redis_url as Celery wants it: kombu has another name for a Unix socket."""
        return self.redis_url.replace("unix://", "redis+socket://", 1)

    def redis_url_for_nodes(self) -> str:
        return self.node_redis_url or self.redis_url

    def database(self) -> dict[str, Any]:
        """Django's description of the database; the rest of the URL goes to libpq as it is."""
        parts = conninfo_to_dict(self.database_url)
        name, user = parts.pop("dbname", "clusteros"), parts.pop("user", "")
        password, host, port = parts.pop("password", ""), parts.pop("host", ""), parts.pop("port", "")
        options = {**parts, "pool": {"min_size": 1, "max_size": 40, "timeout": 20}}
        return {
            "ENGINE": "django.db.backends.postgresql", "NAME": name, "USER": user, "PASSWORD": password,
            "HOST": host, "PORT": port, "CONN_MAX_AGE": 0, "OPTIONS": options,
        }  # fmt: skip


@lru_cache(maxsize=1)
def environment() -> Environment:
    return Environment()  # type: ignore[call-arg]
