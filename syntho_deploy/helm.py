"""The official helm binary: rendering a chart, writing a release, and what its words mean.

Helm's exit code is 1 for every failure, so failures are told apart by text; each text is one row of `FAILURES`.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from syntho_deploy import process
from syntho_deploy.documents import Json, canonical, load_chart
from syntho_deploy.errors import DeployError, InputError, LockedError, NotHealthyError, PreflightError

RENDER_TIMEOUT = 60.0
HISTORY_MAX = 10

# What helm says (both majors, case-insensitive), the error that it is, and what to do.
FAILURES: list[tuple[str, type[DeployError], str]] = [
    (r"another operation \(install/upgrade/rollback\) is in progress|release: already exists|encountered \d+ deletion errors", LockedError,
     "wait for it; if its process was killed: helm rollback {release} -n {namespace} (to a good revision, named), or delete its pending release Secret"),
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


@dataclass(frozen=True)
class Helm:
    """A helm binary. home: a folder for its caches, so that no plugin or repository of the user's takes part."""

    path: Path
    version: str
    home: Path

    def environment(self, kubeconfig: str) -> Mapping[str, str]:
        """Variables for a run: nothing of the user's HELM_*, no colours, no cluster unless one is given."""
        ours = {name: "" for name in os.environ if name.startswith("HELM_")}
        ours |= {f"HELM_{kind}_HOME": str(self.home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        ours |= {"HELM_PLUGINS": str(self.home / "plugins"), "NO_COLOR": "1", "GOGC": "400"}
        ours["KUBECONFIG"] = kubeconfig or os.devnull
        return ours

    def template(self, chart: Path, values: Json, release: str, namespace: str, kubernetes: str) -> str:
        """What helm renders of a chart with exactly these values, without CRDs and NOTES.txt, hooks included.

        The values replace the chart's own values.yaml in a working copy, as JSON: with `-f`, helm would merge removed
        keys back in, and YAML would change `y` and `1e3` on the way. Raises `InputError` when it does not render.
        """
        with tempfile.TemporaryDirectory(prefix="syntho-") as folder:
            copy = Path(folder) / chart.name
            shutil.copytree(chart, copy, ignore=lambda at, names: {"crds", "NOTES.txt", "values.yaml"} & set(names))
            (copy / "values.yaml").write_text(canonical(values), encoding="utf-8")
            version = kubernetes if kubernetes.count(".") == 2 else f"{kubernetes}.0"
            argv = [str(self.path), "template", release, str(copy), "--namespace", namespace, "--kube-version", version]
            result = process.run(argv, timeout=RENDER_TIMEOUT, env=self.environment(""), check=False, raw=True)
        if result.code:
            text = re.sub(re.escape(folder) + "/", "", _error_line(result.stderr))
            raise InputError(f"the chart {chart.name} does not render with these values: {text}", todo="invoke template --stage=values shows them")
        return result.stdout

    def variants(self, chart: Path, values: list[Json], release: str, namespace: str, kubernetes: str) -> list[str | None]:
        """What `template` would print for each of several values, in one run of helm; None where the chart does not render.

        Starting helm takes longer than rendering. So the variants are subcharts of one made for it, each named alike and with
        its values; the name that they have instead of the chart's is the same in all results.
        """
        results: list[str | None] = [None] * len(values)
        left = dict(enumerate(values))
        while left:
            with tempfile.TemporaryDirectory(prefix="syntho-") as folder:
                parent = Path(folder) / "variants"
                for number, one in left.items():
                    self._variant(chart, parent / "charts" / f"v{number:04d}", one)
                (parent / "Chart.yaml").write_text("apiVersion: v2\nname: variants\nversion: 0.0.0\n", encoding="utf-8")
                result = self._template(parent, release, namespace, kubernetes)
            if not result.code:
                break
            broken = re.search(r"variants/charts/v(\d{4})/", result.stderr)
            if not broken or int(broken[1]) not in left:
                raise InputError(f"the chart {chart.name} does not render: {_error_line(result.stderr)}")
            del left[int(broken[1])]
        for number in left:
            results[number] = ""
        parts = re.split(r"^---\n# Source: variants/charts/v(\d{4})/", result.stdout if left else "", flags=re.MULTILINE)
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            results[int(name)] = f"{results[int(name)] or ''}---\n# Source: {text.replace(f'v{name}', 'v0000')}"
        return results

    def _variant(self, chart: Path, copy: Path, values: Json) -> None:
        shutil.copytree(chart, copy, ignore=lambda at, names: {"crds", "NOTES.txt"} & set(names), copy_function=shutil.copy)
        described = load_chart(chart / "Chart.yaml")
        (copy / "Chart.yaml").write_text(canonical({**described, "name": copy.name}), encoding="utf-8")
        (copy / "values.yaml").write_text(canonical(values), encoding="utf-8")

    def _template(self, chart: Path, release: str, namespace: str, kubernetes: str) -> process.Result:
        version = kubernetes if kubernetes.count(".") == 2 else f"{kubernetes}.0"
        argv = [str(self.path), "template", release, str(chart), "--namespace", namespace, "--kube-version", version]
        return process.run(argv, timeout=RENDER_TIMEOUT, env=self.environment(""), check=False, raw=True)

    def upgrade(self, chart: Path, release: str, namespace: str, kubeconfig: str, context: str, timeout: float, force: bool = False) -> None:
        """Install or upgrade a release to a compiled chart by server-side apply, without waiting for readiness.

        force: take fields that another manager owns.

        Raises the error that helm's text stands for (`FAILURES`), or `NotHealthyError` for one that is not known.
        """
        argv = [
            str(self.path), "upgrade", release, str(chart), "--install", "--namespace", namespace, "--kube-context", context, "--server-side=true",
            "--skip-crds", "--history-max", str(HISTORY_MAX), "--disable-openapi-validation", "--timeout", f"{timeout:.0f}s",
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
        result = process.run(argv, timeout=timeout + 30, env=self.environment(kubeconfig), check=False, writes=True)
        if result.code:
            raise failure(result.stderr, release, namespace)


def find(say: Callable[[str], None]) -> Helm:
    """The Helm 4 that is used, fetched when there is none. Raises `PreflightError` when it cannot be had."""
    from syntho_deploy import tools

    tool = tools.find("helm", say)
    return Helm(tool.path, tool.version, tools.cache_dir() / "helm")


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
