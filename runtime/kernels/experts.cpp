// Routed experts. Tokens are sorted by expert; each job takes a part of the rows of one expert's first matrix, then a
// part of the rows of all experts' second ones, so that a token's sum is made in one place, in the order of the
// experts.

#include "experts.h"

#include "router.h"
#include "tile_rows.h"

namespace moedge {
namespace {

#include "numbers.inc"

constexpr int64_t JOBS = 64;              // of a product, at most
constexpr int64_t JOB_BYTES = 256 << 10;  // of weights, at least: each job begins with memory that nothing has fetched,
constexpr int64_t FOR_FEW = 2;            // so that jobs for few tokens, which wait for memory, are so much longer
constexpr int64_t SERIAL_TOKENS = 16;     // fewer are rounded and joined before other threads have woken
constexpr int64_t SECOND_ROWS = 4;        // tile rows of a job of the second product, at least

// The experts of one token, and how much each counts.
void choose(const Experts& e, const float* select, const float* weigh, int32_t* chosen, float* weights) {
  rank(select, e.count, e.chosen, chosen, weights);
  const float largest = weights[0];
  float sum = 0;
  for (int64_t j = 0; j < e.chosen; j++) {
    weights[j] = weigh ? weigh[chosen[j]] : exponential(weights[j] - largest);
    sum += weights[j];
  }
  for (int64_t j = 0; j < e.chosen; j++) weights[j] = (weigh ? weights[j] : weights[j] / sum) * e.routing_scale;
}

// One call: what stands in its memory, and its steps in their order. A row is a token at one of its experts.
class Call {
 public:
  Call(const Kernels& kernels, const Threads& threads, const Experts& experts, int64_t tokens)
      : kernels_(kernels), threads_(threads), e_(experts), tokens_(tokens), rows_(tokens * experts.chosen) {
    x_bytes_ = e_.first.subblocks * PER_ROW;
    inner_bytes_ = e_.second.subblocks * PER_ROW;
  }

  // Takes its memory; false if there is not so much.
  bool begin(Scratch& memory) {
    if (!memory.begin(16 * rows_ + 16 * e_.count + 8 + tokens_ * x_bytes_ + rows_ * (x_bytes_ + inner_bytes_)))
      return false;
    experts_ = memory.take<int32_t>(rows_);
    weights_ = memory.take<float>(rows_);
    starts_ = memory.take<int64_t>(e_.count + 1);
    row_tokens_ = memory.take<int32_t>(rows_);
    shares_ = memory.take<float>(rows_);
    active_ = memory.take<int64_t>(e_.count);
    alone_ = memory.take<uint8_t>(tokens_ * x_bytes_);
    joined_ = memory.take<uint8_t>(rows_ * x_bytes_);
    inner_ = memory.take<uint8_t>(rows_ * inner_bytes_);
    return true;
  }

  // Each token chooses its experts and is rounded; then rows are sorted by expert.
  void route(const float* x, const float* select, const float* weigh) {
    each(tokens_, [&](int64_t t) {
      choose(e_, select + t * e_.count, weigh ? weigh + t * e_.count : nullptr, experts_ + t * e_.chosen,
             weights_ + t * e_.chosen);
      kernels_.quantize(x + t * e_.hidden, e_.hidden, e_.first.subblocks, alone_ + t * x_bytes_);
    });
    sort_by_expert();
  }

  void tell(const Chosen& told) const {
    for (int64_t i = 0; i < active_count_; i++) told.tell(told.listener, active_[i], count_rows(active_[i]));
  }

  // What is multiplied together is put together. A row that stays alone is multiplied where it is.
  void join() {
    each(active_count_, [&](int64_t i) {
      const bool shifted = shifts(kernels_, e_.first, count_rows(active_[i]));
      each_group(active_[i], [&](int64_t row, int count) {
        if (count == 1 && !shifted) return;
        const uint8_t* members[MOST_TOGETHER];
        for (int m = 0; m < count; m++) members[m] = alone_ + row_tokens_[row + m] * x_bytes_;
        join_rows(members, count, e_.first.subblocks, shifted, joined_ + row * x_bytes_);
      });
    });
  }

  // Inner values, rounded. A unit is 32 of their columns, that is two tile rows of either matrix.
  void multiply_first() {
    const int64_t units = e_.second.subblocks, unit_bytes = 2 * e_.matrices() * e_.first.bytes;
    int64_t chunk = (units * active_count_ + JOBS - 1) / JOBS;
    const int64_t least = JOB_BYTES * longer();
    if (chunk * unit_bytes < least) chunk = (least + unit_bytes - 1) / unit_bytes;
    if (chunk > units) chunk = units;
    const int64_t parts = (units + chunk - 1) / chunk;
    chunk = (units + parts - 1) / parts;
    threads_.each(active_count_ * parts, [&](size_t job) {
      const int64_t expert = active_[(int64_t)job / parts], first = (int64_t)job % parts * chunk;
      const int64_t end = first + chunk < units ? first + chunk : units;
      const bool shifted = shifts(kernels_, e_.first, count_rows(expert));
      thread_local Scratch own;
      if (!own.begin(TileRows::bytes(e_.first, shifted) + count_rows(expert) * COLUMNS * 4 * 2)) {
        enough_ = false;
        return;
      }
      TileRows tile_rows(kernels_, e_.first, shifted, own);
      float* gate = own.take<float>(count_rows(expert) * COLUMNS);  // [rows][32]
      float* up = own.take<float>(count_rows(expert) * COLUMNS);
      for (int64_t unit = first; unit < end; unit++) {
        multiply_unit(expert, unit, shifted, tile_rows, gate, up);
        kernels_.activate(e_.activation, gate, up, count_rows(expert) * COLUMNS);
        round_unit(expert, unit, gate);
      }
    });
  }

