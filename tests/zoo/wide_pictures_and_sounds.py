"""Models of transformers that see or hear, for the wide sweep, in two layers each."""

from typing import Any

from tests.zoo.entries import LABELS, WORDS, Family, Size
from tests.zoo.wide_texts import BART, TEXT

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
BOTH = {"input_ids": "words", "pixel_values": ("image", 16)}
IMAGE = {"pixel_values": "image"}


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


def sound(name: str, stem: str, **options: Any) -> Family:
    return Family(name, f"{stem}ForCTC", f"{stem}Config", SOUND | options, {"input_values": "sound"}, 200, (150, 333))


def towers(name: str, stem: str, **options: Any) -> Family:
    text, vision = TEXT | {"projection_dim": 12}, PICTURE | {"projection_dim": 12}
    given = {"text_config": text, "vision_config": vision, "projection_dim": 12, **options}
    return Family(name, f"{stem}Model", f"{stem}Config", given, BOTH, output="logits_per_image")


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
    picture(
        "swin",
        "Swin",
        16,
        (24, 32),
        image_size=16,
        patch_size=2,
        embed_dim=8,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=2,
    ),
    picture(
        "swinv2",
        "Swinv2",
        16,
        (24, 32),
        image_size=16,
        patch_size=2,
        embed_dim=8,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=2,
    ),
    picture("convnext", "ConvNext", hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 2, 1]),
    picture("convnextv2", "ConvNextV2", hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 2, 1]),
    picture("resnet", "ResNet", embedding_size=6, hidden_sizes=[8, 12], depths=[1, 2], layer_type="bottleneck"),
    picture("regnet", "RegNet", embedding_size=6, hidden_sizes=[8, 12], depths=[1, 2], groups_width=4),
    picture(
        "segformer",
        "Segformer",
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
    ),
    picture(
        "segformer-segmentation",
        "Segformer",
        head="SegformerForSemanticSegmentation",
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=12,
    ),
    picture(
        "mobilevit",
        "MobileViT",
        hidden_sizes=[16, 20, 24],
        neck_hidden_sizes=[8, 8, 12, 16, 20, 24, 32],
        num_attention_heads=4,
        image_size=32,
    ),
    picture("mobilenet-v2", "MobileNetV2", depth_multiplier=0.25),
    picture("poolformer", "PoolFormer", hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1]),
    picture(
        "pvt",
        "Pvt",
        image_size=32,
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 16, 24],
        num_attention_heads=[1, 2, 2, 3],
        sequence_reduction_ratios=[4, 2, 1, 1],
    ),
    picture(
        "pvt-v2",
        "PvtV2",
        image_size=32,
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 16, 24],
        num_attention_heads=[1, 2, 2, 3],
    ),
    picture("cvt", "Cvt", embed_dim=[8, 16, 24], num_heads=[1, 2, 3], depth=[1, 2, 3]),
    picture(
        "levit",
        "Levit",
        64,
        (),
        image_size=64,
        hidden_sizes=[16, 24, 32],
        num_attention_heads=[2, 3, 4],
        depths=[1, 1, 1],
        key_dim=[8, 8, 8],
    ),
    picture("focalnet", "FocalNet", image_size=32, embed_dim=8, depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 32, 64]),
    picture(
        "efficientnet", "EfficientNet", width_coefficient=0.25, depth_coefficient=0.25, hidden_dim=320, image_size=32
    ),
    picture("bit", "Bit", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_groups=2),
    picture("hgnet-v2", "HGNetV2"),
    picture("swiftformer", "SwiftFormer", embed_dims=[8, 16, 24, 32], depths=[1, 1, 1, 1]),
)
SOUNDS_AND_PAIRS = (
    towers("clip", "CLIP"),
    towers("siglip", "Siglip"),
    towers("chinese-clip", "ChineseCLIP"),
    towers("altclip", "AltCLIP"),
    Family(
        "whisper",
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        BART | {"num_mel_bins": 5, "max_source_positions": 10, "max_target_positions": 24},
        {"input_features": ("frames", 5, 20), "decoder_input_ids": "words"},
    ),
    Family(
        "speech-to-text",
        "Speech2TextForConditionalGeneration",
        "Speech2TextConfig",
        BART
        | {"input_feat_per_channel": 8, "max_source_positions": 40, "max_target_positions": 24, "conv_channels": 16},
        {"input_features": ("steps", 8), "decoder_input_ids": ("words", 6)},
        24,
        (32, 17),
    ),
    Family(
        "moonshine",
        "MoonshineForConditionalGeneration",
        "MoonshineConfig",
        {
            "vocab_size": WORDS,
            "hidden_size": 32,
            "intermediate_size": 40,
            "encoder_num_hidden_layers": 2,
            "decoder_num_hidden_layers": 2,
            "encoder_num_attention_heads": 4,
            "decoder_num_attention_heads": 4,
        },
        {"input_values": "sound", "decoder_input_ids": ("words", 6)},
        3000,
        (4000, 2500),
    ),
    Family(
        "audio-spectrogram-transformer",
        "ASTForAudioClassification",
        "ASTConfig",
        PICTURE | {"max_length": 32, "num_mel_bins": 16, "frequency_stride": 4, "time_stride": 4},
        {"input_values": ("steps", 16, 32)},
    ),
    sound("wav2vec2", "Wav2Vec2"),
    sound("wav2vec2-layer-norm", "Wav2Vec2", feat_extract_norm="layer", do_stable_layer_norm=True),
    sound("wav2vec2-conformer", "Wav2Vec2Conformer", position_embeddings_type="relative"),
    sound("hubert", "Hubert"),
    sound("wavlm", "WavLM", num_buckets=8, max_bucket_distance=16),
    sound("sew", "SEW", squeeze_factor=2),
    sound("unispeech", "UniSpeech"),
    sound("data2vec-audio", "Data2VecAudio"),
    Family(
        "patchtst",
        "PatchTSTForPrediction",
        "PatchTSTConfig",
        {
            "num_input_channels": 3,
            "context_length": 32,
            "patch_length": 4,
            "patch_stride": 4,
            "prediction_length": 6,
            "d_model": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 40,
        },
        {"past_values": ("steps", 3, 32)},
        output="prediction_outputs",
    ),
)
PICTURES_AND_SOUNDS = VISION + SOUNDS_AND_PAIRS
