"""What helm is given of a chart: all that a render needs, exactly the values, and nothing of the chart is written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from syntho_deploy import documents, process
from syntho_deploy.errors import PreflightError
from syntho_deploy.helm import Helm
from tests.conftest import bare_template, write_files

SHOW = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: show}
data:
  text: {{ .Values.text | quote }}
  file: {{ .Files.Get "files/NOTES.txt" | quote }}
  files: {{ range $path, $_ := .Files.Glob "**" }}{{ $path }} {{ end }}
"""
FAILS = '{{ fail "notes are not rendered" }}'
CHART = {
    "Chart.yaml": "apiVersion: v2\nname: outer\nversion: 1.0.0\ndependencies: [{name: inner, version: 1.0.0}]\n",
    "values.yaml": "text: a\ninner: {}\n",
    ".helmignore": "# by the chart\nignored.yaml",
    "files/NOTES.txt": "a file that a template reads",
    "templates/NOTES.txt": FAILS,
    "templates/deep/NOTES.txt": FAILS,
    "templates/show.yaml": SHOW,
    "templates/ignored.yaml": FAILS,
    "templates/crds/kept.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\n",
    "crds/one.yaml": "neither: [read",
    "charts/inner/Chart.yaml": "apiVersion: v2\nname: inner\nversion: 1.0.0\n",
    "charts/inner/values.yaml": "{}\n",
    "charts/inner/templates/NOTES.txt": FAILS,
    "charts/inner/templates/show.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: inner}\n",
    "charts/inner/crds/one.yaml": "neither: [read",
}


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    return write_files(tmp_path / "outer", CHART)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def objects(text: str | None) -> dict[str, Any]:
    return {item["metadata"]["name"]: item.get("data") for item in documents.load_manifests(text or "")}


def check(chart: Path, helm: Helm) -> None:
    before = contents(chart)
    values = {"text": "b", "inner": {}}
    found = objects(helm.template(chart, values, "r", "n", "1.31"))
    files = ".helmignore files/NOTES.txt"  # as helm itself has it: CRDs, templates and what describes the chart are none
    assert found == {"show": {"text": "b", "file": CHART["files/NOTES.txt"], "files": files}, "kept": None, "inner": None}
    assert [text for text in helm.lint([(chart, values)], "1.31") if "[ERROR]" in text] == []
    assert contents(chart) == before
    (chart / "templates" / "ignored.yaml").unlink()  # of variants, which are subcharts, helm reads no .helmignore
    first, second = helm.variants(chart, [{"text": "c", "inner": {}}, {"text": "d", "inner": {}}], "r", "n", "1.31")
    assert [objects(one)["show"] for one in (first, second)] == [{**found["show"], "text": text} for text in "cd"]
    assert objects(first).keys() == found.keys()
    assert contents(chart).items() < before.items()


def test_notes_are_not_rendered_and_all_else_is(chart: Path, helm: Helm) -> None:
    assert "notes are not rendered" in bare_template(helm, chart).stderr
    check(chart, helm)


def test_a_chart_may_lie_anywhere(chart: Path, helm: Helm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    check(Path("outer"), helm)


def test_where_there_can_be_no_links_it_is_a_copy(chart: Path, helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refused)
    check(chart, helm)


def test_a_chart_that_is_exchanged_meanwhile_is_rendered_as_it_was(chart: Path, helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    run = process.run

    def exchanged(*words: Any, **options: Any) -> process.Result:
        chart.rename(chart.with_name("old"))
        return run(*words, **options)

    monkeypatch.setattr(process, "run", exchanged)
    assert objects(helm.template(chart, {"text": "b", "inner": {}}, "r", "n", "1.31"))["show"]["text"] == "b"


def test_a_chart_that_cannot_be_copied_is_a_sentence(chart: Path, helm: Helm) -> None:
    shutil.rmtree(chart)
    with pytest.raises(PreflightError, match=r"the copy of a chart for helm cannot be made: .*No such file") as caught:
        helm.template(chart, {}, "r", "n", "1.31")
    assert "TMPDIR" in caught.value.todo


@pytest.fixture
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nothing_named")
def test_what_helm_reads_is_in_memory_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MEMORY", str(tmp_path))
    monkeypatch.setattr(documents, "ROOM", 0)
    with documents.scratch() as folder:
        assert Path(folder).parent == tmp_path
        assert os.stat(folder).st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("nothing_named")
def test_where_memory_is_full_the_copy_is_on_a_disk(chart: Path, helm: Helm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr(documents, "MEMORY", str(memory))
    monkeypatch.setattr(documents, "ROOM", 0)
    copyfile, tried = shutil.copyfile, []

    def full(source: str, copy: str, **options: Any) -> str:
        tried.append(copy)
        if memory in Path(copy).parents:
            raise OSError(28, "No space left on device")
        return copyfile(source, copy, **options)

    monkeypatch.setattr(shutil, "copyfile", full)
    check(chart, helm)
    assert {memory in Path(copy).parents for copy in tried} == {True, False}
    assert list(memory.iterdir()) == []


@pytest.mark.usefixtures("nothing_named")
@pytest.mark.parametrize("memory", ["missing", "full"])
def test_without_room_in_memory_it_is_where_such_folders_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str) -> None:
    monkeypatch.setattr(documents, "MEMORY", str(tmp_path / "missing" if memory == "missing" else tmp_path))
    monkeypatch.setattr(documents, "ROOM", 0 if memory == "missing" else shutil.disk_usage(tmp_path).total)
    with documents.scratch() as folder:
        assert tmp_path not in Path(folder).parents


@pytest.mark.usefixtures("nothing_named")
def test_a_place_that_a_variable_names_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with documents.scratch() as folder:
        assert Path(folder).parent == tmp_path
