"""No command shows a secret to anybody: not in its output, processes, files or requests, and not in what it leaves in the cluster."""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import yaml

from syntho_deploy import helm
from syntho_deploy.cluster import local
from syntho_deploy.cluster.client import Client
from syntho_deploy.secrets import store
from tests.e2e.observer import Observer
from tests.e2e.site import Site

CANARY = "CANARYsecret"
HARD = """ "two" 'one' $x $(Y) %41 é:/?@#\\<&>`;"""  # needs escaping in some encoding, character by character
FERNET = f"{CANARY}Fernet{'A' * 25}="
LICENSE, DATABASE, ADMIN, ROBOT, PULL = (f"{CANARY}{name}" for name in ("License", "Database", "Admin", "Robot", "Pull"))


@pytest.fixture(scope="module")
def audited() -> Iterator[local.Cluster]:
    """A cluster whose API server writes down what it is asked. That is kwok's alone, whatever the other tests use."""
    name = f"audited-{os.getpid()}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHO_LOCAL_PROVIDER", "kwok")
        try:
            yield local.create(name, audit=True)
        finally:
            local.delete(name)


@pytest.fixture
def bare(audited: local.Cluster, tmp_path: Path) -> Iterator[Site]:
    """A site on that cluster."""
    (tmp_path / "project").mkdir()
    made = Site.make(tmp_path / "project", "here", audited, f"t-{uuid.uuid4().hex[:8]}")
    yield made
    made.remove()


@pytest.fixture
def seen(bare: Site) -> Observer:
    """An observed site with a secret of every source; all that are not generated are recognisable."""
    return observed(bare)


def observed(site: Site) -> Observer:
    observer = Observer(site, {CANARY})
    vault = observer.root / "vault"
    vault.mkdir()
    (vault / "fernet").write_text(FERNET + "\n")
    (vault / "database").write_text(DATABASE + HARD)
    (vault / "program.py").write_text("import pathlib, sys; print(pathlib.Path(sys.argv[1]).read_text(encoding='utf-8'))")
    site.variables |= {"LICENSE": LICENSE + HARD, "ROBOT": ROBOT + HARD, "PULL": PULL + HARD, "PYTHONIOENCODING": "utf-8"}
    environment = site.read()
    environment["secrets"] |= {
        "registry": {"server": "registry.example.com", "env": {"username": "ROBOT", "password": "PULL"}},
        "license": {"env": "LICENSE"},
        "core.secret_key": {"file": str(vault / "fernet")},
        "core.db.password": {"command": [sys.executable, str(vault / "program.py"), str(vault / "database")]},
        "backend.user.password": {"kubernetes": {"secret": "vault", "key": "admin"}},
    }
    site.write(environment)
    client = site.client()
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace}})
    data = {"admin": base64.b64encode((ADMIN + HARD).encode()).decode()}
    client.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vault", "namespace": site.namespace}, "data": data})
    return observer


def values_of(site: Site) -> dict[str, str]:
    """The values in the environment's Secret."""
    secret = site.get("Secret", "syntho-ui-secrets", "v1")
    assert secret is not None
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def image(site: Site, tag: str) -> None:
    site.overlay("syntho-ui.values.yaml", [{"op": "replace", "path": "/core/image/tag", "value": tag}])


def test_no_command_shows_a_secret(seen: Observer) -> None:
    site = seen.site
    seen.invoke("secrets")
    stored = values_of(site)
    assert (stored["license"], stored["core.db.password"], stored["core.secret_key"]) == (LICENSE + HARD, DATABASE + HARD, FERNET)
    assert stored["core.db.password.url"] == quote(DATABASE + HARD, safe="")
    seen.values |= {stored["backend.secret_key"], stored["backend.db.password"]}
    seen.invoke("secrets", "--status", "--json")
    seen.invoke("plan", "--out=plan.json", code=2)
    seen.invoke("deploy", "--plan=plan.json")
    image(site, "2.0.0")
    with ThreadPoolExecutor(3) as pool:
        read = [
            ("plan", ["--json"], 2), ("explain", ["--json"], 0), ("explain", ["--path=/core/db/password"], 0), ("history", [], 0), ("drift", [], 0),
            ("status", ["--json"], 0), ("verify", [], 5), *(("template", [f"--stage={stage}"], 0) for stage in ("operations", "values", "rendered")),
            ("template", ["--output=out"], 0), ("plan", ["--offline"], 0), ("lint", ["--json"], 3), ("images", ["--json"], 0),
            ("doctor", [], 4), ("unlock", ["--json"], 0), ("logs", ["--json"], 0),
            ("bump-tag", ["--tag=2.0.1", "--app=core", "--offline", "--dry-run", "--json"], 2),
        ]  # fmt: skip
        list(pool.map(lambda one: seen.invoke(one[0], *one[1], code=one[2]), read))
    seen.invoke("deploy")
    site.variables["LICENSE"] = LICENSE + "Next" + HARD
    seen.invoke("secrets", "--rotate=license", "--json")
    seen.invoke("rollback", "--dry-run")
    seen.invoke("rollback")
    assert seen.look() == []
    with ThreadPoolExecutor(2) as pool:
        removed = pool.submit(seen.invoke, "undeploy")
        list(pool.map(lambda words: seen.run(*words), without_a_cluster(seen)))
        removed.result()
    seen.invoke("undeploy", "--delete-data")
    assert seen.look() == []
    started = {Path(note["argv"][0]).name for note in seen.notes() if "argv" in note}
    assert started >= {"helm", "credentials", "git", "kind", "docker", Path(sys.executable).name}


