// The two forms of latent attention, for tokens whose rows are in the cache.
#pragma once

#include "latent.h"

namespace moedge {

struct LatentCall {
  const Kernels& kernels;
  const Threads& threads;
  const Latent& latent;
  const LatentWeights& weights;
};

// Some tokens of a timeline, of those that `came` together; its rows in the cache from its first token on.
struct LatentPart {
  CacheRows rows;
  int64_t past, tokens, came;
};

// q [tokens, heads, nope + rope] is scaled and rotated; out [tokens, heads * v]. False if there is not enough memory.
bool attend_absorbed(const LatentCall& call, const LatentPart* parts, int64_t count, const float* q, float* out);
bool attend_unabsorbed(const LatentCall& call, const LatentPart& part, const float* q, float* out);

}  // namespace moedge
