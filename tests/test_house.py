"""The house's own rules: who may import whom, what stays light, what must not be there."""

import ast
import pathlib
import re
import subprocess
import sys

ROOMS = {
    "types": set(),
    "config": {"runtime"},
    "usage": {"config"},
    "runtime": {"config"},
    "dsp": {"types"},
    "kernels": {"types"},
    "models": {"runtime", "types", "dsp", "kernels"},
    "losses": {"types"},
    "training": {"types", "losses", "config", "runtime"},
    "data": {"runtime", "evaluation"},
    "evaluation": {"runtime"},
    "probing": {"types", "config", "evaluation"},
    "reporting": {"evaluation", "runtime"},
    "store": {"runtime"},
    "rules": {"config", "models"},
    "inference": {
        "types", "config", "runtime", "rules", "dsp", "models", "training", "data", "evaluation",
        "store", "weights",
    },
    "weights": {
        "types", "config", "runtime", "dsp", "kernels", "models", "rules", "training", "data",
        "evaluation", "inference", "exports",
    },
    "exports": {
        "types", "config", "runtime", "dsp", "kernels", "models", "training", "evaluation",
        "inference",
    },
    "tasks": {
        "types", "config", "runtime", "dsp", "kernels", "models", "losses", "training", "data",
        "evaluation", "probing", "reporting", "inference", "exports", "weights", "store",
    },
    "experiments": {
        "types", "config", "runtime", "training", "data", "evaluation", "reporting", "tasks"
    },
    "recipes": {"config", "runtime", "evaluation", "reporting", "tasks", "experiments"},
}  # fmt: skip
"""Room -> other rooms it may import. What is not listed stands above and may import them all."""

ABOVE = {"__main__", "schema", "pages", "command_line", "cli"}
"""Rooms that may import whatever is listed in `ROOMS`."""

LIGHT = {"jax", "jaxlib", "flax", "optax", "numpy", "ml_collections", "absl"}
OUTSIDE = {
    "types": LIGHT,
    "config": LIGHT,
    "usage": set(),
    "runtime": {"jax", "numpy", "filelock"},
    "dsp": LIGHT,
    "kernels": LIGHT,
    "models": LIGHT,
    "losses": LIGHT,
    "training": LIGHT,
    "data": {"numpy", "absl", "grain"},
    "evaluation": {"numpy", "scipy"},
    "probing": {"jax", "numpy", "scipy", "sklearn"},
    "reporting": {"numpy"},
    "store": {"numpy"},
    "rules": set(),
    "inference": LIGHT,
    "weights": LIGHT,
    "exports": LIGHT,
    "tasks": LIGHT,
    "experiments": LIGHT,
    "recipes": LIGHT,
}
"""Room -> third-party packages it may import."""

EXCEPTIONS = {
    "training/array_files.py": {"orbax"},
    "data/audio/ffmpeg.py": {"imageio_ffmpeg"},
    "data/audio/opening.py": {"soundfile"},
    "data/audio/reading.py": {"soundfile"},
    "data/audio/resampling.py": {"soxr"},
    "data/build/beam.py": {"apache_beam"},
    "data/audio/encoders.py": {"soundfile"},
    "data/build/builder.py": {"tensorflow_datasets"},
    "data/corpora/builder.py": {"tensorflow_datasets"},
    "data/feature_tables.py": {"pyarrow"},
    "data/build/records.py": {"array_record", "tensorflow_datasets"},
    "data/deformed/deformations.py": {"librosa"},
    "reporting/drawing.py": {"matplotlib"},
    "reporting/figures.py": {"matplotlib"},
    "runtime/compilation_cache.py": {"compression", "zstandard"},
    "inference/hub.py": {"huggingface_hub"},
    "inference/reading.py": {"safetensors"},
    "exports/onnx.py": {"onnx", "onnxruntime"},
    "weights/files.py": {"safetensors", "torch"},
    "store/approximate.py": {"faiss"},
}
"""The one file of a room that may import a heavy package."""


def python_files(root: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in root.rglob("*.py") if "__pycache__" not in p.parts)


