"""One spelling of names, wherever they come from."""

import doctest

import pytest

from musrep_jax.runtime import names


def test_examples():
    assert doctest.testmod(names).failed == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hu\u0308zzam", "Hüzzam"),
        ("\u00a0hip\u00a0\u202fhop\t", "hip hop"),
        ("\ufeffrast\u200b", "rast"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # the non-joiner is a letter's shape, not a blank
        (" \u2003 ", ""),
    ],
)
def test_names_that_look_alike_are_alike(text, expected):
    assert names.normalize_name(text) == expected


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("ney, oud ,ney,,", ["ney", "oud"]),
        ('"Air horn, truck horn",siren', ["Air horn, truck horn", "siren"]),
        ("Folk\\, World, Rock", ["Folk, World", "Rock"]),
        ('7" single, 12" mix', ['7" single', '12" mix']),
        ('"open, end', ['"open', "end"]),
        ("AC\\DC", ["AC\\DC"]),
        ('say \\"a\\"', ['say "a"']),
    ],
)
def test_lists_of_labels(text, labels):
    assert names.split_labels(text) == labels
    assert names.split_labels(names.join_labels(labels)) == labels


def test_a_listed_path_is_found_in_mixed_forms(tmp_path):
    folder = tmp_path / "S\u0327arki" / "Hüzzam"
    folder.mkdir(parents=True)
    (folder / "u\u0308c\u0327.wav").write_bytes(b"")
    found = names.find_path(tmp_path, names.normalize_path(" S\u0327arki\\Hüzzam/üç.wav"))
    assert found == folder / "u\u0308c\u0327.wav"
    assert names.find_path(tmp_path, "Şarki/ş.wav") == tmp_path / "Şarki" / "ş.wav"


def test_case_in_turkish_and_elsewhere():
    words = ["İsfahan", "isfahan", "HICAZ", "Hicaz", "ısı", "isi", "Straße", "STRASSE", "ney"]
    assert names.find_case_variants(words) == [
        ["HICAZ", "Hicaz"],
        ["STRASSE", "Straße"],
        ["isfahan", "İsfahan"],
    ]
