"use strict";
// Only comfort: every number below is in the page without this.
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
tip.setAttribute("aria-hidden", "true");
document.body.append(tip);

const text = (element) => element.textContent.trim();

// The tensor of a cell, from its column's headers and its row's.
function nameOf(cell) {
  const table = cell.closest("table");
  const columns = table.columnNames ??= columnNames(table);
  return text(cell.parentNode.cells[0]) + " \u00b7 " + columns[cell.cellIndex];
}

function columnNames(table) {
  const names = [""];
  const nested = table.tHead.rows[1] ? [...table.tHead.rows[1].cells] : [];
  for (const head of [...table.tHead.rows[0].cells].slice(1)) {
    if (head.scope !== "colgroup") names.push(text(head));
    else for (let i = 0; i < head.colSpan; i++) names.push(text(head) + "." + text(nested.shift()));
  }
  return names;
}

// Generated ids are right or wrong, and have no limit.
const said = (cell, times) => (cell.matches(".ids") ? text(cell) : `${text(cell)} ${times} limit`);

function show(cell) {
  // A title would show a second, slower tooltip on top of this one.
  if (cell.title) {
    cell.dataset.numbers = cell.title;
    cell.setAttribute("aria-label", `${nameOf(cell)}: ${said(cell, "of the")}; ${cell.title}`);
    cell.removeAttribute("title");
  }
  if (!cell.dataset.numbers) return hide();
  const name = document.createElement("b");
  name.textContent = `${nameOf(cell)}: ${said(cell, "\u00d7")}`;
  tip.replaceChildren(name, cell.dataset.numbers);
  tip.hidden = false;
  const box = cell.getBoundingClientRect();
  const left = Math.min(box.left, innerWidth - tip.offsetWidth - 8);
  const below = box.bottom + 6 + tip.offsetHeight < innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = below ? `${box.bottom + 6}px` : `${box.top - tip.offsetHeight - 6}px`;
}

function hide() {
  tip.hidden = true;
}

for (const table of document.querySelectorAll("table.grid")) {
  table.addEventListener("mouseover", (event) => {
    const cell = event.target.closest("td[title], td[data-numbers]");
    cell ? show(cell) : hide();
  });
  table.addEventListener("mouseleave", hide);
  table.addEventListener("focusin", (event) => event.target.matches("td") && show(event.target));
  table.addEventListener("focusout", hide);
}

// From a grid, which has the Tab key's one stop, arrow keys walk through its cells.
const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") return hide();
  const step = STEPS[event.key];
  const region = event.target.closest?.("[role=region]");
  const table = region?.querySelector("table.grid");
  if (!step || !table || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const rows = [...table.tBodies[0].rows];
  const at = event.target.closest("td");
  let row = at ? rows.indexOf(at.parentNode) : 0;
  let column = at ? at.cellIndex : 1;
  if (at) [row, column] = [row + step[0], column + step[1]];
  // Cells without a tensor are stepped over.
  while (rows[row]?.cells[column] && !text(rows[row].cells[column])) {
    row += step[0];
    column += at ? step[1] : 1;
    if (!at) row = 0;
  }
  const next = rows[row]?.cells[column];
  if (!next || column < 1) return;
  next.tabIndex = -1;
  next.focus();
});

// What is folded away would not be printed.
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
});
