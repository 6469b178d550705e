"use strict";

/* Tags over the time of a recording: a heat map that follows and moves the audio, and a table. */

{
  const ROW_HEIGHT = 22; // CSS pixels, 1.375rem in theme.css
  const NUM_SHOWN = 12;
  const NUM_NAMED = 4;
  const former = new WeakMap();
  let numDrawn = 0;

  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  const clock = (seconds) => {
    const minutes = Math.floor(seconds / 60);
    const rest = seconds - 60 * minutes;
    const text = Number.isInteger(Math.round(rest * 10) / 10) ? rest.toFixed(0) : rest.toFixed(1);
    return `${minutes}:${text.padStart(text.includes(".") ? 4 : 2, "0")}`;
  };

  const tickStep = (duration, most) =>
    [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 3600].find((s) => duration / s <= most)
    || Math.ceil(duration / most / 3600) * 3600;

  /* Rows in the order of the map: labels that hold, that pass their threshold, then by their mean. */
  const ranked = ({ labels, probabilities, thresholds, chosen, truth }) => {
    const rows = labels.map((label, column) => {
      const values = probabilities.filter(Boolean).map((row) => row[column]);
      const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
      const threshold = thresholds && label in thresholds ? thresholds[label] : null;
      const isTagged = chosen.some((columns) => columns.includes(column));
      const isTrue = Boolean(truth) && truth.includes(label);
      return { label, column, mean, threshold, isTagged, isTrue };
    });
    return rows.sort((a, b) =>
      b.isTrue - a.isTrue || b.isTagged - a.isTagged || b.mean - a.mean);
  };

  /* The part of each span that is drawn: the last chunk may overlap the one before. */
  const drawnSpans = (times) =>
    times.map(([start, end], index) => [index ? Math.max(start, times[index - 1][1]) : start, end]);

  const paint = (canvas, rows, data, spans, duration) => {
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = rows.length * ROW_HEIGHT;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const style = getComputedStyle(canvas);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.fillStyle = style.getPropertyValue("--rule");
    spans.forEach(([start, end], time) => { // silence, a line through the middle of each row
      if (data.probabilities[time]) return;
      rows.forEach((_, index) => context.fillRect((start / duration) * width,
        (index + 0.5) * ROW_HEIGHT - 1, ((end - start) / duration) * width, 2));
    });
    context.fillStyle = style.getPropertyValue("--heat");
    rows.forEach((row, index) => {
      spans.forEach(([start, end], time) => {
        if (!data.probabilities[time]) return;
        const value = data.probabilities[time][row.column];
        const left = (start / duration) * width;
        const right = (end / duration) * width;
        const gap = right - left > 6 ? 1 : 0;
        const top = index * ROW_HEIGHT + 1;
        context.globalAlpha = Math.min(1, Math.max(0, value));
        context.fillRect(left, top, Math.max(0.5, right - left - gap), ROW_HEIGHT - 2);
      });
    });
    context.globalAlpha = 1;
    context.fillStyle = style.getPropertyValue("--ink");
    rows.forEach((row, index) => {
      spans.forEach(([start, end], time) => {
        if (!data.chosen[time].includes(row.column)) return;
        const left = (start / duration) * width;
        const wide = ((end - start) / duration) * width;
        context.fillRect(left, (index + 1) * ROW_HEIGHT - 3, Math.max(1, wide - 1), 2);
      });
    });
  };

  const makeScale = (hasThresholds) => {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("width", "100");
    svg.setAttribute("height", "12");
    svg.setAttribute("aria-hidden", "true");
    for (let step = 0; step < 10; step += 1) {
      const rect = document.createElementNS(space, "rect");
      const values = { x: step * 10, width: 10, height: 12, fill: "var(--heat)" };
      Object.entries(values).forEach(([name, value]) => rect.setAttribute(name, value));
      rect.setAttribute("fill-opacity", String((step + 0.5) / 10));
      svg.append(rect);
    }
    const scale = make("span", { className: "taggram-scale" }, "probability 0", svg, "1");
    return hasThresholds ? [scale, make("span", {}, "underlined: a tag, above its threshold")] : [scale];
  };

  const makeTable = (rows, data) => {
    const name = (row) => make("th", { scope: "col", className: "number" }, row.label);
    const head = make("tr", {}, make("th", { scope: "col" }, "time"), ...rows.map(name));
    const body = data.times.map(([start, end], time) => make(
      "tr", {}, make("th", { scope: "row" }, `${clock(start)} to ${clock(end)}`),
      ...rows.map((row) => make(
        "td", { className: "number" }, data.probabilities[time]?.[row.column].toFixed(2) ?? "silence")),
    ));
    return make(
      "table", {}, make("caption", {}, `Probability of every label over time, ${data.times.length} rows`),
      make("thead", {}, head), make("tbody", {}, ...body),
    );
  };

  /**
   * Draws the tags of a recording over time into a container, in place of what was there.
   *
   * @param {HTMLElement} container Takes the map; has the look of theme.css.
   * @param {object} data `labels`: names; `times`: [start, end] of every chunk in seconds;
   *   `probabilities`: for every chunk, one number per label, or null in silence; `thresholds`:
   *   label -> probability above which it may be a tag, or null; `chosen`: for every chunk, the columns that are tags;
   *   `truth`, if known: labels that hold.
   * @param {HTMLMediaElement|null} audioElement Followed by the play head, and moved by a click or
   *   by the keys on the map: arrows a chunk, Page Up and Down five, Home, End, Space plays.
   */
  window.drawTaggram = (container, data, audioElement) => {
    former.get(container)?.abort();
    const gone = new AbortController();
    former.set(container, gone);
    const listen = { signal: gone.signal };
    const audio = audioElement || null;
    const rows = ranked(data);
    const spans = drawnSpans(data.times);
    const duration = Math.max(1e-3, ...data.times.map(([, end]) => end));
    numDrawn += 1;
    const numNeeded = rows.filter((row) => row.isTagged || row.isTrue).length;
    let shown = rows.slice(0, Math.max(NUM_SHOWN, numNeeded));
    let position = 0;
    let described = -1;

    const canvas = make("canvas");
    const head = make("div", { className: "taggram-head" });
    const map = make("div", { className: "taggram-map", tabIndex: 0 }, canvas, head);
    const labels = make("ol", { className: "taggram-labels" });
    const axis = make("div", { className: "taggram-axis" });
    axis.setAttribute("aria-hidden", "true");
    const now = make("div", { className: "taggram-now" });
    now.setAttribute("aria-hidden", "true"); // the slider says the same
    map.setAttribute("role", "slider");
    map.setAttribute("aria-label", "Position in the recording, with the most probable tags");
    map.setAttribute("aria-valuemin", "0");
    map.setAttribute("aria-valuemax", duration.toFixed(1));

    const chunkAt = (seconds) => {
      const index = spans.findIndex(([, end]) => seconds < end);
      return index < 0 ? spans.length - 1 : index;
    };
    const describe = (seconds) => {
      const time = chunkAt(seconds);
      if (time < 0) return clock(seconds);
      const values = data.probabilities[time];
      if (!values) return `${clock(seconds)}: silence, not judged`;
      const strongest = [...rows].sort((a, b) => values[b.column] - values[a.column]);
      const named = strongest.slice(0, NUM_NAMED)
        .map((row) => `${row.label} ${values[row.column].toFixed(2)}`);
      return `${clock(seconds)}: ${named.join(", ")}`;
    };
    const moveTo = (seconds) => {
      position = Math.min(duration, Math.max(0, seconds));
      head.style.left = `${(100 * position) / duration}%`;
      // While it plays, a new text for every chunk is enough for eyes and for screen readers.
      const chunk = chunkAt(position);
      if (audio && !audio.paused && chunk === described) return;
      described = chunk;
      now.textContent = describe(position);
      map.setAttribute("aria-valuenow", position.toFixed(1));
      map.setAttribute("aria-valuetext", now.textContent);
    };
    const seek = (seconds) => {
      moveTo(seconds);
      if (audio) audio.currentTime = position;
    };
    const atPointer = (event) => {
      const box = map.getBoundingClientRect();
      return ((event.clientX - box.left) / box.width) * duration;
    };
    const repaint = () => {
      if (!canvas.clientWidth) return; // hidden
      paint(canvas, shown, data, spans, duration);
      const step = tickStep(duration, Math.max(2, canvas.clientWidth / 70));
      axis.replaceChildren();
      for (let second = 0; second <= duration; second += step) {
        const tick = make("span", {}, clock(second));
        tick.style.left = `${(100 * second) / duration}%`;
        if (second && duration - second < duration * 0.03) tick.style.transform = "translateX(-100%)";
        axis.append(tick);
      }
    };
    const showRows = () => {
      labels.replaceChildren(...shown.map((row) => make(
        "li", { title: row.label, className: row.isTagged ? "tagged" : "" },
        row.isTrue ? `\u2713 ${row.label}` : row.label)));
      map.style.height = `${shown.length * ROW_HEIGHT}px`;
      repaint();
    };

    map.addEventListener("pointerdown", (event) => {
      map.setPointerCapture(event.pointerId);
      seek(atPointer(event));
    }, listen);
    map.addEventListener("pointermove", (event) => {
      if (map.hasPointerCapture(event.pointerId)) seek(atPointer(event));
      else now.textContent = describe(Math.min(duration, Math.max(0, atPointer(event))));
    }, listen);
    map.addEventListener("pointerleave", () => moveTo(position), listen);
    map.addEventListener("keydown", (event) => {
      const chunk = chunkAt(position);
      const start = (index) => spans[Math.min(spans.length - 1, Math.max(0, index))]?.[0] ?? 0;
      const isInside = position - start(chunk) > 0.3;
      const moves = {
        ArrowRight: () => seek(start(chunk + 1)),
        ArrowUp: () => seek(start(chunk + 1)),
        ArrowLeft: () => seek(start(isInside ? chunk : chunk - 1)),
        ArrowDown: () => seek(start(isInside ? chunk : chunk - 1)),
        PageUp: () => seek(start(chunk + 5)),
        PageDown: () => seek(start(chunk - 5)),
        Home: () => seek(0),
        End: () => seek(start(spans.length - 1)),
        " ": () => audio && (audio.paused ? audio.play() : audio.pause()),
      };
      if (!moves[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      moves[event.key]();
    }, listen);
    if (audio) {
      const follow = () => {
        if (gone.signal.aborted) return;
        moveTo(audio.currentTime);
        if (!audio.paused && !audio.ended) requestAnimationFrame(follow);
      };
      ["play", "seeked", "timeupdate", "ended"].forEach((name) =>
        audio.addEventListener(name, name === "play" ? follow : () => moveTo(audio.currentTime),
          listen));
    }
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint, listen);
    const observer = new ResizeObserver(repaint);
    observer.observe(map);
    gone.signal.addEventListener("abort", () => observer.disconnect());

    const below = make(
      "div", { className: "taggram-below" }, now,
      ...makeScale(rows.some((row) => row.threshold !== null)),
      ...(data.probabilities.every(Boolean) ? [] : [make("span", {}, "gray line: silence, not judged")]),
      ...(data.truth ? [make("span", {}, "\u2713 label of the data set")] : []));
    if (rows.length > shown.length) {
      const few = shown;
      const more = make("button", { type: "button" }, `Show all ${rows.length} labels`);
      more.setAttribute("aria-expanded", "false");
      more.addEventListener("click", () => {
        const isOpen = shown.length === rows.length;
        shown = isOpen ? few : rows;
        more.textContent = isOpen ? `Show all ${rows.length} labels` : `Show ${few.length} labels`;
        more.setAttribute("aria-expanded", String(!isOpen));
        showRows();
      }, listen);
      below.append(more);
    }
    const region = make("div", { className: "scroll tall", tabIndex: 0 });
    region.setAttribute("role", "region");
    region.setAttribute("aria-label", `Tags over time as a table, ${numDrawn}`);
    const details = make("details", {}, make("summary", {}, "Tags over time as a table"), region);
    details.addEventListener("toggle", () => {
      if (details.open && !region.firstChild) region.append(makeTable(rows, data));
    }, listen);

    const grid = make("div", { className: "taggram-grid" }, labels, map, axis);
    container.classList.add("taggram");
    container.replaceChildren(grid, below, details);
    moveTo(audio ? audio.currentTime : 0);
    showRows();
  };
}
