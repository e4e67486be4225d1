"""Hugging Face architectures, tiny and random: configuration and order stand side by side.

Models answer with logits alone: every other output, as the last hidden state, would pin the axes it shows.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.case import Case, attention, orders

WORDS, LABELS = 53, 2


class Answer(nn.Module):
    """A model of which one output is looked at."""

    def __init__(self, model: nn.Module, output: str = "logits") -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, **inputs: Tensor) -> Tensor:
        return getattr(self.model(**inputs), self.output)


def words(length: int) -> Tensor:
    return torch.randint(3, WORDS, (2, length))


def image(size: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, size, size)


def bert() -> tuple[nn.Module, Any]:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=20,
        max_position_embeddings=16,
    )
    return Answer(BertForSequenceClassification(config)), {"input_ids": words(7)}


def gpt2() -> tuple[nn.Module, Any]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=WORDS,
        n_positions=16,
        n_embd=24,
        n_layer=2,
        n_head=3,
        n_inner=20,
        use_cache=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    return Answer(GPT2LMHeadModel(config)), {"input_ids": words(7)}


LLAMA = {
    "vocab_size": WORDS,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 4,
    "max_position_embeddings": 16,
    "use_cache": False,
}


def llama() -> tuple[nn.Module, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    return Answer(LlamaForCausalLM(LlamaConfig(**LLAMA))), {"input_ids": words(7)}  # pyright: ignore


def qwen3() -> tuple[nn.Module, Any]:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Answer(Qwen3ForCausalLM(Qwen3Config(**LLAMA))), {"input_ids": words(7)}  # pyright: ignore


def mixtral(how: str) -> tuple[nn.Module, Any]:
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(**LLAMA, num_local_experts=4, num_experts_per_tok=2, experts_implementation=how)  # pyright: ignore
    return Answer(MixtralForCausalLM(config)), {"input_ids": words(7)}


def vit() -> tuple[nn.Module, Any]:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=20,
        image_size=8,
        patch_size=4,
    )
    return Answer(ViTForImageClassification(config)), {"pixel_values": image(8)}


def resnet() -> tuple[nn.Module, Any]:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=6, hidden_sizes=[8, 12], depths=[1, 2], layer_type="bottleneck")
    return Answer(ResNetForImageClassification(config)), {"pixel_values": image(32)}


def t5() -> tuple[nn.Module, Any]:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=WORDS,
        d_model=24,
        d_kv=4,
        d_ff=20,
        num_layers=2,
        num_heads=3,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=16,
        use_cache=False,
    )
    return Answer(T5ForConditionalGeneration(config)), {"input_ids": words(7), "decoder_input_ids": words(5)}


def swin() -> tuple[nn.Module, Any]:
    from transformers import SwinConfig, SwinForImageClassification

    config = SwinConfig(image_size=16, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=2)
    return Answer(SwinForImageClassification(config)), {"pixel_values": image(16)}


def clip() -> tuple[nn.Module, Any]:
    from transformers import CLIPConfig, CLIPModel

    layers = {"num_hidden_layers": 2, "num_attention_heads": 3, "projection_dim": 10}
    text = {"vocab_size": WORDS, "hidden_size": 24, "intermediate_size": 20, "max_position_embeddings": 16}
    text |= {"bos_token_id": 1, "eos_token_id": 2}
    vision = {"hidden_size": 18, "intermediate_size": 14, "image_size": 8, "patch_size": 4}
    config = CLIPConfig(text_config={**text, **layers}, vision_config={**vision, **layers}, projection_dim=10)
    return Answer(CLIPModel(config), "logits_per_image"), {"input_ids": words(7), "pixel_values": image(8)}


def whisper() -> tuple[nn.Module, Any]:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=WORDS,
        num_mel_bins=5,
        d_model=24,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=3,
        decoder_attention_heads=3,
        encoder_ffn_dim=20,
        decoder_ffn_dim=18,
        max_source_positions=10,
        max_target_positions=12,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        use_cache=False,
    )
    sound = torch.randn(2, 5, 20)
    return Answer(WhisperForConditionalGeneration(config)), {"input_features": sound, "decoder_input_ids": words(5)}


def mamba() -> tuple[nn.Module, Any]:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(
        vocab_size=WORDS,
        hidden_size=12,
        state_size=4,
        num_hidden_layers=2,
        conv_kernel=4,
        expand=2,
        time_step_rank=3,
        use_cache=False,
    )
    return Answer(MambaForCausalLM(config)), {"input_ids": words(6)}


# Rotary position embedding turns channel i of a query or key against channel i + d/2, each pair by its own angle, so no
# channel of a query or key moves; those of the values do. Two queries share each of three heads of keys and values.
ROTARY = attention(heads=3, query=1, value=4, shared=2)

CASES = {
    # the residual stream, the pooler's output, and in each layer the heads and the feed-forward units
    "bert": Case(bert, orders(24, 24) + 2 * (attention(3, 8, 8) + orders(20)), still=LABELS, quick=True),
    # word embeddings are tied to the head: the stream is one; q, k and v come from one fused projection
    "gpt2": Case(gpt2, orders(24) + 2 * (attention(3, 8, 8) + orders(20)), still=0, quick=True),
    # gate and up projections multiply, so that they share their units
    "llama": Case(llama, orders(24) + 2 * (ROTARY + orders(20)), still=0, quick=True),
    # the norms of queries and keys weigh channels that the rotation has pinned already
    "qwen3": Case(qwen3, orders(24) + 2 * (ROTARY + orders(20)), still=2 * 2 * 4),
    # experts are picked by index, which pins them; tokens meet the units of whichever expert they are sent to, so that
    # all experts share one permutation. The whole symmetry has 4! * (20!)^4 in each layer in place of this 20!.
    **{
        f"mixtral-{how}": Case(partial(mixtral, how), orders(24) + 2 * (ROTARY + orders(20)), still=0)
        for how in ("grouped_mm", "batched_mm")
    },
    # as BERT without a pooler
    "vit": Case(vit, orders(24) + 2 * (attention(3, 8, 8) + orders(20)), still=LABELS),
    # the stem, the stream of each stage, and two inner layers of a quarter of its width in every bottleneck
    "resnet": Case(resnet, orders(6) + orders(8, 2, 2) + orders(12, 3, 3, 3, 3), still=LABELS),
    # both streams are tied through the shared word embeddings; the first layer's table of relative positions, one bias
    # for each head, is used by all layers of its stack, so that heads of self-attention move together in encoder and
    # decoder each, while every layer's cross-attention has heads of its own
    "t5": Case(
        t5,
        orders(24)
        + 2 * orders(3)
        + 2 * (3 * orders(4, 4) + orders(20))
        + 2 * (3 * orders(4, 4) + attention(3, 4, 4) + orders(20)),
        still=0,
    ),
    # a stream for each stage; merging patches stacks four copies of the channels, which move alike
    "swin": Case(
        swin,
        orders(8) + 2 * (attention(2, 4, 4) + orders(32)) + orders(16) + 2 * (attention(4, 4, 4) + orders(64)),
        still=LABELS,
    ),
    # two towers, each with a stream of its own, and the space in which they meet
    "clip": Case(
        clip,
        orders(10)
        + orders(24)
        + 2 * (attention(3, 8, 8) + orders(20))
        + orders(18)
        + 2 * (attention(3, 6, 6) + orders(14)),
        still=0,
    ),
    # the first convolution, the streams of encoder and decoder; a decoder layer attends twice
    "whisper": Case(
        whisper,
        orders(24)
        + orders(24)
        + 2 * (attention(3, 8, 8) + orders(20))
        + orders(24)
        + 2 * (2 * attention(3, 8, 8) + orders(18)),
        still=0,
    ),
    # the stream and in each layer the channels of the scan, the state (of A, B and C) and the rank of the time step
    "mamba": Case(mamba, orders(12) + 2 * orders(24, 4, 3), still=0),
}
