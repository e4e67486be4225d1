"""`python -m benchmarks.pruned`: what pruning to density 0.1 prunes of six architectures, zeros counted one by one.

Which parameters are no matrices is written down by hand for each model; the count looks at nothing else. The models
are tiny configurations with random weights; torchvision's and transformers' are left out where these do not import.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

import reticket as rt

DENSITY = 0.1


@dataclass(frozen=True)
class Case:
    """One architecture.

    Args:
        build: returns the model and inputs for it.
        not_matrices: patterns of the parameters of two axes or more that multiply no activations, by hand; a tied
            output layer is an embedding.
    """

    build: Callable[[], tuple[nn.Module, Any]]
    not_matrices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Counted:
    """What pruning one model gave.

    Args:
        matrices: number of weights in all matrices, by hand.
        pruned: of these in matrices that the mask is about.
        reported: the mask's density.
        true: the true density that `rt.coverage` gives.
        zeros: number of weights in matrices that are 0 after `Mask.apply_to`.
        coverage: what the mask leaves as it is, in words.
    """

    matrices: int
    pruned: int
    reported: float
    true: float
    zeros: int
    coverage: str

    @property
    def counted(self) -> float:
        """Density by counting zeros."""
        return 1 - self.zeros / self.matrices


def vision_transformer() -> tuple[nn.Module, Any]:
    """torchvision's ViT-B/16 with two blocks of width 32; its attention is torch's, with fused projections."""
    from torchvision.models import VisionTransformer

    model = VisionTransformer(
        image_size=32, patch_size=16, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=10
    )
    nn.init.normal_(model.heads[0].weight)  # pyright: ignore[reportArgumentType] (torchvision begins with zeros)
    return model, torch.randn(2, 3, 32, 32)


def encoder() -> tuple[nn.Module, Any]:
    """Two layers of `nn.TransformerEncoder`."""
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.randn(2, 5, 32)


def gpt2() -> tuple[nn.Module, Any]:
    """GPT-2 of transformers: layers of `Conv1D`, the output layer is the table of words."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=53, n_positions=16, n_embd=24, n_layer=2, n_head=3, use_cache=False)
    return GPT2LMHeadModel(config), {"input_ids": torch.randint(0, 53, (2, 7))}


def bert() -> tuple[nn.Module, Any]:
    """BERT of transformers, with a classifier."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=53,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=16,
    )
    return BertForSequenceClassification(config), {"input_ids": torch.randint(3, 53, (2, 7))}


class Speech(nn.Module):
    """Two layers of an LSTM in both directions over a table of words, read by a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(53, 12)
        self.lstm = nn.LSTM(12, 16, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return scores of every step."""
        return self.head(self.lstm(self.words(ids))[0])


def mixtral() -> tuple[nn.Module, Any]:
    """Mixtral of transformers: the matrices of its experts are stacked in parameters of three axes."""
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=53,
        hidden_size=24,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=3,
        head_dim=4,
        max_position_embeddings=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        use_cache=False,
    )
    return MixtralForCausalLM(config), {"input_ids": torch.randint(0, 53, (2, 7))}


CASES: Mapping[str, Case] = {
    "torchvision ViT-B/16": Case(vision_transformer, ("class_token", "encoder.pos_embedding")),
    "nn.TransformerEncoder": Case(encoder),
    "GPT-2": Case(gpt2, ("transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight")),
    "BERT": Case(bert, ("bert.embeddings.*",)),
    "LSTM": Case(lambda: (Speech(), torch.randint(0, 53, (2, 7))), ("words.weight",)),
    "Mixtral": Case(mixtral, ("model.embed_tokens.weight",)),
}


def counted(case: Case, density: float = DENSITY) -> Counted:
    """Prune one model by magnitude, and count.

    Args:
        case: the architecture.
        density: fraction of the matrices that is to be kept.
    """
    torch.manual_seed(0)
    model, inputs = case.build()
    mask = rt.prune_magnitude(model, density, names=rt.prunable(model, inputs))
    matrices = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and not any(fnmatchcase(name, pattern) for pattern in case.not_matrices)
    }
    after = mask.apply_to(model.state_dict())
    seen = rt.coverage(mask, model, inputs)
    return Counted(
        matrices=sum(parameter.numel() for parameter in matrices.values()),
        pruned=sum(matrices[name].numel() for name in mask if name in matrices),
        reported=mask.density,
        true=seen.true_density,
        zeros=sum(int((after[name] == 0).sum()) for name in matrices),
        coverage=str(seen),
    )


def table() -> str:
    """Return the table as Markdown."""
    lines = [
        "| model | weights in matrices | pruned share | reported | true | by counting zeros |",
        "|---|---|---|---|---|---|",
    ]
    for name, case in CASES.items():
        try:
            found = counted(case)
        except ModuleNotFoundError as problem:
            lines.append(f"| {name} | {problem} | | | | |")
            continue
        densities = " | ".join(f"{density:.6f}" for density in (found.reported, found.true, found.counted))
        lines.append(f"| {name} | {found.matrices} | {100 * found.pruned / found.matrices:.1f} % | {densities} |")
    return "\n".join(lines)


if __name__ == "__main__":
    from tests.zoo.torchvision_operators import named_operators

    kept = named_operators()  # torchvision then imports beside a build of torch that it was not made for
    print(table())
