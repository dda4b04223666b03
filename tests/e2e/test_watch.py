"""The status, shown again whenever it changes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.site import Site

Eventually = Callable[..., Any]


def _lines(running: subprocess.Popen[str]) -> list[str]:
    """What a running command prints, growing."""
    assert running.stdout is not None
    found: list[str] = []
    stream = running.stdout
    threading.Thread(target=lambda: found.extend(iter(stream.readline, "")), daemon=True).start()
    return found


def test_without_a_terminal_there_is_a_line_for_each_change(site: Site, eventually: Eventually) -> None:
    site.deploy()
    running = site.start("status", "--env=here", "--watch")
    lines = _lines(running)
    eventually(lambda: any("Deployment/core " in line for line in lines), 60)
    shown = len(lines)
    site.client().delete("v1", "Service", site.namespace, "core-service")
    eventually(lambda: any(line.endswith("Service/core-service does not exist: fault\n") for line in lines[shown:]))
    site.deploy()
    eventually(lambda: any("Z here: healthy" in line for line in lines[shown:]))
    assert any("Z no longer: Service/core-service does not exist" in line for line in lines[shown:])
    ran = site.interrupt(running, signal.SIGINT)
    assert (ran.code, ran.stderr) == (130, "")


def test_as_json_there_is_a_document_a_line(site: Site, eventually: Eventually) -> None:
    site.deploy()
    running = site.start("status", "--env=here", "--watch", "--json")
    lines = _lines(running)
    eventually(lambda: lines, 60)
    site.client().delete("v1", "Service", site.namespace, "core-service")
    eventually(lambda: "Service/core-service does not exist" in json.loads(lines[-1])["faults"])
    assert json.loads(lines[0])["healthy"] is True
    assert site.interrupt(running, signal.SIGTERM).code == 130


def test_on_a_terminal_it_is_redrawn_in_place(site: Site, eventually: Eventually, tmp_path: Path) -> None:
    site.deploy()
    errors = (tmp_path / "stderr").open("w+b")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 200))
    env = {name: value for name, value in site.environment().items() if name not in ("COLUMNS", "LINES")}  # pytest's workers have 80 by 24
    env["TERM"] = "xterm"
    running = subprocess.Popen(
        site.argv("status", "--env=here", "--watch"), cwd=site.root, env=env, stdin=subprocess.DEVNULL,
        stdout=theirs, stderr=errors, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(ours, 65536):
                seen.append(data)
        except OSError:  # the other side was closed
            return

    def drawn(words: bytes) -> bool:
        assert running.poll() is None, (tmp_path / "stderr").read_text()
        assert not (tmp_path / "stderr").stat().st_size, (tmp_path / "stderr").read_text()  # of a thread, perhaps
        return words in b"".join(seen)

    threading.Thread(target=read, daemon=True).start()
    eventually(lambda: drawn(b"here in namespace"), 60)
    site.client().delete("v1", "Service", site.namespace, "core-service")
    eventually(lambda: drawn(b"NOT healthy"), 60)
    assert b"\x1b[1A" in b"".join(seen)  # the cursor went up to draw over what was there
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(20) == 130
