// Random chat templates and contexts through npm @huggingface/jinja and through ours; says where they differ.
//   node tests/parity/fuzz_templates.mjs NODE_MODULES RENDER_TEMPLATES [SECONDS] [SEED]
// NODE_MODULES is what tests/fetch_npm.sh filled, with @huggingface/jinja beside it; RENDER_TEMPLATES the program of that
// name that the build makes. Python's jinja2 is the measure of both: docs/chat.md lists where the JavaScript one is known to
// differ from it, and the templates made here keep away from that.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import path from "node:path";

const [modules, renderer, seconds = "30", firstSeed = "1"] = process.argv.slice(2);
const { Template } = await import(pathToFileURL(path.resolve(modules, "@huggingface/jinja/dist/index.js")));

let state = BigInt(firstSeed);
function random(bound) {  // SplitMix64
  state = (state + 0x9e3779b97f4a7c15n) & 0xffffffffffffffffn;
  let z = state;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & 0xffffffffffffffffn;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & 0xffffffffffffffffn;
  return Number((z ^ (z >> 31n)) % BigInt(bound));
}
const pick = (list) => list[random(list.length)];
const words = ["user", "assistant", "system", "tool", "Hi", "a b", "", "é", "中文", " x ", "it's", "<t>", "1", "a\nb"];

function context() {
  const messages = [];
  for (let i = 1 + random(4); i > 0; --i) {
    const message = { role: pick(["user", "assistant", "system", "tool"]), content: pick(words) };
    if (random(3) === 0) message.extra = pick([1, 2, "x", true, ["a", "b"], { k: "v" }]);
    messages.push(message);
  }
  return { messages, flag: random(2) === 0, n: random(7), name: pick(words), list: Array.from({ length: random(4) }, () => random(9)),
           add_generation_prompt: random(2) === 0, bos_token: "<s>" };
}

const string = () => JSON.stringify(pick(words)).replaceAll("\\n", "\\n");
function text(depth) {  // an expression that is a string
  if (depth <= 0) return pick(["name", "bos_token", string(), "m.role", "m.content"]);
  const inner = () => text(depth - 1);
  return pick([
    () => inner(), () => `(${inner()} + ${inner()})`, () => `(${inner()} ~ ${integer(depth - 1)})`, () => `(${inner()})|${pick(["upper", "lower", "trim"])}`,
    () => `(${inner()}).${pick(["strip()", "upper()", "lower()", "rstrip()", "lstrip()"])}`, () => `(${inner()} if ${truth(depth - 1)} else ${inner()})`,
    () => `(${inner()})[${random(3)}:]`, () => `(${inner()})[:${random(3)}]`, () => `(${inner()}|replace(${pick(['"a"', '" "', '"s"'])}, ${string()}))`,
    () => `(${inner()}).split("a")|join("+")`, () => `(${inner()}|tojson)`, () => `(messages|map(attribute="role")|join(", "))`,
    () => `(undefined_name|default(${inner()}))`,
  ])();
}
function integer(depth) {
  if (depth <= 0) return pick(["n", String(random(9)), "list|length", "loop.index", "loop.index0"]);
  const inner = () => integer(depth - 1);
  return pick([() => inner(), () => `(${inner()} + ${inner()})`, () => `(${inner()} - ${inner()})`, () => `(${inner()} * ${inner()})`,
               () => `(${pick(["n", "loop.index", "(list|length)"])} % ${1 + random(5)})`, () => `(${text(depth - 1)}|length)`, () => `(messages|length - 1)`])();
}
function truth(depth) {
  if (depth <= 0) return pick(["flag", "true", "false", "add_generation_prompt", "m.extra is defined", "loop.first", "loop.last"]);
  const inner = () => truth(depth - 1);
  return pick([() => inner(), () => `(not ${inner()})`, () => `(${inner()} and ${inner()})`, () => `(${inner()} or ${inner()})`,
               () => `(${text(depth - 1)} == ${text(depth - 1)})`, () => `(${integer(depth - 1)} ${pick(["<", ">", "<=", ">=", "==", "!="])} ${integer(depth - 1)})`,
               () => `(${string()} in ${text(depth - 1)})`, () => `(${text(depth - 1)} is string)`, () => `(${integer(depth - 1)} is ${pick(["odd", "even"])})`,
               () => `(${text(depth - 1)}).startswith("a")`])();
}
const open = () => pick(["{%", "{%-"]), close = () => pick(["%}", "-%}"]);
function body(depth) {
  let out = "";
  for (let i = random(4); i >= 0; --i) {
    out += pick([
      () => pick(["\n", "  ", "x", "<|im_start|>", "\n  ", "a\n\n b "]),
      () => `${pick(["{{", "{{-"])} ${text(2)} ${pick(["}}", "-}}"])}`, () => `{{ ${integer(2)} }}`, () => `{{ ${text(1)} }}`,
      () => `{# ${pick(words)} #}`,
      () => depth <= 0 ? "" : `${open()} if ${truth(2)} ${close()}${body(depth - 1)}${open()} else ${close()}${body(depth - 1)}${open()} endif ${close()}`,
      () => depth <= 0 ? "" : `${open()} for m in messages ${close()}${body(depth - 1)}${open()} endfor ${close()}`,
      () => `${open()} set v = ${text(2)} ${close()}{{ v }}`,
      () => `${open()} set ns.t = ns.t ~ ${text(1)} ${close()}`,
    ])();
  }
  return out;
}
const template = () => `{%- set ns = namespace(t='') -%}{% set m = messages[0] %}{% for i in [1] %}${body(3)}{% endfor %}{{ ns.t }}`;

const ours = spawn(renderer, { stdio: ["pipe", "pipe", "inherit"] });
const lines = createInterface({ input: ours.stdout })[Symbol.asyncIterator]();
let cases = 0, refused = 0, differ = 0;
for (const end = Date.now() + 1000 * Number(seconds); Date.now() < end; ++cases) {
  const source = template(), given = context();
  let theirs;
  try {
    theirs = new Template(source).render(given);
  } catch (error) {
    theirs = undefined;
  }
  ours.stdin.write(JSON.stringify({ template: source, context: given }) + "\n");
  const line = await lines.next();
  if (line.done) {
    console.log(`ours ended at ${JSON.stringify({ template: source, context: given })}`);
    process.exit(1);
  }
  const answer = JSON.parse(line.value);
  if (theirs === undefined || answer.text === undefined) {
    ++refused;
    if ((theirs === undefined) === (answer.text === undefined)) continue;
  } else if (theirs === answer.text) {
    continue;
  }
  if (++differ <= 10) {
    console.log(JSON.stringify({ template: source, context: given, theirs: theirs ?? "error", ours: answer.text ?? answer.message }, null, 1));
  }
}
ours.stdin.end();
console.log(`${cases} templates, ${refused} refused by one or both, ${differ} differ`);
process.exit(differ > 0 ? 1 : 0);
