"""Charts with subcharts: they render as helm renders them, but for a patch that can remove what a subchart declares."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy import documents
from syntho_deploy.compile import Project
from syntho_deploy.errors import InputError
from syntho_deploy.helm import Helm, api_versions, crds, flatten
from syntho_deploy.vendor import load_pin, vendor
from tests.conftest import bare_template, write_files

SHOW = """\
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}}}
data:
  values: {{{{ omit .Values "global" | toJson | quote }}}}
  budgets: {{{{ .Capabilities.APIVersions.Has "policy/v1/PodDisruptionBudget" | quote }}}}
"""
CRD = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {}}}\n"
INNER = {
    "Chart.yaml": "apiVersion: v2\nname: inner\nversion: 1.0.0\n",
    "values.yaml": "deep: {kept: 1, set: 2, gone: 3}\nword: hello\nempty: null\n",
    "templates/show.yaml": SHOW.format(name="{{ .Chart.Name }}"),
    "crds/inner.yaml": CRD.format("inner.example.com"),
    "crds/both.yaml": CRD.format("both.example.com"),
}
OUTER = {
    "Chart.yaml": "apiVersion: v2\nname: outer\nversion: 1.0.0\ndependencies:\n"
    "- {name: inner, version: 1.0.0, alias: one}\n- {name: inner, version: 1.0.0, alias: two}\n- {name: middle, version: 1.0.0}\n",
    "values.yaml": "own: 1\none: {deep: {set: 5, gone: null}}\nmiddle: {inner: {deep: {set: 6}}}\n",
    "templates/show.yaml": SHOW.format(name="outer"),
    "templates/crds/show.yaml": SHOW.format(name="of-a-folder-named-crds"),
    "crds/both.yaml": CRD.format("both.example.com"),
    "charts/middle/Chart.yaml": "apiVersion: v2\nname: middle\nversion: 1.0.0\n",
    "charts/middle/values.yaml": "mine: 7\n",
    "charts/middle/templates/show.yaml": SHOW.format(name="middle"),
}


def packed(files: dict[str, str], folder: str = "inner") -> bytes:
    """Files as `helm package` packs them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture
def outer(tmp_path: Path) -> Path:
    """A chart with an archive used under two names, and a folder with the same archive in it."""
    chart = write_files(tmp_path / "outer", OUTER)
    for at in ("charts", "charts/middle/charts"):
        (chart / at).mkdir(exist_ok=True)
        (chart / at / "inner-1.0.0.tgz").write_bytes(packed(INNER))
    return chart


def shown(text: str) -> dict[str, Any]:
    """The values that each template was given, by the ConfigMap that says so; a list where several are named alike."""
    found: dict[str, Any] = {}
    for item in documents.load_manifests(text):
        name = item["metadata"]["name"]
        found[f"{name}-2" if name in found else name] = documents.load(Path("x"), item["data"]["values"]).data
    return found


def without_nulls(value: Any) -> Any:
    """Helm 3 leaves out a subchart's null, and keeps the chart's own."""
    return {key: without_nulls(item) for key, item in value.items() if item is not None} if isinstance(value, dict) else value


def test_a_flat_copy_renders_as_helm_renders_the_chart(outer: Path, tmp_path: Path, helm3: Helm) -> None:
    flatten(outer, tmp_path / "flat")
    values = documents.load_chart(tmp_path / "flat" / "values.yaml")
    flat, real = helm3.template(tmp_path / "flat", values, "r", "n", "1.31"), bare_template(helm3, outer).stdout
    assert without_nulls(shown(flat)) == without_nulls(shown(real))


def test_all_defaults_stand_in_the_charts_own_values(outer: Path, tmp_path: Path) -> None:
    flatten(outer, tmp_path / "flat")
    inner = {"deep": {"kept": 1, "set": 2, "gone": 3}, "word": "hello", "empty": None}
    assert documents.load_chart(tmp_path / "flat" / "values.yaml") == {
        "own": 1,
        "one": {**inner, "deep": {"kept": 1, "set": 5}},
        "two": inner,
        "middle": {"mine": 7, "inner": {**inner, "deep": {"kept": 1, "set": 6, "gone": 3}}},
    }
    assert not list((tmp_path / "flat").rglob("*.tgz"))
    assert list(outer.rglob("*.tgz"))


