"""What was deployed and verified: a Secret for each such deploy, with both compiled charts, from which the way back is made.

`helm rollback` is no way back: it fails on kept objects, on managers that changed, and after ten revisions. A compiled chart
holds no secret, so neither does a record.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from syntho_deploy.cluster import crds
from syntho_deploy.cluster.client import Client
from syntho_deploy.cluster.lease import who
from syntho_deploy.cluster.releases import stored
from syntho_deploy.compile import Compiled, CompiledChart, Project
from syntho_deploy.console import table
from syntho_deploy.documents import canonical, dump
from syntho_deploy.environment import Release
from syntho_deploy.errors import InputError, PreflightError
from syntho_deploy.secrets.sentinels import SecretObject

TYPE = "syntho-deploy/record"
LABEL = "syntho-deploy/record"
KEPT = 10


@dataclass(frozen=True)
class Record:
    """One verified deploy. data: the content of its Secret, which is read when it is asked for: a deploy asks one of ten."""

    number: int
    data: str = field(repr=False)
    name: str = ""  # of the Secret
    made: str = ""  # RFC 3339, by the clock of the API server

    @cached_property
    def content(self) -> dict[str, Any]:
        """What `restored` reads. Raises `PreflightError` where the Secret does not hold what was written: somebody has changed it."""
        try:
            found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(self.data)))
            if not {"when", "who", "reason", "charts", "secrets", "secret"} <= set(found):
                raise KeyError
            return found
        except (ValueError, OSError, EOFError, zlib.error, LookupError, TypeError):  # OSError: no gzip; ValueError: no base64, no JSON
            what = f"the record {self.number} cannot be read: its Secret {self.name} is not as it was written"
            raise PreflightError(what, todo="delete that Secret; the next deploy makes a new record") from None

    @property
    def readable(self) -> bool:
        """Is it as it was written?"""
        with suppress(PreflightError):
            return bool(self.content)
        return False

    @property
    def when(self) -> str:
        """The time of it, RFC 3339."""
        return str(self.content["when"])

    @property
    def who(self) -> str:
        """Who deployed."""
        return str(self.content["who"])

    @property
    def uids(self) -> dict[str, str]:
        """The identity of each object, by `Kind/name`; of no object in a record of an earlier version."""
        return dict(self.content.get("uids") or {})

    @property
    def crds(self) -> dict[str, bool]:
        """The charts' CRDs by name: were they written from here, or only there?"""
        return dict(self.content.get("crds") or {})

    @property
    def reason(self) -> str:
        """Why."""
        return str(self.content["reason"])

    @property
    def charts(self) -> dict[str, str]:
        """Release name to compiled version."""
        return {chart["release"]["name"]: chart["version"] for chart in self.content["charts"].values()}


def records(client: Client, environment: str, namespace: str) -> list[Record]:
    """The records of an environment, oldest first."""
    found = []
    for item in client.objects("v1", "Secret", namespace, f"{LABEL}={environment}"):
        name, data = item["metadata"]["name"], (item.get("data") or {}).get("record", "")
        if number := re.fullmatch(rf"syntho-deploy-{re.escape(environment)}-record-([0-9]+)", name):
            found.append(Record(int(number[1]), data, name, item["metadata"]["creationTimestamp"]))
    return sorted(found, key=lambda item: item.number)


