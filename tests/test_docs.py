"""The documents: every command in them is run, or read as the program would read it."""

import ast
import functools
import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
import typer
from compact_models import build
from fake_corpora import make_fake
from toy_exports import card_of

from musrep_jax.cli import app
from musrep_jax.config import parse_command_line, split_list
from musrep_jax.tasks.settings import build_model, settings_of_job
from musrep_jax.tasks.tagging.matrix import make_job
from musrep_jax.training.checkpoints import save_export

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
DOCUMENTS = ["README.md", *sorted(f"docs/{path.name}" for path in REPOSITORY.glob("docs/*.md"))]
CONFIGS = sorted(f"configs/{path.name}" for path in REPOSITORY.glob("configs/[a-z]*.py"))
READ_ONLY = [
    *(
        f"tfds_builders/{path.parent.name}/README.md"
        for path in REPOSITORY.glob("tfds_builders/*/README.md")
    ),
    "benchmarks/README.md",
    "colab/README.md",
    "CONTRIBUTING.md",
]
"""Documents whose commands need corpora or take minutes, and are only read."""

SHOWN_ONLY = {"text", "tsv", "json", "yaml", "html"}
"""Languages of blocks that are neither commands nor Python."""

NOT_RUN = {
    r"^(python3 -m venv|\. \.venv|pip install)": "changes the environment; .ci/run does it",
    r"^pytest": "is these tests",
    r":paper|:thesis|_published": "takes days and corpora that are not here",
    r"turkish_makam|mtg_jamendo|magnatagatune": "needs the corpus; tests/test_corpora.py",
    r"distributed\.|^gcloud|^srun|^mpirun|^sbatch|^#": "needs several machines",
    r"--beam": "needs a cluster",
    r"^hf |--push": "needs an account at the Hugging Face Hub",
    r"^musrep download|speech_commands|dcase2017": "needs the network; tests/test_cli_download.py",
    r"import-weights|IMPORTED": "needs weights; tests/test_import_weights.py",
    r"^musrep (tag|explain) song": "needs the network; tests/test_pretrained.py",
    r"pretrained:|py:pretrained": "needs the network; tests/test_pretrained.py",
    r"^musrep demo": "takes a minute; tests/test_cli_demo.py",
    r"^musrep serve|^curl": "runs until it is stopped; tests/test_pages_serve.py",
    r" runs/(transfer|study-[ab]|own)\b": "needs runs; those of the tutorial are made and used",
    r"config\.study": "takes minutes; tests/test_studies.py",
    r"tagging\.py:transformer": "takes days; tests/test_augment_training.py",
    r"student\.py:transfer": "takes minutes; tests/test_student_runs.py",
    r":multilevel": "takes minutes; tests/test_multilevel.py",
    r"harmonic\.py": "takes minutes; tests/test_recipes_transfer.py",
}
"""Commands that are only read, as the program would read them -> why."""

SLOW = (
    r"^(python main\.py|musrep (train|report|compare|export|build|splits|doctor|tag winner)) "
    r"|^musrep models$"
)
"""Commands that are run with `-m slow` only; the others are run always."""

SMALLER = {
    r"(--config=configs/(\w+)\.py)(?= |$)": r"\1:smoke",
    r"^musrep train (\w+)(?= |$)": r"musrep train \1:smoke",
    r"recordings --method contribution,occlusion": "a.wav --method occlusion",  # MODEL is an fcn
    r"--config\.seeds=0,1,2": "--config.seeds=0",
    r"--config\.num_train_tracks=10,\d+,all": "--config.num_train_tracks=10,all",
    r"--config\.minutes=0": "--config.minutes=0 --config.candidates=log_mel_statistics",
    r"labels=\"genre_\*,stroke_\*\"": "labels='*'",
    r"\bNAME\b": "gtzan",
}
"""What is put in place of a text when a command is run: one step on a handful of tracks, and a
made-up corpus. The other placeholders (MODEL, FOLDER, STORE, song.mp3) are there by these names."""

PYTHON_NOT_RUN = {"jax.export": "tests/test_exports.py runs it", "hub:": "needs the Hub"}
PYTHON_SMALLER = {
    '"synthetic_cultures/makam"': '"synthetic_cultures/makam", num_tracks=24, seconds=1.0'
}

LABELS = ("ney", "oud", "voice", "makam_hicaz", "drums")


class Block(NamedTuple):
    """A fenced block of a document."""

    language: str
    text: str


def blocks_of(document: str) -> list[Block]:
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert text.count("\n```") == 2 * len(found), f"{document} has a block that is not closed"
    return [Block(*match) for match in found]


def commands_in(text: str) -> list[str]:
    """The commands of a block or of a config's header, one a line, without comments."""
    joined = re.sub(r"\\+\n\s*", "", text)
    lines = [re.split(r"(?:^|\s{2,})#\s", line)[0].strip() for line in joined.splitlines()]
    outside_quotes = r' && (?=(?:[^"]*"[^"]*")*[^"]*$)'
    return [part for line in lines if line for part in re.split(outside_quotes, line)]


