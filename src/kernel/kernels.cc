#include "kernel/kernels.h"

#include <array>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace moiety::kernel {

const Kernels& avx2_kernels();
const Kernels& avx512_kernels();

namespace {

#if defined(__x86_64__)
// clang 14's __builtin_cpu_supports does not know the name.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

struct Available {
  std::array<const Kernels*, 3> tables{};
  size_t count = 0;
};

Available detect() {
  Available available;
  const auto add = [&](const Kernels& table) { available.tables[available.count++] = &table; };
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16")) {
    add(avx512_kernels());
  }
  if (avx2) add(avx2_kernels());
#endif
  add(scalar_kernels());
  return available;
}

}  // namespace

std::span<const Kernels* const> available_kernels() {
  static const Available available = detect();
  return std::span(available.tables).first(available.count);
}

const Kernels* find_kernels(std::string_view name) {
  for (const Kernels* table : available_kernels()) {
    if (table->name == name) return table;
  }
  return nullptr;
}

}  // namespace moiety::kernel
