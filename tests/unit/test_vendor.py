"""Vendoring against real git repositories: what is fetched is what git holds, and what is on disk is what was fetched."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syntho_deploy import process
from syntho_deploy.errors import DeployError, InputError, PreflightError
from syntho_deploy.vendor import Pin, load_lock, load_pin, source, tree, vendor, vendored
from tests.programs import missing

FILES = {
    "README.md": "charts\n",
    "helm/ray/Chart.yaml": "name: ray-cluster\nversion: 0.4.2\n",
    "helm/ray/values.yaml": "a: one\n",
    "helm/ray/templates/a.yaml": "kind: ConfigMap\n",
    "helm/ui/Chart.yaml": "name: syntho-ui\nversion: 0.1.6\n",
    "helm/ui/values.yaml": "b: one\n",
}
CHARTS = "charts: {ray: helm/ray, ui: helm/ui}\n"


class Repository:
    """A git repository that a test fills."""

    def __init__(self, path: Path) -> None:
        if shutil.which("git") is None:
            missing("git on PATH")
        self.path = path
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        settings = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "core.autocrlf=false"]
        return process.run(["git", *settings, "-C", self.path, *arguments]).stdout.strip()

    def commit(self, files: dict[str, str | bytes]) -> str:
        for name, content in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "--all", "--force")
        return self.record()

    def record(self) -> str:
        """Commit what the index holds."""
        self.git("commit", "--quiet", "--allow-empty", "--message=x")
        return self.git("rev-parse", "HEAD")

    def blob(self, content: bytes, kind: str = "blob") -> str:
        (self.path / ".git" / "content").write_bytes(content)
        return self.git("hash-object", "-w", "--literally", "-t", kind, str(self.path / ".git" / "content"))


@pytest.fixture(autouse=True)
def users_git_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's git config that changes line ends wherever git lets it, and nothing of the machine's."""
    path = tmp_path / "gitconfig"
    path.write_text("[core]\n\tautocrlf = true\n\teol = crlf\n[protocol]\n\tversion = 2\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("SYNTHO_CHARTS_URL", raising=False)
    return path


@pytest.fixture
def upstream(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path / "upstream")
    repository.commit(dict(FILES))
    return repository


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "vendor").mkdir(parents=True)
    return tmp_path / "root"


def pin_of(root: Path, text: str, name: str = "charts.yaml") -> Pin:
    (root / "vendor" / name).write_text(text)
    return load_pin(root, Path("vendor") / name)


def git_pin(root: Path, upstream: Repository, ref: str = "main", more: str = CHARTS) -> Pin:
    return pin_of(root, f'source: {upstream.path}\nref: "{ref}"\n{more}')


def directory_pin(root: Path) -> Pin:
    for name, content in FILES.items():
        file = root / "sandbox" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return pin_of(root, f"source: sandbox\n{CHARTS}", "sandbox.yaml")


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything that a run could have written: inode, mode, content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (status.st_ino, status.st_mode, path.read_bytes() if path.is_file() else b"")
    return found


