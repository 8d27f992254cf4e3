"""The journal: what is in it, after kills and repeats too."""

import pytest

from reelmill.storage import write_text
from reelmill.tracking.journal import Journal, read_records, remove_journal


@pytest.fixture
def journal(workspace):
    journal = Journal("k")
    yield journal
    journal.close()


def values(directory):
    return [(record["step"], record["values"]) for record, _ in read_records(directory)]


def test_repeated_steps_are_dropped_after_a_restart(journal):
    journal.metrics(1, {"a": 1.0})
    journal.metrics(2, {"a": 2.0})
    journal.close()
    again = Journal("k")
    again.metrics(2, {"a": 9.0, "b": 5.0})
    again.metrics(3, {"a": 3.0})
    assert values(again.directory) == [(1, {"a": 1.0}), (2, {"a": 2.0}), (2, {"b": 5.0}), (3, {"a": 3.0})]
    again.close()


def test_half_written_line_is_cut_off(journal):
    journal.metrics(1, {"a": 1.0})
    journal._file.write(b'{"kind": "metr')
    journal.close()
    again = Journal("k")
    again.metrics(2, {"a": 2.0})
    assert values(again.directory) == [(1, {"a": 1.0}), (2, {"a": 2.0})]
    again.close()


def test_same_training_in_two_workspaces_gets_two_journals(journal):
    other = Journal("k")
    assert other.directory != journal.directory
    other.close()


def test_spooled_file_survives_its_removal(journal, workspace):
    write_text(workspace / "a.mp4", "frames")
    journal.once("preview", "1", {"a.mp4": workspace / "a.mp4"})
    (workspace / "a.mp4").unlink()
    ((record, _),) = read_records(journal.directory)
    assert (journal.directory / record["files"]["a.mp4"]).read_text() == "frames"


def test_journal_with_unsent_records_or_a_writer_is_not_removed(journal):
    journal.metrics(1, {"a": 1.0})
    size = (journal.directory / "journal.jsonl").stat().st_size
    remove_journal(journal.directory, size)
    assert journal.directory.exists()
    journal.close()
    remove_journal(journal.directory, size - 1)
    assert journal.directory.exists()
    remove_journal(journal.directory, size)
    assert not journal.directory.exists()
