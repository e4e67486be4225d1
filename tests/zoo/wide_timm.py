"""Variants of timm for the wide sweep: the smallest of each family, on the smallest images at which it runs."""

from typing import Any

from tests.zoo.entries import Size, Timm

CONVOLUTIONS = (
    "resnet10t resnet14t resnet18 resnet18d resnetaa50 resnetblur18 resnetrs50 seresnet18 skresnet18 ecaresnet26t "
    "resnest14d resnetv2_18 resnetv2_50d_gn res2net50d res2next50 legacy_seresnet18 legacy_seresnext26_32x4d "
    "dla46_c dla46x_c dla60_res2net hrnet_w18_small densenet121 densenetblur121d vgg11 vgg11_bn "
    "mobilenetv2_035 mobilenetv3_small_050 mobilenetv4_conv_small_035 mobilenetv4_hybrid_medium lcnet_035 "
    "efficientnet_b0 efficientnet_b0_gn tf_efficientnetv2_b0 efficientnet_lite0 tinynet_e mixnet_s fbnetc_100 "
    "fbnetv3_b mnasnet_050 semnasnet_050 spnasnet_100 hardcorenas_a rexnet_100 ghostnet_050 repghostnet_050 "
    "regnetx_002 regnety_002 regnetz_005 regnetv_040 convnext_atto convnext_atto_rms convnextv2_atto "
    "inception_next_atto poolformer_s12 poolformerv2_s12 convformer_s18 caformer_s18 edgenext_xx_small mobilevit_xxs "
    "mobilevitv2_050 fastvit_t8 repvgg_a0 mobileone_s0 repvit_m0_9 starnet_s050 mambaout_femto "
    "hgnetv2_b0 darknet17 cs3darknet_focus_s cspresnet50 cspnext_tiny selecsls42 vovnet39a ese_vovnet19b_slim_dw "
    "dpn48b nf_regnet_b0 nf_resnet26 test_nfnet gernet_s resnet32ts gcresnet33ts eca_resnet33ts lambda_resnet26t "
    "efficientvit_b0 efficientvim_m1 fasternet_t0 shvit_s1 swiftformer_xs pvt_v2_b0 convmixer_1024_20_ks9_p14 "
    "cpubone_nano lowformer_b0 focalnet_tiny_srf lcnetv2_small iformer_t rdnet_tiny tresnet_m sequencer2d_s"
)
LARGER_IMAGES: dict[str, tuple[Size, ...]] = {  # the example's side, and others; these do not take 32 pixels
    "ghostnetv2_100": (64, 96, (96, 64)),
    "inception_v3": (96, 112, (112, 96)),
    "inception_v4": (96, 112, (112, 96)),
    "legacy_xception": (64, 96, (96, 64)),
    "xception41p": (64, 96, (96, 64)),
    "xcit_nano_12_p16_224": (48, 80, (64, 48)),
    "davit_tiny": (64, 96, (96, 64)),
    "twins_pcpvt_small": (64, 96, (96, 64)),
    "twins_svt_small": (64, 96, (96, 64)),
}
# tokens at fixed positions: a table of them is interpolated for other sizes
DYNAMIC = (
    "vit_tiny_patch16_224 deit_tiny_patch16_224 deit_tiny_distilled_patch16_224 deit3_small_patch16_224 "
    "eva02_tiny_patch14_224 vit_small_patch16_rope_224 vit_small_patch16_dinov3"
)
FIXED: dict[str, dict[str, Any]] = {  # built for the one size that they take
    "coat_lite_tiny": {"img_size": 64},
    "beit_base_patch16_224": {"img_size": 32, "depth": 2},
    "samvit_base_patch16": {"img_size": 64, "depth": 3},
    "test_vit_relpos": {"img_size": 32},
    "cait_xxs24_224": {"img_size": 32},
    "convit_tiny": {"img_size": 32},
    "mixer_s32_224": {"img_size": 64},
    "gmixer_12_224": {"img_size": 32},
    "gmlp_ti16_224": {"img_size": 32},
    "resmlp_12_224": {"img_size": 32},
    "crossvit_tiny_240": {"img_size": 120},
    "visformer_tiny": {"img_size": 32},
    "levit_128s": {"img_size": 64},
    "levit_conv_128s": {"img_size": 64},
    "pit_ti_224": {"img_size": 64},
    "tnt_s_patch16_224": {"img_size": 32},
    "volo_d1_224": {"img_size": 64},
    "swin_tiny_patch4_window7_224": {"img_size": 64, "window_size": 2, "strict_img_size": False},
    "swin_s3_tiny_224": {"img_size": 64},
    "swinv2_tiny_window8_256": {"img_size": 64, "window_size": 2, "strict_img_size": False},
    "swinv2_cr_tiny_224": {"img_size": 64},
    "tiny_vit_5m_224": {},
    "test_maxvit": {"img_size": 64},
    "coatnet_pico_rw_224": {"img_size": 64},
    "gcvit_xxtiny": {"img_size": 64},
    "mvitv2_tiny": {"img_size": 64},
    "nest_tiny": {"img_size": 64},
    "hiera_tiny_224": {"img_size": 64},
    "efficientformerv2_s0": {"img_size": 64},
    "efficientvit_m0": {},
    "nextvit_small": {},
    "vitamin_small_224": {"img_size": 32},
    "botnet26t_256": {"img_size": 64},
}
DYNAMIC_SIZE: dict[str, tuple[int, int]] = {"eva02_tiny_patch14_224": (42, 70)}


def _side(options: dict[str, Any]) -> int:
    return options.get("img_size", 64)


VARIANTS = (
    *(Timm(name) for name in CONVOLUTIONS.split()),
    *(Timm(name, sizes[0], sizes[1:]) for name, sizes in LARGER_IMAGES.items()),
    *(
        Timm(name, size, (other, (other, size)), {"img_size": size, "dynamic_img_size": True})
        for name in DYNAMIC.split()
        for size, other in (DYNAMIC_SIZE.get(name, (48, 80)),)
    ),
    *(Timm(name, _side(options), (96, 128), options) for name, options in FIXED.items()),
)
