"""From an environment to compiled charts: values, render, patched manifests, secrets cut out, frozen.

A compiled chart is static: its templates include the manifests as they are, so what is planned, exported and deployed are
the same bytes, and installing it is no second render.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from syntho_deploy import documents
from syntho_deploy.documents import Json
from syntho_deploy.environment import Environment, Release, Roles, load_environment, load_roles
from syntho_deploy.errors import DeployError, InputError, Mark, nearest, noting, raise_all, together
from syntho_deploy.helm import Helm, api_versions, at_hand, crds, flatten, has_subcharts
from syntho_deploy.overlays import pointer
from syntho_deploy.overlays.layers import Layer, layers
from syntho_deploy.overlays.manifests import Manifest, Manifests, check_files, is_custom, is_object
from syntho_deploy.overlays.origins import Layers
from syntho_deploy.overlays.patch import apply, load_manifest_patches, load_values_patch
from syntho_deploy.overlays.references import References
from syntho_deploy.overlays.unread import unread
from syntho_deploy.overlays.variables import substitute
from syntho_deploy.secrets.sentinels import TOKEN, Place, SecretObject, cut, is_secret, label, placeholders, sentinel
from syntho_deploy.shapes import misshapen
from syntho_deploy.vendor import Pin, Vendored, load_pin, vendored

KEEP = "helm.sh/resource-policy"
HOOK = "helm.sh/hook"
RETENTION = "persistentVolumeClaimRetentionPolicy"  # of a StatefulSet: what its controller does with its volumes
CLUSTER_SCOPED = frozenset(
    [
        "APIService",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "IngressClass",
        "MutatingWebhookConfiguration",
        "Namespace",
        "Node",
        "PersistentVolume",
        "PriorityClass",
        "RuntimeClass",
        "StorageClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
        "VolumeAttachment",
        "CSIDriver",
        "CSINode",
    ]
)
INSTALL_ORDER = {
    kind: place
    for place, kind in enumerate(
        [
            "Namespace",
            "NetworkPolicy",
            "ResourceQuota",
            "LimitRange",
            "PodDisruptionBudget",
            "ServiceAccount",
            "Secret",
            "ConfigMap",
            "StorageClass",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "ClusterRole",
            "ClusterRoleBinding",
            "Role",
            "RoleBinding",
            "Service",
            "DaemonSet",
            "Pod",
            "Deployment",
            "StatefulSet",
            "Job",
            "CronJob",
            "Ingress",
        ]
    )
}


class CompiledChart(NamedTuple):
    """One chart, frozen. manifests: file name to object; texts: file name to its YAML; digest: sha256 over the sorted names and texts."""

    release: Release
    namespace: str
    name: str
    version: str
    app_version: str
    manifests: dict[str, dict[str, Json]]
    texts: dict[str, str]
    digest: str
    values: Json
    provenance: dict[str, Json]
    hooks: tuple[str, ...]
    crds: tuple[Path, ...]

    @property
    def objects(self) -> list[dict[str, Json]]:
        """The manifests in the order in which they can be created."""
        return [self.manifests[name] for name in self._order]

    @property
    def stream(self) -> str:
        """The manifests as one stream of YAML, in that order."""
        return "".join(f"---\n{self.texts[name]}" for name in self._order)

    @property
    def _order(self) -> list[str]:
        def place(name: str) -> tuple[int, str, str]:
            item = self.manifests[name]
            return INSTALL_ORDER.get(item["kind"], 99), item["kind"], item["metadata"]["name"]

        return sorted(self.manifests, key=place)

    @property
    def files(self) -> dict[str, str]:
        """The static chart's files, by path."""
        chart = {"apiVersion": "v2", "name": self.name, "version": self.version, "type": "application"}
        chart["description"] = f"Compiled by syntho-deploy for release {self.release.name} in namespace {self.namespace}; not to be edited"
        if self.app_version:
            chart["appVersion"] = self.app_version
        guard = "".join(
            f'{{{{- if ne .Release.{field} "{value}" }}}}{{{{ fail "compiled for the {word} {value}" }}}}{{{{ end }}}}\n'
            for field, value, word in (("Name", self.release.name, "release"), ("Namespace", self.namespace, "namespace"))
        )
        include = '{{- range $path, $_ := .Files.Glob "manifests/*.yaml" }}\n---\n{{ $.Files.Get $path }}\n{{- end }}\n'
        return {
            "Chart.yaml": documents.dump(chart),
            "values.yaml": documents.dump(self.values),
            "provenance.yaml": documents.dump(self.provenance),
            "templates/manifests.yaml": guard + include,
            **{f"manifests/{name}": text for name, text in self.texts.items()},
        }

    def write(self, folder: Path) -> Path:
        """Write the static chart as `folder`, replacing what an earlier compile left there."""
        if not (folder / "provenance.yaml").is_file() and folder.is_dir() and any(folder.iterdir()):
            raise InputError("this folder holds something else than a compiled chart", folder, "remove it, or choose another")
        files = self.files
        for old in [path for path in folder.rglob("*") if path.is_file()]:
            if str(old.relative_to(folder)) not in files:
                old.unlink()
        for name, content in files.items():
            documents.write(folder / name, content)
        return folder


