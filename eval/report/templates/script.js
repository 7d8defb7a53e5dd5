"use strict";
(() => {
  // Sorting: each heading of a sortable table becomes a button; empty keys stay last.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    const original = [...body.rows];
    const key = (row, column) => {
      const cell = row.cells[column];
      if ("sort" in cell.dataset) return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
      return cell.textContent.trim();
    };
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const isNumeric = original.some((row) => "sort" in row.cells[column].dataset);
        const first = isNumeric ? "descending" : "ascending";
        const second = isNumeric ? "ascending" : "descending";
        const order = before === first ? second : before === second ? null : first;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (order) head.setAttribute("aria-sort", order);
        const sign = order === "descending" ? -1 : 1;
        const rows = order === null ? original : [...original].sort((a, b) => {
          const x = key(a, column), y = key(b, column);
          if (x === null || y === null) return (x === null) - (y === null);
          return sign * (typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true }));
        });
        body.append(...rows);
      });
    });
  }
  // Filtering examples; without a script the buttons stay hidden and all examples are shown.
  for (const filter of document.querySelectorAll(".filter")) {
    const items = [...filter.parentElement.querySelectorAll(".example")];
    const buttons = [...filter.querySelectorAll("button")];
    const said = filter.querySelector(".filter-said");
    const counts = (kind) => items.filter((item) => kind === "all" || item.dataset.kind === kind).length;
    for (const button of buttons) {
      button.textContent += " " + counts(button.dataset.filter);
      button.disabled = counts(button.dataset.filter) === 0;
      button.addEventListener("click", () => {
        const wanted = button.dataset.filter;
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        for (const item of items) item.hidden = wanted !== "all" && item.dataset.kind !== wanted;
        said.textContent = "showing " + counts(wanted) + " of " + items.length;
      });
    }
    filter.hidden = false;
  }
  // Paper has no way to open a fold; what is clipped for its length stays clipped.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open], .long)")];
    for (const fold of closed) fold.open = true;
  });
  addEventListener("afterprint", () => {
    for (const fold of closed) fold.open = false;
  });
})();
