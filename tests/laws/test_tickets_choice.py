"""The text that chooses a method: read, written, and of one meaning whatever its spelling."""

from collections.abc import Iterator

import pytest

from reticket.errors import InputError
from reticket.figures.looks import is_oracle, label, looks
from reticket.tickets import METHODS, Mask, SparseStart, method
from reticket.tickets.choice import Choice, canonical
from reticket.tickets.ticket import Ticket
from reticket.types import StateDict


@pytest.fixture(autouse=True)
def dial() -> Iterator[None]:
    """Have a method with options of every kind."""

    def turned(
        ticket: Ticket,
        rewound_b: StateDict,
        *,
        share: float = 1.0,
        by: str = "plain",
        places: tuple[int, ...] = (),
        table: dict[str, int] | None = None,
    ) -> SparseStart:
        """Whatever one likes."""
        return SparseStart(rewound_b, Mask.full(rewound_b))

    method("dial")(turned)
    yield
    METHODS._members.pop("dial")


SPELLINGS = {
    "lth": ["lth", " lth ", "lth()", "lth( )"],
    "dial(share=0.5)": ["dial(share=0.5)", "dial ( share = 0.5 )", 'dial(by="plain", share=0.5)', "dial(share=5e-1)"],
    "dial(share=0.0)": ["dial(share=0)", "dial(share=0.0)"],
    'dial(by="a, (b) + c")': ['dial(by="a, (b) + c")', "dial(by='a, (b) + c')"],
    'dial(by="a \\" +")': ['dial(by="a \\" +")'],
    'dial(by="word", share=0.5)': ["dial(share=0.5, by=word)"],
    'dial(places=[1, 2], table={"a" = 1})': ["dial(table={a = 1}, places=[1, 2])"],
    "erk+rigl": ["erk+rigl", "erk + rigl", "erk+rigl()", "erk+rigl(alpha=0.3)", "erk+rigl(end=0.75, alpha=0.3)"],
    "erk+rigl(every=7)": ["erk+rigl(every=7)"],
    "dial(share=0.5)+set(fraction=0.2)": ["dial(share=0.5)+set(fraction=0.2, end=0.75)"],
}


@pytest.mark.parametrize("text", SPELLINGS)
def test_one_meaning_has_one_text(text: str) -> None:
    found = [Choice.parse(spelling) for spelling in SPELLINGS[text]]
    assert [str(choice) for choice in found] == [text] * len(found)
    assert len(set(found)) == 1
    assert Choice.parse(text) == found[0]
    assert canonical(SPELLINGS[text][-1]) == text


def test_meanings_differ() -> None:
    assert len({Choice.parse(text) for text in SPELLINGS}) == len(SPELLINGS)


def test_a_choice_says_what_it_is() -> None:
    choice = Choice.parse("dial(share=0.5)+set(fraction=0.2)")
    assert (choice.method, choice.options) == ("dial", {"share": 0.5})
    assert (choice.dynamics, choice.dynamics_options) == ("set", {"fraction": 0.2})
    assert choice.needs == ("ticket", "rewound_b")
    assert choice.description.startswith("Whatever one likes. While it trains: SET")
    assert Choice.parse("lth").chosen_dynamics is None


WRONG = {
    "": "'' is no choice of a method; expected NAME",
    "erk+": "'erk\\+' is no choice of a method; expected NAME",
    "+rigl": "is no choice of a method",
    "dial(share=0.5": "is no choice of a method: a bracket is not closed; expected NAME",
    "dial(share=0.5))": "is no choice of a method: '\\)' closes nothing; expected NAME",
    "dial(share)": "is no choice of a method: 'share' cannot be read; expected NAME",
    "dial(share=)": "is no choice of a method: 'share=' cannot be read; expected NAME",
    "dial(share=0.5,)": "is no choice of a method; expected NAME",
    "dial(share=1 2)": "is no choice of a method: '1 2' cannot be read; expected NAME",
    "dial(share=.5)": "'.5' cannot be read; a number begins with a digit, as 0.5; expected NAME",
    "one shot": "'one shot' is no choice of a method: a name has no blank; expected NAME",
    "erk+ri gl": "'erk\\+ri gl' is no choice of a method: 'ri gl' cannot be read; expected NAME",
    "dial(share=1\nby=2)": "is no choice of a method",
    'dial(by="open)': "is no choice of a method: a quote is not closed; expected NAME",
    "dial(share=0.5, share=0.2)": "gives option 'share' twice; write it once",
    "dial(shar=0.5)": "method 'dial' has no option 'shar', did you mean 'share'",
    'dial(share="half")': "option 'share' of method 'dial' is 'half': input should be a valid number",
    "dail(share=0.5)": "unknown method 'dail', did you mean 'dial'",
    "erk+riggl": "unknown dynamics 'riggl', did you mean 'rigl'",
    "erk+rigl(alpa=0.5)": "dynamics 'rigl' has no option 'alpa', did you mean 'alpha'",
    "erk+rigl(alpha=1.5)": "option 'alpha' of dynamics 'rigl' is 1.5: input should be less than or equal to 1",
    "erk+rigl(every=0)": "every is 0, expected the steps from one change of the mask to the next, 1 or more",
    "erk+rigl(end=0)": "end is 0.0, expected the share of the training",
    "erk+rigl(every=2.5)": "option 'every' of dynamics 'rigl' is 2.5",
    "erk+rigl+set": "names dynamics twice; write one, as erk\\+rigl",
    "dense+rigl": "'dense' trains no network with its mask, so nothing can change it; choose another method",
    "imp+set": "'imp' trains no network with its mask",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_text_is_one_sentence(text: str) -> None:
    with pytest.raises(InputError, match=WRONG[text]):
        Choice.parse(text)
    assert canonical(text) == text


def test_labels_and_looks_of_all_such_names() -> None:
    assert [label(text) for text in ("erk+rigl", "permuted+set(fraction=0.2)", "dial(share=0.5)+srigl", "mine")] == [
        "ERK + RigL",
        "permuted + SET (fraction=0.2)",
        "dial (share=0.5) + SRigL",
        "mine",
    ]
    assert set(looks([*SPELLINGS, *WRONG])) == {*SPELLINGS, *WRONG}
    assert [text for text in SPELLINGS if is_oracle(text)] == ["lth"]
    assert is_oracle("lth+rigl(alpha=0.2)")
    assert is_oracle("imp-b(share=0.5)")