def without_a_cluster(seen: Observer) -> list[list[str]]:
    """The commands that need none. For them to start programs, the charts come from a git repository, and a tool is on PATH."""
    site, source = seen.site, seen.root / "charts.git"
    shutil.copytree(site.root / "sandbox" / "charts", source)
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@localhost", "commit", "-qm", "charts"]):
        subprocess.run(["git", *words], cwd=source, check=True)
    branch = subprocess.run(["git", "branch", "--show-current"], cwd=source, check=True, capture_output=True, text=True).stdout.strip()
    (site.root / "vendor" / "git.yaml").write_text(f"source: {source}\nref: {branch}\ncharts: {{ray: ray, syntho-ui: syntho-ui}}\n")
    program(seen, "kind", "echo kind v0.29.0")
    program(seen, "docker", "exit 1")
    site.write({**site.read(), "cluster": {"local": "no-such-cluster", "namespace": "syntho"}}, "box")
    return [
        ["envs"], ["tools"], ["bump-charts", "--pin=vendor/sandbox.yaml", "--to=vendor/sandbox.yaml", "--json"],
        ["vendor", "--pin=vendor/git.yaml", "--update"], ["cluster", "--env=box", "--status"],
        ["new-env", "--env=made", "--from=here", "--namespace=made", "--secrets=core.db.password=env:PULL"],
    ]  # fmt: skip


def program(seen: Observer, name: str, lines: str) -> None:
    """Put a program first on PATH."""
    file = seen.root / "bin" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{lines}\n")
    file.chmod(0o755)
    seen.site.variables["PATH"] = f"{file.parent}{os.pathsep}{os.environ['PATH']}"


LEAKS = """
import base64, os, pathlib, subprocess, sys, tempfile
canary = "CANARYsecret"
print("on stdout", canary.encode().hex())
print("on stderr", base64.b64encode(b"x" + canary.encode()).decode(), file=sys.stderr)
subprocess.run(["true", "--password=" + canary])
subprocess.run(["true"], env={"PASSWORD": canary})
os.environ["INHERITED"] = canary
subprocess.run(["true", "inherits"])
pathlib.Path("left").write_text(base64.b64encode(base64.b64encode(canary.encode())).decode())
pathlib.Path("removed").write_text(canary)
os.remove("removed")
with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "inner").write_text(canary)
pathlib.Path("replaced").write_text(canary)
pathlib.Path("emptied").write_text(canary)
pathlib.Path("new").write_text("harmless")
os.replace("new", "replaced")
open("emptied", "w").close()
pathlib.Path("../outside").write_text("")
"""


def test_the_observer_finds_a_secret_wherever_one_is(bare: Site) -> None:
    seen = Observer(bare, {CANARY})
    seen.ended(seen.start([sys.executable, "-c", LEAKS]), "it")
    client = bare.client()
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": bare.namespace}})
    client.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seen", "namespace": bare.namespace}, "data": {"a": CANARY}})
    found = [leak.split(": …")[0].replace(str(bare.root), "") for leak in seen.look()]
    assert sorted(found) == sorted(
        [
            "stdout of it", "stderr of it", "argv of true", "environment of ['true']", "environment of ['true', 'inherits']", "/left",
            *["a file that was removed or replaced"] * 4, "ConfigMap/seen",
            f"request patch /api/v1/namespaces/{bare.namespace}/configmaps/seen?fieldManager=syntho-deploy&force=false&fieldValidation=Strict",
            f"a file was written outside of the folders that are looked at: {bare.root.parent}/outside",
        ]
    )  # fmt: skip


