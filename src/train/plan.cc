#include "train/plan.h"

namespace moiety::train {

Plan read_plan(const fs::path& run) {
  const fs::path path = run / "plan.json";
  if (!fs::exists(path)) return {};
  const Json json = parse_json(read_file(path), path.string());
  const JsonObject object(json, path.string());
  Plan plan{object.integer("steps", 0, INT64_MAX, 0), object.number("seconds_per_step", 0)};
  if (object.has("step_law")) plan.chosen = chosen_from_json(object.at("step_law"), path.string() + ": step_law");
  return plan;
}

void write_plan(const fs::path& run, const Plan& plan) {
  Json json = Json::object();
  if (plan.steps > 0) json = {{"steps", plan.steps}, {"seconds_per_step", plan.seconds_per_step}};
  if (plan.chosen) json["step_law"] = to_json(*plan.chosen);
  write_file(run / "plan.json", json.dump(2) + "\n");
}

}  // namespace moiety::train
