// Our tokenizers against Hugging Face's library, over strings and tokenizers that chance makes.
//   node fuzz_tokenizers.mjs MOIETY NPM_DIR [--seconds N] [--seed S] [tokenizer.json…]
// NPM_DIR holds node_modules with `tokenizers`, the library itself. With files, random texts go through them; without,
// small tokenizers of every kind are made, with random normalizers, pre-tokenizers and decoders. Ids and decodings must be
// the same. Exits 1 at the first kind of difference, with what shows it.
// Known: the library stops (panics) at a Strip decoder that takes more than a token has, so `stop` is 0 here, and
// at an empty match of Replace. A Metaspace with prepend_scheme "first" puts nothing before a text whose first characters a
// normalizer has removed; ours does. The library, utf8proc and PCRE2 know different versions of Unicode, so texts hold only characters that all of them
// know (assigned in Unicode 14).
import {spawn} from "node:child_process";
import {mkdtempSync, readFileSync, rmSync, writeFileSync} from "node:fs";
import {createRequire} from "node:module";
import {tmpdir} from "node:os";
import {join, resolve} from "node:path";
import {createInterface} from "node:readline";

const options = {seconds: 30, seed: 1}, files = [];
const [moiety, npm, ...rest] = process.argv.slice(2);
for (let i = 0; i < rest.length; i++) {
  if (rest[i].startsWith("--")) options[rest[i].slice(2)] = Number(rest[++i]);
  else files.push(rest[i]);
}
const {Tokenizer} = createRequire(resolve(npm, "node_modules") + "/")("tokenizers");

