"""What a flow run shows on its page: tables, figures side by side, links, the contact sheet."""

import base64
from collections.abc import Sequence
from pathlib import Path

from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

from flows.pipeline import StageResult
from reelmill.config import Params
from reelmill.evaluation.promotion import Decision
from reelmill.storage import read_json
from reelmill.tracking import registry

GENERATED = Path("results/generate")


def stage(result: StageResult) -> None:
    """A stage's result, on its task's page."""
    create_markdown_artifact(
        f"**{result.stage}**: {result.result} in {result.seconds} s\n\n```\n{result.reason or 'no fault'}\n```",
        key="stage",
        description=f"{result.stage}: {result.result}",
    )


def outcome(text: str, decision: Decision | None, results: Sequence[StageResult], params: Params, run_id: str) -> None:
    """The retraining's outcome: stages, figures of challenger and champion, the MLflow run, a contact sheet."""
    create_table_artifact(
        [{"stage": r.stage, "result": r.result, "seconds": r.seconds} for r in results],
        key="stages",
        description="What each stage came to",
    )
    if decision is not None and decision.gain is not None:
        gain = decision.gain
        rows = [
            {"figure": gain.metric, "champion": gain.champion, "challenger": gain.challenger},
            {"figure": f"gain ({params.promotion.confidence:.0%} interval)", "champion": f"{gain.low:+.4f} to {gain.high:+.4f}", "challenger": gain.gain},
        ]  # fmt: skip
        create_table_artifact(rows, key="champion-and-challenger", description=f"{gain.pairs} pairs")
    reasons = "" if decision is None else "".join(f"- {reason}\n" for reason in decision.reasons)
    link = registry.tag_run(params, run_id, {"reelmill.outcome": text[:5000]})
    create_markdown_artifact(
        f"# {text.split(':')[0]}\n\n{text}\n\n{reasons}\nMLflow run {run_id}: {link}\n",
        key="outcome",
        description=text[:200],
    )
    if (GENERATED / "videos.json").exists():
        first = read_json(GENERATED / "videos.json")[0]
        sheet = (GENERATED / first["file"]).with_suffix(".png")
        picture = base64.b64encode(sheet.read_bytes()).decode()
        create_image_artifact(f"data:image/png;base64,{picture}", key="contact-sheet", description=first["prompt"])
