#include "corpus/documents.h"

#include <algorithm>

#include "base/error.h"
#include "corpus/split.h"

namespace moiety::corpus {
namespace {

constexpr size_t kNulWindow = 64 << 10;
constexpr size_t kControlsPerText = 20;  // one control character in so many bytes is too many

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == text.npos; }

// The length of the separator's line when one starts at `at`, else 0.
size_t separator_line(std::string_view text, size_t at) {
  if (at > 0 && text[at - 1] != '\n') return 0;
  const std::string_view rest = text.substr(at + 1, 2);
  if (rest.empty() || rest.starts_with('\n')) return std::min<size_t>(2, text.size() - at);
  return rest == "\r\n" ? 3 : 0;
}

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte < 0x20 && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != kSeparator) ||
         byte == 0x7f;
}

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

}  // namespace

std::vector<std::string_view> split_documents(std::string_view text) {
  std::vector<std::string_view> documents;
  const auto add = [&](std::string_view document) {
    if (!is_blank(document)) documents.push_back(document);
  };
  size_t begin = 0;
  for (size_t at = text.find(kSeparator); at != text.npos; at = text.find(kSeparator, at + 1)) {
    const size_t line = separator_line(text, at);
    if (line == 0) continue;
    add(text.substr(begin, at - begin));
    begin = at + line;
  }
  add(text.substr(begin));
  return documents;
}

std::vector<fs::path> list_files(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) fail(ErrorKind::Io, "{}: no such file or folder", path.string());
  if (!fs::is_directory(status)) return {path};

  std::vector<fs::path> files;
  fs::recursive_directory_iterator entry(path, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code ignored;  // a link to nowhere is not a regular file
    if (is_hidden(entry->path())) {
      entry.disable_recursion_pending();
    } else if (entry->is_regular_file(ignored)) {
      files.push_back(entry->path());
    }
  }
  if (error) fail(ErrorKind::Io, "{}: cannot list the folder: {}", path.string(), error.message());
  std::sort(files.begin(), files.end(),
            [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  return files;
}

std::string domain_of(const fs::path& path) {
  const fs::path whole = path.has_filename() ? path : path.parent_path();
  std::string name = whole.filename().string();
  const auto drop = [&](std::string_view end) {
    if (name.size() > end.size() && name.ends_with(end)) name.resize(name.size() - end.size());
  };
  drop(".txt");
  for (const Split split : kSplits) drop(fmt::format(".{}", split_name(split)));
  return name;
}

bool is_text(std::string_view bytes) {
  if (bytes.substr(0, kNulWindow).find('\0') != bytes.npos) return false;
  const auto controls = static_cast<size_t>(std::count_if(bytes.begin(), bytes.end(), is_control));
  return controls * kControlsPerText <= bytes.size();
}

Visited for_each_document(const fs::path& path,
                          const std::function<void(std::string_view)>& visit) {
  Visited visited;
  for (const fs::path& file : list_files(path)) {
    const MappedFile mapped(file);
    ++visited.files;
    if (!is_text(mapped.text())) {
      ++visited.not_text;
      continue;
    }
    for (const std::string_view document : split_documents(mapped.text())) {
      ++visited.documents;
      visited.bytes += document.size();
      visit(document);
    }
  }
  return visited;
}

}  // namespace moiety::corpus
