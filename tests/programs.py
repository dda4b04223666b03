"""Programs that a test needs and a machine may not have. What is not tested for want of one is said at the end of a run, and fails where
`SYNTHO_TEST_PROGRAMS=required` says that all of them are here, as CI does."""

from __future__ import annotations

import os
from collections import Counter
from typing import NoReturn

import pytest

VARIABLE, REQUIRED = "SYNTHO_TEST_PROGRAMS", "required"


def needs(found: object, what: str) -> pytest.MarkDecorator:
    """The mark of a test that needs a program. found: is it here? what: it, and what has it."""
    return pytest.mark.needs(what, found=bool(found))


def missing(what: str) -> NoReturn:
    """End a test for want of a program."""
    if os.environ.get(VARIABLE) == REQUIRED:
        pytest.fail(f"not tested, for want of {what}; {VARIABLE}={REQUIRED}", pytrace=False)
    pytest.skip(f"for want of {what}")


def check(item: pytest.Item) -> None:
    """End a test whose marks name a program that is not here."""
    for mark in item.iter_markers("needs"):
        if not mark.kwargs["found"]:
            missing(mark.args[0])


def summary(reports: list[pytest.TestReport]) -> list[str]:
    """A line for each reason for which tests were skipped."""
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports if isinstance(report.longrepr, tuple))
    return [f"NOT TESTED: {count} test{'s' * (count > 1)}, {reason}" for reason, count in reasons.most_common()]
