// What tokenizer.json calls things: tables for its reader and its writer.
#pragma once

#include <algorithm>
#include <string_view>

#include "spec/tokenizer_spec.h"

namespace moiety::format {

// What HF's Punctuation pre-tokenizer splits by: ASCII's and Unicode's.
inline constexpr const char* kPunctuation = "[!-/:-@\\[-`{-~]|\\p{P}";

template <class T>
struct Named {
  const char* name;
  T value;
};

inline constexpr Named<spec::NormalForm> kNormalForms[] = {{"NFC", spec::NormalForm::Nfc},
                                                           {"NFD", spec::NormalForm::Nfd},
                                                           {"NFKC", spec::NormalForm::Nfkc},
                                                           {"NFKD", spec::NormalForm::Nfkd}};

inline constexpr Named<spec::Normalizer::Kind> kNormalizers[] = {
    {"Lowercase", spec::Normalizer::Kind::Lowercase},
    {"Strip", spec::Normalizer::Kind::Strip},
    {"StripAccents", spec::Normalizer::Kind::StripAccents},
    {"Prepend", spec::Normalizer::Kind::Prepend},
    {"Replace", spec::Normalizer::Kind::Replace},
    {"Nmt", spec::Normalizer::Kind::Nmt},
    {"Precompiled", spec::Normalizer::Kind::Charsmap},
    {"BertNormalizer", spec::Normalizer::Kind::Bert},
    {"ByteLevel", spec::Normalizer::Kind::ByteLevel}};

inline constexpr Named<spec::PreTokenizer::Behavior> kBehaviors[] = {
    {"Removed", spec::PreTokenizer::Behavior::Removed},
    {"Isolated", spec::PreTokenizer::Behavior::Isolated},
    {"MergedWithPrevious", spec::PreTokenizer::Behavior::MergedWithPrevious},
    {"MergedWithNext", spec::PreTokenizer::Behavior::MergedWithNext},
    {"Contiguous", spec::PreTokenizer::Behavior::Contiguous}};

inline constexpr Named<spec::PreTokenizer::Prepend> kPrependSchemes[] = {
    {"always", spec::PreTokenizer::Prepend::Always},
    {"first", spec::PreTokenizer::Prepend::First},
    {"never", spec::PreTokenizer::Prepend::Never}};

inline constexpr Named<spec::Decoder::Kind> kDecoders[] = {
    {"ByteLevel", spec::Decoder::Kind::ByteLevel},
    {"ByteFallback", spec::Decoder::Kind::ByteFallback},
    {"Fuse", spec::Decoder::Kind::Fuse},
    {"Replace", spec::Decoder::Kind::Replace},
    {"Strip", spec::Decoder::Kind::Strip},
    {"Metaspace", spec::Decoder::Kind::Metaspace},
    {"WordPiece", spec::Decoder::Kind::WordPiece},
    {"BPEDecoder", spec::Decoder::Kind::WordEnd}};

template <class T, size_t N>
const T* by_name(const Named<T> (&table)[N], std::string_view name) {
  const auto row = std::find_if(table, table + N, [&](const auto& r) { return name == r.name; });
  return row == table + N ? nullptr : &row->value;
}

template <class T, size_t N>
const char* name_of(const Named<T> (&table)[N], T value) {
  return std::find_if(table, table + N, [&](const auto& r) { return r.value == value; })->name;
}

// "A, B, C"
template <class T, size_t N>
std::string names(const Named<T> (&table)[N]) {
  std::string list;
  for (const auto& row : table) list += (list.empty() ? "" : ", ") + std::string(row.name);
  return list;
}

}  // namespace moiety::format
