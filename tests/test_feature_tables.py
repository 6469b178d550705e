"""Tables of features in every form say the same; wrong ones are refused in one sentence."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from musrep_jax.data.feature_tables import FeatureTableError, match_tracks, read_feature_table
from musrep_jax.probing.leaks import LabelColumn, find_label_columns

IDS = ["a/1.wav", "b,2", "makam-3"]
FEATURES = np.array([[0.5, -1.0], [2.0, 3.25], [1e-3, 7.0]], np.float32)


def write_table(path, ids=IDS, features=FEATURES):
    """Writes a table as its suffix says."""
    if path.suffix == ".npz":
        np.savez(path, track_ids=np.array(ids), features=features)
    elif path.suffix == ".npy":
        np.save(path, features)
        path.with_suffix(".txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    elif path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        columns = {f"f{k}": features[:, k] for k in range(features.shape[1])}
        pyarrow.parquet.write_table(pyarrow.table({"track_id": ids, **columns}), path)
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        lines = [mark.join(["f0", "track_id", "f1"])]
        lines += [
            mark.join([repr(float(a)), f'"{name}"', repr(float(b))])
            for name, (a, b) in zip(ids, features, strict=True)
        ]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".csv", ".tsv", ".parquet"])
def test_every_form_holds_the_same(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow.parquet")
    table = read_feature_table(write_table(tmp_path / f"table{suffix}"))
    assert list(table.track_ids) == IDS
    np.testing.assert_array_equal(table.features, FEATURES)
    np.testing.assert_array_equal(match_tracks(table, IDS[:0:-1], "it"), FEATURES[:0:-1])


def test_parquet_may_hold_lists(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"track_id": IDS, "embedding": FEATURES.tolist()})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    np.testing.assert_array_equal(read_feature_table(tmp_path / "t.parquet").features, FEATURES)


class Trap:
    """What a pickle would run."""

    def __reduce__(self):
        return (print, ("a pickle was opened",))


def write_pickled_npz(path):
    with zipfile.ZipFile(path, "w") as file:
        for name, array in (("track_ids", np.array(IDS)), ("features", np.array([Trap()], object))):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=True)
            file.writestr(f"{name}.npy", buffer.getvalue())


def make_header(width):
    """The start of an .npy file that says it has three rows of that width."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': (3, {width}), }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


HUGE = make_header(10**13)  # 240 TB


def write_members(path, features, method=None, cut=False):
    """A zip file of ids and of what are no features; of a method nobody has, or damaged."""
    ids = io.BytesIO()
    np.save(ids, np.array(IDS))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("track_ids.npy", ids.getvalue())
        file.writestr("features.npy", features)
    content = bytearray(path.read_bytes())
    if method is not None:
        for start in [n for n in range(len(content)) if content[n : n + 4] == b"PK\x01\x02"]:
            content[start + 10] = method
    if cut:
        start = content.find(b"track_ids.npy") + 13
        content[start + 2 : start + 20] = b"\xff" * 18
    path.write_bytes(content)


