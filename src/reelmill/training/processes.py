"""Several processes that train one model: each takes a part of every batch, and all see the mean gradient.

The process of the stage is the first and alone writes, validates and tells; it starts the others, one
a GPU or CPU share, which wait where it does what they do not. Data parallelism is torch's
`DistributedDataParallel` through Accelerate: NCCL between GPUs, gloo on the CPU. With ``train.sharding`` the
weights are spread as well (`sharding`), and the first process keeps a whole copy to validate and write.
"""

import copy
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from torch import Tensor, nn

import reelmill
from reelmill.compute import choose_device
from reelmill.config import Params, Train
from reelmill.errors import UserError
from reelmill.models.family import Text
from reelmill.ports import LOOPBACK, free_port
from reelmill.training.denoiser import Denoiser
from reelmill.training.sharding import shard, whole
from reelmill.workspace import note_outcome

PATIENCE = timedelta(hours=12)  # how long the others wait for a validation; a dead process is noticed otherwise
GRACE_S = 3.0  # for torch to notice that another process has gone
_POLL_S = 0.5


@dataclass(frozen=True)
class Processes:
    """This process among those that train; without an accelerator it is alone."""

    accelerator: Accelerator | None = None
    sharded: bool = False  # whether the weights are spread over the processes too

    @property
    def is_first(self) -> bool:
        """Whether this process writes, validates and tells."""
        return self.accelerator is None or self.accelerator.is_main_process

    @property
    def device(self) -> torch.device | None:
        """This process's own device; None where it may choose."""
        return None if self.accelerator is None else self.accelerator.device

    def part(self, count: int) -> slice:
        """The rows of a batch of ``count`` that are this process's: as many for each."""
        if self.accelerator is None:
            return slice(count)
        size = count // self.accelerator.num_processes
        return slice(self.accelerator.process_index * size, (self.accelerator.process_index + 1) * size)

    def shared(self, denoiser: Denoiser) -> Callable[..., Tensor]:
        """The denoiser's ``predict``; with several processes, one whose backward averages the gradients over them.

        Where the weights are spread, the denoiser's parameters are other ones afterwards.
        """
        if self.accelerator is None:
            return denoiser.predict
        predictor = _Predictor(denoiser)
        if not self.sharded:
            return self.accelerator.prepare_model(predictor)
        blocks = denoiser.family.blocks
        shard(predictor, denoiser.transformer, blocks, self.accelerator.device)
        return predictor

    def unshared(self, denoiser: Denoiser) -> Denoiser | None:
        """The denoiser that this process validates, before it is `shared`: a copy where weights are spread; None with the others."""
        if not self.is_first:
            return None
        return copy.deepcopy(denoiser) if self.sharded else denoiser

    def synchronised(self, predict: Callable, last: bool) -> AbstractContextManager:
        """Within it gradients are exchanged, if the batch is the step's ``last``; others accumulate unexchanged."""
        # Spread gradients are exchanged each time: unexchanged they would be whole ones in every process.
        if self.accelerator is None or last or self.sharded:
            return nullcontext()
        assert isinstance(predict, nn.Module)
        return self.accelerator.no_sync(predict)

    def gathered(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors for the first process, in main memory where they were spread; nothing for the others, which take part."""
        if not self.sharded:
            return tensors if self.is_first else {}
        found = ((name, whole(tensor)) for name, tensor in tensors.items())
        return {name: tensor.cpu() for name, tensor in found if self.is_first}

    def mean(self, loss: Tensor) -> Tensor:
        """The mean over the processes."""
        return loss if self.accelerator is None else self.accelerator.reduce(loss, "mean")

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()


ALONE = Processes()


class _Predictor(nn.Module):
    """A denoiser as a module, for what wraps modules."""

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        self.denoiser = denoiser
        self.parts = nn.ModuleList([part for part in (denoiser.transformer, denoiser.text_encoder) if part is not None])

    def forward(self, noisy: Tensor, timestep: Tensor, text: Text, stride: int = 1) -> Tensor:
        """See `Denoiser.predict`."""
        return self.denoiser.predict(noisy, timestep, text, stride)


@contextmanager
def team(params: Params, latents_dir: Path, autoencoder_dir: Path, directory: Path) -> Iterator[Processes]:
    """This process and the ``train.num_processes - 1`` others that it starts, until the block ends.

    The others run `reelmill.training.worker` on the same inputs.

    Raises:
        UserError: when there are too few GPUs, or one of the others has ended by a fault.
    """
    settings = params.train
    if settings.num_processes == 1:
        yield ALONE
        return
    _check_gpus(settings)
    arguments = [params.model_dump_json(), *map(str, (latents_dir, autoencoder_dir, directory))]
    command = [sys.executable, "-m", "reelmill.training.worker", *arguments]
    places = _places(settings.num_processes)
    others = [subprocess.Popen(command, env={**os.environ, **place}) for place in places[1:]]
    ended = threading.Event()
    threading.Thread(target=_watch, args=(others, ended), daemon=True, name="watch-processes").start()
    os.environ.update(places[0])
    try:
        yield join(settings)
        torch.distributed.destroy_process_group()
        for other in others:
            other.wait()
    except RuntimeError as error:  # what torch raises when another process has gone
        if fault := _fault(others, wait_s=GRACE_S):
            raise UserError(fault) from error
        raise
    finally:
        ended.set()
        for other in others:
            other.kill()


def join(settings: Train) -> Processes:
    """Become one of the processes, that whose number and place the environment names."""
    on_cpu = choose_device(settings.device).type == "cpu"
    if on_cpu:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
    return Processes(accelerator, settings.sharding == "full")


def _check_gpus(settings: Train) -> None:
    gpus = torch.cuda.device_count()
    if choose_device(settings.device).type == "cuda" and gpus < settings.num_processes:
        raise UserError(
            f"train.num_processes: {settings.num_processes}: each needs a GPU of its own, and torch sees {gpus}; "
            f"nearest: {gpus}, or train.device: cpu"
        )


def _places(count: int) -> list[dict[str, str]]:
    """The environment of each process, as `torch.distributed` reads it; they share the CPU's cores."""
    paths = [str(Path(reelmill.__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    shared = {
        "MASTER_ADDR": LOOPBACK,
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // count)),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def _fault(others: Sequence[subprocess.Popen], wait_s: float = 0.0) -> str:
    """What is to be told of a process that ended by a fault, within ``wait_s`` seconds; empty if none has."""
    deadline = time.monotonic() + wait_s
    while True:
        for rank, other in enumerate(others, start=1):
            if other.poll():
                return (
                    f"train: process {rank} of {len(others) + 1} ended with status {other.returncode}; its own words are "
                    "above. What is saved is whole: mend the cause and run again."
                )
        if time.monotonic() >= deadline:
            return ""
        time.sleep(_POLL_S)


def _watch(others: Sequence[subprocess.Popen], ended: threading.Event) -> None:
    """End this process when another has ended by a fault and torch does not notice: NCCL would wait for hours."""
    while not ended.wait(_POLL_S):
        if fault := _fault(others):
            if not ended.wait(2 * GRACE_S):
                print(fault, file=sys.stderr, flush=True)
                note_outcome("train", "failed", fault)  # or it would be taken for killed, and started again
                os._exit(1)
            return
