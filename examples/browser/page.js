// The page: questions go to the worker, and the newest answer is shown.
const [query, state, list] = ['query', 'state', 'matches'].map((id) => document.getElementById(id));
const worker = new Worker('worker.js', { type: 'module' });
let asked = 0;

worker.addEventListener('message', ({ data }) => {
  if (data.error) state.textContent = `The matcher could not be loaded: ${data.error}`;
  if (data.ready) {
    state.textContent = `${data.ready.texts} questions, ready after ${(data.ready.milliseconds / 1000).toFixed(1)} s`;
    query.disabled = false;
    query.focus();
  }
  // An answer to an earlier letter is out of date.
  if (data.matches && data.number === asked) show(data);
});
worker.addEventListener('error', (event) => {
  state.textContent = `The matcher could not be started: ${event.message}`;
});
query.addEventListener('input', () => {
  asked += 1;
  worker.postMessage({ number: asked, text: query.value });
});

function show({ matches, threshold, milliseconds }) {
  list.replaceChildren(...matches.map(({ text, score }) => {
    const item = document.createElement('li');
    const words = document.createElement('span');
    words.textContent = text;
    item.append(words, `${Math.round(score * 100)}%`);
    item.classList.toggle('match', score >= threshold);
    return item;
  }));
  const best = matches.length && matches[0].score >= threshold;
  state.textContent = matches.length ? `${best ? 'Answered' : 'No entry means the same'}, ${Math.round(milliseconds)} ms` : '';
}

navigator.serviceWorker?.register('offline.js');
