"""A plan as a part of a comment on a pull request, and as the summary of a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from syntho_deploy import plan as planning
from tests.unit.test_tasks import invoke


def test_it_is_a_heading_a_note_and_a_block_that_its_text_cannot_end() -> None:
    page = planning.markdown("prod", "1 update", "~ ConfigMap/x\n    /data/a: ``` -> ````", "a note")
    assert page == "## prod: 1 update\n\na note\n\n`````diff\n~ ConfigMap/x\n    /data/a: ``` -> ````\n`````\n"


def test_a_long_one_is_cut_and_says_so() -> None:
    page = planning.markdown("prod", "many", "~ Deployment/x\n" * 2000)
    assert len(page) < planning.MARKDOWN_LIMIT + 200
    assert "… cut here: the job's log has all of it\n```" in page


def test_a_plan_without_a_cluster_says_that_it_is_and_stands_in_the_jobs_summary(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    file = tmp_path / "plan.md"
    result = invoke(project, "plan", "--env=local", "--offline", f"--markdown={file}")
    assert result.code == 0, result.stderr
    page = file.read_text()
    assert page.startswith("## local: ")
    assert "No cluster was asked: this is what differs from the charts' own defaults." in page
    assert "~ Deployment/core" in page
    assert summary.read_text() == page


def test_it_is_for_one_environment(project: Path, tmp_path: Path) -> None:
    result = invoke(project, "plan", "--env=local,dev", "--offline", f"--markdown={tmp_path}/plan.md")
    assert (result.code, result.stdout) == (3, "")
    assert "--markdown is for one environment" in result.stderr
