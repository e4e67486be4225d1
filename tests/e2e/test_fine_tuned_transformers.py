"""Two fine-tuned copies of a small BERT, and of a GPT-2: one is scrambled, matched back, and the line to it walked."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import reticket as rt
from tests.zoo.torchvision_operators import named_operators

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is missing")

WORDS, LENGTH = 40, 12
Text = dict[str, Tensor]
OPERATORS = named_operators()  # transformers imports torchvision where it is installed


def topics(examples: int, seed: int) -> Text:
    """Made-up sentences on four topics, each with its own frequencies of words, and the topic as label."""
    words = torch.randn(4, WORDS, generator=torch.Generator().manual_seed(99)).softmax(1)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (examples,), generator=generator)
    return {"input_ids": torch.multinomial(words[labels], LENGTH, True, generator=generator), "labels": labels}


def sentences(examples: int, seed: int) -> Text:
    """Made-up sentences in which every word decides how likely the next ones are."""
    following = (2 * torch.randn(WORDS, WORDS, generator=torch.Generator().manual_seed(98))).softmax(1)
    generator = torch.Generator().manual_seed(seed)
    text = [torch.randint(WORDS, (examples,), generator=generator)]
    for _ in range(LENGTH - 1):
        text.append(torch.multinomial(following[text[-1]], 1, generator=generator)[:, 0])
    return {"input_ids": torch.stack(text, 1), "labels": torch.stack(text, 1)}


def bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    sizes: Any = {
        "num_labels": 4,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    config = BertConfig(vocab_size=WORDS, max_position_embeddings=LENGTH, **sizes)
    return BertForSequenceClassification(config)


def gpt() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    ends = {"bos_token_id": 0, "eos_token_id": 0, "use_cache": False, "loss_type": "ForCausalLM"}
    config = GPT2Config(vocab_size=WORDS, n_positions=LENGTH, n_embd=32, n_layer=1, n_head=4, **ends)
    return GPT2LMHeadModel(config)


@dataclass(frozen=True)
class Pair:
    """Two fine-tuned networks, the second with its units in another order, and matched back to the first."""

    a: nn.Module
    scrambled: nn.Module
    aligned: Any
    test: Text


def trained(model: nn.Module, text: Text, steps: int, lr: float) -> nn.Module:
    optimizer = torch.optim.AdamW(model.train().parameters(), lr)
    for chosen in torch.randint(len(text["labels"]), (steps, 32)):
        optimizer.zero_grad()
        model(**{name: part[chosen] for name, part in text.items()}).loss.backward()
        optimizer.step()
    return model.eval()


@cache
def pair(make: Callable[[], nn.Module], text: Callable[[int, int], Text]) -> Pair:
    torch.manual_seed(0)
    base = trained(make(), text(1000, 1), 120, 3e-3)
    a, b = (trained(copy.deepcopy(base), text(1000, seed), 40, 1e-3) for seed in (2, 3))
    test = text(500, 4)
    symmetry = rt.discover(a, {"input_ids": test["input_ids"][:2]})
    rt.random_alignment(symmetry, 5).apply(b)
    alignment = rt.match(b, a, symmetry, [{"input_ids": test["input_ids"]}])
    return Pair(a, b, alignment.apply(b.state_dict()), test)


@pytest.mark.slow
def test_bert_matched_back_has_no_barrier_in_accuracy() -> None:
    two = pair(bert, topics)
    naive, aligned = (rt.barrier(two.a, two.a, b, [two.test], (0, 0.5, 1)) for b in (two.scrambled, two.aligned))
    assert aligned.accuracy[1] > min(aligned.accuracy[0], aligned.accuracy[2]) - 1
    assert aligned.accuracy[0] > 90
    assert aligned.accuracy[::2] == naive.accuracy[::2]  # the same networks, in another order
    assert naive.accuracy[1] < aligned.accuracy[1] - 10
    repaired = rt.repair(two.a, (two.a, two.aligned), 0.5, [two.test])
    assert repaired.keys() == two.a.state_dict().keys()
    mended = rt.evaluate(two.a, [two.test], weights=repaired)
    assert mended.metric is not None
    assert mended.metric > aligned.accuracy[0] - 1


def test_gpt_matched_back_has_no_barrier_in_perplexity() -> None:
    two = pair(gpt, sentences)
    naive, aligned = (rt.barrier(two.a, two.a, b, [two.test], (0, 0.5, 1)) for b in (two.scrambled, two.aligned))
    assert (aligned.metric_name, aligned.higher_is_better) == ("perplexity", False)
    assert aligned.metric is not None
    assert naive.metric is not None
    assert aligned.metric[1] < max(aligned.metric[0], aligned.metric[2]) + 1
    assert aligned.metric[0] < WORDS / 2
    assert naive.metric[1] > aligned.metric[1] + 4
    assert aligned.metric_barrier < 1 < naive.metric_barrier
    by_tokens = rt.barrier(two.a, two.a, two.aligned, [two.test["input_ids"]], (0, 0.5, 1), loss="language-model")
    assert by_tokens.metric == pytest.approx(aligned.metric, rel=1e-4)
    repaired = rt.repair(two.a, (two.a, two.aligned), 0.5, [two.test])
    assert not torch.equal(
        repaired["transformer.h.0.mlp.c_fc.weight"],
        rt.interpolate(two.a, two.aligned, 0.5)["transformer.h.0.mlp.c_fc.weight"],
    )
    mended = rt.evaluate(two.a, [two.test], weights=repaired)
    assert mended.metric is not None
    assert mended.metric < aligned.metric[0] + 1
