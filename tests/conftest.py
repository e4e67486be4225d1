"""Shared test settings: signatures are checked, hypothesis is deterministic, one thread."""

import gc
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from tests.checked import check_signatures
from tests.pdfs import empty_pdfs

WHOLE = 1000  # so many tests are the whole suite, or near it


check_signatures()

settings.register_profile("reticket", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("reticket")
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the cases slow that `slow_cases` names, or all but those that it excepts."""
    unknown: dict[str, set[str]] = {}  # cases that are named and were not met, by test
    for item in items:
        if mark := item.get_closest_marker("slow_cases"):
            case, test = item.nodeid.removesuffix("]").partition("[")[2], item.nodeid.partition("[")[0]
            excepted = mark.kwargs.get("but", [])
            unknown.setdefault(test, {*mark.args, *excepted}).discard(case)
            if case in mark.args or (excepted and case not in excepted):
                item.add_marker(pytest.mark.slow)
    lost = {test: cases for test, cases in unknown.items() if cases}
    if lost and not any("::" in argument for argument in config.args):
        raise pytest.UsageError(f"slow_cases names cases that there are not: {lost}")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Spare the garbage collector, and who asks it for objects, the million that collecting the tests has made."""
    from reticket.symmetry import discover  # after the hooks, which check its signatures
    from reticket.symmetry.caches import caches_apart

    if len(session.items) > WHOLE:  # many of them trace, and what the first trace imports is large
        discover(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    with caches_apart():  # remembers the cached functions that there are
        pass
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)  # the rest is small, and looked through as often as it grows by this many


@pytest.fixture(scope="session", autouse=True)
def _pdfs() -> Iterator[None]:
    """Leave the PDFs of figures empty but where a test asks for whole ones."""
    with empty_pdfs():
        yield
