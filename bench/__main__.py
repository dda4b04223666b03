"""What a person waits for, beside bare helm and kubectl brought to the same state: `nox -s bench [-- --runs=N]`.

Two sides are measured in turns, A B A B, after one run of each that does not count, and their medians are compared: whatever
else the machine does hits both. All of it happens in a copy of the project and on a cluster of its own, which is kwok's even
where Docker runs: no image is pulled, so nothing but the tools' own time counts.
"""

from __future__ import annotations

import argparse
import base64
import functools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syntho_deploy import tools
from syntho_deploy.cluster import local
from syntho_deploy.documents import load, load_chart, walk
from syntho_deploy.overlays import pointer

ROOT = Path(__file__).resolve().parent.parent
CLUSTER = "bench"
COPIED = ("tasks.py", "syntho_deploy", "envs", "overlays", "vendor", "sandbox", "tools")
RELEASES = {"ray": "ray-cluster", "syntho-ui": "syntho-ui"}
FIFTY = 50
TOGETHER = 10
REST = 5.0  # seconds that a new cluster is left alone
UPGRADED = "syntho-ui"
CRDS = ("rayclusters.ray.io", "rayjobs.ray.io", "rayservices.ray.io")
# RUSAGE_SELF: the process alone, without the helm that it starts
PEAK = """
import resource, sys
from invoke.main import program
path = sys.argv.pop(1)
try:
    program.run()
finally:
    with open(path, "w") as file:
        file.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""

# what `plan` and `deploy` add to a compile, without the start of Python
DEAD = """
import time
from pathlib import Path
from syntho_deploy import explain, helm
from syntho_deploy.compile import Project
project, binary = Project.load(Path.cwd(), "sixty"), helm.find(print)
project.values()
began = time.perf_counter()
explain.dead(project, binary)
print(time.perf_counter() - began)
"""

Action = Callable[[], None]


@dataclass(frozen=True)
class Row:
    """One line of the table. goal: a text, and whether it is met."""

    what: str
    ours: str
    theirs: str
    ratio: str
    goal: str
    met: bool


@dataclass
class Bench:
    """A copy of the project with the environment `bench`, and the cluster that it names."""

    root: Path
    cluster: local.Cluster
    runs: int
    helm: Path = field(default_factory=lambda: tools.find("helm").path)
    kubectl: Path = field(default_factory=lambda: tools.find("kubectl").path)
    namespaces: int = 0

    def run(self, *argv: str | Path, tries: int = 1, code: int = 0) -> None:
        """Run a program to its end; its words are shown only where its code is another, at the last of its tries."""
        done = subprocess.run(
            [str(word) for word in argv], cwd=self.root, env=self.env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode != code and tries > 1:
            self.run(*argv, tries=tries - 1, code=code)
        elif done.returncode != code:
            raise SystemExit(f"{' '.join(map(str, argv))}\nexit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    @property
    def env(self) -> dict[str, str]:
        """Both sides find the cluster, and neither finds the user's. Bytecode is kept, as it is where people work."""
        homes = {f"HELM_{kind}_HOME": str(self.root / ".helm" / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**inherited, **homes, "KUBECONFIG": str(self.cluster.kubeconfig), "KUBECACHEDIR": str(self.root / ".kube")}

    def invoke(self, *words: str, code: int = 0) -> None:
        self.run(sys.executable, "-m", "invoke", *words, code=code)

    def peak(self, *words: str) -> float:
        """The most memory that a command's own process had, in MB."""
        file = self.root / "peak"
        self.run(sys.executable, "-c", PEAK, file, *words)
        return int(file.read_text()) / (1e6 if sys.platform == "darwin" else 1e3)

    def chart(self, name: str) -> Path:
        return self.root / "vendor" / "charts" / "@sandbox" / name

    def values(self, chart: str) -> Path:
        return self.root / "values" / f"{chart}.values.yaml"

    def fresh(self) -> str:
        """Name a namespace in the environment that nothing has seen: no render of it is cached."""
        self.namespaces += 1
        namespace = f"bench-{self.namespaces}"
        self.environment("bench", namespace)
        return namespace

    def environment(self, name: str, namespace: str, **changed: Any) -> None:
        """Write an environment that is like `local`, on the cluster of the bench."""
        environment = load(self.root / "envs" / "local.yaml").data | changed
        environment["cluster"] = {"local": CLUSTER, "namespace": namespace}
        (self.root / "envs" / f"{name}.yaml").write_text(json.dumps(environment))

    def overlay(self, name: str, chart: str, operations: list[dict[str, Any]]) -> None:
        """Write an environment's own operations on the values of a chart."""
        folder = self.root / "overlays" / name
        folder.mkdir(exist_ok=True)
        (folder / f"{chart}.values.yaml").write_text(json.dumps(operations))

    def forget(self) -> None:
        """Nothing is cached."""
        shutil.rmtree(self.root / ".cache", ignore_errors=True)

    def renew(self) -> None:
        """An empty cluster that has come to rest: an API server that once served the CRDs is not that of a first deploy."""
        local.delete(CLUSTER)
        self.cluster = local.create(CLUSTER, provider="kwok", say=nobody)
        time.sleep(REST)


@contextmanager
def prepared(runs: int) -> Iterator[Bench]:
    """A bench with its copy and its cluster, both gone at the end."""
    local.delete(CLUSTER)  # of a run that was killed
    with tempfile.TemporaryDirectory(prefix="syntho-bench-") as folder:
        root = Path(folder)
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("charts" if name == "vendor" else "__pycache__"))
            else:
                shutil.copy(ROOT / name, root / name)
        try:
            bench = Bench(root, local.create(CLUSTER, provider="kwok", say=nobody), runs)
            bench.fresh()
            bench.invoke("template", "--env=bench", "--stage=values", "--output=values")
            yield bench
        finally:
            local.delete(CLUSTER)


