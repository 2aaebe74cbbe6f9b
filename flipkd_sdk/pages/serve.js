"use strict";
// The server returns explanations as markup with every text escaped; the page's policy admits no other script.
const field = (name) => document.getElementById(name);

async function ask(path, body) {
  const headers = { "Content-Type": "application/json" };
  const key = field("api-key").value;
  if (key) headers.Authorization = `Bearer ${key}`;
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error.message);
  return found;
}

function list(matches) {
  const items = matches.map((match) => {
    const item = document.createElement("li"), text = document.createElement("bdi");
    text.textContent = match.text;
    item.append(`${match.score.toFixed(3)} `, text);
    return item;
  });
  const ordered = document.createElement("ol");
  ordered.append(...items);
  return ordered;
}

const forms = {
  key: async (box) => { box.textContent = "Sent with every request from now on."; },
  pair: async (box) => { box.innerHTML = (await ask("/explain", { a: field("a").value, b: field("b").value })).html; },
  rank: async (box) => { box.replaceChildren(list((await ask("/rank", { query: field("query").value })).matches)); },
};

for (const form of document.querySelectorAll("form")) {
  const name = form.dataset.form, box = document.querySelector(`[data-result="${name}"]`);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    box.setAttribute("aria-busy", "true");
    try {
      await forms[name](box);
    } catch (error) {
      box.textContent = `Not done: ${error.message}`;
    }
    box.setAttribute("aria-busy", "false");
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}
