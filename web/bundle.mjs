// One HTML file of web/src and the libraries in FOLDER/node_modules; web/build.sh says what for.
//   node bundle.mjs FOLDER
import {createHash} from "node:crypto";
import {existsSync, readFileSync, writeFileSync} from "node:fs";
import {createRequire} from "node:module";
import {dirname, join, resolve} from "node:path";
import {fileURLToPath} from "node:url";
import {gzipSync} from "node:zlib";

const kMostBytes = 90e3;  // compressed
const folder = resolve(process.argv[2]);
const sources = join(dirname(fileURLToPath(import.meta.url)), "src");
const esbuild = createRequire(join(folder, "/"))("esbuild");

// The licences of what is bundled, as text that the page shows.
const libraries = Object.keys(JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).dependencies);
const notices = libraries.map((name) => {
  const {version, license} = JSON.parse(readFileSync(join(folder, "node_modules", name, "package.json"), "utf8"));
  const file = ["LICENSE", "LICENSE.md"].map((each) => join(folder, "node_modules", name, each)).find(existsSync);
  return `${name} ${version} (${license})\n\n${readFileSync(file, "utf8").trim()}`;
}).join("\n\n────────\n\n");

async function bundled(entry) {
  const built = await esbuild.build({
    entryPoints: [join(sources, entry)], bundle: true, minify: true, write: false, format: "iife", target: "es2022",
    nodePaths: [join(folder, "node_modules")], charset: "utf8", legalComments: "none", logLevel: "warning",
    define: {NOTICES: JSON.stringify(notices)},
  });
  return built.outputFiles[0].text.trim();
}

const style = await bundled("style.css"), script = await bundled("main.js");
const html = readFileSync(join(sources, "index.html"), "utf8")
  .replace("<!--style-->", () => `<style>${style}</style>`)
  .replace("<!--script-->", () => `<script>${script}</script>`);
const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
const policy = [
  "default-src 'none'", `script-src ${hash(script)}`, `style-src ${hash(style)}`, "img-src data:", "connect-src 'self'",
  "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types dompurify",
].join("; ");

const compressed = gzipSync(html, {level: 9});
if (compressed.length > kMostBytes) {
  console.error(`bundle: the page has ${compressed.length} bytes compressed, more than ${kMostBytes}`);
  process.exit(1);
}
writeFileSync(join(folder, "page.csp"), policy);
writeFileSync(join(folder, "page.html.gz"), compressed);
writeFileSync(join(folder, "page.html"), html);
console.log(`${join(folder, "page.html")}: ${html.length} bytes, ${compressed.length} compressed`);
