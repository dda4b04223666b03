"""What an overlay writes arrives in the manifest as it was written, whichever helm rendered it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from syntho_deploy import documents
from syntho_deploy.altered import altered
from syntho_deploy.compile import Project
from syntho_deploy.errors import InputError
from syntho_deploy.helm import Helm

WRITTEN = {
    "version": '"1.10"',
    "zeros": '"007"',
    "exponent": '"1e3"',
    "word": '"yes"',
    "letter": "y",
    "no": "n",
    "nothing": '"null"',
    "empty": '""',
    "tilde": '"~"',
    "date": "2024-01-01",
    "time": "12:30",
    "datetime": "2024-01-01T00:00:00Z",
    "umlaut": "grün",
    "snow": "☃",
    "emoji": '"🚀"',
    "octal": '"0o17"',
    "hex": '"0x1F"',
    "large": '"20230308123456"',
    "space": '"  a  "',
    "lines": '"a\\nb\\n"',
    "tab": '"a\\tb"',
    "quote": '"\'"',
    "brace": '"{{ .Values }}"',
    "hash": '"a #b"',
    "colon": '"a: b"',
    "separator": '"x\\u2028y"',
    "true": '"true"',
    "float": '"1.0"',
    "comma": '"1,000"',
    "bang": '"!x"',
    "star": '"*x"',
    "at": '"@x"',
}
TYPED = {"int": "5", "negative": "-3", "most": "999999", "half": "0.5", "yes": "true", "nope": "false"}


def _overlay(project: Path, text: str) -> None:
    file = project / "overlays" / "local" / "syntho-ui.values.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _env(project: Path, helm: Helm) -> dict[str, Any]:
    charts = Project.load(project, "local").compile(helm).charts
    text = charts["syntho-ui"].texts["deployment-core.yaml"]
    container = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"][0]
    return {entry["name"]: entry.get("value") for entry in container["env"]}


def test_text_arrives_as_it_was_written_under_both_helms(project: Path, each_helm: Helm) -> None:
    lines = "".join(f"    V_{name.upper()}: {text}\n" for name, text in WRITTEN.items())
    _overlay(project, f"- op: add\n  path: /core/env\n  value:\n{lines}")
    found = _env(project, each_helm)
    expected = {f"V_{name.upper()}": text if text[0] != '"' else json.loads(text) for name, text in WRITTEN.items()}
    assert {name: found[name] for name in expected} == expected


def test_types_arrive_as_types_under_both_helms(project: Path, each_helm: Helm) -> None:
    values = "{" + ", ".join(f"{name}: {text}" for name, text in TYPED.items()) + "}"
    _overlay(project, f"- op: add\n  path: /affinity\n  value: {values}\n  overrides: true\n- op: replace\n  path: /core/replicaCount\n  value: 7\n")
    text = Project.load(project, "local").compile(each_helm).charts["syntho-ui"].texts["deployment-core.yaml"]
    spec = yaml.safe_load(text)["spec"]
    assert spec["replicas"] == 7
    assert spec["template"]["spec"]["affinity"] == {name: yaml.safe_load(text) for name, text in TYPED.items()}


def test_null_is_the_same_under_both_helms(project: Path, helm: Helm, helm3: Helm) -> None:
    _overlay(project, "- {op: replace, path: /frontend_path, value: null}\n- {op: replace, path: /db/storageClassName, value: null}\n")
    charts = [Project.load(project, "local").compile(binary).charts["syntho-ui"].texts for binary in (helm, helm3)]
    assert charts[0] == charts[1]


@pytest.mark.parametrize(
    "text",
    [
        "1e3",
        "007",
        "0o17",
        "0x1F",
        "yes",
        "off",
        "1_000",
        ".5",
        "5.",
        ".inf",
        "20230308",
        "1000000",
        "0.00001",
        "-2000000",
        "1.10",
        "1.0",
        "0.50",
        "3.14159265358979323846",
    ],
)
def test_what_cannot_arrive_is_refused_with_its_line_and_quotes(project: Path, text: str) -> None:
    _overlay(project, f"- op: replace\n  path: /core/image/tag\n  value: {text}\n")
    with pytest.raises(InputError, match="quote it") as caught:
        Project.load(project, "local").values()
    assert "syntho-ui.values.yaml:" in str(caught.value)


def test_what_template_prints_is_read_alike_by_every_reader(project: Path, helm: Helm) -> None:
    lines = "".join(f"    V_{name.upper()}: {text}\n" for name, text in WRITTEN.items())
    _overlay(project, f"- op: add\n  path: /core/env\n  value:\n{lines}")
    stream = Project.load(project, "local").compile(helm).charts["syntho-ui"].stream
    assert list(yaml.safe_load_all(stream)) == documents.load_manifests(stream)


PRINTED_BARE = {
    "1e3": "1000.0",
    "007": "7",
    "yes": "true",
    "null": "nothing",
    "~": "nothing",
    "0o17": "15",
    "1_000": "1000",
    "a #b": '"a"',
    "  a ": '"a"',
}


@pytest.mark.parametrize("text", PRINTED_BARE)
def test_a_text_that_the_chart_prints_without_quotes_is_refused_or_arrives(project: Path, helm: Helm, helm3: Helm, text: str) -> None:
    _overlay(project, json.dumps([{"op": "add", "path": "/core/app_env", "value": text}]))
    (found,) = [one.error for one in altered(Project.load(project, "local"), helm)]
    assert f"and {PRINTED_BARE[text]} arrives in Deployment/core" in found.what
    assert str(found.where).endswith("overlays/local/syntho-ui.values.yaml:1:2")
    quoted = json.dumps(text)
    assert found.todo == f"quote it once more: '{quoted}'"
    _overlay(project, json.dumps([{"op": "add", "path": "/core/app_env", "value": quoted}]))
    assert altered(Project.load(project, "local"), helm) == []
    assert [_env(project, binary)["APP_ENV"] for binary in (helm, helm3)] == [text, text]


@pytest.mark.parametrize("text", ["2024-01-01", "12:30", "1.2.3", "grün", "a:b", "x=y", "1,000", "v1.10"])
def test_a_text_that_arrives_without_quotes_too_is_none(project: Path, helm: Helm, text: str) -> None:
    _overlay(project, json.dumps([{"op": "add", "path": "/core/app_env", "value": text}]))
    assert altered(Project.load(project, "local"), helm) == []
    assert _env(project, helm)["APP_ENV"] == text


def test_a_text_that_is_cut_inside_of_another_is_refused(project: Path, helm: Helm) -> None:
    _overlay(project, json.dumps([{"op": "replace", "path": "/core/image/tag", "value": "1.9 #old"}]))
    assert altered(Project.load(project, "local"), helm) == []  # the chart quotes this one
    _overlay(project, json.dumps([{"op": "replace", "path": "/frontend_protocol", "value": "https #now"}]))
    (found,) = altered(Project.load(project, "local"), helm)
    assert (found.path, 'and "https" arrives in Deployment/backend' in found.what) == ("/frontend_protocol", True)
