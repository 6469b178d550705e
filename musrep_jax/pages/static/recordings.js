"use strict";

/* The list of recordings that were dropped: one is heard after the other, each has its result. */

{
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  /**
   * Returns a queue of recordings, which shows itself as a list from the second one on.
   *
   * @param {object} page `panel`, `list` and `count`: the elements of the list; `listen(file,
   *   signal)` returns the result of a file or throws an Error for the reader; `show(file, result)`
   *   shows a result; `summarize(result)` returns it in a few words; `onStart(file,
   *   isFirst)` is told of every file, and whether nothing of its drop is shown; `onEnd(entries)` of
   *   the files of one drop when they are over.
   * @returns {object} `add(files)`, each a file or an Error with a `file`; `stop()` gives up what is
   *   not done; `results()` are those that are there.
   */
  window.makeQueue = (page) => {
    const entries = [];
    let controller = null; // of the recording that is being heard
    let shown = null;

    const isOver = ({ state }) => !["waiting", "heard"].includes(state);

    const describe = ({ state, result, error }) => ({
      waiting: "waiting", heard: "listening…", stopped: "stopped",
      done: result && page.summarize(result), failed: error,
    })[state];

    const draw = (entry) => {
      entry.row.className = entry.state;
      entry.button.disabled = entry.state !== "done";
      entry.button.setAttribute("aria-current", String(entry === shown));
      entry.words.textContent = describe(entry);
      const numDone = entries.filter(isOver).length;
      const numFailed = entries.filter(({ state }) => state === "failed").length;
      page.count.textContent = `${numDone} of ${entries.length} done`
        + (numFailed ? `, ${numFailed} of them cannot be used` : "");
      page.panel.hidden = entries.length < 2;
    };

    const show = (entry) => {
      const former = shown;
      shown = entry;
      if (former) draw(former);
      draw(entry);
      page.show(entry.file, entry.result);
    };

    const hear = async (entry) => {
      controller = new AbortController();
      entry.state = "heard";
      draw(entry);
      page.onStart(entry.file, !entry.batch.some((other) => other.wasShown));
      try {
        entry.result = await page.listen(entry.file, controller.signal);
        entry.state = "done";
      } catch (error) {
        entry.state = error.name === "AbortError" ? "stopped" : "failed";
        entry.error = error.message;
      }
      controller = null;
      const isFirst = !entry.batch.some((other) => other.wasShown);
      if (entry.state === "done" && isFirst) {
        entry.wasShown = true;
        show(entry);
      } else draw(entry);
    };

    const run = async () => {
      if (controller) return;
      const next = entries.find(({ state }) => state === "waiting");
      if (!next) return;
      await hear(next);
      if (next.batch.every(isOver)) page.onEnd(next.batch);
      run();
    };

    return {
      add: (files) => {
        const batch = files.map((file) => {
          const isRefused = file instanceof Error;
          const name = isRefused ? file.file.name : file.name;
          const entry = {
            file, state: isRefused ? "failed" : "waiting", error: isRefused ? file.message : "",
            button: make("button", { type: "button" }, name), words: make("span"),
          };
          entry.row = make("li", {}, entry.button, entry.words);
          entry.button.addEventListener("click", () => show(entry));
          return entry;
        });
        batch.forEach((entry) => {
          entry.batch = batch;
          entries.push(entry);
          page.list.append(entry.row);
          draw(entry);
        });
        if (batch.every(({ state }) => state === "failed")) page.onEnd(batch);
        run();
      },
      stop: () => {
        entries.filter(({ state }) => state === "waiting").forEach((entry) => {
          entry.state = "stopped";
          draw(entry);
        });
        controller?.abort();
      },
      results: () => entries.filter(({ state }) => state === "done").map(({ result }) => result),
    };
  };
}
