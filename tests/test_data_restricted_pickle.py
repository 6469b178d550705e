"""Published pickles are read as data; one that wants to call something is refused."""

import os
import pathlib
import pickle

import numpy as np
import pytest

from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.corpora.restricted_pickle import load_restricted_pickle

IDS = ["TRAADIN128F931D672", "TRAADQW128F427CE68"]


def python_2_list(names: list[str]) -> bytes:
    """What Python 2 wrote by default (protocol 0): text as S'...'."""
    items = "".join(f"S'{name}'\np{index + 2}\na" for index, name in enumerate(names))
    return f"(lp1\n{items}.".encode()


def test_list_of_python_2(tmp_path):
    path = tmp_path / "list.cP"
    path.write_bytes(python_2_list(IDS))
    assert load_restricted_pickle(path) == IDS


def test_table_of_vectors(tmp_path):
    path = tmp_path / "table.pkl"
    path.write_bytes(pickle.dumps({IDS[0]: np.eye(3)[1], IDS[1]: [0, np.float64(1.0), 1]}))
    found = load_restricted_pickle(path)
    np.testing.assert_array_equal(found[IDS[0]], [0, 1, 0])
    assert found[IDS[1]] == [0, 1.0, 1]


def test_array_of_python_2(tmp_path):
    """Text stands for bytes there, which is why the encoding matters."""
    content = "".join(f"\\x{byte:02x}" for byte in np.array([0.0, 1.0, 254.5]).tobytes())
    path = tmp_path / "array.cP"
    path.write_bytes(
        b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntp3\nS'b'\ntRp4\n"
        b"(I1\n(I3\ntcnumpy\ndtype\np5\n(S'f8'\nI0\nI1\ntRp6\n(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
        b"S'" + content.encode() + b"'\ntb."
    )
    np.testing.assert_array_equal(load_restricted_pickle(path), [0.0, 1.0, 254.5])


def test_dictionary_in_an_npy_file(tmp_path):
    path = tmp_path / "metadata.npy"
    np.save(path, np.array({"000002": ["Hip-Hop"]}, object), allow_pickle=True)
    assert load_restricted_pickle(path) == {"000002": ["Hip-Hop"]}


class Trap:
    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_is_called(tmp_path):
    trap = Trap()
    trap.path = tmp_path / "caught"
    path = tmp_path / "trap.pkl"
    path.write_bytes(pickle.dumps(trap))
    with pytest.raises(BuildError, match=r"wants to call (posix|nt)\.mkdir"):
        load_restricted_pickle(path)
    assert not pathlib.Path(trap.path).exists()


def test_damaged(tmp_path):
    path = tmp_path / "list.cP"
    for content in (b"", python_2_list(IDS)[:-9], b"<html>404</html>"):
        path.write_bytes(content)
        with pytest.raises(BuildError, match="cannot be read as a pickle of plain data"):
            load_restricted_pickle(path)