  // Each job sums up some columns of all tokens.
  void multiply_second(float* out) {
    int64_t chunk = (e_.second.count + JOBS - 1) / JOBS;
    if (chunk < SECOND_ROWS * longer()) chunk = SECOND_ROWS * longer();
    threads_.each((e_.second.count + chunk - 1) / chunk, [&](size_t job) {
      const int64_t begin = (int64_t)job * chunk;
      const int64_t end = begin + chunk < e_.second.count ? begin + chunk : e_.second.count;
      const int64_t width = (end - begin) * ROWS;
      thread_local Scratch own;
      const bool shifted = shifts(kernels_, e_.second, tokens_);
      if (!own.begin(TileRows::bytes(e_.second, shifted) + tokens_ * width * 4)) {
        enough_ = false;
        return;
      }
      TileRows tile_rows(kernels_, e_.second, shifted, own);
      // one after the other: rows of `out` lie a power of two apart, which leaves them few places in a cache
      float* sums = own.take<float>(tokens_ * width);
      memset(sums, 0, tokens_ * width * 4);
      for (int64_t i = 0; i < active_count_; i++) {
        const int at_once = TileRows::at_once(shifts(kernels_, e_.second, count_rows(active_[i])));
        for (int64_t tile = begin, step; tile < end; tile += step) {
          step = tile + at_once <= end ? at_once : 1;
          const uint8_t* record = second_record(i, tile);
          const bool last = tile + step == end;
          const uint8_t* next =
              last && i + 1 == active_count_ ? record : second_record(i + last, last ? begin : tile + step);
          add_tiles(active_[i], tile, (int)step, record, next, tile_rows, sums + (tile - begin) * ROWS, width);
        }
      }
      const int64_t columns = end * ROWS < e_.hidden ? width : e_.hidden - begin * ROWS;
      for (int64_t t = 0; t < tokens_; t++) memcpy(out + t * e_.hidden + begin * ROWS, sums + t * width, columns * 4);
    });
  }

  bool enough() const { return enough_; }

 private:
  int64_t longer() const { return tokens_ < SERIAL_TOKENS ? FOR_FEW : 1; }
  int64_t count_rows(int64_t expert) const { return starts_[expert + 1] - starts_[expert]; }

  template <class F>
  void each(int64_t count, F work) const {
    if (tokens_ < SERIAL_TOKENS)
      for (int64_t i = 0; i < count; i++) work(i);
    else
      threads_.each(count, [&](size_t i) { work((int64_t)i); });
  }

  // Calls work(first row, rows) for an expert's rows, as many together as the kernels like.
  template <class F>
  void each_group(int64_t expert, F work) const {
    for (int64_t row = starts_[expert]; row < starts_[expert + 1]; row += kernels_.together) {
      const int64_t left = starts_[expert + 1] - row;
      work(row, (int)(left < kernels_.together ? left : kernels_.together));
    }
  }

  // Rows of one expert follow one another, tokens ascending within them.
  void sort_by_expert() {
    memset(starts_, 0, (e_.count + 1) * sizeof *starts_);
    for (int64_t i = 0; i < rows_; i++) starts_[experts_[i] + 1]++;
    for (int64_t i = 0; i < e_.count; i++) {
      if (starts_[i + 1]) active_[active_count_++] = i;
      starts_[i + 1] += starts_[i];
    }
    for (int64_t i = 0; i < rows_; i++) {
      const int64_t row = starts_[experts_[i]]++;
      row_tokens_[row] = (int32_t)(i / e_.chosen);
      shares_[row] = weights_[i];
    }
    memmove(starts_ + 1, starts_, e_.count * sizeof *starts_);
    starts_[0] = 0;
  }

