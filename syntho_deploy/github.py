"""What GitHub Actions reads of a step: its outputs, and the page that it shows as the job's summary."""

from __future__ import annotations

import os
from pathlib import Path

from syntho_deploy.errors import InputError
from syntho_deploy.redact import redact

# https://docs.github.com/en/actions/reference/workflows-and-actions/variables
OUTPUT, SUMMARY = "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"


def output(**values: str) -> None:
    """Give the step these outputs, each of one line. Raises `InputError` outside of GitHub Actions."""
    if not os.environ.get(OUTPUT):
        raise InputError(f"the variable {OUTPUT} is not set", todo="leave out --github: it is for a step of GitHub Actions")
    _append(OUTPUT, "".join(f"{name}={value}\n" for name, value in values.items()))


def summary(markdown: str) -> None:
    """Show a text in the job's summary; elsewhere do nothing."""
    if os.environ.get(SUMMARY):
        _append(SUMMARY, markdown)


def _append(variable: str, text: str) -> None:
    with Path(os.environ[variable]).open("a", encoding="utf-8") as file:
        file.write(redact(text))
