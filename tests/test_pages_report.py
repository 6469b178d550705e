"""musrep report: what stands in the page, what it asks for (nothing), and how it is used."""

import base64
import doctest
import io
import json
import re

import numpy as np
import pytest
import soundfile
from browser import browser  # noqa: F401 (a fixture)
from compact_models import build
from made_runs import LABELS, write_cell, write_failed, write_run, write_transfer
from selenium.webdriver.common.keys import Keys

from musrep_jax.data import open_dataset
from musrep_jax.data.audio.encoders import compress
from musrep_jax.experiments.reading import read_run
from musrep_jax.inference.tagger import make_card
from musrep_jax.pages import markup, report, report_data, report_tables
from musrep_jax.pages.markup import Markup, data_block, element, table
from musrep_jax.pages.report_tracks import make_playable_tracks
from musrep_jax.reporting import results as cells_file
from musrep_jax.tasks.tagging.matrix import make_job
from musrep_jax.training.checkpoints import save_export

CARRIED = make_job("made/greek", "fcn", "all_layers", "made/west", num_train_tracks=10)
HEARD_LABELS = ("drums", "ney", "oud", "vocal", "zurna")
HOSTILE = "</script><script>document.title='taken'</script>"


def data_of(page):
    """Returns the values that stand in a page for its script."""
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page)
    return json.loads(found[1])


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A transfer experiment with a cell that failed and one that was begun."""
    path = write_transfer(tmp_path_factory.mktemp("runs") / "made transfer", sizes=(10, 40, 0))
    write_failed(
        path, make_job("made/carnatic", "fcn"), ValueError(f"It is <b>not</b> there {HOSTILE}")
    )
    (path / "cells" / "made_new-fcn-scratch-seed0").mkdir()
    return path


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """A run on a folder of short recordings, with the exported model of one cell."""
    root = tmp_path_factory.mktemp("heard")
    folder = root / "music"
    folder.mkdir()
    lines = ["path\tlabels\tgroup\tsplit"]
    for index, split in enumerate(("train", "train", "validation", "test", "test")):
        audio = 0.1 * np.random.default_rng(index).standard_normal(16000 * (2 + 32 * (index == 4)))
        soundfile.write(folder / f"{index}.flac", audio, 16000)
        labels = ",".join(HEARD_LABELS[index % 2 :: 2])
        lines.append(f"{index}.flac\t{labels}\tgroup {index}\t{split}")
    (folder / "labels.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    name = f"audio_folder:{folder}"
    dataset = open_dataset(name, data_dir=root / "data")
    path = root / "run"
    cell = make_job(name, "fcn")
    write_cell(path, cell, num_tracks=2, labels=HEARD_LABELS)
    scores = path / "cells" / cell.key / "scores.npz"
    stored = dict(np.load(scores))
    np.savez(scores, **{**stored, "track_ids": np.array(dataset.tracks("test").track_ids)})
    built = build("fcn")
    card = make_card(built.model, name="fcn", data=dataset.spec, training={}, metrics={},
                     versions={}, thresholds={"ney": 0.0, "oud": 1.0})  # fmt: skip
    save_export(path / "exports" / cell.key, built.variables, card)
    write_run(path, [], recipe="tagging")
    config = json.loads((path / "config.json").read_text())
    config["config"]["data"] = {"data_dir": str(root / "data"), "seed": 0, "options": {}}
    (path / "config.json").write_text(json.dumps(config))
    return path, cell, dataset


@pytest.fixture(scope="module")
def page(workdir, tmp_path_factory):
    """The report of `workdir`, made once."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report.make_page(read_run(workdir), [], "Nothing to hear."), encoding="utf-8")
    return path


def test_text_is_escaped_and_markup_is_not():
    assert element("p", "a < b", Markup("<b>c</b>"), title='"') == (
        '<p title="&quot;">a &lt; b<b>c</b></p>'
    )
    assert "</script><" not in data_block("x", [HOSTILE])[:-9]
    for module in (markup, report_tables, report, report_data):
        assert doctest.testmod(module).failed == 0
    made = table("Caption", [("A", "text"), ("B", "number")], [["x", ("1.0", 1)]])
    assert '<th scope="row">x</th><td class="number" data-value="1">1.0</td>' in made


