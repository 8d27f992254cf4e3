"""The only room that knows MLflow: runs, their models and their evidence.

Training writes to a journal that a process of its own sends on (`TrainingLog`), so that a slow or
absent tracker never holds it up. Videos and evidence are logged from their files
(`log_generation`, `log_evaluation`), which may be repeated at any time: what is already there is
left. `record` closes a pipeline run. MLflow is imported only by what talks to it.
"""

from reelmill.tracking.lineage import evaluation_hash, model_hash
from reelmill.tracking.results import ensure_logged, log_evaluation, log_generation, record
from reelmill.tracking.sender import catch_up
from reelmill.tracking.store import serve, store_uri
from reelmill.tracking.training import TrainingLog

__all__ = [
    "TrainingLog",
    "catch_up",
    "ensure_logged",
    "evaluation_hash",
    "log_evaluation",
    "log_generation",
    "model_hash",
    "record",
    "serve",
    "store_uri",
]
