// Parallel loops on the OpenMP threads that libtorch uses too: one pool, so that nobody spins against
// anybody. A body may not throw.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstddef>

namespace moiety::train {

// body(i) once for each i < count, handed out one by one as threads become free: for tasks of unequal size. Which
// thread runs which task must not change a result.
template <class Body>
void parallel_tasks(size_t count, const Body& body) {
  if (count <= 1 || omp_in_parallel()) {  // a team of one costs as much as a small product
    for (size_t i = 0; i < count; ++i) body(i);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1)
  for (size_t i = 0; i < count; ++i) body(i);
}

// body(begin, end, part): [0, count) in `parts` equal pieces, one a thread. The cut depends on the number of threads
// only, so results that are summed over pieces are the same in every run with that many threads.
inline size_t parallel_parts() { return static_cast<size_t>(omp_get_max_threads()); }
template <class Body>
void parallel_ranges(size_t count, const Body& body) {
  const size_t parts = parallel_parts();
#pragma omp parallel for schedule(static, 1) if (parts > 1)
  for (size_t part = 0; part < parts; ++part) {
    const size_t begin = count * part / parts, end = count * (part + 1) / parts;
    if (begin < end) body(begin, end, part);
  }
}

}  // namespace moiety::train
