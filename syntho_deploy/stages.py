"""The stages of the pipeline as text, for `invoke template`."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from syntho_deploy import documents, helm
from syntho_deploy.compile import Project
from syntho_deploy.console import say
from syntho_deploy.errors import InputError, nearest

STAGES = ("operations", "values", "rendered", "compiled")


def template(project: Project, chart: str, stage: str, output: Path | None, stdout: TextIO) -> None:
    """Print a stage of both charts, or of one, or write it into a folder.

    operations: the overlays of each chart's values as plain RFC 6902 operations; values: each chart's values, `${secret:name}` where a secret belongs; rendered: what helm printed, a token in its place;
    compiled: the objects as they are deployed, in the order in which they can be created. Into a folder: `<chart>.values.yaml`,
    `<chart>.rendered.yaml`, or the static chart `<chart>/`. Raises `InputError` for an unknown chart or stage.
    """
    for what, name, known in (("chart", chart, tuple(project.pin.charts)), ("stage", stage, STAGES)):
        if name and name not in known:
            raise InputError(f'there is no {what} "{name}"{nearest(name, known)}', todo=f"one of {', '.join(known)}")
    charts = [chart] if chart else list(project.pin.charts)
    if stage == "compiled":
        compiled = project.compile(helm.find(say))
        for name in sorted(item.name for item in compiled.secrets):
            say(f"not printed: Secret/{name} (invoke deploy creates it)")
        for name in charts:
            for hook in compiled.charts[name].hooks:
                say(f"left out: the hook {hook}")
        if output:
            for name in charts:
                say(f"wrote {compiled.charts[name].write(output / name)}")
        else:
            stdout.write("".join(documents.dump_all(compiled.charts[name].objects) for name in charts))
        return
    if stage == "rendered":
        texts = project.render(helm.find(say))
    else:
        shown = project.shown_values() if stage == "values" else project.shown_operations()
        texts = {name: documents.dump(value) for name, value in shown.items()}
    for name in charts:
        if output:
            documents.write(output / f"{name}.{stage}.yaml", texts[name])
            say(f"wrote {output / f'{name}.{stage}.yaml'}")
        else:
            stdout.write(texts[name] if stage == "rendered" else f"---\n# {name}\n{texts[name]}")