class Compiled(NamedTuple):
    """An environment, compiled: its charts by name, and the Secrets that they refer to."""

    environment: Environment
    roles: Roles
    pin: Pin
    charts: dict[str, CompiledChart]
    secrets: tuple[SecretObject, ...]
    secret: str  # the name of the Secret that is made for the environment
    public: dict[str, frozenset[str]]  # secret to the charts' own values in its places, known to all
    past: bool = False  # made of a record: the environment may name secrets that this state had no use for

    @property
    def objects(self) -> list[dict[str, Json]]:
        """The objects of all charts."""
        return [item for chart in self.charts.values() for item in chart.objects]


@dataclass
class Project:
    """An environment with everything that its compile reads, each file once.

    Whatever finds a fault raises it together with every other that does not follow from it, of all layers and charts.
    """

    environment: Environment
    pin: Pin
    vendored: Vendored
    roles: Roles
    layers: list[Layer]
    secret_marks: dict[str, Mark] = field(default_factory=dict)
    origins: dict[str, Layers] = field(default_factory=dict)  # of each chart's values
    manifests: dict[str, Manifests] = field(default_factory=dict)  # of each chart, patched, before secrets are cut out
    hooks: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of each chart, left out
    operations: dict[str, list[dict[str, Json]]] = field(default_factory=dict)  # plain RFC 6902, of each chart
    reached: dict[str, Any] = field(default_factory=dict)  # what `explain.reaches` found, of each chart
    _compiled: Compiled | None = None
    _values: dict[str, Json] = field(default_factory=dict)
    _values_errors: dict[str, list[InputError]] = field(default_factory=dict)  # of each chart
    _looked_up: set[str] = field(default_factory=set)  # variables
    _open: list[str] = field(default_factory=list)
    _one: threading.RLock = field(default_factory=threading.RLock)  # what lint compiles may be another environment's neighbour
    _sound: bool = False  # there is no fault in the values, nor a file that nothing reads

    @classmethod
    def load(cls, root: Path, name: str, checked: dict[Path, Vendored] | None = None) -> Project:
        """Read environment, pin, roles and layers, and check the vendored charts. Raises `InputError`.

        checked: the charts that this run has checked already, by pin file; added to.
        """
        errors: list[InputError] = []
        found: list[Layer] = []
        environment = load_environment(root, name, errors)
        try:
            pin = load_pin(root, environment.pin_file)
            found = layers(environment, pin.overlays, errors)
            roles = load_roles(root, pin.overlays, environment)
            raise_all(_release_faults(environment, pin, roles))
            charts = _charts(root, pin, checked)
        except InputError as error:  # what a file of a layer means needs what is missing now, but not what it looks like
            raise together([*errors, error, *(fault for layer in found for fault in _read_alone(layer, pin.charts))]) from None
        except DeployError:
            raise_all(errors)
            raise
        project = cls(environment, pin, charts, roles, found)
        if errors:
            project._refuse(errors)
        return project

    def _refuse(self, errors: list[InputError]) -> NoReturn:
        """Raise these faults and every other that can be told without them mended, of both charts and all files."""
        errors = list(errors)
        errors += unread(self.environment, self.pin.overlays, self.pin.charts, self.layers)
        for chart in self.pin.charts:
            with noting(errors):
                self._chart_values(chart)
            errors += self._values_errors.get(chart, [])
        self._objects(at_hand(), errors)
        raise together([*errors, *self._idle_names()])

    def _idle_names(self) -> list[InputError]:
        """The variables and secrets of the environment that no file of its layers names; none as long as files or layers are missing."""
        environment = self.environment
        try:
            used = References.of(self.layers, self.pin.charts, self.roles)
        except InputError:
            return []
        if len(self.layers) < len(environment.components):
            return []
        return [
            *(self._unused("variable", name, environment.marks[f"vars.{name}"]) for name in environment.vars if name not in used.vars),
            *(self._unused("secret", name, spec.mark) for name, spec in environment.secrets.items() if spec.named and name not in used.secrets),
        ]

    def _unused(self, kind: str, name: str, mark: Mark) -> InputError:
        reference = f"secret:{name}" if kind == "secret" else name
        return InputError(f'nothing uses the {kind} "{name}"', mark, f"put ${{{reference}}} into an overlay, or remove it here")

    def lookup(self, name: str, where: Mark) -> Json:
        """The value of a variable. Raises `InputError` for an unknown one, with the nearest."""
        if name.startswith("secret:"):
            return self._secret(name.removeprefix("secret:"), where)
        if name in self.environment.vars:
            self._looked_up.add(name)
            return self.environment.vars[name]
        builtin = {"env": self.environment.name, "namespace": self.environment.target.namespace}
        builtin |= {f"release.{release.key}": release.name for release in self.roles.releases}
        if name in builtin:
            return builtin[name]
        if name.startswith("role:") and name.removeprefix("role:") in self.roles.values:
            return self._role(name.removeprefix("role:"), where)
        if name in self.roles.derived:
            mark = self.roles.marks.get(f"derived.{name}", where)
            if name in self._open:
                raise InputError(f'the variable "{name}" is made of itself', mark)
            self._open.append(name)
            try:
                return substitute(self.roles.derived[name], self.lookup, mark)
            finally:
                self._open.remove(name)
        known = [*builtin, *self.environment.vars, *self.roles.derived]
        todo = f"set it under vars in {self.environment.file.name}; known: {', '.join(sorted(known))}"
        raise InputError(f'there is no variable "{name}"{nearest(name, known)}', where, todo)

    def _secret(self, name: str, where: Mark) -> str:
        spec = self.environment.secrets.get(name)
        if spec is None:
            known = list(self.environment.secrets)
            todo = f"declare it under secrets in {self.environment.file.name}, with a source"
            raise InputError(f'there is no secret "{name}"{nearest(name, known)}', where, todo)
        if not spec.named:
            what, becomes = ("registry credentials", "pull secret") if spec.server else ("a certificate", "TLS Secret")
            raise InputError(f'the secret "{name}" holds {what}, which is no value', where, f"it becomes a {becomes} by itself")
        self.secret_marks.setdefault(name, where)
        return sentinel(name)

    def _role(self, name: str, where: Mark) -> Json:
        chart, path = self.roles.values[name]
        if chart in self._open:
            raise InputError(f'this needs the value "{name}" of the chart {chart}, whose values are being made', where, "write the value out here")
        here = self._chart_values(chart)
        mark = self.roles.marks.get(f"values.{name}", where)
        try:
            keys, _ = pointer.compile_pointer(here, path)
        except pointer.PointerError as error:
            raise InputError(f'the role "{name}": {error}', mark, error.todo) from None
        for key in keys:
            here = here[key]
        return here

    def _chart_values(self, chart: str) -> Json:
        if chart not in self._values:
            values = self.defaults(chart)
            self._open.append(chart)
            claimed = self.origins[chart] = Layers()
            plain = self.operations[chart] = []
            errors = self._values_errors[chart] = []
            for layer in self.layers:
                file = layer.values(chart)
                if file:
                    with noting(errors):
                        operations = load_values_patch(file, errors)
                        values, done = apply(values, operations, self.lookup, layer.name, claimed, errors, values=True)
                        plain += done
            self._open.remove(chart)
            if not isinstance(values, dict):
                mark = claimed.origin(())[-1].mark if claimed.origin(()) else self.vendored.charts[chart] / "values.yaml"
                errors.append(InputError(f"the values of the chart {chart} must be a mapping", mark, "give each of them by its own path"))
                values = self.defaults(chart)
            self._values[chart] = values
        return self._values[chart]

    def defaults(self, chart: str) -> Json:
        """A chart's own values, shared with other environments of the same charts: not to be changed."""
        return self._file(chart, "values.yaml")

    def _file(self, chart: str, name: str) -> Json:
        return _parsed(self.vendored.charts[chart] / name, self.vendored.lock.charts[chart].sha256)

    def values(self) -> dict[str, Json]:
        """The values of each chart, with sentinels. Raises every fault of every overlay at once."""
        found = {chart: self._chart_values(chart) for chart in self.pin.charts}
        if not self._sound:
            if any(self._values_errors.values()) or unread(self.environment, self.pin.overlays, self.pin.charts, self.layers):
                self._refuse([])
            self._sound = True
        return found

    def shown_values(self) -> dict[str, Json]:
        """The values of each chart with `${secret:name}` where a secret belongs."""
        return {chart: placeholders(values, self.environment.secrets) for chart, values in self.values().items()}

    def shown_operations(self) -> dict[str, Json]:
        """The plain operations that lead from each chart's own values to `shown_values`, as any RFC 6902 library applies them."""
        self.values()
        return {chart: placeholders(plain, self.environment.secrets) for chart, plain in self.operations.items()}

    def with_generation(self, name: str, generation: int) -> Project:
        """The same project with another generation of a secret; its values and renders are not made anew."""
        environment = self.environment
        secrets = {**environment.secrets, name: environment.secrets[name]._replace(generation=generation)}
        return replace(self, environment=environment._replace(secrets=secrets), manifests={}, _compiled=None)

    def render(self, helm: Helm) -> dict[str, str]:
        """What helm prints for each chart, with sentinels. The charts are rendered side by side.

        A render is a function of the chart, the values, release, namespace, version and helm, so it is kept in `.cache/renders`
        by their digest: a deploy with nothing to do starts no helm.
        """
        self.values()
        errors: list[InputError] = []
        rendered = self._renders(helm, errors)
        raise_all(errors)
        return rendered

    def _renders(self, helm: Helm, errors: list[InputError]) -> dict[str, str]:
        """Those of the charts that render. Faults go to `errors`, but for those of values that are known to be wrong."""
        with ThreadPoolExecutor(len(self.pin.charts)) as pool:
            started = {chart: pool.submit(self._render, helm, chart, self._values[chart]) for chart in self.pin.charts if chart in self._values}
        rendered = {}
        for chart, render in started.items():
            with noting([] if self._values_errors[chart] else errors):
                rendered[chart] = render.result()
        return rendered

    def render_defaults(self, helm: Helm) -> dict[str, str]:
        """What helm prints for each chart with the chart's own values, for this environment's releases and namespace."""
        return {name: self._render(helm, name, self.defaults(name)) for name in self.vendored.charts}

    def _render(self, helm: Helm, chart: str, values: Json) -> str:
        folder, release, target = self.vendored.charts[chart], self.roles.release_of(chart).name, self.environment.target
        known = (helm.version, self.vendored.lock.charts[chart].sha256, documents.canonical(values))
        parts = (*known, release, target.namespace, target.kubernetes, *api_versions(target.kubernetes))
        return self._kept("renders", parts, lambda: helm.template(folder, values, release, target.namespace, target.kubernetes))

    def lint(self, helm: Helm) -> dict[str, str]:
        """What `helm lint` says of each chart with the environment's values; kept in `.cache/lint` as renders are."""
        lint_together([self], helm)
        return {chart: file.read_text(encoding="utf-8") for chart, file in self.lint_files(helm).items()}

    def lint_files(self, helm: Helm) -> dict[str, Path]:
        """Where that is kept, of each chart."""
        known, folder = (helm.version, self.environment.target.kubernetes), self.environment.root / ".cache" / "lint"
        locks = self.vendored.lock.charts
        return {
            chart: folder / documents.sha256(*known, locks[chart].sha256, documents.canonical(values))[:32] for chart, values in self.values().items()
        }

    def _kept(self, kind: str, parts: tuple[str, ...], make: Callable[[], str]) -> str:
        """A text from `.cache/<kind>`, where it is known by the digest of all that it depends on."""
        cached = self.environment.root / ".cache" / kind / documents.sha256(*parts)[:32]
        if cached.is_file():
            return cached.read_text(encoding="utf-8")
        text = make()
        documents.write(cached, text)
        return text

    def compile(self, helm: Helm) -> Compiled:
        """The compiled charts, made once. Raises `InputError` for whatever an overlay, a chart or a secret's place makes impossible."""
        with self._one:
            return self._compiled or self._compile(helm)

    def _compile(self, helm: Helm) -> Compiled:
        self.values()
        errors: list[InputError] = []
        objects = self._objects(helm, errors)
        with noting(errors):
            raise_all(errors)  # a patch that has a fault may be what takes a secret out of a wrong place
            whole = cut([item for items in objects.values() for item in items], self._places(), self._secret_object_name())
        if errors:
            raise together([*errors, *self._idle_names()])
        self._refuse_unused(whole.found)
        remaining = iter(whole.objects)
        charts = {}
        for chart, items in objects.items():
            count = sum(not is_secret(item) for item in items)
            charts[chart] = self._freeze(chart, [next(remaining) for _ in range(count)])
        _refuse_twins(charts)
        self._compiled = Compiled(self.environment, self.roles, self.pin, charts, whole.secrets, self._secret_object_name(), self._public())
        return self._compiled

    def _objects(self, helm: Helm | None, errors: list[InputError]) -> dict[str, list[dict[str, Json]]]:
        """The objects of each chart as the layers leave them. Faults go to `errors`, and a chart that has one of its own is left out.

        helm: None where there is none yet. Then, and for a chart that does not render, the layers' files are checked alone.
        """
        rendered = self._renders(helm, errors) if helm else {}
        objects: dict[str, list[dict[str, Json]]] = {}
        for chart in self.pin.charts:
            if chart not in rendered:
                check_files(self.layers, chart, self.lookup, errors)
                continue
            with noting(errors):
                found = self._rendered_objects(chart, rendered[chart])
                self.hooks[chart] = tuple(sorted(label(item) for item in found if _hook(item)))
                items = [Manifest(item, item) for item in found if not _hook(item)]
                manifests = self.manifests[chart] = Manifests(
                    chart, self.environment.name, self.lookup, items, errors, bool(self._values_errors[chart])
                )
                manifests.apply(self.layers)
                errors += [fault for manifest in manifests.kept for fault in misshapen(manifest)]
                objects[chart] = [manifest.item for manifest in manifests.kept]
        return objects

    def _rendered_objects(self, chart: str, text: str) -> list[dict[str, Json]]:
        try:
            found = documents.load_manifests(text)
        except ValueError as error:
            raise InputError(f"the chart {chart} renders to something that is not YAML objects: {error}") from None
        found = [part for item in found for part in _parts(item)]
        for item in found:
            if not is_object(item):
                raise self._no_object(chart, item)
        return found

    def _no_object(self, chart: str, item: Json) -> InputError:
        """The error for a rendered object without what each has. Where its name is a number, the operation that set it is named."""
        metadata = item.get("metadata") if isinstance(item, dict) else None
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if not isinstance(name, bool | int | float):
            return InputError(f"the chart {chart} renders an object without apiVersion, kind or metadata.name: {str(item)[:200]}")
        bare = (
            (keys, documents.read_by_helm(str(value))) for keys, value in documents.walk(self._values[chart]) if isinstance(value, str | int | float)
        )
        same = (self.origins[chart].origin(keys) for keys, value in bare if type(value) is type(name) and value == name)
        mark = next((setters[-1].mark for setters in same if setters), None)
        what = f"the chart {chart} renders a {item.get('kind')} with the name {documents.canonical(name)}, which is no text"
        return InputError(what, mark, "the chart prints it without quotes: write a name that begins with a letter")

    def _named_secrets(self) -> list[str]:
        return [name for name, spec in self.environment.secrets.items() if spec.named]

    def _public(self) -> dict[str, frozenset[str]]:
        """The values that the charts themselves have where the overlays put secrets."""
        found: dict[str, set[str]] = {}
        for chart, values in self.values().items():
            for keys, value in documents.walk(values):
                for token in TOKEN.findall(value) if isinstance(value, str) else ():
                    name = next((name for name in self.secret_marks if sentinel(name) == token), "")
                    found.setdefault(name, set()).update(_default(self.defaults(chart), keys))
        return {name: frozenset(texts) for name, texts in found.items()}

    def _places(self) -> dict[str, Place]:
        specs = {name: self.environment.secrets[name] for name in self._named_secrets()}
        return {
            name: Place(spec.kubernetes[1], spec.kubernetes[0]) if spec.kubernetes else Place(spec.key, generation=spec.generation)
            for name, spec in specs.items()
        }

    def _secret_object_name(self) -> str:
        return str(substitute(self.roles.secret, self.lookup, self.roles.marks["secret"]))

    def _refuse_unused(self, found: frozenset[str]) -> None:
        """Refuse variables and secrets that nothing uses. found: the secrets that arrive in a manifest."""
        environment = self.environment
        errors = [self._unused("variable", name, environment.marks[f"vars.{name}"]) for name in environment.vars if name not in self._looked_up]
        for name in self._named_secrets():
            if name not in self.secret_marks:
                errors.append(self._unused("secret", name, environment.secrets[name].mark))
            elif name not in found:
                mark = self.secret_marks[name]
                errors.append(
                    InputError(f'the secret "{name}" reaches no manifest: the chart does not read this value', mark, "remove the operation")
                )
        raise_all(errors)

    def _freeze(self, chart: str, items: list[dict[str, Json]]) -> CompiledChart:
        target, release = self.environment.target, self.roles.release_of(chart)
        manifests: dict[str, dict[str, Json]] = {}
        for item in items:
            item = _settled(item, target.namespace)
            name = f"{item['kind'].lower()}-{item['metadata']['name'].replace(':', '_')}"
            if f"{name}.yaml" in manifests:
                name = f"{name}.{item['apiVersion'].split('/')[0]}.{item['metadata'].get('namespace', '')}"
            if f"{name}.yaml" in manifests:
                raise InputError(f"the chart {chart} renders twice: {label(item)}")
            manifests[f"{name}.yaml"] = item
        manifests = dict(sorted(manifests.items()))
        texts = {name: documents.dump(item) for name, item in manifests.items()}
        digest = documents.sha256(*(part for one in texts.items() for part in one))
        folder, lock = self.vendored.charts[chart], self.vendored.lock
        described = self._file(chart, "Chart.yaml")
        version = str(described["version"])
        return CompiledChart(
            release, target.namespace, str(described["name"]),
            f"{version}{'.' if '+' in version else '+'}{lock.commit[:12]}.{digest[:12]}", str(described.get("appVersion") or ""),
            manifests, texts, digest, self.shown_values()[chart], self._provenance(chart, digest), self.hooks[chart],
            _crds(folder, lock.charts[chart].sha256),
        )  # fmt: skip

    def _provenance(self, chart: str, digest: str) -> dict[str, Json]:
        lock = self.vendored.lock
        files = [file for layer in self.layers for file in (layer.values(chart), layer.manifests(chart), *layer.objects(chart)) if file]
        return {
            "environment": self.environment.name,
            "chart": {"source": lock.source, "commit": lock.commit, "path": lock.charts[chart].path, "tree": lock.charts[chart].tree},
            "layers": [layer.name for layer in self.layers],
            "overlays": documents.sha256(*(part for file in files for part in (file.name, file.read_bytes()))),
            "digest": digest,
        }


