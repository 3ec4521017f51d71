"use strict";
(() => {
  const units = { s: 1, ms: 1e-3, us: 1e-6, ns: 1e-9 };
  for (const unit of ["B/s", "FLOP/s"]) ["", "k", "M", "G", "T", "P"].forEach((prefix, n) => { units[prefix + unit] = 1e3 ** n; });
  // A cell's number, if it has one: `1.23 ms`, `~39 ms`, `126 GFLOP/s`, `1,230`, `+3.1%`, `0.5x`; what it lacks sorts last.
  const number = (text) => {
    const found = /^[~>]?([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)\s*([kMGTP]?(?:FLOP|B)\/s|s\b|ms|us|ns)?(?![\w.])/.exec(text);
    return found ? Number(found[1].replaceAll(",", "")) * (units[found[2]] ?? 1) : NaN;
  };
  const sort = (table, head) => {
    const index = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => {
      const text = row.cells[index].textContent;
      return { row, text, value: number(text), missing: text === "-" || text === "" };
    });
    const numeric = rows.some((one) => !Number.isNaN(one.value));
    rows.sort((a, b) => {
      if (a.missing !== b.missing) return a.missing ? 1 : -1;
      const [x, y] = [Number.isNaN(a.value), Number.isNaN(b.value)];
      const order = numeric && !x && !y ? a.value - b.value : numeric && x !== y ? x - y : a.text.localeCompare(b.text, "en", { numeric: true });
      return down ? -order : order;
    });
    body.append(...rows.map((one) => one.row));
  };
  const filter = (table, wanted, shown) => {
    const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      count += row.hidden ? 0 : 1;
    }
    shown.textContent = `${count} of ${table.tBodies[0].rows.length} rows`;
  };
  for (const table of document.querySelectorAll("table")) {
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sort(table, head));
      head.replaceChildren(button);
    }
    if (table.tBodies[0].rows.length < 12) continue;
    const tools = document.createElement("div");
    const input = document.createElement("input");
    const shown = document.createElement("span");
    tools.className = "tools";
    input.type = "search";
    input.placeholder = "Filter rows";
    input.setAttribute("aria-label", "Filter rows of this table");
    shown.setAttribute("role", "status");
    shown.textContent = `${table.tBodies[0].rows.length} rows`;
    input.addEventListener("input", () => filter(table, input.value, shown));
    tools.append(input, shown);
    table.parentElement.before(tools);
  }
  // A row becomes a card on a phone: each cell then says its column's head itself.
  const phone = matchMedia("(max-width: 600px)");
  const label = () => {
    if (!phone.matches || document.documentElement.classList.contains("cards")) return;
    for (const table of document.querySelectorAll("table")) {
      const heads = Array.from(table.tHead.rows[0].cells, (cell) => cell.textContent);
      for (const row of table.tBodies[0].rows) Array.from(row.cells, (cell, index) => { cell.dataset.label = heads[index]; });
    }
    document.documentElement.classList.add("cards");
  };
  phone.addEventListener("change", label);
  label();
  const open = () => {
    let part = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    part?.querySelector("details")?.setAttribute("open", "");
    for (; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  };
  addEventListener("hashchange", open);
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = Array.from(document.querySelectorAll("details:not([open], .screen, .screen *, .twin)"));
    for (const part of unfolded) part.open = true;
  });
  addEventListener("afterprint", () => { for (const part of unfolded) part.open = false; });
  open();
})();
