// What we export, in the real llama.cpp: the same greedy tokens, the same probabilities.
//   node llama_cpp.mjs MOIETY NPM_DIR MODEL…     NPM_DIR holds node_modules/node-llama-cpp
// Every MODEL (anything moiety opens) is converted to GGUF in f32 and run by both. A .gguf file is run as it is; llama.cpp rounds
// the activations that meet quantised weights, so that only probabilities are compared, and less strictly. Exits 0 if all agree.
import {execFileSync} from "node:child_process";
import {mkdtempSync, readFileSync, rmSync} from "node:fs";
import {tmpdir} from "node:os";
import {join, resolve} from "node:path";
import {pathToFileURL} from "node:url";

const [moiety, npm, ...models] = process.argv.slice(2);
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(resolve(npm, "node_modules/node-llama-cpp/dist/index.js")));
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error});

const kPrompt = 12, kNew = 24, kLargestDifference = 2e-3, kMeanQuantised = 0.03;
const run = (...args) => execFileSync(moiety, args, {encoding: "utf8", stdio: ["ignore", "pipe", "inherit"]});

// Greedy tokens and each step's probabilities, by llama.cpp.
async function llamaCpp(file, prompt) {
  const model = await llama.loadModel({modelPath: file});
  const context = await model.createContext({contextSize: 128, threads: 1, flashAttention: false});
  const sequence = context.getSequence();
  const tokens = [], probabilities = [];
  let next = prompt;
  while (tokens.length < kNew) {
    const wanted = {generateNext: {token: true, probabilities: true}};
    const steps = await sequence.controlledEvaluate(next.map((t, i) => (i === next.length - 1 ? [t, wanted] : t)));
    const step = steps[next.length - 1].next;
    probabilities.push(step.probabilities);
    const best = [...step.probabilities.entries()].sort((a, b) => b[1] - a[1] || a[0] - b[0])[0][0];
    tokens.push(best);
    next = [best];
  }
  await context.dispose();
  await model.dispose();
  return {tokens, probabilities};
}

// The rows of a .npy file of f32 [T, V] as probabilities.
function readProbabilities(path) {
  const bytes = readFileSync(path);
  const header = bytes.toString("latin1", 10, 10 + bytes.readUInt16LE(8));
  const [rows, cols] = header.match(/\((\d+), (\d+)/).slice(1).map(Number);
  const start = 10 + bytes.readUInt16LE(8), result = [];
  for (let r = 0; r < rows; r++) {
    const logits = Array.from({length: cols}, (_, c) => bytes.readFloatLE(start + 4 * (r * cols + c)));
    const most = Math.max(...logits), sum = logits.reduce((s, x) => s + Math.exp(x - most), 0);
    result.push(logits.map((x) => Math.exp(x - most) / sum));
  }
  return result;
}

let failures = 0;
const folder = mkdtempSync(join(tmpdir(), "moiety-llama-cpp-"));
try {
  for (const model of models) {
    const quantised = model.endsWith(".gguf");
    const file = quantised ? model : join(folder, "model.gguf"), logits = join(folder, "logits.npy");
    if (!quantised) console.log(run("convert", model, file, "--type", "f32").trim());
    const vocabulary = JSON.parse(run("inspect", file, "--json")).spec.vocab_size;
    const prompt = Array.from({length: kPrompt}, (_, i) => (i * 37 + 11) % vocabulary);
    const theirs = await llamaCpp(file, prompt);
    const ours = JSON.parse(run("generate", file, "--tokens", prompt.join(","), "-n", String(kNew), "--greedy", "--exact", "--json"));

    run("logits", file, "--tokens", [...prompt, ...theirs.tokens].join(","), "--exact", "--out", logits);
    const probabilities = readProbabilities(logits);
    const differences = theirs.probabilities.map((step, i) =>
      Math.max(...[...step].map(([token, p]) => Math.abs(p - probabilities[kPrompt - 1 + i][token]))));
    const largest = Math.max(...differences);
    const same = JSON.stringify(ours.tokens) === JSON.stringify(theirs.tokens);
    if (quantised) {
      // A token that two experts are equally good for may go another way: one step says little.
      const mean = differences.reduce((sum, x) => sum + x, 0) / differences.length;
      console.log(`${model}: probabilities differ by ${mean.toExponential(1)} in the mean, at most ${largest.toExponential(1)}`);
      if (!(mean < kMeanQuantised)) failures++;
      continue;
    }
    console.log(`${model}: greedy tokens ${same ? "the same" : "DIFFER"}, probabilities differ by at most ${largest.toExponential(1)}`);
    if (!same) console.log(`  ours   ${ours.tokens}\n  theirs ${theirs.tokens}`);
    // A near tie between experts may go another way for a token, and what a model was trained on changes with the text around here:
    // most steps must agree.
    const usual = differences.toSorted((a, b) => a - b)[Math.floor(0.75 * (differences.length - 1))];
    if (!same || !(usual < kLargestDifference)) failures++;
  }
} finally {
  rmSync(folder, {recursive: true, force: true});
}
process.exit(failures === 0 ? 0 : 1);
