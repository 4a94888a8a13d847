#include "trace/trace_codec.h"

#include <algorithm>
#include <cassert>

#include "base/bytes.h"

namespace moiety::trace {
namespace {

constexpr uint8_t kHeader = 0, kStep = 1;
constexpr uint64_t kVersion = 1;
constexpr uint8_t kHasWeights = 1, kSameCount = 2;

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void put_text(std::string& out, const std::string& text) {
  put_varint(out, text.size());
  out += text;
}

template <class T>
void put_all(std::string& out, const std::vector<T>& values) {
  out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

// Values that may lie, with sentences that say which.
class Decoder {
 public:
  Decoder(std::span<const std::byte> bytes, const std::string& where) : bytes_(bytes, where), where_(where) {}

  uint8_t byte() { return bytes_.read<uint8_t>(); }
  uint64_t varint(const char* what, uint64_t low, uint64_t high) {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const uint64_t byte = bytes_.read<uint8_t>();
      require(shift < 63 || (shift == 63 && byte <= 1), "{}: {}: a number of more than 64 bits", where_, what);
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    require(value >= low && value <= high, "{}: {} is {}, expected {} to {}", where_, what, value, low, high);
    return value;
  }
  int count(const char* what, int low, int high) {
    return static_cast<int>(varint(what, static_cast<uint64_t>(low), static_cast<uint64_t>(high)));
  }
  std::string text(const char* what) { return std::string(bytes_.take_text(varint(what, 0, kMostText))); }
  std::span<const std::byte> take(size_t count) { return bytes_.take(count); }
  size_t remaining() const { return bytes_.remaining(); }
  void finish() const { require(remaining() == 0, "{}: {} bytes too many", where_, remaining()); }
  const std::string& where() const { return where_; }

 private:
  ByteReader bytes_;
  const std::string& where_;
};

// Visits of the tokens of one layer, which take up at least a byte each.
template <class Id>
void decode_experts(Decoder& in, moe::Routing& routing, std::vector<int>& last_visit_E) {
  const auto visits = static_cast<size_t>(routing.begin_T1.back());
  const auto bytes = in.take(visits * sizeof(Id));
  routing.experts_N.resize(visits);
  std::fill(last_visit_E.begin(), last_visit_E.end(), -1);
  for (int t = 0; t < routing.num_tokens(); ++t) {
    for (int n = routing.begin_T1[t]; n < routing.begin_T1[t + 1]; ++n) {
      Id expert;
      std::memcpy(&expert, bytes.data() + static_cast<size_t>(n) * sizeof(Id), sizeof(Id));
      require(expert < last_visit_E.size(), "{}: expert {} of {}", in.where(), expert, last_visit_E.size());
      require(last_visit_E[expert] != t, "{}: a token visits expert {} twice", in.where(), expert);
      last_visit_E[expert] = t;
      routing.experts_N[n] = expert;
    }
  }
}

void decode_layer(Decoder& in, size_t tokens, moe::Routing& routing, std::vector<int>& last_visit_E) {
  const int experts = routing.num_experts = static_cast<int>(last_visit_E.size());
  const uint8_t flags = in.byte();
  require(flags <= (kHasWeights | kSameCount), "{}: unknown flags {}", in.where(), flags);
  // No more is allocated than what is left of the record can fill: each token takes a byte at least, and each visit.
  require(tokens <= in.remaining(), "{}: {} tokens in {} bytes", in.where(), tokens, in.remaining());
  const size_t room = in.remaining();
  routing.begin_T1.assign(1, 0);
  if (flags & kSameCount) {
    const size_t each = static_cast<size_t>(in.count("experts of a token", 1, experts));
    require(tokens * each <= room, "{}: {} visits in {} bytes", in.where(), tokens * each, room);
    for (size_t t = 1; t <= tokens; ++t) routing.begin_T1.push_back(static_cast<int32_t>(t * each));
  } else {
    size_t visits = 0;
    for (size_t t = 0; t < tokens; ++t) {
      visits += static_cast<size_t>(in.count("experts of a token", 0, experts));
      require(visits <= room, "{}: {} visits in {} bytes", in.where(), visits, room);
      routing.begin_T1.push_back(static_cast<int32_t>(visits));
    }
  }
  experts <= 256 ? decode_experts<uint8_t>(in, routing, last_visit_E) : decode_experts<uint16_t>(in, routing, last_visit_E);

  routing.weights_N.clear();
  if ((flags & kHasWeights) == 0) return;
  const auto bytes = in.take(routing.experts_N.size() * 2);
  routing.weights_N.resize(routing.experts_N.size());
  for (size_t n = 0; n < routing.weights_N.size(); ++n) {
    uint16_t bits;
    std::memcpy(&bits, bytes.data() + 2 * n, 2);
    routing.weights_N[n] = bf16_to_float(bits);
  }
}

void encode_layer(std::string& out, const moe::Routing& routing) {
  const int tokens = routing.num_tokens(), each = tokens > 0 ? routing.begin_T1[1] : 0;
  bool same = each > 0;
  for (int t = 0; t < tokens; ++t) same = same && routing.begin_T1[t + 1] - routing.begin_T1[t] == each;
  const bool weights = !routing.weights_N.empty();
  out += static_cast<char>((weights ? kHasWeights : 0) | (same ? kSameCount : 0));
  if (same) put_varint(out, static_cast<uint64_t>(each));
  for (int t = 0; !same && t < tokens; ++t) put_varint(out, static_cast<uint64_t>(routing.begin_T1[t + 1] - routing.begin_T1[t]));

  if (routing.num_experts <= 256) {
    for (const int32_t expert : routing.experts_N) out += static_cast<char>(expert);
  } else {
    put_all(out, std::vector<uint16_t>(routing.experts_N.begin(), routing.experts_N.end()));
  }
  std::vector<uint16_t> bits(routing.weights_N.size());
  std::transform(routing.weights_N.begin(), routing.weights_N.end(), bits.begin(), float_to_bf16);
  put_all(out, bits);
}

}  // namespace

void check(const TraceHeader& header) {
  require(!header.sparse_layers.empty(), "{}: a dense model has no routing to trace", header.model);
  require(header.num_layers <= kMostLayers && header.num_experts <= kMostExperts && header.model.size() <= kMostText,
          "{}: {} layers of {} experts are more than a trace can hold ({} of {})", header.model, header.num_layers,
          header.num_experts, kMostLayers, kMostExperts);
}

std::string encode_header(const TraceHeader& header) {
  std::string out(1, static_cast<char>(kHeader));
  put_varint(out, kVersion);
  put_varint(out, static_cast<uint64_t>(header.num_layers));
  put_varint(out, header.sparse_layers.size());
  for (const int layer : header.sparse_layers) put_varint(out, static_cast<uint64_t>(layer));
  put_varint(out, static_cast<uint64_t>(header.num_experts));
  put_varint(out, static_cast<uint64_t>(header.experts_per_token));
  put_text(out, header.model);
  return out;
}

TraceHeader decode_header(std::span<const std::byte> bytes, const std::string& where) {
  Decoder in(bytes, where);
  require(in.byte() == kHeader, "{}: expected the trace's header", where);
  in.varint("the version", kVersion, kVersion);
  TraceHeader header{.num_layers = in.count("layers", 1, kMostLayers)};
  const int sparse = in.count("sparse layers", 1, header.num_layers);
  for (int i = 0; i < sparse; ++i) {
    const int least = header.sparse_layers.empty() ? 0 : header.sparse_layers.back() + 1;
    header.sparse_layers.push_back(in.count("a sparse layer", least, header.num_layers - 1));
  }
  header.num_experts = in.count("experts", 1, kMostExperts);
  header.experts_per_token = in.count("experts per token", 1, header.num_experts);
  header.model = in.text("the length of the model's name");
  in.finish();
  return header;
}

std::string encode_step(const TraceHeader& header, const StepTrace& step, DomainTable& domains) {
  assert(step.by_sparse_layer.size() == header.sparse_layers.size());
  std::string out(1, static_cast<char>(kStep));
  put_varint(out, step.parts.size());
  for (const Part& part : step.parts) {
    put_varint(out, part.sequence);
    put_varint(out, part.first_position);
    put_varint(out, static_cast<uint64_t>(part.tokens));
    const auto known = std::find(domains.begin(), domains.end(), part.domain);
    put_varint(out, static_cast<uint64_t>(known - domains.begin()));
    if (known != domains.end()) continue;
    require(part.domain.size() <= kMostText, "a domain's name of {} bytes; a trace holds {}", part.domain.size(), kMostText);
    require(domains.size() < static_cast<size_t>(kMostDomains), "more than the {} domains that a trace holds", kMostDomains);
    put_text(out, part.domain);
    domains.push_back(part.domain);
  }
  for (const moe::Routing& routing : step.by_sparse_layer) {
    assert(routing.num_experts == header.num_experts && routing.num_tokens() == step.num_tokens());
    encode_layer(out, routing);
  }
  return out;
}

void decode_step(std::span<const std::byte> bytes, const std::string& where, const TraceHeader& header, DomainTable& domains,
                 StepTrace& step) {
  Decoder in(bytes, where);
  require(in.byte() == kStep, "{}: expected a step", where);
  const int parts = in.count("parts", 0, kMostParts);
  step.parts.clear();
  size_t tokens = 0;
  for (int i = 0; i < parts; ++i) {
    Part part{.sequence = in.varint("a sequence", 0, UINT64_MAX - 1),
              .first_position = in.varint("a position", 0, kMostPositions),
              .tokens = in.count("tokens", 0, INT32_MAX)};
    const size_t domain = static_cast<size_t>(in.varint("a domain", 0, std::min<uint64_t>(domains.size(), kMostDomains - 1)));
    if (domain == domains.size()) domains.push_back(in.text("the length of a domain's name"));
    part.domain = domains[domain];
    tokens += static_cast<size_t>(part.tokens);
    step.parts.push_back(std::move(part));
  }
  std::vector<int> last_visit_E(static_cast<size_t>(header.num_experts));
  step.by_sparse_layer.resize(header.sparse_layers.size());
  for (moe::Routing& routing : step.by_sparse_layer) decode_layer(in, tokens, routing, last_visit_E);
  in.finish();
}

}  // namespace moiety::trace
