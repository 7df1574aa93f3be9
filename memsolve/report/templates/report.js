// A click on a title sorts by its column: numbers from the largest, words from A. A second click
// reverses the order. The sort key of a cell is its data-key; an empty key sorts last.
for (const table of document.querySelectorAll("table")) {
  const titles = [...table.tHead.rows[0].cells];
  for (const [column, title] of titles.entries()) {
    const key = (row) => row.cells[column].dataset.key;
    title.querySelector("button").addEventListener("click", () => {
      const rows = [...table.tBodies[0].rows];
      const numeric = rows.every((row) => isFinite(key(row)));
      const [first, second] = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
      const order = title.ariaSort === first ? second : first;
      const sign = order === "ascending" ? 1 : -1;
      rows.sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        return sign * (numeric ? x - y : x.localeCompare(y, undefined, { numeric: true }));
      });
      table.tBodies[0].append(...rows);
      for (const other of titles) other.ariaSort = other === title ? order : "none";
    });
  }
}
