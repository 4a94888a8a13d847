// Text as it is trained on: valid UTF-8 in NFC, lines that end in \n without trailing space, at
// most two blank lines in a row, and no control characters but tab and newline.
#pragma once

#include <string>
#include <string_view>

namespace moiety::corpus {

// Empty, or ends in one newline. normalise(normalise(x)) == normalise(x), whatever the bytes of x.
std::string normalise(std::string_view text);

}  // namespace moiety::corpus