def commands_of(document: str) -> list[str]:
    if document.endswith(".py"):
        docstring = ast.get_docstring(ast.parse((REPOSITORY / document).read_text("utf-8")))
        found = commands_in(docstring)
        return [command for command in found if command.startswith(("python ", "musrep "))]
    blocks = [block for block in blocks_of(document) if block.language in ("", "sh")]
    return [command for block in blocks for command in commands_in(block.text)]


def commands_in_prose(document: str) -> list[str]:
    """Commands between backticks, in part only their names; they are not run."""
    if document.endswith(".py"):
        return []
    text = re.sub(
        r"^```.*?^```$", "", (REPOSITORY / document).read_text("utf-8"), flags=re.M | re.S
    )
    found = [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", text)]
    starts = ("python main.py ", "python benchmarks", "musrep ", "pytest ", "pip install ")
    return [
        command
        for words in found
        for command in words.split(" && ")
        if command.startswith(starts) and "..." not in command
    ]


def reason_not_run(command: str) -> str | None:
    return next((why for form, why in NOT_RUN.items() if re.search(form, command)), None)


def smaller(command: str) -> str:
    for form, text in SMALLER.items():
        command = re.sub(form, text, command)
    return command


def check_settings(words: list[str]) -> None:
    """Reads a config with its overrides, and the settings of each of its models."""
    config, _ = parse_command_line(words)
    named = config.target if "target" in config else config.data.name
    for target in split_list(named):
        for model in split_list(config.model.name):
            build_model(settings_of_job(config, make_job(target, model)), 20)


def check_words(command: str) -> None:
    """Reads a command as its program would; what other people's programs take is not checked."""
    words = shlex.split(command)
    if "main.py" in words:
        check_settings(words[words.index("main.py") :])
    elif words[0] == "musrep" and not words[1].startswith("-"):
        commands = typer.main.get_command(app).commands
        commands[words[1]].make_context(words[1], words[2:])
        if words[1] == "train":
            check_settings(["musrep train", f"--config={words[2]}", *words[3:]])
    elif words[:2] == ["pip", "install"]:
        extras = (REPOSITORY / "setup.cfg").read_text(encoding="utf-8")
        for extra in re.findall(r"\.\[([\w,]+)\]", command):
            assert all(f"\n{name} =" in extras for name in extra.split(",")), extra
    elif words[0] in ("pytest", "python") and words[1:2] != ["-m"]:
        for word in words[1:]:
            is_ours = word.endswith(".py") and not word.startswith("scripts/")  # of MTG-Jamendo
            assert not is_ours or (REPOSITORY / word).is_file(), word


def check_names(command: str) -> None:
    """Checks that a command that prose names is there, with the options that it is given."""
    words = shlex.split(command)
    if words[0] != "musrep":
        return check_words(command)
    if words[1].startswith("-") or words[1] == "COMMAND":
        return None
    named = typer.main.get_command(app).commands[words[1]]
    options = {option for param in named.params for option in param.opts}
    assert {word for word in words if word.startswith("--")} <= options, command
    return None


@pytest.mark.parametrize("document", [*DOCUMENTS, *CONFIGS, *sorted(READ_ONLY)])
def test_every_command_can_be_read(document, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    checked = [(command, check_words) for command in commands_of(document)]
    checked += [(command, check_names) for command in commands_in_prose(document)]
    for command, check in checked:
        try:
            check(command)
        except Exception as error:
            raise AssertionError(f"{document}: {command}: {error}") from error


def test_the_table_of_commands_that_are_not_run_has_no_dead_row():
    everything = [
        command for document in [*DOCUMENTS, *CONFIGS] for command in commands_of(document)
    ]
    for form in NOT_RUN:
        assert any(re.search(form, command) for command in everything), form


def test_blocks_say_what_they_are():
    for document in DOCUMENTS:
        for language, _ in blocks_of(document):
            assert language in {"", "sh", "python", *SHOWN_ONLY}, f"{document}: {language}"


def write_recordings(folder: pathlib.Path) -> None:
    """Writes recordings of six performers with a table of labels."""
    folder.mkdir(parents=True)
    rows = ["path\tlabels\tgroup"]
    for index in range(24):
        name = f"{index:02d}{('.wav', '.flac', '.ogg', '.mp3')[index % 4]}"
        time = np.arange(16000 * (1 + index % 3)) / 16000
        tone = 0.3 * np.sin(2 * np.pi * (200 + 40 * (index % 2)) * time)
        soundfile.write(folder / name, tone + 0.01 * np.sin(index + 3000 * time), 16000)
        label = ("ney", "oud")[index % 2]
        rows.append(f"{name}\t{label},makam_{('hicaz', 'rast')[index // 2 % 2]}\tp{index // 4}")
    (folder / "labels.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def workplace(tmp_path_factory):
    """A folder in which the placeholders of the documents are real."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("main.py", "configs", "benchmarks", "tfds_builders", "docs"):
        (folder / name).symlink_to(REPOSITORY / name)
    built = build("fcn")
    for name in ("MODEL", "runs/tagging/exports/CELL"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_export(folder / name, built.variables, card_of(built.model, "fcn", LABELS))
    for name in ("FOLDER", "FOLDER_A", "FOLDER_B", "FOLDER_C", "MUSIC", "recordings"):
        write_recordings(folder / name)
    for name, source in (
        ("song.mp3", "03.mp3"),
        ("song.wav", "00.wav"),
        ("a.wav", "00.wav"),
        ("b.wav", "04.wav"),
    ):
        (folder / name).write_bytes((folder / "FOLDER" / source).read_bytes())
    for label in ("ney", "oud"):
        write_recordings(folder / "SORTED_FOLDER" / label)
    for name in ("gtzan", "magnatagatune", "lyra"):
        make_fake(name, folder / "data" / "corpora" / name)
    run("musrep embed MODEL FOLDER --store STORE", folder)
    return folder


@functools.cache
def run(command: str, folder: pathlib.Path) -> None:
    """Runs a command in the shell, on one device; once, wherever it stands."""
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"} | {
        "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MUSREP_DATA": str(folder / "data"),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def run_commands(document: str, folder: pathlib.Path, is_slow: bool) -> int:
    """Runs the commands of a document in their order; returns how many."""
    todo = [command for command in commands_of(document) if reason_not_run(command) is None]
    todo = [command for command in todo if bool(re.search(SLOW, command)) is is_slow]
    for command in dict.fromkeys(map(smaller, todo)):
        run(command, folder)
    return len(todo)


@pytest.mark.programs
@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_run(document, workplace):
    run_commands(document, workplace, is_slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("document", [*DOCUMENTS, *CONFIGS])
def test_slow_commands_run(document, workplace, monkeypatch):
    run_commands(document, workplace, is_slow=True)
    run_python(document, workplace, monkeypatch, is_slow=True)


@pytest.mark.programs
@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_runs(document, workplace, monkeypatch):
    run_python(document, workplace, monkeypatch, is_slow=False)


def run_python(document: str, folder: pathlib.Path, monkeypatch, is_slow: bool) -> None:
    """Runs the Python of a document; what reads the results of a run is slow, as the run is."""
    if document.endswith(".py"):
        return
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MUSREP_DATA", str(folder / "data"))
    namespace: dict = {}
    for language, text in blocks_of(document):
        is_example = language == "python" and not text.startswith(">>>")
        is_elsewhere = any(word in text for word in PYTHON_NOT_RUN)
        if is_example and not is_elsewhere and ('"runs/' in text) is is_slow:
            for whole, part in PYTHON_SMALLER.items():
                text = text.replace(whole, part)
            exec(compile(text, document, "exec"), namespace)


def messages() -> list[str]:
    """Every text in the source; what is filled in is three dots."""
    found = []
    for path in sorted(
        path
        for folder in ("musrep_jax", "tfds_builders", "configs")
        for path in (REPOSITORY / folder).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [
                    part.value if isinstance(part, ast.Constant) else "..." for part in node.values
                ]
                found.append("".join(parts))
    return found


def test_every_message_of_the_troubleshooting_is_one_of_ours():
    text = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    entries = re.findall(r"^\| `(.+?)` \|", text, re.MULTILINE)
    assert len(entries) > 30
    said = messages()
    for entry in entries:
        parts = entry.split("...")
        form = re.compile(".+".join(map(re.escape, parts)), re.DOTALL)
        near = [message for message in said if all(part in message for part in parts)]
        assert any(form.search(message) for message in near), entry


def load_generator():
    spec = importlib.util.spec_from_file_location("generate", REPOSITORY / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["command_line.md", "published.md"])
def test_generated_pages_are_current(name):
    stands = (REPOSITORY / "docs" / name).read_text(encoding="utf-8")
    written = load_generator().PAGES[name]()
    assert stands == written, f"docs/{name} is not of today's code: run python docs/generate.py"


def heading_anchors(path: pathlib.Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("document", [*DOCUMENTS, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(document):
    path = REPOSITORY / document
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith(("http:", "https:")):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        assert place.exists(), f"{document}: {target}"
        assert not anchor or anchor in heading_anchors(place), f"{document}: {target}"


def test_index_lists_every_page():
    text = (REPOSITORY / "docs" / "index.md").read_text(encoding="utf-8")
    for document in DOCUMENTS[1:]:
        name = pathlib.PurePath(document).name
        assert name == "index.md" or f"({name})" in text, name


@pytest.mark.programs
def test_site_builds_and_needs_no_network(tmp_path):
    """Broken links and references fail the build; scripts, styles, fonts and images are local."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = re.compile(
        r"""<(?:script|img|iframe|source)[^>]*?src=["']?(?:https?:)?//|<link[^>]*?href=["']?(?:https?:)?//"""
    )
    pages = list(tmp_path.rglob("*.html"))
    for page in pages:
        assert not loaded.search(page.read_text(encoding="utf-8")), page
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", style.read_text()), style
    reference = (tmp_path / "reference" / "use_a_model.html").read_text(encoding="utf-8")
    assert 'id="musrep_jax.inference.tagger.load_tagger"' in reference
    for corpus in REPOSITORY.glob("tfds_builders/*/README.md"):
        assert (tmp_path / "project/tfds_builders" / corpus.parent.name / "index.html").is_file()
