"""Redaction by value: whatever text leaves the process passes here, and every registered secret in it becomes ***.

A secret is looked for as it is, JSON-escaped, URL-quoted, shell-quoted, and in base64 at all three alignments.
"""

from __future__ import annotations

import base64
import json
import threading
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 4  # a shorter value would mask ordinary words, and is no secret

_URL_SAFE = str.maketrans("+/", "-_")
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
            if len(secret) < SHORTEST:
                continue
            _forms.update(_forms_of(secret))
            if len(secret.splitlines()) > 1:  # a certificate's lines may be printed singly
                for line in secret.splitlines():
                    if len(line.strip()) >= 16:
                        _forms.update(_forms_of(line.strip()))
        _ordered[:] = sorted(_forms, key=len, reverse=True)


def _forms_of(secret: str) -> set[str]:
    data = secret.encode("utf-8", "surrogateescape")  # as an environment variable may be
    forms = {secret, quote(data, safe=""), quote(data), quote_plus(data)}
    forms |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    forms |= {repr(secret)[1:-1], repr(secret + "'\"")[1:-4]}
    forms.add(secret.replace("'", """'"'"'"""))  # what shlex.quote makes of it inside a longer word
    forms |= {form for plain in base64_forms(data) for form in (plain, plain.translate(_URL_SAFE))}
    return {form for form in forms if len(form) >= SHORTEST}


def redact(text: str) -> str:
    """`text` with every registered secret masked."""
    for form in _ordered:
        if form in text:
            text = text.replace(form, MASK)
    return text
