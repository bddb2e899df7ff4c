"""The submit form: people's units in, the fields of POST /jobs out. It checks form only; whether the cluster can
give what is asked is the service's answer, shown at the field that it names."""

from __future__ import annotations

import shlex
from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile

from clusteros.words import parse_size, parse_span

MAX_FILES = 100
MAX_FILE_BYTES = 64 * 1024 * 1024


PLAIN = {"autocomplete": "off", "spellcheck": "false"}


class SizeField(forms.CharField):
    def clean(self, value: Any) -> int | None:
        text = super().clean(value)
        return _parsed(parse_size, text) if text else None


class SpanField(forms.CharField):
    def clean(self, value: Any) -> int | None:
        text = super().clean(value)
        return _parsed(parse_span, text) if text else None


def _parsed(parse: Any, text: str) -> int:
    try:
        return int(parse(text))
    except ValueError as wrong:
        raise forms.ValidationError(str(wrong)) from wrong


class ManyFilesInput(forms.ClearableFileInput):
    allow_multiple_selected = True


class ManyFilesField(forms.FileField):
    widget = ManyFilesInput

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile]:
        files = data if isinstance(data, list | tuple) else [data] if data else []
        if len(files) > MAX_FILES:
            raise forms.ValidationError(f"{len(files)} files are too many: at most {MAX_FILES}; pack them into an archive")
        for file in files:
            if file.size > MAX_FILE_BYTES:
                raise forms.ValidationError(f"{file.name} is larger than {MAX_FILE_BYTES >> 20} MiB: put it where the job can read it")
        return list(files)


class RetentionForm(forms.Form):
    """Which generations stay; beside them the pinned ones."""

    keep = forms.IntegerField(label="Keep the last", min_value=1, max_value=10_000, initial=8, help_text="Generations; pinned ones stay.")
    keep_every = forms.IntegerField(
        label="And every", min_value=0, max_value=10_000, initial=0, required=False, help_text="10: generations 10, 20, 30, … too. 0: none."
    )  # fmt: skip
    keep_per = forms.ChoiceField(
        label="And the first of every", choices=[("", "none"), ("hour", "hour"), ("day", "day")], required=False,
        help_text="Spread over a long job.",
    )  # fmt: skip

    def clean_keep_every(self) -> int:
        return self.cleaned_data["keep_every"] or 0


class SubmitForm(RetentionForm):
    name = forms.CharField(max_length=100, required=False, help_text="What to call it; the command's name if left empty.")
    kind = forms.ChoiceField(choices=[("command", "Command"), ("script", "Script")], initial="command")
    command = forms.CharField(
        required=False, help_text="As you would type it; mpirun and mpiexec start their ranks on all pods by themselves.",
        widget=forms.TextInput(attrs={"placeholder": "mpirun ./heat city.png", "class": "mono", **PLAIN}),
    )  # fmt: skip
    script = forms.CharField(
        required=False, strip=False, help_text="Runs in pod 0, in the working directory. Its first line names the interpreter.",
        widget=forms.Textarea(attrs={"placeholder": "#!/bin/sh\nmake && mpirun ./solver input.dat", "spellcheck": "false"}),
    )  # fmt: skip
    uploads = ManyFilesField(label="Files", required=False, help_text="They lie in the working directory of every pod when the job starts.")
    pods = forms.IntegerField(min_value=1, max_value=10_000, initial=1, help_text="Spread over the nodes.")
    ranks_per_pod = forms.IntegerField(label="Ranks per pod", min_value=1, max_value=4096, initial=1)
    cores_per_rank = forms.IntegerField(label="Cores per rank", min_value=1, max_value=4096, initial=1)
    mem = SizeField(label="Memory per pod", initial="512M", help_text="512M, 2G")
    walltime = SpanField(label="Walltime", required=False, help_text="It is ended after this time: 30m, 2h. Empty: no limit.")
    interval = SpanField(label="A generation every", required=False, initial="60s", help_text="30s, 10m. Empty: only on demand.")
    array = forms.CharField(
        label="Array", required=False, help_text="0-9 runs it ten times, each with its own CLUSTEROS_ARRAY_INDEX. Empty: once.",
        widget=forms.TextInput(attrs={"placeholder": "0-9", **PLAIN}),
    )  # fmt: skip
    hold = forms.BooleanField(label="Hold it until it is released", required=False)
    env = forms.CharField(
        label="Environment",
        required=False,
        help_text="One NAME=VALUE a line.",
        widget=forms.Textarea(attrs={"rows": 3, "class": "low", **PLAIN}),
    )

    def clean_env(self) -> dict[str, str]:
        lines = [line.strip() for line in self.cleaned_data["env"].splitlines() if line.strip()]
        wrong = [line for line in lines if "=" not in line or line.startswith("=")]
        if wrong:
            raise forms.ValidationError(f"'{wrong[0]}' is not of the form NAME=VALUE")
        return dict(line.split("=", 1) for line in lines)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        kind = cleaned.get("kind")
        if kind == "command":
            self._check_command(cleaned.get("command", ""))
        if kind == "script" and not (cleaned.get("script") or "").strip():
            self.add_error("script", "write the script, or choose Command")
        return cleaned

    def _check_command(self, command: str) -> None:
        try:
            if not shlex.split(command):
                self.add_error("command", "say what to run")
        except ValueError as wrong:
            self.add_error("command", f"the quotes do not match ({wrong})")

    def program(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        if cleaned["kind"] == "script":
            return {"script": cleaned["script"].replace("\r\n", "\n")}
        return {"command": shlex.split(cleaned["command"])}
