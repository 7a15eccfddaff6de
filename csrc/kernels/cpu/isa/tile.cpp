// Runs a tile program: hands out chunks of tiles, finds or expands the operands of each tile, and calls the steps'
// loops.
#include "kernels/cpu/tile.h"

#include "base/parallel.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/simd.h"

namespace dlcore::DLCORE_ISA {

namespace {

constexpr int64_t kChunk = 16384;     // elements
constexpr int64_t kRangeTile = 1024;  // of an epilogue, whose operands are in the first-level cache

template <class T>
DLCORE_INLINE void fill_run(char* to, const char* from, int64_t n) {
  T value;
  __builtin_memcpy(&value, from, sizeof value);
  for (int64_t i = 0; i < n; ++i) __builtin_memcpy(to + i * (int64_t)sizeof(T), &value, sizeof value);
}

void fill(char* to, const char* from, int64_t n, int size) {
  if (size == 4)
    fill_run<uint32_t>(to, from, n);
  else if (size == 1)
    fill_run<uint8_t>(to, from, n);
  else
    fill_run<uint64_t>(to, from, n);
}

// Elements [start, start + n) of the output as the input gives them, one run of the last axis at a time. Past the end
// of the output the first axis starts again.
void expand(const TilePlan& plan, const TileInput& input, const char* data, int64_t start, int64_t n, char* to) {
  const int last = plan.rank - 1;
  int64_t index[kMaxTileRank], offset = 0;
  for (int d = last; d >= 0; --d) {
    index[d] = start % plan.dim[d];
    start /= plan.dim[d];
    offset += index[d] * input.stride[d];
  }
  while (n > 0) {
    int64_t run = plan.dim[last] - index[last];
    if (run > n) run = n;
    if (input.stride[last] == 0)
      fill(to, data + offset * input.size, run, input.size);
    else
      __builtin_memcpy(to, data + offset * input.size, (size_t)(run * input.size));
    to += run * input.size;
    n -= run;
    offset -= index[last] * input.stride[last];
    index[last] = 0;
    for (int d = last - 1; d >= 0; --d) {
      offset += input.stride[d];
      if (++index[d] < plan.dim[d]) break;
      offset -= plan.dim[d] * input.stride[d];
      index[d] = 0;
    }
  }
}

// A repeating input for any tile of the chunk: one period, then doubled.
void expand_period(const TilePlan& plan, const TileInput& input, const char* data, int64_t most, char* to) {
  const int64_t want = input.period + most;
  int64_t have = input.period;
  expand(plan, input, data, 0, have, to);
  while (have < want) {
    const int64_t more = have < want - have ? have : want - have;
    __builtin_memcpy(to + have * input.size, to, (size_t)(more * input.size));
    have += more;
  }
}

struct Tiles {
  const TilePlan& plan;
  const void* const* in;
  void* const* out;
  const char* expanded = nullptr;  // repeating inputs that stand ready, else each chunk expands them
  bool past = false;

  int64_t row() const { return plan.by_rows ? plan.dim[plan.rank - 1] : plan.total; }

  // Tiles [from, to), counted row by row.
  void chunk(int64_t from, int64_t to) const {
    const int64_t length = row(), per_row = (length + plan.tile - 1) / plan.tile;
    alignas(64) char arena[kTileArena];
    const void* at[kMaxTileOperands];
    prepare(arena, at);
    for (int64_t t = from; t < to; ++t) {
      const int64_t r = t / per_row, begin = (t - r * per_row) * plan.tile;
      tile(arena, at, r, begin, length - begin < plan.tile ? length - begin : plan.tile);
    }
    if (past) end_past();
  }

  // Elements [first, last), tiles within rows.
  void range(int64_t first, int64_t last) const {
    const int64_t length = row(), most = plan.tile < kRangeTile ? plan.tile : kRangeTile;
    alignas(64) char arena[kTileArena];
    const void* at[kMaxTileOperands];
    prepare(arena, at);
    while (first < last) {
      const int64_t r = first / length, begin = first - r * length;
      int64_t n = length - begin < most ? length - begin : most;
      if (n > last - first) n = last - first;
      tile(arena, at, r, begin, n);
      first += n;
    }
  }

