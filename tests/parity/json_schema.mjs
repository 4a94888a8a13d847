// JSON schemas against an independent validator (npm ajv, ajv-formats): whatever is drawn through the masks of a schema's grammar
// parses and is valid, whatever valid document is written as the grammar's rules say is accepted, and what ajv finds invalid is
// not. Schemas by chance.   node json_schema.mjs GRAMMAR_SAMPLES NPM_DIR [SCHEMAS [SEED]]
import {spawnSync} from "node:child_process";
import {existsSync} from "node:fs";
import {createRequire} from "node:module";
import {resolve} from "node:path";

const [program, npm, count = "300", seedText = "1"] = process.argv.slice(2);
if (!existsSync(resolve(npm, "node_modules/ajv-formats"))) {
  console.log("skipped: ajv is not there; tests/fetch_npm.sh fetches it");
  process.exit(77);
}
const require = createRequire(resolve(npm) + "/");
const Ajv = require("ajv/dist/2020").default ?? require("ajv/dist/2020");
const addFormats = require("ajv-formats");

// mulberry32
let state = Number(seedText) >>> 0;
function random() {
  state = (state + 0x6d2b79f5) >>> 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const below = (n) => Math.floor(random() * n);
const chance = (p) => random() < p;
const pick = (list) => list[below(list.length)];

const kNames = ["a", "b", "name", "é", "q\"x", "long name", "ab", "abc", "\n"];
const kPatterns = ["^[a-c]{1,4}$", "^x+y?$", "\\d{2}", "^(foo|bar)-\\w+$", "^[^\"\\\\]*$", "^\\s?[\\u00e0-\\u00ff]+", "a|^b"];
const kFormats = ["date", "time", "date-time", "uuid", "email", "ipv4", "hostname"];
const number = () => pick([below(20) - 10, below(2000) - 1000, (below(400) - 200) / 10, below(1e9), (below(9999) - 5000) / 1000]);
const anyValue = (depth) => pick([null, true, false, number(), pick(kNames), "", depth > 0 ? [anyValue(depth - 1)] : [], depth > 0 ? {[pick(kNames)]: anyValue(depth - 1)} : {}]);

function schemaOf(depth) {
  const makers = [
    () => ({type: "null"}),
    () => ({type: "boolean"}),
    () => pick([true, {}, {description: "anything"}]),
    () => ({type: pick([["string", "null"], ["integer", "boolean"], ["number", "string"], ["array", "null"]])}),
    stringOf, numberOf, numberOf, stringOf,
    () => ({enum: Array.from({length: 1 + below(4)}, () => anyValue(1))}),
    () => ({const: anyValue(2)}),
  ];
  if (depth > 0) makers.push(() => objectOf(depth), () => objectOf(depth), () => objectOf(depth), () => arrayOf(depth), () => arrayOf(depth), () => combinedOf(depth), () => ({$ref: pick(["#/$defs/tree", "#/$defs/size"])}));
  return pick(makers)();
}
function stringOf() {
  const schema = {type: "string"};
  const kind = below(4);
  if (kind === 0) schema.pattern = pick(kPatterns);
  if (kind === 1) schema.format = pick(kFormats);
  if (kind >= 2 && chance(0.6)) schema.minLength = below(4);
  if (kind >= 2 && chance(0.6)) schema.maxLength = (schema.minLength ?? 0) + below(6);
  return schema;
}
function numberOf() {
  const schema = {type: pick(["integer", "number"])};
  const [low, high] = [number(), number()].sort((x, y) => x - y).map((x) => Math.round(x * 1000) / 1000);
  if (chance(0.4)) schema[chance(0.7) ? "minimum" : "exclusiveMinimum"] = Math.round((low - 2) * 1000) / 1000;
  if (chance(0.4)) schema[chance(0.7) ? "maximum" : "exclusiveMaximum"] = Math.round((high + 2) * 1000) / 1000;
  return schema;
}
function objectOf(depth) {
  const schema = {type: "object"};
  if (chance(0.2)) {
    schema.additionalProperties = schemaOf(depth - 1);
    if (chance(0.4)) schema.maxProperties = below(4);
    if (chance(0.4)) schema.propertyNames = pick([{type: "string", minLength: 1}, {enum: ["x", "y", "zz"]}, {pattern: "^[a-c]+$"}]);
    return schema;
  }
  schema.properties = {};
  for (let i = below(5); i >= 0; --i) schema.properties[pick(kNames)] = schemaOf(depth - 1);
  if (chance(0.7)) schema.required = Object.keys(schema.properties).filter(() => chance(0.5));
  if (chance(0.1)) schema.required = [...(schema.required ?? []), "other"];
  if (chance(0.4)) schema.additionalProperties = pick([true, false, schemaOf(depth - 1)]);
  if (schema.additionalProperties === false) schema.required = schema.required?.filter((name) => name in schema.properties);
  return schema;
}
function arrayOf(depth) {
  const schema = {type: "array"};
  if (chance(0.3)) schema.prefixItems = Array.from({length: 1 + below(3)}, () => schemaOf(depth - 1));
  if (chance(0.8)) schema.items = schema.prefixItems && chance(0.3) ? false : schemaOf(depth - 1);
  const most = schema.items === false ? schema.prefixItems.length : 4;
  if (chance(0.4)) schema.minItems = below(most);
  if (chance(0.4)) schema.maxItems = (schema.minItems ?? 0) + below(4);
  return schema;
}
function combinedOf(depth) {
  const kind = below(4);
  if (kind === 0) return {anyOf: Array.from({length: 1 + below(3)}, () => schemaOf(depth - 1))};
  if (kind === 1) return {oneOf: [stringOf(), numberOf(), {type: "null"}].filter(() => chance(0.7)).concat([{type: "boolean"}])};
  if (kind === 2) {
    const open = () => ({type: "object", properties: Object.fromEntries([pick(kNames), pick(kNames)].map((name) => [name, schemaOf(0)])), additionalProperties: true});
    return {allOf: [open(), {...open(), required: []}, {required: chance(0.5) ? ["a"] : []}]};
  }
  return {type: "object", properties: {a: schemaOf(0), b: schemaOf(depth - 1)}, additionalProperties: false, anyOf: [{required: ["a"]}, {required: ["b"]}]};
}
const kDefs = {
  tree: {type: "object", properties: {left: {anyOf: [{$ref: "#/$defs/tree"}, {type: "null"}]}, value: {$ref: "#/$defs/size"}}, required: ["value"], additionalProperties: false},
  size: {type: "integer", minimum: 0, maximum: 99},
};

// Documents that may or may not be valid, the properties in the schema's order as the grammar wants them.
function documentOf(schema, depth = 4) {
  if (depth < 0 || typeof schema === "boolean") return anyValue(1);
  if (schema.$ref) return documentOf(kDefs[schema.$ref.slice(8)], depth - 1);
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return pick(schema.enum);
  if (schema.allOf) return documentOf({type: "object", properties: Object.assign({}, ...schema.allOf.map((s) => s.properties ?? {})), required: ["a"]}, depth);
  const ways = (!schema.type && schema.anyOf) || schema.oneOf;
  if (ways) return documentOf(pick(ways), depth - 1);
  const type = Array.isArray(schema.type) ? pick(schema.type) : schema.type;
  switch (type) {
    case "null": return null;
    case "boolean": return chance(0.5);
    case "integer": return pick([0, 1, Math.ceil(schema.minimum ?? schema.exclusiveMinimum ?? -7), Math.floor(schema.maximum ?? schema.exclusiveMaximum ?? 70), below(100) - 50]);
    case "number": return pick([0, schema.minimum ?? schema.exclusiveMinimum ?? 1.5, schema.maximum ?? schema.exclusiveMaximum ?? -2.25, (below(2000) - 1000) / 100]);
    case "string":
      if (schema.pattern) return pick(["abc", "xxy", "a12b", "foo-bar", "b", "éé", "plain", "a\"", "x"]);
      if (schema.format) return pick(["2024-02-29", "23:59:59Z", "2023-06-30T01:02:03.5+02:00", "123e4567-e89b-12d3-a456-426614174000", "a.b@example.org", "10.0.255.1", "2023-02-29", "2023-13-01"]);
      return Array.from({length: below(7)}, () => pick(["a", "é", "\"", "\\", "\n", "🙂", "\u0001"])).join("");
    case "array": {
      const items = [];
      for (let i = below(4) + (schema.minItems ?? 0); i > 0; --i) items.push(documentOf(schema.prefixItems?.[items.length] ?? schema.items ?? true, depth - 1));
      return items;
    }
    case "object": {
      const object = {};
      for (const [name, value] of Object.entries(schema.properties ?? {})) {
        if (schema.required?.includes(name) || chance(0.5)) object[name] = documentOf(value, depth - 1);
      }
      if (schema.required?.includes("other")) object.other = documentOf(schema.additionalProperties ?? true, depth - 1);
      if (chance(0.4)) object[pick(["x", "abcd", "zz", "aa"])] = documentOf(schema.additionalProperties ?? true, depth - 1);
      return object;
    }
    default: return anyValue(2);
  }
}

const ajv = new Ajv({strict: false, allErrors: false, unicodeRegExp: true});
addFormats(ajv);
const tasks = [];
for (let i = 0; i < Number(count); ++i) {
  const schema = {...(chance(0.8) ? objectOf(3) : schemaOf(3)), $defs: kDefs};
  if (typeof schema !== "object") continue;
  tasks.push({schema, seed: below(1e9), count: 8, closed: false, documents: Array.from({length: 12}, () => JSON.stringify(documentOf(schema)))});
}
const run = spawnSync(program, [], {input: tasks.map((task) => JSON.stringify(task)).join("\n") + "\n", encoding: "utf8", maxBuffer: 1 << 30, timeout: 300000});
if (run.status !== 0) throw new Error(`grammar_samples ended with ${run.status ?? run.signal}: ${run.stderr}`);
const answers = run.stdout.trim().split("\n").map((line) => JSON.parse(line));

let samples = 0, documents = 0, refused = 0, failures = 0;
const complain = (what, task, text) => {
  if (++failures <= 5) console.log(`${what}\n  schema ${JSON.stringify(task.schema)}\n  text   ${text}`);
};
tasks.forEach((task, i) => {
  const answer = answers[i];
  if (answer.error !== undefined) {
    // Schemas that nothing can satisfy come up by chance; nothing else may be refused.
    if (!/ever ends$/.test(answer.error)) complain(`refused: ${answer.error}`, task, "");
    ++refused;
    return;
  }
  const validate = ajv.compile(task.schema);
  for (const text of answer.samples) {
    ++samples;
    let value;
    try {
      value = JSON.parse(text);
    } catch {
      complain("not JSON", task, text);
      continue;
    }
    if (!validate(value)) complain(`not valid: ${ajv.errorsText(validate.errors)}`, task, text);
  }
  task.documents.forEach((text, d) => {
    ++documents;
    if (validate(JSON.parse(text)) !== answer.accepted[d]) complain(answer.accepted[d] ? "accepted, not valid" : "valid, not accepted", task, text);
  });
});
console.log(`${tasks.length} schemas, ${refused} that nothing satisfies; ${samples} texts drawn, ${documents} documents tried; ${failures} failures`);
if (failures > 0 || samples < tasks.length * 4) process.exit(1);