def encodings(value: str) -> list[str]:
    """A value as programs print it: in each encoding, alone and inside a longer text."""
    encoders: list[Callable[[str], str]] = [
        str, json.dumps, quote, quote_plus, shlex.quote, repr, partial(json.dumps, ensure_ascii=False), partial(quote, safe=""),
        partial(yaml.safe_dump, allow_unicode=True, width=1000),
        lambda text: text.encode().hex(), lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: json.dumps(text).replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026"),
    ]  # fmt: skip
    return [encode(before + value + after).strip() for encode in encoders for before, after in (("", ""), ("a'", "z"), ("ab", '"z'))]


def test_what_a_failing_helm_prints_is_masked(seen: Observer) -> None:
    values = [name + HARD for name in (LICENSE, DATABASE, ADMIN, ROBOT, PULL)] + [FERNET]
    said = seen.root / "vault" / "said"
    said.write_text("Error: UPGRADE FAILED: " + " ".join(text for value in values for text in encodings(value)))
    program(
        seen, "helm", f"""if [ "$1" = upgrade ]; then cat '{said}' '{said}' >&2; cat '{said}'; exit 1; fi\nexec '{helm.find(print).path}' "$@\""""
    )
    ran = seen.invoke("deploy", code=5)
    assert "UPGRADE FAILED: ***" in ran.stderr
    assert seen.look() == []


def test_another_cluster_learns_nothing(seen: Observer) -> None:
    environment = seen.site.read()
    environment["cluster"]["uid"] = "11111111-2222-3333-4444-555555555555"
    seen.site.write(environment)
    assert "this is another cluster" in seen.invoke("deploy", code=4).stderr
    assert seen.look() == []


