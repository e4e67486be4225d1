"""Families of transformers for the wide sweep, each in two layers: what the configuration says is all there is."""

from typing import Any

from tests.zoo.entries import LABELS, WORDS, Family, Size

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
PICTURE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "image_size": 16,
    "patch_size": 4,
    "num_labels": LABELS,
}
SOUND: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "conv_dim": (16, 16),
    "conv_kernel": (8, 3),
    "conv_stride": (4, 2),
    "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 2,
    "mask_time_prob": 0.0,
    "layerdrop": 0.0,
}
PAIR = {"input_ids": "words", "decoder_input_ids": ("words", 6)}
BOTH = {"input_ids": "words", "pixel_values": ("image", 16)}
IMAGE = {"pixel_values": "image"}


def reader(name: str, stem: str, head: str = "SequenceClassification", **options: Any) -> Family:
    return Family(name, f"{stem}For{head}", f"{stem}Config", READER | options)


def writer(name: str, stem: str, head: str = "ForCausalLM", **options: Any) -> Family:
    return Family(name, stem + head, f"{stem}Config", WRITER | options)


def translator(name: str, stem: str, options: dict[str, Any], head: str = "ForConditionalGeneration") -> Family:
    return Family(name, stem + head, f"{stem}Config", options, PAIR)


def picture(
    name: str, stem: str, size: Size = 32, others: tuple[Size, ...] = (64, (64, 32)), head: str = "", **options: Any
) -> Family:
    head = head or f"{stem}ForImageClassification"
    return Family(name, head, f"{stem}Config", {"num_labels": LABELS, **options}, IMAGE, size, others)


def patches(name: str, stem: str, interpolated: bool = True, **options: Any) -> Family:
    """Return a family with a table of positions, which most interpolate for other sizes when they are told to."""
    told = {"interpolate_pos_encoding": ("constant", True)} if interpolated else {}
    head = f"{stem}ForImageClassification"
    return Family(name, head, f"{stem}Config", PICTURE | options, IMAGE | told, 16, (24, (32, 16)))


def sound(name: str, stem: str, head: str = "ForCTC", **options: Any) -> Family:
    return Family(name, stem + head, f"{stem}Config", SOUND | options, {"input_values": "sound"}, 200, (150, 333))


