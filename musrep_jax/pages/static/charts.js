"use strict";

/* Line charts as inline SVG, with what they show in words for those who do not see them. */

{
  const SPACE = "http://www.w3.org/2000/svg";
  const WIDTH = 340;
  const HEIGHT = 220;
  const EDGE = { left: 44, right: 10, top: 8, bottom: 34 };
  const DODGE = 6; // distance of lines with intervals
  const SHAPES = ["circle", "square", "triangle", "diamond"];

  const draw = (name, attributes, ...children) => {
    const node = document.createElementNS(SPACE, name);
    Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
    node.append(...children);
    return node;
  };

  const short = (value) => {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
    if (size >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`;
    if (size < 1e-3) return value.toExponential(0);
    return String(Number(value.toPrecision(3)));
  };

  const niceTicks = (low, high, most) => {
    const rough = (high - low || 1) / most;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((s) => s >= rough);
    const ticks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) {
      ticks.push(Number((k * step).toPrecision(12)));
    }
    return ticks;
  };

  /* On a logarithmic axis: the values themselves where they leave room, the last one kept. */
  const spaced = (values) => {
    const sorted = [...new Set(values)].sort((a, b) => b - a);
    const gap = Math.log(sorted[0] / sorted[sorted.length - 1]) / 6;
    return sorted.reduce((kept, value) => (
      !kept.length || Math.log(kept[kept.length - 1] / value) >= gap ? [...kept, value] : kept
    ), []);
  };

  const marker = (shape, x, y, title) => {
    const r = 4;
    const paths = {
      square: `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
      triangle: `M${x},${y - r - 1}l${r + 1},${2 * r}h${-2 * r - 2}z`,
      diamond: `M${x},${y - r - 1}l${r + 1},${r + 1}l${-r - 1},${r + 1}l${-r - 1},${-r - 1}z`,
    };
    const attributes = shape === "circle" ? { cx: x, cy: y, r } : { d: paths[shape] };
    const node = draw(shape === "circle" ? "circle" : "path", { class: "dot", ...attributes });
    if (title) node.append(draw("title", {}, title));
    return node;
  };

  /**
   * Returns a figure with a line chart.
   *
   * @param {object} chart `title`, `xLabel`, `yLabel`; `series`, each with `name`, `look` (class
   *   and shape number), `points` [x, y] or [x, y, low, high], and `isBare` for a line without
   *   dots; and where wanted `isLogX`, `isLogY`, `levels` (horizontal lines), `marks` (vertical
   *   lines), `yRange` (the ends of the axis; null where the values decide).
   */
  window.makeChart = (chart) => {
    const series = chart.series
      .map((s) => ({ ...s, points: s.points.filter(([, y]) => y !== null) }))
      .filter((s) => s.points.length);
    const figure = document.createElement("figure");
    figure.className = "chart";
    const caption = document.createElement("figcaption");
    caption.textContent = chart.title;
    figure.append(caption);
    if (!series.length) {
      const nothing = document.createElement("p");
      nothing.className = "soft small";
      nothing.textContent = "not recorded";
      figure.append(nothing);
      return figure;
    }
    const points = series.flatMap((s) => s.points);
    const bounds = points.flatMap(([, ...ys]) => ys.filter((y) => y !== null));
    const ys = chart.yRange || [...bounds, ...(chart.levels || [])];
    const xs = [...points.map(([x]) => x), ...(chart.isLogX ? [] : chart.marks || [])];
    const logX = chart.isLogX && Math.min(...xs) > 0;
    const logY = chart.isLogY && Math.min(...ys) > 0 && Math.max(...ys) / Math.min(...ys) >= 10;
    const scale = (values, isLog, start, end, pad) => {
      const bend = isLog ? Math.log : (v) => v;
      let [low, high] = [bend(Math.min(...values)), bend(Math.max(...values))];
      const room = (high - low || Math.abs(high) * 0.1 || 1) * pad;
      [low, high] = [low - room, high + room];
      const place = (v) => start + ((bend(v) - low) / (high - low)) * (end - start);
      return { place: (v) => Number(place(v).toFixed(1)), low, high };
    };
    const x = scale(xs, logX, EDGE.left, WIDTH - EDGE.right, logX ? 0.06 : 0.03);
    const y = scale(ys, logY, HEIGHT - EDGE.bottom, EDGE.top, chart.yRange ? 0 : 0.06);

    const words = series.map((s) => {
      const told = s.isBare && s.points.length > 2 ? [s.points[0], s.points.at(-1)] : s.points;
      return `${s.name}: ${told.map(([a, b]) => `${short(b)} at ${short(a)}`).join(", ")}`;
    });
    const label = `${chart.title}. ${chart.yLabel} over ${chart.xLabel}. ${words.join("; ")}.`;
    const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
      "aria-label": label });
    const yTicks = logY
      ? spaced(ys.map((v) => 10 ** Math.round(Math.log10(v))))
          .filter((v) => Math.log(v) >= y.low && Math.log(v) <= y.high)
      : niceTicks(y.low, y.high, 5);
    yTicks.forEach((tick) => svg.append(
      draw("line", { class: "grid", x1: EDGE.left, x2: WIDTH - EDGE.right,
        y1: y.place(tick), y2: y.place(tick) }),
      draw("text", { x: EDGE.left - 6, y: y.place(tick) + 4, "text-anchor": "end" }, short(tick)),
    ));
    const xTicks = logX // steps and tracks are counted
      ? spaced(xs)
      : niceTicks(x.low, x.high, 5).filter((v) => v >= 0 && Number.isInteger(v));
    xTicks.forEach((tick) => svg.append(
      draw("line", { class: "grid", x1: x.place(tick), x2: x.place(tick),
        y1: HEIGHT - EDGE.bottom, y2: HEIGHT - EDGE.bottom + 4 }),
      draw("text", { x: x.place(tick), y: HEIGHT - EDGE.bottom + 16, "text-anchor": "middle" },
        short(tick)),
    ));
    svg.append(draw("text", { x: (EDGE.left + WIDTH - EDGE.right) / 2, y: HEIGHT - 2,
      "text-anchor": "middle" }, chart.xLabel));
    (chart.levels || []).forEach((level) => svg.append(draw("line", { class: "level",
      x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y.place(level), y2: y.place(level) })));
    (chart.marks || []).forEach((mark) => svg.append(draw("line", { class: "mark",
      x1: x.place(mark), x2: x.place(mark), y1: EDGE.top, y2: HEIGHT - EDGE.bottom })));
    series.forEach((s, number) => {
      const group = draw("g", { class: s.look.name });
      // Intervals side by side: several colors on each other are none.
      const hasIntervals = series.some((other) => other.points.some(([, , low]) => low != null));
      const shift = hasIntervals ? DODGE * (number - (series.length - 1) / 2) : 0;
      const at = (a) => Number((x.place(a) + shift).toFixed(1));
      s.points.filter(([, , low, high]) => low != null && high != null)
        .forEach(([a, , low, high]) => group.append(draw("line", { class: "whisker", x1: at(a),
          x2: at(a), y1: y.place(low), y2: y.place(high) })));
      const path = s.points.map(([a, b]) => `${at(a)},${y.place(b)}`);
      group.append(draw("polyline", { class: "line", points: path.join(" ") }));
      if (!s.isBare || s.points.length === 1) {
        s.points.forEach(([a, b, low, high]) => {
          const range = low == null ? "" : ` [${low.toFixed(3)}, ${high.toFixed(3)}]`;
          const title = `${s.name}: ${b.toPrecision(4)}${range} at ${short(a)}`;
          group.append(marker(SHAPES[s.look.shape], at(a), y.place(b), title));
        });
      }
      svg.append(group);
    });
    figure.append(svg);
    return figure;
  };

  /**
   * Returns a legend.
   *
   * @param {Array} entries `name`, `look` (class and shape number), or `line` (class of a line).
   */
  window.makeLegend = (entries) => {
    const legend = document.createElement("p");
    legend.className = "legend";
    entries.forEach(({ name, look, line, isBare }) => {
      const svg = draw("svg", { width: 28, height: 12, "aria-hidden": "true" });
      const group = draw("g", { class: look ? look.name : "" });
      group.append(draw("line", { class: line || "line", x1: 0, x2: 28, y1: 6, y2: 6 }));
      if (look && !isBare) group.append(marker(SHAPES[look.shape], 14, 6));
      svg.append(group);
      const item = document.createElement("span");
      item.className = "chart";
      const text = document.createElement("span");
      text.className = "name";
      text.textContent = name;
      item.append(svg, text);
      legend.append(item);
    });
    return legend;
  };
}
