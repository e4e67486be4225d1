"""Language models of transformers for the wide sweep, in two layers each: the configuration says all there is."""

from typing import Any

from tests.zoo.entries import LABELS, WORDS, Family

# what a configuration is told, in the words of most of them
TEXT: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
READER = TEXT | {"num_labels": LABELS}  # encoders: a text is classified
WRITER = TEXT | {"num_key_value_heads": 2, "head_dim": 8}  # decoders: the next token
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 20}
GPT: dict[str, Any] = {
    "vocab_size": WORDS,
    "n_positions": 32,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_inner": 40,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
XLM = {"vocab_size": WORDS, "n_words": WORDS, "emb_dim": 32, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 32}
T5: dict[str, Any] = {
    "vocab_size": WORDS,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 40,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
}
BART: dict[str, Any] = {
    "vocab_size": WORDS,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 36,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "forced_eos_token_id": None,
}
PAIR = {"input_ids": "words", "decoder_input_ids": ("words", 6)}


def reader(name: str, stem: str, head: str = "SequenceClassification", **options: Any) -> Family:
    return Family(name, f"{stem}For{head}", f"{stem}Config", READER | options)


def writer(name: str, stem: str, **options: Any) -> Family:
    return Family(name, f"{stem}ForCausalLM", f"{stem}Config", WRITER | options)


def translator(name: str, stem: str, options: dict[str, Any], head: str = "ForConditionalGeneration") -> Family:
    return Family(name, stem + head, f"{stem}Config", options, PAIR)


ENCODERS = (
    reader("bert", "Bert"),
    reader("bert-masked-lm", "Bert", "MaskedLM"),
    reader("roberta", "Roberta"),
    reader("roberta-prelayernorm", "RobertaPreLayerNorm"),
    reader("camembert", "Camembert"),
    reader("xlm-roberta-xl", "XLMRobertaXL"),
    reader("xmod", "Xmod", languages=["en"], default_language="en"),
    reader("albert", "Albert", embedding_size=16),
    reader("electra", "Electra", embedding_size=16),
    Family(
        "distilbert",
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        READER | {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 40},
    ),
    reader("deberta", "Deberta", relative_attention=True, pos_att_type=["c2p", "p2c"], type_vocab_size=0),
    reader("deberta-v2", "DebertaV2", relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=8),
    reader("mpnet", "MPNet"),
    Family(
        "xlnet",
        "XLNetForSequenceClassification",
        "XLNetConfig",
        {"vocab_size": WORDS, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 40, "num_labels": LABELS},
    ),
    Family("xlm", "XLMForSequenceClassification", "XLMConfig", XLM | {"num_labels": LABELS}),
    Family("flaubert", "FlaubertForSequenceClassification", "FlaubertConfig", XLM | {"num_labels": LABELS}),
    reader("roformer", "RoFormer", embedding_size=16, rotary_value=False),
    reader("fnet", "FNet"),
    reader("longformer", "Longformer", attention_window=[4, 4]),
    reader("big-bird", "BigBird", attention_type="original_full"),
    reader("esm", "Esm", position_embedding_type="rotary", mask_token_id=3),
    Family(
        "funnel",
        "FunnelForSequenceClassification",
        "FunnelConfig",
        {
            "vocab_size": WORDS,
            "block_sizes": [1, 1],
            "d_model": 32,
            "n_head": 4,
            "d_head": 8,
            "d_inner": 40,
            "num_labels": LABELS,
            "num_decoder_layers": 1,
        },
    ),
    reader("squeezebert", "SqueezeBert", embedding_size=32),
    reader("mobilebert", "MobileBert", embedding_size=16, true_hidden_size=32, intra_bottleneck_size=32),
    reader("convbert", "ConvBert", embedding_size=16, conv_kernel_size=3),
    reader("rembert", "RemBert", input_embedding_size=16, output_embedding_size=20),
    reader("megatron-bert", "MegatronBert"),
    Family(
        "nystromformer",
        "NystromformerForSequenceClassification",
        "NystromformerConfig",
        READER | {"num_landmarks": 4, "segment_means_seq_len": 16},
        size=16,
        others=(),
    ),
    reader("ibert", "IBert"),
    reader("layoutlm", "LayoutLM"),
    reader("ernie", "Ernie"),
    reader("modernbert", "ModernBert", local_attention=4, cls_token_id=1, sep_token_id=2),
    reader("nomic-bert", "NomicBert"),
    Family(
        "canine",
        "CanineForSequenceClassification",
        "CanineConfig",
        READER | {"num_hash_functions": 2, "num_hash_buckets": 8, "local_transformer_stride": 4},
        others=(5, 6),
    ),
)
DECODERS = (
    Family("gpt2", "GPT2LMHeadModel", "GPT2Config", GPT),
    Family("openai-gpt", "OpenAIGPTLMHeadModel", "OpenAIGPTConfig", GPT),
    Family("gpt-bigcode", "GPTBigCodeForCausalLM", "GPTBigCodeConfig", GPT),
    Family("gptj", "GPTJForCausalLM", "GPTJConfig", GPT | {"rotary_dim": 4}),
    Family("codegen", "CodeGenForCausalLM", "CodeGenConfig", GPT | {"rotary_dim": 4}),
    Family("ctrl", "CTRLLMHeadModel", "CTRLConfig", GPT | {"dff": 40}),
    writer("gpt-neo", "GPTNeo", num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=4),
    writer("gpt-neox", "GPTNeoX", rotary_pct=0.5),
    writer("opt", "OPT", ffn_dim=40, word_embed_proj_dim=32),
    writer("bloom", "Bloom", n_layer=2, n_head=4),
    Family(
        "mpt",
        "MptForCausalLM",
        "MptConfig",
        {"vocab_size": WORDS, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 32},
    ),
    writer("biogpt", "BioGpt"),
    Family(
        "xglm",
        "XGLMForCausalLM",
        "XGLMConfig",
        TEXT | {"d_model": 32, "ffn_dim": 40, "num_layers": 2, "attention_heads": 4},
    ),
    writer("llama", "Llama"),
    writer("mistral", "Mistral", sliding_window=4),
    writer("mixtral", "Mixtral", **EXPERTS),
    writer("qwen2", "Qwen2"),
    writer("qwen2-moe", "Qwen2Moe", **EXPERTS, shared_expert_intermediate_size=24),
    writer("qwen3", "Qwen3"),
    writer("qwen3-moe", "Qwen3Moe", **EXPERTS),
    writer(
        "qwen3-next",
        "Qwen3Next",
        **EXPERTS,
        shared_expert_intermediate_size=24,
        layer_types=["linear_attention", "full_attention"],
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
    ),
    writer("phi", "Phi", partial_rotary_factor=0.5),
    writer("phi3", "Phi3"),
    writer("phimoe", "Phimoe", **EXPERTS),
    writer("gemma", "Gemma"),
    writer("gemma2", "Gemma2", query_pre_attn_scalar=8, sliding_window=4),
    Family(
        "gemma3",
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        WRITER
        | {"query_pre_attn_scalar": 8, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    Family(
        "falcon",
        "FalconForCausalLM",
        "FalconConfig",
        TEXT | {"new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 40},
    ),
    writer("stablelm", "StableLm", partial_rotary_factor=0.5),
    writer("olmo", "Olmo"),
    writer("olmo2", "Olmo2"),
    writer("olmoe", "Olmoe", **EXPERTS),
    writer("cohere", "Cohere"),
    writer("cohere2", "Cohere2", sliding_window=4, layer_types=["sliding_attention", "full_attention"]),
    writer("granite", "Granite"),
    writer("granitemoe", "GraniteMoe", **EXPERTS),
    writer("starcoder2", "Starcoder2", sliding_window=None),
    writer("nemotron", "Nemotron"),
    writer("persimmon", "Persimmon"),
    writer("glm", "Glm", partial_rotary_factor=0.5),
    writer("smollm3", "SmolLM3", no_rope_layers=[1, 0]),
    writer("helium", "Helium"),
    writer("exaone4", "Exaone4", sliding_window=4, layer_types=["sliding_attention", "full_attention"]),
    writer(
        "deepseek-v3",
        "DeepseekV3",
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=2,
        topk_group=1,
        moe_intermediate_size=20,
        first_k_dense_replace=1,
        q_lora_rank=12,
        kv_lora_rank=16,
        qk_rope_head_dim=4,
        head_dim=4,
        qk_nope_head_dim=8,
        v_head_dim=8,
        num_key_value_heads=4,
    ),
    writer("gpt-oss", "GptOss", **EXPERTS, sliding_window=4, layer_types=["sliding_attention", "full_attention"]),
    writer("mamba", "Mamba", state_size=4, conv_kernel=4, expand=2, time_step_rank=3),
    writer("falcon-mamba", "FalconMamba", state_size=4, conv_kernel=4, expand=2, time_step_rank=3),
    writer(
        "mamba2", "Mamba2", state_size=4, conv_kernel=4, expand=2, num_heads=8, head_dim=8, n_groups=2, chunk_size=4
    ),
    writer(
        "recurrent-gemma",
        "RecurrentGemma",
        lru_width=32,
        attention_window_size=8,
        block_types=["recurrent", "attention"],
    ),
    writer("rwkv", "Rwkv", attention_hidden_size=32, context_length=32),
    writer("lfm2", "Lfm2", layer_types=["conv", "full_attention"], block_multiple_of=8),
    writer(
        "jamba",
        "Jamba",
        **EXPERTS,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        mamba_d_state=4,
        mamba_dt_rank=3,
        use_mamba_kernels=False,
    ),
    writer("bitnet", "BitNet"),
    writer("diffllama", "DiffLlama"),
)
TRANSLATORS = (
    translator("t5", "T5", T5),
    translator("t5-gated", "T5", T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    translator("mt5", "MT5", T5),
    translator("umt5", "UMT5", T5),
    Family(
        "longt5",
        "LongT5ForConditionalGeneration",
        "LongT5Config",
        T5 | {"local_radius": 3, "encoder_attention_type": "local"},
        PAIR | {"attention_mask": "ones"},
    ),
    translator(
        "switch-transformers",
        "SwitchTransformers",
        T5 | {"num_experts": 4, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "expert_capacity": 8},
    ),
    translator("bart", "Bart", BART),
    translator("mbart", "MBart", BART),
    translator("pegasus", "Pegasus", BART),
    translator("marian", "Marian", BART, "MTModel"),
    translator("m2m-100", "M2M100", BART),
    translator("blenderbot", "Blenderbot", BART),
    translator("plbart", "PLBart", BART),
    translator(
        "led",
        "LED",
        BART | {"attention_window": 4, "max_encoder_position_embeddings": 32, "max_decoder_position_embeddings": 32},
    ),
)
TEXTS = ENCODERS + DECODERS + TRANSLATORS
