// What systemd wants to be told by a service of Type=notify.
#pragma once

#include <string>
#include <string_view>

namespace moiety::cli {

// Sends `state` (sd_notify(3): "READY=1", "STOPPING=1", "STATUS=…") to the socket that NOTIFY_SOCKET names, a path or, with '@',
// an abstract name. Nothing happens if there is none.
void tell_service_manager(std::string_view state);

}  // namespace moiety::cli
