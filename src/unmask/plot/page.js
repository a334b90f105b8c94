"use strict";
// All that a page's script does; without it everything is there, in the order of the file.

// Which arms the plots show: a box beside each name of a legend, of all plots of the page together.
const CROWD = 8;
const boxes = [...document.querySelectorAll(".legend input")];

function redraw(figure) {
  const own = boxes.filter((box) => figure.contains(box));
  for (const box of own)
    for (const group of figure.querySelectorAll(`g[data-arm="${box.dataset.arm}"]`))
      group.classList.toggle("away", !box.checked);
  figure.classList.toggle("crowded", own.filter((box) => box.checked).length > CROWD);
}

function show(names, shown) {
  for (const box of boxes) if (names.includes(box.value)) box.checked = shown;
  document.querySelectorAll("figure").forEach(redraw);
}

function stress(entry, on) {
  const figure = entry.closest("figure");
  const arm = entry.querySelector("input").dataset.arm;
  figure.classList.toggle("one", on);
  for (const group of figure.querySelectorAll(`g[data-arm="${arm}"]`))
    group.classList.toggle("this", on);
}

function button(label, press) {
  const made = document.createElement("button");
  made.type = "button";
  made.append(...[label].flat());
  made.addEventListener("click", press);
  return made;
}

for (const box of boxes) {
  box.hidden = false;
  box.addEventListener("change", () => show([box.value], box.checked));
  const entry = box.closest("li");
  entry.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && stress(entry, true));
  entry.addEventListener("pointerleave", () => stress(entry, false));
}
for (const legend of document.querySelectorAll(".legend")) {
  const names = [...legend.querySelectorAll("input")].map((box) => box.value);
  if (names.length < 4) continue;
  const line = document.createElement("p");
  line.className = "choose";
  line.append(
    "Show ", button("all", () => show(names, true)),
    button("none", () => show(names, false)), " or choose below; the choice is of all plots.",
  );
  legend.before(line);
}

// Tables that are sorted by a click on a heading: one way, the other way, as they were.
function sortable(table) {
  const many = table.tBodies.length > 1; // a recipe has several rows: they stay together
  const units = [...(many ? table.tBodies : table.tBodies[0].rows)];
  const parent = units[0].parentNode;
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    if (!heading.dataset.sort) return;
    const first = heading.dataset.sort;
    const other = first === "ascending" ? "descending" : "ascending";
    const key = (unit) => (many ? unit.rows[0] : unit).cells[column].dataset.value ?? "";
    const press = () => {
      const now = heading.getAttribute("aria-sort");
      const next = now === first ? other : now === other ? null : first;
      headings.forEach((each) => each.removeAttribute("aria-sort"));
      if (next) heading.setAttribute("aria-sort", next);
      const titles = units.filter((unit) => unit.classList.contains("group"));
      titles.forEach((unit) => (unit.hidden = Boolean(next)));
      const rows = units.filter((unit) => !titles.includes(unit));
      const numbers = rows.every((unit) => !Number.isNaN(Number(key(unit))));
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === ""); // what is not known stands last
        const order = numbers ? x - y : x.localeCompare(y, "en", { numeric: true });
        return next === "ascending" ? order : -order;
      };
      parent.append(...(next ? [...titles, ...rows.sort(compare)] : units));
    };
    heading.append(button([...heading.childNodes], press));
  });
}
document.querySelectorAll("table.sortable").forEach(sortable);
