"use strict";

/* Tables that sort by a column and show the rows that hold some words. */

{
  const FEW_ROWS = 8; // seen at a glance
  const MANY_ROWS = 40;

  const valueOf = (cell) => {
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    const text = cell.textContent.trim();
    return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
  };

  const isEmpty = (value) => value === "" || value === "-" || value === "failed";

  /* Numbers before texts, what is empty last, whichever way it is sorted. */
  const compare = (a, b, direction) => {
    if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b);
    if (typeof a === "number" && typeof b === "number") return direction * (a - b);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return direction * a.localeCompare(b, undefined, { numeric: true, sensitivity: "base" });
  };

  const sortBy = (table, place, direction) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [valueOf(row.cells[place]), row]);
    rows.sort((a, b) => compare(a[0], b[0], direction));
    body.append(...rows.map(([, row]) => row));
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (column === place) {
        head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      } else head.removeAttribute("aria-sort");
    });
  };

  /* A field with words, and how many of the rows are shown; returns what shows them anew. */
  const addControls = (table) => {
    const rows = [...table.tBodies[0].rows];
    const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const input = document.createElement("input");
    input.type = "search";
    const label = document.createElement("label");
    label.append("Show rows with", input);
    const count = document.createElement("span");
    count.className = "count";
    count.setAttribute("role", "status");
    const more = document.createElement("button");
    more.type = "button";
    more.textContent = `Show all ${rows.length} rows`;
    let isLimited = rows.length > MANY_ROWS;
    const show = () => {
      const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let numFound = 0;
      [...table.tBodies[0].rows].forEach((row) => {
        const isFound = wanted.every((word) => words.get(row).includes(word));
        numFound += isFound;
        row.hidden = !isFound || (isLimited && numFound > MANY_ROWS);
      });
      const numShown = isLimited ? Math.min(numFound, MANY_ROWS) : numFound;
      count.textContent = numShown < rows.length
        ? `${numShown} of ${rows.length} rows` : `${rows.length} rows`;
      more.hidden = !isLimited;
    };
    input.addEventListener("input", show);
    more.addEventListener("click", () => {
      isLimited = false;
      show();
      input.focus();
    });
    const controls = document.createElement("div");
    controls.className = "controls";
    controls.append(label, count, more);
    table.parentElement.before(controls);
    show();
    return show;
  };

  /**
   * Makes a table sort by a click on a column's title, adds a field that filters its rows, and lets
   * a narrow page show a row as a block with the titles of its numbers.
   *
   * Texts sort from A to Z first, numbers from the greatest down. Of more than 40 rows the first 40
   * are shown, with how many there are and a button for the rest.
   *
   * @param {HTMLTableElement} table With one head row and one body, in a container.
   */
  window.enhanceTable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    const titles = heads.map((head) => head.textContent.replace(/ \[.*\]$/, ""));
    [...table.tBodies[0].rows].forEach((row) => [...row.cells].forEach((cell, place) => {
      if (place && heads[place].classList.contains("number")) cell.dataset.title = titles[place];
      if (["", "-"].includes(cell.textContent.trim())) cell.classList.add("is-empty");
    }));
    table.classList.add("is-stacked");
    const show = table.tBodies[0].rows.length < FEW_ROWS ? () => {} : addControls(table);
    heads.forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.textContent = head.textContent;
      button.addEventListener("click", () => {
        const first = head.classList.contains("number") ? "descending" : "ascending";
        const other = first === "descending" ? "ascending" : "descending";
        const next = head.getAttribute("aria-sort") === first ? other : first;
        sortBy(table, place, next === "ascending" ? 1 : -1);
        show();
      });
      head.replaceChildren(button);
    });
  };
}
