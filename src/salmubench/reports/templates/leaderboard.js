// Shows the tables of one track and the rows of one failure mode, tuning or state; the bounds stay where rows are left.
const wanted = Object.fromEntries([...document.querySelectorAll(".filters select")].map((s) => [s.name, s]));
function filter() {
  let count = 0;
  for (const board of document.querySelectorAll("section.board")) {
    const fits = (name) => wanted[name].value === "" || board.dataset[name].split(" ").includes(wanted[name].value);
    let left = 0;
    for (const row of board.querySelectorAll("tbody.methods tr")) {
      const modes = row.dataset.modes.split(",");
      const shown =
        (wanted.mode.value === "" || modes.includes(wanted.mode.value)) &&
        (wanted.state.value === "" || row.dataset.state === wanted.state.value);
      row.hidden = !shown;
      left += shown;
    }
    board.hidden = !(fits("track") && fits("tuning") && left > 0);
    count += board.hidden ? 0 : left;
  }
  document.querySelector(".filters output").textContent = count === 1 ? "1 row" : `${count} rows`;
}
for (const select of Object.values(wanted)) select.addEventListener("change", filter);
filter();
