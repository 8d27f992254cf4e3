"""experiment: the trials of a folder of experiments/, and their results written into it.

``python -m flows.experiment attention-heads --parallel 1``. Run again, it goes on with the trials that are missing.
"""

import argparse
import sys
from pathlib import Path

from prefect import flow, get_run_logger

from flows.sweep import Trial, common_ground, conduct, task_runner
from reelmill.config import load_params
from reelmill.errors import UserError
from reelmill.experiments import FOLDER, folder_of, load_experiment, summarise, write_results
from reelmill.settings import read, section_of
from reelmill.storage import hash_value


@flow(name="experiment")
def experiment(name: str, checkout: str = ".") -> list[dict]:
    """Run an experiment's trials and write its results; a failed trial ends no other.

    Args:
        name: the folder in experiments/.
        checkout: the repository's root.

    Returns:
        The rows of results.csv.
    """
    root, log = Path(checkout).resolve(), get_run_logger().info
    directory = folder_of(name, root / FOLDER)
    asked = load_experiment(directory)
    named = asked.trials()
    varied = {key for _, changes in named for key in changes}
    for key in varied:
        section_of(read(root / "params.yaml"), key)
    params = load_params(root / "params.yaml")
    trials = [Trial(hash_value(changes)[:8], changes) for _, changes in named]
    key = hash_value([name, named, common_ground(params, sorted(varied))])[:12]
    done = conduct(root, params, trials, key, asked.grid, asked.metrics[0])
    failed = [
        f"{variant}: {trial.result}" for (variant, _), trial in zip(named, done, strict=True) if not trial.figures
    ]
    figures = [(variant, trial.figures) for (variant, _), trial in zip(named, done, strict=True) if trial.figures]
    results = summarise(figures, asked.metrics)
    write_results(directory, asked, results, failed)
    log("%s: results.md, results.csv and plots", directory)
    return results


def main() -> None:
    """Run an experiment and print its table; status 1 when it failed."""
    parser = argparse.ArgumentParser(prog="python -m flows.experiment", description="The trials of an experiment.")
    parser.add_argument("name", help="a folder in experiments/")
    parser.add_argument("--parallel", type=int, default=1, help="trials at a time")
    given = parser.parse_args()
    try:
        load_experiment(folder_of(given.name))  # a wrong name is told before Prefect starts
        rows = experiment.with_options(task_runner=task_runner("processes", given.parallel, None))(given.name)
    except UserError as error:
        sys.exit(f"\nexperiment stopped:\n{error}")
    for row in rows:
        print("  ".join(f"{key}={value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