def test_the_page_holds_the_numbers_of_the_run(workdir, page):
    text = page.read_text(encoding="utf-8")
    results = [result for result in read_run(workdir).results.values() if not result["error"]]
    for result in results:
        assert f"{result['roc_auc']:.3f}" in text and f"{result['pr_auc_ci'][0]:.3f}" in text
    difference, ci, p_value = cells_file.versus_scratch(
        read_run(workdir).results[CARRIED.key], "pr_auc"
    )
    assert f"{difference:+.3f} [{ci[0]:+.3f}, {ci[1]:+.3f}]" in text and f"{p_value:.2g}" in text
    assert "It is &lt;b&gt;not&lt;/b&gt; there" in text
    assert "It was begun and has no result yet." in text
    assert "0123456789ab" in text and "jax 0.7.0" in text
    cell = next(c for c in data_of(text)["cells"] if c["name"] == CARRIED.key)
    assert [row[0] for row in cell["labels"]] == list(LABELS)
    assert cell["labels"][-1][-1] == "no positives" and cell["labels"][-1][2] is None
    assert cell["train"][0] == [1, 0.7, 0.001] and len(cell["validation"]) == 4


def test_a_baseline_is_a_line_of_the_curves_and_no_model_of_the_matrix(workdir):
    run = read_run(workdir)
    scratch = [r for r in run.results.values() if r["mode"] == "scratch" and not r["error"]]
    baselines = [{**r, "mode": "baseline", "model": "log_mel_statistics"} for r in scratch]
    results = [*run.results.values(), *baselines]
    curves = report_data.learning_curves(results, [])
    assert {entry["model"] for entry in curves} == {"fcn"}
    assert [line["mode"] for line in curves[0]["panels"][0]["lines"]][-1] == "baseline"
    drawn = [
        value for panel in curves[0]["panels"] for line in panel["lines"]
        for _, *values in line["points"] for value in values
    ]  # fmt: skip
    low, high = curves[0]["range"]
    assert low <= min(drawn) and max(drawn) <= high <= 1
    blocks = report_tables.make_transfer_matrices(results, [])
    assert blocks and not any("log_mel_statistics" in block for block in blocks)


def test_curves_are_the_summaries_of_the_cells(workdir, page):
    results = list(read_run(workdir).results.values())
    expected = cells_file.summarize(results, "roc_auc")
    curves = data_of(page.read_text(encoding="utf-8"))["learning"]
    assert [(c["model"], c["metric"]) for c in curves] == [("fcn", "roc_auc"), ("fcn", "pr_auc")]
    panel = curves[0]["panels"][0]
    assert panel["title"] == "west \u2192 greek"
    assert [line["mode"] for line in panel["lines"]] == ["scratch", "output-layer", "all-layers"]
    points = panel["lines"][2]["points"]
    assert [point[0] for point in points] == [10, 40, 120]
    summary = expected[cells_file.get_condition(read_run(workdir).results[CARRIED.key])]
    assert points[0][1:] == pytest.approx([summary.value, *summary.ci], abs=1e-5)
    assert report_data.thin_points(list(range(1000)), 150)[-1] == 999


def test_audio_comes_back_from_its_small_form():
    time = np.arange(16000 * 40) / 16000
    audio = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    content, media_type = compress(audio, 16000)
    assert media_type == "audio/ogg" and len(content) < audio.nbytes / 8
    back, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert rate == 16000 and len(back) == len(audio)
    assert np.abs(back - audio).max() < 0.1


def test_a_run_is_heard_through_its_own_data_set(run, heard, tmp_path):
    path, cell, dataset = heard
    told = run("report", path, "--out", tmp_path / "page.html", "--json")
    assert told.exit_code == 0, told.stderr
    about = json.loads(told.stdout)
    tracks = dataset.tracks("test")
    assert about["tracks"] == list(tracks.track_ids) and about["heard"] == cell.key
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    audio = [
        soundfile.read(io.BytesIO(base64.b64decode(content)), dtype="float32")[0]
        for content in re.findall(r'src="data:audio/ogg;base64,([^"]+)"', text)
    ]
    assert [len(a) for a in audio] == [16000 * 2, 16000 * 30]  # the longer one is cut
    assert np.abs(audio[0] - tracks.crop(0, 0, 32000)).mean() < 0.05
    taggrams = data_of(text)["taggrams"]
    assert taggrams[0]["thresholds"] == {"ney": 0.0, "oud": 1.0}
    assert taggrams[0]["truth"] == ["ney", "vocal"]
    assert taggrams[1]["times"][-1][1] == 30.0
    assert np.shape(taggrams[1]["probabilities"]) == (len(taggrams[1]["times"]), 5)
    assert about["bytes"] == (tmp_path / "page.html").stat().st_size < 1_000_000


