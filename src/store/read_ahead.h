// How many experts to read before anyone has asked for them. While the disk would have nothing else to do that is free; beyond,
// a wrong one makes those wait that are asked for, so that it must be likely enough to be right. Decided from what was measured:
// how long the disk has had nothing to do between two visits, how long an expert takes to read, how often what was expected came.
#pragma once

#include <array>
#include <cstddef>

namespace moiety::store {

class ReadAhead {
 public:
  // After a visit of a layer in a step of so many tokens: `expected` experts that were not in memory were expected, of which
  // `right` were asked for; the disk had had nothing to do for so long before it, or would not have had without what was read
  // ahead.
  void learn(size_t tokens, size_t expected, size_t right, double idle_seconds);
  // How long one expert takes when nothing but experts is read.
  void learn_read(double seconds);

  // As many of the experts that are expected next.
  size_t limit(size_t tokens) const;

 private:
  // Of steps of about as many tokens: one token and a prompt are worlds apart.
  struct Kind {
    bool is_known = false;
    double precision = 0, idle_seconds = 0;
  };
  static size_t kind(size_t tokens);
  std::array<Kind, 24> kinds_;
  double read_seconds_ = 0;
};

}  // namespace moiety::store
