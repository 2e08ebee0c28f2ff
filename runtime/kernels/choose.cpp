// Which instruction sets this CPU has, asked of the CPU and of the system that must save their registers.

#include <cstdlib>
#include <cstring>

#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace moedge {
namespace {

struct Usable {
  const Kernels* sets[8];
  size_t count = 0;
  void add(const Kernels& one, bool here) {
    if (here) sets[count++] = &one;
  }
};

#if defined(__x86_64__)
uint64_t saved_registers() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
}

Usable find_usable() {
  Usable found;
  found.add(SCALAR, true);
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
  const bool fma = c >> 12 & 1, saves = c >> 27 & 1, avx = c >> 28 & 1, f16c = c >> 29 & 1;
  if (!(fma && saves && avx && f16c) || (saved_registers() & 6) != 6) return found;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
  const bool avx2 = b >> 5 & 1, f = b >> 16 & 1, dq = b >> 17 & 1, bw = b >> 30 & 1, vl = b >> 31 & 1,
             vnni = c >> 11 & 1;
  const bool saves_wide = (saved_registers() & 0xe6) == 0xe6;
  found.add(AVX2, avx2);
#ifndef MOEDGE_WITHOUT_AVXVNNI
  uint32_t one;
  found.add(AVXVNNI, avx2 && __get_cpuid_count(7, 1, &one, &b, &c, &d) && one >> 4 & 1);
#endif
  found.add(AVX512VNNI, avx2 && saves_wide && f && dq && bw && vl && vnni);
  return found;
}
#elif defined(__aarch64__)
constexpr unsigned long DOT = 1ul << 20, MATRIX = 1ul << 13;  // HWCAP_ASIMDDP, HWCAP2_I8MM

Usable find_usable() {
  Usable found;
  found.add(SCALAR, true);
  found.add(NEON, true);
  const bool dot = getauxval(AT_HWCAP) & DOT;
  found.add(DOTPROD, dot);
#ifndef MOEDGE_WITHOUT_I8MM
  found.add(I8MM, dot && (getauxval(AT_HWCAP2) & MATRIX));
#endif
  return found;
}
#else
Usable find_usable() {
  Usable found;
  found.add(SCALAR, true);
  return found;
}
#endif

const Usable& usable() {
  static const Usable found = find_usable();
  return found;
}

const Kernels* find_chosen() {
  const Usable& found = usable();
  const char* wanted = getenv("MOEDGE_ISA");
  if (!wanted || !*wanted) return found.sets[found.count - 1];
  for (size_t i = 0; i < found.count; i++)
    if (!strcmp(found.sets[i]->name, wanted)) return found.sets[i];
  return nullptr;
}

}  // namespace

const Kernels* const* usable_kernels(size_t* count) {
  *count = usable().count;
  return usable().sets;
}

const Kernels* chosen_kernels() {
  static const Kernels* const chosen = find_chosen();
  return chosen;
}

}  // namespace moedge
