"""A model spread over the processes: each keeps a part of every weight, gradient and moment (FSDP).

Zhao et al. 2023, "PyTorch FSDP", as torch's `fully_shard` has it now: each block's weights are gathered for the
moment in which they are computed with. It works in the process group that Accelerate has set up; Accelerate's
own way to it is for GPUs alone, and this one is tested on the CPU. A parameter is a `DTensor` then, and whatever
gathers one (`whole`) must be called by all processes at the same place.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(root: nn.Module, transformer: Any, blocks: tuple[str, ...], device: torch.device) -> None:
    """Spread all parameters of ``root``, moved to ``device`` block by block, over the processes.

    Args:
        blocks: the names of ``transformer``'s lists of blocks, which are gathered one at a time.
    """
    mesh = DeviceMesh.from_group(torch.distributed.group.WORLD, device.type)  # with its patience
    for name in blocks:
        for block in getattr(transformer, name):
            fully_shard(block, mesh=mesh)
    fully_shard(root, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    """The tensor with the parts of all processes; one that is not spread as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread_like(tensor: Tensor, other: Tensor) -> Tensor:
    """This process's part of a whole tensor, if ``other`` is spread."""
    if not isinstance(other, DTensor):
        return tensor
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements, src_data_rank=None)
