"""Stage validate-data: from recordings to the manifest of accepted clips, through the data gate."""

from pathlib import Path

from tqdm import tqdm

from reelmill.config import load_params
from reelmill.data.clip_table import ClipTable, build_table
from reelmill.data.findings import describe
from reelmill.data.manifest import MANIFEST, write_manifest
from reelmill.data.validation import Verdict, judge_table
from reelmill.data.validation_page import render_page
from reelmill.data.validation_summary import summarise
from reelmill.errors import UserError
from reelmill.storage import remove, write_json, write_text
from reelmill.workspace import run_stage

RESULTS = Path("results/validate-data")


def main() -> None:
    """Judge the clips; write result, page and metrics; the manifest only when nothing is wrong."""
    params = load_params()
    data = params.data
    if params.autoencoder_source is not None:
        from reelmill.training.base import check_sources  # imported here: it takes seconds, and only this case needs it

        check_sources(params)  # clips that a pretrained model cannot take are not worth cutting
    table = build_table(
        data, lambda found, total: tqdm(found, total=total, desc="decode and measure", unit="recording")
    )
    verdict = judge_table(table, data)
    metrics = summarise(table, verdict)
    write_json(RESULTS / "result.json", verdict.as_dict())
    write_json(RESULTS / "metrics.json", metrics)
    write_text(RESULTS / "report.html", render_page(table, verdict, metrics, data))
    if not verdict.success:
        remove(MANIFEST)  # an older one must not pass for this data's
        raise UserError(_refusal(verdict))
    write_manifest(table.clips)
    _report(table, verdict)


def _refusal(verdict: Verdict) -> str:
    errors = verdict.of_level("error")
    return (
        f"{len(errors)} fault{'s'[: len(errors) != 1]} in the clips; no manifest was written.\n\n{describe(errors)}\n\n"
        f"All of them, with the {len(verdict.of_level('warning'))} warnings: {RESULTS}/result.json; "
        f"with pictures: {RESULTS}/report.html\nThe bounds and levels are data.expectations in params.yaml."
    )


def _report(table: ClipTable, verdict: Verdict) -> None:
    warnings = verdict.of_level("warning")
    if warnings:
        print(describe(warnings, shown=5))
    print(
        f"{len(table.clips)} clips from {table.num_recordings} recordings accepted, {len(warnings)} warnings: {RESULTS}/report.html"
    )


if __name__ == "__main__":
    run_stage("validate-data", main)
