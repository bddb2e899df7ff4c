"""Profile (the uid and gid of a user's jobs) and ApiToken.

Invariants: a uid is given once and never again, and is never below FIRST_UID: no job runs as root or as an account
of the machine. Only the SHA-256 of a token is kept.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models

FIRST_UID = 20000


class Profile(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="profile")
    uid = models.IntegerField(unique=True)
    gid = models.IntegerField()

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(uid__gte=FIRST_UID), name="never_a_system_uid")]


class ApiToken(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    sha256 = models.CharField(max_length=64, unique=True)
    hint = models.CharField(max_length=12)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
