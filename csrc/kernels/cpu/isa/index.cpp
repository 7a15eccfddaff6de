// take, scatter_add and their along-an-axis forms. Every sum is taken in ascending position of the index, whoever runs
// it: a chunk owns a range of targets (rows or columns) and meets the positions in order.
#include "kernels/cpu/index.h"

#include "base/parallel.h"
#include "kernels/cpu/rows.h"

namespace dlcore::DLCORE_ISA {
namespace {

typedef int64_t Index64 __attribute__((aligned(1), may_alias));
typedef int32_t Index32 __attribute__((aligned(1), may_alias));
typedef float FloatU __attribute__((aligned(1), may_alias));
constexpr int64_t kChunkBytes = 65536;

DLCORE_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
DLCORE_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
DLCORE_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class I, class U>
int64_t first_bad_of(const char* indices, int64_t n, int64_t low, int64_t size) {
  const I* p = reinterpret_cast<const I*>(indices);
  // One unsigned comparison checks both ends, at the width of the index so that it vectorises.
  const int64_t most = sizeof(I) == 4 ? INT32_MAX : INT64_MAX;
  const U span = static_cast<U>(smaller(size, most) - low), base = static_cast<U>(low);
  // A size past the index's range leaves only the lower end to check.
  const bool upper = size <= most;
  for (int64_t begin = 0; begin < n; begin += 256) {
    const int64_t end = smaller(begin + 256, n);
    U bad = 0;
    if (upper)
      for (int64_t i = begin; i < end; ++i) bad |= static_cast<U>(static_cast<U>(p[i]) - base >= span);
    else
      for (int64_t i = begin; i < end; ++i) bad |= static_cast<U>(p[i] < low);
    if (!bad) continue;
    for (int64_t i = begin; i < end; ++i)
      if (p[i] < low || p[i] >= size) return i;
  }
  return n;
}

int64_t first_bad(const void* indices, bool wide, int64_t n, int64_t low, int64_t size) {
  const char* p = static_cast<const char*>(indices);
  return wide ? first_bad_of<Index64, uint64_t>(p, n, low, size) : first_bad_of<Index32, uint32_t>(p, n, low, size);
}

struct TakeJob {
  const RowIndexArgs& a;
  const char* x;
  const char* indices;
  char* out;
  int64_t per_chunk;
};

template <class I>
void take_chunk(void* context, int64_t chunk) {
  const TakeJob& j = *static_cast<const TakeJob*>(context);
  const I* indices = reinterpret_cast<const I*>(j.indices);
  const int64_t begin = chunk * j.per_chunk, end = smaller(begin + j.per_chunk, j.a.count), row = j.a.row;
  if (row == 4) {
    for (int64_t p = begin; p < end; ++p) copy_bytes(j.out + p * 4, j.x + indices[p] * int64_t{4}, 4);
    return;
  }
  for (int64_t p = begin; p < end; ++p) copy_bytes(j.out + p * row, j.x + indices[p] * row, row);
}

void take(const RowIndexArgs& a, const char* x, const void* indices, char* out) {
  if (a.count == 0 || a.row == 0) return;
  TakeJob j{a, x, static_cast<const char*>(indices), out, larger(1, kChunkBytes / a.row)};
  parallel_for(ceil_div(a.count, j.per_chunk), a.count * (a.row / 8 + 8),
               a.wide ? take_chunk<Index64> : take_chunk<Index32>, &j);
}

DLCORE_INLINE void add_row(float* out, const float* dy, int64_t n) {
  int64_t i = 0;
  for (; i + W <= n; i += W) store(out + i, load(out + i) + load(dy + i));
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    store_partial(out + i, load_partial(out + i, rest) + load_partial(dy + i, rest), rest);
  }
}

struct ScatterJob {
  const RowIndexArgs& a;
  const float* dy;
  const char* indices;
  float* out;
  int64_t rows, columns, column_blocks;  // of targets a chunk owns
};

template <class I>
void scatter_chunk(void* context, int64_t chunk) {
  const ScatterJob& j = *static_cast<const ScatterJob*>(context);
  const I* indices = reinterpret_cast<const I*>(j.indices);
  const int64_t row = j.a.row;
  const int64_t first = chunk / j.column_blocks * j.rows, last = smaller(first + j.rows, j.a.size);
  const int64_t c = chunk % j.column_blocks * j.columns, n = smaller(j.columns, row - c);
  if (n == row)
    fill_bytes(reinterpret_cast<char*>(j.out + first * row), 0, (last - first) * row * 4);
  else
    for (int64_t r = first; r < last; ++r) fill_bytes(reinterpret_cast<char*>(j.out + r * row + c), 0, n * 4);
  if (n == 1) {
    for (int64_t p = 0; p < j.a.count; ++p) {
      const int64_t i = indices[p];
      if (i >= first && i < last) *(FloatU*)(j.out + i * row + c) += *(const FloatU*)(j.dy + p * row + c);
    }
    return;
  }
  for (int64_t p = 0; p < j.a.count; ++p) {
    const int64_t i = indices[p];
    if (i >= first && i < last) add_row(j.out + i * row + c, j.dy + p * row + c, n);
  }
}

void scatter_add(const RowIndexArgs& a, const float* dy, const void* indices, float* out) {
  if (a.size == 0 || a.row == 0) return;
  // Few wide rows are cut by column; many rows by target, where each chunk passes over all the indices: at most 16
  // times, fewer when a row is too short to pay for it.
  const int64_t columns = a.row >= 256 ? 128 : a.row;
  const int64_t blocks = ceil_div(a.row, columns);
  const int64_t by_size = ceil_div(a.size * columns * 4, kChunkBytes), by_row = larger(1, columns / 4);
  const int64_t parts = smaller(a.size, smaller(smaller(by_size, by_row), 16));
  ScatterJob j{a, dy, static_cast<const char*>(indices), out, ceil_div(a.size, parts), columns, blocks};
  parallel_for(ceil_div(a.size, j.rows) * blocks, (a.size + 2 * a.count) * (a.row / 8 + 1),
               a.wide ? scatter_chunk<Index64> : scatter_chunk<Index32>, &j);
}

struct AxisJob {
  const AxisIndexArgs& a;
  const char* in;
  const char* indices;
  char* out;
  int64_t per_chunk, block;
};

template <class T>
struct Unaligned {
  typedef T type __attribute__((aligned(1), may_alias));
};

// out[i] = base[idx[i]·inner + i] (or, for inner 1, base[idx[i]]) over n elements.
template <class T, class I>
DLCORE_INLINE void take_row(const char* base, const I* idx, char* out, int64_t n, int64_t inner, bool lanes,
                            [[maybe_unused]] bool narrow) {
  using U = typename Unaligned<T>::type;
  const U* x = reinterpret_cast<const U*>(base);
  U* y = reinterpret_cast<U*>(out);
  int64_t i = 0;
  if constexpr (sizeof(T) == 4) {
    const float* bits = reinterpret_cast<const float*>(base);
    VI iota{};
    for (int l = 0; l < W; ++l) iota[l] = l;
    for (; narrow && i + W <= n; i += W) {
      VI at;
      if constexpr (sizeof(I) == 8) {
        typedef int64_t Longs __attribute__((vector_size(8 * W)));
        Longs wide;
        __builtin_memcpy(&wide, idx + i, sizeof wide);
        at = __builtin_convertvector(wide, VI);
      } else {
        at = load(reinterpret_cast<const int32_t*>(idx + i));
      }
      at = at * static_cast<int32_t>(inner);
      if (lanes) at += iota + static_cast<int32_t>(i);
      store(reinterpret_cast<float*>(out) + i, gather(bits, at));
    }
  }
  for (; i < n; ++i) y[i] = x[idx[i] * inner + (lanes ? i : 0)];
}

// With inner 1 a row is an outer index's `count`; else it is `inner` elements at one position of the axis.
template <class T, class I>
void take_axis_chunk(void* context, int64_t chunk) {
  const AxisJob& j = *static_cast<const AxisJob*>(context);
  const AxisIndexArgs& a = j.a;
  const bool flat = a.inner == 1;
  const bool narrow = a.size * a.inner <= INT32_MAX;
  const int64_t n = flat ? a.count : a.inner, rows = flat ? a.outer : a.outer * a.count;
  const int64_t begin = chunk * j.per_chunk, end = smaller(begin + j.per_chunk, rows);
  for (int64_t r = begin; r < end; ++r) {
    const int64_t o = flat ? r : r / a.count;
    take_row<T, I>(j.in + o * a.size * a.inner * static_cast<int64_t>(sizeof(T)),
                   reinterpret_cast<const I*>(j.indices) + r * n, j.out + r * n * static_cast<int64_t>(sizeof(T)), n,
                   a.inner, !flat, narrow);
  }
}

template <class T>
ChunkFn take_axis_fn(bool wide) {
  return wide ? take_axis_chunk<T, Index64> : take_axis_chunk<T, Index32>;
}

void take_along_axis(const AxisIndexArgs& a, const char* x, const void* indices, char* out) {
  const bool flat = a.inner == 1;
  const int64_t n = flat ? a.count : a.inner, rows = flat ? a.outer : a.outer * a.count;
  if (n == 0 || rows == 0) return;
  AxisJob j{a, x, static_cast<const char*>(indices), out, larger(1, 8192 / n), 0};
  const ChunkFn fn = a.element == 1   ? take_axis_fn<uint8_t>(a.wide)
                     : a.element == 2 ? take_axis_fn<uint16_t>(a.wide)
                     : a.element == 4 ? take_axis_fn<uint32_t>(a.wide)
                                      : take_axis_fn<uint64_t>(a.wide);
  parallel_for(ceil_div(rows, j.per_chunk), rows * n * 2, fn, &j);
}

// A chunk owns a range of outer indices, or of one outer index's inner columns.
template <class I>
void scatter_axis_chunk(void* context, int64_t chunk) {
  const AxisJob& j = *static_cast<const AxisJob*>(context);
  const AxisIndexArgs& a = j.a;
  const int64_t blocks = ceil_div(a.inner, j.block);
  const int64_t begin = chunk * j.per_chunk, end = smaller(begin + j.per_chunk, a.outer * blocks);
  for (int64_t u = begin; u < end; ++u) {
    const int64_t o = u / blocks, c = u % blocks * j.block, n = smaller(j.block, a.inner - c);
    FloatU* out = reinterpret_cast<FloatU*>(j.out) + o * a.size * a.inner + c;
    const FloatU* dy = reinterpret_cast<const FloatU*>(j.in) + o * a.count * a.inner + c;
    const I* idx = reinterpret_cast<const I*>(j.indices) + o * a.count * a.inner + c;
    if (n == a.inner)
      fill_bytes(reinterpret_cast<char*>(out), 0, a.size * n * 4);
    else
      for (int64_t s = 0; s < a.size; ++s) fill_bytes(reinterpret_cast<char*>(out + s * a.inner), 0, n * 4);
    for (int64_t k = 0; k < a.count; ++k)
      for (int64_t i = 0; i < n; ++i) out[idx[k * a.inner + i] * a.inner + i] += dy[k * a.inner + i];
  }
}

void scatter_along_axis(const AxisIndexArgs& a, const float* dy, const void* indices, float* out) {
  if (a.outer == 0 || a.inner == 0 || a.size == 0) return;
  AxisJob j{a, reinterpret_cast<const char*>(dy), static_cast<const char*>(indices), reinterpret_cast<char*>(out),
            1, a.inner >= 512 ? 256 : a.inner};
  const int64_t work = (a.size + 2 * a.count) * j.block;
  j.per_chunk = larger(1, 32768 / work);
  const int64_t units = a.outer * ceil_div(a.inner, j.block);
  parallel_for(ceil_div(units, j.per_chunk), units * work,
               a.wide ? scatter_axis_chunk<Index64> : scatter_axis_chunk<Index32>, &j);
}

}  // namespace

extern const IndexTable index_table;
const IndexTable index_table = {first_bad, take, scatter_add, take_along_axis, scatter_along_axis};

}  // namespace dlcore::DLCORE_ISA
