"""No registered secret is in a text after redaction, however the text encodes it."""

from __future__ import annotations

import base64
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syntho_deploy import plan
from syntho_deploy import redact as module
from syntho_deploy.cluster import client, readiness
from syntho_deploy.redact import MASK, SHORTEST, redact, register

ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": json.dumps,
    "json, unicode as it is": lambda text: json.dumps(text, ensure_ascii=False),
    "url": lambda text: quote(text, safe=""),
    "url path": quote,
    "url by JavaScript": lambda text: quote(text, safe="!*'()"),
    "url in small letters": lambda text: re.sub("%..", lambda match: match[0].lower(), quote(text, safe="")),
    "form": quote_plus,
    "json by Go": lambda text: re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False)),
    "shell": shlex.quote,
    "shell, by others": lambda text: "'" + text.replace("'", r"'\''") + "'",
    "yaml in single quotes": lambda text: "'" + text.replace("'", "''") + "'",
    "repr": repr,
    "repr of bytes": lambda text: repr(text.encode()),
    "hex": lambda text: text.encode().hex(),
    "hex in capitals": lambda text: text.encode().hex().upper(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for urls": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
}
SECRETS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="*\0"), min_size=6, max_size=40)
AROUND = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@pytest.fixture(autouse=True)
def registered_for_this_test_only() -> Iterator[None]:
    """What is registered is masked for good, and random values would mask the output of other tests."""
    before = set(module._forms)
    yield
    module._forms.intersection_update(before)
    register("only to have the order made anew")


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(secret=SECRETS, before=AROUND, after=AROUND)
@example(secret="it's $5", before="a'b", after='"')
@example(secret='quote"back\\slash', before="", after="")
@example(secret="päss wörd/+?&", before="x", after="é")
def test_a_secret_in_a_longer_text_is_masked_in_every_encoding(encoding: str, secret: str, before: str, after: str) -> None:
    register(secret)
    encode = ENCODINGS[encoding]
    shown = redact(f"<{encode(before + secret + after)}>")
    assert MASK in shown
    assert secret not in shown
    assert encode(secret) not in shown


@given(secret=st.binary(min_size=6, max_size=30).map(bytes.hex), shift=st.integers(0, 2), after=st.binary(max_size=4))
def test_a_secret_in_base64_is_masked_at_every_alignment(secret: str, shift: int, after: bytes) -> None:
    register(secret)
    encoded = base64.b64encode(b"x" * shift + secret.encode() + after).decode()
    shown = redact(encoded)
    assert MASK in shown
    left = shown.split(MASK)
    assert sum(map(len, left)) <= len(encoded) - len(secret)  # at most the characters at its ends, which hold other bytes too
    assert not any(part and part in base64.b64encode(secret.encode()).decode() and len(part) > 8 for part in left)


def test_a_secret_that_a_chart_encodes_twice_is_masked() -> None:
    register("twice-in-base64")
    assert redact(base64.b64encode(b"x" + base64.b64encode(b"twice-in-base64")).decode()).startswith("eG" + MASK)


def test_a_newline_at_the_end_of_a_variable_is_no_part_of_the_secret() -> None:
    register("with-a-newline\r\n")
    assert redact("<with-a-newline>") == f"<{MASK}>"


PRINTS = """
import logging, sys, threading, warnings
from invoke.exceptions import Exit
from syntho_deploy import redact
from syntho_deploy.console import command
logging.basicConfig()

@command
def work():
    redact.register("stream-canary")
    print("plain stream-canary", flush=True)
    sys.stdout.writelines(["lines stream-canary\\n"])
    print("as it is:", "stream-canary", file=redact.unmasked(sys.stdout))
    logging.error("log %s", "stream-canary")
    warnings.warn("warning stream-canary")
    thread = threading.Thread(target=lambda: {}["thread stream-canary"])
    thread.start()
    thread.join()
    raise RuntimeError("fault stream-canary")

try:
    work()
except Exit as end:
    print(end.message, file=sys.stderr)
"""


def test_a_text_is_masked_before_it_is_cut() -> None:
    register("cut-canary")
    for length in range(100, 400):
        long = "x" * length + "cut-canary" + "x" * 400
        waiting = {"status": {"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "Error", "message": long}}}]}}
        unscheduled = {"status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": long}]}}
        for text in (plan.shown(long), readiness.pod_reason(waiting), readiness.pod_reason(unscheduled), str(client._refusal(500, long, "GET /"))):
            assert "xcu" not in text


def test_whatever_prints_is_masked_and_data_is_not(root: Path) -> None:
    """By print, a log that was set up before, a warning, the traceback of a thread, and that of a fault of ours."""
    ran = subprocess.run([sys.executable, "-c", PRINTS], cwd=root, capture_output=True, text=True, check=True)
    assert ran.stdout == f"plain {MASK}\nlines {MASK}\nas it is: stream-canary\n"
    for words in (f"ERROR:root:log {MASK}", f"UserWarning: warning {MASK}", f"KeyError: 'thread {MASK}'", f"RuntimeError: fault {MASK}"):
        assert words in ran.stderr
    assert "stream-canary" not in ran.stderr


def test_the_lines_of_a_long_secret_are_masked_singly() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nAASCBKcwggSjAgEAAoIBAQC7VJTU\n-----END KEY-----\n"
    register(key)
    assert redact("line 2: MIIEvQIBADANBgkqhkiG9w0BAQEF!") == f"line 2: {MASK}!"


def test_a_value_too_short_to_be_a_secret_masks_nothing() -> None:
    register("abc"[: SHORTEST - 1], "")
    assert redact("abc") == "abc"


def test_a_longer_secret_is_masked_whole_before_a_shorter_one_inside_it() -> None:
    register("inner-secret", "outer-inner-secret-outer")
    assert redact("x outer-inner-secret-outer y inner-secret z") == f"x {MASK} y {MASK} z"


def test_bytes_that_are_no_text_do_not_hinder() -> None:
    value = b"pass\xffword".decode("utf-8", "surrogateescape")
    register(value)
    assert redact(f"<{value}>") == f"<{MASK}>"