let state = options.seed >>> 0;
const random = () => {  // mulberry32
  let t = (state = (state + 0x6d2b79f5) >>> 0);
  t = Math.imul(t ^ (t >>> 15), t | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
const below = (n) => Math.floor(random() * n);
const pick = (list) => list[below(list.length)];
const chance = (p) => random() < p;

const kScripts = [[0x20, 0x7f], [0x20, 0x7f], [0xa0, 0x180], [0x300, 0x340], [0x391, 0x3a2], [0x410, 0x450], [0x5d0, 0x5eb],
  [0x627, 0x64b], [0x905, 0x93a], [0xe01, 0xe3b], [0x1100, 0x1113], [0x3041, 0x3097], [0x4e00, 0x4f00], [0xac00, 0xad00],
  [0x1f600, 0x1f640], [0xff01, 0xff5f], [0x2460, 0x2474]];
const kFavourites = [" ", " ", "  ", "\n", "\t", "\r\n", "▁", "▁▁", "é", "e\u0301", "q\u0323\u0307", "ﬁ", "①", "½", "Å", "İ", "ß", "가", "각",
  "\u3000", "\u00a0", "\u200b", "\u200d", "\ufeff", "\u2028", "\ufffd", "\u0000", "\u0007", "\u007f", "👨‍👩‍👧", "🏳️‍🌈", "🇩🇪", "👍🏽", "<0x0A>", "<0xE4>", "<unk>",
  "<s>", "</s>", "<s", "[CLS]", "<|x|>", "<mask>", " <mask> ", "the ", "and", "don't", "##", "</w>", "1234", "3.14", "...", "''", "\u0301"];
const text = () => {
  let out = "";
  for (let left = below(chance(0.1) ? 120 : 25); left >= 0; left--) {
    const [low, high] = pick(kScripts);
    out += chance(0.4) ? pick(kFavourites) : chance(0.5) ? pick(["a", "b", "c", "ab", "bc", "abc"])
                                                         : String.fromCodePoint(low + below(high - low));
  }
  return out;
};

// Small tokenizers
const kWords = ["the", "ab", "bc", "abc", "▁a", "▁ab", "▁the", "▁▁", "▁▁▁▁", "Ġa", "Ġab", "an", "and", "▁and", "er", "12", "é", "中", "文", "中文", "가", "的",
  "🙂", "##a", "##b", "##ab", "##c", "##the", "on", "aa", "aaaa", "a</w>", "b</w>", "ab</w>", "c</w>", "▁1", "...", "ss", "fi"];
const bytes = Array.from({length: 256}, (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, "0")}>`);
const charsmap = () => {  // of a fixture, if sentencepiece's table is there
  try {
    return readFileSync(join(import.meta.dirname, "../fixtures/tokenizers/charsmap.base64"), "utf8").trim();
  } catch {
    return "";
  }
};
const table = charsmap();

const normalizer = () => pick([
  () => ({type: "NFC"}), () => ({type: "NFD"}), () => ({type: "NFKC"}), () => ({type: "NFKD"}), () => ({type: "Lowercase"}),
  () => ({type: "Strip", strip_left: chance(0.5), strip_right: chance(0.5)}), () => ({type: "StripAccents"}), () => ({type: "Nmt"}),
  () => ({type: "Prepend", prepend: "▁"}), () => ({type: "Replace", pattern: {String: " "}, content: "▁"}),
  () => ({type: "Replace", pattern: {Regex: " {2,}"}, content: pick(["▁", " "])}),
  () => ({type: "Replace", pattern: {Regex: pick(["(?<![\\s\\S]) +| +(?![\\s\\S])", "\\s+", "[a-c]"])}, content: pick(["", "x", "ab"])}),
  () => ({type: "BertNormalizer", clean_text: chance(0.5), handle_chinese_chars: chance(0.5), strip_accents: pick([null, true, false]), lowercase: chance(0.5)}),
  ...(table ? [() => ({type: "Precompiled", precompiled_charsmap: table})] : []),
])();
const behavior = () => pick(["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]);
const preTokenizer = () => pick([
  () => ({type: "Split", pattern: pick([{String: " "}, {Regex: "\\s+"}, {Regex: "a|bc"}, {Regex: "\\p{N}{1,3}"}]), behavior: behavior(), invert: chance(0.3)}),
  () => ({type: "Digits", individual_digits: chance(0.5)}), () => ({type: "Punctuation", behavior: behavior()}),
  () => ({type: "Metaspace", replacement: "▁", prepend_scheme: pick(["always", "first", "never"]), split: chance(0.6)}),
  () => ({type: "Whitespace"}), () => ({type: "WhitespaceSplit"}), () => ({type: "BertPreTokenizer"}), () => ({type: "CharDelimiterSplit", delimiter: pick(["a", " ", "é"])}),
])();
const decoder = () => pick([
  () => ({type: "Replace", pattern: {String: pick(["▁", "ab"])}, content: " "}), () => ({type: "ByteFallback"}), () => ({type: "Fuse"}),
  () => ({type: "Strip", content: pick([" ", "a"]), start: below(3), stop: 0}),
  () => ({type: "Metaspace", replacement: "▁", prepend_scheme: pick(["always", "first", "never"]), split: true}),
  () => ({type: "WordPiece", prefix: "##", cleanup: chance(0.5)}), () => ({type: "BPEDecoder", suffix: "</w>"}),
])();
const some = (make, most, key, list) => {
  let steps = Array.from({length: below(most + 1)}, make);
  if (steps.filter((s) => s.type === "Metaspace").length > 1) return null;
  const fuse = steps.findIndex((s) => s.type === "Fuse");
  if (fuse >= 0) steps = steps.filter((s, i) => i < fuse || s.type !== "ByteFallback");
  if (steps.length === 0) return null;
  return steps.length === 1 ? steps[0] : {type: "Sequence", [list]: steps};
};

function makeTokenizer() {
  const letters = [..."abcdefghijklmnopqrstuvwxyz ▁Ġ1234567890.'-é中文가的🙂ß"].filter(() => chance(0.9));
  const words = kWords.filter(() => chance(0.8));
  const fallback = chance(0.5) ? bytes.filter(() => chance(0.998)) : [];
  const tokens = [...new Set(["<unk>", "<s>", "</s>", ...fallback, ...letters, ...words])];
  const added = [["<unk>", true], ["<s>", true], ["</s>", true], ["<|x|>", false], ["<mask>", true]].map(([content, special]) => ({
    id: tokens.includes(content) ? tokens.indexOf(content) : -1, content, special, single_word: chance(0.1), lstrip: chance(0.2),
    rstrip: chance(0.2), normalized: !special && chance(0.5)}));
  let next = tokens.length;
  for (const token of added) if (token.id < 0) token.id = next++;
  const ids = Object.fromEntries(tokens.map((t, i) => [t, i]));
  const model = pick([
    () => {
      const merges = [];
      for (const word of [...words].sort(() => random() - 0.5)) {
        for (let i = 1; i < word.length; i++) {
          if (word.slice(0, i) in ids && word.slice(i) in ids) merges.push([word.slice(0, i), word.slice(i)]);
        }
      }
      const suffix = chance(0.15);
      return {type: "BPE", dropout: null, unk_token: chance(0.8) ? "<unk>" : null, continuing_subword_prefix: null,
        end_of_word_suffix: suffix ? "</w>" : null, fuse_unk: chance(0.5), byte_fallback: fallback.length > 0, ignore_merges: chance(0.2), vocab: ids, merges};
    },
    () => ({type: "Unigram", unk_id: 0, byte_fallback: fallback.length > 0,
      vocab: tokens.map((t, i) => [t, i < 3 ? 0 : -Math.round(random() * (t.length > 1 ? 4000 : 8000)) / 1000])}),
    () => ({type: "WordPiece", unk_token: "<unk>", continuing_subword_prefix: "##", max_input_chars_per_word: pick([100, 5]), vocab: ids}),
  ])();
  const around = some(normalizer, 3, "normalizer", "normalizers");
  // The library decodes a token that is looked for in normalised text as it is normalised; here it stays as it is written.
  if (JSON.stringify(around)?.match(/Prepend|Replace|Strip|Lower|Bert|Nmt|NF|Precompiled/)) for (const token of added) token.normalized = false;
  const split = some(preTokenizer, 2, "pre_tokenizer", "pretokenizers");
  for (const step of split?.pretokenizers ?? [split]) if (step?.prepend_scheme === "first" && around !== null) step.prepend_scheme = "always";
  return {version: "1.0", truncation: null, padding: null, added_tokens: added, normalizer: around,
    pre_tokenizer: split, post_processor: null, decoder: some(decoder, 4, "decoder", "decoders"), model};
}

// One of our commands as a function from a line to a line.
function start(command, path, ...flags) {
  const child = spawn(moiety, [command, path, ...flags], {stdio: ["pipe", "pipe", "inherit"]});
  const lines = createInterface({input: child.stdout})[Symbol.asyncIterator]();
  return {
    ask: async (value) => {
      child.stdin.write(JSON.stringify(value) + "\n");
      const {value: line, done} = await lines.next();
      if (done) throw new Error(`${command} ${path} ended; the input was ${JSON.stringify(value)}`);
      return JSON.parse(line);
    },
    stop: () => child.stdin.end(),
  };
}

const folder = mkdtempSync(join(tmpdir(), "moiety-fuzz-"));
let texts = 0, tokenizers = 0, differences = 0;

async function compare(path, count, until) {
  const theirs = Tokenizer.fromFile(path);
  const encode = start("tokenize", path, "--no-special"), decode = start("detokenize", path);
  tokenizers++;
  try {
    for (let i = 0; i < count && Date.now() < until; i++, texts++) {
      const input = text();
      const expected = (await theirs.encode(input, null, {addSpecialTokens: false})).getIds(), ids = await encode.ask(input);
      if (JSON.stringify(expected) !== JSON.stringify(ids)) return report(path, input, expected, ids);
      const shuffled = chance(0.5) ? ids : Array.from({length: below(12)}, () => below(theirs.getVocabSize(true)));
      const decoded = await theirs.decode(shuffled, false), ours = await decode.ask(shuffled);
      if (decoded !== ours) return report(path, shuffled, decoded, ours);
    }
  } finally {
    encode.stop();
    decode.stop();
  }
}

function report(path, input, expected, found) {
  differences++;
  const file = JSON.parse(readFileSync(path, "utf8"));
  const {vocab, merges, ...model} = file.model;
  console.log(JSON.stringify({path, normalizer: file.normalizer, pre_tokenizer: file.pre_tokenizer, decoder: file.decoder, model,
    added: file.added_tokens.length > 10 ? undefined : file.added_tokens}).replaceAll(table || "\0", "…"));
  console.log("input   ", JSON.stringify(input), "\nexpected", JSON.stringify(expected), "\nfound   ", JSON.stringify(found));
}

const until = Date.now() + 1000 * options.seconds;
try {
  for (const file of files) await compare(file, Infinity, Date.now() + (1000 * options.seconds) / files.length);
  while (files.length === 0 && Date.now() < until && differences < (options.most || 1)) {
    const path = join(folder, "tokenizer.json");
    writeFileSync(path, JSON.stringify(makeTokenizer()));
    await compare(path, 30, until);
  }
} finally {
  rmSync(folder, {recursive: true, force: true});
}
console.log(`${texts} texts, ${tokenizers} tokenizers, ${differences} with differences`);
process.exit(differences === 0 ? 0 : 1);
