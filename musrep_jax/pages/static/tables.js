"use strict";

/* Tables that sort by a column and show the rows that hold some words. */

{
  const FEW_ROWS = 8;

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

  /**
   * Makes a table sort by a click on a column's title, and adds a field that filters its rows.
   *
   * Texts sort from A to Z first, numbers from the greatest down.
   *
   * @param {HTMLTableElement} table With one head row and one body, in a container.
   */
  window.enhanceTable = (table) => {
    [...table.tHead.rows[0].cells].forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.textContent = head.textContent;
      button.addEventListener("click", () => {
        const first = head.classList.contains("number") ? "descending" : "ascending";
        const other = first === "descending" ? "ascending" : "descending";
        const next = head.getAttribute("aria-sort") === first ? other : first;
        sortBy(table, place, next === "ascending" ? 1 : -1);
      });
      head.replaceChildren(button);
    });

    const rows = [...table.tBodies[0].rows];
    if (rows.length < FEW_ROWS) return; // seen at a glance
    const words = rows.map((row) => row.textContent.toLowerCase());
    const input = document.createElement("input");
    input.type = "search";
    const label = document.createElement("label");
    label.append("Show rows with", input);
    const count = document.createElement("span");
    count.className = "count";
    count.setAttribute("role", "status");
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let numShown = 0;
      rows.forEach((row, index) => {
        row.hidden = !wanted.every((word) => words[index].includes(word));
        numShown += !row.hidden;
      });
      count.textContent = wanted.length ? `${numShown} of ${rows.length} rows` : "";
    });
    const controls = document.createElement("div");
    controls.className = "controls";
    controls.append(label, count);
    table.parentElement.before(controls);
  };
}
