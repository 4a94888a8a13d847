#include "corpus/synthetic.h"

#include <fmt/core.h>
#include <xxhash.h>

#include <algorithm>
#include <cassert>

#include "base/error.h"
#include "corpus/documents.h"

namespace moiety::corpus {
namespace {

constexpr uint64_t kProbeShare = 5;  // one question in so many
constexpr int kLinesADocument = 16;

int between(int low, int high, Random& random) { return low + static_cast<int>(random.below(static_cast<uint64_t>(high - low + 1))); }

// " a b c"
std::string spaced(std::string_view letters) {
  std::string text;
  for (const char c : letters) {
    text += ' ';
    text += c;
  }
  return text;
}

// `count` different ones, drawn by `draw`, that are not `answer`.
template <class Draw>
std::vector<std::string> other_answers(const std::string& answer, Draw draw) {
  std::vector<std::string> wrong;
  while (wrong.size() + 1 < kChoices) {
    std::string other = draw();
    if (other.size() == answer.size() && other != answer && std::ranges::find(wrong, other) == wrong.end()) wrong.push_back(std::move(other));
  }
  return wrong;
}

// "37 + 48 = 85". Wrong answers are near: a carry forgotten, one off.
Instance arithmetic(Random& random) {
  const int a = between(0, 99, random), b = between(0, 99, random);
  Instance instance{fmt::format("{} + {} =", a, b), fmt::format(" {}", a + b)};
  constexpr int kOff[] = {-20, -11, -10, -9, -2, -1, 1, 2, 9, 10, 11, 20};
  instance.wrong = other_answers(instance.answer, [&] { return fmt::format(" {}", std::max(0, a + b + kOff[random.below(std::size(kOff))])); });
  return instance;
}

// "copy k q z f : k q z f". Wrong answers have one other letter.
Instance copy(Random& random) {
  const auto letter = [&] { return static_cast<char>('a' + random.below(26)); };
  std::string letters;
  for (int i = between(3, 7, random); i > 0; --i) letters += letter();
  Instance instance{"copy" + spaced(letters) + " :", spaced(letters)};
  instance.wrong = other_answers(instance.answer, [&] {
    std::string other = letters;
    other[random.below(other.size())] = letter();
    return spaced(other);
  });
  return instance;
}

// "close ( [ ] { : } )": what is open, from the inside out. Wrong answers have one other bracket.
Instance brackets(Random& random) {
  constexpr std::string_view kOpen = "([{<", kClose = ")]}>";
  std::string text, open;
  for (int i = between(4, 9, random); i > 0 || open.size() < 2; --i) {
    if (!open.empty() && random.below(3) == 0) {
      text += kClose[kOpen.find(open.back())];
      open.pop_back();
    } else {
      text += kOpen[random.below(4)];
      open += text.back();
    }
  }
  std::string closing;
  for (; !open.empty(); open.pop_back()) closing += kClose[kOpen.find(open.back())];
  Instance instance{"close" + spaced(text) + " :", spaced(closing)};
  instance.wrong = other_answers(instance.answer, [&] {
    std::string other = closing;
    other[random.below(other.size())] = kClose[random.below(4)];
    return spaced(other);
  });
  return instance;
}

// "a=3 f=7 k=2 c=9 get f : 7". Wrong answers are the other keys' values.
Instance recall(Random& random) {
  std::string keys = "abcdefghijklmnopqrstuvwxyz", values = "0123456789";
  const auto shuffle_first = [&](std::string& all) {
    for (size_t i = 0; i < kChoices; ++i) std::swap(all[i], all[i + random.below(all.size() - i)]);
  };
  shuffle_first(keys);
  shuffle_first(values);
  Instance instance;
  for (int i = 0; i < kChoices; ++i) instance.question += fmt::format("{}={} ", keys[i], values[i]);
  const size_t asked = random.below(kChoices);
  instance.question += fmt::format("get {} :", keys[asked]);
  for (size_t i = 0; i < kChoices; ++i) {
    const std::string value = {' ', values[i]};
    if (i == asked) {
      instance.answer = value;
    } else {
      instance.wrong.push_back(value);
    }
  }
  return instance;
}

struct Kind {
  std::string_view name;
  Instance (*make)(Random&);
};
constexpr Kind kKinds[] = {{"arithmetic", arithmetic}, {"copy", copy}, {"brackets", brackets}, {"recall", recall}};
constexpr std::string_view kNames[] = {kKinds[0].name, kKinds[1].name, kKinds[2].name, kKinds[3].name};

const Kind& kind_of(std::string_view name) {
  const auto found = std::ranges::find(kKinds, name, &Kind::name);
  assert(found != std::end(kKinds));
  return *found;
}

void write_part(const fs::path& path, std::string_view kind, Use use, size_t bytes, Random& random) {
  AtomicFile file(path);
  bool first = true;
  while (file.bytes_written() < bytes) {
    std::string document = first ? "" : fmt::format("{}\n", kSeparator);
    for (int line = 0; line < kLinesADocument; ++line) {
      const Instance instance = make_instance(kind, use, random);
      document += instance.question + instance.answer + "\n";
    }
    file.write(document);
    first = false;
  }
  file.commit();
}

}  // namespace

std::span<const std::string_view> synthetic_kinds() { return kNames; }
bool is_synthetic_kind(std::string_view kind) { return std::ranges::find(kNames, kind) != std::end(kNames); }

Use use_of(std::string_view question) { return XXH64(question.data(), question.size(), 0) % kProbeShare == 0 ? Use::Probe : Use::Train; }

Instance make_instance(std::string_view kind, Use use, Random& random) {
  for (;;) {
    Instance instance = kind_of(kind).make(random);
    if (use_of(instance.question) == use) return instance;
  }
}

std::string few_shots(std::string_view kind, int shots, Random& random) {
  std::string text;
  for (int i = 0; i < shots; ++i) {
    const Instance instance = make_instance(kind, Use::Train, random);
    text += instance.question + instance.answer + "\n";
  }
  return text;
}

void write_synthetic(const fs::path& out, std::span<const std::string> kinds, const SyntheticOptions& options) {
  fs::create_directories(out);
  for (const std::string& kind : kinds) {
    const auto stream = static_cast<uint64_t>(std::ranges::find(kNames, kind) - std::begin(kNames));
    Random train(options.seed, 2 * stream), valid(options.seed, 2 * stream + 1);
    write_part(out / (kind + ".train.txt"), kind, Use::Train, options.bytes, train);
    write_part(out / (kind + ".valid.txt"), kind, Use::Probe, std::max<size_t>(1, options.bytes / 10), valid);
  }
}

}  // namespace moiety::corpus
