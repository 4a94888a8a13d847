#include "server/admission.h"

#include <algorithm>
#include <cmath>

namespace moiety::server {

using Clock = std::chrono::steady_clock;

Admission::Ticket::Ticket(Admission& admission, size_t answers) : admission_(admission), answers_(answers) {
  admission_.check();
  admission_.answers_ += answers_;
}

Admission::Ticket::~Ticket() {
  admission_.answers_ -= answers_;
  const double seconds = std::chrono::duration<double>(Clock::now() - since_).count();
  admission_.mean_seconds_ += 0.1 * (seconds - admission_.mean_seconds_);
}

void Admission::check() const {
  if (answers_ >= room_) throw refusal("too many requests wait already");
}

HttpError Admission::refusal(const std::string& why) const {
  HttpError error(429, "the server has more to do than it can: " + why, "rate_limit_exceeded");
  error.headers = {{"Retry-After", std::to_string(static_cast<int>(std::clamp(std::ceil(mean_seconds_), 1.0, 60.0)))}};
  return error;
}

}  // namespace moiety::server
