// Text files as documents: a file is one document, or several parted by lines that hold U+001E
// alone. The output of `moiety corpus` and anybody's own text files or folders are read by the same
// functions.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace moiety::corpus {

// Alone on a line it parts two documents: the record separator of ASCII.
inline constexpr char kSeparator = '\x1e';

// Views into `text`, in order, each with its last newline; blank documents are left out.
std::vector<std::string_view> split_documents(std::string_view text);

// A file is its own list; a folder gives every regular file in it and in its folders, sorted by
// path. Hidden ones and linked folders are left out. Throws Error(Io) if there is no such path or
// it can't be listed.
std::vector<fs::path> list_files(const fs::path& path);

// The domain that a file is of: its name without .txt, and without the split that `moiety corpus` adds: "text/german.valid.txt"
// is of "german".
std::string domain_of(const fs::path& path);

// No NUL near the start, and hardly any control characters: what the tools of this layer take for
// text.
bool is_text(std::string_view bytes);

struct Visited {
  size_t files = 0, documents = 0, bytes = 0;
  size_t not_text = 0;  // files passed over
};

// Calls visit(document) for every document of a file or folder, in the order of list_files. The
// view ends with the call.
Visited for_each_document(const fs::path& path, const std::function<void(std::string_view)>& visit);

}  // namespace moiety::corpus
