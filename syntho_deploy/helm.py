"""The official helm binary: rendering a chart, writing a release, and what its words mean.

Helm's exit code is 1 for every failure, so failures are told apart by text; each text is one row of `FAILURES`.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from syntho_deploy import process
from syntho_deploy.documents import Json, canonical, load_chart, scratch, write
from syntho_deploy.errors import DeployError, InputError, LockedError, NotHealthyError, PreflightError

RENDER_TIMEOUT = 60.0
HISTORY_MAX = 10
WRITES_AT_ONCE = max(4, process.processors())  # of several environments; more only make each other, and the API server, slow

_turn = threading.BoundedSemaphore(process.processors())  # more renders at once than processors make each end later
_writing = threading.BoundedSemaphore(WRITES_AT_ONCE)
# At its start helm reads kubectl's translations, by which it prints nothing: of English 150 kB, a quarter of the start, of this 1 kB. Not where
# there is a cluster: a program that a kubeconfig names for its credentials would speak so too.
QUICK_LOCALE = "zh_TW.UTF-8"
GO = {"GOGC": "off", "GOMEMLIMIT": "512MiB"}  # a run of helm is over before its garbage is worth collecting

# What helm says (both majors, case-insensitive), the error that it is, and what to do.
FAILURES: list[tuple[str, type[DeployError], str]] = [
    (r"another operation \(install/upgrade/rollback\) is in progress|release: already exists|encountered \d+ deletion errors", LockedError,
     "wait for it; if its process was killed: invoke unlock shows it, and frees it with a reason"),
    (r"conflict occurred while applying|apply failed with \d+ conflict", PreflightError,
     "another tool owns these fields: undo its change, or take it into an overlay"),
    (r"kubernetes cluster unreachable", PreflightError, "check the context, the network and the credentials"),
    (r"no matches for kind", PreflightError, "the CRDs are not installed: set manage.crds to true, or have them installed"),
    (r"invalid ownership metadata|cannot be imported into the current release", PreflightError,
     "an object of that name exists and is not this release's: remove it, or choose another namespace"),
    (r"field is immutable|updates to statefulset spec for fields other than", PreflightError,
     "that field cannot change in place: delete the object named above, then deploy again"),
    (r"is forbidden", PreflightError, "the account lacks a permission that this release needs"),
    (r"exceeded quota|denied the request", PreflightError, "the namespace does not allow this object"),
]  # fmt: skip

# What the API server of each minor version serves unless told otherwise: group/version, 1.x from, 1.x in which it is gone, kinds.
# Helm without a cluster knows groups and versions, those long gone too, but no kinds, which charts ask for.
# https://kubernetes.io/docs/reference/using-api/deprecation-guide/
APIS = """
v1 0 - Binding ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim Pod PodTemplate
v1 0 - ReplicationController ResourceQuota Secret Service ServiceAccount
admissionregistration.k8s.io/v1 16 - MutatingWebhookConfiguration ValidatingWebhookConfiguration
admissionregistration.k8s.io/v1 30 - ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding
admissionregistration.k8s.io/v1 36 - MutatingAdmissionPolicy MutatingAdmissionPolicyBinding
admissionregistration.k8s.io/v1beta1 9 22 MutatingWebhookConfiguration ValidatingWebhookConfiguration
apiextensions.k8s.io/v1 16 - CustomResourceDefinition
apiextensions.k8s.io/v1beta1 7 22 CustomResourceDefinition
apiregistration.k8s.io/v1 10 - APIService
apiregistration.k8s.io/v1beta1 7 22 APIService
apps/v1 9 - ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet
apps/v1beta1 6 16 ControllerRevision Deployment StatefulSet
apps/v1beta2 8 16 ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet
autoscaling/v1 2 - HorizontalPodAutoscaler
autoscaling/v2 23 - HorizontalPodAutoscaler
autoscaling/v2beta1 8 25 HorizontalPodAutoscaler
autoscaling/v2beta2 12 26 HorizontalPodAutoscaler
batch/v1 2 - Job
batch/v1 21 - CronJob
batch/v1beta1 8 25 CronJob
certificates.k8s.io/v1 19 - CertificateSigningRequest
certificates.k8s.io/v1beta1 4 22 CertificateSigningRequest
coordination.k8s.io/v1 14 - Lease
coordination.k8s.io/v1beta1 12 22 Lease
discovery.k8s.io/v1 21 - EndpointSlice
discovery.k8s.io/v1beta1 17 25 EndpointSlice
events.k8s.io/v1 19 - Event
events.k8s.io/v1beta1 8 25 Event
extensions/v1beta1 1 16 DaemonSet Deployment NetworkPolicy PodSecurityPolicy ReplicaSet
extensions/v1beta1 1 22 Ingress
flowcontrol.apiserver.k8s.io/v1 29 - FlowSchema PriorityLevelConfiguration
flowcontrol.apiserver.k8s.io/v1beta1 20 26 FlowSchema PriorityLevelConfiguration
flowcontrol.apiserver.k8s.io/v1beta2 23 29 FlowSchema PriorityLevelConfiguration
flowcontrol.apiserver.k8s.io/v1beta3 26 32 FlowSchema PriorityLevelConfiguration
networking.k8s.io/v1 7 - NetworkPolicy
networking.k8s.io/v1 19 - Ingress IngressClass
networking.k8s.io/v1 33 - IPAddress ServiceCIDR
networking.k8s.io/v1beta1 14 22 Ingress
networking.k8s.io/v1beta1 18 22 IngressClass
node.k8s.io/v1 20 - RuntimeClass
node.k8s.io/v1beta1 14 25 RuntimeClass
policy/v1 21 - PodDisruptionBudget
policy/v1beta1 5 25 PodDisruptionBudget
policy/v1beta1 10 25 PodSecurityPolicy
rbac.authorization.k8s.io/v1 8 - ClusterRole ClusterRoleBinding Role RoleBinding
rbac.authorization.k8s.io/v1beta1 6 22 ClusterRole ClusterRoleBinding Role RoleBinding
resource.k8s.io/v1 34 - DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice
scheduling.k8s.io/v1 14 - PriorityClass
scheduling.k8s.io/v1beta1 11 22 PriorityClass
storage.k8s.io/v1 6 - StorageClass
storage.k8s.io/v1 13 - VolumeAttachment
storage.k8s.io/v1 17 - CSINode
storage.k8s.io/v1 18 - CSIDriver
storage.k8s.io/v1 24 - CSIStorageCapacity
storage.k8s.io/v1 34 - VolumeAttributesClass
storage.k8s.io/v1beta1 4 22 StorageClass
storage.k8s.io/v1beta1 10 22 VolumeAttachment
storage.k8s.io/v1beta1 14 22 CSIDriver CSINode
storage.k8s.io/v1beta1 21 27 CSIStorageCapacity
"""


def api_versions(kubernetes: str) -> list[str]:
    """The `group/version/Kind` that a Kubernetes version has, as charts ask for them (`.Capabilities.APIVersions.Has`)."""
    minor = int(kubernetes.split(".")[1])
    rows = (line.split() for line in APIS.strip().splitlines())
    return [f"{api}/{kind}" for api, first, gone, *kinds in rows if int(first) <= minor and (gone == "-" or minor < int(gone)) for kind in kinds]


def has_subcharts(chart: Path) -> bool:
    """Does a chart bring others in its folder?"""
    return (chart / "charts").is_dir()


def flatten(chart: Path, copy: Path) -> None:
    """Copy a chart so that it renders the same, with every subchart a folder and all default values in its own values.yaml.

    Helm merges a subchart's defaults back under whatever its parent says, so that a patch could not remove one; and where the
    parent says null, Helm 3 removes the default and Helm 4 keeps it. Raises `InputError` when a subchart is no chart.
    """
    shutil.copytree(chart, copy, copy_function=shutil.copy)
    write(copy / "values.yaml", canonical(_flat_values(copy)))


def _flat_values(chart: Path) -> Json:
    values = load_chart(chart / "values.yaml") if (chart / "values.yaml").is_file() else {}
    described = load_chart(chart / "Chart.yaml")
    for archive in sorted((chart / "charts").glob("*.tgz")):
        _unpack(archive, archive.with_suffix(""))
        archive.unlink()
    for folder in sorted(path.parent for path in (chart / "charts").glob("*/Chart.yaml")):
        defaults = _flat_values(folder)
        write(folder / "values.yaml", "{}\n")
        name = load_chart(folder / "Chart.yaml").get("name")
        used_as = [entry.get("alias") or name for entry in described.get("dependencies") or [] if entry.get("name") == name]
        for key in used_as or [name]:
            values = {**(values or {}), key: _over(defaults, (values or {}).get(key, {}))}
    return values


def _over(defaults: Json, values: Json) -> Json:
    """Values over a subchart's defaults: null removes one."""
    if not isinstance(defaults, dict) or not isinstance(values, dict):
        return values
    merged = defaults | {key: _over(defaults[key], value) if key in defaults else value for key, value in values.items()}
    return {key: value for key, value in merged.items() if value is not None or defaults.get(key) is None}


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the chart in an archive, whose files are all in one folder of any name."""
    import tarfile

    try:
        with tarfile.open(archive) as packed:
            for member in packed:
                inner = Path(member.name).parts[1:]
                content = packed.extractfile(member) if member.isfile() and inner and ".." not in inner else None
                if content:
                    path = folder.joinpath(*inner)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read())
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"the subchart {archive.name} cannot be unpacked: {error}", archive) from None
    if not (folder / "Chart.yaml").is_file():
        raise InputError(f"the subchart {archive.name} has no Chart.yaml", archive)


def crds(chart: Path) -> Iterator[Path]:
    """The files with CRDs of a chart and of its subcharts, which must be folders."""
    yield from sorted(path for path in (chart / "crds").rglob("*") if path.suffix in (".yaml", ".yml", ".json"))
    for folder in sorted(path.parent for path in (chart / "charts").glob("*/Chart.yaml")):
        yield from crds(folder)


@contextmanager
def _copies(fill: Callable[[Path], None]) -> Iterator[Path]:
    """A folder that `fill` has filled for helm, gone afterwards: in memory, or on a disk where that has no room. Raises `PreflightError` where
    neither has."""
    with ExitStack() as stack:
        for memory in (True, False):
            try:
                folder = Path(stack.enter_context(scratch(memory)))
                fill(folder)
                break
            except OSError as error:
                stack.close()
                if not memory:
                    why = error.args[0][0][2] if isinstance(error, shutil.Error) else error
                    todo = "free some room, or name another folder by TMPDIR"
                    raise PreflightError(f"the copy of a chart for helm cannot be made: {why}", todo=todo) from None
        yield folder


def _copy(chart: Path, copy: Path) -> Path:
    """A copy of what a render needs of a chart, which nobody exchanges meanwhile: without the CRDs of it and of its subcharts, which helm would
    read, and NOTES.txt, which it would run."""

    def left_out(at: str, names: list[str]) -> set[str]:
        notes = {"NOTES.txt"} if "templates" in Path(at).relative_to(chart).parts else set()
        return notes | ({"crds"} if "Chart.yaml" in names else set())

    shutil.copytree(chart, copy, ignore=left_out, copy_function=shutil.copyfile, ignore_dangling_symlinks=True)
    return copy


def _link(source: Path, copy: Path) -> None:
    """A link to a file or folder; a copy where there can be none."""
    try:
        os.symlink(source, copy)
    except OSError:  # on a file system without them
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, copy)


def _write(content: Json, file: Path) -> None:
    file.write_text(canonical(content), encoding="utf-8")


class Helm(NamedTuple):
    """A helm binary. home: a folder for its caches, so that no plugin or repository of the user's takes part."""

    path: Path
    version: str
    home: Path

    def environment(self, kubeconfig: str) -> Mapping[str, str]:
        """Variables for a run: nothing of the user's HELM_*, no colours, no cluster unless one is given."""
        ours = {name: "" for name in os.environ if name.startswith("HELM_")}
        ours |= {f"HELM_{kind}_HOME": str(self.home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        ours |= {"HELM_PLUGINS": str(self.home / "plugins"), "NO_COLOR": "1", **GO}
        ours["KUBECACHEDIR"] = str(self.home / "discovery")
        ours["KUBECONFIG"] = kubeconfig or os.devnull
        return ours if kubeconfig else {**ours, "LC_ALL": QUICK_LOCALE}

    def template(self, chart: Path, values: Json, release: str, namespace: str, kubernetes: str) -> str:
        """What helm renders of a chart with exactly these values, without CRDs and NOTES.txt, hooks included.

        The values replace the chart's own values.yaml in a working copy, as JSON: with `-f`, helm would merge removed
        keys back in, and YAML would change `y` and `1e3` on the way. Raises `InputError` when it does not render.
        """

        def fill(folder: Path) -> None:
            _write(values, _copy(chart, folder / chart.name) / "values.yaml")

        with _copies(fill) as folder:
            result = self._template(folder / chart.name, release, namespace, kubernetes)
        if result.code:
            text = _error_line(result.stderr).replace(f"{folder}/", "")
            raise InputError(f"the chart {chart.name} does not render with these values: {text}", todo="invoke template --stage=values shows them")
        return result.stdout

    def lint(self, charts: list[tuple[Path, Json]], kubernetes: str) -> list[str]:
        """What `helm lint` says of working copies of charts with exactly these values, made as for `template`; in one run.

        In a release and a namespace of its own, whose names cannot make a template wrong.
        """

        def fill(folder: Path) -> None:
            for number, (chart, values) in enumerate(charts):
                _write(values, _copy(chart, folder / str(number) / chart.name) / "values.yaml")

        with _copies(fill) as folder:
            result = self._offline(["lint", *(f"{folder}/{number}/{chart.name}" for number, (chart, _) in enumerate(charts))], kubernetes)
        at = re.escape(str(folder))
        parts = re.split(rf"^==> Linting {at}/(\d+)/.*\n", result.stdout, flags=re.MULTILINE)
        said = dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))
        if not said:
            raise InputError(f"helm lint: {_error_line(result.stderr)}")
        return [re.sub(rf"{at}/\d+/", "", said.get(number, "")) for number in range(len(charts))]

    def variants(self, chart: Path, values: list[Json], release: str, namespace: str, kubernetes: str) -> list[str | None]:
        """What `template` would print for each of several values, in one run of helm; None where the chart does not render.

        Starting helm takes longer than rendering. So the variants are subcharts of one made for it, each with its values; in the
        results, the name that they have there is the chart's again.
        """
        results: list[str | None] = [None] * len(values)
        described = load_chart(chart / "Chart.yaml")
        left = {number: f"v{number:04d}" for number in range(len(values))}

        def fill(folder: Path) -> None:
            copy = _copy(chart, folder / "chart")
            same = [name for name in os.listdir(copy) if name not in ("values.yaml", "Chart.yaml")]
            for number, name in left.items():
                variant = folder / "variants" / "charts" / name
                variant.mkdir(parents=True)
                for one in same:
                    _link(copy / one, variant / one)
                _write(values[number], variant / "values.yaml")
                _write({**described, "name": name}, variant / "Chart.yaml")

        with _copies(fill) as folder:
            parent = folder / "variants"
            while left:
                # named as dependencies, without which helm ignores those that the variants have
                listed = [{"name": name, "version": str(described["version"])} for name in left.values()]
                _write({"apiVersion": "v2", "name": "variants", "version": "0.0.0", "dependencies": listed}, parent / "Chart.yaml")
                result = self._template(parent, release, namespace, kubernetes)
                if not result.code:
                    break
                said = _error_line(result.stderr)
                broken = re.search(r"variants/charts/v(\d{4})/", said)
                if not broken or int(broken[1]) not in left:
                    raise InputError(f"the chart {chart.name} does not render: {said}")
                shutil.rmtree(parent / "charts" / left.pop(int(broken[1])))
        for number in left:
            results[number] = ""
        parts = re.split(r"^---\n# Source: variants/charts/v(\d{4})/", result.stdout if left else "", flags=re.MULTILINE)
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            results[int(name)] = f"{results[int(name)] or ''}---\n# Source: {text.replace(f'v{name}', described['name'])}"
        return results

    def _template(self, chart: Path, release: str, namespace: str, kubernetes: str) -> process.Result:
        known = ",".join(api_versions(kubernetes))
        return self._offline(["template", release, str(chart), "--namespace", namespace, "--api-versions", known], kubernetes)

    def _offline(self, words: list[str], kubernetes: str) -> process.Result:
        """Run helm without a cluster, for a version of Kubernetes."""
        version = kubernetes if kubernetes.count(".") == 2 else f"{kubernetes}.0"
        with _turn:
            argv = [str(self.path), *words, "--kube-version", version]
            return process.run(argv, timeout=RENDER_TIMEOUT, env=self.environment(""), check=False, raw=True)

    def upgrade(self, chart: Path, release: str, namespace: str, kubeconfig: str, context: str, timeout: float, force: bool = False) -> None:
        """Install or upgrade a release to a compiled chart by server-side apply, without waiting for readiness.

        force: take fields that another manager owns. The values of an earlier `helm install`, which helm would carry on in the
        release though a compiled chart has none, are dropped: they may hold secrets.

        Raises the error that helm's text stands for (`FAILURES`), or `NotHealthyError` for one that is not known.
        """
        argv = [
            str(self.path), "upgrade", release, str(chart), "--install", "--namespace", namespace, "--kube-context", context, "--server-side=true",
            "--skip-crds", "--reset-values", "--history-max", str(HISTORY_MAX), "--disable-openapi-validation", "--timeout", f"{timeout:.0f}s",
            *(["--force-conflicts"] if force else []),
        ]  # fmt: skip
        self._write(argv, release, namespace, kubeconfig, timeout)

    def uninstall(self, release: str, namespace: str, kubeconfig: str, context: str, timeout: float) -> None:
        """Uninstall a release; its objects go in the foreground, those with resource-policy keep stay. An absent one is no fault.

        Helm's own wait is not used: now and then it calls an object that is going a failure.
        """
        argv = [str(self.path), "uninstall", release, "--namespace", namespace, "--kube-context", context, "--ignore-not-found"]
        argv += ["--timeout", f"{timeout:.0f}s", "--cascade", "foreground"]
        self._write(argv, release, namespace, kubeconfig, timeout)

    def _write(self, argv: list[str], release: str, namespace: str, kubeconfig: str, timeout: float) -> None:
        with _writing:
            result = process.run(argv, timeout=timeout, env=self.environment(kubeconfig), check=False, writes=True)
        if result.code:
            raise failure(result.stderr, release, namespace)


