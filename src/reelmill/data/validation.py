"""The data gate: a Great Expectations suite made from params.data.expectations.

Levels are gated here: the library's own verdict fails on a warning too, and an expectation that
could not be computed carries its exception inside the result instead of raising it.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Literal

from reelmill.config import Data, Expectations
from reelmill.data.clip_table import ClipTable
from reelmill.data.findings import Finding
from reelmill.data.manifest import Clip
from reelmill.errors import UserError

_REMEDIES = {
    "num_frames": "Use a longer recording, lower data.num_frames, or raise data.scene_threshold if scenes are cut too finely.",
    "side_px": "Use a larger version of the recording, or remove it with its caption.",
    "duration_s": "Cut the recording to another length, or remove it with its caption.",
    "brightness": "Remove the recording with its caption, or correct its exposure.",
    "contrast": "The pictures are all of one tone: remove the recording with its caption.",
    "sharpness": "The pictures are blurred or empty: use a better version, or remove it with its caption.",
    "motion": "Hardly anything moves: remove the recording with its caption, or lower the bound.",
    "frozen_share": "Most frames repeat the one before: use a recording of a higher rate, lower data.fps, or remove it.",
    "black_share": "Cut the black part off, or remove the recording with its caption.",
    "caption_length": "Write a caption of another length.",
    "duplicate": "Keep one of the clips that look alike.",
}


@dataclass
class Judged:
    """One expectation: its bounds, how many clips were looked at, and those that fail."""

    name: str
    level: Literal["error", "warning", "off"]
    min: float | None
    max: float | None
    checked: int = 0
    failed: int = 0
    offenders: list[dict] = field(default_factory=list)  # clip_id, path, value


@dataclass
class Verdict:
    """All expectations and all findings. ``success``: nothing of level error."""

    expectations: list[Judged]
    findings: list[Finding]

    @property
    def success(self) -> bool:
        return not self.of_level("error")

    def of_level(self, level: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == level]

    def as_dict(self) -> dict:
        """For result.json."""
        return {
            "success": self.success,
            "expectations": [asdict(judged) for judged in self.expectations],
            "findings": [finding.as_dict() for finding in self.findings],
        }


def judge_table(table: ClipTable, data: Data) -> Verdict:
    """Hold every expectation against the table of clips and turn each offender into a finding."""
    rows = table.clips + table.too_short
    judged = run_suite(rows, data.expectations) if rows else _unjudged(data.expectations)
    unmeasured = {row.clip_id for row in table.too_short}
    findings = list(table.findings)
    for item in judged:
        for offender in item.offenders:
            if item.level == "off":
                continue
            short = offender["clip_id"] in unmeasured
            where = offender["path"] if short else f"{offender['path']} ({offender['clip_id']})"
            reason = _explain(item, offender["value"])
            if short and item.name == "num_frames":
                reason = f"{_longest(offender['value'], data)}; {reason}"
            findings.append(Finding(item.level, item.name, where, reason, _REMEDIES[item.name]))
    findings += _left_out(table, data, judged)
    findings += _empty_splits(table)
    return Verdict(judged, findings)


def run_suite(rows: list[Clip], expectations: Expectations) -> list[Judged]:
    """Run the suite on the rows. Pixel measurements of recordings without a window are not judged.

    Raises:
        UserError: for an expectation without bounds.
        RuntimeError: when an expectation could not be computed; it never passes.
    """
    judged = _unjudged(expectations)
    active = [item for item in judged if item.level != "off"]
    for item in active:
        if item.min is None and item.max is None:
            raise UserError(
                f"params.yaml: data.expectations.{item.name}: a level but neither min nor max. Give one, or level: off."
            )
    results = _great_expectations(_frame(rows), active) if active else []
    if len(results) != len(active):
        raise RuntimeError(f"{len(active)} expectations went in, {len(results)} results came back")
    by_column = {result.expectation_config.kwargs["column"]: result for result in results}
    paths = {row.clip_id: row.path for row in rows}
    for item in active:
        _take(item, by_column[item.name], paths, len(rows))
    return judged


def _great_expectations(frame, active: list[Judged]) -> list:
    import great_expectations as gx  # 3 to 4 s, paid by this stage alone
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.metadata_types import FailureSeverity

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    suite = gx.ExpectationSuite(name="clips")
    for item in active:
        severity = FailureSeverity.CRITICAL if item.level == "error" else FailureSeverity.WARNING
        suite.add_expectation(
            gx.expectations.ExpectColumnValuesToBeBetween(
                column=item.name, min_value=item.min, max_value=item.max, severity=severity
            )
        )
    asset = context.data_sources.add_pandas("clips").add_dataframe_asset("table")
    definition = gx.ValidationDefinition(
        name="clips", data=asset.add_batch_definition_whole_dataframe("all"), suite=suite
    )
    context.suites.add(suite)
    context.validation_definitions.add(definition)
    result_format = {"result_format": "COMPLETE", "unexpected_index_column_names": ["clip_id"]}
    return definition.run(batch_parameters={"dataframe": frame}, result_format=result_format).results


def _take(item: Judged, result, paths: dict[str, str], num_rows: int) -> None:
    """Fill in one result, refusing one that is not a measurement of every row."""
    outcome = result.result
    raised = bool(result.exception_info) and result.exception_info.get("raised_exception", True)
    if raised or "element_count" not in outcome:
        raise RuntimeError(f"the expectation on {item.name} could not be computed: {result.exception_info}")
    if outcome["element_count"] != num_rows:
        raise RuntimeError(f"the expectation on {item.name} saw {outcome['element_count']} of {num_rows} rows")
    offenders = outcome.get("unexpected_index_list") or []
    if len(offenders) != outcome["unexpected_count"] or bool(offenders) == result.success:
        raise RuntimeError(
            f"the expectation on {item.name} contradicts itself: {outcome['unexpected_count']} unexpected"
        )
    item.checked = outcome["element_count"] - outcome["missing_count"]
    item.failed = len(offenders)
    item.offenders = [
        {"clip_id": row["clip_id"], "path": paths[row["clip_id"]], "value": float(row[item.name])} for row in offenders
    ]


def _frame(rows: list[Clip]):
    """The judged columns; a recording without a window has no pixels, hence no value there."""
    import pandas as pd

    pixels = ("brightness", "contrast", "sharpness", "motion", "frozen_share", "black_share")
    columns: dict[str, list] = {"clip_id": [row.clip_id for row in rows]}
    for name in Expectations.model_fields:
        values = [float(getattr(row, name)) for row in rows]
        if any(not math.isfinite(value) for value in values):
            raise RuntimeError(f"a measurement of {name} is not finite")
        if name in pixels:
            values = [value if row.content_hash else math.nan for row, value in zip(rows, values, strict=True)]
        columns[name] = values
    return pd.DataFrame(columns)


def _unjudged(expectations: Expectations) -> list[Judged]:
    return [
        Judged(name, expectation.level, expectation.min, expectation.max)
        for name in Expectations.model_fields
        for expectation in [getattr(expectations, name)]
    ]


def _explain(item: Judged, value: float) -> str:
    if item.min is not None and value < item.min:
        return f"{item.name} is {value:.6g}, at least {item.min:g} is expected"
    return f"{item.name} is {value:.6g}, at most {item.max:g} is expected"


def _longest(num_frames: float, data: Data) -> str:
    return f"too short for a window: its longest scene has {num_frames:.0f} frames at {data.fps:g} fps"


def _left_out(table: ClipTable, data: Data, judged: list[Judged]) -> list[Finding]:
    """Recordings without a window: an error unless the user lowered num_frames to a warning."""
    rule = next(item for item in judged if item.name == "num_frames")
    refused = {offender["clip_id"] for offender in rule.offenders} if rule.level == "error" else set()
    level: Literal["error", "warning"] = "error" if rule.level == "error" else "warning"
    return [
        Finding(
            level,
            "left out",
            row.path,
            f"{_longest(row.num_frames, data)}; data.num_frames is {data.num_frames}",
            _REMEDIES["num_frames"],
        )
        for row in table.too_short
        if row.clip_id not in refused
    ]


def _empty_splits(table: ClipTable) -> list[Finding]:
    """A split without a clip, where nothing else has told why."""
    if any(finding.level == "error" for finding in table.findings) or not table.clips:
        return []
    return [
        Finding("error", "empty split", split, "no clip is in this split", "Add recordings, or draw more samples.")
        for split in ("train", "validation", "test")
        if not any(clip.split == split for clip in table.clips)
    ]