def _release_faults(environment: Environment, pin: Pin, roles: Roles) -> list[InputError]:
    """Charts without a release, releases without a chart, and variables that have the name of a derived one."""
    charts = {release.chart for release in roles.releases}
    releases = roles.marks.get("releases", roles.file)
    errors = [
        InputError(f'no release is of the chart "{chart}"', releases, f"name it under releases in {roles.file.name}")
        for chart in pin.charts if chart not in charts
    ]  # fmt: skip
    errors += [
        InputError(f'the release "{one.key}" is of the chart "{one.chart}", which the pin does not have', roles.file)
        for one in roles.releases if one.chart not in pin.charts
    ]  # fmt: skip
    reserved = {"env", "namespace", *roles.derived, *(f"release.{release.key}" for release in roles.releases)}
    errors += [
        InputError(f'the variable "{name}" is a derived one and cannot be set', environment.marks[f"vars.{name}"], "use another name")
        for name in environment.vars if name in reserved
    ]  # fmt: skip
    return errors


def _read_alone(layer: Layer, charts: Iterable[str]) -> list[InputError]:
    """The faults that the files of a layer have in themselves."""
    errors: list[InputError] = []
    for chart in charts:
        values, manifests = layer.values(chart), layer.manifests(chart)
        with noting(errors):
            load_values_patch(values, errors) if values else None
        with noting(errors):
            load_manifest_patches(manifests, errors) if manifests else None
        for file in layer.objects(chart):
            with noting(errors):
                documents.load(file)
    return errors


