// Dense products: activations are rounded and joined once, then each job multiplies some tile rows with all of them.

#include "linear.h"

namespace moedge {
namespace {

constexpr int64_t JOBS = 48;             // of a product, at most; threads take them as they become free
constexpr int64_t JOB_BYTES = 64 << 10;  // of weights, read as often as there are groups, at least
constexpr int64_t PARALLEL_ROWS = 16;    // of activations, from which rounding them is work for all threads

// What the int8 numbers of a row leave of it.
void subtract_row(const uint8_t* row, int64_t columns, float* x) {
  for (int64_t begin = 0; begin < columns; begin += COLUMNS, row += PER_ROW) {
    const int8_t* q = reinterpret_cast<const int8_t*>(row);
    const int64_t count = columns - begin < COLUMNS ? columns - begin : COLUMNS;
    float scale;
    memcpy(&scale, row + COLUMNS, 4);
    for (int64_t i = 0; i < count; i++) x[begin + i] -= scale * (float)q[i];
  }
}

void read_row(const Tiles& tiles, const uint8_t* record, const Prepared& prepared, int row, float* out) {
  float factor = 1;
  if (tiles.has_factors()) memcpy(&factor, record + tiles.factors + 4 * row, 4);
  for (int64_t k = 0; k < tiles.columns; k++) {
    const int64_t b = k / tiles.format.block;
    const int zero = zero_of(tiles, prepared, b, row);
    const int code = code_at(tiles, record, k / COLUMNS, (int)(k % COLUMNS), row);
    out[k] = (float)(code - zero) * prepared.scales[b * ROWS + row] * factor;
  }
}

}  // namespace

void round_planes(const Kernels& kernels, const Tiles& tiles, const float* x, int planes, float* left, uint8_t* rows) {
  for (int plane = 0; plane < planes; plane++, rows += tiles.subblocks * PER_ROW) {
    kernels.quantize(x, tiles.columns, tiles.subblocks, rows);
    if (plane + 1 == planes) break;
    if (plane == 0) memcpy(left, x, tiles.columns * 4);
    x = left;
    subtract_row(rows, tiles.columns, left);
  }
}

void join_group(const Kernels& kernels, const Tiles& tiles, const uint8_t* alone, int64_t rows, int64_t g, bool shifted,
                uint8_t* joined) {
  const int64_t row_bytes = tiles.subblocks * PER_ROW, first = g * kernels.together;
  const int64_t count = first + kernels.together < rows ? kernels.together : rows - first;
  const uint8_t* members[MOST_TOGETHER];
  for (int64_t i = 0; i < count; i++) members[i] = alone + (first + i) * row_bytes;
  join_rows(members, (int)count, tiles.subblocks, shifted, joined + first * row_bytes);
}

void multiply_tiles(const Kernels& kernels, const Tiles& tiles, const uint8_t* weights, int64_t from, int64_t to,
                    const Joined& x, TileRows& tile_rows, const Places& places) {
  constexpr int64_t MOST_ROWS = TileRows::MOST * ROWS;
  const int64_t together = kernels.together, row_bytes = tiles.subblocks * PER_ROW;
  float out[MOST_TOGETHER * MOST_ROWS];
  for (int64_t t = from, step; t < to; t += step) {
    step = t + TileRows::at_once(x.shifted) <= to ? TileRows::at_once(x.shifted) : 1;
    const uint8_t* record = weights + t * tiles.bytes;
    const int64_t left = tiles.rows - t * ROWS, width = left < step * ROWS ? left : step * ROWS;
    Column columns[MOST_ROWS];
    bool near = width == step * ROWS && x.planes == 1;
    for (int64_t r = 0; r < width; r++) {
      columns[r] = places.find(places.self, t * ROWS + r);
      near &= columns[r].begin == columns[r / ROWS * ROWS].begin + r % ROWS && columns[r].stride == columns[0].stride;
    }
    tile_rows.prepare(record, (int)step, x.shifted);
    for (int64_t first = 0; first < x.rows; first += together) {
      const uint8_t* next = first ? nullptr : t + step < to ? record + step * tiles.bytes : record;
      const int64_t count = first + together < x.rows ? together : x.rows - first;
      const uint8_t* some = x.bytes + first * row_bytes;
      if (near) {
        const int64_t stride = columns[0].stride, apart = columns[width - ROWS].begin - columns[0].begin;
        tile_rows.multiply(next, some, (int)count, columns[0].begin + first * stride, stride, apart);
        continue;
      }
      tile_rows.multiply(next, some, (int)count, out, MOST_ROWS, ROWS);
      for (int64_t i = 0; i < count; i++)
        for (int64_t r = 0; r < width; r++) {
          float* to_one = columns[r].begin + (first + i) / x.planes * columns[r].stride;
          *to_one = (first + i) % x.planes ? *to_one + out[i * MOST_ROWS + r] : out[i * MOST_ROWS + r];
        }
    }
  }
}

namespace {

// Rounds and joins x [m, columns]; then jobs take `step` tile rows at a time, and work(from, to, joined, tile_rows,
// own) is done with each job's, whose `own` memory has room for so many numbers a tile row.
template <class F>
bool each_part(const Kernels& kernels, const Threads& threads, const Tiles& tiles, const float* x, int64_t m,
               int planes, int64_t step, int64_t numbers, F work) {
  if (m == 0) return true;
  thread_local Scratch call;
  const int64_t row_bytes = tiles.subblocks * PER_ROW, rows = m * planes;
  const int64_t groups = (rows + kernels.together - 1) / kernels.together;
  const bool shifted = shifts(kernels, tiles, rows);
  if (!call.begin(2 * rows * row_bytes + (planes > 1 ? m * tiles.columns * 4 : 0))) return false;
  uint8_t* alone = call.take<uint8_t>(rows * row_bytes);
  uint8_t* joined = call.take<uint8_t>(rows * row_bytes);
  float* left = planes > 1 ? call.take<float>(m * tiles.columns) : nullptr;

  auto round = [&](int64_t i) {
    round_planes(kernels, tiles, x + i * tiles.columns, planes, left ? left + i * tiles.columns : nullptr,
                 alone + i * planes * row_bytes);
  };
  auto join = [&](int64_t g) { join_group(kernels, tiles, alone, rows, g, shifted, joined); };
  if (m < PARALLEL_ROWS) {
    for (int64_t i = 0; i < m; i++) round(i);
    for (int64_t g = 0; g < groups; g++) join(g);
  } else {
    threads.each(m, [&](size_t i) { round((int64_t)i); });
    threads.each(groups, [&](size_t g) { join((int64_t)g); });
  }

  int64_t chunk = (tiles.count + JOBS - 1) / JOBS;
  const int64_t least = (JOB_BYTES + tiles.bytes * groups - 1) / (tiles.bytes * groups);
  if (chunk < least) chunk = least;
  chunk = (chunk + step - 1) / step * step;
  std::atomic<bool> enough{true};
  threads.each((tiles.count + chunk - 1) / chunk, [&](size_t job) {
    thread_local Scratch own;
    const int64_t begin = (int64_t)job * chunk, end = begin + chunk < tiles.count ? begin + chunk : tiles.count;
    if (!own.begin(TileRows::bytes(tiles, shifted) + (end - begin) * numbers * 4)) {
      enough = false;
      return;
    }
    TileRows tile_rows(kernels, tiles, shifted, own);
    work(begin, end, Joined{joined, rows, planes, shifted}, tile_rows, own);
  });
  return enough;
}

Column find_column(const void* self, int64_t row) {
  const Column& all = *static_cast<const Column*>(self);
  return {all.begin + row, all.stride};
}

// Columns from ... to - 1 of y: `value` may lie there itself.
void finish(const Linear& l, const float* value, int64_t stride, int64_t m, int64_t from, int64_t to, float* y) {
  if (value == y + from && !l.share && !l.onto) return;
  for (int64_t i = 0; i < m; i++) {
    const float* v = value + i * stride;
    float* out = y + i * l.rows + from;
    const float* onto = l.onto ? l.onto + i * l.rows + from : nullptr;
    const float share = l.share ? l.share[i] : 1;
    for (int64_t c = 0; c < to - from; c++) out[c] = onto ? onto[c] + share * v[c] : share * v[c];
  }
}

// The products of tile rows of gate and up in turn, to gate and up [m][columns], and there the inner values.
void multiply_pairs(const Kernels& kernels, const Linear& l, int64_t from, int64_t to, const Joined& x,
                    TileRows& tile_rows, float* gate, float* up, int64_t m) {
  const int64_t columns = (to - from) / 2 * ROWS, first = from / 2 * ROWS;
  struct Pair {
    float* sides[2];
    int64_t first, stride;
  };
  const Pair pair{{gate, up}, first, columns};
  auto find = [](const void* self, int64_t row) {
    const Pair& p = *static_cast<const Pair*>(self);
    return Column{p.sides[row / ROWS % 2] + row / ROWS / 2 * ROWS + row % ROWS - p.first, p.stride};
  };
  multiply_tiles(kernels, l.tiles, l.weights, from, to, x, tile_rows, {find, &pair});
  const int64_t end = l.rows - first < columns ? l.rows - first : columns;
  for (int64_t i = 0; l.bias && i < m; i++)
    for (int64_t c = 0; c < end; c++) {
      gate[i * columns + c] += l.bias[2 * (first + c)];
      up[i * columns + c] += l.bias[2 * (first + c) + 1];
    }
  kernels.activate(l.activation, gate, up, m * columns);
}

}  // namespace

bool multiply_matrix(const Kernels& kernels, const Threads& threads, const Tiles& tiles, const uint8_t* weights,
                     const float* x, int64_t m, int planes, const Places& places) {
  return each_part(kernels, threads, tiles, x, m, planes, 1, 0,
                   [&](int64_t from, int64_t to, const Joined& joined, TileRows& tile_rows, Scratch&) {
                     multiply_tiles(kernels, tiles, weights, from, to, joined, tile_rows, places);
                   });
}

bool multiply_matrix(const Kernels& kernels, const Threads& threads, const Tiles& tiles, const uint8_t* weights,
                     const float* x, int64_t m, int planes, float* y) {
  const Column whole{y, tiles.rows};
  return multiply_matrix(kernels, threads, tiles, weights, x, m, planes, Places{find_column, &whole});
}

bool run_linear(const Kernels& kernels, const Threads& threads, const Linear& l, const float* x, int64_t m, float* y) {
  const int64_t step = l.pairs() ? 2 : 1, numbers = l.pairs() ? m * ROWS : 0;
  return each_part(kernels, threads, l.tiles, x, m, l.planes, step, numbers,
                   [&](int64_t from, int64_t to, const Joined& joined, TileRows& tile_rows, Scratch& own) {
                     const int64_t first = from / step * ROWS;
                     const int64_t end = to / step * ROWS < l.rows ? to / step * ROWS : l.rows;
                     if (l.pairs()) {
                       const int64_t columns = (to - from) / 2 * ROWS;
                       float *gate = own.take<float>(m * columns), *up = own.take<float>(m * columns);
                       multiply_pairs(kernels, l, from, to, joined, tile_rows, gate, up, m);
                       return finish(l, gate, columns, m, first, end, y);
                     }
                     const Column whole{y, l.rows};
                     multiply_tiles(kernels, l.tiles, l.weights, from, to, joined, tile_rows, {find_column, &whole});
                     for (int64_t i = 0; l.bias && i < m; i++)
                       for (int64_t c = first; c < end; c++) y[i * l.rows + c] += l.bias[c];
                     for (int64_t i = 0; l.active && i < m; i++)
                       kernels.activate(l.activation, y + i * l.rows + first, nullptr, end - first);
                     finish(l, y + first, l.rows, m, first, end, y);
                   });
}

const char* gather_rows(const Tiles& tiles, const uint8_t* weights, const int64_t* ids, int64_t n, float* out) {
  thread_local Scratch call;
  if (!call.begin(prepared_bytes(tiles))) return "there is not enough memory";
  const Prepared prepared = take_prepared(call, tiles);
  for (int64_t i = 0; i < n; i++) {
    if (ids[i] < 0 || ids[i] >= tiles.rows) return "an id is outside of the table";
    const uint8_t* record = weights + ids[i] / ROWS * tiles.bytes;
    SCALAR.prepare(tiles, record, prepared);
    read_row(tiles, record, prepared, (int)(ids[i] % ROWS), out + i * tiles.columns);
  }
  return nullptr;
}

}  // namespace moedge
