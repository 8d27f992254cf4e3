"""How often the model, on its way, does what it is asked for: validation prompts, read by the judge.

Attributes are learnt one after another (colour, motion, then shape), which no loss shows.
"""

from statistics import fmean

from diffusers import DiffusionPipeline

from reelmill.config import Params
from reelmill.data.manifest import load_manifest
from reelmill.judge import LEAST_FRAMES, Verdict, judge
from reelmill.sampling import PromptEncoder, Request, call_arguments, sample
from reelmill.storage import hash_value

MAX_AT_ONCE = 4  # videos: guidance doubles the batch, and decoding takes more than a training step


class PromptAccuracy:
    """Labelled validation prompts, each with its seed: the same at every measurement."""

    def __init__(self, params: Params):
        self.request = Request.of(call_arguments(params), params.train.precision)
        self.batch_size = min(params.train.batch_size, MAX_AT_ONCE)
        count = params.train.accuracy_videos if params.data.num_frames >= LEAST_FRAMES else 0
        self.prompts: list[str] = []
        self.wanted: list[Verdict] = []
        for clip in sorted(load_manifest(), key=lambda clip: hash_value(clip.clip_id)):
            label = Verdict.of_labels(clip.label_shape, clip.label_color, clip.label_motion)
            if clip.split == "validation" and label is not None and len(self.prompts) < count:
                self.prompts.append(clip.caption)
                self.wanted.append(label)

    def measure(self, pipeline: DiffusionPipeline, encode: PromptEncoder | None) -> dict[str, float]:
        """``<attribute>_accuracy`` and ``joint_accuracy``, shares; empty without labelled prompts."""
        if not self.prompts:
            return {}
        videos = sample(pipeline, self.prompts, range(len(self.prompts)), self.request, self.batch_size, encode)
        pairs = list(zip(map(judge, videos), self.wanted, strict=True))
        shares = {
            f"{name}_accuracy": fmean(getattr(seen, name) == getattr(wanted, name) for seen, wanted in pairs)
            for name in ("color", "motion", "shape")
        }
        return {**shares, "joint_accuracy": fmean(seen == wanted for seen, wanted in pairs)}