def test_data_that_are_not_there_are_one_sentence(run, heard, tmp_path):
    path = heard[0]
    config = json.loads((path / "config.json").read_text())
    config["config"]["data"]["data_dir"] = str(tmp_path / "elsewhere")
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("cells", "exports"):
        (moved / name).symlink_to(path / name)
    (moved / "config.json").write_text(json.dumps(config))
    told = run("report", moved)
    assert told.exit_code == 0
    text = (moved / "report.html").read_text(encoding="utf-8")
    assert "is not on this machine" in text and "is not on this machine" in told.stderr
    assert str(tmp_path) in told.stderr and str(tmp_path) not in text  # pages travel
    assert not (tmp_path / "elsewhere").exists()
    assert "<audio" not in text
    assert "has no cell" in run("report", moved, "--cell", "absent").stderr


def test_folders_without_a_run_and_runs_without_results(run, tmp_path):
    told = run("report", tmp_path)
    assert told.exit_code == 2 and "is empty: name the --workdir of a run" in told.stderr
    assert not list(tmp_path.iterdir())
    assert "is not a folder" in run("report", tmp_path / "absent").stderr
    begun = tmp_path / "begun"
    (begun / "cells" / "a_cell").mkdir(parents=True)
    write_run(begun, [])
    (begun / "results.json").unlink()
    assert run("report", begun).exit_code == 0
    text = (begun / "report.html").read_text(encoding="utf-8")
    assert "No cell has a result yet" in text and "It was begun" in text
    (begun / "config.json").write_text("{")
    assert "config.json is damaged" in run("report", begun).stderr


def test_what_stands_beside_the_cells_is_enough(workdir, tmp_path):
    (tmp_path / "results.json").write_bytes((workdir / "results.json").read_bytes())
    row = {"cell": CARRIED.key, "kind": "train", "step": 1, "loss": 0.5, "learning_rate": 0.1}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    cells = {c["name"]: c for c in data_of(report.make_page(read_run(tmp_path), [], ""))["cells"]}
    assert cells[CARRIED.key]["train"] == [[1, 0.5, 0.1]]
    assert cells[CARRIED.key]["numTracks"] == 60 and len(cells) == 19


def test_a_comparison_of_models_and_a_run_of_seeds(tmp_path):
    results = [
        write_cell(tmp_path, make_job("made/greek", model, seed=seed), flops_per_second=2.5e9,
                   tracks_per_second=12.0)
        for model in ("fcn", "musicnn") for seed in (0, 1)
    ]  # fmt: skip
    best = {"model": "fcn", "difference": -0.1, "ci": [-0.2, -0.05], "p_value": 0.01}
    results[2]["versus_best"] = {"roc_auc": best, "pr_auc": best}
    text = report.make_page(read_run(write_run(tmp_path, results, "compare")), [], "")
    assert "\u22120.100 [\u22120.200, \u22120.050] *" in text and "2.5 G" in text
    values = [result["roc_auc"] for result in results[:2]]
    assert f"{np.mean(values):.3f} \u00b1 {np.std(values, ddof=1):.3f}" in text
    assert "Transfer matrix" not in text and "Learning curves" not in text


def rows_of(browser, selector):  # noqa: F811
    """The first words of the rows of a table that are shown."""
    return browser.run(
        "return [...document.querySelectorAll(arguments[0])].filter((row) => !row.hidden)"
        ".map((row) => [...row.cells].map((cell) => cell.innerText.trim()))",
        f"{selector} tbody tr",
    )


def test_the_page_asks_for_nothing_and_sorts_and_filters(browser, page):  # noqa: F811
    browser.open(page.as_uri())
    assert browser.requests() == [page.as_uri()] and browser.console() == []
    assert browser.run("return document.title") == "made transfer: report"
    before = rows_of(browser, "#cells table")
    head = browser.driver.find_element("xpath", "//section[@id='cells']//th[contains(., 'PR')]")
    button = head.find_element("css selector", "button")
    button.send_keys(Keys.ENTER)
    assert head.get_attribute("aria-sort") == "descending"
    titles = browser.run("return [...document.querySelectorAll('#cells th')].slice(0, 8)"
                         ".map((head) => head.innerText)")  # fmt: skip
    place = next(i for i, title in enumerate(titles) if title.startswith("PR-AUC"))
    values = [row[place] for row in rows_of(browser, "#cells table")]
    numbers = [float(value.split()[0]) for value in values if value != "failed"]
    assert numbers == sorted(numbers, reverse=True) and values[-1] == "failed"
    button.send_keys(Keys.SPACE)
    assert head.get_attribute("aria-sort") == "ascending"
    assert rows_of(browser, "#cells table")[-1][place] == "failed"  # what is empty stays last
    field = browser.driver.find_element("css selector", "#cells input[type=search]")
    field.send_keys("greek all layers")
    shown = rows_of(browser, "#cells table")
    assert 0 < len(shown) < len(before) and {row[2] for row in shown} == {"all layers"}
    assert browser.text("#cells [role=status]") == f"{len(shown)} of {len(before)} rows"


