"""Several files change as one: killed at any moment, all are old or all are new for whoever comes next."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock  # noqa: F401 - so that a child reads no modules, each of which would be a moment
import pytest

from syntho_deploy import transaction
from syntho_deploy.environment import load_environment
from syntho_deploy.errors import InputError, LockedError

ENVIRONMENT = "cluster: {local: a, namespace: b}\n"
OLD: dict[str, bytes | None] = {"envs/a.yaml": ENVIRONMENT.encode(), "overlays/a/x.values.yaml": b"[]\r\n", "overlays/a/new.values.yaml": None}
NEW = {"envs/a.yaml": f"# \u00e9\n{ENVIRONMENT}".encode(), "overlays/a/x.values.yaml": b"- {}\r\n", "overlays/a/new.values.yaml": b"- 1"}
MOMENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate")


def repository(folder: Path) -> Path:
    for name, content in OLD.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)
    return folder


def change(root: Path) -> None:
    transaction.write(root, {root / name: (OLD[name], content) for name, content in NEW.items()})


def state(root: Path) -> dict[str, bytes | None]:
    return {name: (root / name).read_bytes() if (root / name).exists() else None for name in OLD}


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> None:
    raise KeyboardInterrupt


def killed_at(moment: int, work: Callable[[Path], None], root: Path, how: Callable[[], None] = kill) -> bool:
    """Do `work` in a child that is killed before its n-th operation on files; whether it came to that."""
    child = os.fork()
    if not child:
        seen = 0

        def count(event: str, words: tuple[object, ...]) -> None:
            nonlocal seen
            if event in MOMENTS:
                seen += 1
            if event in MOMENTS and seen == moment:
                how()

        try:
            sys.addaudithook(count)
            work(root)
            os._exit(0)
        except KeyboardInterrupt:
            os._exit(130)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) in (0, 130)
    return status != 0


def halves(folder: Path) -> Iterator[Path]:
    """The repository as runs leave it that are killed between two files."""
    for moment in itertools.count(1):
        root = repository(folder / str(moment))
        if not killed_at(moment, change, root):
            return
        if state(root) not in (OLD, NEW):
            yield root


def test_killed_at_any_moment_all_files_are_old_or_all_are_new(tmp_path: Path) -> None:
    outcomes = []
    for moment in itertools.count(1):
        root = repository(tmp_path / str(moment))
        if not killed_at(moment, change, root):
            break
        load_environment(root, "a")
        outcomes.append(state(root))
        assert outcomes[-1] in (OLD, NEW), moment
        assert not (root / transaction.JOURNAL).exists()
        left = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} - {".cache/.transaction.new", ".cache/.transaction.lock"}
        assert left == {name for name, content in outcomes[-1].items() if content is not None}
    assert (outcomes[0], outcomes[-1]) == (OLD, NEW)
    assert sorted(outcomes, key=lambda found: found == NEW) == outcomes  # there is one moment from which on it is done
    assert len(outcomes) > 8


def test_an_interrupt_leaves_nothing_to_be_settled(tmp_path: Path) -> None:
    outcomes = []
    for moment in itertools.count(1):
        root = repository(tmp_path / str(moment))
        if not killed_at(moment, change, root, interrupt):
            break
        outcomes.append(state(root))
        assert outcomes[-1] in (OLD, NEW), moment
    assert (outcomes[0], outcomes[-1]) == (OLD, NEW)


def test_killed_while_it_is_settled_it_is_settled_by_the_next(tmp_path: Path) -> None:
    root = next(halves(tmp_path))
    for moment in itertools.count(1):
        copy = shutil.copytree(root, tmp_path / f"copy-{moment}")
        if not killed_at(moment, transaction.settle, copy):
            break
        transaction.settle(copy)
        assert state(copy) == NEW
    assert moment > 8


def test_what_git_took_back_stays_so(tmp_path: Path) -> None:
    root = next(halves(tmp_path))
    (root / "envs/a.yaml").write_bytes(OLD["envs/a.yaml"] or b"")
    transaction.settle(root)
    assert state(root) == OLD


def test_a_file_that_was_edited_meanwhile_is_left_alone(tmp_path: Path) -> None:
    root = next(halves(tmp_path))
    (root / "overlays/a/x.values.yaml").write_text("- mine\n")
    with pytest.raises(InputError, match="edited since") as caught:
        load_environment(root, "a")
    assert str(caught.value.where).endswith("x.values.yaml")
    assert (root / "overlays/a/x.values.yaml").read_text() == "- mine\n"


def test_a_file_that_is_not_what_was_read_is_not_written(tmp_path: Path) -> None:
    root = repository(tmp_path)
    (root / "envs/a.yaml").write_text(f"# mine\n{ENVIRONMENT}")
    before = state(root)
    with pytest.raises(LockedError, match="changed since it was read"):
        change(root)
    assert state(root) == before


def test_modes_and_links_stay(tmp_path: Path) -> None:
    root = repository(tmp_path)
    (root / "envs/a.yaml").rename(root / "real.yaml")
    (root / "real.yaml").chmod(0o600)
    (root / "envs/a.yaml").symlink_to("../real.yaml")
    change(root)
    assert (root / "envs/a.yaml").is_symlink()
    assert (root / "real.yaml").stat().st_mode & 0o777 == 0o600
    assert state(root) == NEW


def test_a_file_outside_is_refused(tmp_path: Path) -> None:
    root = repository(tmp_path / "root")
    with pytest.raises(InputError, match="outside"):
        transaction.write(root, {tmp_path / "x": (None, b"")})
