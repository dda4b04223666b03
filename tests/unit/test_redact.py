"""No registered secret is in a text after redaction, however the text encodes it."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syntho_deploy import redact as module
from syntho_deploy.redact import MASK, SHORTEST, redact, register

ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": json.dumps,
    "json, unicode as it is": lambda text: json.dumps(text, ensure_ascii=False),
    "url": lambda text: quote(text, safe=""),
    "url path": quote,
    "form": quote_plus,
    "shell": shlex.quote,
    "repr": repr,
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
