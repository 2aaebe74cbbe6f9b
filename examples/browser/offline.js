// Keeps every file of the page, so that it opens without a network. prepare.mjs puts the content's hash into VERSION.
const VERSION = 'development';
const FILES = [];

addEventListener('install', (event) => {
  event.waitUntil(caches.open(VERSION).then((cache) => cache.addAll(FILES)).then(() => skipWaiting()));
});
addEventListener('activate', (event) => {
  const older = async () => (await caches.keys()).filter((name) => name !== VERSION);
  event.waitUntil(older().then((names) => Promise.all(names.map((name) => caches.delete(name)))).then(() => clients.claim()));
});
addEventListener('fetch', (event) => {
  if (event.request.method !== 'GET') return;
  event.respondWith(caches.match(event.request, { ignoreSearch: true }).then((kept) => kept ?? fetch(event.request)));
});
