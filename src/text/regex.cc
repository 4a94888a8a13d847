#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>

#include <new>

#include "base/error.h"
#include "text/oniguruma.h"

namespace moiety::text {
namespace {

constexpr uint32_t kMatchLimit = 50'000'000;  // steps; a megabyte of one letter takes a few million
constexpr uint32_t kHeapLimitKiB = 256 * 1024;
constexpr size_t kLongestPattern = 64 * 1024;
constexpr size_t kJitStack = 32 * 1024, kLargestJitStack = 4 * 1024 * 1024;

std::string message_of(int error) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(error, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

template <class T>
T* or_throw(T* pointer) {
  if (pointer == nullptr) throw std::bad_alloc();
  return pointer;
}

struct FreeCompileContext {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};

}  // namespace

void RegexScratch::Free::operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
void RegexScratch::Free::operator()(pcre2_match_context* context) const {
  pcre2_match_context_free(context);
}
void RegexScratch::Free::operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
void Regex::Free::operator()(pcre2_code* code) const { pcre2_code_free(code); }

RegexScratch::RegexScratch()
    : data_(or_throw(pcre2_match_data_create(1, nullptr))),
      stack_(pcre2_jit_stack_create(kJitStack, kLargestJitStack,
                                    nullptr)),  // null without JIT
      context_(or_throw(pcre2_match_context_create(nullptr))) {
  pcre2_set_match_limit(context_.get(), kMatchLimit);
  pcre2_set_heap_limit(context_.get(), kHeapLimitKiB);
  pcre2_jit_stack_assign(context_.get(), nullptr, stack_.get());
}

Regex::Regex(const std::string& pattern) : pattern_(pattern) {
  require(pattern.size() <= kLongestPattern, "a pattern of {} bytes; at most {} are allowed",
          pattern.size(), kLongestPattern);
  const std::string rewritten = pcre2_from_oniguruma(pattern);
  const std::unique_ptr<pcre2_compile_context, FreeCompileContext> context(
      or_throw(pcre2_compile_context_create(nullptr)));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);

  // In Ruby ^ and $ are the ends of lines.
  const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  int error = 0;
  PCRE2_SIZE where = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(rewritten.data()), rewritten.size(),
                            options, &error, &where, context.get()));
  require(code_ != nullptr, "pattern {}: {} (at byte {} of {})", pattern, message_of(error), where,
          rewritten);
  compiled_to_machine_code_ = pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE) == 0;
}

std::optional<Regex::Match> Regex::find(std::string_view text, size_t from,
                                        RegexScratch& scratch) const {
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  pcre2_match_data* data = scratch.data_.get();
  pcre2_match_context* context = scratch.context_.get();
  int found = PCRE2_ERROR_JIT_STACKLIMIT;
  if (compiled_to_machine_code_)
    found = pcre2_jit_match(code_.get(), subject, text.size(), from, 0, data, context);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
    const uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT;
    found = pcre2_match(code_.get(), subject, text.size(), from, options, data, context);
  }
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) {
    fail(ErrorKind::Input, "pattern {} gave up on a text of {} bytes: {}", pattern_, text.size(),
         message_of(found));
  }
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data);
  // \K inside a look-around could put the end before the beginning.
  require(ends[0] >= from && ends[1] >= ends[0], "pattern {} matches backwards", pattern_);
  return Match{ends[0], ends[1]};
}

void Regex::find_all(std::string_view text, RegexScratch& scratch,
                     std::vector<Match>& matches) const {
  matches.clear();
  size_t from = 0;
  while (from <= text.size()) {
    const auto match = find(text, from, scratch);
    if (!match) return;
    if (match->begin == match->end && !matches.empty() && match->end == matches.back().end) {
      do ++from;
      while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xc0) == 0x80);
      continue;
    }
    matches.push_back(*match);
    from = match->end;
  }
}

}  // namespace moiety::text
