"use strict";
// Filter the rows of a table by words and by each column whose values repeat. The address has the
// filter, as in claims.html#part=kl&words=prior. What was once on the page itself, such as
// claims.html#kl-closed-form, is found on the page that its row links to.

/** Return the values of each column in which a value has ten rows or more on average, by name. */
function choices(names, rows) {
  const columns = names.map((name, i) => [name, [...new Set(rows.map((row) => row[i]))]]);
  return Object.fromEntries(columns.filter(([, values]) => 10 * values.length <= rows.length));
}

/** Return whether a row has every word, and the chosen value of every column; "" chooses all. */
function matches(names, row, { words, ...chosen }) {
  const text = row.join(" ").toLowerCase();
  return (
    words.toLowerCase().split(/\s+/).every((word) => text.includes(word)) &&
    names.every((name, i) => !chosen[name] || chosen[name] === row[i])
  );
}

/** Return a filter, without what chooses all, as it stands in the address. */
function written(filter) {
  return String(new URLSearchParams(Object.entries(filter).filter(([, value]) => value)));
}

function install(table) {
  const cells = (row) => [...row.cells].map((cell) => cell.textContent.trim());
  const names = cells(table.tHead.rows[0]);
  const rows = [...table.tBodies[0].rows];
  const texts = rows.map(cells);

  const form = document.createElement("form");
  form.className = "filter-form";
  form.setAttribute("role", "search");
  const add = (name, control) => {
    const label = form.appendChild(document.createElement("label"));
    control.name = name;
    label.append(name, control);
  };
  add("words", Object.assign(document.createElement("input"), { type: "search" }));
  for (const [name, values] of Object.entries(choices(names, texts))) {
    const select = document.createElement("select");
    select.append(new Option("all", ""), ...values.map((value) => new Option(value)));
    add(name, select);
  }
  const count = form.appendChild(document.createElement("output"));
  count.setAttribute("aria-live", "polite");
  const index = document.createElement("div");
  table.parentElement.before(index);
  index.append(form, table.parentElement);

  const show = () => {
    const filter = Object.fromEntries(new FormData(form));
    rows.forEach((row, i) => (row.hidden = !matches(names, texts[i], filter)));
    const shown = rows.filter((row) => !row.hidden).length;
    count.value = `${shown} of ${rows.length} ${names[0]}s`;
    return filter;
  };
  const restore = () => {
    const filter = new URLSearchParams(location.hash.slice(1));
    for (const control of form.querySelectorAll("input, select")) {
      control.value = filter.get(control.name) ?? "";
      if (control.selectedIndex < 0) control.value = "";
    }
    show();
  };
  const follow = () => {
    const links = location.hash ? [...table.querySelectorAll("a")] : [];
    const moved = links.find(({ hash }) => hash === location.hash);
    if (moved) location.replace(moved.href);
    else restore();
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => history.replaceState(null, "", `#${written(show())}`));
  window.addEventListener("hashchange", follow);
  follow();
}

if (typeof module === "undefined") document.querySelectorAll("table.filter").forEach(install);
else module.exports = { choices, matches, written };
