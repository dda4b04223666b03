"""Other charts for a pin: what they change is found, with the lines to edit, and nothing is written that would not compile."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from syntho_deploy import bumpcharts, documents
from syntho_deploy.bumpcharts import EnvironmentDiff, Result
from syntho_deploy.errors import InputError, PreflightError
from syntho_deploy.helm import Helm
from syntho_deploy.vendor import load_pin, vendor
from tests.conftest import copy_project, write_files
from tests.unit.test_bump import environment, invoke, write
from tests.unit.test_vendor import Repository

UI, RAY = "charts/syntho-ui", "charts/ray"
EDITS = {  # the second release of the charts: file, what is there, what comes
    "a default": (f"{UI}/values.yaml", "email: admin@company.com", "email: root@company.com"),
    "an image": (f"{UI}/values.yaml", "tag: 7.2-rc2", 'tag: "7.4"'),
    "a new value": (f"{UI}/values.yaml", "frontend_path: null", "frontend_path: null\nbrand: new"),
    "no worker count": (f"{UI}/templates/_env.tpl", '{{ include "ui.var" (list "MAX_WORKERS" (quote $core.workers)) }}\n', ""),
    "a read": (f"{UI}/templates/serviceaccount.yaml", "", "{{- if .Values.core.undeclared }}{{ end }}\n"),
    "a lookup": (f"{UI}/templates/serviceaccount.yaml", "", '{{- $_ := lookup "v1" "Secret" .Release.Namespace "backend-secret" }}\n'),
    "what is random": (f"{UI}/templates/serviceaccount.yaml", "metadata:\n", "metadata:\n  annotations: {made: {{ randAlphaNum 9 | quote }}}\n"),
    "a secret that moves": (
        f"{UI}/templates/_env.tpl",
        '{{ include "ui.var" (list "LICENSE_KEY_SIGNED" .Values.SynthoLicense) }}',
        "- {name: LICENSE_KEY_SIGNED, valueFrom: {secretKeyRef: {name: core-secret, key: license_key}}}",
    ),
    "its new place": (f"{UI}/templates/secrets.yaml", "stringData:\n", "stringData:\n  license_key: {{ .Values.SynthoLicense | quote }}\n"),
    "a selector": (f"{UI}/templates/postgres.yaml", "io.kompose.service", "app.kubernetes.io/component"),
    "a field": (f"{RAY}/crds/rayjobs.yaml", "          status:\n            type: object\n",
                "          status:\n            type: object\n            properties: {phase: {type: string}}\n"),
}  # fmt: skip


@pytest.fixture(scope="module")
def upstream(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The sandbox charts in a git repository: 1.0.0, 1.1.0 with the edits, and 2.0.0, which reads the key elsewhere."""
    found = Repository(tmp_path_factory.mktemp("git") / "upstream")
    files = {str(path.relative_to(root / "sandbox")): path.read_bytes() for path in (root / "sandbox/charts").rglob("*") if path.is_file()}
    found.commit(dict(files))
    found.git("tag", "1.0.0")
    edited: dict[str, str | bytes] = {}
    for file, old, new in EDITS.values():
        text = str(edited.get(file) or files[file].decode())
        assert old in text
        edited[file] = text.replace(old, new) if old else text + new
    found.commit(edited)
    found.git("tag", "1.1.0")
    secrets = f"{UI}/templates/secrets.yaml"
    found.commit({secrets: str(edited[secrets]).replace("coalesce .secretKey", "coalesce .djangoKey")})
    found.git("tag", "2.0.0")
    return found


