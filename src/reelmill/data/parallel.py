"""Work on many clips in processes on all cores: results in order, memory bounded."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

from reelmill.errors import UserError
from reelmill.workspace import end_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 3  # chunks a worker, under way or waiting to be taken


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None, chunk: int = 1
) -> Iterator[Result]:
    """``map`` in spawned processes that die with this one.

    Args:
        function: a module's function; it travels to the processes by name.
        workers: how many; all cores by default. One works in this process.
        chunk: items a task, so that small ones are worth the way.

    Raises:
        UserError: when a process was killed, most often for want of memory.
    """
    workers = workers or num_cores()
    if workers == 1:
        yield from map(function, items)
        return
    source = iter(items)
    chunks: Iterator[list[Item]] = iter(lambda: list(islice(source, chunk)), [])
    waiting: deque[Future[list[Result]]] = deque()
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_end_with, initargs=(os.getpid(),)) as pool:
        try:
            for part in islice(chunks, _AHEAD * workers):
                waiting.append(pool.submit(_apply, function, part))
            while waiting:
                results = waiting.popleft().result()
                for part in islice(chunks, 1):
                    waiting.append(pool.submit(_apply, function, part))
                yield from results
        except BrokenProcessPool as error:
            raise UserError(
                "A worker process was killed, most often by the system for want of memory. Free some, or give this "
                "process fewer cores (taskset -c 0 ...), then run again."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _end_with(parent: int) -> None:
    """End with the process that started this one, also when it went while this one was starting."""
    if os.getppid() != parent:
        os._exit(1)
    end_with_parent()


def _apply(function: Callable[[Item], Result], part: list[Item]) -> list[Result]:
    return [function(item) for item in part]