def find(say: Callable[[str], None]) -> Helm:
    """The Helm 4 that is used, fetched when there is none. Raises `PreflightError` when it cannot be had."""
    from syntho_deploy import tools

    tool = tools.find("helm", say)
    return Helm(tool.path, tool.version, tools.cache_dir() / "helm")


def at_hand() -> Helm | None:
    """The Helm 4 that is on this machine already."""
    from syntho_deploy import tools

    tool = next(one.tool for one in tools.status() if one.name == "helm")
    return Helm(tool.path, tool.version, tools.cache_dir() / "helm") if tool else None


def failure(stderr: str, release: str, namespace: str) -> DeployError:
    """The error that helm's stderr stands for."""
    text = _error_line(stderr)
    for pattern, kind, todo in FAILURES:
        if re.search(pattern, text, re.IGNORECASE):
            return kind(f"helm: release {release}: {text}", todo=todo.format(release=release, namespace=namespace))
    return NotHealthyError(f"helm: release {release}: {text}", todo=f"helm history {release} -n {namespace}")


def _error_line(stderr: str) -> str:
    """The part of helm's stderr that says what went wrong, cut at 2 kB: a failed upgrade prints whole objects."""
    lines = [line for line in stderr.splitlines() if not re.match(r"(time=|level=|W\d{4}|I\d{4}|walk\.go)", line)]
    text = "\n".join(lines).strip()
    text = text[text.find("Error:") :].removeprefix("Error:").strip() if "Error:" in text else text
    return text.removesuffix("Use --debug flag to render out invalid YAML").strip()[:2000] or "failed without a word"