def _charts(root: Path, pin: Pin, checked: dict[Path, Vendored] | None) -> Vendored:
    """The charts of a pin. checked: those that this run has checked already, by pin file; added to."""
    known = checked.get(pin.path) if checked else None
    found = known or _flattened(root, vendored(root, pin))
    if checked is not None:
        checked[pin.path] = found
    return found


def lint_together(projects: Iterable[Project], helm: Helm) -> None:
    """Have helm lint the charts of several environments, those of one Kubernetes version in one run: starting helm takes longer than the rest.

    Raises the faults of a project's values. `Project.lint` then reads what was said.
    """
    for kubernetes, group in groupby(sorted(projects, key=_kubernetes), key=_kubernetes):
        places = {file: (project, chart) for project in group for chart, file in project.lint_files(helm).items() if not file.is_file()}
        charts = [(project.vendored.charts[chart], project.values()[chart]) for project, chart in places.values()]
        for file, said in zip(places, helm.lint(charts, kubernetes) if charts else [], strict=True):
            documents.write(file, said)


def _kubernetes(project: Project) -> str:
    return project.environment.target.kubernetes


def _flattened(root: Path, found: Vendored) -> Vendored:
    """The vendored charts, with one that has subcharts replaced by its flat copy, kept in `.cache/charts` by the digest of the original."""
    charts = dict(found.charts)
    for name, folder in found.charts.items():
        if not has_subcharts(folder):
            continue
        home = root / ".cache" / "charts" / found.lock.charts[name].sha256[:32]
        if not home.is_dir():
            home.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=home.parent, prefix=".making-") as made:
                flatten(folder, Path(made) / "it" / name)
                try:
                    (Path(made) / "it").rename(home)
                except OSError:
                    if not home.is_dir():  # else another run was faster
                        raise
        charts[name] = home / name
    return found._replace(charts=charts)


