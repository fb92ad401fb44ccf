// Sorts the methods of a table by a column; the bounds stay on top. A second click turns the order round.
for (const button of document.querySelectorAll("th button[data-column]")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const body = head.closest("table").querySelector("tbody.methods");
    const up = head.getAttribute("aria-sort") !== "ascending";
    const place = Number(button.dataset.column);
    const key = (row) => row.cells[place].dataset.value;
    const order = (a, b) => (isNaN(key(a)) || isNaN(key(b)) ? key(a).localeCompare(key(b)) : key(a) - key(b));
    const rows = [...body.rows];
    const known = rows.filter((row) => key(row) !== "").sort((a, b) => (up ? order(a, b) : order(b, a)));
    body.append(...known, ...rows.filter((row) => key(row) === ""));
    for (const other of head.closest("thead").querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
  });
}
// Copies the table as text. A page from disk may lack the clipboard's interface; the old command needs a shown field.
for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const field = document.getElementById(button.dataset.copy);
    const said = document.querySelector(".said");
    try {
      await navigator.clipboard.writeText(field.value);
      said.textContent = "Copied.";
    } catch {
      field.hidden = false;
      field.select();
      said.textContent = document.execCommand("copy") ? "Copied." : "Copy the marked text.";
      field.hidden = said.textContent === "Copied.";
    }
  });
}
