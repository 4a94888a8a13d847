#include "base/build_id.h"

#include <elf.h>
#include <fmt/core.h>
#include <link.h>

#include <cstring>

namespace moiety {
namespace {

size_t aligned(size_t size) { return (size + 3) / 4 * 4; }

// The notes of one segment: a header, a name and a text each.
std::string find_in(const char* at, const char* end) {
  while (at + sizeof(ElfW(Nhdr)) <= end) {
    ElfW(Nhdr) note;
    std::memcpy(&note, at, sizeof note);
    const char *const name = at + sizeof note, *const text = name + aligned(note.n_namesz);
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(name, "GNU", 4) == 0 && text + note.n_descsz <= end) {
      std::string hex;
      for (size_t i = 0; i < note.n_descsz / 2; ++i) hex += fmt::format("{:02x}", static_cast<unsigned char>(text[i]));
      return hex;
    }
    at = text + aligned(note.n_descsz);
  }
  return {};
}

// The first object is the program.
int look_at(dl_phdr_info* object, size_t, void* found) {
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const auto& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const char* const begin = reinterpret_cast<const char*>(object->dlpi_addr + segment.p_vaddr);
    const std::string id = find_in(begin, begin + segment.p_memsz);
    if (!id.empty()) *static_cast<std::string*>(found) = id;
  }
  return 1;
}

}  // namespace

std::string build_id() {
  std::string found = "unknown";
  dl_iterate_phdr(look_at, &found);
  return found;
}

}  // namespace moiety