@lru_cache(maxsize=32)
def _parsed(file: Path, sha256: str) -> Json:
    """A chart's file. sha256: of the whole chart, as it was checked."""
    return documents.load_chart(file)


@lru_cache(maxsize=32)
def _crds(chart: Path, sha256: str) -> tuple[Path, ...]:
    """The CRD files of a chart and of its subcharts, one of each content. sha256: of the whole chart, as it was checked."""
    return tuple({documents.sha256(path.read_bytes()): path for path in reversed(list(crds(chart)))}.values())[::-1]


def _refuse_twins(charts: dict[str, CompiledChart]) -> None:
    """Helm would install one of two equal objects over the other, or refuse the second chart's in the middle of a deploy."""
    seen: dict[tuple[str, ...], str] = {}
    for chart, item in ((chart, item) for chart, found in charts.items() for item in found.manifests.values()):
        metadata = item["metadata"]
        identity = (item["apiVersion"].rpartition("/")[0], item["kind"], metadata.get("namespace", ""), metadata["name"])
        if identity in seen:
            what = f"the charts {seen[identity]} and {chart} both render" if seen[identity] != chart else f"the chart {chart} renders twice"
            raise InputError(f"{what}: {label(item)}", todo="rename or delete one by a manifest patch")
        seen[identity] = chart


