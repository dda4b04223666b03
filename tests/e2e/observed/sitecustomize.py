"""On PYTHONPATH, this makes a Python process write down what it starts and writes. tests/e2e/observer.py reads that.

OBSERVED names a folder that is there: `log` gets a line of JSON for each process started and each file opened for writing, and
`gone` a copy of each file as it was before it was removed, replaced or emptied. KILLED_BEFORE=N ends the process by SIGKILL
instead of sending its Nth request that writes to an API server.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
REQUEST = re.compile(rb"(POST|PUT|PATCH|DELETE) (?!\S*(dryRun=|/selfsubjectaccessreviews))")

folder = Path(os.environ["OBSERVED"])
kill_before = int(os.environ.get("KILLED_BEFORE", "0"))
log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
copies, requests = itertools.count(), itertools.count(1)
mine = threading.local()


def note(**what: Any) -> None:
    os.write(log, json.dumps(what, default=os.fsdecode).encode() + b"\n")


def keep(path: Any) -> None:
    """Copy what is at a path, a file or a folder, before it goes."""
    for file in [path, *Path(os.fsdecode(path)).rglob("*")]:
        if os.path.isfile(file) and not os.path.islink(file):
            shutil.copyfile(file, folder / "gone" / f"{os.getpid()}-{next(copies)}")


def hook(event: str, args: tuple[Any, ...]) -> None:
    if getattr(mine, "busy", False):
        return
    mine.busy = True
    try:
        if event == "subprocess.Popen":
            note(event=event, argv=list(args[1]), env=dict(os.environ if args[3] is None else args[3]))
        elif event in ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile"):
            note(event=event, argv=args[0], env=repr(args))
        elif event == "open" and isinstance(args[2], int) and args[2] & WRITES and not isinstance(args[0], int):
            note(event=event, path=os.path.abspath(os.fsdecode(args[0])), nameless=bool(args[2] & os.O_TMPFILE == os.O_TMPFILE))
            if args[2] & os.O_TRUNC:
                keep(args[0])
        elif event in ("os.remove", "shutil.rmtree", "os.truncate"):
            keep(args[0])
        elif event == "os.rename":
            keep(args[1])
        elif event == "http.client.send" and kill_before and isinstance(args[1], bytes) and REQUEST.match(args[1]):
            note(event=event, request=args[1].split(b"\r\n")[0].decode())
            if next(requests) == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)
    finally:
        mine.busy = False


sys.addaudithook(hook)
