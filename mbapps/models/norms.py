"""Folded batch norms, as quantised and exported networks have them: made fit to learn again, or made."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .blocks import ConvNorm
from .network import Network

EPS = 1e-3  # as TF-Slim's, from which the networks with folded norms come


def is_folded(network: Network) -> bool:
    """Whether the norms are mere biases: converters that find no norms in a file load them with an eps of 0."""
    return network.body.style.bn_eps == 0


@torch.no_grad()
def unfold_norms(network: Network, batches: Iterable[Tensor | tuple[Tensor, Sequence[str]]]) -> None:
    """Give folded norms the statistics of what they see, without changing what the network computes.

    A folded norm has mean 0 and variance 1, whatever comes in. Trained as it is, it would subtract the mean and
    divide by the deviation of each batch all at once, and what the network knew would be lost. With mean and
    variance measured, and weight and bias set so that both cancel, evaluation gives the same numbers and a
    training step starts from there.

    Args:
        network: in whatever mode; left in that mode.
        batches: uint8 images [B, 3, S, S], at least one in all, like those to be trained on; with the names of the
            heads that see them, where these do not see the same.

    Raises:
        ValueError: there is no image.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    sums: dict[nn.Module, Tensor] = {}  # [3, C]: count, sum and sum of squares

    def measure(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0].double()
        ones = torch.full_like(x[0, :, 0, 0], x.numel() / x.shape[1])
        seen = torch.stack([ones, x.sum(dim=(0, 2, 3)), x.square().sum(dim=(0, 2, 3))])
        sums[norm] = sums[norm] + seen if norm in sums else seen

    training = network.training
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    device = next(network.parameters()).device
    network.eval()
    for batch in batches:
        images, names = batch if isinstance(batch, tuple) else (batch, None)
        if len(images):
            network(images.to(device), names)
    for hook in hooks:
        hook.remove()
    network.train(training)
    if not sums:
        raise ValueError("no training image could be read: the statistics of the batch norms are unknown")
    for norm in norms:
        count, total, squares = sums[norm]
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        deviation = (variance + EPS).sqrt()
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()  # of the folded norm as it stands
        bias = norm.bias + scale * (mean - norm.running_mean)
        norm.weight.copy_(scale * deviation)
        norm.bias.copy_(bias)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.eps = EPS
    network.body.style = network.body.style._replace(bn_eps=EPS)
    network.body.settings["bn_eps"] = EPS


@torch.no_grad()
def fold_norms(body: nn.Module) -> nn.Module:
    """Give a copy for evaluation alone, its norms folded into its convolutions: quicker, and alike but for rounding."""
    folded = copy.deepcopy(body).eval()
    for block in folded.modules():
        if isinstance(block, ConvNorm):
            conv, norm = block.conv, block.norm
            assert norm.running_mean is not None
            assert norm.running_var is not None
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            block.norm = nn.Identity()  # type: ignore[assignment]
    return folded
