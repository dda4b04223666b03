"""How long a deploy bears the trouble of a pod before it ends: some of it mends itself, the rest never does."""

from __future__ import annotations

from typing import NamedTuple


class Grace(NamedTuple):
    """One kind of trouble.

    seconds: how long it may last, from when the run first saw it; why: what may mend itself until then; todo: for a person, where it
    did not, with {namespace}, {pod} and {container} for its place. waiting: the reasons of a container's waiting state that it is
    known by; events: the reasons of events about it. restarts: of the container, how many the run must have seen too.
    """

    seconds: float
    why: str
    todo: str
    waiting: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    restarts: int = 0


# Of the controllers of Kubernetes, of KubeRay 0.6, and of KubeRay 1.x.
NO_POD = ("FailedCreate", "PodReconciliationError", "FailedToCreateHeadPod", "FailedToCreateWorkerPod")

GRACES = {
    "image": Grace(
        90, "the kubelet pulls again after 10, 20 and 40 s, and a registry's hiccup has passed by then",
        "check the image's name and tag, the pull secret, and that the nodes reach the registry",
        ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError", "RegistryUnavailable"), ("Failed",),
    ),
    "crash": Grace(
        60, "what it needs, say a database, may start later: so the time begins when no other pod is being created any more",
        "what it said before it ended: kubectl -n {namespace} logs {pod} -c {container} --previous", ("CrashLoopBackOff",), ("BackOff",), restarts=2,
    ),
    "config": Grace(
        30, "an operator may make the Secret or ConfigMap that it refers to some seconds later", "make what it names, or mend the reference",
        ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"), ("Failed",),
    ),
    "unschedulable": Grace(300, "a node autoscaler takes minutes to add a node", "make room, or change requests, selectors or tolerations"),
    "mount": Grace(
        180, "a volume must first be detached from the node of the pod before, which takes a minute or two",
        "make the Secret or ConfigMap that it names, or see why the volume does not attach",
        events=("FailedMount", "FailedAttachVolume", "FailedMapVolume"),
    ),
    "quota": Grace(
        90, "pods that are being deleted still count, for 30 s by default", "have the quota raised, or lower requests or replicas", events=NO_POD,
    ),
    "denied": Grace(30, "the webhook of a policy may be starting itself", "change the pod as the policy wants it, or the policy", events=NO_POD),
}  # fmt: skip
