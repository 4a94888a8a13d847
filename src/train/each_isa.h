// For inner loops: the compiler makes a copy of the function for each instruction set, vectorised for it, and the machine picks one when
// the program starts.
#pragma once

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define MOIETY_EACH_ISA __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MOIETY_EACH_ISA
#endif
