// What mixers that keep a state of each timeline share: which tokens are whose, and where its state lies.
#pragma once

#include "attention.h"

namespace moedge {

// Rows of a memory: the one that holds what is kept before a segment's tokens, and the one that gets what is after
// them.
struct StateRows {
  int64_t read, written;
};

// Of each segment only the count of new tokens is looked at.
struct States {
  const Segment* segments;
  const StateRows* rows;
  int64_t count;  // segments

  int64_t tokens() const {
    int64_t sum = 0;
    for (int64_t i = 0; i < count; i++) sum += segments[i].count;
    return sum;
  }
  // The place of segment i's first token.
  int64_t begin(int64_t i) const { return States{segments, rows, i}.tokens(); }
};

// What is wrong with them, for so many tokens and a memory of so many rows; null: nothing. What is read stays as it is.
const char* check_states(const States& states, int64_t tokens, int64_t memory_rows);

}  // namespace moedge
