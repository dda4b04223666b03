"""A Job in the environment's namespace that asks the services outside, since often only the cluster can reach them.

It runs `probe.py` as it is, by the Python of an image: that of an application which has such a service, unless one is named. The pod
is placed, pulled and confined as the application's is, and the rest of the Pod Security Standard "restricted" is added. A password
comes to it by `secretKeyRef`, so only from a Secret that is there. The Job is deleted in any case, and if this process cannot, by its
time to live.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from syntho_deploy import process
from syntho_deploy.cluster import stuck
from syntho_deploy.cluster.client import ApiError, Client, Object
from syntho_deploy.cluster.readiness import Live
from syntho_deploy.doctor import probe
from syntho_deploy.doctor.outside import Reference, Service, Trust, certificate
from syntho_deploy.doctor.subject import Missing, Subject
from syntho_deploy.errors import DeployError, PreflightError
from syntho_deploy.redact import redact

NAME = "syntho-doctor"
LABELS = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/managed-by": "syntho-deploy"}
DEADLINE = 300  # seconds: an application's image may have to be pulled first
PARTING = 30.0  # seconds for it to be deleted after an interrupt
KEPT = 60  # seconds after its end, if it is still there
LOOK = 1.0  # seconds
NOBODY = 65534
RESOURCES = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}}
CONFINED: Object = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
USERS = ("runAsUser", "runAsGroup", "fsGroup", "supplementalGroups", "seLinuxOptions")
OTHER_IMAGE = "--image=IMAGE names one that has python3, 3.8 or later, and that the cluster may pull"
PATIENCE = 30  # seconds for a place: a node may be added, a pod may end


def ask(subject: Subject, services: list[Service]) -> list[probe.Answer]:
    """What each service answers there. Raises `PreflightError` where the Job cannot be made or does not run, another error
    where it ran and its log cannot be read."""
    client, namespace = subject.place.client(), subject.namespace  # its own way: what is waited for is never an answer from before
    item = manifest(subject, services)
    name = item["metadata"]["name"]
    try:
        client.create(item)
        text = _wait(client, namespace, name)
    finally:
        delete(client, namespace, name)
    return answers(text, services)


def delete(client: Client, namespace: str, name: str) -> None:
    """Delete the Job and its pod; it is no fault when it is gone."""
    try:  # without a policy a Job leaves its pods behind
        client.request("DELETE", client.path("batch/v1", "Job", namespace, name), query={"propagationPolicy": "Background"})
    except ApiError as error:
        if error.status not in (403, 404):
            raise


def manifest(subject: Subject, services: list[Service]) -> Object:
    """The Job that asks these services."""
    of = next((one for one in services if one.container), services[0])
    image = subject.image or str(of.container.get("image", ""))
    if not image:
        raise PreflightError("no image is known that the Job could run", todo=OTHER_IMAGE)
    questions, variables, volumes, mounts = [], list[Object](), dict[str, Object](), dict[str, Object]()
    for number, service in enumerate(services):
        question, variable = _question(subject, service), f"PASSWORD_{number}"
        if question["variable"]:
            reference = service.password
            assert isinstance(reference, Reference)
            question["variable"] = variable
            variables.append({"name": variable, "valueFrom": {"secretKeyRef": {"name": reference.name, "key": reference.key}}})
        if service.trust and service.trust.volume and not _mountable(subject, service.trust):
            question["ca"] = certificate(subject, service.trust)
            del question["ca_file"]
        elif service.trust and service.trust.volume:
            volumes[service.trust.volume["name"]] = service.trust.volume
            mounts[service.trust.mount["mountPath"]] = service.trust.mount
        questions.append(question)
    script = Path(probe.__file__).read_text(encoding="utf-8")
    container: Object = {
        "name": NAME, "image": image, "imagePullPolicy": "IfNotPresent", "command": ["python3", "-I", "-B", "-c", script.replace("$", "$$")],
        "env": [*variables, {"name": "QUESTIONS", "value": json.dumps(questions).replace("$", "$$")}],
        "resources": RESOURCES, "securityContext": _of(of.container) | CONFINED, "volumeMounts": list(mounts.values()),
    }  # fmt: skip
    pod: Object = {
        **{key: of.pod[key] for key in ("imagePullSecrets", "nodeSelector", "tolerations") if of.pod.get(key)}, **_account(subject, of.pod),
        "restartPolicy": "Never", "automountServiceAccountToken": False, "enableServiceLinks": False, "terminationGracePeriodSeconds": 5,
        "securityContext": _of_pod(of), "containers": [container], "volumes": list(volumes.values()),
    }  # fmt: skip
    labels = LABELS | {"app.kubernetes.io/instance": subject.environment.name}
    return {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": f"{NAME}-{uuid.uuid4().hex[:8]}", "namespace": subject.namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0, "activeDeadlineSeconds": DEADLINE, "ttlSecondsAfterFinished": KEPT,
            "template": {"metadata": {"labels": labels, "annotations": {"sidecar.istio.io/inject": "false"}}, "spec": pod},
        },
    }  # fmt: skip


def _account(subject: Subject, pod: Object) -> Object:
    """The application's account, where it is there: it may come with the release."""
    name = pod.get("serviceAccountName")
    try:
        return {"serviceAccountName": name} if name and subject.found("v1", "ServiceAccount", name, subject.namespace) else {}
    except Missing:
        return {}