def timed(action: Action) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def nobody(line: str) -> None:
    """Told of each new cluster."""


def nothing() -> None:
    """For a side that needs no preparation."""


def in_turns(bench: Bench, ours: Action, theirs: Action, before: Action = nothing) -> tuple[float, float]:
    """The medians of both sides. before: what precedes each run of ours, and is not timed."""
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(bench.runs + 1):
        for times, action, prepare in zip(found, (ours, theirs), (before, nothing), strict=True):
            prepare()
            seconds = timed(action)
            if number:
                times.append(seconds)
    return statistics.median(found[0]), statistics.median(found[1])


def alone(bench: Bench, action: Action) -> float:
    """The median of one side that has no other."""
    action()
    return statistics.median(timed(action) for _ in range(bench.runs))


def compared(what: str, ours: float, theirs: float, goal: float) -> Row:
    return Row(what, f"{ours:.2f} s", f"{theirs:.2f} s", f"{ours / theirs:.2f}x", f"at most {goal}x", ours / theirs <= goal)


def absolute(what: str, ours: float, unit: str, goal: float) -> Row:
    return Row(what, f"{ours:.2f} {unit}" if unit == "s" else f"{ours:.0f} {unit}", "", "", f"at most {goal} {unit}", ours <= goal)


def templates(bench: Bench) -> Iterator[Row]:
    """`invoke template` for both charts beside two `helm template`, one after the other."""

    def ours() -> None:
        bench.invoke("template", "--env=local")

    def theirs() -> None:
        for chart, release in RELEASES.items():
            bench.run(bench.helm, "template", release, bench.chart(chart), "-n", "syntho", "-f", bench.values(chart))

    def cold() -> None:
        shutil.rmtree(bench.root / ".cache" / "renders", ignore_errors=True)

    yield compared("template, nothing cached", *in_turns(bench, ours, theirs, cold), 2.5)
    yield compared("template, renders cached", *in_turns(bench, ours, theirs), 2.5)