def test_the_matrix_and_the_curves_switch(browser, page, workdir):  # noqa: F811
    browser.open(page.as_uri())
    shown = "[...document.querySelectorAll('.matrices')].filter((block) => !block.hidden)"
    assert browser.run(f"return {shown}.map((block) => block.dataset.size)") == ["all"]
    result = read_run(workdir).results[CARRIED.key]

    def press(section, text):
        path = f"//section[@id='{section}']//button[text()='{text}']"
        browser.driver.find_element("xpath", path).send_keys(Keys.ENTER)

    press("transfer", "PR-AUC")
    press("transfer", "10")
    (text,) = browser.run(f"return {shown}.map((block) => block.innerText)")
    assert f"{result['pr_auc']:.3f}" in text and f"{result['pr_auc_ci'][0]:.3f}" in text
    label = "return document.querySelector('#learning svg').getAttribute('aria-label')"
    assert browser.run(label).startswith("west \u2192 greek. ROC-AUC over labeled")
    press("curves", "PR-AUC")
    told = browser.run(label)
    assert "PR-AUC over labeled" in told and f"{result['pr_auc']:.3g} at 10" in told


def test_labels_of_a_chosen_cell(browser, page, workdir):  # noqa: F811
    browser.open(page.as_uri())
    names = [name for name, r in read_run(workdir).results.items() if not r["error"]]
    index = names.index(CARRIED.key)
    browser.run("const s = document.getElementById('cell'); s.value = arguments[0];"
                "s.dispatchEvent(new Event('change'))", str(index))  # fmt: skip
    rows = {row[0]: row for row in rows_of(browser, "#cell-details table")}
    entry = read_run(workdir).results[CARRIED.key]["per_label"]["vocal"]
    assert rows["vocal"][1] == str(entry["positives"])
    assert rows["vocal"][2].startswith(f"{entry['roc_auc']:.3f} [")
    assert rows["rare"][2] == "no positives"
    assert len(browser.run("return [...document.querySelectorAll('#cell-details svg[role=img]')]")
               ) == 3  # fmt: skip
    assert browser.console() == []


def test_the_play_head_follows_and_keys_move_it(browser, heard, tmp_path):  # noqa: F811
    path, cell, _ = heard
    made = read_run(path)
    tracks, sentence = make_playable_tracks(made, cell.key, 2)
    assert sentence == ""
    file = tmp_path / "heard.html"
    file.write_text(report.make_page(made, tracks, "Heard."), encoding="utf-8")
    browser.open(file.as_uri())
    browser.wait("document.querySelectorAll('audio')[1].readyState >= 1")
    assert browser.layout_shift() < 0.01  # what is read or aimed at stays where it is
    # The encoder fills its last frame up.
    duration = browser.run("return document.querySelectorAll('audio')[1].duration")
    assert duration == pytest.approx(30, abs=0.05)
    track = browser.driver.find_elements("css selector", ".taggram-map")[1]
    spans = tracks[1].taggram["times"]
    time = "document.querySelectorAll('audio')[1].currentTime"
    track.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert browser.run(f"return {time}") == pytest.approx(spans[2][0], abs=0.02)
    track.send_keys(Keys.END)
    assert float(track.get_attribute("aria-valuenow")) > spans[-2][0]
    track.send_keys(Keys.HOME)
    assert track.get_attribute("aria-valuetext").startswith("0:00: ")
    browser.click(track)  # in its middle
    browser.wait(f"Math.abs({time} - 15) < 0.5")
    left = "parseFloat(document.querySelectorAll('.taggram-head')[1].style.left)"
    assert browser.run(f"return {left}") == pytest.approx(50, abs=2)
    track.send_keys(Keys.SPACE)  # plays
    browser.wait(f"{time} > 15.6 && {left} > 51.5")
    track.send_keys(Keys.SPACE)
    assert browser.run("return document.querySelectorAll('audio')[1].paused")
    labels = browser.driver.find_elements("css selector", ".taggram-labels")[0].text.splitlines()
    assert labels[:2] == ["\u2713 ney", "\u2713 vocal"]
    details = browser.driver.find_elements("css selector", ".taggram details")[0]
    browser.click(details.find_element("css selector", "summary"))
    browser.wait("document.querySelector('.taggram details table')")
    value = tracks[0].taggram["probabilities"][0][1]
    assert f"{value:.2f}" in details.text
    assert browser.requests() == [file.as_uri()] and browser.console() == []


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_the_scores_without_scrolling_sideways(browser, page, width):  # noqa: F811
    browser.open(page.as_uri(), width=width, height=700)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    hidden = browser.run(
        """
        const cells = document.querySelectorAll(
          "#cells td.number, #scratch td.number, #cell-details td.number, .matrix td");
        const isSeen = ({ left, right }) => left >= 0 && right <= window.innerWidth;
        return [[...cells].filter((cell) => cell.checkVisibility()).length,
          [...cells].filter((cell) => cell.checkVisibility()
            && !isSeen(cell.getBoundingClientRect())).map((cell) => cell.innerText)];
        """
    )
    assert hidden[0] > 100 and hidden[1] == []
    titles = browser.run("return [...document.querySelectorAll('#cells tbody tr:first-child td')]"
                         ".map((cell) => getComputedStyle(cell, '::before').content)")  # fmt: skip
    assert '"ROC-AUC"' in titles and '"PR-AUC"' in titles


