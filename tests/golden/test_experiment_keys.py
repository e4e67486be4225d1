"""Keys never change by accident: a result that was paid for stays found."""

import hashlib
import json

from reticket.experiment import Task

PINNED = {
    "empty": "bd2ff492a009d447bd0aaf27a9b50a5c78b7e96c75c4799cbf20af56801c0288",
    "seeded": "1a6738d4ff79a4272c8d53e1b326524eee107e98ac4588e2406dcf8900c77627",
    "next version": "e0b53bf9414ae91571950f194e2270e52ee7f94f798579a27e3031230655ea18",
    "floats": "2f9c0b9cceea7db3211bca90731f330eb8ee8eacf4122f4fe4af950a175e0d51",
    "scalars": "5fdbc2b81af782c8a99e97ac1ab0c4adcf583d004053e30f02c2055d3e96f87d",
    "nested": "df0e3cd50bc7fdb3d1c8102339242b30e72d628ef2811268d9d469143f65eead",
    "unicode": "222de5b0f4d7e1e56de24e9aebf42ad2e576c98c6589a284c015b6c3a658f38b",
    "one input": "4f9c54becc7eb50df922acd71e80c2251aa30fef52a4373120b7dd731c2bbfc6",
    "two inputs": "a5f02ee414e365fe7b89cdbf6a83a144ffbf6c30cfccccf23d7597f592f14ba4",
    "inputs exchanged": "933448ddf7819640760b7558af5d11dc694de596a3b1b35aa18c95ca2fafa55b",
}


def tasks() -> dict[str, Task]:
    empty = Task("draw", 1, {})
    seeded = Task("draw", 1, {"seed": 0})
    return {
        "empty": empty,
        "seeded": seeded,
        "next version": Task("draw", 2, {"seed": 0}),
        "floats": Task("train", 1, {"lr": 0.1, "decay": 1e-4, "third": 1 / 3, "large": 1e300, "whole": 1.0}),
        "scalars": Task("train", 1, {"none": None, "yes": True, "no": False, "zero": 0, "text": ""}),
        "nested": Task("train", 1, {"a": {"b": [1, [2, {"c": [3]}]]}, "empty": {"list": [], "dict": {}}}),
        "unicode": Task("train", 1, {"name": "π ± σ", "line": "a\nb"}),
        "one input": Task("mix", 1, {}, {"x": seeded}),
        "two inputs": Task("mix", 1, {}, {"x": seeded, "y": empty}),
        "inputs exchanged": Task("mix", 1, {}, {"x": empty, "y": seeded}),
    }


def test_ten_keys_are_pinned() -> None:
    assert {name: task.key for name, task in tasks().items()} == PINNED


def test_the_pinned_keys_follow_from_the_definition_and_no_other() -> None:
    """The proof that the pins can fail: the same tasks without their versions have other keys."""
    identity = {"inputs": {}, "kind": "draw", "spec": {"seed": 0}, "version": 1}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == PINNED["seeded"]
    del identity["version"]
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() != PINNED["seeded"]
