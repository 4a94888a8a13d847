// How undecided a token is between experts.
#pragma once

#include <cstddef>
#include <span>

namespace moiety::moe {

// Tsallis' entropy (1 - sum p^q) / (q - 1) of shares p that sum to one, for q > 0; of q = 1, its limit: Shannon's, in nats.
float entropy(float q, std::span<const float> p);
// The largest that it can be, of `count` equal shares.
float entropy_of_equals(float q, size_t count);
// d(entropy) / d(p) of one share; 0 of a share that has vanished.
float entropy_slope(float q, float p);

}  // namespace moiety::moe
