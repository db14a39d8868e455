// Which samplers this processor can run.

#include "sampler.h"

extern const Processor portable;
#ifdef WITH_AVX
extern const Processor avx2, avx512;
#endif

// Writes them to `found`, which has room for three, the best one last, and returns how many there are.
extern "C" int32_t smoothctl_processors(const Processor **found) {
    int32_t count = 0;
    found[count++] = &portable;
#ifdef WITH_AVX
    __builtin_cpu_init();
    if (__builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2")) found[count++] = &avx2;
    if (__builtin_cpu_supports("fma") && __builtin_cpu_supports("avx512f")) found[count++] = &avx512;
#endif
    return count;
}

// The state of the sources that this was compiled from.
extern "C" const char *smoothctl_fingerprint() { return FINGERPRINT; }
