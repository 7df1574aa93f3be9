// A click on a title sorts by its column: numbers from the largest, words from A; again, reversed.
for (const table of document.querySelectorAll("table")) {
  const titles = [...table.tHead.rows[0].cells];
  for (const [column, title] of titles.entries()) {
    const key = (row) => row.cells[column].dataset.key;
    title.querySelector("button").addEventListener("click", () => {
      const rows = [...table.tBodies[0].rows];
      const numbers = rows.every((row) => isFinite(key(row)));
      const [first, second] = numbers ? ["descending", "ascending"] : ["ascending", "descending"];
      const order = title.ariaSort === first ? second : first;
      const sign = order === "ascending" ? 1 : -1;
      rows.sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === ""); // the unknown is last
        return sign * (numbers ? x - y : x.localeCompare(y));
      });
      table.tBodies[0].append(...rows);
      for (const other of titles) other.ariaSort = other === title ? order : "none";
    });
  }
}

// Which edges of a table hide columns.
for (const frame of document.querySelectorAll(".frame")) {
  const look = () => {
    const hidden = frame.scrollWidth - frame.clientWidth;
    frame.classList.toggle("left", frame.scrollLeft > 1);
    frame.classList.toggle("right", frame.scrollLeft < hidden - 1);
    frame.previousElementSibling.hidden = hidden <= 1;
  };
  const sizes = new ResizeObserver(look);
  for (const sized of [frame, frame.firstElementChild]) sizes.observe(sized);
  frame.addEventListener("scroll", look);
  look();
}
