"""From videos and the data's clips to the evidence: which clips are read, and what is compared with what."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from reelmill.compute import choose_device
from reelmill.config import Data, Evaluate
from reelmill.data.manifest import Clip, read_clips
from reelmill.evaluation import evidence as figures
from reelmill.evaluation.adherence import Adherence, ClipScorer, measure_adherence
from reelmill.evaluation.calibration import NEGATIVES
from reelmill.evaluation.evidence import Evidence
from reelmill.evaluation.inputs import GeneratedVideo
from reelmill.evaluation.reading import Reading, read
from reelmill.evaluation.reference import Readings, label_of, read_test_clips, read_training_clips
from reelmill.evaluation.self_check import NoneRate, decoded_noise, drawn_none_rates, none_rate
from reelmill.evaluation.variety import NearestClips
from reelmill.judge import LEAST_FRAMES
from reelmill.models.autoencoder import reconstruct

LARGEST_CHECK_PX = 128  # side of the clips drawn to check the judge
MAX_DECODED = 32  # clips of decoded noise: decoding costs more than all the rest


def read_videos(videos: Sequence[GeneratedVideo]) -> list[Reading]:
    """Measure every generated video, one at a time."""
    return [read(video.frames()) for video in tqdm(videos, desc="generated videos", unit="video")]


def assess(
    videos: Sequence[GeneratedVideo],
    readings: Sequence[Reading],
    clips: Sequence[Clip],
    data: Data,
    settings: Evaluate,
    autoencoder: Any,
    losses: dict[str, float],
) -> Evidence:
    """All evidence about the videos.

    Args:
        readings: of the videos, from `read_videos`.
        clips: the whole manifest; test clips are looked at here and nowhere else.
        autoencoder: a loaded model, for reconstructions of test clips.
        losses: on test clips.
    """
    labels = [label for clip in clips if (label := label_of(clip)) is not None]
    test_clips = [clip for clip in clips if clip.split == "test"]
    rebuild = partial(reconstruct, autoencoder)
    drawn, rebuilt = read_test_clips(test_clips, data, rebuild, settings.num_calibration_clips, settings.seed)
    groups = figures.by_group(videos, readings)
    trained, distances = _past_training_clips(groups, drawn, clips, data)
    num_generated = len(readings)
    return Evidence(
        accuracies=figures.generated_accuracies(videos, readings, labels, settings.confidence),
        judge_accuracies=figures.judge_accuracies(drawn, rebuilt, labels, settings.confidence),
        none_rates=_none_rates(data, settings, autoencoder) if labels else [],
        quality=figures.quality(groups, drawn, rebuilt),
        variety=figures.variety(groups, {"held_out": drawn, "seen": trained}),
        nearest=figures.nearest(groups, distances[:num_generated], distances[num_generated:]),
        adherence=_adherence(groups, test_clips, data, settings),
        losses=losses,
    )


def _past_training_clips(
    groups: dict[str, tuple[list, list]], drawn: Readings, clips: Sequence[Clip], data: Data
) -> tuple[Readings, np.ndarray]:
    """Readings of training clips of the seen combinations, and the distances to the nearest of all
    training clips: of the generated videos, in the groups' order, then of the test clips."""
    measured = [reading for _, readings in groups.values() for reading in readings] + drawn.readings
    nearest = NearestClips(np.stack([reading.fingerprint for reading in measured]))
    seen, _ = groups.get("seen", ([], []))
    combinations = {video.wanted for video in seen if video.wanted is not None}
    trained = read_training_clips([clip for clip in clips if clip.split == "train"], data, nearest, combinations)
    return trained, nearest.result()[0]


def _none_rates(data: Data, settings: Evaluate, autoencoder: Any) -> list[NoneRate]:
    """The judge's rates of "none"; none for clips too short to show motion."""
    if data.num_frames < LEAST_FRAMES:
        return []
    side_px = min(data.height_px, data.width_px, LARGEST_CHECK_PX)
    number, confidence = settings.num_calibration_clips, settings.confidence
    rates = drawn_none_rates(number, data.num_frames, side_px, settings.seed, confidence)
    result = list(tqdm(rates, total=len(NEGATIVES), desc="judge's self-check", unit="kind"))
    decoded = min(number, MAX_DECODED)
    noise = decoded_noise(autoencoder, decoded, (data.num_frames, data.height_px, data.width_px), settings.seed)
    return [*result, none_rate("untrained", tqdm(noise, total=decoded, desc="decoded noise", unit="clip"), confidence)]


def _adherence(
    groups: dict[str, tuple[list, list]], test_clips: list[Clip], data: Data, settings: Evaluate
) -> dict[str, Adherence]:
    """CLIP's adherence of each group and, to compare, of test clips to their captions."""
    if settings.clip_model is None:
        return {}
    scorer = ClipScorer(settings.clip_model, choose_device(settings.device))
    result = {}
    for group, (videos, _) in groups.items():
        result[group] = measure_adherence(scorer, _frames(videos), [video.prompt for video in videos])
    if test_clips:
        captions = [clip.caption for clip in test_clips]
        result["test_clips"] = measure_adherence(scorer, read_clips(test_clips, data), captions)
    return result


def _frames(videos: list[GeneratedVideo]) -> Iterator[np.ndarray]:
    for video in tqdm(videos, desc="CLIP", unit="video"):
        yield video.frames()
