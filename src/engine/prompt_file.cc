#include "engine/prompt_file.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "base/json.h"

namespace moiety::engine {
namespace {

using model::KvPage;

constexpr std::string_view kFirstLine = "moiety prompts 1\n";

Json shape_json(const model::KvShape& s) {
  Json shape = {static_cast<int>(s.type), s.layers, s.heads, s.key_dim, s.value_dim};
  if (s.states > 0) shape.push_back(s.states);
  return shape;
}

// Of page number i of so many tokens.
size_t positions_of(size_t tokens, size_t i) { return std::min(KvPage::kPositions, tokens - i * KvPage::kPositions); }

// Writes, and hashes what it writes.
class HashedFile {
 public:
  explicit HashedFile(const fs::path& path) : file_(path), state_(XXH3_createState()) { XXH3_64bits_reset(state_); }
  ~HashedFile() { XXH3_freeState(state_); }
  void write(std::span<const std::byte> bytes) {
    file_.write(bytes);
    XXH3_64bits_update(state_, bytes.data(), bytes.size());
  }
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void commit() {
    const uint64_t hash = XXH3_64bits_digest(state_);
    file_.write(std::as_bytes(std::span(&hash, 1)));
    file_.commit();
  }

 private:
  AtomicFile file_;
  XXH3_state_t* state_;
};

// Bytes of a file from the first on.
class Rest {
 public:
  Rest(std::span<const std::byte> bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {}
  std::span<const std::byte> take(size_t count) {
    require(count <= bytes_.size(), "{}: ends before its last prompt does", name_);
    const auto taken = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return taken;
  }
  bool empty() const { return bytes_.empty(); }

 private:
  std::span<const std::byte> bytes_;
  std::string name_;
};

}  // namespace

void write_prompts(const fs::path& path, const std::string& model, const model::KvShape& shape, std::span<const SavedPrompt> prompts) {
  // A page that several hold is as full as the one that has most of it.
  std::map<const KvPage*, size_t> number;
  std::vector<const KvPage*> pages;
  std::vector<size_t> positions;
  Json texts = Json::array();
  for (const SavedPrompt& prompt : prompts) {
    Json numbers = Json::array();
    for (size_t i = 0; i < prompt.pages.size(); ++i) {
      const auto [at, is_new] = number.try_emplace(prompt.pages[i].get(), pages.size());
      if (is_new) pages.push_back(prompt.pages[i].get()), positions.push_back(0);
      positions[at->second] = std::max(positions[at->second], positions_of(prompt.tokens.size(), i));
      numbers.push_back(at->second);
    }
    texts.push_back({{"tokens", prompt.tokens}, {"pages", std::move(numbers)}, {"prompt", prompt.prompt}, {"long", prompt.is_long}});
  }
  const std::string header = Json{{"model", model}, {"shape", shape_json(shape)}, {"positions", positions}, {"prompts", std::move(texts)}}.dump();

  HashedFile file(path);
  file.write(kFirstLine);
  const uint64_t length = header.size();
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(header);
  for (size_t i = 0; i < pages.size(); ++i) {
    for (const auto part : pages[i]->bytes_of(positions[i])) file.write(part);
  }
  file.commit();
}

std::vector<SavedPrompt> read_prompts(const fs::path& path, const std::string& model, model::KvPool& pool) {
  const MappedFile file(path);
  const std::string name = path.string();
  require(file.text().starts_with(kFirstLine), "{}: not a file of saved prompts", name);
  uint64_t hash = 0, length = 0;
  require(file.bytes().size() >= kFirstLine.size() + sizeof length + sizeof hash, "{}: ends before its header does", name);
  const auto content = file.bytes().first(file.bytes().size() - sizeof hash);
  std::memcpy(&hash, content.data() + content.size(), sizeof hash);
  require(hash == XXH3_64bits(content.data(), content.size()), "{}: is not what was written (its checksum differs); delete it to begin anew", name);

  Rest rest(content.subspan(kFirstLine.size()), name);
  std::memcpy(&length, rest.take(sizeof length).data(), sizeof length);
  const auto text = rest.take(length);
  const Json json = parse_json({reinterpret_cast<const char*>(text.data()), text.size()}, name);
  const JsonObject header(json, name);
  require(header.text("model") == model && header.array("shape") == shape_json(pool.layout().shape),
          "{}: saved by another model, or with other options (--kv, --exact)", name);

  std::vector<std::shared_ptr<KvPage>> pages;
  std::vector<size_t> positions;
  bool is_full = false;
  for (const Json& entry : header.array("positions")) {
    require(entry.is_number_unsigned() && entry.get<uint64_t>() >= 1 && entry.get<uint64_t>() <= KvPage::kPositions,
            "{}: a page holds from 1 to {} positions", name, KvPage::kPositions);
    positions.push_back(entry.get<size_t>());
    pages.push_back(is_full ? nullptr : pool.take());
    is_full = is_full || pages.back() == nullptr;
    if (is_full) continue;
    for (const auto part : pages.back()->bytes_of(positions.back())) std::ranges::copy(rest.take(part.size()), part.begin());
  }
  require(is_full || rest.empty(), "{}: goes on after its last prompt", name);

  std::vector<SavedPrompt> prompts;
  for (const Json& entry : header.array("prompts")) {
    const JsonObject object(entry, name + ": a prompt");
    SavedPrompt prompt{.is_long = object.boolean("long", false)};
    for (const Json& token : object.array("tokens")) {
      require(token.is_number_integer(), "{}: tokens must be numbers", name);
      prompt.tokens.push_back(token.get<int32_t>());
    }
    prompt.prompt = static_cast<size_t>(object.integer("prompt", 0, INT32_MAX));
    const Json& numbers = object.array("pages");
    require(numbers.size() == KvPage::count_for(prompt.tokens.size()) && !numbers.empty(), "{}: a prompt of {} tokens has {} pages", name, prompt.tokens.size(), numbers.size());
    bool is_whole = true;
    for (size_t i = 0; i < numbers.size(); ++i) {
      require(numbers[i].is_number_unsigned() && numbers[i].get<uint64_t>() < pages.size(), "{}: there is no such page", name);
      const auto number = numbers[i].get<size_t>();
      require(positions[number] >= positions_of(prompt.tokens.size(), i), "{}: a page holds less than its prompt has", name);
      is_whole = is_whole && pages[number] != nullptr;
      prompt.pages.push_back(pages[number]);
    }
    if (is_whole) prompts.push_back(std::move(prompt));
  }
  return prompts;
}

}  // namespace moiety::engine
