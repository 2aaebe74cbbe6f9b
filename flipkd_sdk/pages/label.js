"use strict";
// Explanations arrive as markup with every text escaped; texts without one are set as text.
const part = (name) => document.querySelector(`[data-part="${name}"]`);
const token = new URLSearchParams(location.search).get("token");
const keys = { m: "match", n: "none", u: "unsure", z: "undo" };
let row = null, busy = false;

function plain(pair) {
  const both = document.createElement("div");
  both.className = "pair";
  for (const text of [pair.a, pair.b]) {
    const line = document.createElement("p"), own = document.createElement("bdi");
    own.dir = "auto";
    own.textContent = text;
    line.append(own);
    both.append(line);
  }
  return both;
}

function show(state) {
  row = state.pair === null ? null : state.pair.row;
  if (state.pair === null) part("pair").textContent = "All pairs are labelled.";
  else if (state.pair.html) part("pair").innerHTML = state.pair.html;
  else part("pair").replaceChildren(plain(state.pair));
  part("progress").replaceChildren(...state.progress.map((line) => {
    const text = document.createElement("p");
    text.textContent = line;
    return text;
  }));
  for (const button of document.querySelectorAll("[data-answer]")) {
    button.disabled = button.dataset.answer === "undo" ? !state.can_undo : row === null;
  }
}

async function ask(path, body) {
  if (busy) return;
  busy = true;
  part("message").textContent = "";
  try {
    const headers = { "Content-Type": "application/json", "X-Token": token };
    const method = path === "/pair" ? "GET" : "POST";
    const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error.message);
    show(found);
  } catch (error) {
    part("message").textContent = `Not saved: ${error.message}`;
  } finally {
    busy = false;
  }
}

function act(name) {
  if (name === "undo") ask("/undo");
  else if (row !== null) ask("/answer", { row, answer: name });
}

for (const button of document.querySelectorAll("[data-answer]")) {
  button.addEventListener("click", () => act(button.dataset.answer));
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const name = keys[event.key.toLowerCase()];
  if (name) act(name);
});
ask("/pair");
