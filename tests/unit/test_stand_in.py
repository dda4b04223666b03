"""The images that stand in for Syntho's serve what the sandbox's probes and Services ask for. Whether they do so on kind, kind_e2e tells."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from syntho_deploy import documents
from syntho_deploy.compile import Project
from syntho_deploy.helm import Helm
from tests.e2e.site import with_stand_ins

AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:"
Objects = list[dict[str, Any]]


@pytest.fixture
def objects(project: Path, helm: Helm) -> Objects:
    file = project / "envs" / "local.yaml"
    file.write_text(yaml.safe_dump(with_stand_ins(yaml.safe_load(file.read_text()))))
    return Project.load(project, "local").compile(helm).objects


def containers(objects: Objects) -> dict[str, dict[str, Any]]:
    """The containers of the Deployments and the StatefulSet, by workload."""
    found = [item for item in objects if item["kind"] in ("Deployment", "StatefulSet")]
    return {item["metadata"]["name"]: item["spec"]["template"]["spec"]["containers"][0] for item in found}


def test_each_server_listens_where_its_probes_and_its_service_look(objects: Objects) -> None:
    seen = {}
    for name, container in containers(objects).items():
        if not container["image"].startswith(AGNHOST) or "command" in container:
            continue
        assert container["args"][0] == "netexec"  # which answers every page with 200
        port = int(re.fullmatch(r"--http-port=(\d+)", container["args"][1])[1])  # type: ignore[index]
        asked = [probe.get("httpGet") or probe["tcpSocket"] for key in ("readinessProbe", "livenessProbe") if (probe := container.get(key))]
        assert asked
        assert {one["port"] for one in asked} == {port} == {one["containerPort"] for one in container["ports"]}
        services = [item["spec"] for item in objects if item["kind"] == "Service" and item["spec"]["selector"] == {"app": name}]
        assert {one["targetPort"] for service in services for one in service["ports"]} == {port}
        seen[name] = port
    assert seen == {"core": 8080, "backend": 8000, "frontend": 3000}


def test_each_worker_makes_the_file_that_its_probes_look_at(objects: Objects) -> None:
    workers = {name: found for name, found in containers(objects).items() if found["image"].startswith(AGNHOST) and "command" in found}
    assert sorted(workers) == ["backend-worker", "core-worker"]
    for container in workers.values():
        assert container["command"] == ["sh", "-c", "touch /tmp/healthy && exec /agnhost pause"]
        assert "args" not in container
        assert all(container[probe]["exec"]["command"] == ["cat", "/tmp/healthy"] for probe in ("readinessProbe", "livenessProbe"))


def test_every_image_is_public_and_has_a_tag_that_stays(objects: Objects) -> None:
    images = {value for item in objects for keys, value in documents.walk(item) if keys[-1:] == ("image",) and isinstance(value, str)}
    assert {image.rpartition(":")[0] for image in images} == {
        AGNHOST.rstrip(":"), "busybox", "postgres", "redis", "kuberay/operator", "rayproject/ray",
    }  # fmt: skip
    assert all(re.search(r":v?\d[\d.]*$", image) for image in images), images


def test_the_nodes_of_kind_are_pinned_by_digest(root: Path) -> None:
    config = yaml.safe_load((root / "tools/kwok/kind.yaml").read_text())
    assert all(re.fullmatch(r"kindest/node:v1\.\d+\.\d+@sha256:[0-9a-f]{64}", node["image"]) for node in config["nodes"])
