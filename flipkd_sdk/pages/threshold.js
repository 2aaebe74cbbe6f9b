"use strict";
// The page contains the counts at each position of the slider, so the script needs neither scores nor texts.
for (const box of document.querySelectorAll("[data-counts]")) {
  const counts = JSON.parse(box.dataset.counts);
  const part = (name) => box.querySelector(`[data-part="${name}"]`);
  const slider = part("slider"), mark = box.querySelector("line[data-low]");
  const low = Number(mark.dataset.low), high = Number(mark.dataset.high);
  const integer = new Intl.NumberFormat("en");
  const amount = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
  const percent = (hits, all) => `${(all ? (100 * hits) / all : 0).toFixed(1)}%`;
  const price = (name) => (part(name).value === "" ? NaN : Number(part(name).value));

  const cost = (i) => price("cost-false") * counts.false[i] + price("cost-missed") * (counts.matches - counts.found[i]);

  // Of equal costs the one nearest to the threshold in use wins.
  function cheapest() {
    let best = counts.start;
    const distance = (i) => Math.abs(i - counts.start);
    for (let i = 0; i < counts.thresholds.length; i += 1) {
      if (cost(i) < cost(best) || (cost(i) === cost(best) && distance(i) < distance(best))) best = i;
    }
    return best;
  }

  function costText(i) {
    const prices = [price("cost-false"), price("cost-missed")];
    if (!prices.every((value) => value >= 0 && Number.isFinite(value))) return "Enter two costs of 0 or more.";
    const best = cheapest();
    const here = `These errors cost ${amount.format(cost(i))}, or ` +
      `${amount.format((1000 * cost(i)) / (counts.matches + counts.others))} in 1,000 pairs.`;
    if (cost(best) === cost(i)) return `${here} No other threshold costs less on these pairs.`;
    return `${here} The lowest cost on these pairs is ${amount.format(cost(best))}, at the threshold ` +
      `${counts.thresholds[best].toFixed(4)}.`;
  }

  function show() {
    const i = Number(slider.value), threshold = counts.thresholds[i].toFixed(4);
    const found = counts.found[i], wrong = counts.false[i];
    const cells = { found, missed: counts.matches - found, false: wrong, rejected: counts.others - wrong };
    for (const [name, count] of Object.entries(cells)) part(name).textContent = integer.format(count);
    part("precision").textContent = percent(found, found + wrong);
    part("recall").textContent = percent(found, counts.matches);
    part("accuracy").textContent = percent(found + cells.rejected, counts.matches + counts.others);
    part("value").textContent = threshold;
    part("cost").textContent = costText(i);
    slider.setAttribute("aria-valuetext", threshold);
    const place = low + counts.thresholds[i] * (high - low);
    mark.setAttribute("x1", place);
    mark.setAttribute("x2", place);
  }

  function go(i) {
    slider.value = i;
    show();
  }

  slider.max = counts.thresholds.length - 1;
  slider.addEventListener("input", show);
  part("cost-false").addEventListener("input", show);
  part("cost-missed").addEventListener("input", show);
  part("reset").addEventListener("click", () => go(counts.start));
  part("cheapest").addEventListener("click", () => go(cheapest()));
  part("controls").hidden = false;
  go(counts.start);
}