def test_a_long_table_says_how_many_rows_are_hidden(browser, tmp_path):  # noqa: F811
    cells = [
        write_cell(tmp_path, make_job("made/greek", "fcn", seed=seed), num_tracks=12, num_steps=1)
        for seed in range(43)
    ]
    file = tmp_path / "long.html"
    file.write_text(report.make_page(read_run(write_run(tmp_path, cells)), [], ""), "utf-8")
    browser.open(file.as_uri())
    status, shown = "#cells [role=status]", "#cells table"
    assert browser.text(status) == "40 of 43 rows" and len(rows_of(browser, shown)) == 40
    browser.run("document.querySelector('#cells th:nth-child(2) button').click()")
    seeds = [row[1] for row in rows_of(browser, shown)]
    assert seeds == [str(seed) for seed in range(42, 2, -1)]  # the first of the new order
    browser.run("document.querySelector('#cells .controls button').click()")
    assert browser.text(status) == "43 rows" and len(rows_of(browser, shown)) == 43


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_the_page_and_text_is_readable(browser, page, width, dark):  # noqa: F811
    browser.open(page.as_uri(), width=width, dark=dark)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    contrasts = browser.run(
        """
        const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number)
          .map((v, i) => (c.startsWith("color(") && i < 3 ? v * 255 : v));
        const light = (c) => c.slice(0, 3).map((v) => v / 255)
          .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
          .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const ground = (node) => {
          for (let n = node; n; n = n.parentElement) {
            const c = parse(getComputedStyle(n).backgroundColor);
            if (c.length && (c.length === 3 || c[3] === 1)) return c;
          }
          return [255, 255, 255];
        };
        return [...document.querySelectorAll("p, li, td, td span, th, button, dd, dt, summary, a")]
          .filter((node) => node.checkVisibility() && node.innerText.trim())
          .map((node) => {
            const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
            return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.innerText];
          });
        """
    )
    assert len(contrasts) > 100
    assert min(contrasts)[0] >= 4.5, min(contrasts)  # WCAG 2.2, 1.4.3


def test_what_the_tags_rest_on_is_drawn_when_it_is_opened(browser, heard, tmp_path):  # noqa: F811
    path, cell, _ = heard
    made = read_run(path)
    tracks, _ = make_playable_tracks(made, cell.key, 1, is_explained=True)
    file = tmp_path / "explained.html"
    file.write_text(report.make_page(made, tracks, "Heard."), encoding="utf-8")
    browser.open(file.as_uri())
    assert not browser.run("return document.querySelectorAll('.maps canvas').length")
    browser.click(browser.driver.find_element("css selector", "details:has(.maps) summary"))
    browser.wait("document.querySelectorAll('.maps canvas').length >= 2")
    drawn = tracks[0].maps["maps"][0]["names"]
    assert set(tracks[0].true_labels) <= set(drawn)
    assert browser.console() == []
