"""Which values a chart reads: told by perturbing all of them at once, against the truth of perturbing each alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syntho_deploy import documents
from syntho_deploy.documents import Keys
from syntho_deploy.errors import InputError
from syntho_deploy.helm import Helm
from syntho_deploy.overlays import liveness, pointer
from tests.conftest import write_files

TEMPLATE = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Values.name }}
data:
  text: {{ .Values.text | quote }}
  number: {{ .Values.number | quote }}
  joined: "http://{{ .Values.text }}:{{ .Values.number }}/"
  encoded: {{ printf "%s-%s" "secret" .Values.hidden | b64enc | quote }}
  {{- if .Values.on }}
  switched: {{ .Values.gated.open | quote }}
  {{- end }}
  {{- if .Values.off }}
  closed: {{ .Values.gated.closed | quote }}
  {{- end }}
  {{- range $key, $value := .Values.map }}
  {{ $key }}: {{ $value | quote }}
  {{- end }}
  size: {{ mul .Values.strict 2 | quote }}
  {{- if not (kindIs "float64" .Values.strict) }}{{ fail "strict must be a number" }}{{ end }}
"""
VALUES = {
    "name": "thing", "text": "a", "number": 5, "hidden": "h", "on": True, "off": False, "dead": "d", "deadswitch": True, "strict": 4,
    "gated": {"open": "o", "closed": "c"}, "map": {"k": "v"}, "empty": {},
}  # fmt: skip


def _chart(folder: Path, template: str = TEMPLATE) -> Path:
    files = {"Chart.yaml": "apiVersion: v2\nname: tiny\nversion: 1.0.0\n", "values.yaml": "{}\n", "templates/t.yaml": template}
    return write_files(folder / "tiny", files)


def _reach(helm: Helm, chart: Path, values: Any, asked: list[Keys]) -> liveness.Reach:
    return liveness.reach(values, lambda variants: helm.variants(chart, variants, "r", "n", "1.31"), asked)


def test_alive_and_dead_are_told_apart(helm: Helm, tmp_path: Path) -> None:
    found = _reach(helm, _chart(tmp_path), VALUES, liveness.leaves(VALUES))
    assert {pointer.text(keys) for keys in found.dead} == {"/dead", "/deadswitch", "/gated/closed", "/empty"}
    assert {pointer.text(keys) for keys in found.alive} >= {"/name", "/text", "/number", "/hidden", "/on", "/off", "/gated/open", "/map/k", "/strict"}


def test_fields_know_the_values_that_reach_them_also_in_base64(helm: Helm, tmp_path: Path) -> None:
    fields = _reach(helm, _chart(tmp_path), VALUES, []).fields
    assert fields["ConfigMap/thing", "/data/joined"] == {("text",), ("number",)}
    assert fields["ConfigMap/thing", "/data/encoded"] == {("hidden",)}
    assert fields["ConfigMap/thing", "/metadata/name"] == {("name",)}


def test_a_value_that_is_not_there_can_be_asked_for(helm: Helm, tmp_path: Path) -> None:
    values = {key: value for key, value in VALUES.items() if key not in ("map", "dead")}
    found = _reach(helm, _chart(tmp_path), values, [("map",), ("dead",)])
    assert found.dead == {("dead",)}
    assert ("map",) in found.alive


def test_a_random_render_makes_nothing_alive(helm: Helm, tmp_path: Path) -> None:
    secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: random}\nstringData: {x: {{ randAlphaNum 12 }}}\n"
    assert ("dead",) in _reach(helm, _chart(tmp_path, TEMPLATE + secret), VALUES, [("dead",), ("on",)]).dead


def test_beside_a_random_object_a_switch_that_only_adds_one_is_alive(helm: Helm, tmp_path: Path) -> None:
    secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: random}\nstringData: {x: {{ randAlphaNum 12 }}}\n"
    more = "{{- if .Values.off }}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: more}\n{{- end }}\n"
    template = TEMPLATE.replace("  {{- if .Values.off }}\n  closed: {{ .Values.gated.closed | quote }}\n  {{- end }}\n", "")
    assert ("off",) in _reach(helm, _chart(tmp_path, template + secret + more), VALUES, [("dead",), ("off",)]).alive


