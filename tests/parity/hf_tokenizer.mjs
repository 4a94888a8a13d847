// Token ids by Hugging Face's own JavaScript library.
//   node hf_tokenizer.mjs NODE_MODULES tokenizer.json < texts.jsonl > ids.jsonl
// One JSON string a line in, one JSON list of ids (no special tokens added) a line out.
import {readFileSync} from "node:fs";
import {join, resolve} from "node:path";
import {pathToFileURL} from "node:url";

const [modules, path] = process.argv.slice(2);
const library = join(resolve(modules), "@huggingface/tokenizers/dist/tokenizers.mjs");
const {Tokenizer} = await import(pathToFileURL(library));
const tokenizer = new Tokenizer(JSON.parse(readFileSync(path, "utf8")), {});

for (const line of readFileSync(0, "utf8").split("\n")) {
  if (line !== "") console.log(JSON.stringify(tokenizer.encode(JSON.parse(line), {add_special_tokens: false}).ids));
}
