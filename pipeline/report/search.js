"use strict";
// Sorts and filters the hits of each list; without it the page shows all of them, best first.
const form = document.getElementById("choose");
const lists = [...document.querySelectorAll(".hits")].map((list) => ({ list, hits: [...list.children] }));
const number = (text) => (text === "" ? Infinity : Number(text));
const orders = {
  similarity: (a, b) => Number(b.dataset.score) - Number(a.dataset.score),
  time: (a, b) => number(a.dataset.time) - number(b.dataset.time) || 0,
  camera: (a, b) =>
    (a.dataset.camera === "") - (b.dataset.camera === "") ||
    a.dataset.camera.localeCompare(b.dataset.camera, "en", { numeric: true }),
};
function apply() {
  const { sort, camera, identity, least } = Object.fromEntries(new FormData(form));
  const lowest = least === "" ? -Infinity : Number(least);
  let shown = 0;
  let all = 0;
  for (const { list, hits } of lists) {
    // Stable: hits that are equal keep the order of their ranks.
    for (const hit of [...hits].sort(orders[sort])) {
      const { dataset } = hit;
      hit.hidden =
        (camera !== "" && camera !== `=${dataset.camera}`) ||
        (identity !== "" && identity !== `=${dataset.identity}`) ||
        Number(dataset.score) < lowest;
      all += 1;
      shown += hit.hidden ? 0 : 1;
      list.append(hit);
    }
  }
  document.getElementById("shown").textContent = `${shown} of ${all} hits shown`;
}
form.addEventListener("input", apply);
form.addEventListener("reset", () => setTimeout(apply));
form.addEventListener("submit", (event) => event.preventDefault());
form.hidden = false;
apply();
