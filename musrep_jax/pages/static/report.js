"use strict";

/* The report of a run: what is shown of it, drawn from the data in the page. */

{
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const LOOKS = {
    scratch: { name: "scratch", shape: 0 },
    "output-layer": { name: "output-layer", shape: 1 },
    "all-layers": { name: "all-layers", shape: 2 },
    baseline: { name: "baseline", shape: 3 },
    train: { name: "train", shape: 0 },
    validation: { name: "validation", shape: 0 },
  };
  const OTHER = { name: "other", shape: 3 };

  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  /* Buttons of which one is pressed; nothing when there is nothing to choose. */
  const addChoice = (controls, title, options, choose) => {
    if (options.length < 2) return;
    const group = make("span", { className: "choice" });
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", title);
    options.forEach(([value, text], index) => {
      const button = make("button", { type: "button" }, text);
      button.setAttribute("aria-pressed", String(index === 0));
      button.addEventListener("click", () => {
        [...group.children].forEach((other) =>
          other.setAttribute("aria-pressed", String(other === button)));
        choose(value);
      });
      group.append(button);
    });
    controls.append(make("span", { className: "field" }, make("span", {}, title), group));
  };

  const unique = (values) => [...new Set(values)];
  const metricOptions = (metrics) => metrics.map((metric) => [metric, data.metrics[metric]]);

  const showMatrices = () => {
    const blocks = [...document.querySelectorAll(".matrices")];
    if (!blocks.length) return;
    const chosen = { ...blocks[0].dataset };
    const show = () => blocks.forEach((block) => {
      block.hidden = Object.entries(chosen).some(([key, value]) => block.dataset[key] !== value);
    });
    const controls = document.getElementById("matrix-controls");
    const values = (key) => unique(blocks.map((block) => block.dataset[key]));
    const add = (key, title, options) => addChoice(controls, title, options, (value) => {
      chosen[key] = value;
      if (key === "model" && !blocks.some((block) =>
        block.dataset.model === value && block.dataset.size === chosen.size)) {
        chosen.size = blocks.find((block) => block.dataset.model === value).dataset.size;
      }
      show();
    });
    add("metric", "Metric", metricOptions(values("metric")));
    add("size", "Training tracks", values("size").map((size) => [size, size]));
    add("model", "Model", values("model").map((model) => [model, model]));
    show();
  };

  const showLearning = () => {
    const place = document.getElementById("learning");
    if (!place || !data.learning.length) return;
    const chosen = { model: data.learning[0].model, metric: data.learning[0].metric };
    const show = () => {
      const found = data.learning.find((entry) =>
        entry.model === chosen.model && entry.metric === chosen.metric);
      const lines = unique(found.panels.flatMap((panel) => panel.lines.map((line) => line.mode)));
      const names = Object.fromEntries(found.panels.flatMap((panel) =>
        panel.lines.map((line) => [line.mode, line.name])));
      place.replaceChildren(
        ...found.panels.map((panel) => window.makeChart({
          title: panel.title,
          xLabel: "labeled training tracks",
          yLabel: data.metrics[chosen.metric],
          isLogX: true,
          yRange: found.range,
          levels: panel.chance === null ? [] : [panel.chance],
          series: panel.lines.map((line) => ({
            name: line.name, look: LOOKS[line.mode] || OTHER, points: line.points,
          })),
        })),
        window.makeLegend([
          ...lines.map((mode) => ({ name: names[mode], look: LOOKS[mode] || OTHER })),
          { name: "random scorer", line: "level" },
        ]),
      );
    };
    const controls = document.getElementById("learning-controls");
    const values = (key) => unique(data.learning.map((entry) => entry[key]));
    const add = (key, title, options) => addChoice(controls, title, options, (value) => {
      chosen[key] = value;
      show();
    });
    add("metric", "Metric", metricOptions(values("metric")));
    add("model", "Model", values("model").map((model) => [model, model]));
    show();
  };

  const makeTraining = (cell) => {
    const marks = cell.bestStep === null ? [] : [cell.bestStep];
    const curve = (name, look, rows, column) => ({
      name, look, points: rows.map((row) => [row[0], row[column]]),
      isBare: look.name === "train" || rows.length > 30,
    });
    const chart = (title, series, more = {}) => window.makeChart({
      title, xLabel: "step", yLabel: title, series, marks, ...more,
    });
    return make(
      "div", { className: "charts" },
      chart("Loss", [curve("training", LOOKS.train, cell.train, 1),
        curve("validation", LOOKS.validation, cell.validation, 1)], { yRange: cell.ranges.loss }),
      chart("ROC-AUC on validation", [curve("validation", LOOKS.validation, cell.validation, 2)],
        { yRange: cell.ranges.score }),
      chart("Learning rate", [curve("training", LOOKS.train, cell.train, 2)],
        { isLogY: true, yRange: cell.ranges.rate }),
      window.makeLegend([
        { name: "training", look: LOOKS.train, isBare: true },
        { name: "validation", look: LOOKS.validation },
        { name: "best model", line: "mark" },
      ]),
    );
  };

  const makeLabels = (cell) => {
    const titles = ["Label", `Positives of ${cell.numTracks}`, "ROC-AUC [95 %]", "PR-AUC [95 %]",
      "Random PR-AUC", "F1", "Precision", "Recall", "F1, fitted", "Precision, fitted",
      "Recall, fitted"];
    const heads = titles.map((title, place) =>
      make("th", { scope: "col", className: place ? "number" : "" }, title));
    const number = (value, text) => {
      const cellOf = make("td", { className: "number" }, text);
      if (value !== null) cellOf.dataset.value = value;
      return cellOf;
    };
    const digits = (value) => (value === null ? "-" : value.toFixed(3));
    const measured = (value, low, high, why) => {
      const field = number(value, digits(value));
      if (low !== null) {
        const bounds = ` [${low.toFixed(3)}, ${high.toFixed(3)}]`;
        field.append(make("span", { className: "interval" }, bounds));
      } else if (value !== null && why) {
        field.append(make("span", { className: "interval" }, ` (${why})`));
      }
      return field;
    };
    const rows = cell.labels.map((
      [name, positives, roc, pr, random, f1, precision, recall, f1Fitted, precisionFitted,
        recallFitted, rocLow, rocHigh, prLow, prHigh, reason],
    ) => make(
      "tr", {}, make("th", { scope: "row" }, name), number(positives, String(positives)),
      roc === null ? number(null, reason || "not evaluated") : measured(roc, rocLow, rocHigh, reason),
      measured(roc === null ? null : pr, prLow, prHigh, reason),
      ...[random, f1, precision, recall, f1Fitted, precisionFitted, recallFitted].map(
        (value) => number(value, digits(value))),
    ));
    const table = make(
      "table", { className: "sortable" },
      make("caption", {}, "Labels with their support among the test tracks"),
      make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows),
    );
    const region = make("div", { className: "scroll", tabIndex: 0 }, table);
    region.setAttribute("role", "region");
    region.setAttribute("aria-label", "Labels of the cell");
    return [region, table];
  };

  const showCell = () => {
    const place = document.getElementById("cell-details");
    const cell = data.cells[Number(document.getElementById("cell").value)];
    const [region, table] = makeLabels(cell);
    place.replaceChildren(
      make("ul", { className: "small" }, ...cell.summary.map((line) => make("li", {}, line))),
      make("h3", {}, "Training"), makeTraining(cell), make("h3", {}, "Labels"), region,
    );
    window.enhanceTable(table);
  };

  document.querySelectorAll("table.sortable").forEach((table) => window.enhanceTable(table));
  showMatrices();
  showLearning();
  const choice = document.getElementById("cell");
  if (choice) {
    choice.addEventListener("change", showCell);
    showCell();
  }
  document.querySelectorAll(".taggram[data-track]").forEach((place) => {
    const audio = place.closest("article").querySelector("audio");
    window.drawTaggram(place, data.taggrams[Number(place.dataset.track)], audio);
  });
  document.querySelectorAll(".maps[data-track]").forEach((place) => {
    const audio = place.closest("article").querySelector("audio");
    const details = place.parentElement;
    const draw = () => window.drawMaps(place, data.maps[Number(place.dataset.track)], audio);
    details.addEventListener("toggle", () => { if (details.open && !place.firstChild) draw(); });
  });
}