  // A unit's rows of the first matrix times an expert's rows, to gate and up [rows][32]; zeros beyond the matrix.
  void multiply_unit(int64_t expert, int64_t unit, bool shifted, TileRows& tile_rows, float* gate, float* up) const {
    const int64_t matrices = e_.matrices(), begin = 2 * unit, rows = count_rows(expert);
    const int64_t end = begin + 2 < e_.inner_tiles() ? begin + 2 : e_.inner_tiles();
    auto place = [&](int64_t tile) { return (tile % matrices ? up : gate) + (tile / matrices - begin) * ROWS; };
    for (int64_t tile = begin * matrices, step; tile < end * matrices; tile += step) {
      step = tile + TileRows::at_once(shifted) <= end * matrices ? TileRows::at_once(shifted) : 1;
      const uint8_t* record = e_.first_of(expert) + tile * e_.first.bytes;
      float* to = place(tile);
      tile_rows.prepare(record, (int)step, shifted);
      each_group(expert, [&](int64_t row, int count) {
        const int64_t at = row - starts_[expert];
        const bool stays = count == 1 && !shifted;
        const uint8_t* x = stays ? alone_ + row_tokens_[row] * x_bytes_ : joined_ + row * x_bytes_;
        tile_rows.multiply(at ? nullptr : record + step * e_.first.bytes, x, count, to + at * COLUMNS, COLUMNS,
                           place(tile + step - 1) - to);
      });
    }
    for (int64_t i = 0; end < begin + 2 && i < rows; i++)
      for (float* side : {gate, up}) memset(side + i * COLUMNS + ROWS, 0, ROWS * 4);
    if (!e_.first_bias) return;
    const int64_t left = e_.inner - unit * COLUMNS, columns = left < COLUMNS ? left : COLUMNS;
    const float* bias = e_.first_bias + (expert * e_.inner + unit * COLUMNS) * matrices;
    for (int64_t i = 0; i < rows; i++)
      for (int64_t side = 0; side < matrices; side++)
        for (int64_t c = 0; c < columns; c++) (side ? up : gate)[i * COLUMNS + c] += bias[c * matrices + side];
  }

  // 32 columns of an expert's inner values [rows][32] to int8, at their places in what is multiplied next.
  void round_unit(int64_t expert, int64_t unit, const float* values) {
    const int64_t left = e_.inner - unit * COLUMNS, columns = left < COLUMNS ? left : COLUMNS;
    const bool shifted = shifts(kernels_, e_.second, count_rows(expert));
    each_group(expert, [&](int64_t row, int count) {
      for (int m = 0; m < count; m++) {
        uint8_t subblock[PER_ROW];
        kernels_.quantize(values + (row - starts_[expert] + m) * COLUMNS, columns, 1, subblock);
        place_subblock(subblock, m, count, shifted, inner_ + row * inner_bytes_ + unit * count * PER_ROW);
      }
    });
  }

  const uint8_t* second_record(int64_t active, int64_t tile) const {
    return e_.second_of(active_[active]) + tile * e_.second.bytes;
  }

  // Some tile rows of an expert's second matrix times its rows, as much as each counts, to the sums of their tokens.
  void add_tiles(int64_t expert, int64_t tile, int step, const uint8_t* record, const uint8_t* next,
                 TileRows& tile_rows, float* sums, int64_t width) const {
    const float* bias = e_.second_bias ? e_.second_bias + expert * e_.hidden + tile * ROWS : nullptr;
    const int64_t left = e_.hidden - tile * ROWS;
    tile_rows.prepare(record, step, shifts(kernels_, e_.second, count_rows(expert)));
    each_group(expert, [&](int64_t row, int count) {
      float products[TileRows::MOST][MOST_TOGETHER][ROWS];
      tile_rows.multiply(row == starts_[expert] ? next : nullptr, inner_ + row * inner_bytes_, count, products[0][0],
                         ROWS, MOST_TOGETHER * ROWS);
      for (int i = 0; i < step; i++) {
        float* to[MOST_TOGETHER];
        for (int m = 0; m < count; m++) {
          to[m] = sums + row_tokens_[row + m] * width + i * ROWS;
          for (int64_t c = 0; bias && c < ROWS && i * ROWS + c < left; c++) products[i][m][c] += bias[i * ROWS + c];
        }
        kernels_.accumulate(to, shares_ + row, products[i][0], count);
      }
    });
  }

  const Kernels& kernels_;
  const Threads& threads_;
  const Experts& e_;
  int64_t tokens_, rows_, x_bytes_, inner_bytes_;
  int32_t* experts_;     // [tokens, chosen]
  float* weights_;       // [tokens, chosen]
  int64_t* starts_;      // [count + 1]: where an expert's rows begin
  int32_t* row_tokens_;  // [rows]
  float* shares_;        // [rows]: how much each counts
  int64_t* active_;      // [active_count]: experts that any token goes to, ascending
  int64_t active_count_ = 0;
  uint8_t* alone_;                  // tokens, rounded
  uint8_t* joined_;                 // rows in groups
  uint8_t* inner_;                  // rows of inner values in the same groups
  std::atomic<bool> enough_{true};  // memory, in all threads
};

}  // namespace

bool run_experts(const Kernels& kernels, const Threads& threads, const Experts& experts, const float* x,
                 const float* select, const float* weigh, int64_t tokens, const Chosen& told, float* out) {
  if (tokens == 0) return true;
  thread_local Scratch memory;
  Call call(kernels, threads, experts, tokens);
  if (!call.begin(memory)) return false;
  call.route(x, select, weigh);
  call.tell(told);
  call.join();
  call.multiply_first();
  call.multiply_second(out);
  return call.enough();
}

}  // namespace moedge
