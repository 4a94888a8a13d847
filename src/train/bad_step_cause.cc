#include "train/bad_step_cause.h"

#include <cmath>

namespace moiety::train {
namespace {

Json to_json(const TextPlace& place) {
  return {{"domain", place.domain}, {"document", place.document}, {"token", place.token}, {"file", place.file.filename().string()}, {"byte", place.byte}};
}

Json to_json(const GradientShare& share) {
  Json json = {{"tensor", share.entry->name}};
  if (share.entry->weight.layer >= 0) json["layer"] = share.entry->weight.layer;
  if (share.expert >= 0) json["expert"] = share.expert;
  return json;
}

void say_damage(const Damage& damage, const PreparedData& data, Cause& cause) {
  const TextPlace place = place_in_text(data, damage.domain, damage.at);
  cause.words += fmt::format(", {} has token {} at byte {}, which the vocabulary has not (document {}; delete the file to have it made again)",
                             place.file.string(), damage.id, place.byte, place.document);
  cause.fields["damage"] = to_json(place);
}

void say_gradient(const Verdict& verdict, const std::vector<GradientShare>& gradient, Cause& cause) {
  if (const NoNumbers found = no_numbers(gradient); found.first != nullptr) {
    cause.words += fmt::format(", first in {}", name_of(*found.first));
    if (found.count > 1) cause.words += fmt::format(" and then in {} more", found.count - 1);
    cause.fields["gradient"] = to_json(*found.first);
    cause.fields["gradient"]["no_numbers"] = found.count;
  } else if (const GrownShare most = most_grown(gradient); verdict.trouble != Trouble::Damage && most.of != nullptr && most.share > 0) {
    cause.words += fmt::format(", {:.0f} % of its square in {}, usually {:.0f} %", 100 * most.share, name_of(*most.of), 100 * most.usually);
    cause.fields["gradient"] = to_json(*most.of);
    cause.fields["gradient"].update({{"share", most.share}, {"usually", most.usually}});
  }
}

void say_text(const TextLoss& text, const PreparedData& data, Cause& cause) {
  const TextPlace place = place_in_text(data, text.domain, static_cast<uint64_t>(text.at));
  const double nats = text.nats / static_cast<double>(text.tokens);
  cause.words += fmt::format("; the costliest text is document {} of domain \"{}\" from token {} on, {} nats a token", place.document, place.domain, place.token,
                             in_words(nats));
  cause.fields["text"] = to_json(place);
  cause.fields["text"].update({{"tokens", text.tokens}, {"nats_per_token", nats}});
}

}  // namespace

Cause cause_of(const Verdict& verdict, const StepTraces& traces, const PreparedData& data, comm::Group* ranks) {
  Cause cause{"", Json::object()};
  const std::optional<TextLoss> text = worst_text(traces.texts, ranks);
  if (verdict.trouble == Trouble::Damage) {
    if (traces.damage) say_damage(*traces.damage, data, cause);
    return cause;
  }
  if (traces.router) {
    cause.words += fmt::format(", first in the router of {}", *traces.router);
    cause.fields["router"] = *traces.router;
  }
  if (verdict.trouble == Trouble::NormNoNumber || verdict.trouble == Trouble::NormSpike) say_gradient(verdict, traces.gradient, cause);
  if (text) say_text(*text, data, cause);
  return cause;
}

}  // namespace moiety::train
