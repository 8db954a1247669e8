"use strict";
// Tables of the class "sortable": a click on a heading sorts, and what is typed above keeps the rows that have all its words.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const filter = document.createElement("input");
  filter.type = "search";
  filter.placeholder = "Filter, such as: sgd greedy";
  filter.setAttribute("aria-label", "Filter rows");
  table.before(filter);
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
    }
  });
  const value = (row, column) => row.cells[column].textContent;
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    head.tabIndex = 0;
    head.style.cursor = "pointer";
    const sort = () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = [...body.rows];
      const number = row => ["", "inf", "missed"].includes(value(row, column)) ? 1e300 : parseFloat(value(row, column));
      const compare = rows.every(row => !Number.isNaN(number(row)))
        ? (a, b) => number(a) - number(b)
        : (a, b) => value(a, column).localeCompare(value(b, column));
      body.append(...rows.sort((a, b) => sign * compare(a, b)));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => event.key === "Enter" && sort());
  }
}
