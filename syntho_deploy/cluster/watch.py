"""A live view of some kinds in a namespace: listed once, then kept current by watches."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from syntho_deploy.cluster.client import ApiError, Client
from syntho_deploy.cluster.readiness import Key, Live, Object
from syntho_deploy.errors import PreflightError

WATCH_SECONDS = 20
RETRY_SECONDS = 1.0
LIST_SECONDS = 60.0  # to wait for the first lists; after that, what is not there is told as absent


def snapshot(client: Client, namespace: str, kinds: Iterable[tuple[str, str]]) -> Live:
    """What is there now, of these (apiVersion, kind) pairs. The lists are asked for side by side."""
    pairs = list(kinds)
    with ThreadPoolExecutor(max(1, len(pairs))) as pool:
        lists = pool.map(lambda pair: client.objects(pair[0], pair[1], namespace), pairs)
        objects = {(item["kind"], item["metadata"]["name"]): item for items in lists for item in items}
    return Live(objects, StorageModes(client))


class StorageModes:
    """The volumeBindingMode of a StorageClass, asked for once; "" where it is unknown or may not be read."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str | None, str] = {}

    def __call__(self, name: str | None) -> str:
        if name not in self._known:
            try:
                found = self._client.get("storage.k8s.io/v1", "StorageClass", "", name) if name else None
            except ApiError:
                found = None
            self._known[name] = (found or {}).get("volumeBindingMode", "")
        return self._known[name]


class View:
    """A `Live` that follows the cluster while the context is open. `wait` returns when something moved."""

    def __init__(self, client: Client, namespace: str, kinds: Iterable[tuple[str, str]]) -> None:
        self._client, self._namespace, self._kinds = client, namespace, list(kinds)
        self._objects: dict[Key, Object] = {}
        self._changed = threading.Condition()
        self._listed: set[str] = set()
        self._moves = 0
        self._seen = 0
        self._stopped = False
        self._refused: ApiError | None = None
        self._modes = StorageModes(client)

    def __enter__(self) -> View:
        for pair in self._kinds:
            threading.Thread(target=self._follow, args=pair, daemon=True, name=f"watch-{pair[1]}").start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped = True

    def live(self) -> Live:
        """The objects as last seen, once every kind was listed: before that, what is absent may only not have been seen.

        Raises `ApiError` when the account may not watch one of the kinds.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._refused or len(self._listed) == len({kind for _, kind in self._kinds}), LIST_SECONDS)
            if self._refused:
                raise self._refused
            self._seen = self._moves
            return Live(dict(self._objects), self._modes)

    def wait(self, seconds: float) -> bool:
        """Block until something moved since `live()` was called, for at most so long. False when nothing did."""
        with self._changed:
            return self._changed.wait_for(lambda: self._moves != self._seen, seconds)

    def _follow(self, api_version: str, kind: str) -> None:
        version = ""
        while not self._stopped:
            try:
                if not version:
                    version = self._list(api_version, kind)
                for event, item in self._client.watch(api_version, kind, self._namespace, version, WATCH_SECONDS):
                    version = item["metadata"]["resourceVersion"]
                    if event != "BOOKMARK":
                        self._put({"apiVersion": api_version, "kind": kind, **item}, event == "DELETED")
                    if self._stopped:
                        return
            except (ApiError, PreflightError, ValueError) as error:  # 410 Gone, a broken connection, a kind not served yet: begin anew
                version = ""
                if isinstance(error, ApiError) and error.status in (401, 403):
                    with self._changed:
                        self._refused = error
                        self._changed.notify_all()
                    return
                threading.Event().wait(RETRY_SECONDS)

    def _list(self, api_version: str, kind: str) -> str:
        items, version = self._client.list_at(api_version, kind, self._namespace)
        with self._changed:
            for key in [key for key in self._objects if key[0] == kind]:
                del self._objects[key]
            self._objects.update({(kind, item["metadata"]["name"]): item for item in items})
            self._listed.add(kind)
            self._moves += 1
            self._changed.notify_all()
        if not version:
            raise ValueError("not served yet")
        return version

    def _put(self, item: Object, gone: bool) -> None:
        key = (item["kind"], item["metadata"]["name"])
        with self._changed:
            if gone:
                self._objects.pop(key, None)
            else:
                self._objects[key] = item
            self._moves += 1
            self._changed.notify_all()
