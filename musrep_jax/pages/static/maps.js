"use strict";

/* Maps of a recording under its spectrogram: one time axis, followed and moved by the audio. */

{
  const ROW_HEIGHT = 22; // CSS pixels, 1.375rem in theme.css
  const FIELD_HEIGHT = 110;
  const former = new WeakMap();

  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  const clock = (seconds) => `${seconds.toFixed(1)} s`;

  /* Bytes of a matrix, row by row. */
  const decode = (text) => Uint8Array.from(window.atob(text), (letter) => letter.charCodeAt(0));

  const STOPS = {
    level: [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]],
    share: [[0, 34, 78], [66, 78, 108], [124, 123, 120], [187, 172, 110], [254, 232, 56]],
    signed: [[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]],
  };

  const colorOf = (stops, value) => {
    const place = (value / 255) * (stops.length - 1);
    const low = Math.min(stops.length - 2, Math.floor(place));
    return stops[low].map((c, k) => c + (stops[low + 1][k] - c) * (place - low));
  };

  /* Paints rows (top to bottom) of columns with given spans into a canvas. */
  const paint = (canvas, matrix, numRows, spans, duration, stops, isUpward) => {
    const width = Math.max(1, Math.round(canvas.clientWidth));
    const numColumns = spans.length;
    canvas.width = width;
    canvas.height = numRows;
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, numRows);
    const colors = Array.from({ length: 256 }, (_, value) => colorOf(stops, value));
    let column = 0;
    for (let x = 0; x < width; x += 1) {
      const second = ((x + 0.5) / width) * duration;
      while (column < numColumns - 1 && second >= spans[column][1]) column += 1;
      const isThere = numColumns && second >= spans[column][0] && second < spans[column][1];
      for (let row = 0; row < numRows && isThere; row += 1) {
        const from = isUpward ? numRows - 1 - row : row;
        const color = colors[matrix[from * numColumns + column]];
        image.data.set([...color, 255], 4 * (row * width + x));
      }
    }
    context.putImageData(image, 0, 0);
  };

  /* One field per map with frequency, one strip per method without. */
  const panelsOf = (data) => data.maps.flatMap((map) => {
    const matrix = decode(map.bytes);
    const stops = STOPS[map.isSigned ? "signed" : "share"];
    if (!map.numRows) return [{ ...map, matrix, stops, rows: map.names, isUpward: false }];
    const size = map.numRows * map.spans.length;
    return map.names.map((name, index) => ({
      ...map, matrix: matrix.subarray(index * size, (index + 1) * size), stops,
      title: `${map.title}: ${name}`, rows: null, isUpward: true,
      special: map.special ? [map.special[index]] : null, names: [name],
    }));
  });

  /**
   * Draws maps into a container, in place of what was there.
   *
   * @param {HTMLElement} container Has the look of theme.css.
   * @param {object} data `duration` in seconds; `joint`: where two recordings meet, or null;
   *   `spectrogram`: numRows, spans, bytes, note; `maps`: title, caption, names, spans, numRows (0
   *   without frequency), isSigned, range, special (per name, or null), bytes.
   * @param {HTMLMediaElement|null} audioElement Followed by the play heads, moved and started by a
   *   click; on the keyboard arrows move it, Space plays.
   */
  window.drawMaps = (container, data, audioElement) => {
    former.get(container)?.abort();
    const gone = new AbortController();
    former.set(container, gone);
    const listen = { signal: gone.signal };
    const audio = audioElement || null;
    const { duration } = data;
    const heads = [];
    const painted = [];
    const now = make("p", { className: "taggram-now" });
    let position = 0;

    const moveTo = (seconds) => {
      position = Math.min(duration, Math.max(0, seconds));
      heads.forEach(({ head, map }) => {
        head.style.left = `${(100 * position) / duration}%`;
        map.setAttribute("aria-valuenow", position.toFixed(1));
        map.setAttribute("aria-valuetext", clock(position));
      });
      now.textContent = clock(position);
    };
    const seek = (seconds) => {
      moveTo(seconds);
      if (audio) audio.currentTime = position;
    };
    const start = async () => {
      if (!audio) return;
      try {
        await audio.play();
      } catch (error) {
        // A browser that plays nothing unasked leaves the start to the reader.
        if (!["NotAllowedError", "AbortError"].includes(error.name)) throw error;
      }
    };

    const makeMap = (panel, height, label) => {
      const canvas = make("canvas");
      const head = make("div", { className: "taggram-head" });
      const map = make("div", { className: "taggram-map maps-map", tabIndex: 0 }, canvas, head);
      map.style.height = `${height}px`;
      map.setAttribute("role", "slider");
      map.setAttribute("aria-label", `Position in the recording: ${label}`);
      map.setAttribute("aria-valuemin", "0");
      map.setAttribute("aria-valuemax", duration.toFixed(1));
      if (data.joint) {
        const joint = make("div", { className: "maps-joint" });
        joint.style.left = `${(100 * data.joint) / duration}%`;
        map.append(joint);
      }
      heads.push({ head, map });
      painted.push(() => paint(canvas, panel.matrix, panel.numRows || panel.names.length,
        panel.spans, duration, panel.stops, panel.isUpward));
      map.addEventListener("click", (event) => {
        const box = map.getBoundingClientRect();
        seek(((event.clientX - box.left) / box.width) * duration);
        start();
      }, listen);
      map.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 0.5, ArrowLeft: -0.5, PageUp: 5, PageDown: -5 }[event.key];
        if (step) seek(position + step);
        else if (event.key === "Home") seek(0);
        else if (event.key === "End") seek(duration);
        else if (event.key === " " && audio) { if (audio.paused) start(); else audio.pause(); }
        else return;
        event.preventDefault();
      }, listen);
      return map;
    };

    const spectrogram = {
      ...data.spectrogram, matrix: decode(data.spectrogram.bytes), stops: STOPS.level,
      isUpward: true, names: [],
    };
    const blocks = [make("h3", {}, "Spectrogram"),
      make("div", { className: "taggram-grid maps-grid" },
        make("p", { className: "maps-side soft small" }, data.spectrogram.note),
        makeMap(spectrogram, FIELD_HEIGHT, "spectrogram"))];
    panelsOf(data).forEach((panel) => {
      const height = panel.numRows ? FIELD_HEIGHT : panel.names.length * ROW_HEIGHT;
      const names = make("ol", { className: "taggram-labels" }, ...panel.names.map((name, index) =>
        make("li", { title: name }, panel.numRows ? "" : name, ...(panel.special
          ? [make("span", { className: "soft" }, ` class token ${panel.special[index].toFixed(2)}`)]
          : []))));
      blocks.push(
        make("h3", {}, panel.title),
        make("div", { className: "taggram-grid maps-grid" }, names,
          makeMap(panel, height, panel.title)),
        make("p", { className: "soft small" }, `${panel.caption} Scale: ${panel.range}.`));
    });
    container.classList.add("taggram");
    container.replaceChildren(now, ...blocks);
    const repaint = () => { if (container.clientWidth) painted.forEach((one) => one()); };
    const observer = new ResizeObserver(repaint);
    observer.observe(container);
    gone.signal.addEventListener("abort", () => observer.disconnect());
    if (audio) {
      ["timeupdate", "seeked"].forEach((name) =>
        audio.addEventListener(name, () => moveTo(audio.currentTime), listen));
    }
    moveTo(audio ? audio.currentTime : 0);
    repaint();
  };
}
