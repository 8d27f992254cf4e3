"""prefect.yaml for work pools says what `make schedule` serves on one machine."""

from datetime import timedelta
from pathlib import Path

import yaml
from benchmarks.workspace import ROOT
from flows.schedule import deployments


def test_prefect_yaml_describes_the_served_deployments(monkeypatch):
    monkeypatch.chdir(ROOT)
    described = {entry["name"]: entry for entry in yaml.safe_load(Path("prefect.yaml").read_text())["deployments"]}
    for served in deployments():
        entry = described[served.name]
        assert entry["entrypoint"] == f"flows/{served.name}.py:{served.flow_name}"
        (schedule,) = entry["schedules"]
        (ours,) = (s.schedule for s in served.schedules)
        assert schedule.get("cron") == getattr(ours, "cron", None)
        assert timedelta(seconds=schedule.get("interval", 0)) == getattr(ours, "interval", timedelta(0))
        assert entry["concurrency_limit"]["limit"] == served.concurrency_limit
        assert entry["concurrency_limit"]["collision_strategy"] == served.concurrency_options.collision_strategy.value
        assert [trigger["expect"] for trigger in entry.get("triggers", [])] == [
            sorted(t.expect) for t in served.triggers
        ]