def overlays(bench: Bench) -> Iterator[Row]:
    """Fifty environments in one command beside a loop of bare helm, a large overlay, and the search for dead operations."""
    names = [f"e{number:02d}" for number in range(FIFTY)]
    for name in names:
        bench.environment(name, name)

    def ours() -> None:
        bench.invoke("template", f"--env={','.join(names)}")

    def theirs() -> None:
        for name in names:
            for chart, release in RELEASES.items():
                bench.run(bench.helm, "template", release, bench.chart(chart), "-n", name, "-f", bench.values(chart))

    def cold() -> None:
        shutil.rmtree(bench.root / ".cache" / "renders", ignore_errors=True)

    yield compared("template of 50 environments, nothing cached", *in_turns(bench, ours, theirs, cold), 0.8)
    yield absolute("peak memory of that", bench.peak("template", f"--env={','.join(names)}"), "MB", 100)

    bench.environment("large", "large")
    many: list[dict[str, Any]] = [{"op": "add", "path": "/bench", "value": {}}]
    many += [{"op": "add", "path": f"/bench/k{number}", "value": number} for number in range(1999)]
    bench.overlay("large", "ray", many)
    seconds = alone(bench, lambda: bench.invoke("template", "--env=large", "--stage=values"))
    yield absolute("values of an environment of 2,000 operations", seconds, "s", 1.0)

    bench.environment("sixty", "sixty", components=[], secrets={}, vars={})
    for chart in RELEASES:
        values = walk(load_chart(bench.chart(chart) / "values.yaml"))
        leaves = [(keys, value) for keys, value in values if isinstance(value, str) and not any(isinstance(key, int) for key in keys)][:30]
        bench.overlay("sixty", chart, [{"op": "replace", "path": pointer.text(keys), "value": value} for keys, value in leaves])

    def dead() -> float:
        shutil.rmtree(bench.root / ".cache" / "reach", ignore_errors=True)
        done = subprocess.run([sys.executable, "-c", DEAD], cwd=bench.root, env=bench.env, capture_output=True, text=True, check=True)
        return float(done.stdout)

    yield absolute("dead operations among 60, nothing cached", statistics.median(dead() for _ in range(bench.runs)), "s", 0.6)


def lints(bench: Bench) -> Iterator[Row]:
    """`invoke lint` of the most complete environment beside one `helm lint` of both charts, and of fifty that differ in host and namespace."""
    prod = (bench.root / "envs" / "prod.yaml").read_text().replace("cluster:\n", "charts: vendor/sandbox.yaml\ncluster:\n", 1)
    names = [f"lint-{number}" for number in range(FIFTY)]
    for name in names:
        text = prod.replace("namespace: syntho\n", f"namespace: {name}\n").replace("syntho.example.com", f"{name}.example.com")
        (bench.root / "envs" / f"{name}.yaml").write_text(text)

    def many() -> float:
        return timed(lambda: bench.invoke("lint", f"--env={','.join(names)}"))

    yield from lint_of(bench, names[0], [bench.chart(chart) for chart in RELEASES], "")
    bench.forget()
    yield absolute(f"lint of {FIFTY} environments, nothing cached", many(), "s", 15)
    yield absolute(f"lint of {FIFTY} environments, renders cached", many(), "s", 15)
    bench.forget()
    yield absolute(f"peak memory of lint of {FIFTY} environments", bench.peak("lint", f"--env={','.join(names)}"), "MB", 200)
    for name in names:
        (bench.root / "envs" / f"{name}.yaml").unlink()


def lint_of(bench: Bench, name: str, charts: list[Path], what: str) -> Iterator[Row]:
    """`invoke lint` of one environment beside one `helm lint` of its charts: the first on a machine, after an edit, and again."""
    file, hosts = bench.root / "envs" / f"{name}.yaml", iter(range(1000))

    def edited() -> None:
        """Another host: what is kept of that chart is of no use, what is kept of the other one and of schemas is."""
        file.write_text(re.sub(r"^(  host: ).*", rf"\1h{next(hosts)}.example.com", file.read_text(), flags=re.MULTILINE))

    def ours() -> None:
        bench.invoke("lint", f"--env={name}")

    def theirs() -> None:
        bench.run(bench.helm, "lint", *charts)

    yield compared(f"lint{what}, nothing cached", *in_turns(bench, ours, theirs, bench.forget), 3)
    yield compared(f"lint{what} after an edit", *in_turns(bench, ours, theirs, edited), 3)
    yield compared(f"lint{what}, renders cached", *in_turns(bench, ours, theirs), 3)


