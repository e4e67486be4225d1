"""Damaged files: bits and bytes anywhere, and values in JSON and in safetensors' heads that nobody expects there."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

DEEP = 100_000
LATER = {  # written into the text, because json writes none of them
    "@deep list": "[" * DEEP + "]" * DEEP,
    "@deep table": '{"sum":[' * DEEP + "1" + "]}" * DEEP,
    "@nested": '{"sum":[' * 600 + "1" + "]}" * 600,
    "@many digits": "9" * 5000,
    "@digits": "9" * 400,
    "@infinite": "1e400",
    "@many axes": str([1] * DEEP),
    "@zeros": str([0] * 70),
}
ODD = (
    *(True, False, None, -1, 0, 1, 2, 7, 0.5, 1e308, float("nan"), 2**31, 2**63, 2**64, 2**80),
    *("", "a\nb", "\0", "\ud800", "x" * 300, [], [[]], [True], [2**40, 2**40], {}, {"sum": []}, {"product": [True]}),
    *({"product": 3}, {"sum": "ab"}, {"product": [2**70, 2**70]}, [None], ["a"], *LATER),
)
Places = list[tuple[Any, Any]]


def damaged(whole: bytes, draw: random.Random) -> bytes:
    """Return a file in which bits are flipped, bytes replaced, left out or put in, or which is cut short."""
    found = bytearray(whole)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(max(1, min(len(found), draw.choice((64, 512, 10**9)))))
        more, word = draw.randrange(1, 9), draw.choice((b"\xff" * 4, b"\xff\xff\xff\x7f", bytes(4)))
        match draw.randrange(5):
            case 0 if found:
                found[at] ^= 1 << draw.randrange(8)
            case 1:
                del found[at : at + more]
            case 2:
                found[at:at] = draw.randbytes(more)
            case 3:
                del found[at:]
            case _:
                found[at : at + 4] = word
    return bytes(found)


def editor(whole: bytes) -> Callable[[random.Random], bytes] | None:
    """Return what edits the values of a file, or None for a file that is neither JSON nor safetensors."""
    if whole[:1] == b"{":
        return lambda draw: _edited(json.loads(whole), draw).encode("utf-8", "surrogatepass")
    size = int.from_bytes(whole[:8], "little")
    if whole[8:9] != b"{" or 8 + size > len(whole):
        return None

    def head(draw: random.Random) -> bytes:
        text = _edited(_opened(json.loads(whole[8 : 8 + size])), draw).encode("utf-8", "surrogatepass")
        return len(text).to_bytes(8, "little") + text + whole[8 + size :]

    return head


class Inner(dict[str, Any]):
    """A table that stands in the file as a text, in a value of safetensors' metadata."""


def _opened(head: dict[str, Any]) -> dict[str, Any]:
    own = head.get("__metadata__", {})
    opened = {name: Inner(json.loads(text)) if text[:1] == "{" else text for name, text in own.items()}
    return {**head, "__metadata__": opened}


def _edited(tree: Any, draw: random.Random) -> str:
    """Replace some values by odd ones, or leave them out, and write the whole."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            break
        level = draw.choice(sorted({depth for depth, _, _ in places}))
        _, parent, key = draw.choice([place for place in places if place[0] == level])
        if draw.randrange(6) == 0:
            del parent[key]
        elif draw.randrange(6) == 0 and isinstance(parent, dict):
            parent[draw.choice(("a", "@", str(key) * 2))] = parent.pop(key)
        else:
            parent[key] = copy.deepcopy(draw.choice(ODD))
    return _written(tree)


def _places(tree: Any, depth: int = 0) -> Iterator[tuple[int, Any, Any]]:
    below = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in below:
        yield depth, tree, key
        yield from _places(value, depth + 1)


def _written(tree: Any) -> str:
    def closed(value: Any) -> Any:
        if isinstance(value, Inner):
            return _written(dict(value))
        if isinstance(value, dict):
            return {name: closed(one) for name, one in value.items()}
        return [closed(one) for one in value] if isinstance(value, list) else value

    text = json.dumps(closed(tree), ensure_ascii=False)
    for name, written in LATER.items():
        text = text.replace(json.dumps(name), written).replace(json.dumps(json.dumps(name))[1:-1], written)
    return text
