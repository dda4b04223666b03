"""A CRD's head is read and marked without parsing the rest, and the rest stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from syntho_deploy.cluster import crds
from syntho_deploy.documents import sha256
from syntho_deploy.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
HEADS = {
    "block": "metadata:\n  name: a.b\nspec: {x: 1}\n",
    "flow": "metadata: {name: a.b}\nspec: {x: 1}\n",
    "all flow": "{metadata: {name: a.b, annotations: {x: é}}, spec: {}}",
    "annotations": "# é\nkind: X\nmetadata:\n  annotations:\n    é: 'ü'\n  # c\n  name: a.b\n\n# more\nspec:\n  a: [1]\n",
    "no annotations": "metadata:\n    annotations:\n    name: a.b\n",
    "the last key": "spec: {metadata: {name: no}}\nmetadata:\n  labels: {name: no}\n  name: a.b",
}


def marked(file: Path) -> None:
    """The marked text is the file's document and the annotations."""
    wanted = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    wanted["metadata"]["annotations"] = {
        **(wanted["metadata"].get("annotations") or {}),
        crds.DIGEST: sha256(file.read_bytes()),
        crds.GENERATION: "1",
    }
    assert yaml.load(crds.marked(file), Loader=yaml.CSafeLoader) == wanted
    assert crds.name_of(file) == wanted["metadata"]["name"]


@pytest.mark.parametrize("text", HEADS.values(), ids=list(HEADS))
def test_a_digest_is_put_into_any_head(tmp_path: Path, text: str) -> None:
    (tmp_path / "crd.yaml").write_text(text, encoding="utf-8")
    marked(tmp_path / "crd.yaml")


@pytest.mark.parametrize("file", sorted((ROOT / "sandbox/charts/ray/crds").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_digest_is_put_into_the_crds_that_are_deployed(file: Path) -> None:
    marked(file)


@pytest.mark.parametrize("text", ["metadata: {}\n", "a: 1\n", "metadata: [1]\n", "", "metadata:\n", "metadata: {name: {a: b}}\n"])
def test_a_crd_without_a_name_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "crd.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"needs metadata\.name"):
        crds.name_of(tmp_path / "crd.yaml")
