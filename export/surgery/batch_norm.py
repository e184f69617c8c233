"""Batch norm folded into the convolution before it: one operation less, and none that a runtime may fuse by itself."""

from __future__ import annotations

from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from export.surgery.reparametrise import fold_reparametrisations
from export.surgery.sharing import share_weights

__all__ = ["fold_batch_norm"]


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy of `network` with every batch norm that follows a convolution folded into its weights, in float64.

    Weight norm and spectral norm are folded first, so that there is a weight to fold into.

    The network is in eval mode and stays as it was. One with control flow that cannot be traced comes back unfolded.
    """
    network = share_weights(network).eval()
    fold_reparametrisations(network)
    try:
        traced = fx.symbolic_trace(network)
    except Exception:  # forward ran on symbols instead of numbers: float(x), for one, raises a TypeError
        return network
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        norm = modules.get(node.target) if node.op == "call_module" else None
        before = node.args[0] if node.args else None
        if not isinstance(norm, nn.BatchNorm2d) or not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        convolution = modules.get(str(before.target))
        if isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d) and len(before.users) == 1:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            weight, bias = fuse_conv_bn_weights(
                convolution.weight.double(),
                _double(convolution.bias),
                norm.running_mean.double(),
                norm.running_var.double(),
                norm.eps,
                _double(norm.weight),
                _double(norm.bias),
                transpose=isinstance(convolution, nn.ConvTranspose2d),
            )
            convolution.weight, convolution.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.recompile()
    traced.delete_all_unused_submodules()
    return traced.eval()


def _double(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.double()
