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
  // Filtering; without a script the controls stay hidden and everything is shown.
  const selected = (filter, by) => filter.querySelector(`[data-by="${by}"]`).value;
  const say = (filter, shown, all) => {
    filter.querySelector(".filter-said").textContent = "showing " + shown + " of " + all;
  };
  for (const filter of document.querySelectorAll(".filter[data-rows]")) {
    const rows = [...document.getElementById(filter.dataset.rows).tBodies[0].rows];
    filter.addEventListener("change", () => {
      const model = selected(filter, "model"), family = selected(filter, "family");
      const isDecided = filter.querySelector('[data-by="decided"]').checked;
      for (const row of rows) {
        row.hidden = (model !== "" && !row.dataset.models.split(" ").includes(model))
          || (family !== "" && row.dataset.family !== family)
          || (isDecided && row.dataset.decided !== "yes");
      }
      say(filter, rows.filter((row) => !row.hidden).length, rows.length);
    });
    filter.hidden = false;
  }
  // Two chosen models: items on which they differ, and of the answers only theirs.
  for (const filter of document.querySelectorAll(".pair-filter")) {
    const items = [...filter.parentElement.querySelectorAll(".example")];
    const answerOf = (item, model) => [...item.querySelectorAll(".answer")]
      .find((answer) => answer.dataset.models.split(" ").includes(model));
    const kind = filter.querySelector('[data-by="kind"]');
    filter.addEventListener("change", () => {
      const pair = [selected(filter, "first"), selected(filter, "second")];
      const chosen = pair.filter((model) => model !== "");
      const isPair = chosen.length === 2 && pair[0] !== pair[1];
      kind.disabled = !isPair;
      for (const item of items) {
        const answers = chosen.map((model) => answerOf(item, model));
        const isRight = answers.map((answer) => answer && answer.dataset.correct === "yes");
        let isShown = answers.every(Boolean);
        if (isPair && isShown) {
          isShown = answers[0] !== answers[1];
          if (kind.value === "first") isShown = isShown && isRight[0] && !isRight[1];
          if (kind.value === "second") isShown = isShown && !isRight[0] && isRight[1];
        }
        item.hidden = !isShown;
        for (const answer of item.querySelectorAll(".answer")) {
          answer.hidden = isPair && !answers.includes(answer);
        }
        for (const who of item.querySelectorAll(".who")) {
          who.hidden = isPair && !chosen.includes(who.dataset.model);
        }
      }
      say(filter, items.filter((item) => !item.hidden).length, items.length);
    });
    kind.disabled = true;
    filter.hidden = false;
  }
  for (const filter of document.querySelectorAll(".filter:not([data-rows], .pair-filter)")) {
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
