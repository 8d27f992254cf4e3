"""The stages in this process, on drawn clips and a tiny pretrained pipeline: no DVC, no tracking, no workers."""

import runpy
import shutil
from pathlib import Path

import pytest
from models.tiny import TOKENS, save_tiny_pipeline

from reelmill import settings, tracking
from reelmill.config import load_params
from reelmill.data import parallel
from reelmill.data.clip_table import build_table
from reelmill.data.manifest import write_manifest
from reelmill.data.samples import make_samples
from reelmill.presets import write_preset

ROOT = Path(__file__).parent.parent
MODEL_STAGES = ("fit_autoencoder", "encode", "train", "generate")
SMALL = {
    "samples.motions": ["right", "expanding", "clockwise"],
    "samples.num_train_clips": 6,
    "samples.num_validation_clips": 1,
    "samples.num_test_clips": 1,
    "autoencoder.phases": [{"frames": 9, "crop_px": None, "steps": 2, "batch_size": 1}],
    "autoencoder.max_clips": 2,
    "train.lora.rank": 4,
    "train.lora.alpha": 8,
    "train.epochs": 1,
    "train.batch_size": 1,
    "train.validate_every_steps": 6,
    "train.ema_decay": 0.5,
    "train.validation_clips": 1,
    "train.accuracy_videos": 0,
    "train.save_every_steps": 3,
    "train.preview_every_steps": 6,
    "sampling.num_inference_steps": 2,
    "generate.num_rephrased": 0,
    "generate.num_seen": 1,
    "generate.num_held_out": 0,
    "generate.seeds": [0],
    "generate.precision": "fp32",  # as a vanilla call computes, wherever bf16 is fast
    "model.text_encoder.max_tokens": TOKENS,
    "model.text_encoder.short_tokens": TOKENS,
}
PRETRAINED = {
    "cogvideox": {"train.objective": "v_prediction", "train.shift": 3.0},
    "wan": {"train.objective": "flow", "train.shift": 3.0},
    "hunyuan_video": {"train.objective": "flow", "train.shift": 7.0, "train.guidance.share": 0.0},  # it is distilled
}


class SilentLog:
    """A `TrainingLog` that keeps nothing."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def metrics(self, *_):
        pass

    preview = checkpoint = finish = metrics


class Workspace:
    """Params, clips and stages in the current directory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path):
        monkeypatch.chdir(directory)
        monkeypatch.setattr(parallel, "num_cores", lambda: 1)
        monkeypatch.setattr(tracking, "TrainingLog", SilentLog)
        monkeypatch.setattr(tracking, "log_generation", lambda _: None)
        Path("presets").mkdir()
        shutil.copy(ROOT / "presets/default.yaml", "presets")
        shutil.copy(ROOT / "tests/micro.yaml", "presets")
        write_preset("micro")
        self.set(SMALL)
        params = load_params()
        make_samples(params.samples, Path("data/samples"))
        write_manifest(build_table(params.data, lambda found, _: found).clips)

    def set(self, changes: dict) -> None:
        """Change params.yaml."""
        settings.change(Path("params.yaml"), changes)

    def use_pretrained(self, family: str, **more) -> Path:
        """Fine-tune a tiny pipeline of a family, as it is sampled."""
        source = save_tiny_pipeline(family, Path("base"))
        own = {"model.family": family, "model.source": "base", "sampling.scheduler": "source"}
        self.set(own | PRETRAINED[family] | {key.replace("__", "."): value for key, value in more.items()})
        return source

    def run(self, *stages: str) -> None:
        """The stages' own scripts."""
        for stage in stages:
            runpy.run_path(str(ROOT / "stages" / f"{stage}.py"))["main"]()