def imported_modules(path: pathlib.Path) -> set[str]:
    """Every module that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(relative: pathlib.PurePath) -> str:
    return relative.parts[0].removesuffix(".py")


def test_rooms_look_only_where_they_may(repository):
    package = repository / "musrep_jax"
    wrong = []
    for path in python_files(package):
        relative = path.relative_to(package)
        room = room_of(relative)
        if room not in ROOMS:
            continue
        for name in imported_modules(path):
            top, *rest = name.split(".")
            if top == "musrep_jax":
                if rest and rest[0] not in {room, "__version__", *ROOMS[room]}:
                    wrong.append(f"{relative} imports {name}")
            elif top not in sys.stdlib_module_names:
                allowed = OUTSIDE[room] | EXCEPTIONS.get(relative.as_posix(), set())
                if top not in allowed:
                    wrong.append(f"{relative} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_experiments_know_no_task(repository):
    """They find tasks in the table, and know the contract, jobs and settings only."""
    contract = {"task", "jobs", "settings", "studies", "load_task", "TASKS"}
    for path in python_files(repository / "musrep_jax" / "experiments"):
        for name in imported_modules(path):
            parts = name.split(".")
            if parts[:2] == ["musrep_jax", "tasks"] and len(parts) > 2:
                assert parts[2] in contract, f"{path.name} imports {name}"


def test_every_room_has_its_rule(repository):
    found = {room_of(p.relative_to(repository / "musrep_jax")) for p in all_modules(repository)}
    assert found - {"__init__"} == ROOMS.keys() | ABOVE


def all_modules(repository: pathlib.Path) -> list[pathlib.Path]:
    return python_files(repository / "musrep_jax")


def test_no_circle_between_files(repository):
    """Imports inside functions count: a circle is a circle whenever it closes."""
    files = {}
    for folder in ("musrep_jax", "tfds_builders", "configs", "benchmarks"):
        for path in python_files(repository / folder):
            name = ".".join(path.relative_to(repository).with_suffix("").parts)
            name = name if folder in ("musrep_jax", "benchmarks") else f"musrep_jax.{name}"
            files[name.removesuffix(".__init__")] = path
    imports = {
        name: {
            other for other in imported_modules(path) & files.keys() if other != name
            # `from package import module` names the package too, which is no import of its content
            and not (files[other].name == "__init__.py" and name.startswith(f"{other}."))
        }
        for name, path in files.items()
    }  # fmt: skip
    left = dict(imports)
    while free := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in free}
    # What is left is in a circle or leads into one; what nothing left imports only leads there.
    while tops := left.keys() - {other for others in left.values() for other in others}:
        left = {name: others for name, others in left.items() if name not in tops}
    assert not left, f"a circle of imports lies among {sorted(left)}"


def test_pages_know_no_command_and_nothing_of_elsewhere(repository):
    room = repository / "musrep_jax" / "pages"
    for path in python_files(room):
        names = imported_modules(path)
        assert not any(name.startswith("musrep_jax.cli") for name in names), path
    for path in (room / "static").iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"""(?:https?:|["'(])//\w|@import|url\(""", text), path


def test_tensorflow_is_nowhere(repository):
    for folder in ("musrep_jax", "tfds_builders", "configs", "benchmarks"):
        for path in python_files(repository / folder):
            assert "tensorflow" not in {n.split(".")[0] for n in imported_modules(path)}, path


def test_nothing_is_imported_that_only_posix_has(repository):
    posix = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
    for folder in ("musrep_jax", "tfds_builders", "configs"):
        for path in python_files(repository / folder):
            assert not posix & imported_modules(path), path


def test_light_rooms_stay_light(repository):
    """One process imports them in turn, and says after each what has come with it."""
    code = """
import importlib, sys
heavy = {"tensorflow", "tensorflow_datasets", "librosa", "sklearn", "matplotlib", "grain",
         "soundfile", "soxr", "orbax", "scipy.signal", "torch"}
for room in ("types", "dsp", "losses", "models", "training"):
    importlib.import_module(f"musrep_jax.{room}")
    print(room, sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        f"{room} []" for room in ("types", "dsp", "losses", "models", "training")
    ]


def test_no_test_file_imports_another(repository):
    """What several need stands in conftest.py or in a helper, so that each runs by itself."""
    tests = python_files(repository / "tests")
    names = {path.stem for path in tests if path.stem.startswith("test_")}
    found = {
        path.name: taken
        for path in tests
        if (taken := names & {part for name in imported_modules(path) for part in name.split(".")})
    }
    assert not found, f"move what they import to a helper beside the tests: {found}"


def test_files_stay_small(repository):
    folders = ("musrep_jax", "tfds_builders", "configs", "benchmarks")
    long = {
        str(path.relative_to(repository)): length
        for folder in folders
        for path in python_files(repository / folder)
        if (length := len(path.read_text(encoding="utf-8").splitlines())) > 420
    }
    assert not long, f"over about 400 lines, wants a second room: {long}"


def test_public_things_have_docstrings(repository):
    missing = []
    for path in python_files(repository / "musrep_jax"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = [("module", tree)] + [
            (node.name, node)
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        ]
        missing += [f"{path.name}: {name}" for name, node in nodes if not ast.get_docstring(node)]
    assert not missing, "\n".join(missing)


def test_reading_a_command_line_loads_neither_statistics_nor_drawing(repository):
    # Every run waits for it: both together take seconds.
    code = "import sys, musrep_jax.command_line, musrep_jax.schema.checks\n"
    code += "print(sorted({'scipy.stats', 'matplotlib', 'sklearn', 'grain'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
