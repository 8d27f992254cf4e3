"""All seven stages on the smoke preset, from nothing, in a workspace of its own; says how long each took."""

import csv
import itertools
import shutil
import subprocess
import sys
import time

from benchmarks.workspace import ROOT, make_workspace, run

STAGES = ("make-samples", "validate-data", "fit-autoencoder", "encode", "train", "generate", "evaluate")


def main() -> None:
    """Run the stages one by one, then check that the held-out loss fell with every epoch."""
    target = ROOT / ".reelmill/smoke"
    shutil.rmtree(target, ignore_errors=True)
    make_workspace(target, "smoke")
    times = {}
    for stage in STAGES:
        start = time.monotonic()
        if run(target, "dvc", "repro", "--single-item", stage, check=False).returncode:
            sys.exit(f"smoke: {stage} failed; its workspace is {target}")
        times[stage] = time.monotonic() - start
    run(target, "reelmill", "record", stdout=subprocess.DEVNULL)
    with (target / "results/train/validation.csv").open() as file:
        losses = [float(row["validation_loss"]) for row in csv.DictReader(file)]
    print("\n".join(f"{stage:16} {seconds:6.1f} s" for stage, seconds in times.items()))
    print(f"{'all':16} {sum(times.values()):6.1f} s")
    print(f"held-out loss by epoch: {' '.join(f'{loss:.4f}' for loss in losses)}")
    print(f"report: {target}/results/evaluate/report.html (a run this short proves the stages; its videos are noise)")
    print(f"MLflow: cd {target} && {ROOT}/.venv/bin/reelmill ui")
    if any(later >= earlier for earlier, later in itertools.pairwise(losses)):
        sys.exit("smoke: the held-out loss did not fall with every epoch")


if __name__ == "__main__":
    main()
