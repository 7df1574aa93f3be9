// The address keeps what is shown: #track=minibatch&sort=score&order=descending&q=muon&state=verified.
const form = document.querySelector("form");
const sections = [...document.querySelectorAll("section[data-track]")];
const title = (header) => header.dataset.title;
const read = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

function write(changes) {
  const state = Object.entries({ ...read(), ...changes }).filter(([, value]) => value);
  history.replaceState(null, "", state.length ? `#${new URLSearchParams(state)}` : location.pathname);
  show();
}

// Numbers are sorted from the largest, words and ranks from the first. An empty key sorts last.
function sort(table, name, order) {
  const headers = [...table.tHead.rows[0].cells];
  const column = headers.findIndex((header) => title(header) === name);
  for (const header of headers) header.ariaSort = "none";
  const rows = [...table.tBodies[0].rows].sort((a, b) => a.dataset.position - b.dataset.position);
  if (column >= 0) {
    const key = (row) => row.cells[column].dataset.key;
    const numeric = rows.every((row) => isFinite(key(row)));
    const sign = order === "ascending" ? 1 : -1;
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (numeric ? x - y : x.localeCompare(y, undefined, { numeric: true }));
    });
    headers[column].ariaSort = order;
  }
  table.tBodies[0].append(...rows);
}

function show() {
  const state = { track: "", q: "", state: "", sort: "", order: "descending", ...read() };
  for (const field of ["track", "q", "state"]) form.elements[field].value = state[field];
  for (const section of sections) {
    section.hidden = state.track !== "" && section.dataset.track !== state.track;
    const table = section.querySelector("table");
    for (const row of table.tBodies[0].rows) {
      row.hidden =
        !row.dataset.name.includes(state.q.toLowerCase()) ||
        (state.state !== "" && row.dataset.state !== state.state);
    }
    section.querySelector(".empty").hidden = [...table.tBodies[0].rows].some((row) => !row.hidden);
    sort(table, state.sort, state.order);
  }
}

for (const section of sections) {
  for (const [position, row] of [...section.querySelectorAll("tbody tr")].entries()) {
    row.dataset.position = position;
  }
  for (const header of section.querySelectorAll("thead th")) {
    header.querySelector("button").addEventListener("click", () => {
      const words = ["optimizer", "rank", "rank range", "state"].includes(title(header));
      const [first, second] = words ? ["ascending", "descending"] : ["descending", "ascending"];
      write({ sort: title(header), order: header.ariaSort === first ? second : first });
    });
  }
}
form.hidden = false;
form.addEventListener("input", (event) => write({ [event.target.name]: event.target.value }));
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => write({ track: "", q: "", state: "", sort: "", order: "" }));
addEventListener("hashchange", show);
show();

{% include "frames.js" %}
