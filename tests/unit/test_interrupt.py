"""An interrupt reaches the children at once, wherever the main thread stands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import running_commands

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from invoke.exceptions import Exit
from syntho_deploy import process
from syntho_deploy.console import command

def child(number):
    code = "import sys, time; open(sys.argv[1], 'a').write('x'); time.sleep(300)"
    process.run([sys.executable, "-c", code, os.environ["STARTED"]], timeout=300)

@command
def work():
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(child, range(4)))

try:
    work()
except Exit as end:
    print(end.message, file=sys.stderr)
    sys.exit(end.code)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_children_in_threads_and_starts_no_others(tmp_path: Path, number: signal.Signals) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    environment = {**os.environ, "STARTED": str(started), "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stderr=subprocess.PIPE, text=True)
    seen = ""
    while len(seen) < 2:
        seen += started.read_text()
    running.send_signal(number)
    _, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert not [words for words in running_commands() if str(started) in words]
