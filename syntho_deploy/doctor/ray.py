"""The Ray operator: one that watches the namespace, and understands what is compiled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from syntho_deploy.checks.context import Context
from syntho_deploy.doctor.subject import Missing, Result, Subject

GROUP = "ray.io"
LABELS = ("kuberay-operator",)  # app.kubernetes.io/name, or the name of the Deployment, of KubeRay's own chart
FLAG = "watch-namespace"

Object = dict[str, Any]


def ray_operator(subject: Subject) -> Iterator[Result]:
    """One operator watches the namespace, the compiled one or another, and its release asks for the version of the API that is compiled (`needs`
    of overlays/roles.yaml). Two would both make pods of each RayCluster."""
    wanted = sorted({item["apiVersion"] for item in subject.compiled.objects if item["apiVersion"].partition("/")[0] == GROUP})
    if not wanted:
        yield Result("ray-operator", "ok", "nothing is compiled for one")
        return
    repository = _repository(subject.context)
    ours = [item for item in subject.compiled.objects if item["kind"] == "Deployment" and is_operator(item, repository)]
    names = {item["metadata"]["name"] for item in ours}
    everywhere = True
    try:
        there = subject.listed("apps/v1", "Deployment")
    except Missing:
        there, everywhere = subject.listed("apps/v1", "Deployment", subject.namespace), False
    others = [
        item for item in there
        if is_operator(item, repository) and watches(item, subject.namespace)
        and (item["metadata"]["namespace"], item["metadata"]["name"]) not in {(subject.namespace, name) for name in names}
    ]  # fmt: skip
    leaving = [item["metadata"]["name"] for item in others if _is_of_release(subject, item)]  # with the deploy, which has it no more
    others = [item for item in others if not _is_of_release(subject, item)]
    listed = ", ".join(f"{item['metadata']['namespace']}/{item['metadata']['name']} ({_image(item, repository)})" for item in others)
    if others and len(ours) + len(others) > 1:
        todo = "have the other watch its own namespaces only (watchNamespace of its chart), or delete ours: delete: true in <chart>.manifests.yaml"
        yield Result(
            "ray-operator", "warning", f"two operators would watch {subject.namespace}: {listed}{', and the compiled one' if ours else ''}", todo
        )
    elif not ours and not others:
        seen = "" if everywhere else " that this account may see"
        gone = f": {', '.join(leaving)} goes with the deploy" if leaving else ""
        todo = "install KubeRay there" + ("; or keep the chart's operator" if leaving else "")
        yield Result("ray-operator", "error" if everywhere else "unknown", f"no operator{seen} watches {subject.namespace}{gone}", todo)
    for item in others:  # of the compiled one lint tells
        yield from _serves(subject, _image(item, repository), wanted)
    if ours and not others:
        live = any((item["metadata"]["namespace"], item["metadata"]["name"]) in {(subject.namespace, name) for name in names} for item in there)
        seen = "" if everywhere else "; those of other namespaces may not be read"
        state = "runs or starts" if live else "comes with the deploy"
        yield Result("ray-operator", "ok", f"{_image(ours[0], repository)} {state}, for {', '.join(wanted)}{seen}")
    elif others and not ours and len(others) == 1:
        yield Result("ray-operator", "ok", f"{listed} watches {subject.namespace}")


def _is_of_release(subject: Subject, item: Object) -> bool:
    """Is an object one that a release of the environment made?"""
    releases = {chart.release.name for chart in subject.compiled.charts.values()}
    annotations = item["metadata"].get("annotations") or {}
    where = annotations.get("meta.helm.sh/release-namespace"), item["metadata"]["namespace"]
    return where == (subject.namespace, subject.namespace) and annotations.get("meta.helm.sh/release-name") in releases


def _repository(context: Context) -> str:
    """Where the compiled operator's image is, "" where no value says."""
    found = context.value("operator.image")
    return str(found.get("repository", "")) if isinstance(found, dict) else ""


def is_operator(item: Object, repository: str) -> bool:
    """Is a Deployment an operator for Ray? By the image of ours, or by the names that KubeRay's own chart gives."""
    labels = item["metadata"].get("labels") or {}
    by_name = item["metadata"]["name"] in LABELS or labels.get("app.kubernetes.io/name") in LABELS
    return by_name or any(_base(one) == repository or "kuberay/operator" in str(one.get("image")) for one in _containers(item))


def _containers(item: Object) -> list[Object]:
    return list(item["spec"]["template"]["spec"].get("containers") or [])


def _base(container: Object) -> str:
    image = str(container.get("image", "")).partition("@")[0]
    head, _, tail = image.rpartition("/")
    return f"{head}/{tail.partition(':')[0]}".lstrip("/")


def _image(item: Object, repository: str) -> str:
    several = _containers(item)
    return str(next((one for one in several if _base(one) == repository), several[0]).get("image", ""))


def watches(item: Object, namespace: str) -> bool:
    """Does an operator watch a namespace? All of them, where it is not told which."""
    words = [str(word) for one in _containers(item) for word in [*(one.get("command") or []), *(one.get("args") or [])]]
    for index, word in enumerate(words):
        flag, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and flag == FLAG:
            told = value if equals else "".join(words[index + 1 : index + 2])
            return not told or namespace in told.split(",")
    return True


def _serves(subject: Subject, image: str, wanted: list[str]) -> Iterator[Result]:
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2].removeprefix("v")
    for start, api in subject.context.roles.needs.get("operator.image", {}).items():
        if (tag == start or tag.startswith(f"{start}.")) and api not in wanted:
            todo = "component images with an operator_tag of the release that the charts are of"
            yield Result("ray-operator", "warning", f"{image} asks for {api}, and {', '.join(wanted)} is compiled", todo)
