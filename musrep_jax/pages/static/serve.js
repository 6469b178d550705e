"use strict";

/* The local page of a model: takes recordings, asks /api/tag, shows what it answers. */

{
  const NUM_SHOWN = 10;
  const NUM_SAID = 3;
  const $ = (id) => document.getElementById(id);
  let model = null;
  let result = null; // what is shown
  let queue = null; // of recordings, see recordings.js

  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  const clock = (seconds) => {
    if (seconds < 10) return `${Math.round(seconds * 100) / 100} s`;
    const whole = Math.round(seconds);
    return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  };

  const megabytes = (bytes) => `${Number((bytes / 1e6).toPrecision(3))} MB`;

  /* Tells the state; what stands on the page anyway is for screen readers only. */
  const say = (sentence, isShown = true) => {
    $("state").textContent = sentence;
    $("state").classList.toggle("for-readers", !isShown || !sentence);
  };

  const showProblem = (sentence) => {
    say("");
    $("problem").replaceChildren(make("p", { className: "problem" }, sentence));
  };

  /* Returns the answer to a request; throws an Error whose message is for the reader. */
  const ask = async (address, options = {}) => {
    let answer;
    try {
      answer = await fetch(address, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server does not answer, or the file cannot be read: see whether musrep"
        + " serve is still running.", { cause: error });
    }
    if (answer.ok) return answer;
    const { error } = await answer.json().catch(() => ({}));
    throw new Error(error || `The server answers with status ${answer.status}.`);
  };

  // Audio. What the browser cannot play is asked for as the model hears it.

  const release = (audio) => {
    if (audio.src.startsWith("blob:")) URL.revokeObjectURL(audio.src);
  };

  const play = (audio, note, source, askForWav) => {
    release(audio);
    note.hidden = true;
    audio.onerror = async () => {
      audio.onerror = null;
      note.hidden = false;
      note.textContent = "Your browser cannot play this format: preparing it…";
      const wantsToPlay = audio.dataset.wanted === "yes";
      const failed = audio.src;
      try {
        const wav = await (await askForWav()).blob();
        if (audio.src !== failed) return;
        release(audio);
        audio.src = URL.createObjectURL(wav);
        note.textContent = "Your browser cannot play this format: this is what the model hears,"
          + ` mono at ${model.sample_rate / 1000} kHz.`;
        if (wantsToPlay) await audio.play();
      } catch (error) {
        note.textContent = error.message;
      }
    };
    audio.src = source;
  };

  // Model

  const showModel = () => {
    const kind = model.labels.length ? `${model.labels.length} labels` : "embeddings only";
    $("model").textContent = `${model.model}, trained on ${model.trained_on}; ${kind}`;
    $("synthetic").hidden = !model.is_synthetic;
    $("limits").textContent = "Any audio format, up to "
      + `${megabytes(model.max_upload_bytes)} and ${Number((model.max_seconds / 60).toPrecision(3))}`
      + ` minutes. It is sent to ${window.location.host} only, and kept only until it is answered.`;
    $("meaning").textContent = (model.is_calibrated
      ? "Probabilities are calibrated on validation data."
      : "Probabilities are the network's own, not calibrated.")
      + (Object.keys(model.thresholds).length
        ? " Labels above their threshold, the line on the bar, are bold." : "")
      + Object.entries(model.label_groups).map(([group, labels]) =>
        ` Of ${labels.length} labels (${group}) only the most probable can be bold: a recording has`
        + " one at most.").join("");
    $("tags-panel").classList.toggle(
      "without-thresholds", !Object.keys(model.thresholds).length);
    $("tags-panel").hidden = !model.labels.length;
    $("over-time").hidden = !model.labels.length;
    $("similar-panel").hidden = !model.store;
    if (model.store) {
      $("store").textContent = `Of ${model.store.tracks.toLocaleString("en")} tracks in `
        + `${model.store.path}, by the cosine of their embeddings; the recording itself is left out.`;
    }
    const facts = {
      "model": model.model,
      "trained on": model.trained_on,
      "licence of the data": model.licence,
      "labels": model.labels.join(", ") || "none",
      "hears": `chunks of ${model.chunk_seconds.toFixed(2)} s, mono at ${model.sample_rate} Hz`,
      "fingerprint": model.fingerprint,
      ...(model.store ? { "store": `${model.store.path}, ${model.store.tracks} tracks` } : {}),
    };
    $("facts").replaceChildren(...Object.entries(facts).flatMap(
      ([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
    $("curl").textContent =
      `curl --data-binary @song.mp3 "${window.location.origin}/api/tag?name=song.mp3"`;
  };

  // Result

  const showSilence = () => {
    $("silence").hidden = !result.is_silent;
    $("over-time").hidden = result.is_silent || !model.labels.length;
    $("meaning").hidden = result.is_silent;
    $("tags-table").hidden = result.is_silent;
    if (result.is_silent) $("more").hidden = true;
  };

  const isTag = (label) => result.chosen.includes(label);

  const makeBar = (value, threshold) => {
    const filled = make("div", { className: "bar-value" });
    filled.style.width = `${100 * value}%`;
    const track = make("div", { className: "bar-track" }, filled);
    if (threshold !== undefined) {
      const line = make("div", { className: "bar-threshold" });
      line.style.left = `${100 * threshold}%`;
      track.append(line);
    }
    return make("td", { className: "bar" }, track);
  };

  const showTags = (wantsAll) => {
    const labels = [...model.labels].sort((a, b) => result.tags[b] - result.tags[a]);
    labels.sort((a, b) => isTag(b) - isTag(a));
    const few = Math.max(NUM_SHOWN, labels.filter(isTag).length);
    const shown = wantsAll ? labels : labels.slice(0, few);
    $("tags").replaceChildren(...shown.map((label) => {
      const value = result.tags[label];
      const threshold = model.thresholds[label];
      return make(
        "tr", { className: isTag(label) ? "is-tag" : "" },
        make("th", { scope: "row" }, label,
          make("span", { className: "for-readers" }, isTag(label) ? ", a tag" : "")),
        makeBar(value, threshold),
        make("td", { className: "number" }, value.toFixed(2)),
        make("td", { className: "number with-thresholds" },
          threshold === undefined ? "–" : threshold.toFixed(2)),
      );
    }));
    $("more").hidden = few >= labels.length;
    $("more").textContent = wantsAll ? `Show ${few} labels` : `Show all ${labels.length} labels`;
    $("more").setAttribute("aria-expanded", String(wantsAll));
  };

  const showPlaying = () => {
    const audio = $("other");
    document.querySelectorAll("#similar tr").forEach((row) => {
      const isCurrent = row.dataset.row === audio.dataset.row;
      const isPlaying = isCurrent && !audio.paused;
      row.classList.toggle("is-playing", isCurrent && !$("player").hidden);
      const button = row.querySelector("button");
      if (!button) return;
      button.firstChild.textContent = isPlaying ? "Pause" : "Play";
    });
  };

  const toggleTrack = async (track) => {
    const audio = $("other");
    if (audio.dataset.row === String(track.row) && audio.src) {
      if (!audio.paused) return audio.pause();
    } else {
      audio.dataset.row = track.row;
      $("player").hidden = false;
      $("player-name").textContent = track.name;
      const address = `/api/tracks/${track.row}`;
      audio.dataset.wanted = "yes";
      play(audio, $("other-note"), address, () => ask(`${address}/wav`));
    }
    try {
      await audio.play();
    } catch (error) {
      // What the browser cannot play is dealt with by the element's own error.
      if (!["NotSupportedError", "AbortError"].includes(error.name)) throw error;
    }
    return undefined;
  };

  const showSimilar = () => {
    $("other").pause();
    $("other").removeAttribute("src");
    delete $("other").dataset.row;
    $("player").hidden = true;
    $("similar").replaceChildren(...(result.similar || []).map((track) => {
      const folder = track.path.slice(0, track.path.length - track.name.length);
      const cell = make("td");
      if (track.is_playable) {
        const button = make("button", { type: "button" }, make("span", {}, "Play"),
          make("span", { className: "for-readers" }, ` ${track.name}`));
        button.addEventListener("click", () => toggleTrack(track));
        cell.append(button);
      } else {
        cell.append(make("span", { className: "soft small" }, "not here"));
        cell.title = "The file is gone, or not as it was when it was embedded.";
      }
      const row = make("tr", {}, cell,
        make("th", { scope: "row" }, track.name,
          make("span", { className: "folder" }, `${clock(track.seconds)}, in ${folder}`)),
        make("td", { className: "number" }, track.score.toFixed(3)));
      row.dataset.row = track.row;
      return row;
    }));
  };

  // Why

  const NUM_OFFERED = 6;
  const NUM_ASKED = 2;

  const offerReasons = (file) => {
    const best = [...model.labels].sort((a, b) => result.tags[b] - result.tags[a]);
    const offered = best.slice(0, NUM_OFFERED);
    $("maps").replaceChildren();
    $("maps").hidden = true;
    $("why-state").textContent = "";
    $("why").replaceChildren(...offered.map((label, index) => {
      const button = make("button", { type: "button" }, label);
      button.setAttribute("aria-pressed", String(index < NUM_ASKED));
      button.addEventListener("click", () =>
        button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true")));
      return button;
    }));
    $("explain").onclick = async () => {
      const asked = [...document.querySelectorAll('#why [aria-pressed="true"]')];
      if (!asked.length) {
        $("why-state").textContent = "Choose a tag.";
        return;
      }
      const shown = result;
      const words = asked.map((one) => `&tag=${encodeURIComponent(one.textContent)}`).join("");
      $("explain").disabled = true;
      $("why-state").textContent = "Explaining the first half minute…";
      try {
        const address = `/api/explain?name=${encodeURIComponent(file.name)}${words}`;
        const maps = await (await ask(address, { method: "POST", body: file })).json();
        if (shown !== result) return;
        $("why-state").textContent = "Click a map to hear that moment.";
        $("maps").hidden = false;
        window.drawMaps($("maps"), maps, $("audio"));
      } catch (error) {
        $("why-state").textContent = error.message;
      } finally {
        $("explain").disabled = false;
      }
    };
  };

  const showResult = (file) => {
    $("result").hidden = false;
    $("skip").hidden = false;
    $("name").textContent = result.name;
    const num = result.chunks.length;
    $("length").textContent = `${clock(result.seconds)}, heard in ${num} `
      + `${num === 1 ? "chunk" : "chunks"} of ${model.chunk_seconds.toFixed(1)} s`
      + (result.seconds < model.chunk_seconds ? ", padded with silence" : "");
    $("audio").setAttribute("aria-label", result.name);
    play($("audio"), $("audio-note"), URL.createObjectURL(file),
      () => ask(`/api/wav?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file }));
    if (model.labels.length) {
      if (!result.is_silent) showTags(false);
      window.drawTaggram($("taggram"), {
        labels: model.labels,
        times: result.chunks.map((chunk) => [chunk.start, chunk.end]),
        probabilities: result.chunks.map((chunk) =>
          (chunk.is_silent ? null : model.labels.map((name) => chunk.tags[name]))),
        thresholds: model.thresholds,
        chosen: result.chunks.map((chunk) => chunk.chosen.map((name) => model.labels.indexOf(name))),
      }, $("audio"));
      if (!result.is_silent) offerReasons(file);
    }
    showSilence();
    if (model.store) showSimilar();
    $("drop").classList.add("is-small");
  };

  /* A result in a few words: for the list, and for screen readers. */
  const summarize = (found) => {
    if (found.is_silent) return "silent, cannot be judged";
    const best = [...model.labels].sort((a, b) => found.tags[b] - found.tags[a]);
    if (best.length) {
      return best.slice(0, NUM_SAID).map((label) =>
        `${label} ${found.tags[label].toFixed(2)}`).join(", ");
    }
    return `nearest to ${found.similar[0]?.name || "nothing"}`;
  };

  // Asking

  const listen = async (file, signal) => {
    if (file.size > model.max_upload_bytes) {
      throw new Error(`${file.name} has ${megabytes(file.size)}; this page takes `
        + `${megabytes(model.max_upload_bytes)}: send a shorter part of it, or start the page with a`
        + " larger --max-upload-mb.");
    }
    const start = performance.now();
    const tick = () => {
      const seconds = (performance.now() - start) / 1000;
      $("seconds").textContent = seconds < 1 ? "" : `${seconds.toFixed(0)} s`;
    };
    const timer = setInterval(tick, 1000);
    tick();
    try {
      const address = `/api/tag?name=${encodeURIComponent(file.name)}`;
      const answer = await ask(address, { method: "POST", body: file, signal });
      return await answer.json();
    } finally {
      clearInterval(timer);
    }
  };

  const makeQueue = () => window.makeQueue({
    panel: $("list-panel"),
    list: $("list"),
    count: $("list-count"),
    listen,
    summarize,
    show: (file, answered) => {
      result = answered;
      $("result").setAttribute("aria-busy", "false");
      showResult(file);
    },
    onStart: (file, isFirst) => {
      $("work").hidden = false;
      $("result").setAttribute("aria-busy", String(isFirst));
      say(`Listening to ${file.name}.`);
    },
    onEnd: (entries) => {
      $("work").hidden = true;
      $("result").setAttribute("aria-busy", "false");
      const failed = entries.filter(({ state }) => state === "failed");
      const done = entries.filter(({ state }) => state === "done");
      if (entries.length === 1 && failed.length) showProblem(failed[0].error);
      else if (entries.some(({ state }) => state === "stopped")) say("Stopped.");
      else if (entries.length === 1) {
        const [{ result: found }] = done;
        say(`Done: ${found.name} is ${summarize(found)}.`, false);
      } else {
        say(`Done: ${done.length} recordings`
          + (failed.length ? `; ${failed.length} cannot be used, see the list.` : "."));
      }
    },
  });

  const take = (files, entries = []) => {
    if (!files.length) return;
    $("problem").replaceChildren();
    $("audio").pause();
    $("other").pause();
    queue.add([...files].map((file, place) => (entries[place]?.isDirectory
      ? Object.assign(new Error(`${file.name} is a folder: drop the recordings in it; musrep tag `
        + "takes whole folders."), { file })
      : file)));
  };

  const save = (found, name) => {
    const text = JSON.stringify({ model, ...found }, null, 1);
    const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    make("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  };

  const start = async () => {
    try {
      model = await (await ask("/api/model")).json();
    } catch (error) {
      showProblem(error.message);
      return;
    }
    showModel();
    queue = makeQueue();
    $("file").addEventListener("change", () => {
      take($("file").files);
      $("file").value = ""; // so that the same file can be chosen again
    });
    $("stop").addEventListener("click", () => {
      queue.stop();
      $("file").focus();
    });
    $("more").addEventListener("click",
      () => showTags($("more").getAttribute("aria-expanded") === "false"));
    $("save").addEventListener("click", () => save({ result }, `${result.name}.tags.json`));
    $("save-all").addEventListener("click",
      () => save({ results: queue.results() }, "recordings.tags.json"));
    const [audio, other] = [$("audio"), $("other")];
    audio.addEventListener("play", () => other.pause());
    other.addEventListener("play", () => audio.pause());
    ["play", "pause", "ended", "emptied"].forEach((name) =>
      other.addEventListener(name, showPlaying));

    let depth = 0; // of the elements that the pointer has entered
    const isFile = (event) => event.dataTransfer?.types.includes("Files");
    const mark = (change) => {
      depth = Math.max(0, depth + change);
      $("drop").classList.toggle("is-over", depth > 0);
    };
    window.addEventListener("dragenter", (event) => isFile(event) && mark(1));
    window.addEventListener("dragleave", (event) => isFile(event) && mark(-1));
    window.addEventListener("dragover", (event) => isFile(event) && event.preventDefault());
    window.addEventListener("drop", (event) => {
      if (!isFile(event)) return;
      event.preventDefault();
      mark(-depth);
      const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.());
      take(event.dataTransfer.files, entries);
    });
    document.body.dataset.ready = "yes";
  };

  start();
}
