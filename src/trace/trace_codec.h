// What a trace's records hold, as bytes; trace_file.h puts frames with checksums around them.
//
// A varint is a number of at most 64 bits, seven of them a byte, the lowest first; the top bit says that another byte follows.
//
//   header  u8 0; varints: version (1), layers, how many of them are sparse, the number of each, experts, experts per token;
//           a text: the model's name. A text is a varint, how many bytes, and they.
//   step    u8 1; varint: parts; for each part
//             varints: sequence, first position, tokens, domain: how many domains were named before this one. A domain that is
//             named for the first time has the next number, and its text follows
//           then for each sparse layer
//             u8: 1 if it has weights, + 2 if all tokens visit equally many experts
//             how many experts each token visits: one varint for all (not 0), or one for each token
//             the experts of all visits, by token, in the order of falling score: u8, or u16 where there are more than 256
//             their weights, if it has any: bfloat16
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "trace/routing_trace.h"

namespace moiety::trace {

// Bounds that every trace keeps.
inline constexpr int kMostLayers = 4096, kMostExperts = 65536, kMostParts = 1 << 16, kMostDomains = 65536;
inline constexpr size_t kMostText = 255;                     // bytes
inline constexpr uint64_t kMostPositions = uint64_t{1} << 40;

// The domains that a trace has named so far, in the order of their numbers.
using DomainTable = std::vector<std::string>;

// Throws Error(Input) if no trace can be of such a model (it has no experts, or is beyond the bounds).
void check(const TraceHeader& header);

std::string encode_header(const TraceHeader& header);
// Adds what is new to `domains`. Throws Error(Input) if a domain's name is too long or one too many. The step must fit the header.
std::string encode_step(const TraceHeader& header, const StepTrace& step, DomainTable& domains);

// `where` begins the error's sentence. Throw Error(Input) unless the bytes are what an encoder above makes: experts in range and
// no two of a token the same, counts that agree, nothing left over. What they allocate is in proportion to the bytes.
TraceHeader decode_header(std::span<const std::byte> bytes, const std::string& where);
// Fills `step`, whose memory is used again.
void decode_step(std::span<const std::byte> bytes, const std::string& where, const TraceHeader& header, DomainTable& domains,
                 StepTrace& step);

}  // namespace moiety::trace
