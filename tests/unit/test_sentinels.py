"""Secrets are cut out of manifests so that a container still gets exactly what the chart meant it to have."""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from syntho_deploy.documents import canonical
from syntho_deploy.errors import InputError, InputErrors
from syntho_deploy.secrets.sentinels import TOKEN, Cut, Place, cut, placeholders, pod_specs, secret_keys, sentinel
from syntho_deploy.secrets.store import PLACEHOLDER

NAMES = ["license", "core.db.password", "core_db.password", "a-b"]
PLACES = {name: Place(name) for name in NAMES}
OURS = "env-secrets"
Values = Mapping[str, str]
Secrets = Mapping[str, Mapping[str, str]]  # content by key, by the Secret's name


# --- what Kubernetes does: k8s.io/kubernetes/third_party/forked/golang/expansion, pkg/kubelet/kubelet_pods.go ----------


def expand(text: str, known: Values) -> str:
    """`$(NAME)` is replaced where it is known and left alone where not; `$$` is `$`; a `$` before anything else stays."""

    def part(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return known.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", part, text)


def kubelet(container: Mapping[str, Any], secrets: Secrets) -> tuple[dict[str, str], list[str], list[str]]:
    """The environment, command and arguments that a container is started with."""
    environment: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        environment |= secrets[source["secretRef"]["name"]]
    earlier: dict[str, str] = {}
    for entry in container.get("env") or []:
        reference = entry.get("valueFrom", {}).get("secretKeyRef")
        value = secrets[reference["name"]][reference["key"]] if reference else expand(entry.get("value") or "", earlier)
        earlier[entry["name"]] = environment[entry["name"]] = value
    command, arguments = ([expand(word, environment) for word in container.get(field) or []] for field in ("command", "args"))
    return environment, command, arguments


def created(result: Cut, values: Values) -> dict[str, dict[str, str]]:
    """The Secrets that are made for a cut, filled in."""

    def part(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        return quote(values[match[2]], safe="") if match[3] else values[match[2]]

    return {item.name: {key: PLACEHOLDER.sub(part, text) for key, text in item.data.items()} for item in result.secrets}


# --- surfaces ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Text:
    """A text of a chart with sentinels in it, and the same with marks that say how each secret must arrive."""

    chart: str
    marked: str

    def __add__(self, other: Text) -> Text:
        return Text(self.chart + other.chart, self.marked + other.marked)


def plain(text: str) -> Text:
    return Text(text, text)


def secret(name: str) -> Text:
    return Text(sentinel(name), f"\0{NAMES.index(name)}v\0")


def in_user_part(name: str) -> Text:
    return Text(sentinel(name), f"\0{NAMES.index(name)}u\0")


def arrived(marked: str, values: Values) -> str:
    def part(match: re.Match[str]) -> str:
        value = values[NAMES[int(match[1])]]
        return quote(value, safe="") if match[2] == "u" else value

    return re.sub("\0([0-9])([uv])\0", part, marked)


names = st.sampled_from(NAMES)
urls = st.builds(
    lambda scheme, user, name, host, other: (
        plain(f"{scheme}://")
        + (in_user_part(user) if user else plain("me"))
        + plain(":")
        + in_user_part(name)
        + plain(f"@{host}/db?password=")
        + secret(other)
    ),
    st.sampled_from(["postgresql+asyncpg", "redis"]),
    st.one_of(st.none(), names),
    names,
    st.sampled_from(["h", "h:5432"]),
    names,
)
words = st.sampled_from(["$", "$$", "$(", ")", "$(V0)", "$(V1)", "$(V9)", "$V0", "(", "a", " ", "%", "'", "${x}", "${secret:license}", "#", "?"]).map(
    plain
)
texts = st.lists(st.one_of(words, names.map(secret), urls), max_size=6).map(lambda parts: sum(parts, plain("")))
contents = texts.filter(lambda text: not re.search(rf"\$(?={TOKEN.pattern})", text.chart))  # refused, see below
values_of_secrets = st.fixed_dictionaries(
    {
        name: st.one_of(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), st.text("$()%{}V0 @:/?#'\"\\", min_size=1)
        )
        for name in NAMES
    }
)


@st.composite
def containers(draw: st.DrawFn) -> list[tuple[str, Text | None, str]]:
    """Entries of an environment as (name, text, kind)."""
    count = draw(st.integers(0, 4))
    return [(f"V{index}", draw(texts), draw(st.sampled_from(["value", "exact", "own", "foreign"]))) for index in range(count)]


def workload(kind: str, pods: list[dict[str, Any]]) -> dict[str, Any]:
    """An object of this kind with these pod specs in it."""
    templates = [{"spec": pod} for pod in pods]
    spec: dict[str, Callable[[], Any]] = {
        "Deployment": lambda: {"template": templates[0]},
        "CronJob": lambda: {"jobTemplate": {"spec": {"template": templates[0]}}},
        "Pod": lambda: pods[0],
        "RayCluster": lambda: {"headGroupSpec": {"template": templates[0]}, "workerGroupSpecs": [{"template": item} for item in templates[1:]]},
    }
    group = {"Deployment": "apps/v1", "CronJob": "batch/v1", "Pod": "v1", "RayCluster": "ray.io/v1alpha1"}[kind]
    return {"apiVersion": group, "kind": kind, "metadata": {"name": kind.lower()}, "spec": spec[kind]()}


def secret_object(name: str, data: Mapping[str, str], encoded: bool) -> dict[str, Any]:
    content = {key: base64.b64encode(value.encode()).decode() if encoded else value for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, ("data" if encoded else "stringData"): content}


FOREIGN = {"foreign": {"key": "from elsewhere $(V0)"}}


@settings(max_examples=150)
@given(st.data(), values_of_secrets, st.sampled_from(["Deployment", "CronJob", "Pod", "RayCluster"]), st.booleans())
def test_a_container_gets_what_the_chart_would_have_given_it(data: st.DataObject, values: Values, kind: str, encoded: bool) -> None:
    own: dict[str, Text] = {}
    whole = {"w0": data.draw(contents), "w1": data.draw(contents)}
    chart: list[dict[str, Any]] = []
    marked: list[dict[str, Any]] = []
    for number in range(data.draw(st.integers(1, 3))):
        entries: list[dict[str, Any]] = []
        wanted: list[dict[str, Any]] = []
        for name, text, how in data.draw(containers()):
            assert text is not None
            if how == "exact":
                text = secret(data.draw(names))
            if how == "own":
                key = f"k{number}{name}"
                own[key] = text
                entries.append({"name": name, "valueFrom": {"secretKeyRef": {"name": "by-env", "key": key}}})
                wanted.append(copy.deepcopy(entries[-1]))
            elif how == "foreign":
                entries.append({"name": name, "valueFrom": {"secretKeyRef": {"name": "foreign", "key": "key"}}})
                wanted.append(entries[-1])
            else:
                entries.append({"name": name, "value": text.chart})
                wanted.append({"name": name, "value": text.marked})
        command, arguments = data.draw(st.lists(texts, max_size=2)), data.draw(st.lists(texts, max_size=3))
        whole_env = [{"secretRef": {"name": "by-volume"}}] if data.draw(st.booleans()) else []
        for found, env, side in ((chart, entries, "chart"), (marked, wanted, "marked")):
            found.append(
                {
                    "name": f"c{number}",
                    "env": env,
                    "envFrom": whole_env,
                    "command": [getattr(text, side) for text in command],
                    "args": [getattr(text, side) for text in arguments],
                }
            )
    pod = {"initContainers": chart[1:], "containers": chart[:1], "volumes": [{"name": "v", "secret": {"secretName": "by-volume"}}]}
    objects = [
        workload(kind, [pod, copy.deepcopy(pod)]),
        secret_object("by-env", {key: text.chart for key, text in own.items()}, encoded),
        secret_object("by-volume", {key: text.chart for key, text in whole.items()}, encoded),
    ]
    before = canonical(objects)

    result = cut(objects, PLACES, OURS)

    assert canonical(objects) == before
    assert not TOKEN.search(canonical(result.objects))
    as_marked = {
        "by-env": {key: text.marked for key, text in own.items()},
        "by-volume": {key: text.marked for key, text in whole.items()},
        **FOREIGN,
    }
    live = {**created(result, values), **FOREIGN}
    assert live["by-volume"] == {key: arrived(text.marked, values) for key, text in whole.items()}
    pods = list(pod_specs(result.objects[0]))
    assert pods
    for found_pod in pods:
        found_containers = [*found_pod["containers"], *found_pod["initContainers"]]
        for container, wanted_container in zip(found_containers, marked, strict=True):
            environment, *lists = kubelet(container, live)
            expected, *expected_lists = kubelet(wanted_container, as_marked)
            assert {name: environment[name] for name in expected} == {name: arrived(value, values) for name, value in expected.items()}
            assert lists == [[arrived(word, values) for word in words] for words in expected_lists]
    written = before + "".join(text.chart for text in [*own.values(), *whole.values()])
    assert result.found == {name for name in NAMES if sentinel(name) in written}


@given(values_of_secrets)
@example(dict.fromkeys(NAMES, "p@ss:w/ord?#%$(V0) ü"))
def test_a_password_in_a_url_decodes_to_the_secret(values: Values) -> None:
    token = sentinel("core.db.password")
    url = f"postgresql://{sentinel('license')}:{token}@db:5432/x?key={token}"
    result = cut([workload("Pod", [{"containers": [{"env": [{"name": "URL", "value": url}]}]}])], PLACES, OURS)
    environment, _, _ = kubelet(container_of(result), created(result, values))
    before, _, query = environment["URL"].partition("?key=")
    parts = urlsplit(before)
    assert (unquote(parts.username or ""), unquote(parts.password or ""), parts.hostname, parts.port) == (
        values["license"],
        values["core.db.password"],
        "db",
        5432,
    )
    assert query == values["core.db.password"]


def container_of(result: Cut) -> dict[str, Any]:
    found: dict[str, Any] = next(pod_specs(result.objects))["containers"][0]
    return found


def test_an_exact_value_becomes_a_reference_and_text_around_it_stays_readable() -> None:
    env = [{"name": "A", "value": sentinel("license")}, {"name": "B", "value": f"x {sentinel('license')} y"}]
    result = cut([workload("Deployment", [{"containers": [{"env": env, "args": [f"--key={sentinel('a-b')}", "--more"]}]}])], PLACES, OURS)
    assert container_of(result) == {
        "env": [
            {"name": "SECRET_LICENSE", "valueFrom": {"secretKeyRef": {"name": OURS, "key": "license"}}},
            {"name": "SECRET_A_B", "valueFrom": {"secretKeyRef": {"name": OURS, "key": "a-b"}}},
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": OURS, "key": "license"}}},
            {"name": "B", "value": "x $(SECRET_LICENSE) y"},
        ],
        "args": ["--key=$(SECRET_A_B)", "--more"],
    }
    assert [(item.name, item.data) for item in result.secrets] == [(OURS, {"a-b": "${secret:a-b}", "license": "${secret:license}"})]
    assert result.found == {"a-b", "license"}


def test_a_variable_of_the_chart_is_never_shadowed() -> None:
    env = [{"name": "SECRET_LICENSE", "value": "mine"}, {"name": "B", "value": f"x{sentinel('license')}"}]
    environment, _, _ = kubelet(
        container_of(result := cut([workload("Pod", [{"containers": [{"env": env}]}])], PLACES, OURS)), created(result, {"license": "s"})
    )
    assert environment["SECRET_LICENSE"] == "mine"
    assert environment["B"] == "xs"


def test_a_secret_of_the_chart_that_only_env_reads_leaves_and_others_are_ours_to_create() -> None:
    pod = {
        "containers": [{"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "one", "key": "k"}}}]}],
        "volumes": [{"secret": {"secretName": "two"}}],
    }
    own = [secret_object(name, {"k": sentinel("license"), "plain": "text"}, True) for name in ("one", "two", "nobody")]
    result = cut([workload("Deployment", [pod]), *own], PLACES, OURS)
    assert [item.name for item in result.secrets] == [OURS, "nobody", "two"]
    assert result.secrets[2].data == {"k": "${secret:license}", "plain": "text"}


def test_type_and_keys_of_a_secret_are_kept() -> None:
    own = secret_object("tls", {"tls.key": sentinel("license"), "tls.crt": "a\nb\n"}, True) | {"type": "kubernetes.io/tls"}
    (made,) = cut([own], PLACES, OURS).secrets
    assert (made.name, made.type, made.data) == ("tls", "kubernetes.io/tls", {"tls.key": "${secret:license}", "tls.crt": "a\nb\n"})


SURFACES: dict[str, tuple[dict[str, Any], str]] = {
    "ConfigMap": (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"x/y": f"a {sentinel('license')}"}},
        "ConfigMap/c at /data/x~1y",
    ),
    "a key of it": ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {sentinel("license"): ""}}, "ConfigMap/c at /data"),
    "annotation": (
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "annotations": {"n": sentinel("license")}}},
        "Service/s at /metadata/annotations/n",
    ),
    "label": (
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "labels": {"n": sentinel("license")}}},
        "Service/s at /metadata/labels/n",
    ),
    "probe": (
        workload("Pod", [{"containers": [{"livenessProbe": {"exec": {"command": [f"x {sentinel('license')}"]}}}]}]),
        "Pod/pod at /spec/containers/0/livenessProbe/exec/command/0",
    ),
    "image": (workload("Pod", [{"containers": [{"image": sentinel("license")}]}]), "Pod/pod at /spec/containers/0/image"),
    "name of a variable": (workload("Pod", [{"containers": [{"env": [{"name": sentinel("license")}]}]}]), "Pod/pod at /spec/containers/0/env/0/name"),
}


