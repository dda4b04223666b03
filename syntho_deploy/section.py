"""Reading a mapping of a user's file strictly: the right types, nothing missing, nothing unknown, all faults at once."""

from __future__ import annotations

from typing import Any, TypeVar

from syntho_deploy.documents import Document, Keys
from syntho_deploy.errors import InputError, Mark, nearest

T = TypeVar("T")
NAMES = {str: "text", bool: "true or false", int: "a whole number", dict: "a mapping", list: "a list"}


class Section:
    """One mapping of a document. Faults go to `errors`, and reading goes on with the default."""

    def __init__(self, document: Document, keys: Keys, errors: list[InputError]) -> None:
        self.document, self.keys, self.errors = document, keys, errors
        self._known: list[str] = []
        value = document.data
        for key in keys:
            value = value[key]
        self.data: dict[str, Any] = value if isinstance(value, dict) else {}
        if value is not None and not isinstance(value, dict):
            self.fault(f"{self._label()} must be a mapping of keys to values")

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def mark(self, *keys: str | int) -> Mark:
        """Where a value of this section stands."""
        return self.document.mark(*self.keys, *keys)

    def fault(self, what: str, *keys: str | int, todo: str = "") -> None:
        """Note one fault, at the value under `keys`."""
        self.errors.append(InputError(what, self.mark(*keys), todo))

    def get(self, key: str, kind: type[T], default: T) -> T:
        """The value of an optional key, or the default where it is absent or null."""
        self._known.append(key)
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            quote = f' ("{value}" in quotes)' if kind is str and isinstance(value, int | float) else ""
            self.fault(f'"{key}" must be {NAMES[kind]}{quote}', key)
            return default
        return value

    def need(self, key: str, kind: type[T], default: T) -> T:
        """The value of a key that must be there; `default` stands in for it after its absence is noted."""
        if self.data.get(key) is None:
            self._known.append(key)
            self.fault(f'{self._label()} needs the key "{key}"')
            return default
        return self.get(key, kind, default)

    def texts(self, key: str) -> list[str]:
        """A list of texts; empty where the key is absent."""
        items = self.get(key, list, [])
        for index, item in enumerate(items):
            if not isinstance(item, str):
                self.fault(f'"{key}" must be a list of texts', key, index)
        return [item for item in items if isinstance(item, str)]

    def section(self, key: str) -> Section:
        """The mapping under `key`; an empty one where it is absent."""
        self._known.append(key)
        if self.data.get(key) is None:
            return Section(Document(self.document.path, {}, {(): self.mark(key)}), (), self.errors)
        return Section(self.document, (*self.keys, key), self.errors)

    def sections(self) -> dict[str, Section]:
        """Every key of this mapping as a section: for mappings whose keys are names."""
        return {key: self.section(key) for key in self.data}

    def done(self) -> None:
        """Note every key that nothing asked for."""
        for key in self.data:
            if key not in self._known:
                known = ", ".join(self._known) or "none"
                self.fault(f'{self._label()} has no key "{key}"{nearest(key, self._known)}', key, todo=f"known keys: {known}")

    def _label(self) -> str:
        if self.keys and isinstance(self.keys[-1], int):
            return "this item"
        return ".".join(key for key in self.keys if isinstance(key, str)) or "this file"
