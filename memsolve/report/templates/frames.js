// Show a shadow at each edge of a table that hides columns, and a hint to scroll.
for (const frame of document.querySelectorAll(".frame")) {
  const update = () => {
    const hidden = frame.scrollWidth - frame.clientWidth;
    frame.classList.toggle("left", frame.scrollLeft > 1);
    frame.classList.toggle("right", frame.scrollLeft < hidden - 1);
    frame.previousElementSibling.hidden = hidden <= 1;
  };
  const observer = new ResizeObserver(update);
  for (const element of [frame, frame.firstElementChild]) observer.observe(element);
  frame.addEventListener("scroll", update);
  update();
}
