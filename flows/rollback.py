"""rollback: the previous champion takes its place again. ``python -m flows.rollback``."""

import argparse
import sys

from prefect import flow, get_run_logger

from flows.retrain import CHAMPION_PIPELINE
from reelmill.config import load_params
from reelmill.errors import UserError
from reelmill.tracking import registry
from reelmill.workspace import workspace_lock


@flow(name="rollback")
def rollback() -> str:
    """Exchange champion and previous in the registry, then put the workspace right; says what it did."""
    params = load_params()
    with workspace_lock("rollback", params.retrain.wait_s):
        was, now = registry.rollback(params)
        registry.fetch(params, now, CHAMPION_PIPELINE)
    text = f"rolled back: {now} is the champion again, {was} the previous"
    get_run_logger().info(text)
    return text


def main() -> None:
    """Roll back now; status 1 when there is nothing to go back to."""
    argparse.ArgumentParser(
        prog="python -m flows.rollback", description="Make the previous champion the champion."
    ).parse_args()
    try:
        print(rollback())
    except UserError as error:
        sys.exit(f"\nrollback stopped:\n{error}")


if __name__ == "__main__":
    main()
