#include "comm/culprit.h"

#include <fmt/core.h>

#include <algorithm>

namespace moiety::comm {
namespace {

const Flight* newest_in(const Seen& seen, const std::string& group) {
  const auto found = std::ranges::find(seen.newest, group, &Flight::group);
  return found == seen.newest.end() ? nullptr : &*found;
}

int64_t reached(const Seen& seen, const std::string& group) {
  const Flight* const newest = newest_in(seen, group);
  return newest == nullptr ? 0 : newest->number;
}

std::string place_of(const Seen& seen, const std::string& group) {
  const Flight* const newest = newest_in(seen, group);
  std::string place = seen.doing.empty() ? "" : "in " + seen.doing;
  if (newest != nullptr) place += fmt::format("{}{} exchange {}", place.empty() ? "" : ", ", newest->is_done ? "after" : "within", newest->number);
  return place.empty() ? "before its first exchange" : place;
}

std::string state_of(const Seen& seen) {
  if (!seen.is_heard) return "was never heard of";
  if (seen.has_left) return "has ended";
  if (seen.has_stopped) return "found an exchange broken";
  return seen.is_silent ? "gives no sign any more" : "is at work";
}

bool is_another_call(const Flight& mine, const Flight& theirs) {
  return mine.number == theirs.number && (mine.kind != theirs.kind || (mine.is_equal && theirs.is_equal && mine.numbers != theirs.numbers));
}

}  // namespace

std::optional<Culprit> find_culprit(const Flight& stopped, const std::vector<Seen>& others, const std::optional<Gone>& gone) {
  // Somebody says so
  if (gone) {
    const auto victim = std::ranges::find(others, gone->rank, &Seen::rank);
    const bool is_known = victim != others.end() && victim->is_heard;
    if (!is_known || !victim->has_stopped) {
      return Culprit{gone->rank, gone->how + (is_known ? fmt::format("; it was last seen {}", place_of(*victim, stopped.group)) : "")};
    }
  }
  // Another call at this number
  for (const Seen& seen : others) {
    const Flight* const theirs = newest_in(seen, stopped.group);
    if (theirs != nullptr && is_another_call(stopped, *theirs)) return Culprit{seen.rank, "makes another call of it: " + describe(*theirs)};
  }
  // Who is furthest behind, and has not stopped because of others
  const Seen* behind = nullptr;
  for (const Seen& seen : others) {
    if (seen.has_stopped) continue;
    if (behind == nullptr || reached(seen, stopped.group) < reached(*behind, stopped.group)) behind = &seen;
  }
  if (behind == nullptr) return std::nullopt;
  const std::string where = behind->is_heard ? fmt::format("; it {}, last seen {}", state_of(*behind), place_of(*behind, stopped.group)) : "; it was never heard of";
  if (reached(*behind, stopped.group) < stopped.number) return Culprit{behind->rank, "it never came to it" + where};
  if (behind->is_silent || behind->has_left) return Culprit{behind->rank, "it did not end it" + where};
  return std::nullopt;
}

std::string table(const std::vector<Seen>& ranks, const std::optional<Gone>& gone) {
  std::string text;
  for (const Seen& seen : ranks) {
    const bool is_gone = gone && gone->rank == seen.rank && !seen.has_stopped;
    text += fmt::format("  rank {:<4} {}, {}\n", seen.rank, is_gone ? gone->how : state_of(seen), place_of(seen, ""));
  }
  return text;
}

}  // namespace moiety::comm
