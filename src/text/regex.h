// A regular expression compiled by PCRE2, with limits that no text and no pattern can talk it out
// of.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct pcre2_real_code_8;
struct pcre2_real_jit_stack_8;
struct pcre2_real_match_context_8;
struct pcre2_real_match_data_8;

namespace moiety::text {

// What a match needs to write to. One a thread; serves any number of expressions.
class RegexScratch {
 public:
  RegexScratch();

 private:
  friend class Regex;
  struct Free {
    void operator()(pcre2_real_match_data_8* data) const;
    void operator()(pcre2_real_match_context_8* context) const;
    void operator()(pcre2_real_jit_stack_8* stack) const;
  };
  std::unique_ptr<pcre2_real_match_data_8, Free> data_;
  std::unique_ptr<pcre2_real_jit_stack_8, Free> stack_;
  std::unique_ptr<pcre2_real_match_context_8, Free> context_;
};

class Regex {
 public:
  // In Oniguruma's language, as tokenizer.json has it. Throws Error(Input) with the pattern and
  // what is wrong with it.
  explicit Regex(const std::string& pattern);

  struct Match {
    size_t begin, end;
  };
  // The first match that begins at or after `from`. `text` must be valid UTF-8. Throws Error(Input)
  // if it takes more steps than any real pattern needs.
  std::optional<Match> find(std::string_view text, size_t from, RegexScratch& scratch) const;

  // All matches from left to right, none of which overlap, into `matches`. An empty match right
  // behind another match doesn't count.
  void find_all(std::string_view text, RegexScratch& scratch, std::vector<Match>& matches) const;

 private:
  struct Free {
    void operator()(pcre2_real_code_8* code) const;
  };
  std::string pattern_;
  std::unique_ptr<pcre2_real_code_8, Free> code_;  // constant after construction
  bool compiled_to_machine_code_ = false;
};

}  // namespace moiety::text
