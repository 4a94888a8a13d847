// What a template may use before it is stopped: steps, bytes, depth. A template comes with a model from somewhere, and
// nothing of it is believed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace moiety::jinja {

enum class FaultKind {
  Syntax,     // the template cannot be parsed
  Refused,    // the template called raise_exception
  Operation,  // the template did what cannot be done
  Budget,     // the template took too long or asked for too much
};

// What stops a template, and the line where it does. Template makes a sentence of it.
struct Fault {
  FaultKind kind;
  int line;
  std::string what;
};

struct Limits {
  uint64_t steps = 20'000'000;  // nodes visited, elements looked at; long text counts by its length
  size_t bytes = 256u << 20;    // of all that is made, freed or not
  int depth = 800;              // of nested expressions, statements and macro calls
  int value_depth = 200;        // of lists in lists when they are printed or compared
  int64_t range = 100'000;      // elements of a range(), as jinja2's sandbox has it
};

class Budget {
 public:
  explicit Budget(const Limits& most = {}) : limits(most) {}

  void step(uint64_t count = 1) {
    if (count > limits.steps - steps_) spent("time", limits.steps, "steps");
    steps_ += count;
  }
  // A pass over `bytes` bytes of text.
  void scan(size_t bytes) { step(bytes / 32); }
  void allocate(size_t bytes) {
    if (bytes > limits.bytes - bytes_) spent("memory", limits.bytes, "bytes");
    bytes_ += bytes;
  }
  [[noreturn]] void spent(const char* what, uint64_t limit, const char* unit) const;
  // A wrong operation at the current line.
  [[noreturn]] void fault(std::string what) const { throw Fault{FaultKind::Operation, line, std::move(what)}; }

  Limits limits;
  int line = 0;   // of what is being evaluated
  int depth = 0;  // of evaluation

 private:
  uint64_t steps_ = 0;
  size_t bytes_ = 0;
};

// One level deeper until the end of the scope.
class Deeper {
 public:
  explicit Deeper(Budget& budget) : budget_(budget) {
    if (budget_.depth >= budget_.limits.depth) budget_.spent("nesting", budget_.limits.depth, "levels");
    ++budget_.depth;
  }
  ~Deeper() { --budget_.depth; }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;

 private:
  Budget& budget_;
};

}  // namespace moiety::jinja
