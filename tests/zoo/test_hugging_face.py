"""Discovery on the architectures of Hugging Face's transformers."""

from importlib.util import find_spec

import pytest

from tests.zoo.case import Case, check, parameters
from tests.zoo.hugging_face import CASES

pytestmark = [
    pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is missing: pip install -e '.[dev]'"),
    pytest.mark.slow,
]


@pytest.mark.parametrize("case", parameters(CASES))
def test_the_rules_find_the_symmetry_worked_out_by_hand(case: Case) -> None:
    check(case)
