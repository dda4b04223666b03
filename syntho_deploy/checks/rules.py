"""The rules by name, with what each is for and how bad a finding of it is; and the table of them in docs/lint.md.

After a change to a rule: python -m syntho_deploy.checks.rules
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from syntho_deploy import documents
from syntho_deploy.checks import databases, environment, formats, hosts, images, ingress, literals, objects, ray, references, schema, secrets
from syntho_deploy.checks.context import Context, Finding

MODULES = (images, formats, references, hosts, ingress, databases, ray, secrets, literals, objects, schema, environment)
SEVERITIES = ("error", "warning", "note")
# Those that need what helm finds last: which values reach which fields, and what `helm lint` says.
LATE = frozenset(
    {
        "mixed-releases",
        "public-credential",
        "altered-secret",
        "literal-secret",
        "dead-operation",
        "altered-text",
        "replaced-zero",
        "unstable-render",
        "helm-warning",
        "helm-error",
    }
)
FILE = Path(__file__).parent / "severities.yaml"
BEGIN, END = "<!-- rules -->", "<!-- end of rules -->"
# What lint finds by itself, without a rule's function.
DRIVER = {
    "does-not-compile": "An environment that cannot be read, or whose charts do not render with its overlays. Nothing else is checked then.",
    "unused-allowance": "An allowance in the environment's file that no finding needs, or that names no rule: what it was for has changed.",
}


@dataclass(frozen=True)
class Rule:
    """One rule. why: its docstring in one paragraph; check: what yields its findings, None for one of lint's own."""

    name: str
    module: str
    why: str
    protected: str
    other: str
    check: Callable[[Context], Iterator[Finding]] | None

    def severity(self, protected: bool) -> str:
        """How bad a finding is, by the kind of the environment."""
        return self.protected if protected else self.other


def name_of(function: str) -> str:
    """A rule's name, from its function's."""
    return function.replace("_", "-")


@cache
def rules() -> dict[str, Rule]:
    """Every rule by its name, in the order of the modules."""
    severities = documents.load(FILE).data
    found: dict[str, Rule] = {}
    for name, why in DRIVER.items():
        found[name] = Rule(name, "lint", why, severities[name]["protected"], severities[name]["other"], None)
    for module in MODULES:
        for function in vars(module).values():
            if not inspect.isfunction(function) or function.__module__ != module.__name__ or not _is_rule(function):
                continue
            name = name_of(function.__name__)
            why = re.sub(r"\s+", " ", function.__doc__ or "").strip()
            found[name] = Rule(name, module.__name__.rpartition(".")[2], why, severities[name]["protected"], severities[name]["other"], function)
    return found


def _is_rule(function: Callable[..., object]) -> bool:
    return not function.__name__.startswith("_") and function.__annotations__.get("return") == "Iterator[Finding]"


def table() -> str:
    """The rules as a table of docs/lint.md."""
    lines = ["| rule | protected | other | what it forbids, and why |", "|---|---|---|---|"]
    for rule in rules().values():
        lines.append(f"| `{rule.name}` | {rule.protected} | {rule.other} | {rule.why.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    docs = Path(__file__).resolve().parents[2] / "docs" / "lint.md"
    documents.write(docs, page(docs.read_text(encoding="utf-8")))
