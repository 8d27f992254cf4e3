"""Dataset layouts, and everything that does not fit them."""

import json
from pathlib import Path

import pytest

from reelmill.data.findings import Finding, describe
from reelmill.data.sources import scan_folder


def _folder(root: Path, files: dict[str, str]) -> Path:
    """Files by path; clips are empty, since scanning does not open them."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def _captions(root: Path) -> dict[str, str]:
    recordings, findings = scan_folder("videos", root)
    assert findings == []
    return {recording.id: recording.caption for recording in recordings}


def _rules(root: Path) -> list[tuple[str, str]]:
    """Rule and level of each finding."""
    return [(finding.rule, finding.level) for finding in scan_folder("videos", root)[1]]


@pytest.mark.parametrize(
    "captions",
    [
        {"metadata.json": '{"a": "one", "b.v2.mp4": "two"}'},
        {"metadata.jsonl": '{"file_name": "a.mp4", "text": "one"}\n\n{"file_name": "b.v2.mp4", "text": "two"}\n'},
        {"metadata.csv": "file_name,text\na.mp4,one\nb.v2.mp4,two\n"},
        {"a.txt": "one\n", "b.v2.txt": "two"},
        {"prompts.txt": "one\ntwo\n", "videos.txt": "a.mp4\nb.v2.mp4\n"},
    ],
)
def test_every_layout_gives_the_same_captions(tmp_path, captions):
    root = _folder(tmp_path, {"a.mp4": "", "b.v2.mp4": "", "README.md": "", ".gitignore": "", ".x.mp4": "", **captions})
    assert _captions(root) == {"a": "one", "b.v2": "two"}


def test_csv_keeps_commas_and_line_breaks_in_quotes(tmp_path):
    root = _folder(tmp_path, {"a.mp4": "", "metadata.csv": '\ufefffile_name,text\na.mp4,"one, two\nthree"\n'})
    assert _captions(root) == {"a": "one, two\nthree"}


def test_keys_are_found_in_folders_below(tmp_path):
    root = _folder(tmp_path, {"videos/a.mp4": "", "x/y/b.mkv": "", "metadata.json": '{"a": "one", "y/b.mkv": "two"}'})
    assert _captions(root) == {"videos/a": "one", "x/y/b": "two"}


def test_ambiguous_key_names_the_candidates(tmp_path):
    root = _folder(tmp_path, {"x/a.mp4": "", "y/a.mp4": "", "metadata.json": '{"a": "one"}'})
    _, findings = scan_folder("videos", root)
    assert [finding.rule for finding in findings] == ["ambiguous key"]
    assert "x/a.mp4, y/a.mp4" in findings[0].reason


def test_caption_without_clip_and_clip_without_caption_are_errors(tmp_path):
    root = _folder(tmp_path, {"a.mp4": "", "metadata.json": '{"b": "two"}'})
    assert _rules(root) == [("caption without a clip", "error"), ("clip without a caption", "error")]


@pytest.mark.parametrize("key", ["../a", "x/../../a", "/etc/passwd", "C:\\\\a.mp4", "\\\\\\\\host\\\\a", "..\\\\a"])
def test_keys_that_leave_the_folder_are_refused(tmp_path, key):
    root = _folder(tmp_path / "in", {"ok.mp4": "", "metadata.json": f'{{"ok": "fine", "{key}": "out"}}'})
    (tmp_path / "a.mp4").touch()
    assert _rules(root) == [("leaves the folder", "error")]


def test_links_out_of_the_folder_are_refused(tmp_path):
    root = _folder(tmp_path / "in", {"ok.mp4": "", "ok.txt": "fine"})
    _folder(tmp_path / "out", {"a.mp4": ""})
    (root / "a.mp4").symlink_to(tmp_path / "out/a.mp4")
    (root / "folder").symlink_to(tmp_path / "out")
    recordings, findings = scan_folder("videos", root)
    assert [recording.id for recording in recordings] == ["ok"]
    assert [finding.rule for finding in findings] == ["leaves the folder"] * 2


def test_duplicate_captions_ids_and_empty_captions_are_errors(tmp_path):
    files = {"a.mp4": "", "a.txt": "one", "b.mp4": "", "b.txt": " ", "c.mp4": "", "c.mkv": ""}
    root = _folder(tmp_path, {**files, "metadata.json": '{"a": "uno", "c.mp4": "x", "c.mkv": "y"}'})
    assert sorted(_rules(root)) == [
        ("duplicate caption", "error"),
        ("duplicate id", "error"),
        ("empty caption", "error"),
    ]


def test_twice_the_same_json_key_is_an_error(tmp_path):
    root = _folder(tmp_path, {"a.mp4": "", "metadata.json": '{"a": "one", "a": "two"}'})
    assert _rules(root) == [("duplicate caption", "error")]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("metadata.json", '{"a": ', "not valid JSON"),
        ("metadata.json", '["a"]', "is not a JSON object"),
        ("metadata.json", '{"a": 3}', "the caption is a number"),
        ("metadata.jsonl", '{"file_name": "a.mp4"}', "lacks the text fields"),
        ("metadata.csv", "name,caption\na,b\n", "the header is name,caption"),
        ("metadata.csv", "file_name,text\na.mp4\n", "too few fields"),
        ("metadata.csv", "file_name,text\na.mp4,one, two\n", "more fields than the header"),
        ("prompts.txt", "one\n", "stands without videos.txt"),
    ],
)
def test_faulty_caption_file_is_named_with_its_place(tmp_path, name, text, reason):
    _, findings = scan_folder("videos", _folder(tmp_path, {"a.mp4": "", name: text}))
    fault = next(finding for finding in findings if finding.rule == "caption file")
    assert reason in fault.reason
    assert name in fault.where


def test_a_torn_caption_file_is_one_fault_and_hides_none_elsewhere(tmp_path):
    files = {"torn/a.mp4": "", "torn/b.mp4": "", "torn/metadata.json": '{"a": ', "whole/c.mp4": ""}
    rules = sorted(
        finding.where.removeprefix(str(tmp_path)) for finding in scan_folder("videos", _folder(tmp_path, files))[1]
    )
    assert rules == ["/torn/metadata.json, line 1, column 7", "/whole/c.mp4"]


def test_prompts_and_videos_of_other_lengths_are_refused(tmp_path):
    root = _folder(tmp_path, {"a.mp4": "", "prompts.txt": "one\ntwo\n", "videos.txt": "a.mp4\n"})
    assert ("caption file", "error") in _rules(root)


def test_empty_folder_says_what_to_do(tmp_path):
    _, findings = scan_folder("videos", tmp_path)
    assert [finding.rule for finding in findings] == ["no clips"]
    assert "metadata.json" in findings[0].remedy


def test_description_names_fifty_and_counts_the_rest():
    text = describe([Finding("error", "rule", f"file{index:03d}", "reason", "remedy") for index in range(60)])
    assert "file049" in text
    assert "file050" not in text
    assert "and 10 more" in text
    assert text.count("-> remedy") == 1
    assert json.dumps(text)
