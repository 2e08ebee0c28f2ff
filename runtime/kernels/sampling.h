// One token of logits, by the same numbers as runtime/distribution.py, bit for bit: the two are tested against each
// other. What is rare or wrong is left to that file.
#pragma once

#include <cstdint>

namespace moedge {

// runtime/kernels/choice.py has the same fields.
struct Choice {
  float* room;  // [size]
  char* work;   // [work_bytes(size)]
  int64_t size, seen_count, top_k;
  double temperature, top_p, min_p, chance;
  float factor;         // 1 / temperature
  float lowest, least;  // logits below the largest one: beyond the first nothing is drawn, beyond the second by min_p
  float repetition, presence, frequency;
};

constexpr int64_t NOT_CHOSEN = -1;

int64_t work_bytes(int64_t size);
// A token, or NOT_CHOSEN where the logits [size] are no numbers, or where too many of them matter. Penalties are for
// the tokens seen [seen_count], each once, and count how often the answer has them; logits are as before afterwards.
int64_t choose(const Choice& choice, float* logits, const int64_t* seen, const int32_t* counts);

}  // namespace moedge