def write_with_ids(path, content):
    path.write_bytes(content)
    path.with_suffix(".txt").write_text("\n".join(IDS), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("t.npz", write_pickled_npz, "cannot be read"),
        ("t.npz", lambda p: p.write_bytes(pickle.dumps(Trap())), "no .npz file by its content"),
        ("t.npz", lambda p: write_members(p, HUGE), "cannot be read"),
        ("t.npz", lambda p: write_members(p, HUGE, method=77), "cannot be read"),
        ("t.npz", lambda p: write_members(p, b"\0" * 999, cut=True), "cannot be read"),
        ("t.npz", lambda p: write_table(p, [b"\xff", b"b", b"c"]), "not UTF-8"),
        ("t.npy", lambda p: write_with_ids(p, pickle.dumps(Trap())), "no .npy file by its content"),
        ("t.npy", lambda p: write_with_ids(p, HUGE), "cannot be read"),
        (
            "t.npz",
            lambda p: np.savez(p, ids=np.array(IDS), features=FEATURES),
            "no array track_ids",
        ),
        ("t.npz", lambda p: write_table(p, IDS[:2]), "2 track ids and 3 rows"),
        ("t.npz", lambda p: write_table(p, features=FEATURES[0]), "(tracks, width)"),
        ("t.npz", lambda p: write_table(p, features=np.full((3, 2), "x")), "numbers"),
        ("t.npy", lambda p: np.save(p, FEATURES), "t.txt"),
        ("t.npy", lambda p: p.write_bytes(b"\x93NUMPY"), "t.txt"),
        ("t.csv", lambda p: p.write_text("a,b\n1,2\n"), "'track_id'"),
        ("t.csv", lambda p: p.write_text("track_id,f\na,1\nb\n"), "line 3"),
        ("t.csv", lambda p: p.write_text("track_id,f\na,one\n"), "line 2"),
        ("t.csv", lambda p: p.write_bytes(b"track_id,f\n\xff,1\n"), "cannot be read"),
        ("t.parquet", lambda p: p.write_bytes(b"PAR1"), "cannot be read"),
        ("t.pkl", lambda p: p.write_bytes(b""), ".npz"),
        ("t.npz", lambda p: None, "There is no file"),
    ],
)
def test_a_wrong_table_is_one_sentence(tmp_path, capsys, name, write, words):
    if name == "t.parquet":
        pytest.importorskip("pyarrow.parquet")
    write(tmp_path / name)
    with pytest.raises(FeatureTableError) as raised:
        read_feature_table(tmp_path / name)
    message = str(raised.value)
    assert words in message and name in message
    assert "pickle was opened" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ids", "features", "words"),
    [
        (IDS, np.where(FEATURES == 7, np.nan, FEATURES), "feature 1 of track 'makam-3' is nan"),
        (["a/1.wav", "a/1.wav", "makam-3"], FEATURES, "'a/1.wav' twice, in rows 1 and 2"),
        (["a/1.wav", "b,2", "makam-4"], FEATURES, "lacks 1 of 3 tracks, such as 'makam-3'"),
    ],
)
def test_a_table_of_other_tracks_is_one_sentence(tmp_path, ids, features, words):
    table = read_feature_table(write_table(tmp_path / "t.npz", ids, features))
    with pytest.raises(FeatureTableError, match=r"t\.npz") as raised:
        match_tracks(table, IDS, "t.npz")
    assert words in str(raised.value)


def test_ids_of_any_script_are_found(tmp_path):
    """In either form of Unicode, and with separators that only str.splitlines knows."""
    ids = ["ne\u0301y", "a\u2028b", "a\x0bb"]
    for suffix in (".npy", ".npz"):
        table = read_feature_table(write_table(tmp_path / f"t{suffix}", ids))
        found = match_tracks(table, ["n\u00e9y", *ids[1:]], "t")
        np.testing.assert_array_equal(found, FEATURES)


def test_what_32_bits_cannot_hold_is_not_finite(tmp_path):
    table = read_feature_table(
        write_table(tmp_path / "t.npz", features=np.float64(FEATURES) * 1e300)
    )
    with pytest.raises(FeatureTableError, match="must be finite"):
        match_tracks(table, IDS, "t")


def test_labels_among_features_are_found():
    random = np.random.default_rng(0)
    classes = np.arange(60) % 3
    targets = np.eye(3)[classes]
    features = random.standard_normal((60, 6))
    features[:, 1] = 5 - 3 * targets[:, 2]  # a label with another name and sign
    features[:, 3] = np.array([7, 2, 9])[classes]  # numbers of classes
    features[:, 5] = targets[:, 0] * 4 + random.random(60)  # ranks a label
    found = find_label_columns(features, targets)
    assert LabelColumn(1, 2, True) in found and LabelColumn(3, -1, True) in found
    assert LabelColumn(5, 0, False) in found
    assert {one.feature for one in found} == {1, 3, 5}
    assert find_label_columns(random.standard_normal((60, 500)), targets) == []
    assert find_label_columns(np.full((60, 1), 3.0), targets) == []
