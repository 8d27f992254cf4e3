"""How much a piece of work computes, and how fast this machine multiplies matrices."""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from reelmill.compute import autocast
from reelmill.config import Precision

MATRIX_SIDE, MATRIX_TIMES = 2048, 20


def flop_of(work: Callable[[], object]) -> int:
    """Additions and multiplications of matrix products and convolutions; what goes element by element is not counted."""
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        work()
    return counter.get_total_flops()


def attention_flop(q, k, v, *_, out_shape=None, **__) -> int:
    """Of torch's fused attention, from the shapes of queries, keys and values."""
    return sdpa_flop_count(q, k, v)


def attention_backward_flop(gradient, q, k, v, *_, out_shape=None, **__) -> int:
    """Of its backward pass."""
    return sdpa_backward_flop_count(gradient, q, k, v)


CPU_ATTENTION = {  # which torch's counter does not know
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward_flop,
}


def matmul_rate(precision: Precision) -> float:
    """GFLOP/s of a large matrix product as a step computes its own."""
    with autocast(torch.device("cpu"), precision):
        matrix, times = torch.randn(MATRIX_SIDE, MATRIX_SIDE), []
        matrix = matrix @ matrix  # in the precision that products come out in: no conversion is timed
        for _ in range(MATRIX_TIMES):
            start = time.monotonic()
            matrix @ matrix
            times.append(time.monotonic() - start)
    return 2 * MATRIX_SIDE**3 / median(times) / 1e9
