from dataclasses import replace
from pathlib import Path

import pytest

from reelmill.config import load_params
from reelmill.errors import UserError
from reelmill.evaluation.promotion import Judged, decide, paired_interval

SETTINGS = load_params(Path(__file__).parents[2] / "presets/default.yaml").promotion


def judged(right: int, total: int = 40, **changes) -> Judged:
    """The first ``right`` of ``total`` videos are right."""
    videos = {("held_out", f"prompt {i // 2}", i % 2): i < right for i in range(total)}
    guards = {"flicker": 1.0, "diversity": 10.0}
    return replace(Judged("set", videos, {f"clip {i}": 20.0 for i in range(8)}, guards), **changes)


def errors(*values: float) -> Judged:
    return Judged("set", {}, {f"clip {i}": value for i, value in enumerate(values)}, {})


def test_paired_interval_is_newcombes_example():
    """Newcombe 1998, table I: 36, 12, 2, 0 pairs, method 10: 0.0569 to 0.3404."""
    assert paired_interval(36, 12, 2, 0, 0.95) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_paired_interval_of_equal_answers_has_width():
    low, high = paired_interval(5, 0, 0, 0, 0.95)
    assert low < -0.2 < 0.2 < high


def test_clear_winner_is_promoted_and_the_reason_has_the_figures():
    decision = decide(judged(36), judged(10), SETTINGS)
    assert decision.promoted
    assert (decision.gain.champion, decision.gain.challenger, decision.gain.pairs) == (0.25, 0.9, 40)
    assert "gain +0.650" in decision.reasons[0]


@pytest.mark.parametrize("right", [0, 9, 10, 12])
def test_equal_slightly_better_or_worse_is_refused(right):
    decision = decide(judged(right), judged(10), SETTINGS)
    assert not decision.promoted
    assert "not certainly above" in decision.reasons[0]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"guards": {"flicker": 1.6, "diversity": 10.0}}, "guard flicker: 1.600 against the champion's 1.000, ratio 1.60"),
        ({"guards": {"flicker": 1.0, "diversity": 4.0}}, "guard diversity: 4.000"),
        ({"guards": {"flicker": 1.0}}, "guard diversity: measured for the champion and not"),
        ({"clean_errors": {f"clip {i}": 23.0 for i in range(8)}}, "guard clean_error: 23.000"),
    ],
)  # fmt: skip
def test_broken_guard_refuses_a_winner(changes, text):
    decision = decide(judged(36, **changes), judged(10), SETTINGS)
    assert not decision.promoted
    assert text in decision.reasons[1]


def test_other_evaluation_set_or_other_videos_are_an_error_not_a_verdict():
    with pytest.raises(UserError, match="judged on evaluation set other"):
        decide(judged(36, evaluation="other"), judged(10), SETTINGS)
    with pytest.raises(UserError, match="2 videos were judged for one of the two"):
        decide(judged(36, total=38), judged(10), SETTINGS)


def test_first_model_must_clear_the_absolute_threshold_with_its_interval():
    assert decide(judged(16), None, SETTINGS).promoted
    assert not decide(judged(8), None, SETTINGS).promoted  # 0.20, its interval begins at 0.105
    assert not decide(errors(70, 70, 70, 70, 70), None, SETTINGS).promoted
    assert decide(errors(50, 50, 50, 50, 50), None, SETTINGS).promoted


def test_without_labels_the_errors_of_the_same_clips_decide():
    champion = errors(20, 30, 40, 50, 60)
    assert decide(errors(18, 27, 38, 47, 58), champion, SETTINGS).promoted  # drops 2 or 3 each: 2.4 +- 0.68
    assert not decide(errors(10, 35, 35, 55, 55), champion, SETTINGS).promoted
    gain = decide(errors(18, 27, 38, 47, 58), champion, SETTINGS).gain
    assert (gain.gain, gain.low) == pytest.approx((2.4, 2.4 - 2.7764 * 0.5477 / 5**0.5), abs=1e-3)


def test_too_little_to_judge_by_is_an_error():
    with pytest.raises(UserError, match="4 test clips are too few"):
        decide(errors(1, 2, 3, 4), None, SETTINGS)
    with pytest.raises(UserError, match=r"generate\.num_held_out"):
        decide(errors(*range(9)), None, SETTINGS.model_copy(update={"metric": "accuracy"}))
