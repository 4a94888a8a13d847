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

inline constexpr Named<spec::Normalizer> kNormalizers[] = {{"NFC", spec::Normalizer::Nfc},
                                                           {"NFD", spec::Normalizer::Nfd},
                                                           {"NFKC", spec::Normalizer::Nfkc},
                                                           {"NFKD", spec::Normalizer::Nfkd}};

inline constexpr Named<spec::PreTokenizer::Behavior> kBehaviors[] = {
    {"Removed", spec::PreTokenizer::Behavior::Removed},
    {"Isolated", spec::PreTokenizer::Behavior::Isolated},
    {"MergedWithPrevious", spec::PreTokenizer::Behavior::MergedWithPrevious},
    {"MergedWithNext", spec::PreTokenizer::Behavior::MergedWithNext},
    {"Contiguous", spec::PreTokenizer::Behavior::Contiguous}};

template <class T, size_t N>
const T* by_name(const Named<T> (&table)[N], std::string_view name) {
  const auto row = std::find_if(table, table + N, [&](const auto& r) { return name == r.name; });
  return row == table + N ? nullptr : &row->value;
}

template <class T, size_t N>
const char* name_of(const Named<T> (&table)[N], T value) {
  return std::find_if(table, table + N, [&](const auto& r) { return r.value == value; })->name;
}

}  // namespace moiety::format
