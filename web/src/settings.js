// What a request asks for besides its text.
import {kept} from "./html.js";

// One number of a request. Left empty, the server's own choice holds.
export const numbers = [
  {name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, hint: "0 always takes the likeliest token"},
  {name: "top_p", label: "Top-p", min: 0, max: 1, step: 0.01, hint: "only the likeliest tokens that together have this probability"},
  {name: "top_k", label: "Top-k", min: 0, max: 1000, step: 1, hint: "only the k likeliest tokens; 0 is all"},
  {name: "min_p", label: "Min-p", min: 0, max: 1, step: 0.01, hint: "only tokens this share as likely as the likeliest"},
  {name: "max_tokens", label: "Longest answer", unit: "tokens", min: 1, max: 1048576, step: 1},
  {name: "seed", label: "Seed", min: 0, max: 2 ** 31 - 1, step: 1, hint: "the same seed and text give the same answer"},
];

export const experts_per_token = {
  name: "experts_per_token", label: "Experts per token", min: 1, max: 1024, step: 1, hint: "other than the model was trained with",
};

export const nothing_set = {system: "", json: false};
export const settings = kept("moiety.settings", nothing_set);

export const set = (name, value) => settings.set({...settings.value, [name]: value});

// Whether the text of a field is a number that it takes.
export function is_valid(field, text) {
  if (text === "" || text === undefined) return true;
  const value = Number(text);
  return Number.isFinite(value) && value >= field.min && value <= field.max && (field.step < 1 || Number.isInteger(value));
}

// The settings as fields of a request.
export function request_fields(from = settings.value) {
  const fields = {};
  for (const field of numbers) {
    const text = from[field.name];
    if (text !== undefined && text !== "" && is_valid(field, text)) fields[field.name] = Number(text);
  }
  const experts = from.experts_per_token;
  if (experts && is_valid(experts_per_token, experts)) fields.router = {experts_per_token: Number(experts)};
  if (from.json) fields.response_format = {type: "json_object"};
  return fields;
}
