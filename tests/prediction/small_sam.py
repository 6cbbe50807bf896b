"""SAM, SAM 2, DETR and RT-DETR with random weights, a few thousand parameters each."""

from functools import cache
from typing import Any

import torch
from torch import nn

from equicli.prediction.transformers_source import create

_DECODER = {
    "hidden_size": 16,
    "mlp_dim": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "iou_head_depth": 1,
    "iou_head_hidden_dim": 8,
}
_PROMPTS = {"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
_HIERA = {
    "model_type": "sam2_hiera_det_model",
    "hidden_size": 8,
    "image_size": [64, 64],
    "num_attention_heads": 1,
    "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [8, 16, 32, 64],
    "num_attention_heads_per_stage": [1, 1, 2, 2],
    "window_size_per_stage": [4, 2, 2, 2],
    "window_positional_embedding_background_size": [2, 2],
    "global_attention_blocks": [3],
}
SAMS: dict[str, dict[str, Any]] = {
    "SamModel": {
        "vision_config": {
            "hidden_size": 16,
            "output_channels": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 16,
            "mlp_dim": 32,
            "window_size": 2,
            "global_attn_indexes": [1],
            "num_pos_feats": 8,
        },
        "prompt_encoder_config": _PROMPTS,
        "mask_decoder_config": _DECODER,
    },
    "Sam2Model": {
        "vision_config": {
            "backbone_config": _HIERA,
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": 16,
        },
        "prompt_encoder_config": _PROMPTS,
        "mask_decoder_config": _DECODER,
    },
}
_RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1]}
_TRANSFORMER = {"d_model": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 16}
DETECTORS: dict[str, dict[str, Any]] = {
    "DetrForObjectDetection": {
        **_TRANSFORMER,
        "backbone_config": {**_RESNET, "out_features": ["stage4"]},
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_ffn_dim": 16,
        "num_queries": 6,
        "num_labels": 3,
        "size": {"shortest_edge": 48, "longest_edge": 96},
    },
    "RTDetrForObjectDetection": {
        **_TRANSFORMER,
        "backbone_config": {**_RESNET, "model_type": "rt_detr_resnet", "out_indices": [2, 3, 4]},
        "encoder_hidden_dim": 16,
        "encoder_in_channels": [16, 16, 16],
        "decoder_in_channels": [16, 16, 16],
        "encoder_ffn_dim": 16,
        "decoder_layers": 1,
        "num_queries": 6,
        "num_labels": 3,
        "size": {"height": 64, "width": 64},
    },
}


@cache
def random_network(architecture: str) -> nn.Module:
    """One of them with weights so large that outputs depend on what is seen."""
    torch.manual_seed(0)
    network = create(architecture, {**SAMS, **DETECTORS}[architecture])
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            wide = torch.randn(parameter.shape, generator=generator)
            parameter.data = wide * (2 / parameter[0].numel()) ** 0.5
    return network
