"""Redaction by value: whatever text leaves the process passes here, and every registered secret in it becomes ***.

A secret is looked for as it is, in hex, JSON-escaped, URL-quoted, shell-quoted, quoted in YAML, and in base64 at all three alignments.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
import threading
from collections.abc import Iterable
from typing import Any, TextIO
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 4  # a shorter value would mask ordinary words, and is no secret

_URL_SAFE = str.maketrans("+/", "-_")
_GO = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})  # what Go's JSON escapes beside the usual
_lock = threading.Lock()
_forms: set[str] = set()
_ordered: list[str] = []


def base64_forms(value: bytes) -> list[str]:
    """The parts of any base64 text that are the same whenever it contains `value`, for each of the three alignments."""
    forms = []
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + value).decode()
        first = (shift * 8 + 5) // 6  # characters that also encode the bytes before
        last = len(encoded.rstrip("=")) - (1 if (shift + len(value)) % 3 else 0)  # and the bytes after
        forms.append(encoded[first:last])
    return forms


def register(*secrets: str) -> None:
    """Have these values masked from now on, in every text of this process and of its children."""
    with _lock:
        for secret in secrets:
            parts = {secret, secret.strip()}  # a variable may end in a newline, which is no part of the value
            lines = [line.strip() for line in secret.splitlines()]
            if len(lines) > 1:  # a certificate's lines may be printed singly
                parts |= {line for line in lines if len(line) >= 16}
            for part in parts:
                if len(part) >= SHORTEST:
                    _forms.update(_forms_of(part))
        _ordered[:] = sorted(_forms, key=len, reverse=True)


def _forms_of(secret: str) -> set[str]:
    data = secret.encode("utf-8", "surrogateescape")  # as an environment variable may be
    forms = {secret, data.decode("utf-8", "replace"), data.hex(), data.hex().upper()}
    quoted = {quote(data, safe=""), quote(data), quote_plus(data), quote(data, safe="!*'()")}  # the last as JavaScript's encodeURIComponent
    forms |= quoted | {re.sub("%..", lambda match: match[0].lower(), form) for form in quoted}
    forms |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    forms |= {form.translate(_GO) for form in list(forms)}
    forms |= {repr(secret)[1:-1], repr(secret + "'\"")[1:-4], repr(data)[2:-1], repr(data + b"'\"")[2:-4]}
    forms |= {secret.replace("'", quote) for quote in ("""'"'"'""", r"'\''", "''")}  # inside quotes: shlex.quote, other shells, YAML
    forms |= {form for plain in base64_forms(data) for form in (plain, plain.translate(_URL_SAFE))}
    forms.update(base64_forms(base64.b64encode(data)))  # a chart may encode what a Secret encodes again
    return {form for form in forms if len(form) >= SHORTEST}


def redact(text: str) -> str:
    """`text` with every registered secret masked."""
    for form in _ordered:
        if form in text:
            text = text.replace(form, MASK)
    return text


class Masked:
    """A text stream that masks what is written to it, each piece for itself."""

    def __init__(self, stream: TextIO) -> None:
        self.unmasked = stream

    def write(self, text: str) -> int:
        """Write the text with every registered secret masked."""
        self.unmasked.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of the lines as `write` does."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unmasked, name)


def mask_streams() -> None:
    """Have all that this process prints from now on masked, by whatever prints it: also a thread's traceback, a warning, a log."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, Masked):
            continue
        masked = Masked(stream)
        setattr(sys, name, masked)
        for handler in logging.getLogger().handlers:  # those of invoke --debug
            if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
                handler.setStream(masked)


def unmasked(stream: TextIO) -> TextIO:
    """The stream itself: for files of data, which hold no secret, and which masking an ill-chosen one such as "core" would break."""
    return stream.unmasked if isinstance(stream, Masked) else stream
