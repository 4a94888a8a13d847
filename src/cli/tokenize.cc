// moiety tokenize and detokenize: JSON lines in, JSON lines out.
#include <fmt/core.h>

#include <cstdio>
#include <functional>
#include <iostream>

#include "base/json.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/open_tokenizer.h"

namespace moiety::cli {
namespace {

constexpr const char* kTokenizeHelp =
    "Text to token ids: one JSON string a line in, one JSON list of ids a line out.\n\n"
    "example: echo '\"Hello world\"' | moiety tokenize path/to/model";
constexpr const char* kDetokenizeHelp =
    "Token ids to text: one JSON list of ids a line in, one JSON string a line out.\n\n"
    "example: echo '[9707, 1879]' | moiety detokenize path/to/model";

void print_line(const Json& json) {
  const std::string line = json.dump() + '\n';
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fflush(stdout);  // whoever feeds us lines may wait for each answer
}

// Answers every line of standard input. What is wrong with a line is said with its number.
void for_each_line(const std::function<Json(const Json& in, const std::string& where)>& answer) {
  std::ios::sync_with_stdio(false);
  std::string line;
  for (size_t number = 1; std::getline(std::cin, line); ++number) {
    const std::string where = fmt::format("standard input, line {}", number);
    print_line(answer(parse_json(line, where), where));
  }
}

std::vector<int32_t> ids_of(const Json& list, const std::string& where) {
  require(list.is_array(), "{}: expected a JSON list of token ids, found {}", where,
          list.type_name());
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const Json& id : list) {
    require(id.is_number_unsigned() && id.get<uint64_t>() <= uint64_t{INT32_MAX},
            "{}: expected a token id, found {}", where, id.dump().substr(0, 60));
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

}  // namespace

int tokenize(int argc, char** argv) {
  CLI::App app(kTokenizeHelp, "moiety tokenize");
  std::string model;
  bool no_special = false;
  app.add_option("MODEL", model, "a model, a tokenizer.json, a sentencepiece .model or a GGUF file")->required();
  app.add_flag("--no-special", no_special,
               "leave out what the tokenizer puts before and after a text");
  if (const auto status = parse(app, argc, argv)) return *status;

  const text::Tokenizer tokenizer = open_tokenizer(model);
  for_each_line([&](const Json& in, const std::string& where) {
    require(in.is_string(), "{}: expected a JSON string, found {}", where, in.type_name());
    return Json(tokenizer.encode(in.get_ref<const std::string&>(), !no_special));
  });
  return 0;
}

int detokenize(int argc, char** argv) {
  CLI::App app(kDetokenizeHelp, "moiety detokenize");
  std::string model;
  bool skip_special = false;
  app.add_option("MODEL", model, "a model, a tokenizer.json, a sentencepiece .model or a GGUF file")->required();
  app.add_flag("--skip-special", skip_special, "leave special tokens out of the text");
  if (const auto status = parse(app, argc, argv)) return *status;

  const text::Tokenizer tokenizer = open_tokenizer(model);
  for_each_line([&](const Json& in, const std::string& where) {
    return Json(tokenizer.decode(ids_of(in, where), skip_special));
  });
  return 0;
}

}  // namespace moiety::cli
