// What turns one piece of text into token ids: byte pairs, Unigram or WordPiece.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "text/piece_cache.h"

namespace moiety::text {

class PieceModel {
 public:
  virtual ~PieceModel() = default;

  // What encoding writes to. One a thread, and for one model: it remembers pieces.
  struct Candidate {
    int32_t rank, result;
    int32_t left, right;  // the ids when it was found; if they have changed since, it is stale
    uint32_t at;
  };
  struct Symbol {
    int32_t id;
    uint32_t previous, next;
  };
  struct PathEnd {
    double score;
    uint32_t begin;  // of the last token on the best path to here
    int32_t id;
  };
  struct Scratch {
    PieceCache cache;
    std::vector<Candidate> heap;   // BPE
    std::vector<Symbol> symbols;   // BPE
    std::vector<PathEnd> paths;    // Unigram
  };
  // Appends the ids of the piece, which isn't empty.
  virtual void encode(std::string_view piece, Scratch& scratch,
                      std::vector<int32_t>& ids) const = 0;
};

}  // namespace moiety::text
