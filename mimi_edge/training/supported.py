"""Names of the backbones that are supported, for whoever cannot wait for timm to be loaded.

Of the families in `mimi_edge.training.families`, as of the timm in constraints.txt; what a newer timm has of them works
too.
"""

from __future__ import annotations

from difflib import get_close_matches

from mimi_edge.builtin import BACKBONE_NAME

MOST_SIMILAR = 6

SUPPORTED = tuple(
    """
    aimv2_1b_patch14_224 aimv2_1b_patch14_336 aimv2_1b_patch14_448 aimv2_3b_patch14_224 aimv2_3b_patch14_336
    aimv2_3b_patch14_448 aimv2_huge_patch14_224 aimv2_huge_patch14_336 aimv2_huge_patch14_448 aimv2_large_patch14_224
    aimv2_large_patch14_336 aimv2_large_patch14_448 beit3_base_patch16_224 beit3_giant_patch14_224
    beit3_giant_patch14_336 beit3_large_patch16_224 deit3_base_patch16_224 deit3_base_patch16_384 deit3_huge_patch14_224
    deit3_large_patch16_224 deit3_large_patch16_384 deit3_medium_patch16_224 deit3_small_patch16_224
    deit3_small_patch16_384 deit_base_distilled_patch16_224 deit_base_distilled_patch16_384 deit_base_patch16_224
    deit_base_patch16_384 deit_small_distilled_patch16_224 deit_small_patch16_224 deit_tiny_distilled_patch16_224
    deit_tiny_patch16_224 eva_large_patch14_196 eva_large_patch14_336 flexivit_base flexivit_large flexivit_small
    swin_base_patch4_window12_384 swin_base_patch4_window7_224 swin_large_patch4_window12_384
    swin_large_patch4_window7_224 swin_s3_base_224 swin_s3_small_224 swin_s3_tiny_224 swin_small_patch4_window7_224
    swin_tiny_patch4_window7_224 swinv2_base_window12_192 swinv2_base_window12to16_192to256
    swinv2_base_window12to24_192to384 swinv2_base_window16_256 swinv2_base_window8_256 swinv2_large_window12_192
    swinv2_large_window12to16_192to256 swinv2_large_window12to24_192to384 swinv2_small_window16_256
    swinv2_small_window8_256 swinv2_tiny_window16_256 swinv2_tiny_window8_256 test_vit test_vit2 test_vit3 test_vit4
    vit_base_patch14_dinov2 vit_base_patch14_reg1_tipsv2 vit_base_patch14_reg4_dinov2 vit_base_patch16_224
    vit_base_patch16_224_miil vit_base_patch16_384 vit_base_patch16_clip_224 vit_base_patch16_clip_384
    vit_base_patch16_clip_quickgelu_224 vit_base_patch16_gap_224 vit_base_patch16_plus_240
    vit_base_patch16_plus_clip_240 vit_base_patch16_radio_v3 vit_base_patch16_reg4_gap_256 vit_base_patch16_siglip_224
    vit_base_patch16_siglip_256 vit_base_patch16_siglip_384 vit_base_patch16_siglip_512 vit_base_patch16_siglip_gap_224
    vit_base_patch16_siglip_gap_256 vit_base_patch16_siglip_gap_384 vit_base_patch16_siglip_gap_512 vit_base_patch32_224
    vit_base_patch32_384 vit_base_patch32_clip_224 vit_base_patch32_clip_256 vit_base_patch32_clip_384
    vit_base_patch32_clip_448 vit_base_patch32_clip_quickgelu_224 vit_base_patch32_plus_256 vit_base_patch32_siglip_256
    vit_base_patch32_siglip_gap_256 vit_base_patch8_224 vit_betwixt_patch16_gap_256 vit_betwixt_patch16_reg1_gap_256
    vit_betwixt_patch16_reg4_gap_256 vit_betwixt_patch16_reg4_gap_384 vit_betwixt_patch32_clip_224
    vit_dlittle_patch16_reg1_gap_256 vit_dwee_patch16_reg1_gap_256 vit_giant_patch14_224 vit_giant_patch14_clip_224
    vit_giant_patch14_dinov2 vit_giant_patch14_reg1_tipsv2 vit_giant_patch14_reg4_dinov2 vit_giant_patch16_gap_224
    vit_giant_patch16_radio_v3 vit_giantopt_patch16_siglip_256 vit_giantopt_patch16_siglip_384
    vit_giantopt_patch16_siglip_gap_256 vit_giantopt_patch16_siglip_gap_384 vit_gigantic_patch14_224
    vit_gigantic_patch14_clip_224 vit_gigantic_patch14_clip_378 vit_gigantic_patch14_clip_quickgelu_224
    vit_huge_patch14_224 vit_huge_patch14_clip_224 vit_huge_patch14_clip_336 vit_huge_patch14_clip_378
    vit_huge_patch14_clip_quickgelu_224 vit_huge_patch14_clip_quickgelu_378 vit_huge_patch14_gap_224
    vit_huge_patch16_gap_448 vit_huge_patch16_radio_v3 vit_huge_patch16_radio_v4 vit_intern300m_patch14_448
    vit_large_patch14_224 vit_large_patch14_clip_224 vit_large_patch14_clip_336 vit_large_patch14_clip_quickgelu_224
    vit_large_patch14_clip_quickgelu_336 vit_large_patch14_dinov2 vit_large_patch14_reg1_tipsv2
    vit_large_patch14_reg4_dinov2 vit_large_patch16_224 vit_large_patch16_384 vit_large_patch16_radio_v3
    vit_large_patch16_siglip_256 vit_large_patch16_siglip_384 vit_large_patch16_siglip_512
    vit_large_patch16_siglip_gap_256 vit_large_patch16_siglip_gap_384 vit_large_patch16_siglip_gap_512
    vit_large_patch32_224 vit_large_patch32_384 vit_little_patch16_reg1_gap_256 vit_little_patch16_reg4_gap_256
    vit_medium_patch16_clip_224 vit_medium_patch16_gap_240 vit_medium_patch16_gap_256 vit_medium_patch16_gap_384
    vit_medium_patch16_reg1_gap_256 vit_medium_patch16_reg4_gap_256 vit_medium_patch32_clip_224
    vit_mediumd_patch16_reg4_gap_256 vit_mediumd_patch16_reg4_gap_384 vit_small_patch14_dinov2
    vit_small_patch14_reg4_dinov2 vit_small_patch16_224 vit_small_patch16_36x1_224 vit_small_patch16_384
    vit_small_patch32_224 vit_small_patch32_384 vit_small_patch8_224 vit_so150m2_patch16_reg1_gap_256
    vit_so150m2_patch16_reg1_gap_384 vit_so150m2_patch16_reg1_gap_448 vit_so150m_patch16_reg4_gap_256
    vit_so150m_patch16_reg4_gap_384 vit_so150m_patch16_reg4_map_256 vit_so400m_patch14_reg1_tipsv2
    vit_so400m_patch14_siglip_224 vit_so400m_patch14_siglip_378 vit_so400m_patch14_siglip_384
    vit_so400m_patch14_siglip_gap_224 vit_so400m_patch14_siglip_gap_378 vit_so400m_patch14_siglip_gap_384
    vit_so400m_patch14_siglip_gap_448 vit_so400m_patch14_siglip_gap_896 vit_so400m_patch16_radio_v4
    vit_so400m_patch16_siglip_256 vit_so400m_patch16_siglip_384 vit_so400m_patch16_siglip_512
    vit_so400m_patch16_siglip_gap_256 vit_so400m_patch16_siglip_gap_384 vit_so400m_patch16_siglip_gap_512
    vit_tiny_patch16_224 vit_tiny_patch16_384 vit_wee_patch16_reg1_gap_256 vit_xsmall_patch16_clip_224
    """.split()  # noqa: SIM905  (a list of as many lines as names helps nobody)
)


def similar_names(name: str) -> list[str]:
    """Supported backbones whose names begin with that one or are much like it, the former and the most alike first."""
    wanted, known = name.partition(".")[0], (*SUPPORTED, BACKBONE_NAME)
    beginning = [one for one in known if wanted and one.startswith(wanted)]
    alike = get_close_matches(wanted, known, n=MOST_SIMILAR, cutoff=0.6)
    return list(dict.fromkeys([*beginning, *alike]))[:MOST_SIMILAR]
