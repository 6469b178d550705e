"""The quarantine list: any file name comes back as it was, and a malformed list is named."""

import os
import pathlib

import pytest

from musrep_jax.data.doctor.quarantine import (
    QuarantineError,
    escape_path,
    folder_key,
    quarantine_path,
    read_quarantine,
    write_quarantine,
)


def test_any_name_comes_back(tmp_path):
    names = [
        os.fsdecode(b"caf\xe9.wav"),
        "ney/çalışma.wav",
        'tab\there "quoted".mp3',
        "line\nbreak\r.mp3",
        r"back\slash\x41.mp3",
        "line\u2028separator.wav",
    ]
    path = quarantine_path(tmp_path, "lyra")
    assert path == tmp_path / "quarantine" / "lyra.tsv"
    assert read_quarantine(path) == {}
    write_quarantine(
        path, [(name, "dead", f"It is dead\n({escape_path(name)}).") for name in names]
    )
    found = read_quarantine(path)
    assert sorted(found) == sorted(names)
    for name in names:
        found[name].encode("utf-8")
        assert "\n" not in found[name]
    assert found[names[0]] == r"It is dead (caf\xe9.wav)."
    assert [entry.name for entry in path.parent.iterdir()] == ["lyra.tsv"]


def test_two_faults_of_a_file_are_joined_and_order_does_not_matter(tmp_path):
    rows = [("a.wav", "silent", "It is silent."), ("a.wav", "truncated", "It is short.")]
    one, other = tmp_path / "one.tsv", tmp_path / "other.tsv"
    write_quarantine(one, rows)
    write_quarantine(other, rows[::-1])
    assert one.read_bytes() == other.read_bytes()
    assert read_quarantine(one) == {"a.wav": "It is silent. It is short."}


def test_a_folder_is_named_by_its_resolved_path(tmp_path, monkeypatch):
    folder = tmp_path / "my music"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    assert folder_key(pathlib.Path("my music")) == folder_key(folder)
    assert folder_key(folder).startswith("my_music-")
    assert folder_key(folder) != folder_key(tmp_path)
    assert folder_key("my music") == "my music"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,fault,reason\n", "its first line must be path, fault, reason"),
        ("path\tfault\treason\na.wav\tdead\n", "line 2 of"),
        ("path\tfault\treason\n\tdead\tIt is dead.\n", "line 2 of"),
    ],
)
def test_a_malformed_list_is_named(tmp_path, text, sentence):
    path = tmp_path / "list.tsv"
    path.write_text(text)
    with pytest.raises(QuarantineError, match=sentence):
        read_quarantine(path)


def test_a_list_that_was_edited_by_hand(tmp_path):
    path = tmp_path / "list.tsv"
    path.write_text("\ufeffpath\tfault\treason\r\n\r\na.wav\theard\tHum.\r\n", encoding="utf-8")
    assert read_quarantine(path) == {"a.wav": "Hum."}
