// Puts the page, the module, its packages and a matcher into one folder that any web server can serve.
// node examples/browser/prepare.mjs MATCHER FAQ.txt SITE
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const [matcher, faq, site] = process.argv.slice(2);
if (!site) {
  console.error('usage: node prepare.mjs MATCHER FAQ.txt SITE');
  process.exit(2);
}
const here = dirname(fileURLToPath(import.meta.url));
const javascript = join(here, '..', '..', 'runtimes', 'javascript');
const packages = join(javascript, 'node_modules');
const copied = [
  ...['index.html', 'page.css', 'page.js', 'worker.js'].map((name) => [join(here, name), name]),
  ...readdirSync(join(javascript, 'src')).filter((name) => name.endsWith('.js')).map((name) => [join(javascript, 'src', name), `flipkd/${name}`]),
  ...['ort.wasm.bundle.min.mjs', 'ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm']
    .map((name) => [join(packages, 'onnxruntime-web', 'dist', name), `vendor/${name}`]),
  [join(packages, '@huggingface', 'tokenizers', 'dist', 'tokenizers.min.mjs'), 'vendor/tokenizers.min.mjs'],
  ...readdirSync(matcher).map((name) => [join(matcher, name), `matcher/${name}`]),
];
for (const [from, name] of copied) {
  mkdirSync(dirname(join(site, name)), { recursive: true });
  cpSync(from, join(site, name));
}
const questions = readFileSync(faq, 'utf-8').split('\n').map((line) => line.trim()).filter(Boolean);
writeFileSync(join(site, 'faq.json'), JSON.stringify(questions));

const names = ['./', ...copied.map(([, name]) => name), 'faq.json'];
const hash = createHash('sha256');
for (const name of names.slice(1)) hash.update(name).update(readFileSync(join(site, name)));
const offline = readFileSync(join(here, 'offline.js'), 'utf-8')
  .replace("'development'", `'${hash.digest('hex').slice(0, 16)}'`)
  .replace('FILES = []', `FILES = ${JSON.stringify(names)}`);
writeFileSync(join(site, 'offline.js'), offline);
console.log(`${names.length} files in ${relative('.', site) || '.'}; serve them: python -m http.server --directory ${site}`);
