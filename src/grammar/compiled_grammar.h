// A grammar made ready for the tokens of a vocabulary: which may come next. Requests of the same grammar share one, and what one
// of them has found out the others needn't.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "grammar/matcher.h"
#include "grammar/vocabulary.h"

namespace moiety::grammar {

// Any number of threads may use one at the same time.
class CompiledGrammar {
 public:
  // Throws Error(Input) for a grammar that can't be compiled (automaton.h).
  CompiledGrammar(const Grammar& grammar, std::shared_ptr<const Vocabulary> vocabulary);

  // How far one text has come.
  class Position {
   public:
    explicit Position(std::shared_ptr<CompiledGrammar> grammar);
    ~Position();
    Position(const Position&) = delete;
    Position& operator=(const Position&) = delete;

    // All throw Error(Input) when it takes unreasonably long to find out: an ambiguous grammar.
    bool allows(int32_t token);
    // Throws Error(Input) for a token that is not allowed.
    void accept(int32_t token);
    bool may_end() const;
    // Sets the logits of all tokens that may not come next to -infinity; whether one may.
    bool mask(std::span<float> logits_V);

   private:
    friend class CompiledGrammar;
    template <class Work>
    auto within_limits(Work work);

    std::shared_ptr<CompiledGrammar> grammar_;
    Matcher::State state_;  // guarded by grammar_->mutex_
    uint64_t work_left_;
  };

 private:
  struct Mask {
    std::vector<uint64_t> bits;  // by token
    bool is_empty = true;
  };
  Matcher::State walk(Matcher::State from, int32_t token);
  const Mask& mask_of(Matcher::State state);
  Mask make_mask(Matcher::State state);
  void forget_some();

  const std::shared_ptr<const Vocabulary> vocabulary_;
  std::mutex mutex_;
  // Guarded by mutex_:
  Matcher matcher_;
  std::unordered_set<Position*> positions_;
  std::list<std::pair<Matcher::State, Mask>> masks_;  // the latest first
  std::unordered_map<Matcher::State, decltype(masks_)::iterator> mask_of_;
  std::vector<Matcher::State> walk_;  // states by depth in the vocabulary's tree
};

// The latest few grammars, by their source. Any number of threads may use it.
class GrammarCache {
 public:
  explicit GrammarCache(std::shared_ptr<const Vocabulary> vocabulary) : vocabulary_(std::move(vocabulary)) {}
  // `key` says what is compiled and how; `make` is called if it isn't there, and what it throws comes through.
  std::shared_ptr<CompiledGrammar> get(const std::string& key, const std::function<Grammar()>& make);

 private:
  const std::shared_ptr<const Vocabulary> vocabulary_;
  std::mutex mutex_;
  std::list<std::pair<std::string, std::shared_ptr<CompiledGrammar>>> latest_;  // guarded by mutex_
};

}  // namespace moiety::grammar
