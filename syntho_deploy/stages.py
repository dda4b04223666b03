"""The stages of the pipeline as text, for `invoke template`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

from syntho_deploy import documents, helm, process
from syntho_deploy.compile import Project
from syntho_deploy.console import say
from syntho_deploy.errors import DeployError, InputError, nearest
from syntho_deploy.helm import Helm

STAGES = ("operations", "values", "rendered", "compiled")


def template(projects: list[Project], chart: str, stage: str, output: Path | None, stdout: TextIO) -> list[DeployError]:
    """Print a stage of both charts, or of one, or write it into a folder; of several environments, side by side.

    operations: the overlays of each chart's values as plain RFC 6902 operations; values: each chart's values; both with
    `${secret:name}` where a secret belongs; rendered: what helm printed, a token in its place; compiled: the objects as they are
    deployed, in the order in which they can be created. Into a folder: `<chart>.<stage>.yaml`; for several environments in a
    folder of each. Returns the faults of environments that failed, the others done.
    Raises `InputError` for an unknown chart or stage.
    """
    for what, name, known in (("chart", chart, sorted({name for project in projects for name in project.pin.charts})), ("stage", stage, STAGES)):
        if name and name not in known:
            raise InputError(f'there is no {what} "{name}"{nearest(name, known)}', todo=f"one of {', '.join(known)}")
    binary = None if stage in ("operations", "values") else helm.find(say)
    faults: list[DeployError] = []
    with ThreadPoolExecutor(process.processors()) as pool:
        made = [pool.submit(_made, project, chart, stage, binary) for project in projects]
        for project, future in zip(projects, made, strict=True):
            try:
                texts, notes = future.result()
            except DeployError as error:
                faults.append(error)
                continue
            several = len(projects) > 1
            for note in notes:
                say(f"{project.environment.name}: {note}" if several else note)
            if output:
                folder = output / project.environment.name if several else output
                for name, content in texts.items():
                    documents.write(folder / name, content)
                say(f"wrote {len(texts)} files into {folder}")
            else:
                stdout.write("".join(texts.values()))
    return faults


def _made(project: Project, chart: str, stage: str, binary: Helm | None) -> tuple[dict[str, str], list[str]]:
    """The files of a stage by name, in the order in which they are printed, and the notes for a person."""
    charts = [chart] if chart else list(project.pin.charts)
    if stage == "compiled" and binary:
        compiled = project.compile(binary)
        notes = [f"not printed: Secret/{item.name} (invoke deploy creates it)" for item in compiled.secrets]
        notes += [f"left out: the hook {hook}" for name in charts for hook in compiled.charts[name].hooks]
        return {f"{name}.compiled.yaml": compiled.charts[name].stream for name in charts}, notes
    if stage == "rendered" and binary:
        texts = project.render(binary)
    else:
        shown = project.shown_values() if stage == "values" else project.shown_operations()
        texts = {name: f"---\n# {name}\n{documents.dump(value)}" for name, value in shown.items()}
    return {f"{name}.{stage}.yaml": texts[name] for name in charts}, []
