"use strict";
// Each text knows the last position of the slider at which it is in the group of the text above it.
for (const box of document.querySelectorAll(".grouping[data-counts]")) {
  const counts = JSON.parse(box.dataset.counts);
  const part = (name) => box.querySelector(`[data-part="${name}"]`);
  const slider = part("slider");
  const texts = [...document.querySelectorAll(".members [data-joined]")];
  const cards = [...document.querySelectorAll(".groups > li")];
  const last = texts.map((text) => Number(text.dataset.joined));
  const integer = new Intl.NumberFormat("en");
  const plural = (count, one, many) => `${integer.format(count)} ${count === 1 ? one : many}`;

  function show() {
    const i = Number(slider.value), threshold = counts.thresholds[i].toFixed(4);
    texts.forEach((text, k) => {
      const apart = last[k] < i;
      text.classList.toggle("apart", apart);
      text.querySelector("strong").hidden = !apart;
    });
    const split = cards.filter((card) => card.querySelector(".members:not([data-next]) .apart")).length;
    const joined = cards.filter((card) => card.querySelector(".members[data-next] > li:first-child:not(.apart)")).length;
    part("value").textContent = threshold;
    slider.setAttribute("aria-valuetext", threshold);
    part("counts").textContent = `${plural(counts.groups[i], "group", "groups")}, ` +
      `${integer.format(counts.several[i])} of several rows, the largest of ${integer.format(counts.largest[i])}. ` +
      `Of the groups shown below, ${integer.format(split)} split and ${integer.format(joined)} join another one.`;
  }

  function go(i) {
    slider.value = i;
    show();
  }

  // The next position that changes a text shown on the page, else the end of the slider.
  function step(kind) {
    const i = Number(slider.value);
    if (kind === "join") return Math.max(0, ...last.filter((place) => place < i));
    return Math.min(counts.thresholds.length - 1, ...last.filter((place) => place >= i).map((place) => place + 1));
  }

  slider.addEventListener("input", show);
  for (const button of box.querySelectorAll("[data-go]")) button.addEventListener("click", () => go(button.dataset.go));
  for (const button of box.querySelectorAll("[data-step]"))
    button.addEventListener("click", () => go(step(button.dataset.step)));
  part("controls").hidden = false;
  go(counts.start);
}