def _default(defaults: Json, keys: documents.Keys) -> list[str]:
    for key in keys:
        try:
            defaults = defaults[key]
        except (KeyError, IndexError, TypeError):
            return []
    return [defaults] if isinstance(defaults, str) and defaults else []


def _parts(item: dict[str, Json]) -> list[Json]:
    """The objects in what a chart renders: itself, or those of a List."""
    parts = item.get("items") or [] if item.get("kind") == "List" else [item]
    return parts if isinstance(parts, list) else [parts]


def _hook(item: dict[str, Any]) -> bool:
    annotations = item["metadata"].get("annotations")
    return isinstance(annotations, dict) and HOOK in annotations


def _settled(item: dict[str, Any], namespace: str) -> dict[str, Any]:
    """An object as it is deployed: in its namespace, without what only the server writes, nulls out of custom resources,
    and volumes kept: a claim when it leaves the release (helm deletes it otherwise), those of a StatefulSet when that goes or shrinks."""
    item = {key: value for key, value in item.items() if key != "status"}
    metadata = item["metadata"] = {key: value for key, value in item["metadata"].items() if not (key == "creationTimestamp" and value is None)}
    if item["kind"] not in CLUSTER_SCOPED:
        metadata.setdefault("namespace", namespace)
    if item["kind"] == "PersistentVolumeClaim":
        metadata["annotations"] = {**(metadata.get("annotations") or {}), KEEP: "keep"}
    if item["kind"] == "StatefulSet" and (policy := (item.get("spec") or {}).get(RETENTION)):
        item["spec"] = {**item["spec"], RETENTION: dict.fromkeys(policy, "Retain")}
    return _without_nulls(item) if is_custom(item) else item


def _without_nulls(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value if item is not None]
    return value
