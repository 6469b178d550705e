"""TensorFlow's checkpoints: read without TensorFlow, and refused in a sentence when damaged."""

import random

import numpy as np
import pytest
from tensorflow_bundles import (
    HEADER,
    block,
    field,
    record,
    table,
    varint,
    with_trailer,
    write_bundle,
)

from musrep_jax.models import create_model
from musrep_jax.weights.files import WeightFileError, read_state_dict
from musrep_jax.weights.importing import import_weights
from musrep_jax.weights.state_dicts import torch_name, variable_shapes
from musrep_jax.weights.tensorflow_bundle import DATA_SUFFIX, compute_crc32c

KERNEL = np.arange(24, dtype=np.float32).reshape(3, 2, 1, 4)
ARRAYS = {
    "conv2d/kernel": KERNEL,
    "conv2d/kernel/Adam": KERNEL + 1,
    "conv2d/bias": np.arange(4, dtype=np.float64),
    "norm/gamma": np.arange(4, dtype=np.float16),
    "norm/moving_variance": np.ones(4, np.float32),
    "beta1_power": np.float32(0.9).reshape(()),
    "steps": np.arange(2, dtype=np.int64),
}


def test_crc32c():
    """Source: RFC 3720, appendix B.4."""
    assert compute_crc32c(bytes(32)) == 0x8A9136AA
    assert compute_crc32c(b"\xff" * 32) == 0x62A8AB43


def test_variables_come_as_pytorch_has_them(tmp_path):
    found = read_state_dict(write_bundle(tmp_path, ARRAYS))
    assert set(found) == {
        "conv2d.weight",
        "conv2d.bias",
        "norm.weight",
        "norm.running_var",
        "steps",
    }
    np.testing.assert_array_equal(found["conv2d.weight"][3, 0, 1, 2], KERNEL[2, 1, 0, 3])
    assert found["conv2d.bias"].tolist() == [0, 1, 2, 3]
    assert {a.dtype.name for n, a in found.items() if n != "steps"} == {"float32"}


LEAVES = {
    "kernel": "kernel",
    "scale": "gamma",
    "mean": "moving_mean",
    "var": "moving_variance",
}


def test_a_bundle_becomes_an_export(tmp_path):
    sizes = {"backend_channels": 3, "dense_width": 6}
    given = {
        "vertical_channels": 4,
        "horizontal_channels": 2,
        "horizontal_lengths": (6, 4, 3),
        "num_samples": 12032,
    }
    model = create_model("musicnn_original", 3, {**given, **sizes})
    source, arrays = np.random.default_rng(1), {}
    for path, shape in variable_shapes(model).items():
        module = torch_name(path, model.TORCH_NAMES).rpartition(".")[0]
        leaf = LEAVES.get(path[-1], "beta" if path[-2].endswith("bn") else "bias")
        arrays[f"{module}/{leaf}"] = source.random(shape.shape, np.float32)
    imported = import_weights(
        write_bundle(tmp_path, arrays),
        tmp_path / "out",
        model="musicnn_original",
        name="x",
        licence="ISC",
        labels=("a", "b", "c"),
        settings=given,
    )
    assert imported.inferred == sizes
    assert imported.num_params == sum(a.size for name, a in arrays.items() if "moving" not in name)
    assert len(imported.tone) == 3


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"size": 8}, "has 8 bytes"),
        ({"offset": 1 << 40}, "beyond the end"),
        ({"dtype": 7}, "of the type 7"),
        ({"checksum": 1}, "checksum of 'conv2d/bias' is wrong"),
        ({"shard": 1}, "several files"),
        ({"size": 1 << 60}, "fewer than its arrays"),
    ],
)
def test_a_record_that_lies_is_refused(tmp_path, changed, said):
    arrays = {name: a for name, a in ARRAYS.items() if name != "beta1_power"}
    with pytest.raises(WeightFileError, match=said):
        read_state_dict(write_bundle(tmp_path, arrays, **changed))


