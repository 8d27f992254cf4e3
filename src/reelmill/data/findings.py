"""What is wrong with a user's clips: collected, all of it, before anything is refused."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

SHOWN_OFFENDERS = 50  # in a message; result.json holds them all


@dataclass(frozen=True)
class Finding:
    """One fault of one file or caption: where, the reason, the remedy."""

    level: Literal["error", "warning"]
    rule: str  # what kind of fault, a short name
    where: str  # file, with row or key
    reason: str
    remedy: str

    def as_dict(self) -> dict[str, str]:
        """For result.json."""
        return asdict(self)


def describe(findings: Sequence[Finding], shown: int = SHOWN_OFFENDERS) -> str:
    """A message that names every offender, grouped by rule, at most ``shown`` a rule."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.level, finding.rule), []).append(finding)
    lines = []
    for (level, rule), members in groups.items():
        lines.append(f"{level.upper()} {rule} ({len(members)})")
        remedies = {finding.remedy for finding in members}
        for finding in members[:shown]:
            lines.append(f"  {finding.where}: {finding.reason}")
            if len(remedies) > 1:
                lines.append(f"    -> {finding.remedy}")
        if len(members) > shown:
            lines.append(f"  and {len(members) - shown} more")
        if len(remedies) == 1:
            lines.append(f"  -> {members[0].remedy}")
    return "\n".join(lines)
