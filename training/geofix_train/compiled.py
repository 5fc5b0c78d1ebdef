"""Encoders that run faster on a GPU: compiled, or as they are where nothing can compile them."""

import copy
import warnings

import torch
from torch import Tensor

from geofix_train.model import Encoder


def compile_encoders(*encoders_and_images: tuple[Encoder, Tensor]) -> bool:
    """Let the calls of encoders run compiled; return whether they do.

    Weights, their names and `Encoder.forward` stay as they are: a checkpoint or an export does not
    know of it. Warns where compilation fails, for instance without a C compiler, and changes
    nothing then.

    Args:
        encoders_and_images: each with images of the size that it will be called with; other sizes
            work too and are compiled anew.
    """
    try:
        for encoder, images in encoders_and_images:
            # On a copy: a trial changes the statistics of batch normalization.
            trial = copy.deepcopy(encoder).train()
            trial.compile(dynamic=False)
            with bf16_where_faster(images.device):
                trial(images).sum().backward()
    except Exception as e:  # compilers fail in many ways, and a plain run is only slower
        reason = (str(e).strip() or type(e).__name__).splitlines()[0]
        warnings.warn(f"encoders are not compiled, training is slower: {reason}", stacklevel=2)
        return False
    for encoder, _ in encoders_and_images:
        encoder.compile(dynamic=False)
    return True


def bf16_where_faster(device: torch.device) -> torch.autocast:
    """Return the context in which encoders run: bfloat16 matrix products on a GPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
