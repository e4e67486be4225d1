"""Wrong kinds of arguments are one sentence each that says which, as users see them: types are not checked there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

WEIGHTS = r"but a module or its state_dict was expected"
MODULE = r"but a module was expected"
BATCHES = r"needs an iterable of batches, as a list or a DataLoader, got a"
EXPECTED = {
    "match path": rf"^model_a is a str, {WEIGHTS}; read the file first$",
    "match Path": rf"^model_b is a PosixPath, {WEIGHTS}; read the file first$",
    "match weights alone": r"^model_a and all others are weights alone, which do not say how they are",
    "match method not called": rf"^model_b is a method, {WEIGHTS}; call it: model\.state_dict\(\)$",
    "match class": rf"^model_a is a type, {WEIGHTS}; make one of the class$",
    "merge how": r"^how is 'least-square', did you mean 'least-squares'\?; expected one of mean, least-squares$",
    "match fixed": "fixed is a int; give names of groups, or units by name of a group",
    "match fixed unit": "fixed has the unit 3 of group '0.weight', but whole numbers from 0 to 7 were expected",
    "match blocks": "blocks has the size '4', but a number of units, 1 or more, was expected",
    "match leave_out": "leave_out is 'few', but a share of units from 0 to below 1 was expected, as 0.1",
    "match seen": r"^seen is a bool, but Activations\(sym\) was expected, empty or of an earlier call$",
    "match seen class": r"^seen is a type, but Activations\(sym\) was expected",
    "activations": r"^Activations are of a Symmetry, got Sequential; give what discover returned$",
    "matching_memory": r"^matching_memory runs a module, got OrderedDict; give one of the networks as a module$",
    "assess order": r"^assess takes the alignment first, got Sequential; give assess\(al, a, b, batches\)$",
    "assess ticket": r"^mask is a Alignment, but a mask of A's weights was expected; of a ticket give \.mask$",
    "assess earlier": r"^earlier is a Sequential, but a pair was expected, as \(a_5, b_5\)$",
    "frame between": r"^the frame has networks 0 to 1, but 2 was asked for$",
    "merge alignments": r"^alignments must be what match_many gave, or a list of one Alignment for each network, got",
    "merge_partly least": r"^least is 'x', but a matched correlation, as 0\.5, was expected$",
    "merge_partly least nan": r"^least is nan, but a matched correlation, as 0\.5, was expected$",
    "transfer order": r"^transfer carries a Mask or a Ticket, got Alignment; give that first$",
    "transfer weights": r"^transfer carries a Mask or a Ticket, got OrderedDict; give that first$",
    "transfer to": rf"^weights is a int, {WEIGHTS}$",
    "apply left out": r"^this alignment leaves units out, of whose connections a mask of A says nothing; carry it by",
    "match sym": r"^sym is a list, but a Symmetry was expected; discover\(model, example_inputs\)",
    "match none": rf"^model_b is a NoneType, {WEIGHTS}$",
    "match batches": rf"^matching {BATCHES} int$",
    "match checkpoint": r"^model_b is a checkpoint that holds weights as 'state_dict'; give that:",
    "match progress": r"^progress is a str, but True, False or a function of \(done, total\) was expected",
    "barrier model": rf"^model is a OrderedDict, {MODULE}; weights alone do not say",
    "barrier str": rf"^b is a str, {WEIGHTS}; read the file first$",
    "barrier batches": rf"^barrier {BATCHES} NoneType$",
    "barrier batch number": rf"^barrier {BATCHES} int$",
    "barrier loss": r"^loss= got a int, but the name of one or a function of model and batch was",
    "barrier lossname": r"^unknown objective 'clasification', did you mean 'classification'\?; known are",
    "barrier metric": r"^unknown metric 'acuracy', did you mean 'accuracy'\?; known are accuracy,",
    "barrier option": r"^barrier has no option 'repair_batch', did you mean 'repair_batches'\?; it has",
    "barrier progress": r"^progress is a int, but True, False or a function of \(done, total\) was expected",
    "barrier alphas": r"^alphas is a float, but several positions were expected, as \(0, 0\.5, 1\)",
    "repair model": rf"^model is a OrderedDict, {MODULE}; weights alone do not say",
    "repair ends": rf"^endpoints\[1\] is a str, {WEIGHTS}; read the file first$",
    "repair one end": r"^endpoints is one Sequential, but two networks or more were expected, as \(a, b\)",
    "repair batches": rf"^REPAIR {BATCHES} NoneType$",
    "interpolate": rf"^b is a str, {WEIGHTS}; read the file first$",
    "interpolate alpha": r"^alpha is a str; give a position on the line, or a weight for each network",
    "interpolate several": rf"^a\[1\] is a int, {WEIGHTS}$",
    "evaluate": rf"^model is a OrderedDict, {MODULE}; weights alone do not say",
    "evaluate weights": rf"^weights is a str, {WEIGHTS}; read the file first$",
    "evaluate data": rf"^evaluate {BATCHES} int$",
    "diversity": rf"^members\[0\] is a str, {WEIGHTS}; read the file first$",
    "diversity weights": r"^members\[0\] and all others are weights alone, which do not say how they are",
    "diversity one": r"^members is one Sequential, but several networks were expected, as \[a, b\]",
    "prune": rf"^model is a str, {WEIGHTS}; read the file first$",
    "prune weights": r"^weights by name do not say which of them to prune; give names=prunable\(model\)",
    "prune optimizer": rf"^model is a SGD, {WEIGHTS}$",
    "prunable": rf"^model is a OrderedDict, {MODULE}; weights alone do not say",
    "random_mask": rf"^like is a str, {WEIGHTS}; read the file first$",
    "random_mask gen": r"^generator is a str, but a torch\.Generator or a seed, a whole number, was",
    "random_mask gen2": r"^generator is a NoneType, but a torch\.Generator or a seed, a whole number, was",
    "erk": r"^generator is a float, but a torch\.Generator or a seed, a whole number, was",
    "random_alignment": r"^generator is a str, but a torch\.Generator or a seed, a whole number, was",
    "random_alignment sym": r"^symmetry is a Sequential, but what discover returns was expected",
    "imp": rf"^model is a str, {WEIGHTS}; read the file first$",
    "imp names": r"^weights by name do not say which of them to prune; give names=prunable\(model\)",
    "imp target": r"^the target densities are a str; give numbers in \(0, 1\), as \[0\.5, 0\.2\]",
    "imp progress": r"^progress is a str, but True, False or a function of \(done, total\) was expected",
    "apply": r"^cannot apply an alignment to str: expected a module, a state_dict, a Mask, a",
    "apply tensor": r"^cannot apply an alignment to Tensor: expected a module, a state_dict, a Mask, a",
    "apply fn": r"^cannot apply an alignment to method: expected a module, a state_dict, a Mask, a",
    "apply optimizer": r"^cannot apply an alignment to SGD: expected a module, a state_dict, a Mask, a",
    "load_into": rf"^model is a OrderedDict, {MODULE}; weights alone do not say",
    "load_into2": rf"^state_dict is a str, {WEIGHTS}; read the file first$",
    "mask apply": rf"^state_dict is a str, {WEIGHTS}; read the file first$",
    "mask": r"^a mask is made of bool tensors by name, got a Sequential; prune a model with",
    "mask floats": r"^the mask of 'w' is list, expected torch\.bool; use `tensor != 0`",
    "ticket": rf"^weights is a str, {WEIGHTS}; read the file first$",
    "ticket mask": r"^mask is a Sequential, but a Mask was expected",
    "ticket mask dict": r"^mask is a dict, but a Mask was expected; make one of them: rt\.Mask\(tensors\)",
    "sparse mask": r"^mask is a dict, but a Mask was expected; make one of them: rt\.Mask\(tensors\)",
    "sparse model": rf"^model is a OrderedDict, {MODULE}; weights alone do not say",
    "sparse opt": r"^an optimizer was expected, or several, got a Parameter",
    "discover": rf"^model is a OrderedDict, {MODULE}; weights alone do not say",
    "discover path": rf"^model is a str, {MODULE}; read the file first",
    "discover progress": r"^progress is a str, but True, False or a function of \(done, total\) was expected",
    "verify": rf"^model is a Symmetry, {MODULE}",
    "verify2": rf"^model is a OrderedDict, {MODULE}; weights alone do not say",
    "save": r"^a path is a int, but a text or a pathlib\.Path was expected",
    "load": r"^a path is a Sequential, but a text or a pathlib\.Path was expected",
    "alload": r"^the alignment 'None' cannot be read \(expected str, bytes or os\.PathLike object,",
    "symsave": r"^a path is a int, but a text or a pathlib\.Path was expected",
    "train model": rf"^model is a OrderedDict, {MODULE}; weights alone do not say",
    "train data": r"^dataset is a tuple, but a data set was expected: load_dataset\(name\), or",
    "train recipe": r"^recipe is a dict, but a Recipe was expected, as Recipe\(epochs=10,",
    "train label": r"^rng_label is a str, but a tuple of words and numbers was expected, as \('train', 0\)$",
    "train mask": r"^mask is a list, but a mask was expected; of a ticket give \.mask$",
    "train span": r"^span is a int, but a Span was expected, as Span\(start=5\)$",
    "train resume": r"^resume is a str, but a Resume was expected, as Resume\(checkpoint='run\.pt'\)$",
    "train callback": r"^callbacks is a builtin_function_or_method, but a list of Callback was expected$",
    "train callbacks": r"^callbacks\[0\] is a builtin_function_or_method, but a Callback was expected; make a class",
    "train device": r"^device 'gpu' is not one that torch knows; use cpu or cuda$",
    "evaluate split": r"^split is 'val', but a data set has the parts 'train' and 'test'; name one of these$",
    "evaluate device": r"^device 'gpu' is not one that torch knows; use cpu or cuda$",
    "recipe text": r"^recipe: epochs is '3': input should be a valid integer$",
    "recipe fraction": r"^recipe: accumulate is 1\.5: input should be a valid integer$",
    "recipe none": r"^recipe: momentum is None: input should be a valid number$",
    "recipe milestones": r"^recipe: milestones is '12': input should be a valid tuple$",
    "recipe class": r"^recipe: optimizer is <class .*>: input should be a valid string; name it, as 'package\.module",
    "recipe options": r"^recipe: optimizer_options is \[1\]: input should be a valid dictionary$",
    "recipe augment": r"^recipe: augment is 3: input should be a valid boolean or input should be a valid string$",
    "recipe function": r"^recipe: lr is <function .*>: input should be a valid number$",
}


@pytest.fixture(scope="module")
def said() -> dict[str, list[str]]:
    root = Path(__file__).parents[2]
    run = [sys.executable, "-m", "tests.messages.wrong_calls"]
    return json.loads(subprocess.run(run, cwd=root, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_wrong_kind_is_one_sentence(name: str, said: dict[str, list[str]]) -> None:
    kind, text = said[name]
    assert kind == "ReticketError", text
    assert re.search(EXPECTED[name], text), text
    assert "\n" not in text
    assert "has no attribute" not in text


def test_every_wrong_call_is_looked_at(said: dict[str, list[str]]) -> None:
    assert said.keys() == EXPECTED.keys()