def towers(name: str, stem: str, **options: Any) -> Family:
    text, vision = TEXT | {"projection_dim": 12}, PICTURE | {"projection_dim": 12}
    given = {"text_config": text, "vision_config": vision, "projection_dim": 12, **options}
    return Family(name, f"{stem}Model", f"{stem}Config", given, BOTH, output="logits_per_image")


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
    Family("distilbert", "DistilBertForSequenceClassification", "DistilBertConfig", READER | {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 40}),  # fmt: skip
    reader("deberta", "Deberta", relative_attention=True, pos_att_type=["c2p", "p2c"], type_vocab_size=0),
    reader("deberta-v2", "DebertaV2", relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=8),
    reader("mpnet", "MPNet"),
    Family("xlnet", "XLNetForSequenceClassification", "XLNetConfig", {"vocab_size": WORDS, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 40, "num_labels": LABELS}),  # fmt: skip
    Family("xlm", "XLMForSequenceClassification", "XLMConfig", XLM | {"num_labels": LABELS}),
    Family("flaubert", "FlaubertForSequenceClassification", "FlaubertConfig", XLM | {"num_labels": LABELS}),
    reader("roformer", "RoFormer", embedding_size=16, rotary_value=False),
    reader("fnet", "FNet"),
    reader("longformer", "Longformer", attention_window=[4, 4]),
    reader("big-bird", "BigBird", attention_type="original_full"),
    reader("esm", "Esm", position_embedding_type="rotary", mask_token_id=3),
    Family("funnel", "FunnelForSequenceClassification", "FunnelConfig", {"vocab_size": WORDS, "block_sizes": [1, 1], "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 40, "num_labels": LABELS, "num_decoder_layers": 1}),  # fmt: skip
    reader("squeezebert", "SqueezeBert", embedding_size=32),
    reader("mobilebert", "MobileBert", embedding_size=16, true_hidden_size=32, intra_bottleneck_size=32),
    reader("convbert", "ConvBert", embedding_size=16, conv_kernel_size=3),
    reader("rembert", "RemBert", input_embedding_size=16, output_embedding_size=20),
    reader("megatron-bert", "MegatronBert"),
    Family("nystromformer", "NystromformerForSequenceClassification", "NystromformerConfig", READER | {"num_landmarks": 4, "segment_means_seq_len": 16}, size=16, others=()),  # fmt: skip
    reader("ibert", "IBert"),
    reader("layoutlm", "LayoutLM"),
    reader("ernie", "Ernie"),
    reader("modernbert", "ModernBert", local_attention=4, cls_token_id=1, sep_token_id=2),
    reader("nomic-bert", "NomicBert"),
    Family("canine", "CanineForSequenceClassification", "CanineConfig", READER | {"num_hash_functions": 2, "num_hash_buckets": 8, "local_transformer_stride": 4}, others=(5, 6)),  # fmt: skip
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
    Family("mpt", "MptForCausalLM", "MptConfig", {"vocab_size": WORDS, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 32}),  # fmt: skip
    writer("biogpt", "BioGpt"),
    Family("xglm", "XGLMForCausalLM", "XGLMConfig", TEXT | {"d_model": 32, "ffn_dim": 40, "num_layers": 2, "attention_heads": 4}),  # fmt: skip
    writer("llama", "Llama"),
    writer("mistral", "Mistral", sliding_window=4),
    writer("mixtral", "Mixtral", **EXPERTS),
    writer("qwen2", "Qwen2"),
    writer("qwen2-moe", "Qwen2Moe", **EXPERTS, shared_expert_intermediate_size=24),
    writer("qwen3", "Qwen3"),
    writer("qwen3-moe", "Qwen3Moe", **EXPERTS),
    writer("qwen3-next", "Qwen3Next", **EXPERTS, shared_expert_intermediate_size=24, layer_types=["linear_attention", "full_attention"], linear_num_value_heads=4, linear_num_key_heads=2, linear_key_head_dim=8, linear_value_head_dim=8),  # fmt: skip
    writer("phi", "Phi", partial_rotary_factor=0.5),
    writer("phi3", "Phi3"),
    writer("phimoe", "Phimoe", **EXPERTS),
    writer("gemma", "Gemma"),
    writer("gemma2", "Gemma2", query_pre_attn_scalar=8, sliding_window=4),
    Family("gemma3", "Gemma3ForCausalLM", "Gemma3TextConfig", WRITER | {"query_pre_attn_scalar": 8, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}),  # fmt: skip
    Family("falcon", "FalconForCausalLM", "FalconConfig", TEXT | {"new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 40}),
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
    writer("deepseek-v3", "DeepseekV3", n_routed_experts=4, num_experts_per_tok=2, n_group=2, topk_group=1, moe_intermediate_size=20, first_k_dense_replace=1, q_lora_rank=12, kv_lora_rank=16, qk_rope_head_dim=4, head_dim=4, qk_nope_head_dim=8, v_head_dim=8, num_key_value_heads=4),  # fmt: skip
    writer("gpt-oss", "GptOss", **EXPERTS, sliding_window=4, layer_types=["sliding_attention", "full_attention"]),
    writer("mamba", "Mamba", state_size=4, conv_kernel=4, expand=2, time_step_rank=3),
    writer("falcon-mamba", "FalconMamba", state_size=4, conv_kernel=4, expand=2, time_step_rank=3),
    writer("mamba2", "Mamba2", state_size=4, conv_kernel=4, expand=2, num_heads=8, head_dim=8, n_groups=2, chunk_size=4),
    writer("recurrent-gemma", "RecurrentGemma", lru_width=32, attention_window_size=8, block_types=["recurrent", "attention"]),  # fmt: skip
    writer("rwkv", "Rwkv", attention_hidden_size=32, context_length=32),
    writer("lfm2", "Lfm2", layer_types=["conv", "full_attention"], block_multiple_of=8),
    writer("jamba", "Jamba", **EXPERTS, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1, mamba_d_state=4, mamba_dt_rank=3, use_mamba_kernels=False),  # fmt: skip
    writer("bitnet", "BitNet"),
    writer("diffllama", "DiffLlama"),
)
TRANSLATORS = (
    translator("t5", "T5", T5),
    translator("t5-gated", "T5", T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    translator("mt5", "MT5", T5),
    translator("umt5", "UMT5", T5),
    translator("longt5", "LongT5", T5 | {"local_radius": 3, "encoder_attention_type": "local"}),
    translator("switch-transformers", "SwitchTransformers", T5 | {"num_experts": 4, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "expert_capacity": 8}),  # fmt: skip
    translator("bart", "Bart", BART),
    translator("mbart", "MBart", BART),
    translator("pegasus", "Pegasus", BART),
    translator("marian", "Marian", BART, "MTModel"),
    translator("m2m-100", "M2M100", BART),
    translator("blenderbot", "Blenderbot", BART),
    translator("plbart", "PLBart", BART),
    translator("led", "LED", BART | {"attention_window": 4, "max_encoder_position_embeddings": 32, "max_decoder_position_embeddings": 32}),  # fmt: skip
)
VISION = (
    patches("vit", "ViT"),
    patches("deit", "DeiT"),
    patches("beit", "Beit", False, use_relative_position_bias=True),
    patches("data2vec-vision", "Data2VecVision", False, use_shared_relative_position_bias=True),
    patches("dinov2", "Dinov2", False),
    patches("dinov2-with-registers", "Dinov2WithRegisters", False),
    patches("ijepa", "IJepa"),
    patches("vit-msn", "ViTMSN"),
    patches("siglip-image", "Siglip", vision_config=PICTURE),
    picture("swin", "Swin", 16, (24, 32), image_size=16, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=2),  # fmt: skip
    picture("swinv2", "Swinv2", 16, (24, 32), image_size=16, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=2),  # fmt: skip
    picture("convnext", "ConvNext", hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 2, 1]),
    picture("convnextv2", "ConvNextV2", hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 2, 1]),
    picture("resnet", "ResNet", embedding_size=6, hidden_sizes=[8, 12], depths=[1, 2], layer_type="bottleneck"),
    picture("regnet", "RegNet", embedding_size=6, hidden_sizes=[8, 12], depths=[1, 2], groups_width=4),
    picture("segformer", "Segformer", num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2]),  # fmt: skip
    picture("segformer-segmentation", "Segformer", head="SegformerForSemanticSegmentation", num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=12),  # fmt: skip
    picture("mobilevit", "MobileViT", hidden_sizes=[16, 20, 24], neck_hidden_sizes=[8, 8, 12, 16, 20, 24, 32], num_attention_heads=4, image_size=32),  # fmt: skip
    picture("mobilenet-v2", "MobileNetV2", depth_multiplier=0.25),
    picture("poolformer", "PoolFormer", hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1]),
    picture("pvt", "Pvt", image_size=32, depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 16, 24], num_attention_heads=[1, 2, 2, 3], sequence_reduction_ratios=[4, 2, 1, 1]),  # fmt: skip
    picture("pvt-v2", "PvtV2", image_size=32, depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 16, 24], num_attention_heads=[1, 2, 2, 3]),  # fmt: skip
    picture("cvt", "Cvt", embed_dim=[8, 16, 24], num_heads=[1, 2, 3], depth=[1, 2, 3]),
    picture("levit", "Levit", 64, (), image_size=64, hidden_sizes=[16, 24, 32], num_attention_heads=[2, 3, 4], depths=[1, 1, 1], key_dim=[8, 8, 8]),  # fmt: skip
    picture("focalnet", "FocalNet", image_size=32, embed_dim=8, depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 32, 64]),
    picture("efficientnet", "EfficientNet", width_coefficient=0.25, depth_coefficient=0.25, hidden_dim=320, image_size=32),  # fmt: skip
    picture("bit", "Bit", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_groups=2),
    picture("hgnet-v2", "HGNetV2"),
    picture("swiftformer", "SwiftFormer", embed_dims=[8, 16, 24, 32], depths=[1, 1, 1, 1]),
)
OTHERS = (
    towers("clip", "CLIP"),
    towers("siglip", "Siglip"),
    towers("chinese-clip", "ChineseCLIP"),
    towers("altclip", "AltCLIP"),
    Family("whisper", "WhisperForConditionalGeneration", "WhisperConfig", BART | {"num_mel_bins": 5, "max_source_positions": 10, "max_target_positions": 24}, {"input_features": ("frames", 5, 20), "decoder_input_ids": "words"}),  # fmt: skip
    Family("speech-to-text", "Speech2TextForConditionalGeneration", "Speech2TextConfig", BART | {"input_feat_per_channel": 8, "max_source_positions": 40, "max_target_positions": 24, "conv_channels": 16}, {"input_features": ("steps", 8), "decoder_input_ids": ("words", 6)}, 24, (32, 17)),  # fmt: skip
    Family("moonshine", "MoonshineForConditionalGeneration", "MoonshineConfig", {"vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 40, "encoder_num_hidden_layers": 2, "decoder_num_hidden_layers": 2, "encoder_num_attention_heads": 4, "decoder_num_attention_heads": 4}, {"input_values": "sound", "decoder_input_ids": ("words", 6)}, 3000, (4000, 2500)),  # fmt: skip
    Family("audio-spectrogram-transformer", "ASTForAudioClassification", "ASTConfig", PICTURE | {"max_length": 32, "num_mel_bins": 16, "frequency_stride": 4, "time_stride": 4}, {"input_values": ("steps", 16, 32)}),  # fmt: skip
    sound("wav2vec2", "Wav2Vec2"),
    sound("wav2vec2-layer-norm", "Wav2Vec2", feat_extract_norm="layer", do_stable_layer_norm=True),
    sound("wav2vec2-conformer", "Wav2Vec2Conformer", position_embeddings_type="relative"),
    sound("hubert", "Hubert"),
    sound("wavlm", "WavLM", num_buckets=8, max_bucket_distance=16),
    sound("sew", "SEW", squeeze_factor=2),
    sound("unispeech", "UniSpeech"),
    sound("data2vec-audio", "Data2VecAudio"),
    Family("patchtst", "PatchTSTForPrediction", "PatchTSTConfig", {"num_input_channels": 3, "context_length": 32, "patch_length": 4, "patch_stride": 4, "prediction_length": 6, "d_model": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 40}, {"past_values": ("steps", 3, 32)}, output="prediction_outputs"),  # fmt: skip
)
FAMILIES = ENCODERS + DECODERS + TRANSLATORS + VISION + OTHERS
