"""invoke new-env: from options alone or by asking on a terminal, an environment that compiles, or nothing at all."""

from __future__ import annotations

import difflib
import json
import os
import pty
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from jsonschema_rs import Draft202012Validator

from syntho_deploy import documents, newenv, schemas
from syntho_deploy.cluster.preflight import connect
from syntho_deploy.compile import Project
from syntho_deploy.environment import load_environment
from syntho_deploy.errors import InputError, PreflightError
from syntho_deploy.helm import Helm
from syntho_deploy.newenv import Answers, Draft
from tests.conftest import copy_project, write_files
from tests.unit.test_tasks import invoke

UID = "6f2c1d00-aaaa-bbbb-cccc-0123456789ab"
EXTERNAL = "ray/address,ray/head-only,pull-secret,license,keys,admin,postgres/external,redis/external,ingress/tls-secret"
EXTERNAL_VARS = {
    "postgres_host": "pg.example.com", "postgres_port": "5432", "core_db": "core", "core_db_user": "core", "backend_db": "backend",
    "backend_db_user": "backend", "redis_host": "redis.example.com", "redis_port": "6379", "tls_secret": "tls",
}  # fmt: skip
TLS_VARS = EXTERNAL_VARS | {"core_redis_db": "1", "backend_redis_db": "0"}


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose environments all use the sandbox charts, and no cluster."""
    folder = copy_project(root, tmp_path_factory.mktemp("site") / "project")
    for name in ("dev", "staging", "prod"):
        file = folder / "envs" / f"{name}.yaml"
        file.write_text(file.read_text() + "charts: vendor/sandbox.yaml\n")
    assert invoke(folder, "vendor", "--pin=vendor/sandbox.yaml").code == 0
    return folder


@pytest.fixture(autouse=True)
def no_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")


def made(site: Path, source: str, answers: Answers, name: str = "new") -> Draft:
    return newenv.draft(site, name, source, answers, None, lambda line: None)


def changed(site: Path, source: str, draft: Draft) -> list[str]:
    """The lines by which an environment differs from the one that it is made from, its head aside."""
    old = (site / "envs" / f"{source}.yaml").read_text().splitlines()
    lines = [line for line in difflib.ndiff(old, draft.text.splitlines()) if line[0] in "+-"]
    return [line for line in lines if not line.startswith(("+ # yaml-language-server", "- # yaml-language-server", "+ # Begun as"))]


def files(site: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for name in ("envs", "overlays") for path in (site / name).rglob("*") if path.is_file()}


def compiled(site: Path, draft: Draft, folder: Path, helm: Helm) -> Project:
    """The project of a draft that is written into a copy of the site."""
    for name in ("envs", "overlays", "vendor", "sandbox"):
        (folder / name).mkdir(parents=True)
        for path in (site / name).iterdir():
            (folder / name / path.name).symlink_to(path)
    for path, content in draft.files.items():
        documents.write(folder / path.relative_to(site), content)
    project = Project.load(folder, "new")
    project.compile(helm)
    return project


# --- from options alone -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["local", "dev", "staging", "prod"])
def test_a_copy_in_another_namespace_compiles_and_no_other_line_differs(site: Path, tmp_path: Path, helm: Helm, source: str) -> None:
    draft = made(site, source, Answers(namespace="other", vars={"host": "new.example.com"}))
    assert [line for line in changed(site, source, draft) if line.startswith("+")] == ["+   namespace: other", "+   host: new.example.com"]
    Draft202012Validator(schemas.schemas()["environment"]).validate(documents.load(Path(), draft.text).data)
    project = compiled(site, draft, tmp_path / "copy", helm)
    assert project.environment.target.namespace == "other"
    assert project.environment.protected == (source == "prod")


def test_the_head_names_the_schema_and_the_beginning_and_keeps_what_is_still_true(site: Path) -> None:
    first, second, third, fourth, *_ = made(site, "local", Answers(namespace="other")).text.splitlines()
    assert first == "# yaml-language-server: $schema=../schemas/environment.schema.json"
    assert second == "# Begun as envs/local.yaml:"
    assert third.startswith("# A cluster on this machine")
    assert fourth == "cluster:"


def test_other_components_bring_their_variables_and_take_theirs_away(site: Path, tmp_path: Path, helm: Helm) -> None:
    draft = made(site, "local", Answers(namespace="other", components=EXTERNAL, vars=EXTERNAL_VARS))
    lines = changed(site, "local", draft)
    assert "+   postgres_port: 5432 # for postgres/external" in lines
    assert "+   tls_secret: tls # for ingress/tls-secret" in lines
    assert draft.text.startswith(f"{schemas.modeline(Path('envs/new.yaml'))}\n# Begun as envs/local.yaml with other components.\ncluster:\n")
    compiled(site, draft, tmp_path / "copy", helm)

    assert [note.split(" is for ")[0] for note in draft.notes] == ['the secret "core.db.password"', 'the secret "backend.db.password"']

    back = made(site, "prod", Answers(namespace="other", components="ray/address,ray/two-pools,license,keys,admin,postgres/in-chart,ingress/off"))
    assert not {"postgres_host", "redis_host", "tls_secret", "registry", "pull_secret"} & set(documents.load(Path(), back.text).data["vars"])
    assert "core.db.password: {env: SYNTHO_CORE_DB_PASSWORD}" in back.text


def test_the_backup_of_another_environment_is_left_out(site: Path, tmp_path: Path) -> None:
    folder = copy_project(site, tmp_path / "project")
    file = folder / "envs/local.yaml"
    file.write_text(f"{file.read_text()}before_upgrade:\n  - [pg_dumpall]\n")
    draft = made(folder, "local", Answers(namespace="other"))
    assert "before_upgrade" not in draft.text
    assert "before_upgrade was left out: it saves the data of local; write one for new" in draft.notes


def test_secrets_that_no_component_uses_go_and_new_ones_come(site: Path) -> None:
    few = made(site, "local", Answers(namespace="other", components="ray/address,ray/head-only,license,postgres/in-chart,ingress/off"))
    assert list(documents.load(Path(), few.text).data["secrets"]) == ["registry", "license", "core.db.password", "backend.db.password"]
    tls = Answers(
        namespace="other", components=EXTERNAL.replace("redis/external", "redis/external-tls"), vars=TLS_VARS,
        secrets=(("redis.password", "env:REDIS"), ("license", "file:/run/license"), ("registry", "server:r.example.com"), ("registry", "env:U,P")),
    )  # fmt: skip
    text = made(site, "local", tls).text
    assert "  redis.password: {env: REDIS} # for redis/external-tls\n" in text
    assert "  license: {file: /run/license}\n" in text
    assert "  registry: {server: r.example.com, env: {username: U, password: P}}\n" in text


def test_line_ends_and_everything_said_beside_the_values_stay(site: Path, tmp_path: Path) -> None:
    folder = copy_project(site, tmp_path / "project")
    file = folder / "envs/dev.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"  host: ", b"  # where people go\n  host: ").replace(b"\n", b"\r\n"))
    text = newenv.draft(folder, "new", "dev", Answers(namespace="other", vars={"host": "h"}), None, lambda line: None).text
    assert "  # where people go\r\n  host: h\r\n" in text
    assert text.count("\r\n") == file.read_bytes().count(b"\r\n") - file.read_bytes().startswith(b"\xef\xbb\xbf# yaml-language")
    assert "\ufeff" not in text


def test_a_context_takes_the_place_of_the_local_cluster(site: Path) -> None:
    text = made(site, "dev", Answers(context="aks", kubernetes="1.33")).text
    assert 'cluster:\n  context: aks\n  namespace: syntho-dev\n  kubernetes: "1.33"\n' in text


VALUES = [
    ("old text", "1.10", "1.10"), (3, "4", 4), (0.5, "2", 2), (True, "false", False), ([1], "[2, x]", [2, "x"]), ({"a": 1}, "{b: 2}", {"b": 2}),
    (None, "5432", 5432), (None, "1.10", "1.10"), (None, "true", True), (None, "yes", "yes"), (None, '"5"', "5"),
    (None, "", ""), (None, "a: [", "a: ["),
]  # fmt: skip


@pytest.mark.parametrize(("old", "text", "value"), VALUES)
def test_a_variable_keeps_its_type_and_a_new_one_is_no_number_by_accident(site: Path, tmp_path: Path, old: object, text: str, value: object) -> None:
    folder = sandbox(site, tmp_path, "- {op: add, path: /extra, value: '${v}'}\n", {} if old is None else {"v": old})
    draft = newenv.draft(folder, "new", "old", Answers(namespace="other", vars={"v": text}), None, lambda line: None)
    found = documents.load(Path(), draft.text).data["vars"]["v"]
    assert (found, type(found)) == (value, type(value))


def sandbox(site: Path, folder: Path, operations: str, variables: dict[str, object]) -> Path:
    """The site with an environment `old` that has an overlay of its own."""
    for name in ("vendor", "sandbox"):
        (folder / name).symlink_to(site / name)
    old = {"cluster": {"local": "syntho", "namespace": "syntho"}, "charts": "vendor/sandbox.yaml", **({"vars": variables} if variables else {})}
    roles = (site / "overlays/roles.yaml").read_text()
    return write_files(folder, {"envs/old.yaml": documents.dump(old), "overlays/roles.yaml": roles, "overlays/old/ray.values.yaml": operations})


def test_the_overlay_of_its_own_is_copied(site: Path, tmp_path: Path) -> None:
    folder = sandbox(site, tmp_path, "# why\n- {op: add, path: /extra, value: 1}\n", {})
    draft = newenv.draft(folder, "new", "old", Answers(namespace="other"), None, lambda line: None)
    draft.write()
    assert (folder / "overlays/new/ray.values.yaml").read_text() == "# why\n- {op: add, path: /extra, value: 1}\n"
    assert load_environment(folder, "new").target.namespace == "other"


REFUSED: dict[str, tuple[list[str], str]] = {
    "an environment that is there": (["--env=prod"], "envs/prod.yaml: this environment exists already"),
    "a bad name": (["--env=New_One"], '"New_One" is no name for an environment'),
    "the word for all": (["--env=all"], '"all" is no name for an environment'),
    "a folder of overlays": (["--env=components"], "overlays/components: "),
    "an unknown beginning": (["--env=new", "--from=prdo"], 'there is no environment "prdo"; did you mean "prod"?'),
    "an unknown component": (["--env=new", "--namespace=o", "--components=keys,ray/to-pools"], '"ray/to-pools"; did you mean "ray/two-pools"?'),
    "an unknown variable": (["--env=new", "--namespace=o", "--vars", "hst=x"], 'no component uses the variable "hst"; did you mean "host"?'),
    "a variable that is unused now": (["--env=new", "--from=local", "--namespace=o", "--components=ray/address,ray/head-only", "--vars", "host=x"],
                                      'no component uses the variable "host"'),
    "a variable without a value": (["--env=new", "--namespace=o", "--vars", "host"], '"host" is no name and value'),
    "a variable of another type": (["--env=new", "--namespace=o", "--vars", "redis_port=six"], 'the variable "redis_port" is a whole number'),
    "an unknown secret": (["--env=new", "--namespace=o", "--secrets", "licence=env:L"], 'uses the secret "licence"; did you mean "license"?'),
    "an unknown source": (["--env=new", "--namespace=o", "--secrets", "license=fil:L"], 'is no source of the secret "license"; did you mean "file"?'),
    "an unknown generator": (["--env=new", "--namespace=o", "--secrets", "license=generate:tokn"], 'did you mean "token"?'),
    "a namespace that is taken": (["--env=new"], "the namespace syntho of the cluster syntho-prod is that of prod"),
    "a bad namespace": (["--env=new", "--namespace=No_"], '"No_" is no namespace'),
    "a bad version": (["--env=new", "--namespace=o", "--kubernetes=v1"], '"v1" is no kubernetes'),
    "components that contradict each other": (["--env=new", "--from=local", "--namespace=o", "--components=ray/address,ray/head-only,ray/two-pools"],
                                              "new would not compile, and is not written"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_is_a_sentence_and_nothing_is_written(site: Path, case: str) -> None:
    words, sentence = REFUSED[case]
    before = files(site)
    result = invoke(site, "new-env", *words)
    assert (result.code, result.stdout) == (3, "")
    assert sentence in result.stderr.replace(f"{site}/", "")
    assert "Traceback" not in result.stderr
    assert files(site) == before


@pytest.mark.parametrize("given", ["the-secret", "value:the-secret", "generate:the-secret"])
def test_a_secret_in_the_place_of_its_source_is_not_repeated(site: Path, given: str) -> None:
    ran = invoke(site, "new-env", "--env=new", "--namespace=o", f"--secrets=license={given}")
    assert ran.code == 3
    assert "the-secret" not in ran.stdout + ran.stderr


def test_without_a_terminal_every_missing_answer_names_its_option(site: Path) -> None:
    components = EXTERNAL.replace("redis/external", "redis/external-tls")
    with pytest.raises(InputError) as caught:
        made(site, "local", Answers(namespace="other", components=components, vars={"redis_host": "r"}))
    assert all(f"--vars {name}=VALUE" in str(caught.value) for name in TLS_VARS if name != "redis_host")
    with pytest.raises(InputError, match=r"--secrets redis\.password=SOURCE"):
        made(site, "local", Answers(namespace="other", components=components, vars=TLS_VARS))


def test_a_dry_run_prints_what_would_be_written(site: Path, tmp_path: Path) -> None:
    folder = copy_project(site, tmp_path / "project")
    before = files(folder)
    dry = invoke(folder, "new-env", "--env=new", "--from=local", "--namespace=other", "--dry-run")
    assert dry.code == 0
    assert files(folder) == before
    assert "would write: envs/new.yaml\nnext:\n  invoke template --env=new\n" in dry.stderr
    done = invoke(folder, "new-env", "--env=new", "--from=local", "--namespace=other")
    assert (done.code, done.stdout) == (0, "")
    assert "note:" not in done.stderr
    assert "written: envs/new.yaml\nnext:\n  invoke template --env=new\n" in done.stderr
    assert (folder / "envs/new.yaml").read_text() == dry.stdout
    assert invoke(folder, "template", "--env=new").code == 0


def test_without_the_charts_it_is_written_unchecked_and_says_so(project: Path) -> None:
    result = invoke(project, "new-env", "--env=new", "--from=dev", "--namespace=other")
    assert result.code == 0
    assert "note: not checked against the charts, which are not there: " in result.stderr
    assert "next:\n  invoke vendor\n  invoke template --env=new\n" in result.stderr
    assert load_environment(project, "new").target.namespace == "other"


# --- the cluster that it is for ---------------------------------------------------------------------------------------------


class Kubernetes(BaseHTTPRequestHandler):
    """As much of an API server as tells who it is."""

    def do_GET(self) -> None:
        found = {"/api/v1": {"resources": [{"name": "namespaces", "kind": "Namespace", "namespaced": False}]}}
        found["/api/v1/namespaces/kube-system"] = {"metadata": {"name": "kube-system", "uid": UID}}  # type: ignore[dict-item]
        body = json.dumps(found.get(self.path, {})).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A kubeconfig with the contexts `here`, whose cluster answers, and `gone`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Kubernetes)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    urls = {"here": f"http://127.0.0.1:{server.server_address[1]}", "gone": "http://127.0.0.1:1"}
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here", "users": [{"name": "me", "user": {}}],
        "clusters": [{"name": name, "cluster": {"server": url}} for name, url in urls.items()],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "me"}} for name in urls],
    }  # fmt: skip
    monkeypatch.setenv("KUBECONFIG", str(write_files(tmp_path, {"kubeconfig": json.dumps(config)}) / "kubeconfig"))
    yield os.environ["KUBECONFIG"]
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_protected_environment_names_the_cluster_that_answers(site: Path, kubeconfig: str) -> None:
    draft = made(site, "prod", Answers(context="here"))
    assert f'  uid: "{UID}" # yours: kubectl' in draft.text
    assert not [note for note in draft.notes if "placeholder" in note]


def test_a_context_that_the_kubeconfig_does_not_have_is_noted_with_the_nearest(site: Path, kubeconfig: str) -> None:
    assert 'the kubeconfig of this machine has no context "her"; did you mean "here"?' in made(site, "staging", Answers(context="her")).notes
    assert made(site, "staging", Answers(context="here")).notes == ()


def test_without_an_answer_the_uid_is_a_placeholder_that_no_cluster_has(site: Path, tmp_path: Path, kubeconfig: str) -> None:
    draft = made(site, "prod", Answers(context="gone"))
    assert f"  uid: {newenv.PLACEHOLDER} # yours: kubectl get namespace kube-system" in draft.text
    assert any("placeholder, with which deploy refuses every cluster" in note for note in draft.notes)
    environment = load_environment(write_files(tmp_path, {"envs/new.yaml": draft.text}), "new")
    here = environment._replace(target=environment.target._replace(context="here"))
    with pytest.raises(PreflightError, match=f"this is another cluster.*{UID}.*{newenv.PLACEHOLDER}"):
        connect(here, lambda line: None)


def test_the_uid_of_another_cluster_is_never_copied(site: Path, tmp_path: Path) -> None:
    folder = copy_project(site, tmp_path / "project")
    file = folder / "envs/prod.yaml"
    file.write_text(file.read_text().replace(newenv.PLACEHOLDER, UID))
    same = newenv.draft(folder, "new", "prod", Answers(namespace="other"), None, lambda line: None)
    assert f"uid: {UID}" in same.text
    other = newenv.draft(folder, "new", "prod", Answers(context="gone"), None, lambda line: None)
    assert UID not in other.text
    assert f'uid: "{newenv.PLACEHOLDER}" # yours' in other.text


# --- on a terminal ----------------------------------------------------------------------------------------------------------


class Dialogue:
    """A run of the task on a terminal of its own. Reads until the words that are waited for, then types."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.master, slave = pty.openpty()
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        argv = [sys.executable, "-m", "invoke", "new-env", *words]
        self.process = subprocess.Popen(argv, cwd=folder, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.text, self.seen = "", 0

    def until(self, words: str) -> str:
        """Everything up to the next place of these words."""
        while words not in self.text[self.seen :]:
            assert self._read(), f"the run ended before {words!r}:\n{self.text}"
        end = self.text.index(words, self.seen) + len(words)
        found, self.seen = self.text[self.seen : end], end
        return found

    def answer(self, question: str, text: str) -> str:
        """Wait for a question and answer it. Returns what was printed up to it."""
        found = self.until(question)
        self.type(f"{text}\n")
        return found

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        while self._read():
            pass
        os.close(self.master)
        return self.process.wait(timeout=30)

    def _read(self) -> bool:
        assert select.select([self.master], [], [], 30)[0], f"nothing more came after:\n{self.text}"
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other end is closed
            return False
        self.text += data.decode().replace("\r\n", "\n")
        return bool(data)


@pytest.fixture
def own(site: Path, tmp_path: Path) -> Path:
    """A copy of the site to write into."""
    return copy_project(site, tmp_path / "own")


def test_a_terminal_is_asked_for_all_that_no_option_gives(own: Path, kubeconfig: str) -> None:
    run = Dialogue(own, "--env=new", "--from=local", "--components=ray/address,ray/head-only,pull-secret,license,ingress/off,postgres/in-chart")
    offered = run.answer("cluster context (nothing: the local cluster syntho): ", "here")
    assert "contexts of the kubeconfig: here, gone\n" in offered
    run.answer("namespace [syntho]: ", "Bad_Name")
    assert '"Bad_Name" is no namespace' in run.answer("namespace [syntho]: ", "")
    run.answer("head_cpu (ray/head-only) [1]: ", "2")
    run.answer("head_memory (ray/head-only) [2G]: ", "")
    run.answer("pull_secret (pull-secret) [syntho-cr-secret]: ", "")
    run.answer("host (ingress/off) [syntho.localhost]: ", "new.example.com")
    run.answer("secret registry (of local) [generate:token]: ", "env:USER,PASS")
    run.answer("secret license (license) [generate:token]: ", "fil:/x")
    assert 'is no source of the secret "license"; did you mean "file"?' in run.answer("secret license (license) [generate:token]: ", "file:/x")
    run.answer("secret core.db.password (postgres/in-chart) [generate:password]: ", "")
    run.answer("secret backend.db.password (postgres/in-chart) [generate:password]: ", "")
    run.until("written: envs/new.yaml")
    assert run.end() == 0
    found = load_environment(own, "new")
    assert (found.target.context, found.target.namespace, found.target.local) == ("here", "syntho", "")
    assert found.vars == {"head_cpu": "2", "head_memory": "2G", "pull_secret": "syntho-cr-secret", "host": "new.example.com"}
    assert {name: secret.source for name, secret in found.secrets.items()} == {
        "registry": "env PASS", "license": "file /x", "core.db.password": "generate password", "backend.db.password": "generate password",
    }  # fmt: skip


def test_components_are_offered_and_what_they_newly_need_has_no_default(own: Path) -> None:
    run = Dialogue(own, "--env=new", "--from=local", "--context=", "--namespace=other")
    run.answer("cluster context (nothing: the local cluster syntho): ", "")
    assert "components there are: admin, cluster-name" in run.answer("ingress/nginx]: ", "cluster-nam")
    assert 'no component "cluster-nam"; did you mean "cluster-name"?' in run.answer("ingress/nginx]: ", "ray/head-only, cluster-name, ray/address")
    run.answer("head_cpu (ray/head-only) [1]: ", "")
    run.answer("head_memory (ray/head-only) [2G]: ", "")
    run.answer("cluster_name (cluster-name): ", "")
    assert "this needs a value" in run.answer("cluster_name (cluster-name): ", "mine")
    run.answer("secret registry (of local) [generate:token]: ", "")
    run.until("written: envs/new.yaml")
    assert run.end() == 0
    assert load_environment(own, "new").vars == {"head_cpu": "1", "head_memory": "2G", "cluster_name": "mine"}


@pytest.mark.parametrize(("key", "code", "words"), [("\x04", 3, "not all was answered; nothing was written"), ("\x03", 130, "interrupted")])
def test_a_dialogue_that_is_broken_off_writes_nothing(own: Path, key: str, code: int, words: str) -> None:
    run = Dialogue(own, "--env=new", "--from=local")
    run.answer("cluster context (nothing: the local cluster syntho): ", "")
    run.until("namespace [syntho]: ")
    run.type(key)
    if key == "\x03":  # the terminal is not its controlling one, so the key itself is no signal
        run.process.send_signal(2)
    assert run.end() == code
    assert words in run.text
    assert not (own / "envs/new.yaml").exists()


def test_nobody_is_asked_without_a_terminal(site: Path) -> None:
    result = invoke(site, "new-env", "--env=new", "--from=local", "--context=aks", "--dry-run")
    assert result.code == 0
    assert "[" not in result.stderr


def test_what_belongs_to_a_source_goes_with_it() -> None:
    certificate = {"tls": {"certificate": "c", "key": "k"}, "name": "frontend-tls"}
    assert newenv._sourced("site", certificate, "tls") == certificate
    assert newenv._sourced("site", certificate, "env:SITE") == {"env": "SITE"}
    registry = {"server": "r", "name": "pull", "username": "me", "file": "f"}
    assert newenv._sourced("registry", registry, "env:P") == {"server": "r", "name": "pull", "username": "me", "env": "P"}
    assert newenv._sourced("registry", registry, "server:other") == {**registry, "server": "other"}
