#include "states.h"

namespace moedge {

const char* check_states(const States& states, int64_t tokens, int64_t memory_rows) {
  int64_t sum = 0;
  for (int64_t i = 0; i < states.count; i++) {
    const int64_t count = states.segments[i].count;
    const StateRows& own = states.rows[i];
    if (count < 0 || count > tokens - sum) return "segments have more tokens than there are";
    sum += count;
    for (const int64_t row : {own.read, own.written})
      if (row < 0 || row >= memory_rows) return "a segment's state is outside of the memory";
  }
  if (sum != tokens) return "segments have fewer tokens than there are";
  for (int64_t i = 0; i < states.count; i++)
    for (int64_t j = 0; j < states.count; j++) {
      if (states.rows[i].written == states.rows[j].read) return "a state is read and written at once";
      if (i != j && states.rows[i].written == states.rows[j].written) return "two segments write the same state";
    }
  return nullptr;
}

}  // namespace moedge
