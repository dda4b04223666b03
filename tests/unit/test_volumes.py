"""Majors of images, and the faults of volumes that only their words tell."""

from __future__ import annotations

from typing import Any

import pytest

from syntho_deploy.cluster import volumes
from syntho_deploy.cluster.client import ApiError
from syntho_deploy.cluster.readiness import Live

Object = dict[str, Any]
CLAIM = {"kind": "PersistentVolumeClaim", "metadata": {"name": "data"}}


@pytest.mark.parametrize(
    ("image", "major"),
    [
        ("postgres:14", 14), ("postgres:14.2", 14), ("r.example.com:5000/a/postgres:16-alpine", 16), ("postgres:v15_1", 15), ("postgres:9.6", 9),
        ("postgres:14@sha256:00", 14), ("postgres", None), ("postgres:latest", None), ("postgres:20230308", None), ("postgres:bookworm-14", None),
        ("postgres@sha256:1400", None), ("r.example.com:14/postgres", None), ("postgres:14rc1", None),
    ],
)  # fmt: skip
def test_a_major_version_is_the_number_at_the_beginning_of_a_tag(image: str, major: int | None) -> None:
    assert volumes.major(image) == major


def database(image: str, kind: str = "Deployment", **more: Any) -> Object:
    container = {"name": "postgres", "image": image, "volumeMounts": [{"name": "data", "mountPath": "/d"}]}
    sidecar = {"name": "metrics", "image": "metrics:3"}
    volume = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}] if kind == "Deployment" else []
    template = {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [sidecar, container], "volumes": volume}}
    return {"kind": kind, "metadata": {"name": "db"}, "spec": {"selector": {"matchLabels": {"app": "db"}}, "template": template, **more}}


def running(image: str, claim: str = "data", labels: Object | None = None) -> Object:
    template = database(image)["spec"]["template"]
    template["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = claim
    return {"kind": "Pod", "metadata": {"name": f"pod-{image}", "labels": labels or {"app": "db"}}, "spec": template["spec"]}


def faults(new: Object, found: Object | None, *objects: Object, restarts: bool = True) -> tuple[str, str]:
    live = Live({(item["kind"], item["metadata"]["name"]): item for item in objects}, lambda _: "")
    return volumes.image_faults(new, found, live, restarts)


def test_another_major_version_on_a_volume_that_is_there_is_refused() -> None:
    fault, note = faults(database("postgres:16"), database("postgres:14"), CLAIM, running("postgres:14"))
    assert "postgres:16 cannot read the volume data, which is of postgres:14, another major version" in fault
    assert note == ""


def test_what_counts_is_what_the_pods_run_not_what_is_wanted_of_them() -> None:
    assert faults(database("postgres:16"), database("postgres:16"), CLAIM, running("postgres:14"))[0]
    assert faults(database("postgres:16"), database("postgres:14"), CLAIM)[0]
    stranger = running("postgres:12", labels={"job": "backup"})
    assert faults(database("postgres:14.1"), database("postgres:14"), CLAIM, running("postgres:14"), stranger) == ("", "")


def test_a_new_volume_takes_any_version() -> None:
    assert faults(database("postgres:16"), database("postgres:14"), running("postgres:14")) == ("", "")
    assert faults(database("postgres:16"), None) == ("", "")


def test_the_same_major_version_of_another_image_is_no_fault() -> None:
    assert faults(database("mirror/postgres:14.9"), database("postgres:14"), CLAIM, running("postgres:14")) == ("", "")


def test_a_tag_without_a_number_is_said_to_be_unknown_when_the_pod_restarts() -> None:
    here = (database("postgres:latest"), database("postgres:latest"), CLAIM, running("postgres:latest"))
    assert "no major version can be told from postgres:latest" in faults(*here)[1]
    assert faults(*here, restarts=False) == ("", "")
    assert "from postgres:latest" in faults(database("postgres:16"), database("postgres:latest"), CLAIM)[1]


def test_a_volume_without_its_database_is_of_an_unknown_version() -> None:
    assert "which version wrote it is not known" in faults(database("postgres:16"), None, CLAIM)[1]


def test_the_volumes_of_a_stateful_set_are_known_by_their_template() -> None:
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "data-db-0"}}
    new, old = (database(f"postgres:{major}", "StatefulSet", volumeClaimTemplates=[{"metadata": {"name": "data"}}]) for major in (16, 14))
    assert "the volume data-db-0, which is of postgres:14" in faults(new, old, claim, running("postgres:14", "data-db-0"))[0]


class Classes:
    """A client that knows classes, or may not."""

    def __init__(self, **expands: bool) -> None:
        self.expands = expands

    def get(self, api_version: str, kind: str, namespace: str, name: str) -> Object:
        if name not in self.expands:
            raise ApiError(403, "Forbidden", "no", "GET")
        return {"allowVolumeExpansion": self.expands[name]}


def claim(size: str, storage_class: str | None = None, capacity: str = "") -> Object:
    spec = {"resources": {"requests": {"storage": size}}, **({"storageClassName": storage_class} if storage_class is not None else {})}
    return {"metadata": {"name": "data"}, "spec": spec, "status": {"capacity": {"storage": capacity}} if capacity else {}}


@pytest.mark.parametrize(
    ("new", "old", "words"),
    [
        (claim("1Gi", "b"), claim("1Gi", "a"), "its class would change from a to b"),
        (claim("1Gi"), claim("1Gi", "a"), ""),
        (claim("1Gi", "a"), claim("2Gi", "a"), "shrink from 2Gi to 1Gi"),
        (claim("1Gi", "a"), claim("2Gi", "a", "1Gi"), ""),  # a growth that never came may be taken back
        (claim("1024Mi", "a"), claim("1Gi", "a"), ""),
        (claim("2Gi", "fixed"), claim("1Gi", "fixed"), "grow from 1Gi to 2Gi, and its class fixed has no allowVolumeExpansion"),
        (claim("2Gi", "open"), claim("1Gi", "open"), ""),
        (claim("2Gi", "secret"), claim("1Gi", "secret"), ""),  # the API server's words stand
    ],
)
def test_what_is_wrong_with_a_claim_is_a_sentence(new: Object, old: Object, words: str) -> None:
    fault = volumes.claim_fault(Classes(fixed=False, open=True), new, old)  # type: ignore[arg-type]
    assert words in fault
    assert bool(words) == bool(fault)


def test_each_volume_template_that_would_change_is_named() -> None:
    def item(**templates: Object) -> Object:
        return {"spec": {"volumeClaimTemplates": [{**one, "metadata": {"name": name}} for name, one in templates.items()]}}

    old, new = item(a=claim("1Gi", "x"), b=claim("1Gi")), item(a=claim("2Gi", "y"), c=claim("1Gi"))
    fault = volumes.templates_fault(new, old)
    assert "b would be gone, c would be new, a: its class would change from x to y, a would go from 1Gi to 2Gi;" in fault
    assert volumes.templates_fault(old, old) == ""