@pytest.mark.parametrize("case", SURFACES)
def test_a_secret_in_a_readable_place_is_an_error_that_names_object_and_field(case: str) -> None:
    item, place = SURFACES[case]
    with pytest.raises(InputError) as caught:
        cut([item], PLACES, OURS)
    assert f'the secret "license" ends up in {place}' in str(caught.value)


def test_all_readable_places_come_at_once() -> None:
    with pytest.raises(InputErrors) as caught:
        cut([item for item, _ in SURFACES.values()], PLACES, OURS)
    assert all(any(place in error.what for error in caught.value.errors) for _, place in SURFACES.values())


@given(st.binary(max_size=7), st.binary(max_size=7))
def test_a_secret_in_base64_is_found_at_every_alignment(before: bytes, after: bytes) -> None:
    text = base64.b64encode(before + sentinel("license").encode() + after).decode()
    item = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "annotations": {"auth": text}}}
    with pytest.raises(InputError, match="Service/s at /metadata/annotations/auth"):
        cut([item], PLACES, OURS)


REFUSED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "encoded once more": (
        [secret_object("s", {"auth": base64.b64encode(f"me:{sentinel('license')}".encode()).decode()}, True)],
        "Secret/s at /data/auth",
    ),
    "no base64": (
        [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "not base64!"}}],
        "Secret/s of the chart has a key k",
    ),
    "no text": ([{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "/w=="}}], "not base64 of text"),
    "twice": ([secret_object("s", {"k": "1"}, True), secret_object("s", {"k": "2"}, True)], "Secret/s stands twice"),
    "with the name of ours": ([secret_object(OURS, {"k": "1"}, True)], "has the name of the environment's own Secret"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_secret_of_the_chart_that_cannot_be_made_is_an_error(case: str) -> None:
    objects, words = REFUSED[case]
    with pytest.raises(InputError, match=re.escape(words)):
        cut(objects, PLACES, OURS)


def test_two_secrets_cannot_share_a_key() -> None:
    env = [{"name": "A", "value": f"http://me:{sentinel('a')}@h"}, {"name": "B", "value": sentinel("a.url")}]
    with pytest.raises(InputError, match=r'two secrets would be kept as "a\.url"'):
        cut([workload("Pod", [{"containers": [{"env": env}]}])], {name: Place(name) for name in ("a", "a.url")}, OURS)
    env = [{"name": "A", "value": sentinel("a")}, {"name": "B", "value": sentinel("a.2")}]
    with pytest.raises(InputError, match=r'two secrets would be kept as "a\.2"'):
        cut([workload("Pod", [{"containers": [{"env": env}]}])], {"a": Place("a.2", generation=2), "a.2": Place("a.2")}, OURS)


def test_base64_with_line_ends_is_base64() -> None:
    text = base64.b64encode(sentinel("license").encode()).decode()
    item = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": f"{text[:10]}\n{text[10:]}\n"}}
    assert cut([item], PLACES, OURS).secrets[0].data == {"k": "${secret:license}"}


def test_what_surfaces_nowhere_is_not_found() -> None:
    assert cut([workload("Pod", [{"containers": [{"env": [{"name": "A", "value": "x"}]}]}])], PLACES, OURS) == Cut(
        [workload("Pod", [{"containers": [{"env": [{"name": "A", "value": "x"}]}]}])], (), frozenset()
    )


def test_people_see_names_in_the_place_of_tokens() -> None:
    assert placeholders({"a": [f"x{sentinel('license')}", 1]}, NAMES) == {"a": ["x${secret:license}", 1]}


@given(st.text())
def test_a_token_is_the_same_for_a_name_and_only_letters_and_digits(name: str) -> None:
    assert TOKEN.fullmatch(sentinel(name))
    assert sentinel(name) == sentinel(name)
    assert sentinel(name) != sentinel(name + "x")


def test_every_reference_to_a_secret_is_seen() -> None:
    pod = {
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [
            {"env": [{"valueFrom": {"secretKeyRef": {"name": "env", "key": "k", "optional": True}}}], "envFrom": [{"secretRef": {"name": "from"}}]}
        ],
        "volumes": [{"secret": {"secretName": "volume"}}, {"projected": {"sources": [{"secret": {"name": "projected"}}]}}],
    }
    ingress = {"spec": {"tls": [{"secretName": "tls"}]}}
    assert set(secret_keys([pod, ingress])) == {
        ("pull", None, False),
        ("env", "k", True),
        ("from", None, False),
        ("volume", None, False),
        ("projected", None, False),
        ("tls", None, True),
    }


def test_a_dollar_before_a_secret_in_a_secret_of_the_chart_stays() -> None:
    own = secret_object("s", {"k": f"a${sentinel('license')}$$b"}, True)
    result = cut([own], PLACES, OURS)
    assert created(result, {"license": "L"})["s"]["k"] == "a$L$$b"


def test_a_secret_that_is_there_already_is_referred_to_in_place() -> None:
    places = {**PLACES, "license": Place("key", "theirs")}
    url = f"http://u:{sentinel('license')}@h/"
    result = cut(
        [workload("Pod", [{"containers": [{"env": [{"name": "A", "value": sentinel("license")}, {"name": "U", "value": url}]}]}])], places, OURS
    )
    found = {entry["name"]: entry for entry in container_of(result)["env"]}
    assert found["A"]["valueFrom"]["secretKeyRef"] == {"name": "theirs", "key": "key"}
    (made,) = result.secrets
    ((key, content),) = made.data.items()
    assert re.fullmatch(r"license\.[0-9a-f]{8}\.url", key)
    assert (made.name, content) == (OURS, "${secret:license|url}")
    other = cut([workload("Pod", [{"containers": [{"args": [url]}]}])], {**PLACES, "license": Place("key", "theirs-2")}, OURS)
    assert set(other.secrets[0].data) != {key}


def test_a_new_generation_is_a_new_key() -> None:
    result = cut(
        [workload("Pod", [{"containers": [{"env": [{"name": "A", "value": sentinel("license")}]}]}])], {**PLACES, "license": Place("license.2")}, OURS
    )
    assert [item.data for item in result.secrets] == [{"license.2": "${secret:license}"}]


@pytest.mark.parametrize(
    "pod",
    [
        {"containers": [{"envFrom": [{"secretRef": {"name": "own"}}]}]},
        {"containers": [{}], "volumes": [{"name": "v", "secret": {"secretName": "own"}}]},
        {"containers": [{}], "volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "own"}}]}}]},
        {"containers": [{}], "imagePullSecrets": [{"name": "own"}]},
    ],
)
def test_a_secret_of_the_chart_has_another_name_for_each_later_generation(pod: dict[str, Any]) -> None:
    def names(**generations: int) -> str:
        places = {**PLACES, **{name: Place(f"{name}.{number}", generation=number) for name, number in generations.items()}}
        own = secret_object("own", {"k": sentinel("license"), "l": sentinel("a-b")}, True)
        result = cut([own, workload("Pod", [copy.deepcopy(pod)])], places, OURS)
        (made,) = result.secrets
        assert {name for name, _, _ in secret_keys(result.objects)} == {made.name}
        assert made.data == {"k": "${secret:license}", "l": "${secret:a-b}"}
        return made.name

    assert names() == "own"
    other = [names(license=2), names(license=3), names(**{"a-b": 2}), names(**{"license": 2, "a-b": 2})]
    assert len({*other, "own"}) == 5
    assert names(license=2) == other[0]