def make_hostile_indices():
    """Name -> bytes of an index that no honest program writes."""
    first = (b"a", record(KERNEL, 0))
    endless = b"\xff" * 9 + b"\xff"
    long_key = block([(b"k" * 2000, b"")])
    beyond = varint(0) + varint(1) + varint(200) + b"a" + b"\0\0\0\0" + b"\1\0\0\0"

    def one_block(content, handle=None):
        handles = block([(b"z", handle or varint(0) + varint(len(content)))])
        body = with_trailer(content)
        footer = varint(0) + varint(0) + varint(len(body)) + varint(len(handles))
        return body + with_trailer(handles) + footer.ljust(40, b"\0") + table([first])[-8:]

    many = block([(b"y", varint(0) + varint(8)), (b"z", varint(0) + varint(8))])
    twice = with_trailer(block([])) + with_trailer(many)
    footer = varint(0) + varint(0) + varint(13) + varint(len(many))
    return {
        "empty": b"",
        "no variables": table([(b"", HEADER)]),
        "no header": table([first]),
        "big-endian": table([(b"", field(1, 1) + field(2, 1)), first]),
        "several files": table([(b"", field(1, 2)), first]),
        "compressed": table([(b"", HEADER), first], kind=1),
        "endless number": one_block(endless + b"\0\0\0\0\1\0\0\0"),
        "long key": one_block(long_key),
        "value beyond its block": one_block(beyond),
        "block beyond the file": one_block(block([first]), varint(0) + varint(1 << 50)),
        "many restarts": one_block(b"\xff\xff\xff\xff"),
        "one block twice": twice + footer.ljust(40, b"\0") + table([first])[-8:],
        "slices": table([(b"", HEADER), (b"a", record(KERNEL, 0) + field(7, b""))]),
        "axis without length": table(
            [(b"", HEADER), (b"a", field(2, field(2, field(1, 1 << 63))))]
        ),
        "no shape": table([(b"", HEADER), (b"a", field(2, field(3, 1)))]),
        "hundred axes": table([(b"", HEADER), (b"a", field(2, field(2, field(1, 1)) * 100))]),
        "unknown field": table([(b"", HEADER), (b"a", varint(1 << 3 | 6))]),
        "no text": table([(b"", HEADER), (b"\xff\xfe", record(KERNEL, 0))]),
    }


@pytest.mark.parametrize("name", make_hostile_indices())
def test_a_hostile_index_is_refused_in_a_sentence(tmp_path, name):
    index = tmp_path / "model.index"
    index.write_bytes(make_hostile_indices()[name])
    (tmp_path / f"model{DATA_SUFFIX}").write_bytes(KERNEL.tobytes())
    with pytest.raises(WeightFileError, match=r"model\.index is damaged or not .*\.$"):
        read_state_dict(index)


def test_no_damage_crashes_the_reader(tmp_path):
    """Cut anywhere, or with any byte changed: read where that does not matter, or refused."""
    index = write_bundle(tmp_path, ARRAYS)
    content, draw, num_refused = index.read_bytes(), random.Random(0), 0
    for number in range(200):
        changed = bytearray(content[: draw.randrange(len(content))] if number % 2 else content)
        if changed:
            changed[draw.randrange(len(changed))] ^= draw.randrange(1, 256)
        index.write_bytes(changed)
        try:
            read_state_dict(index)
        except WeightFileError:
            num_refused += 1
    assert num_refused > 180


def test_data_that_are_cut_short_or_missing(tmp_path):
    index = write_bundle(tmp_path, ARRAYS)
    data = tmp_path / DATA_SUFFIX
    data.write_bytes(data.read_bytes()[:-60])
    with pytest.raises(WeightFileError, match="is damaged, or belongs to another index"):
        read_state_dict(index)
    data.unlink()
    with pytest.raises(WeightFileError, match=r"put \.data-00000-of-00001 beside it"):
        read_state_dict(index)
