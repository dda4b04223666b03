"""The one way a program is started."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from pathlib import Path

import pytest

from syntho_deploy import process
from syntho_deploy.errors import DeployError
from syntho_deploy.redact import MASK, register

WAITS = """
import pathlib, signal, sys
def term(*_):
    pathlib.Path(sys.argv[1]).with_suffix(".term").write_text("SIGTERM")
    sys.exit(0)
signal.signal(signal.SIGTERM, term)
pathlib.Path(sys.argv[1]).with_suffix(".up").write_text("")
signal.pause()
"""


def python(code: str, *arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-c", code, *arguments]


def test_what_a_program_prints_is_returned(tmp_path: Path) -> None:
    result = process.run(python("import os, sys; print(os.getcwd()); print('e', file=sys.stderr)"), cwd=tmp_path)
    assert (result.code, result.stdout.strip(), result.stderr) == (0, str(tmp_path.resolve()), "e\n")


def test_a_program_that_takes_too_long_is_ended_by_sigterm(tmp_path: Path) -> None:
    with pytest.raises(process.ProcessError, match=r"did not end within 1 s and was stopped") as caught:
        process.run(python(WAITS, tmp_path / "x"), timeout=1)
    assert (tmp_path / "x.term").read_text() == "SIGTERM"
    assert caught.value.result is None


def test_children_of_a_program_are_ended_with_it(tmp_path: Path) -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WAITS!r}, sys.argv[1]])"
    with pytest.raises(process.ProcessError):
        process.run(python(code, tmp_path / "x"), timeout=1)
    deadline = threading.Event()
    for _ in range(100):
        if (tmp_path / "x.term").exists():
            return
        deadline.wait(0.02)
    pytest.fail("the child's child still runs")


ENDS_ALL = f"""
import pathlib, sys, threading
from syntho_deploy import process
folder, ended, up = pathlib.Path(sys.argv[1]), [], threading.Event()
def child(i):
    ended.append(process.run([sys.executable, "-c", {WAITS!r}, folder / f"x{{i}}"], check=False).code)
threads = [threading.Thread(target=child, args=(i,)) for i in range(2)]
[thread.start() for thread in threads]
while len(list(folder.glob("*.up"))) < 2:
    up.wait(0.01)
process.terminate_all()
[thread.join() for thread in threads]
print(ended)
process.run([sys.executable, "-c", "print('started')"])
"""


def test_another_thread_can_end_all_children_and_none_starts_after_that(root: Path, tmp_path: Path) -> None:
    result = process.run(python(ENDS_ALL, tmp_path), cwd=root, timeout=20, check=False)
    assert result.stdout == "[0, 0]\n"
    assert "was not started: this run was interrupted" in result.stderr
    assert len(list(tmp_path.glob("*.term"))) == 2


def test_sources_of_secrets_are_not_in_a_childs_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHO_TEST_HIDDEN", "seen")
    monkeypatch.setenv("SYNTHO_TEST_OPEN", "seen")
    process.hide_environment("SYNTHO_TEST_HIDDEN", "SYNTHO_TEST_NOT_SET")
    code = "import os; print(sorted(k for k in os.environ if k.startswith('SYNTHO_TEST')))"
    assert process.run(python(code), env={"SYNTHO_TEST_MORE": "1"}).stdout.strip() == "['SYNTHO_TEST_MORE', 'SYNTHO_TEST_OPEN']"


def test_output_errors_and_commands_are_redacted() -> None:
    register("process-canary")
    result = process.run(python("import sys; print('a process-canary b'); print('process-canary', file=sys.stderr)"))
    assert (result.stdout, result.stderr) == (f"a {MASK} b\n", f"{MASK}\n")
    with pytest.raises(process.ProcessError) as caught:
        process.run(python("import sys; sys.exit('no process-canary')", "process-canary"))
    assert "process-canary" not in str(caught.value)
    assert f"no {MASK}" in str(caught.value)


def test_data_for_us_is_not_redacted_and_messages_are() -> None:
    register("process-canary")
    result = process.run(python("import sys; print('process-canary'); print('process-canary', file=sys.stderr)"), raw=True)
    assert (result.stdout, result.stderr) == ("process-canary\n", f"{MASK}\n")


def test_a_failure_quotes_the_command_so_that_it_can_be_pasted() -> None:
    argv = python("import sys; print('why', file=sys.stderr); sys.exit(7)", "a b", "$HOME", "it's")
    with pytest.raises(process.ProcessError, match="failed: why") as caught:
        process.run(argv)
    assert caught.value.result is not None
    assert caught.value.result.code == 7
    assert shlex.split(caught.value.todo.removeprefix("to see it again: ")) == argv


@pytest.mark.parametrize("name", ["no-such-program-anywhere", "/etc", "/nowhere/helm"])
def test_a_program_that_cannot_start_is_a_sentence_with_the_command(name: str) -> None:
    with pytest.raises(DeployError, match="cannot be started") as caught:
        process.run([name, "list", "a b"])
    assert f"{name} list 'a b'" in str(caught.value)


def test_what_only_looks_cannot_write(tmp_path: Path) -> None:
    argv = python("import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('')", tmp_path / "x")
    with process.writes_forbidden():
        with process.writes_forbidden():
            pass
        with pytest.raises(AssertionError, match="wanted to write"):
            process.run(argv, writes=True)
        assert not (tmp_path / "x").exists()
        process.run(python("pass"))
    process.run(argv, writes=True)
    assert (tmp_path / "x").exists()


def test_input_is_closed_and_output_of_any_bytes_is_text() -> None:
    result = process.run(python("import sys; print(repr(sys.stdin.read())); sys.stdout.flush(); sys.stdout.buffer.write(b'\\xff')"))
    assert result.stdout == "''\n�"


def test_what_a_program_prints_is_said_line_by_line_while_it_runs(tmp_path: Path) -> None:
    register("streamed-secret-1")
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        (tmp_path / "heard").touch()

    code = """
import pathlib, sys, time
print("first streamed-secret-1", flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.01)
print("second", file=sys.stderr)
"""
    result = process.run(python(code, tmp_path / "heard"), say=say, timeout=60)
    assert said == [f"first {MASK}", "second"]
    assert (result.code, result.stdout, result.stderr) == (0, f"first {MASK}\n", "second\n")


def test_a_program_that_is_listened_to_is_ended_in_time_too(tmp_path: Path) -> None:
    with pytest.raises(process.ProcessError, match="did not end within 1 s and was stopped"):
        process.run(python(WAITS, tmp_path / "x"), timeout=1, say=print)
    assert (tmp_path / "x.term").read_text() == "SIGTERM"


@pytest.mark.parametrize(
    ("quota", "count"), [("max 100000\n", 64), ("200000 100000\n", 2), ("50000 100000", 1), ("9900000 100000", 64), ("?", 64), (None, 64)]
)
def test_a_container_has_the_processors_of_its_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str | None, count: int) -> None:
    if quota:
        (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(process, "CGROUP", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert process.processors() == count