@pytest.fixture
def site(root: Path, tmp_path: Path, upstream: Repository, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose environments a and b have these charts at 1.0.0."""
    monkeypatch.delenv("SYNTHO_CHARTS_URL", raising=False)  # it goes before what a pin says
    folder = copy_project(root, tmp_path / "site")
    for file in (folder / "envs").glob("*"):
        file.unlink()
    write_files(
        folder, {"vendor/own.yaml": f"source: {upstream.path}\nref: 1.0.0 # pinned\ncharts: {{ray: charts/ray, syntho-ui: charts/syntho-ui}}\n"}
    )
    vendor(folder, load_pin(folder, folder / "vendor/own.yaml"), update=True)
    for name in ("a", "b"):
        write(folder, f"envs/{name}.yaml", environment(name, "").replace("vendor/sandbox.yaml", "vendor/own.yaml"))
    write(folder, "overlays/a/syntho-ui.values.yaml", "- {op: replace, path: /core/workers, value: 3}\n")
    return folder


def compared(site: Path, helm: Helm, ref: str) -> Result:
    return bumpcharts.to_ref(site, load_pin(site, site / "vendor/own.yaml"), ref, None, helm)


def of(result: Result, name: str) -> EnvironmentDiff:
    return next(one for one in result.environments if one.environment == name)


def pinned(site: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (site / "vendor").glob("own*")}


def test_all_that_changes_is_found_with_the_lines(site: Path, helm: Helm) -> None:
    before = pinned(site)
    result = compared(site, helm, "1.1.0")
    assert pinned(site) == before
    charts = {chart.name: chart for chart in result.charts}
    assert {(change.path, change.after) for change in charts["syntho-ui"].values} == {
        ("/backend/user/email", "root@company.com"), ("/redis/image/tag", "7.4"), ("/brand", "new")
    }  # fmt: skip
    assert charts["syntho-ui"].newly_read == ("/core/undeclared",)
    assert charts["syntho-ui"].lookups == ('Secret "backend-secret" in templates/serviceaccount.yaml',)
    assert charts["ray"].crds == ("rayjobs.ray.io v1alpha1 gets 1 fields: /status/phase",)
    a, b = of(result, "a"), of(result, "b")
    assert a.faults == b.faults == []
    assert [line for line in a.dead if line.startswith("overlays/a/syntho-ui.values.yaml:1:3: replace syntho-ui:/core/workers has no effect")]
    assert b.dead == []
    assert [line.partition(":")[0] for line in a.random] == ["ServiceAccount/syntho-ui-syntho-ui"]
    assert any(
        re.search(r"components/admin/.*:\d+:3: replace /backend/user/email sets .*admin@company.com -> root@company.com", x) for x in a.defaults
    )
    assert a.images == ["+ redis:7.4", "- redis:7.2-rc2"]
    assert [line for line in a.immutable if line.startswith("Deployment/postgres: /spec/selector/")]
    assert "license arrives at Secret/core-secret:/stringData/license_key" in a.secrets
    assert [line for line in a.secrets if line.startswith("license leaves Deployment/core:") and "LICENSE_KEY_SIGNED" in line]
    changed = {item.label: item for item in a.objects}
    assert changed["StatefulSet/redis"].pods == ("redis: 1 pod",)
    text = bumpcharts.text(result)
    assert "no effect any more: overlays/a/syntho-ui.values.yaml:1:3" in text
    assert "~ StatefulSet/redis" in text
    assert '+ lookup Secret "backend-secret" in templates/serviceaccount.yaml: plain helm takes over what it finds there' in text
    assert "differs at each render: ServiceAccount/syntho-ui-syntho-ui: each deploy would change it" in text


def test_pin_and_lock_are_written_and_nothing_else_of_the_pin(site: Path, helm: Helm) -> None:
    result = compared(site, helm, "1.1.0")
    result.write(None, force=False)
    assert (site / "vendor/own.yaml").read_text().splitlines()[1] == "ref: 1.1.0 # pinned"
    assert vendor(site, load_pin(site, site / "vendor/own.yaml"), check=True).lock.ref == "1.1.0"
    assert not compared(site, helm, "1.1.0").changed


def test_charts_with_which_an_environment_does_not_compile_are_not_written_unless_forced(site: Path, helm: Helm) -> None:
    before = pinned(site)
    result = compared(site, helm, "2.0.0")
    fault = 'the secret "backend.secret_key" reaches no manifest'
    assert [line for line in of(result, "a").faults if line.startswith("overlays/components/keys/syntho-ui.values.yaml:7:3: ") and fault in line]
    assert of(result, "a").objects
    with pytest.raises(PreflightError, match="a, b would not compile; nothing was written"):
        result.write(None, force=False)
    assert pinned(site) == before
    result.write(None, force=True)
    assert b"ref: 2.0.0" in pinned(site)["own.yaml"]


def test_another_pin_is_compared_without_writing(site: Path, helm: Helm) -> None:
    own, other = (load_pin(site, site / f"vendor/{name}.yaml") for name in ("own", "sandbox"))
    result = bumpcharts.to_pin(site, own, other, None, helm)
    assert [one.environment for one in result.environments] == ["a", "b"]
    assert all(not one.faults and not one.objects for one in result.environments)
    assert "charts: vendor/own.yaml" in (site / "envs/a.yaml").read_text()


def test_bad_input_is_refused(site: Path, helm: Helm) -> None:
    with pytest.raises(InputError, match=r'has no tag or branch "1\.2\.0"') as caught:
        compared(site, helm, "1.2.0")
    assert str(caught.value).startswith(f"{site}/vendor/own.yaml:2:6: ")
    with pytest.raises(InputError, match="is no ref"):
        compared(site, helm, "-x")
    with pytest.raises(InputError, match="a directory and no ref"):
        bumpcharts.to_ref(site, load_pin(site, site / "vendor/sandbox.yaml"), "1", None, helm)
    with pytest.raises(InputError, match="no environment has this pin"):
        bumpcharts.to_pin(site, load_pin(site, site / "vendor/charts.yaml"), load_pin(site, site / "vendor/sandbox.yaml"), None, helm)


def test_the_command_exits_2_and_writes_when_told(site: Path) -> None:
    before = pinned(site)
    shown = invoke(site, "bump-charts", "--pin=vendor/own.yaml", "--ref=1.1.0", "--json")
    assert (shown.code, pinned(site)) == (2, before)
    told = json.loads(shown.stdout)
    assert [one["compiles"] for one in told["environments"]] == [True, True]
    refused = invoke(site, "bump-charts", "--pin=vendor/own.yaml", "--ref=2.0.0", "--write")
    assert (refused.code, pinned(site)) == (4, before)
    assert invoke(site, "bump-charts", "--pin=vendor/own.yaml", "--ref=1.1.0", "--write").code == 0
    assert documents.load(site / "vendor/own.lock.yaml").data["ref"] == "1.1.0"
    assert invoke(site, "bump-charts").code == 3
