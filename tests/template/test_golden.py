"""What the shipped environments compile to, with the Secrets that a deploy makes beside it (of a key what it is made of, no value), kept
under tests/golden: a change to it is seen in review.

`nox -s template -- --update-golden` writes the files anew.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from syntho_deploy.compile import Compiled, Project
from syntho_deploy.helm import Helm
from syntho_deploy.secrets import store
from tests.template.conftest import SHIPPED

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def secrets(compiled: Compiled) -> str:
    """The Secrets of an environment, each key with the secrets that its content is made of."""
    templates = {item.name: item.data for item in compiled.secrets}
    found = {
        need.name: {"type": need.type, "data": templates.get(need.name) or [spec.server for spec in need.registries] or sorted(need.data)}
        for need in store.wanted(compiled)
    }
    return yaml.safe_dump(found)


def test_every_shipped_environment_has_golden_files(root: Path) -> None:
    assert tuple(sorted(path.stem for path in (root / "envs").glob("*.yaml"))) == SHIPPED
    assert tuple(sorted(path.name for path in GOLDEN.iterdir())) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_it_compiles_to_its_golden_files_with_either_helm(shipped: Path, each_helm: Helm, name: str, request: pytest.FixtureRequest) -> None:
    compiled = Project.load(shipped, name).compile(each_helm)
    texts = {f"{chart}.yaml": found.stream for chart, found in compiled.charts.items()} | {"secrets.yaml": secrets(compiled)}
    folder = GOLDEN / name
    if request.config.getoption("--update-golden"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")
    kept = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert texts == kept, "if this is meant: nox -s template -- --update-golden"