def _mountable(subject: Subject, trust: Trust) -> bool:
    """Is what a CA is mounted from there already? Else it comes with the release, and its text is sent along."""
    held = trust.reference
    return held is None or f"{held.kind}/{held.name}" not in subject.context.objects or bool(
        subject.found("v1", held.kind, held.name, subject.namespace)
    )  # fmt: skip


def _of(container: Object) -> Object:
    """What of a container's own security settings goes on: whose they are."""
    return _users(container.get("securityContext") or {})


def _users(context: Object) -> Object:
    """Whose a container is; root is left out, as which no pod of the standard "restricted" may run."""
    return {key: context[key] for key in USERS if key in context and (key != "runAsUser" or context[key])}


def _of_pod(of: Service) -> Object:
    users = _users(of.pod.get("securityContext") or {})
    named = "runAsUser" in users or "runAsUser" in _of(of.container)
    return {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **({} if named else {"runAsUser": NOBODY}), **users}


def _question(subject: Subject, service: Service) -> Object:
    """What the Job asks of a service. `variable` stands for a password, which the Secret must have; there is none in the question."""
    question = {**service.question(), "variable": "", "password": None, "encoded": False}
    if service.trust:
        question["ca_file"] = service.trust.path
    if service.password == "":
        question["password"] = ""
    elif isinstance(service.password, str):
        question["unknown"] = "its password is written down in a value, and is not sent along"
    else:
        live = subject.found("v1", "Secret", service.password.name, subject.namespace)
        if service.password.key in ((live or {}).get("data") or {}):
            question["variable"], question["encoded"] = "asked", service.password.encoded
        else:
            name, key = service.password.name, service.password.key
            question["unknown"] = f"the Secret {name} has no key {key} yet (invoke secrets --env={subject.environment.name} makes it)"
    return question


def _wait(client: Client, namespace: str, name: str) -> str:
    """The log of the Job's pod, when that has ended. Raises `PreflightError` where it does not start or does not end."""
    begun, pause = time.monotonic(), threading.Event()
    while True:
        process.stop_if_interrupted()
        pods = client.objects("v1", "Pod", namespace, f"job-name={name}")
        for pod in pods:
            status = (pod.get("status") or {}).get("containerStatuses") or []
            ended = next((one["state"]["terminated"] for one in status if "terminated" in (one.get("state") or {})), None)
            if ended and ended.get("reason") in ("StartError", "ContainerCannotRun"):
                raise PreflightError(f"the Job of --in-cluster cannot start python3: {redact(ended.get('message', ''))[:200]}", todo=OTHER_IMAGE)
            if ended or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
                return _log(client, namespace, pod["metadata"]["name"])
        waited = time.monotonic() - begun
        if trouble := _trouble(client, namespace, name, pods, waited > PATIENCE):
            raise PreflightError(f"the Job of --in-cluster does not run: {trouble}", todo=f"mend that; {OTHER_IMAGE}")
        if waited > DEADLINE:
            raise PreflightError(f"the Job of --in-cluster did not end within {DEADLINE} s", todo=f"see what keeps pods from running; {OTHER_IMAGE}")
        pause.wait(LOOK)


def _trouble(client: Client, namespace: str, name: str, pods: list[Object], placed: bool) -> str:
    """Why the pod cannot be made, or its container not started; "" while it may still be. placed: should it have a node by now?"""
    try:
        job = client.get("batch/v1", "Job", namespace, name)
        events = client.objects("v1", "Event", namespace)
    except ApiError as error:
        if error.status != 403:
            raise
        return ""  # without these it is the deadline that tells
    if job is None:
        return "someone deleted it"
    by_uid: dict[str, list[Object]] = {}
    for event in events:
        by_uid.setdefault(event.get("involvedObject", {}).get("uid", ""), []).append(event)
    live = Live({(one["kind"], one["metadata"]["name"]): one for one in [job, *pods]}, lambda name: "")
    found = stuck.troubles([stuck.current({"kind": "Job", "metadata": {"name": name}}, live, [])], live, by_uid)
    return redact("; ".join(f"{one.reason}: {one.text}" for one in found if placed or one.grace != "unschedulable"))[:500]


def _log(client: Client, namespace: str, pod: str) -> str:
    try:
        return b"\n".join(client.lines(f"{client.path('v1', 'Pod', namespace, pod)}/log", {"container": NAME})).decode("utf-8", "replace")
    except DeployError as error:
        what = f"the Job of --in-cluster ended, and its log cannot be read: {getattr(error, 'message', error.what)}"
        raise DeployError(what, todo="see that the API server reaches the kubelets; simulated nodes run no containers and have no log") from None


def answers(text: str, services: list[Service]) -> list[probe.Answer]:
    """The answers that a log holds, one for each service. What it says of another's lines is left out."""
    found: dict[int, probe.Answer] = {}
    others = [""]
    for line in text.splitlines():
        _, mark, content = line.partition(probe.MARK)  # the runtime or a collector of logs may put a time before it
        if not mark:
            others.append(line)
        else:
            try:
                said: dict[str, Any] = json.loads(content)
                lines = [(str(state), str(what), str(todo)) for state, what, todo in said["lines"]]
                found[int(said["number"])] = probe.Answer(lines, str(said["identity"]))
            except (ValueError, KeyError, TypeError):
                continue
    last = redact(others[-1])[:200]
    silence = f"the Job's pod ended without a word of it{f'; its last words: {last}' if last else ''}"
    return [found.get(number, probe.Answer([("unknown", f"{one.application}: {silence}", OTHER_IMAGE)])) for number, one in enumerate(services)]