def test_what_a_patch_removes_stays_removed_under_both_helms(outer: Path, tmp_path: Path, each_helm: Helm) -> None:
    flatten(outer, tmp_path / "flat")
    values = documents.load_chart(tmp_path / "flat" / "values.yaml")
    del values["two"]["deep"]["kept"], values["middle"]["inner"]["deep"]
    text = each_helm.template(tmp_path / "flat", values, "r", "n", "1.31")
    assert shown(text)["two"]["deep"] == {"set": 2, "gone": 3}
    assert "deep" not in shown(text)["inner"]
    assert "of-a-folder-named-crds" in shown(text)


def test_many_variants_in_one_run_have_their_subcharts(outer: Path, tmp_path: Path, helm: Helm) -> None:
    flatten(outer, tmp_path / "flat")
    values = documents.load_chart(tmp_path / "flat" / "values.yaml")
    other = {**values, "two": {"word": "other"}}
    texts = helm.variants(tmp_path / "flat", [values, other], "r", "n", "1.31")
    assert [shown(text or "")["two"]["word"] for text in texts] == ["hello", "other"]


def test_crds_are_found_at_every_depth_and_left_out_of_renders(outer: Path, tmp_path: Path, helm: Helm) -> None:
    flatten(outer, tmp_path / "flat")
    assert [path.name for path in crds(tmp_path / "flat")] == ["both.yaml", "both.yaml", "inner.yaml", "both.yaml", "inner.yaml"]
    text = helm.template(tmp_path / "flat", documents.load_chart(tmp_path / "flat" / "values.yaml"), "r", "n", "1.31")
    assert "CustomResourceDefinition" not in text


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"no archive", "cannot be unpacked"),
        (packed({"values.yaml": "a: 1\n"}), "has no Chart.yaml"),
        (packed(INNER)[:200], "cannot be unpacked"),
        (packed({**INNER, "../../../outside.yaml": "a: 1\n"}), ""),
    ],
)
def test_an_archive_that_is_no_chart_is_refused_and_none_writes_outside(outer: Path, tmp_path: Path, content: bytes, what: str) -> None:
    (outer / "charts" / "inner-1.0.0.tgz").write_bytes(content)
    if what:
        with pytest.raises(InputError, match=what):
            flatten(outer, tmp_path / "a" / "flat")
    else:
        flatten(outer, tmp_path / "a" / "flat")
    assert not list(tmp_path.rglob("outside.yaml"))


def test_an_environment_patches_a_subcharts_default_and_gets_each_crd_once(outer: Path, tmp_path: Path, each_helm: Helm) -> None:
    project = write_files(
        tmp_path / "project",
        {
            "envs/dev.yaml": "cluster: {context: c, namespace: ns}\n",
            "vendor/charts.yaml": "source: charts\ncharts: {outer: outer}\n",
            "overlays/roles.yaml": "releases: {outer: {chart: outer, name: rel}}\nsecret: ${release.outer}-secrets\n",
            "overlays/dev/outer.values.yaml": "- {op: replace, path: /two/deep/set, value: 9}\n- {op: remove, path: /two/deep/gone}\n"
            "- {op: replace, path: /one/word, value: 'no'}\n",
        },
    )
    outer.rename(project / "charts-outer")
    (project / "charts").mkdir()
    (project / "charts-outer").rename(project / "charts" / "outer")
    vendor(project, load_pin(project, Path("vendor/charts.yaml")), update=True)
    for _ in range(2):  # the second time from the kept flat copy
        chart = Project.load(project, "dev").compile(each_helm).charts["outer"]
    given = {item["metadata"]["name"]: documents.load(Path("x"), item["data"]["values"]).data for item in chart.objects}
    assert given["two"]["deep"] == {"kept": 1, "set": 9}
    assert given["one"]["word"] == "no"
    assert sorted(path.name for path in chart.crds) == ["both.yaml", "inner.yaml"]
    assert {item["data"]["budgets"] for item in chart.objects} == {"true"}


def test_a_kubernetes_version_has_what_it_served() -> None:
    for version, has, lacks in (
        ("1.31", "policy/v1/PodDisruptionBudget", "policy/v1beta1/PodDisruptionBudget"),
        ("1.20.4", "policy/v1beta1/PodDisruptionBudget", "policy/v1/PodDisruptionBudget"),
        ("1.24", "batch/v1beta1/CronJob", "flowcontrol.apiserver.k8s.io/v1/FlowSchema"),
        ("1.18", "networking.k8s.io/v1beta1/Ingress", "networking.k8s.io/v1/Ingress"),
    ):
        found = api_versions(version)
        assert has in found
        assert lacks not in found
        assert len(found) == len(set(found))