  // What all tiles of a chunk share.
  void prepare(char* arena, const void** at) const {
    int k = plan.inputs + plan.outputs;
    for (int i = 0; i < plan.temps; ++i) at[k++] = arena + plan.temp_arena[i];
    for (int i = 0; i < plan.literals; ++i) at[k++] = plan.literal + i;
    for (int i = 0; i < plan.inputs; ++i) {
      const TileInput& input = plan.input[i];
      if (input.one) at[i] = in[i];
      if (input.arena >= 0 && input.period > 0 && !expanded)
        expand_period(plan, input, (const char*)in[i], plan.tile < plan.total ? plan.tile : plan.total,
                      arena + input.arena);
    }
  }

  // n elements of row r from `begin` on.
  void tile(char* arena, const void** at, int64_t r, int64_t begin, int64_t n) const {
    const int64_t flat = r * row() + begin;
    for (int i = 0; i < plan.inputs; ++i) {
      const TileInput& input = plan.input[i];
      const char* data = (const char*)in[i];
      if (input.one) continue;
      if (input.full)
        at[i] = data + flat * input.size;
      else if (plan.by_rows)
        at[i] = data + row_offset(input, r, begin) * input.size;
      else if (input.period > 0)
        at[i] = (expanded ? expanded : arena) + input.arena + flat % input.period * input.size;
      else
        expand(plan, input, data, flat, n, arena + input.arena), at[i] = arena + input.arena;
    }
    for (int i = 0; i < plan.outputs; ++i) at[plan.inputs + i] = (char*)out[i] + flat * plan.output_size[i];
    for (int s = 0; s < plan.steps; ++s) {
      const TileStep& step = plan.step[s];
      const void* operands[3] = {at[step.in[0]], at[step.in[1]], at[step.in[2]]};
      const unsigned to = past && step.last ? kWritePast : 0;
      step.fn(const_cast<void*>(at[step.out]), operands, step.single | to, n);
    }
  }

  int64_t row_offset(const TileInput& input, int64_t r, int64_t begin) const {
    int64_t offset = begin * input.stride[plan.rank - 1];
    for (int d = plan.rank - 2; d >= 0; --d) {
      offset += r % plan.dim[d] * input.stride[d];
      r /= plan.dim[d];
    }
    return offset;
  }
};

void run(const TilePlan& plan, const void* const* in, void* const* out) {
  if (plan.total == 0) return;
  bool past = plan.past;  // in place there is nothing to spare
  for (int i = 0; i < plan.inputs; ++i)
    for (int j = 0; j < plan.outputs; ++j) past = past && in[i] != out[j];
  const Tiles tiles{plan, in, out, nullptr, past};
  const int64_t length = tiles.row(), per_row = (length + plan.tile - 1) / plan.tile,
                all = plan.total / length * per_row;
  const int64_t tile_length = length < plan.tile ? length : plan.tile,
                step = kChunk / tile_length > 0 ? kChunk / tile_length : 1;
  auto body = [&](int64_t chunk) {
    const int64_t from = chunk * step;
    tiles.chunk(from, from + step < all ? from + step : all);
  };
  parallel_for((all + step - 1) / step, plan.cycles, body);
}

void expand_inputs(const TilePlan& plan, const void* const* in, char* expanded) {
  for (int i = 0; i < plan.inputs; ++i) {
    const TileInput& input = plan.input[i];
    if (input.arena >= 0 && input.period > 0)
      expand_period(plan, input, (const char*)in[i], plan.tile < plan.total ? plan.tile : plan.total,
                    expanded + input.arena);
  }
}

void range(const Epilogue& e, int64_t first, int64_t count) {
  Tiles{*e.plan, e.in, e.out, e.expanded}.range(first, first + count);
}

}  // namespace

const TileTable tile_table = {run, expand_inputs, range};

}  // namespace dlcore::DLCORE_ISA