def real(bench: Bench) -> Iterator[Row]:
    """The shipped prod with Syntho's own charts, where SYNTHO_CHARTS_URL names a mirror of them: their CRDs are 2.3 MB."""
    if not os.environ.get("SYNTHO_CHARTS_URL"):
        print("not measured: Syntho's own charts, for which SYNTHO_CHARTS_URL names no mirror", flush=True)
        return
    bench.invoke("vendor")
    charts = [bench.root / "vendor" / "charts" / chart for chart in RELEASES]
    yield from lint_of(bench, "prod", charts, " of prod")
    bench.invoke("template", "--env=prod", "--stage=values", "--output=values-prod")
    values = {chart: bench.root / "values-prod" / f"{chart}.values.yaml" for chart in RELEASES}

    def theirs() -> None:
        for chart, release in RELEASES.items():
            bench.run(bench.helm, "template", release, bench.root / "vendor" / "charts" / chart, "-f", values[chart])

    ours = functools.partial(bench.invoke, "template", "--env=prod")
    yield compared("template of prod, nothing cached", *in_turns(bench, ours, theirs, bench.forget), 2.5)
    yield compared("template of prod, renders cached", *in_turns(bench, ours, theirs), 2.5)


def first_deploy(bench: Bench) -> Iterator[Row]:
    """A first deploy, on a cluster that has neither the namespace nor the CRDs, beside kubectl and helm.

    Helm 4 cannot apply the ray chart by server-side apply (nulls in the RayCluster), so its side goes without. The namespace
    and the pull secret, which our side makes, are made for its side before the clock starts.
    """
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(bench.runs + 1):
        for times, side in zip(found, (ours, theirs), strict=True):
            bench.renew()
            seconds = side(bench, bench.fresh())
            if number:
                times.append(seconds)
    yield compared("first deploy", statistics.median(found[0]), statistics.median(found[1]), 0.5)


def ours(bench: Bench, namespace: str) -> float:
    return timed(lambda: bench.invoke("deploy", "--env=bench"))


def theirs(bench: Bench, namespace: str) -> float:
    docker = base64.b64encode(b'{"auths": {}}').decode()
    pull = {"type": "kubernetes.io/dockerconfigjson", "metadata": {"name": "syntho-cr-secret"}, "data": {".dockerconfigjson": docker}}
    (bench.root / "pull.json").write_text(json.dumps({"apiVersion": "v1", "kind": "Secret", **pull}))
    bench.run(bench.kubectl, "create", "namespace", namespace)
    bench.run(bench.kubectl, "create", "-n", namespace, "-f", "pull.json")

    def install() -> None:
        bench.run(bench.kubectl, "apply", "--server-side", "-f", bench.chart("ray") / "crds")
        bench.run(bench.kubectl, "wait", "--for=condition=Established", "crd", *CRDS, tries=10)  # it fails on a CRD without a status yet
        for chart, release in RELEASES.items():
            flags = ["--skip-crds", "--server-side=false", "--wait", "--timeout=5m"]
            bench.run(bench.helm, "install", release, bench.chart(chart), "-n", namespace, "-f", bench.values(chart), *flags)

    return timed(install)


def upgrade(bench: Bench) -> Iterator[Row]:
    """Another tag for one image, beside two `helm upgrade --wait` with the same values."""
    bench.renew()
    namespace = bench.fresh()
    bench.invoke("deploy", "--env=bench")
    theirs_too = bench.fresh()
    theirs(bench, theirs_too)
    bench.environment("bench", namespace)
    image = next(keys for keys, value in walk(load_chart(bench.chart(UPGRADED) / "values.yaml")) if keys[-1:] == ("tag",))
    tags = iter(range(1, 1000))

    def retag() -> None:
        tag = f"1.9.{next(tags)}"
        bench.overlay("bench", UPGRADED, [{"op": "replace", "path": pointer.text(image), "value": tag, "overrides": True}])
        values = load(bench.values(UPGRADED)).data
        here = values
        for key in image[:-1]:
            here = here[key]
        here[image[-1]] = tag
        bench.values(UPGRADED).write_text(json.dumps(values))

    def helm() -> None:
        for chart, release in RELEASES.items():
            flags = ["--skip-crds", "--server-side=false", "--wait", "--timeout=5m"]
            bench.run(bench.helm, "upgrade", release, bench.chart(chart), "-n", theirs_too, "-f", bench.values(chart), *flags)

    yield compared("upgrade of one image tag", *in_turns(bench, lambda: bench.invoke("deploy", "--env=bench"), helm, retag), 0.7)


