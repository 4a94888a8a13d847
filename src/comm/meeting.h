// How ranks find each other: all of them, each once, and all alike.
#pragma once

#include <chrono>
#include <string>

#include "comm/place.h"
#include "comm/store.h"

namespace moiety::comm {

// Waits until all ranks of the job have come to the store. `alike` is what must be the same of all of them, as a word of a sentence:
// "moiety 0.1.0". Throws Error(Io), on every rank, if somebody does not come in time, comes twice, or ends meanwhile; Error(Input) if
// they differ.
void meet(Store& store, const Place& place, const std::string& alike, std::chrono::milliseconds patience);

}  // namespace moiety::comm
