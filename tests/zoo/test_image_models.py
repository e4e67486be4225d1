"""Discovery on twelve families of timm."""

from importlib.util import find_spec

import pytest

from tests.zoo.case import Case, check, parameters
from tests.zoo.image_models import CASES

pytestmark = [
    pytest.mark.skipif(
        find_spec("timm") is None or find_spec("torchvision") is None,
        reason="timm or torchvision is missing: pip install -e '.[dev]'",
    ),
    pytest.mark.slow,
]


@pytest.mark.parametrize("case", parameters(CASES))
def test_the_rules_find_the_symmetry_worked_out_by_hand(case: Case) -> None:
    check(case)