def test_an_interrupted_deploy_shows_no_secret_and_neither_does_a_pod_that_quotes_one(seen: Observer, eventually: Callable[..., Any]) -> None:
    site = seen.site
    waits = [{"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"no": "such"}}]
    site.overlay("syntho-ui.manifests.yaml", [{"target": {"kind": "Deployment", "name": "core"}, "patch": waits}])
    running = seen.start(site.argv("--debug", "deploy", "--env=here"))
    eventually(lambda: site.get("Deployment", "core"), 60)
    os.killpg(running.pid, signal.SIGTERM)
    assert "interrupted" in seen.ended(running, "deploy", 130).stderr
    assert seen.look() == []
    client = site.client()
    (pod,) = client.objects("v1", "Pod", site.namespace, "app=core")
    waiting = {"reason": "CreateContainerError", "message": f"no {DATABASE}{HARD}"}
    state = {"name": "core", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": {"waiting": waiting}}
    path = client.path("v1", "Pod", site.namespace, pod["metadata"]["name"]) + "/status"
    client.request("PATCH", path, {"status": {"containerStatuses": [state]}}, content_type="application/merge-patch+json")
    assert "CreateContainerError: no ***" in seen.invoke("status").stdout
    assert seen.leaks == []


def test_an_account_without_permissions_is_refused_without_a_secret(seen: Observer) -> None:
    site, client = seen.site, seen.site.client()
    client.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody", "namespace": site.namespace}})
    path = client.path("v1", "ServiceAccount", site.namespace, "nobody") + "/token"
    token = client.request("POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})["status"]["token"]
    seen.kubeconfig(site.root / "kubeconfig", {"token": token})
    for task in ("secrets", "deploy", "status"):
        assert "lacks this permission" in seen.invoke(task, code=4).stderr
    assert seen.look() == []


def test_a_source_that_fails_shows_nothing_of_what_it_said(seen: Observer) -> None:
    environment = seen.site.read()
    said = seen.root / "vault" / "said"
    said.write_text(DATABASE + HARD)
    for code in (f"cat '{said}' >&2; exit 3", f"cat '{said}'; exit 3"):
        environment["secrets"]["core.db.password"] = {"command": ["sh", "-c", code]}
        seen.site.write(environment)
        assert "exit code 3" in seen.invoke("secrets", code=4).stderr
    assert seen.look() == []


def test_taking_over_an_install_of_other_hands_shows_no_secret(bare: Site) -> None:
    """Also not those that only the other install had: a variable that goes, an argument that changes. What that install left
    in its own revision and in its ReplicaSets, and that helm looks at its Secrets before they go, is not of our making."""
    site, plain = bare, bare.root.parent / "values.yaml"
    key = FERNET
    core = {"secret_key": key, "db": {"password": f"{DATABASE}@"}, "env": {"OLD": f"{CANARY}Old", "URL": f"amqp://u:{CANARY}Url@h"}}
    core["celery_args"] = ["-A", "app.celery", f"--password={CANARY}Argument"]
    core["annotations"] = {"password": f"{CANARY}Annotation"}
    backend = {"secretKey": f"{CANARY}Backend", "db": {"password": f"{CANARY}BackendDb"}, "user": {"password": ADMIN}}
    plain.write_text(json.dumps({"SynthoLicense": LICENSE, "core": core, "backend": backend}))
    site.install_by_hand("-f", str(plain))
    seen = Observer(site, {CANARY})
    seen.invoke("plan", "--out=plan.json", code=2)
    seen.invoke("plan", "--json", code=2)
    seen.invoke("status")
    seen.invoke("secrets", "--status")
    seen.invoke("undeploy", code=4)
    seen.invoke("secrets", "--adopt")
    assert values_of(site)["license"] == LICENSE
    seen.invoke("deploy")
    seen.invoke("drift")
    left = ("ReplicaSet/", "the release in Secret/sh.helm.release.v1.ray-cluster.v1", "the release in Secret/sh.helm.release.v1.syntho-ui.v1")
    assert [leak for leak in seen.look() if not leak.startswith((*left, "helm asked for /api/v1/namespaces/"))] == []


def test_a_kill_before_any_write_leaves_each_secret_whole_or_absent_and_the_next_run_completes(bare: Site) -> None:
    """After the kill the Lease of the dead run holds for a minute; deleting it stands for that time here."""
    seen = Observer(bare, {CANARY})
    writes = ["namespaces/", "leases", "secrets", "secrets", "leases/"]  # what the last of them changes is there after the run
    names = [f"{bare.namespace}-{number}" for number in range(1, len(writes) + 1)]
    environment = bare.read()
    for name in names:
        bare.write({**environment, "cluster": {**environment["cluster"], "namespace": name}}, name)

    def killed(name: str, before: int) -> None:
        client = bare.client()
        seen.run("secrets", f"--env={name}", code=-signal.SIGKILL, KILLED_BEFORE=str(before))
        found = {item["metadata"]["name"]: item["data"] for item in client.objects("v1", "Secret", name)}
        assert len(found) == max(0, before - 3)
        client.delete("coordination.k8s.io/v1", "Lease", name, "syntho-deploy")
        seen.run("secrets", f"--env={name}")
        whole = {item["metadata"]["name"]: item["data"] for item in client.objects("v1", "Secret", name)}
        assert {name: sorted(data) for name, data in whole.items()} == WHOLE
        assert found.items() <= whole.items()
        client.delete("v1", "Namespace", "", name)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(killed, names, range(1, len(writes) + 1)))
    requests = [note["request"] for note in seen.notes() if note["event"] == "http.client.send" and names[-1] in note["request"]]
    assert all(write in request for write, request in zip(writes, requests, strict=True)), requests


OWN = ["backend.db.password", "backend.secret_key", "backend.user.password", "core.db.password", "core.db.password.url", "core.secret_key", "license"]
WHOLE = {"syntho-cr-secret": [".dockerconfigjson"], "syntho-ui-secrets": OWN}


def test_two_runs_that_both_find_nothing_make_one_set_of_secrets(bare: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the Lease, which keeps two runs apart as long as their namespace is the same and none was killed."""
    compiled, both, create = bare.compile(), threading.Barrier(2), Client.create
    waited = threading.local()

    def after_the_other_has_looked(client: Client, item: dict[str, Any]) -> dict[str, Any]:
        if not getattr(waited, "done", False):
            waited.done = True
            both.wait(20)
        return create(client, item)

    bare.client().apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": bare.namespace}})
    monkeypatch.setattr(Client, "create", after_the_other_has_looked)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(store.ensure, bare.client(), compiled) for _ in range(2)]
        written = [name.split()[0] for run in runs for name in run.result()]
    assert set(written) <= set(WHOLE)
    assert {item["metadata"]["name"]: sorted(item["data"]) for item in bare.client().objects("v1", "Secret", bare.namespace)} == WHOLE
    before = values_of(bare)
    assert before["core.db.password.url"] == before["core.db.password"]
    assert store.ensure(bare.client(), compiled) == []
    assert values_of(bare) == before