def test_values_that_do_not_render_are_an_error(helm: Helm, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not render"):
        _reach(helm, _chart(tmp_path), {**VALUES, "strict": "text"}, [])


def test_variants_in_one_run_are_what_single_renders_would_be(helm: Helm, root: Path) -> None:
    chart = root / "sandbox" / "charts" / "syntho-ui"
    values = documents.load_chart(chart / "values.yaml")
    values["backend"]["secretKey"] = "fixed-key"
    others = [values, {**values, "frontend_url": "other.example.com"}, {**values, "frontend": None}, {**values, "SynthoLicense": "x"}]
    many = helm.variants(chart, others, "r", "n", "1.31")
    assert many[2] is None
    for value, text in zip(others, many, strict=True):
        if text is not None:
            single = {
                (item["kind"], item["metadata"]["name"]): item for item in documents.load_manifests(helm.template(chart, value, "r", "n", "1.31"))
            }
            several = documents.load_manifests(text)
            assert len(several) == len(single)
            for item in several:
                if item["kind"] == "Deployment":
                    assert item["spec"]["template"]["spec"] == single[item["kind"], item["metadata"]["name"]]["spec"]["template"]["spec"]


@pytest.mark.parametrize("chart", ["ray", "syntho-ui"])
def test_of_the_sandbox_charts_the_dead_values_are_those_known(helm: Helm, root: Path, chart: str) -> None:
    folder = root / "sandbox" / "charts" / chart
    values = documents.load_chart(folder / "values.yaml")
    if chart == "ray":
        values["worker"]["disabled"] = values["additionalWorkerGroups"]["smallGroup"]["disabled"] = False
        values["head"]["init_container_enabled"], values["storage"]["storageClassName"] = True, ""
    found = _reach(helm, folder, values, liveness.leaves(values))
    dead = {pointer.text(keys) for keys in found.dead}
    if chart == "ray":
        known = {"/head/initContainer/securityContext"} | {f"/worker/{leaf}" for leaf in ("volumes/0/name", "volumes/0/emptyDir")}
        assert dead == known | {"/worker/volumeMounts/0/mountPath", "/worker/volumeMounts/0/name"}
    else:
        gated = {"/frontend/ingress/tls/conf/0/hosts/0", "/frontend/ingress/tls/conf/0/secretName", "/db/pvLabelKey", "/redis/pvLabelKey"}
        assert dead == {"/podAnnotations", "/resources", "/backend/secret_key"} | gated


def test_what_was_hidden_before_is_looked_at_in_the_first_run(tmp_path: Path, helm: Helm) -> None:
    runs: list[int] = []

    def render(variants: list[Any]) -> list[str | None]:
        runs.append(len(variants))
        return helm.variants(chart, variants, "r", "n", "1.31")

    chart = _chart(tmp_path, "\n".join(line for line in TEMPLATE.splitlines() if "strict" not in line))
    first = liveness.reach(VALUES, render, liveness.leaves(VALUES))
    again = liveness.reach(VALUES, render, liveness.leaves(VALUES), first.hidden)
    assert again == first
    assert len(runs) == 3  # two at first, then one
    assert liveness.reach(VALUES, render, liveness.leaves(VALUES), [("on",), ("not", "there")]) == first


SWITCHED = {
    "off.yaml": "\n{{- if .Values.on -}}\na: {{ .Values.only.here }}\nb: {{ .Values.both }}\n{{- end }}",
    "not.yaml": "{{ if not $.Values.off }}{{ .Values.negated.deep.er }}{{ end }}",
    "plain.yaml": "{{ .Values.both }} {{ with .Values.whole }}{{ .part }}{{ end }} {{ .Values.leaf }}",
    "inner.yaml": "first: line\n{{ if .Values.on }}{{ .Values.inner }}{{ end }}",
}


def test_what_only_a_file_names_that_is_switched_off_is_guessed_to_arrive_nowhere() -> None:
    asked = [("only", "here"), ("only",), ("both",), ("negated", "deep"), ("whole", "part"), ("leaf", "more"), ("inner",), ("nowhere",)]

    def guessed(**switches: Any) -> set[str]:
        return {pointer.text(keys) for keys in liveness.switched_off(switches, SWITCHED.values(), asked)}

    assert guessed(on=False, off=True) == {"/only", "/only/here", "/negated/deep", "/nowhere"}
    assert guessed(on=True, off=False) == {"/nowhere"}
    assert guessed() == {"/only", "/only/here", "/nowhere"}
    assert liveness.switched_off({}, ["{{ toYaml .Values }}"], asked) == set()
