"""Any two components: what they make does not depend on their order, or a sentence says what to do."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from syntho_deploy.documents import Json
from syntho_deploy.errors import InputError
from syntho_deploy.overlays.layers import components
from tests.components.conftest import Pinned
from tests.components.test_components import BASE, BEFORE, unordered

ROOT = Path(__file__).parents[2]
PAIRS = list(itertools.combinations(components([ROOT / "overlays"]), 2))
SENTENCES = re.compile(  # of one that is out of order, or excluded; of one without what it changes; of one without what it completes
    r"(was|,) set by .*overlays/components/(?s:.*)list the two components in the other order, or one of them only"
    r"|no manifest is |there is no \"/additionalWorkerGroups/gpu\""
)


def made(pinned: Pinned, names: list[str]) -> Json:
    """The objects of an environment with these components, or what is said against it."""
    try:
        return unordered(pinned.objects(names))
    except InputError as error:
        return str(error)


@pytest.mark.thorough
@pytest.mark.parametrize("one", sorted({one for one, _ in PAIRS}))
@pytest.mark.parametrize("pinned", ["sandbox"], indirect=True)
def test_two_components_have_no_order_or_say_so(pinned: Pinned, one: str) -> None:
    for other in (other for first, other in PAIRS if first == one):
        before = dict.fromkeys(name for name in (*BASE, *BEFORE.get(one, []), *BEFORE.get(other, [])) if name not in (one, other))
        found = [made(pinned, [*before, *order]) for order in ((one, other), (other, one))]
        refused = [text for text in found if isinstance(text, str)]
        assert refused or found[0] == found[1], (one, other)
        assert [text for text in refused if not SENTENCES.search(text)] == [], (one, other)
