// Each job takes a head of a timeline through all of its tokens; then, as norms go across heads, others take some
// tokens.

#include "mamba2.h"

namespace moedge {
namespace {

constexpr int64_t PIECE = 16;              // tokens whose inputs are copied at once
constexpr int64_t JOB_TOKENS = 8;          // that are gated and normed by one job
constexpr int64_t SERIAL_WORK = 32 << 10;  // numbers; fewer are before other threads have woken

// A job's room.
struct MambaRoom {
  float* keep;          // [PIECE, state]
  float *steps, *kept;  // [PIECE]
  float *values, *out;  // [PIECE, padded(head_dim)]
  float* state;         // [state, padded(head_dim)]

  static size_t bytes(const Mamba2& m, int64_t tokens) {
    return (tokens * (m.state + 2 + 2 * padded(m.head_dim)) + m.state * padded(m.head_dim)) * 4;
  }
  MambaRoom(const Mamba2& m, int64_t tokens, Scratch& own) {
    keep = own.take<float>(tokens * m.state);
    steps = own.take<float>(tokens), kept = own.take<float>(tokens);
    values = own.take<float>(tokens * padded(m.head_dim)), out = own.take<float>(tokens * padded(m.head_dim));
    state = own.take<float>(m.state * padded(m.head_dim));
  }
};

// Tokens first ... first + count - 1 of a head, with the state as `Selective` has it.
void run_head(const RecurrentKernels& kernels, const Mamba2& m, const MambaTokens& given, const MambaRoom& room,
              int64_t head, int64_t first, int64_t count, const float* from, float* to, float* out) {
  const int64_t width = padded(m.head_dim), group = head / (m.heads / m.groups);
  const float* mixed = given.mixed + first * m.columns();
  for (int64_t t = 0; t < count; t++) {
    room.steps[t] = given.dt[(first + t) * m.heads + head] + m.shift[head];
    float* value = room.values + t * width;
    memcpy(value, mixed + t * m.columns() + head * m.head_dim, m.head_dim * 4);
    memset(value + m.head_dim, 0, (width - m.head_dim) * 4);
  }
  kernels.time_steps(m.steps, m.rates[head], count, room.steps, room.kept);
  for (int64_t t = 0; t < count; t++)
    for (int64_t i = 0; i < m.state; i++) room.keep[t * m.state + i] = room.kept[t];
  Selective rule{};
  rule.tokens = count, rule.rows = m.state, rule.columns = m.head_dim, rule.stride = m.columns();
  rule.keep = room.keep, rule.keys = mixed + m.inner() + group * m.state;
  rule.queries = rule.keys + m.groups * m.state;
  rule.values = room.values, rule.steps = room.steps, rule.skip = m.skip[head];
  rule.out = room.out, rule.from = from, rule.to = to, rule.room = room.state;
  kernels.selective(rule);
  for (int64_t t = 0; t < count; t++)
    memcpy(out + (first + t) * m.inner() + head * m.head_dim, room.out + t * width, m.head_dim * 4);
}

}  // namespace

bool run_mamba2(const Kernels& kernels, const Threads& threads, const Mamba2& m, const MambaTokens& given,
                const States& states, float* memory, float* out) {
  std::atomic<bool> enough{true};
  threads.each((size_t)(states.count * m.heads), [&](size_t job) {
    const int64_t i = (int64_t)job / m.heads, head = (int64_t)job % m.heads, size = m.state * m.head_dim;
    const int64_t count = states.segments[i].count, begin = states.begin(i);
    const float* read = memory + (states.rows[i].read * m.heads + head) * size;
    float* written = memory + (states.rows[i].written * m.heads + head) * size;
    if (count == 0) {
      memcpy(written, read, size * 4);
      return;
    }
    const int64_t piece = count < PIECE ? count : PIECE;
    thread_local Scratch own;
    if (!own.begin(MambaRoom::bytes(m, piece))) {
      enough = false;
      return;
    }
    const MambaRoom room(m, piece, own);
    for (int64_t t = 0; t < count; t += piece) {
      const int64_t some = count - t < piece ? count - t : piece;
      run_head(kernels.recurrent, m, given, room, head, begin + t, some, t ? nullptr : read,
               t + some < count ? nullptr : written, out);
    }
  });
  if (!enough) return false;
  const int64_t tokens = states.tokens(), width = m.inner() / m.norm_groups;
  auto finish = [&](size_t job) {
    const int64_t first = (int64_t)job * JOB_TOKENS, end = first + JOB_TOKENS < tokens ? first + JOB_TOKENS : tokens;
    for (int64_t t = first; t < end; t++) {
      float* row = out + t * m.inner();
      kernels.recurrent.gate(true, given.gate + t * m.inner(), m.inner(), row);
      for (int64_t at = 0; at < m.inner(); at += width)
        kernels.attention.normalize(row + at, m.norm + at, width, m.eps);
    }
  };
  const size_t jobs = (size_t)((tokens + JOB_TOKENS - 1) / JOB_TOKENS);
  if (tokens * m.inner() < SERIAL_WORK)
    for (size_t job = 0; job < jobs; job++) finish(job);
  else
    threads.each(jobs, finish);
  return true;
}

}  // namespace moedge