def write(client: Client, compiled: Compiled, reason: str, existing: list[Record], uids: dict[str, str]) -> int:
    """Record what was verified just now, and forget all but the last ten. existing: the records that there are; uids: the identity of
    each object, by `Kind/name`. Returns its number."""
    name, namespace = compiled.environment.name, compiled.environment.target.namespace
    number = existing[-1].number + 1 if existing else 1
    names = [crds.name_of(file) for chart in compiled.charts.values() for file in chart.crds]  # a state of the past has none with it
    content = {
        "when": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "who": who(), "reason": reason,
        "charts": {chart: _chart(one) for chart, one in compiled.charts.items()},
        "secrets": [item._asdict() for item in compiled.secrets],
        "secret": compiled.secret, "uids": uids,
        "crds": dict.fromkeys(names, compiled.environment.manage_crds) if names else existing[-1].crds if existing and existing[-1].readable else {},
    }  # fmt: skip
    data = base64.b64encode(gzip.compress(canonical(content).encode(), mtime=0)).decode()
    metadata = {"name": f"syntho-deploy-{name}-record-{number}", "namespace": namespace, "labels": {LABEL: name}}
    # not created: an apply may be sent again when its answer is lost, and under the Lease nobody else takes this number
    client.apply({"apiVersion": "v1", "kind": "Secret", "type": TYPE, "metadata": metadata, "data": {"record": data}}, force=True)
    for old in existing[: -KEPT + 1]:
        client.delete("v1", "Secret", namespace, f"syntho-deploy-{name}-record-{old.number}")
    return number


def _chart(chart: CompiledChart) -> dict[str, Any]:
    found: dict[str, Any] = chart._asdict() | {"release": chart.release._asdict()}
    found.pop("texts")  # they are made of the manifests
    found.pop("crds")  # CRDs only move forward: older ones could lose a version that objects are stored in
    return found


def find(client: Client, project: Project, number: int | None) -> Record:
    """The record of that number, or for None the last one that differs from what runs: where `rollback` goes.

    Raises `InputError` when there is none, naming those that are.
    """
    environment = project.environment
    found = records(client, environment.name, environment.target.namespace)
    listed = ", ".join(str(item.number) for item in found) or "none"
    if number is not None:
        chosen = [item for item in found if item.number == number]
    else:
        names = [release.name for release in project.roles.releases]
        running = stored(client, environment.target.namespace, names)
        now = {name: one.version for name, one in running.items() if one.status == "deployed"}
        chosen = [item for item in found if item.readable and item.charts != now]
    if not chosen:
        what = f"there is no record {number}" if number is not None else "there is no earlier state to go back to"
        raise InputError(f"{what} of {environment.name}", todo=f"records: {listed} (invoke history --env={environment.name})")
    return chosen[-1]


def last(client: Client, project: Project) -> Record:
    """The newest record. Raises `InputError` when nothing was deployed from here yet."""
    found = records(client, project.environment.name, project.environment.target.namespace)
    if not found:
        raise InputError(f"nothing was deployed to {project.environment.name} from here yet", todo=f"invoke deploy --env={project.environment.name}")
    return found[-1]


def restored(project: Project, record: Record) -> Compiled:
    """The compiled charts of a record, as they were."""
    charts = {}
    for name, found in record.content["charts"].items():
        texts = {file: dump(item) for file, item in found["manifests"].items()}
        fields = {**found, "texts": texts, "release": Release(**found["release"]), "hooks": tuple(found["hooks"]), "crds": ()}
        charts[name] = CompiledChart(**fields)
    secrets = tuple(SecretObject(**item) for item in record.content["secrets"])
    return Compiled(project.environment, project.roles, project.pin, charts, secrets, record.content["secret"], {}, past=True)


def as_json(one: Record) -> dict[str, Any]:
    """A record as JSON; of one that cannot be read, why not."""
    if not one.readable:
        return {"number": one.number, "when": one.made, "fault": f"its Secret {one.name} is not as it was written"}
    return {"number": one.number, "when": one.when, "who": one.who, "reason": one.reason, "charts": one.charts}


def text(found: list[Record]) -> str:
    """Records as people read them."""
    rows = []
    for one in map(as_json, found):
        charts = ", ".join(f"{name} {version}" for name, version in one.get("charts", {}).items())
        rows.append((str(one["number"]), one["when"], one.get("who", ""), one.get("reason") or f"cannot be read: {one['fault']}", charts))
    return table([("NUMBER", "WHEN", "WHO", "REASON", "RELEASES"), *rows])


def delete(client: Client, environment: str, namespace: str) -> None:
    """Forget all records of an environment."""
    for item in client.objects("v1", "Secret", namespace, f"{LABEL}={environment}"):
        client.delete("v1", "Secret", namespace, item["metadata"]["name"])
