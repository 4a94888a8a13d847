#include "format/tokenizer_json_parser.h"

#include "spec/tokenizer_spec.h"

namespace moiety::format {
namespace {

constexpr size_t kDeepest = 100;
// An ordered object is searched from its beginning at every insertion. Real ones outside the
// vocabulary have a handful.
constexpr size_t kMostKeys = 10'000;

// Called by the parser for each thing it meets.
class Handler final : public nlohmann::json_sax<Json> {
 public:
  Handler(TokenizerJson& out, const std::string& where) : out_(out), where_(where) {}

  bool null() override { return value(nullptr); }
  bool boolean(bool v) override { return value(v); }
  bool number_integer(number_integer_t v) override { return number(v, v); }
  bool number_unsigned(number_unsigned_t v) override {
    return number(v, v > uint64_t{spec::kMostTokens} ? -1 : static_cast<int64_t>(v));
  }
  bool number_float(number_float_t v, const string_t&) override { return number(v, -1); }
  bool binary(binary_t&) override { return false; }

  bool string(string_t& text) override {
    if (place_ == Place::Merges) {
      add_merge(text);
    } else if (place_ == Place::MergePair) {
      require(parts_ < 2, "{}: merge {} has more than two parts", where_, out_.merges.size());
      (parts_++ == 0 ? out_.merges.back().first : out_.merges.back().second) = std::move(text);
    } else if (place_ == Place::ScoredPair && parts_ == 0) {
      out_.scored.emplace_back(std::move(text), 0);
      parts_ = 1;
    } else {
      return value(std::move(text));
    }
    return true;
  }

  bool start_object(size_t) override {
    if (place_ == Place::Rest && at("model", "vocab")) return enter(Place::Vocab);
    return start(Json::object());
  }
  bool start_array(size_t) override {
    if (place_ == Place::Rest && at("model", "merges")) {
      out_.has_merges = true;
      return enter(Place::Merges);
    }
    if (place_ == Place::Rest && at("model", "vocab")) return enter(Place::Scored);
    parts_ = 0;
    if (place_ == Place::Merges) {
      out_.merges.emplace_back();
      return enter(Place::MergePair);
    }
    if (place_ == Place::Scored) return enter(Place::ScoredPair);
    return start(Json::array());
  }
  bool key(string_t& text) override {
    key_ = std::move(text);
    if (open_.size() == 1 && place_ == Place::Rest) top_key_ = key_;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::Vocab) {
      place_ = Place::Rest;
    } else {
      open_.pop_back();
    }
    return true;
  }
  bool end_array() override {
    if (place_ == Place::MergePair) {
      require(parts_ == 2, "{}: merge {} has {} parts, expected two", where_, out_.merges.size(),
              parts_);
      place_ = Place::Merges;
    } else if (place_ == Place::ScoredPair) {
      require(parts_ == 2, "{}: token {} of the list must have a text and a score", where_,
              out_.scored.size());
      place_ = Place::Scored;
    } else if (place_ == Place::Merges || place_ == Place::Scored) {
      place_ = Place::Rest;
    } else {
      open_.pop_back();
    }
    return true;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    std::string_view what = error.what();
    what.remove_prefix(what.find("] ") == what.npos ? 0 : what.find("] ") + 2);
    fail(ErrorKind::Input, "{}: not valid JSON: {}", where_, what);
  }

 private:
  enum class Place { Rest, Vocab, Merges, MergePair, Scored, ScoredPair };

  bool at(std::string_view top, std::string_view below) const {
    return open_.size() == 2 && open_.back()->is_object() && top_key_ == top && key_ == below;
  }
  bool enter(Place place) {
    place_ = place;
    return true;
  }

  template <class T>
  bool number(T v, int64_t id) {
    if (place_ == Place::ScoredPair && parts_ == 1) {
      out_.scored.back().second = static_cast<double>(v);
      parts_ = 2;
      return true;
    }
    if (place_ != Place::Vocab) return value(v);
    require(id >= 0 && id < spec::kMostTokens,
            "{}: the id of token \"{}\" must be an integer from 0 to {}, found {}", where_, key_,
            spec::kMostTokens - 1, v);
    out_.vocab.emplace_back(std::move(key_), static_cast<int32_t>(id));
    return true;
  }

  // "a b"
  void add_merge(const std::string& text) {
    const size_t space = text.find(' ');
    require(space != text.npos && text.find(' ', space + 1) == text.npos,
            "{}: merge {} must be two tokens with a space between, found \"{}\"", where_,
            out_.merges.size() + 1, text.substr(0, 60));
    out_.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }

  // A thing that isn't what its place wants.
  void require_rest(const Json& v) const {
    require(place_ != Place::Vocab, "{}: the id of token \"{}\" must be an integer, found {}",
            where_, key_, v.type_name());
    require(place_ != Place::Scored && place_ != Place::ScoredPair,
            "{}: token {} of the list must be a text and a score, found {}", where_,
            out_.scored.size() + (place_ == Place::Scored ? 1 : 0), v.type_name());
    require(place_ == Place::Rest, "{}: merge {} must be a string or a pair of strings, found {}",
            where_, out_.merges.size() + 1, v.type_name());
  }

  bool value(Json v) {
    require_rest(v);
    insert(std::move(v));
    return true;
  }

  bool start(Json container) {
    require_rest(container);
    require(open_.size() < kDeepest, "{}: JSON nested deeper than {} levels", where_, kDeepest);
    open_.push_back(insert(std::move(container)));
    return true;
  }

  Json* insert(Json v) {
    if (open_.empty()) {
      out_.rest = std::move(v);
      return &out_.rest;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    require(parent.size() < kMostKeys, "{}: an object with more than {} keys", where_, kMostKeys);
    return &(parent[key_] = std::move(v));
  }

  TokenizerJson& out_;
  const std::string& where_;
  Place place_ = Place::Rest;
  std::string key_, top_key_;
  int parts_ = 0;            // of the merge or scored token being read
  std::vector<Json*> open_;  // each the last element of the one before, so none of them moves
};

}  // namespace

TokenizerJson parse_tokenizer_json(std::string_view text, const std::string& where) {
  TokenizerJson parsed;
  Handler handler(parsed, where);
  Json::sax_parse(text.begin(), text.end(), &handler);
  return parsed;
}

}  // namespace moiety::format
