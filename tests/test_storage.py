import pytest

from reelmill.storage import atomic_path, hash_path, read_json, write_csv, write_json, write_text


def test_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_left_over_of_a_killed_write_is_swept_away(tmp_path):
    left = tmp_path / ".model.partial"
    left.mkdir()
    (left / "half").write_text("x")
    with atomic_path(tmp_path / "model") as temporary:
        temporary.mkdir()
        (temporary / "whole").write_text("y")
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["whole"]
    assert not left.exists()


def test_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_directory_hash_sees_names_and_contents(tmp_path):
    write_text(tmp_path / "a/one", "1")
    write_text(tmp_path / "b/one", "1")
    assert hash_path(tmp_path / "a") == hash_path(tmp_path / "b")
    write_text(tmp_path / "b/two", "")
    assert hash_path(tmp_path / "a") != hash_path(tmp_path / "b")
    (tmp_path / "b/two").unlink()
    (tmp_path / "b/one").rename(tmp_path / "b/two")
    assert hash_path(tmp_path / "a") != hash_path(tmp_path / "b")


def test_csv_has_a_header_and_unix_lines(tmp_path):
    write_csv(tmp_path / "a.csv", [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}])
    assert (tmp_path / "a.csv").read_bytes() == b"step,loss\n1,0.5\n2,0.25\n"