def later(bench: Bench) -> Iterator[Row]:
    """What a deploy costs when all is as compiled, what only looks, the list of tasks, and memory: of a first deploy too."""
    bench.renew()
    bench.fresh()
    yield absolute("plan of a first deploy", alone(bench, lambda: bench.invoke("plan", "--env=bench", code=2)), "s", 1.2)
    memory = {"template": bench.peak("template", "--env=bench"), "first deploy": bench.peak("deploy", "--env=bench")}
    yield absolute("deploy with nothing to do", alone(bench, lambda: bench.invoke("deploy", "--env=bench")), "s", 1.5)
    yield absolute("plan with nothing to do", alone(bench, lambda: bench.invoke("plan", "--env=bench")), "s", 1.2)
    yield absolute("drift", alone(bench, lambda: bench.invoke("drift", "--env=bench")), "s", 1.2)
    yield absolute("doctor", alone(bench, lambda: bench.invoke("doctor", "--env=bench")), "s", 3)
    yield absolute("invoke --list", alone(bench, lambda: bench.invoke("--list")), "s", 0.35)
    yield absolute("completion of --env=", alone(bench, lambda: bench.invoke("completion", "--words=invoke plan --env=")), "s", 0.35)
    memory["doctor"] = bench.peak("doctor", "--env=bench")
    memory["deploy with nothing to do"] = bench.peak("deploy", "--env=bench")
    for what, peak in memory.items():
        yield absolute(f"peak memory of {what}", peak, "MB", 200 if what == "doctor" else 100)


def together(bench: Bench) -> Iterator[Row]:
    """A first deploy of several environments by one command, each in a namespace of its own on a new cluster, beside one of them on another."""
    names = [f"together-{number}" for number in range(TOGETHER)]
    for name in names:
        bench.environment(name, name)
    times: dict[str, list[float]] = {names[0]: [], ",".join(names): []}
    for number in range(bench.runs + 1):
        for chosen, found in times.items():
            bench.renew()
            shutil.rmtree(bench.root / ".cache", ignore_errors=True)
            seconds = timed(functools.partial(bench.invoke, "deploy", f"--env={chosen}"))
            if number:
                found.append(seconds)
    one, all_ = (statistics.median(found) for found in times.values())
    yield Row(f"first deploy of {TOGETHER} environments", f"{all_:.2f} s", "", f"{all_ / one:.2f}x of one", "at most 6x", all_ / one <= 6)
    bench.renew()
    yield absolute(f"peak memory of a first deploy of {TOGETHER}", bench.peak("deploy", f"--env={','.join(names)}"), "MB", 120)


PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "template": templates, "lint": lints, "real": real, "overlays": overlays, "first": first_deploy, "upgrade": upgrade, "later": later,
    "together": together,
}  # fmt: skip


def shown(rows: list[Row]) -> str:
    """The table, for a terminal."""
    cells = [("", "ours", "helm and kubectl", "ratio", "goal", "")]
    cells += [(row.what, row.ours, row.theirs, row.ratio, row.goal, "met" if row.met else "MISSED") for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)


def main() -> None:
    parser = argparse.ArgumentParser(prog="nox -s bench --")
    parser.add_argument("--runs", type=int, default=5, help="how often each side is measured")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part of the table; may be given several times")
    options = parser.parse_args()
    with prepared(options.runs) as bench:
        print(f"{bench.runs} runs of each side in turns; medians; {os.cpu_count()} cores", flush=True)
        rows = [row for name in options.only or PARTS for row in PARTS[name](bench)]
    print(shown(rows))


if __name__ == "__main__":
    main()