def forked(action: Callable[[], object]) -> int:
    """Start the action in a child process; return its id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return child


# --- the tree id


NAMES = st.text(alphabet="abcXYZ019.-_ é~+", min_size=1, max_size=6).filter(
    lambda name: name.strip(".") != "" and not name.lower().startswith(".git")
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.tuples(st.binary(max_size=20), st.booleans()), max_size=8))
def test_the_tree_id_is_gits(tmp_path: Path, files: dict[str, tuple[bytes, bool]]) -> None:
    shutil.rmtree(tmp_path / "any", ignore_errors=True)
    repository = Repository(tmp_path / "any")
    for name, (content, executable) in files.items():
        file = repository.path / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue  # one name is a file and a folder
        file.chmod(0o755 if executable else 0o644)
    repository.git("add", "--all", "--force")
    assert tree.scan(repository.path, skip_git=True).id == repository.git("write-tree")


def test_a_link_counts_as_git_counts_it(upstream: Repository) -> None:
    (upstream.path / "link").symlink_to("README.md")
    upstream.git("add", "--all")
    assert tree.scan(upstream.path, skip_git=True).id == upstream.git("write-tree")


def test_the_digest_depends_on_name_mode_and_content(tmp_path: Path) -> None:
    digests: set[str] = set()
    for name, mode, content in (("a", 0o644, "x"), ("b", 0o644, "x"), ("a", 0o755, "x"), ("a", 0o644, "y")):
        folder = tmp_path / str(len(digests))
        folder.mkdir()
        (folder / name).write_text(content)
        (folder / name).chmod(mode)
        digests.add(tree.scan(folder).sha256)
    assert len(digests) == 4


# --- the pin


def fault_of(action: Callable[[], object], kind: type[DeployError] = InputError) -> str:
    with pytest.raises(kind) as caught:
        action()
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("source: a\nreff: b\ncharts: {x: y}\n", 2, 'did you mean "ref"?'),
        ("source: [a]\nref: b\ncharts: {x: y}\n", 1, '"source" must be text'),
        ("source: a\nref: 1.9\ncharts: {x: y}\n", 2, '("1.9" in quotes)'),
        ("source: a\nref: b\ncharts: [x]\n", 3, '"charts" must be a mapping'),
        ("source: a\nref: b\ncharts: {}\n", 3, "names no chart"),
        ("source: a\nref: b\n", 1, 'needs the key "charts"'),
        ("ref: b\ncharts: {x: y}\n", 1, 'needs the key "source"'),
        ("source: a\nref: b\ncharts:\n  Ray: y\n", 4, '"Ray" cannot be a chart\'s name'),
        ("source: a\nref: b\ncharts:\n  x: ../y\n", 4, 'without ".."'),
        ("source: a\nref: b\ncharts:\n  x: /y\n", 4, "must be a path in the source"),
        ("source: a\nref: --upload-pack=x\ncharts: {x: y}\n", 2, "cannot be a ref"),
        ("source: -a\nref: b\ncharts: {x: y}\n", 1, "must be a URL or a path"),
        ("source: https://example.com/a.git\ncharts: {x: y}\n", 1, 'needs the key "ref"'),
        ("source: a\nref: b\ncharts: {x: y}\noverlays: [/tmp]\n", 4, "relative to its root"),
        ("source: a\nref: b\ncharts: {x: y}\noverlays: [1]\n", 4, "a list of texts"),
    ],
)
def test_a_wrong_pin_is_refused_with_its_line(root: Path, text: str, line: int, sentence: str) -> None:
    said = fault_of(lambda: pin_of(root, text))
    assert sentence in said
    assert f"charts.yaml:{line}" in said


def test_all_faults_of_a_pin_are_told_at_once(root: Path) -> None:
    assert len(fault_of(lambda: pin_of(root, "source: a\nx: 1\nref: -b\ncharts: {Y: z}\n")).split("charts.yaml:")) == 4


def test_overlays_are_looked_for_in_overlays_unless_the_pin_says_where(root: Path) -> None:
    assert pin_of(root, f"source: a\n{CHARTS}").overlays == ("overlays",)
    assert pin_of(root, f"source: a\n{CHARTS}overlays: [overlays/old, overlays]\n").overlays == ("overlays/old", "overlays")


# --- git sources


@pytest.mark.parametrize("kind", ["commit", "tag", "annotated tag", "branch", "refs/heads"])
def test_every_kind_of_ref_gives_gits_own_trees(root: Path, upstream: Repository, kind: str) -> None:
    commit = upstream.git("rev-parse", "HEAD")
    upstream.git("tag", "1.0.0")
    upstream.git("tag", "--annotate", "--message=x", "1.1.0")
    ref = {"commit": commit, "tag": "1.0.0", "annotated tag": "1.1.0", "branch": "main", "refs/heads": "refs/heads/main"}[kind]
    pin = git_pin(root, upstream, ref)
    vendor(root, pin, update=True)
    found = vendored(root, pin)
    assert found.lock.commit == commit
    assert found.lock.short == commit[:12]
    assert found.charts == {"ray": root / "vendor/charts/ray", "ui": root / "vendor/charts/ui"}
    assert {name: chart.tree for name, chart in found.lock.charts.items()} == {
        name: upstream.git("rev-parse", f"HEAD:helm/{name}") for name in ("ray", "ui")
    }
    assert (found.lock.charts["ray"].name, found.lock.charts["ray"].version) == ("ray-cluster", "0.4.2")


def test_a_branch_that_moved_is_followed_by_update_alone(root: Path, upstream: Repository) -> None:
    pin = git_pin(root, upstream)
    vendor(root, pin, update=True)
    old = upstream.git("rev-parse", "HEAD")
    new = upstream.commit({"helm/ray/values.yaml": "a: two\n"})
    vendor(root, pin)
    shutil.rmtree(root / "vendor/charts")
    vendor(root, pin)
    assert load_lock(pin).commit == old
    assert (root / "vendor/charts/ray/values.yaml").read_text() == "a: one\n"
    assert vendor(root, pin, update=True).changed
    assert load_lock(pin).commit == new
    assert (root / "vendor/charts/ray/values.yaml").read_text() == "a: two\n"


def test_a_server_that_refuses_single_commits_still_gives_one_inside_a_branch(root: Path, upstream: Repository, users_git_config: Path) -> None:
    old = upstream.git("rev-parse", "HEAD")
    upstream.commit({"helm/ray/values.yaml": "a: two\n"})
    users_git_config.write_text("[protocol]\n\tversion = 0\n")
    vendor(root, git_pin(root, upstream, old), update=True)
    assert (root / "vendor/charts/ray/values.yaml").read_text() == "a: one\n"


@pytest.mark.parametrize("by_option", [True, False])
def test_a_bare_mirror_stands_in_for_the_source(root: Path, upstream: Repository, monkeypatch: pytest.MonkeyPatch, by_option: bool) -> None:
    mirror = root.parent / "mirror.git"
    upstream.git("clone", "--quiet", "--bare", str(upstream.path), str(mirror))
    pin = pin_of(root, f"source: https://charts.invalid/a.git\nref: main\n{CHARTS}")
    monkeypatch.setenv("SYNTHO_CHARTS_URL", str(root / "nowhere") if by_option else str(mirror))
    vendor(root, pin, url=str(mirror) if by_option else None, update=True)
    assert load_lock(pin).source == "https://charts.invalid/a.git"


def test_bytes_and_files_are_what_the_commit_holds_whatever_attributes_say(root: Path, upstream: Repository) -> None:
    attributes = (
        "* text=auto eol=crlf\n*.id ident export-subst\ntemplates export-ignore\nvalues.yaml export-ignore\n*.utf working-tree-encoding=UTF-16\n"
    )
    upstream.commit({".gitattributes": attributes})
    odd = {
        ".gitattributes": attributes.encode(),
        "unix": b"a\nb\n",
        "dos": b"a\r\nb\r\n",
        "a.id": b"$Id$ $Format:%H$\n",
        "a.utf": b"a\n",
        "binary": bytes(range(256)),
        "d/" * 60 + "deep": b"x",
    }
    for name, content in odd.items():
        upstream.git("update-index", "--add", "--cacheinfo", f"100755,{upstream.blob(content)},helm/ray/{name}")
    upstream.record()
    pin = git_pin(root, upstream)
    vendor(root, pin, update=True)
    folder = vendored(root, pin).charts["ray"]
    assert {name: (folder / name).read_bytes() for name in odd} == odd
    assert {(folder / name).stat().st_mode & 0o777 for name in odd} == {0o755}
    assert load_lock(pin).charts["ray"].tree == upstream.git("rev-parse", "HEAD:helm/ray")


def test_a_hook_that_runs_us_does_not_lend_us_its_repository(root: Path, upstream: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Repository(root.parent / "other")
    before = snapshot(other.path)
    for name, place in (("GIT_DIR", ".git"), ("GIT_WORK_TREE", "."), ("GIT_INDEX_FILE", ".git/index"), ("GIT_OBJECT_DIRECTORY", ".git/objects")):
        monkeypatch.setenv(name, str(other.path / place))
    pin = git_pin(root, upstream)
    vendor(root, pin, update=True)
    assert vendored(root, pin).lock.commit
    assert snapshot(other.path) == before


def odd_tree(upstream: Repository, name: bytes) -> None:
    """A commit whose helm/ray holds one entry with this name, which git itself would not write."""
    blob, chart, values = upstream.blob(b"x"), upstream.blob(b"name: a\nversion: '1'\n"), upstream.blob(b"{}")
    rows = sorted([(name, blob), (b"Chart.yaml", chart), (b"values.yaml", values)])
    ray = upstream.blob(b"".join(b"100644 " + key + b"\0" + bytes.fromhex(oid) for key, oid in rows), "tree")
    helm = upstream.blob(b"40000 ray\0" + bytes.fromhex(ray), "tree")
    whole = upstream.blob(b"40000 helm\0" + bytes.fromhex(helm), "tree")
    upstream.git("update-ref", "refs/heads/main", upstream.git("commit-tree", "-m", "x", whole))


def link(upstream: Repository) -> None:
    upstream.git("update-index", "--add", "--cacheinfo", f"120000,{upstream.blob(b'/etc/passwd')},helm/ray/odd")
    upstream.record()


def submodule(upstream: Repository) -> None:
    upstream.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},helm/ray/odd")
    upstream.record()


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (link, "'odd' is a symbolic link"),
        (submodule, "'odd' is a submodule"),
        (lambda u: u.commit({"helm/ray/Odd": "1", "helm/ray/odd": "2"}), "'odd' and 'Odd' are one file where case does not count"),
        (lambda u: u.commit({"helm/ray/Odd/a": "1", "helm/ray/odd/b": "2"}), "'odd' and 'Odd' are one file where case does not count"),
        (lambda u: u.commit({"helm/ray/e\u0301": "1", "helm/ray/\u00e9": "2"}), "are one file where case does not count"),
        (lambda u: u.commit({"helm/ray/a\\b": "1"}), "a backslash"),
        (lambda u: u.commit({"helm/ray/a\nb": "1"}), "'a\\nb' has a control character"),
        (lambda u: odd_tree(u, b"od\xff"), "not UTF-8"),
        (lambda u: odd_tree(u, b".."), "'..' leads out of its folder"),
        (lambda u: odd_tree(u, b".GIT"), "'.GIT' is part of a git repository"),
        (lambda u: (u.git("rm", "-q", "helm/ray/values.yaml"), u.record()), '"helm/ray" is not a chart: it has no values.yaml'),
        (lambda u: u.commit({"helm/ray/Chart.yaml": "name: x\n"}), "helm/ray/Chart.yaml needs a name and a version"),
        (lambda u: u.commit({"helm/ray/big": b"\0" * (tree.SIZE_LIMIT + 1)}), "more than 64 MiB"),
    ],
)  # fmt: skip
def test_what_a_commit_may_not_hold_is_named_and_nothing_is_written(
    root: Path, upstream: Repository, prepare: Callable[[Repository], object], sentence: str
) -> None:
    prepare(upstream)
    pin = git_pin(root, upstream, more="charts: {ray: helm/ray}\n")
    assert sentence in fault_of(lambda: vendor(root, pin, update=True))
    assert not pin.lock_path.exists()
    assert os.listdir(root / "vendor/charts") == [".lock"]


def test_an_unknown_ref_is_refused_with_the_nearest(root: Path, upstream: Repository) -> None:
    upstream.git("tag", "1.9.7")
    said = fault_of(lambda: vendor(root, git_pin(root, upstream, "1.9.8"), update=True))
    assert 'no tag or branch "1.9.8"; did you mean "1.9.7"?' in said
    assert "charts.yaml:2" in said


def test_a_name_of_a_tag_and_of_another_branch_is_refused(root: Path, upstream: Repository) -> None:
    upstream.git("tag", "both")
    upstream.commit({"README.md": "2"})
    upstream.git("branch", "both")
    assert "refs/tags/both or refs/heads/both" in fault_of(lambda: vendor(root, git_pin(root, upstream, "both"), update=True))


def test_a_commit_that_the_source_lacks_is_refused(root: Path, upstream: Repository) -> None:
    assert "no commit of any branch or tag" in fault_of(lambda: vendor(root, git_pin(root, upstream, "1" * 40), update=True))


def test_the_id_of_a_tag_object_is_not_taken_for_a_commit(root: Path, upstream: Repository) -> None:
    upstream.git("tag", "--annotate", "--message=x", "1.1.0")
    ref = upstream.git("rev-parse", "refs/tags/1.1.0")
    assert "is a tag, not a commit" in fault_of(lambda: vendor(root, git_pin(root, upstream, ref), update=True))


def test_a_chart_path_that_is_missing_is_refused_with_the_nearest(root: Path, upstream: Repository) -> None:
    pin = git_pin(root, upstream, more="charts: {ray: helm/rya, ui: README.md}\n")
    said = fault_of(lambda: vendor(root, pin, update=True))
    assert 'no folder "helm/rya"; did you mean "helm/ray"?' in said
    assert '"README.md" is not a folder' in said


def test_a_source_that_does_not_answer_is_a_preflight_error(root: Path) -> None:
    for user in ("user:hunter22", "hunter22"):
        pin = pin_of(root, f"source: https://{user}@127.0.0.1:1/a.git\nref: main\n{CHARTS}")
        said = fault_of(lambda pin=pin: vendor(root, pin, update=True), PreflightError)  # type: ignore[misc]
        assert "does not answer" in said
        assert "SYNTHO_CHARTS_URL" in said
        assert "hunter22" not in said


def test_a_machine_without_git_is_told_so(root: Path, upstream: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = git_pin(root, upstream)
    monkeypatch.setenv("PATH", str(root))
    assert "git is not installed" in fault_of(lambda: vendor(root, pin, update=True), PreflightError)


@pytest.mark.parametrize(("file", "licence"), [("LICENSE", "LICENSE"), ("helm/ray/COPYING.txt", "COPYING.txt"), ("NOTICE", "none")])
def test_the_licence_is_looked_for_in_the_chart_and_at_the_sources_root(root: Path, upstream: Repository, file: str, licence: str) -> None:
    upstream.commit({file: "text"})
    pin = git_pin(root, upstream)
    vendor(root, pin, update=True)
    assert load_lock(pin).charts["ray"].license == licence


def test_a_chart_at_the_sources_root_can_be_pinned(root: Path, upstream: Repository) -> None:
    upstream.commit({"Chart.yaml": "name: top\nversion: '1'\n", "values.yaml": "{}\n"})
    pin = git_pin(root, upstream, more="charts: {top: .}\n")
    vendor(root, pin, update=True)
    assert vendored(root, pin).lock.charts["top"].tree == upstream.git("rev-parse", "HEAD^{tree}")


# --- the lock


def test_the_lock_is_not_rewritten_and_nothing_fetched_when_nothing_changed(root: Path, upstream: Repository) -> None:
    pin = git_pin(root, upstream, upstream.git("rev-parse", "HEAD"))
    vendor(root, pin, update=True)
    before = snapshot(root)
    shutil.rmtree(upstream.path)
    assert [vendor(root, pin, update=update).changed for update in (True, False)] == [False, False]
    assert snapshot(root) == before


def test_a_pin_without_a_lock_says_how_to_get_one(root: Path, upstream: Repository) -> None:
    pin = git_pin(root, upstream)
    assert all("invoke vendor --update" in fault_of(lambda action=action: action(root, pin)) for action in (vendor, vendored))  # type: ignore[misc]


@pytest.mark.parametrize(
    "change", [("ref: ", "ref: v"), ("helm/ui", "helm/ray"), ("charts: {ray: helm/ray, ", "charts: {"), ("source: ", "source: /x")]
)
def test_a_pin_that_was_edited_after_locking_is_refused(root: Path, upstream: Repository, change: tuple[str, str]) -> None:
    pin = pin_of(root, f"source: {upstream.path}\nref: main\n{CHARTS}")
    vendor(root, pin, update=True)
    edited = pin_of(root, pin.path.read_text().replace(*change))
    assert "in the lock\n  -> run: invoke vendor --update" in fault_of(lambda: vendored(root, edited))


def test_a_lock_that_the_commit_does_not_fulfil_is_refused_by_name(root: Path, upstream: Repository) -> None:
    pin = git_pin(root, upstream)
    vendor(root, pin, update=True)
    chart = load_lock(pin).charts["ray"]
    pin.lock_path.write_text(pin.lock_path.read_text().replace(chart.sha256, "0" * 64))
    said = fault_of(lambda: vendor(root, pin))
    assert f"charts.ray.sha256: {'0' * 64} is locked, {chart.sha256} found" in said
    assert [name for name in os.listdir(root / "vendor/charts") if name.startswith(".staging")] == []


def test_a_broken_lock_is_refused_with_its_line_and_mended_by_update(root: Path, upstream: Repository) -> None:
    pin = git_pin(root, upstream)
    vendor(root, pin, update=True)
    good = pin.lock_path.read_text()
    pin.lock_path.write_text(good.replace("    tree:", "    tre:"))
    said = fault_of(lambda: vendored(root, pin))
    assert 'did you mean "tree"?' in said
    assert "charts.lock.yaml:8" in said
    vendor(root, pin, update=True)
    assert pin.lock_path.read_text() == good


# --- what is on disk


def edit(name: str, content: str | None) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            (folder / name).write_text(content)

    return change


def relink(folder: Path) -> None:
    (folder / "values.yaml").rename(folder.parent / "elsewhere")
    (folder / "values.yaml").symlink_to("../elsewhere")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (edit("values.yaml", "a: two\n"), "changed: 'values.yaml'"),
        (edit("added.yaml", "x"), "added: 'added.yaml'"),
        (edit("templates/a.yaml", None), "removed: 'templates/a.yaml'"),
        (lambda folder: (folder / "values.yaml").chmod(0o755), "'values.yaml' is now executable"),
        (relink, "'values.yaml' is a symbolic link"),
        (lambda folder: (folder / ".git").mkdir() or (folder / ".git/x").touch(), "added: '.git/x'"),
        (lambda folder: os.mkfifo(folder / "pipe"), "added: 'pipe'"),
        (lambda folder: [edit(f"x{n:02}", "x")(folder) for n in range(12)], "added: 'x09'; and 2 more"),
        (lambda folder: (folder.rename(folder.with_name("moved")), folder.symlink_to("moved")), "is no folder"),
    ],
)  # fmt: skip
def test_a_changed_file_is_named_and_refused_and_vendor_restores_it(
    root: Path, upstream: Repository, change: Callable[[Path], object], sentence: str
) -> None:
    pin = git_pin(root, upstream)
    vendor(root, pin, update=True)
    change(root / "vendor/charts/ray")
    said = [fault_of(lambda: vendored(root, pin)), fault_of(lambda: vendor(root, pin, check=True))]
    assert all(sentence in text and text.endswith("-> run: invoke vendor") for text in said)
    vendor(root, pin)
    assert (vendored(root, pin).charts["ray"] / "values.yaml").read_text() == "a: one\n"


def test_a_changed_file_is_refused_even_where_the_list_of_files_was_changed_too(root: Path, upstream: Repository) -> None:
    pin = git_pin(root, upstream)
    vendor(root, pin, update=True)
    (root / "vendor/charts/ray/values.yaml").write_text("a: two\n")
    (root / "vendor/charts/ray.files").write_text("{}")
    assert "ray is not the vendored chart" in fault_of(lambda: vendored(root, pin))


def test_charts_that_are_not_vendored_are_refused(root: Path, upstream: Repository) -> None:
    pin = git_pin(root, upstream)
    vendor(root, pin, update=True)
    shutil.rmtree(root / "vendor/charts")
    said = fault_of(lambda: vendored(root, pin))
    assert "ray is not vendored yet" in said
    assert "ui is not vendored yet" in said
    assert not (root / "vendor/charts").exists()


def test_check_writes_nothing_and_asks_nobody(root: Path, upstream: Repository) -> None:
    pin = git_pin(root, upstream)
    vendor(root, pin, update=True)
    shutil.rmtree(upstream.path)
    before = snapshot(root)
    assert not vendor(root, pin, check=True).changed
    assert snapshot(root) == before
    shutil.rmtree(root / "vendor/charts/ui")
    before = snapshot(root)
    assert "ui is not vendored yet" in fault_of(lambda: vendor(root, pin, check=True))
    assert snapshot(root) == before


def test_update_and_check_exclude_each_other(root: Path, upstream: Repository) -> None:
    fault_of(lambda: vendor(root, git_pin(root, upstream), update=True, check=True))


def test_a_chart_that_left_the_pin_leaves_the_disk(root: Path, upstream: Repository) -> None:
    vendor(root, git_pin(root, upstream), update=True)
    vendor(root, git_pin(root, upstream, more="charts: {ray: helm/ray}\n"), update=True)
    assert sorted(os.listdir(root / "vendor/charts")) == [".lock", "ray", "ray.files"]


def test_pins_live_side_by_side(root: Path, upstream: Repository) -> None:
    one, two = git_pin(root, upstream), pin_of(root, f"source: {upstream.path}\nref: main\n{CHARTS}", "old-1.9.7.yaml")
    for pin in (one, two):
        vendor(root, pin, update=True)
    assert vendored(root, one).charts["ray"] == root / "vendor/charts/ray"
    assert vendored(root, two).charts["ray"] == root / "vendor/charts/@old-1.9.7/ray"
    assert two.lock_path.name == "old-1.9.7.lock.yaml"


# --- directory sources


def test_a_directory_vendors_itself_in_a_fresh_clone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHO_CHARTS_URL", "https://charts.invalid")
    pin = directory_pin(root)
    vendor(root, pin, update=True)
    shutil.rmtree(root / "vendor/charts")
    found = vendored(root, pin)
    assert (found.charts["ray"] / "values.yaml").read_text() == "a: one\n"
    assert found.lock.commit == tree.scan(root / "sandbox").id
    assert found.lock.ref is None


def test_a_directory_that_moved_is_refused_until_its_lock_is_updated(root: Path) -> None:
    pin = directory_pin(root)
    vendor(root, pin, update=True)
    old = pin.lock_path.read_text()
    (root / "sandbox/helm/ray/values.yaml").write_text("a: two\n")
    for action in (lambda: vendored(root, pin), lambda: vendor(root, pin), lambda: vendor(root, pin, check=True)):
        assert "the source moved" in fault_of(action)
    vendor(root, pin, update=True)
    new = vendored(root, pin)
    assert (new.charts["ray"] / "values.yaml").read_text() == "a: two\n"
    (root / "sandbox/helm/ray/values.yaml").write_text("a: one\n")
    pin.lock_path.write_text(old)
    assert (vendored(root, pin).charts["ray"] / "values.yaml").read_text() == "a: one\n"  # both went back, as git does it


def test_a_changed_copy_of_a_directory_is_refused_too(root: Path) -> None:
    pin = directory_pin(root)
    vendor(root, pin, update=True)
    (root / "vendor/charts/@sandbox/ray/values.yaml").write_text("a: edited\n")
    assert "changed: 'values.yaml'" in fault_of(lambda: vendored(root, pin))


def test_a_directory_is_held_to_the_same_refusals(root: Path) -> None:
    pin = directory_pin(root)
    (root / "sandbox/helm/ray/odd").symlink_to("/etc/passwd")
    os.mkfifo(root / "sandbox/helm/ray/pipe")
    (root / "sandbox/.git").mkdir()
    said = fault_of(lambda: vendor(root, pin, update=True))
    assert "'odd' is a symbolic link" in said
    assert "'pipe' is not a file" in said
    assert ".git" not in said


def test_a_directory_that_is_not_there_or_too_large_is_refused(root: Path) -> None:
    assert "is not a folder" in fault_of(lambda: vendor(root, pin_of(root, f"source: nowhere\n{CHARTS}"), update=True))
    pin = directory_pin(root)
    with (root / "sandbox/big").open("wb") as file:
        file.truncate(tree.SIZE_LIMIT + 1)
    assert "more than 64 MiB" in fault_of(lambda: vendor(root, pin, update=True))
    assert "--url is for a git source" in fault_of(lambda: vendor(root, pin, url="x"))


# --- killed and doubled runs


WRITES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree", "tempfile.mkdtemp")


def die_at(number: int) -> None:
    """Have this process killed at the n-th write to the disk from now on, before it happens."""
    left = number

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in WRITES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


@pytest.mark.parametrize("atomic", [True, False], ids=["exchange", "two renames"])
def test_a_killed_run_leaves_the_old_tree_or_the_new_one(root: Path, upstream: Repository, atomic: bool) -> None:
    pin = git_pin(root, upstream)
    vendor(root, pin, update=True)
    new = upstream.commit(
        {f"helm/{name}/{file}": f"name: {name}\nversion: two\n" for name in ("ray", "ui") for file in ("Chart.yaml", "values.yaml")}
    )
    before = root.parent / "before"
    root.rename(before)

    def run(number: int) -> None:
        die_at(number)
        if not atomic:
            tree.exchange = lambda one, other: False  # as on a filesystem that cannot, in this child alone
        vendor(root, pin, update=True)

    seen, number, step = [], *((0, 3) if atomic else (32, 1))  # up to the lock both are the same: one looks at all of it, one closely
    while True:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(before, root)
        status = os.waitpid(forked(partial(run, number)), 0)[1]
        found = vendored(root, pin)
        contents = {(found.charts[name] / "values.yaml").read_text() == f"name: {name}\nversion: two\n" for name in ("ray", "ui")}
        assert contents == {found.lock.commit == new}, f"half a tree at write {number}"
        seen.append(found.lock.commit == new)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            assert seen[-1]
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        number += step if not seen[-1] else 1 if seen.count(True) < 12 else 40  # the rest is removing what is not needed any more
    assert seen == sorted(seen)
    assert not seen[0]
    assert seen.count(True) > 12
    assert [name for name in os.listdir(root / "vendor/charts") if name.startswith(".staging")] == []


def test_what_a_killed_run_left_is_finished_without_the_source(root: Path, upstream: Repository) -> None:
    pin = git_pin(root, upstream)
    vendor(root, pin, update=True)
    left = root / "vendor/charts/.staging@charts@killed/new"
    left.mkdir(parents=True)
    (root / "vendor/charts/ui").rename(left / "ui")
    shutil.rmtree(upstream.path)
    assert vendor(root, pin).changed
    assert vendored(root, pin).charts["ui"].is_dir()
    assert not left.parent.exists()


def test_runs_at_once_do_not_mix_and_a_reader_always_finds_one_tree(root: Path, upstream: Repository) -> None:
    pin = git_pin(root, upstream)
    old = vendor(root, pin, update=True).lock.commit
    new = upstream.commit({"helm/ray/values.yaml": "a: two\n", "helm/ui/values.yaml": "b: two\n"})
    runs = [forked(lambda: vendor(root, pin, update=True)) for _ in range(3)]
    seen: list[str] = []
    ended: dict[int, int] = {}
    while len(ended) < len(runs):
        found = vendored(root, pin)
        seen.append(found.lock.commit)
        ended.update(dict(os.waitpid(run, os.WNOHANG) for run in runs if run not in ended))
        ended.pop(0, None)  # those that still run
    assert set(ended.values()) == {0}
    assert set(seen) <= {old, new}
    assert seen == sorted(seen, key=[old, new].index)
    assert vendored(root, pin).lock.commit == new
    assert sorted(os.listdir(root / "vendor/charts")) == [".lock", "ray", "ray.files", "ui", "ui.files"]


def test_a_source_cannot_slip_other_bytes_past_the_blob_ids(root: Path, upstream: Repository) -> None:
    scratch = root / "scratch"
    place = source.open_source(root, git_pin(root, upstream), None, scratch)
    files = place.fetch(place.resolve())
    (scratch / ".git/info/attributes").write_text("* text eol=crlf\n")
    charts = {name.removeprefix("helm/ray/"): entry for name, entry in files.items() if name.startswith("helm/ray/")}
    assert "other bytes for helm/ray/" in fault_of(lambda: place.export("helm/ray", charts, root / "out"), PreflightError)
