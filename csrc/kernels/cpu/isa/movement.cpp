// Strided copies: rows, fills, register-tiled transposes. Work is cut into units (a segment of a row, or a band of a
// transpose), and units into chunks of about 64 KB.
#include "kernels/cpu/movement.h"

#include "base/parallel.h"
#include "kernels/cpu/rows.h"

namespace dlcore::DLCORE_ISA {
namespace {

constexpr int64_t kChunkBytes = 65536;
constexpr int64_t kSegmentBytes = 32768;
constexpr int64_t kTransposeSegment = 1024;  // elements of the input's contiguous axis a unit covers

template <class T>
struct Unaligned {
  typedef T type __attribute__((aligned(1), may_alias));
};
template <class T>
DLCORE_INLINE T get(const char* p) {
  return *reinterpret_cast<const typename Unaligned<T>::type*>(p);
}
template <class T>
DLCORE_INLINE void put(char* p, T v) {
  *reinterpret_cast<typename Unaligned<T>::type*>(p) = v;
}
DLCORE_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
DLCORE_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct CopyJob {
  const CopyArgs& a;
  const char* in;
  char* out;
  int64_t units, units_per_chunk, segments, segment;
  int64_t bands, band;  // kTranspose
};

// Walks the outer axes in row-major order from index `row` on.
struct Walk {
  const CopyArgs& a;
  const char* in;
  char* out;
  int64_t at[8];

  DLCORE_INLINE Walk(const CopyJob& j, int64_t row) : a(j.a), in(j.in), out(j.out) {
    for (int d = a.rank - 1; d >= 0; --d) {
      at[d] = row % a.size[d];
      row /= a.size[d];
      in += at[d] * a.in_stride[d];
      out += at[d] * a.out_stride[d];
    }
  }
  DLCORE_INLINE void next() {
    for (int d = a.rank - 1; d >= 0; --d) {
      in += a.in_stride[d];
      out += a.out_stride[d];
      if (++at[d] < a.size[d]) return;
      in -= a.in_stride[d] * a.size[d];
      out -= a.out_stride[d] * a.size[d];
      at[d] = 0;
    }
  }
};

struct CopyRow {
  template <class T>
  static DLCORE_INLINE void row(const CopyArgs&, const char* in, char* out, int64_t n) {
    copy_bytes(out, in, n * static_cast<int64_t>(sizeof(T)));
  }
};

struct FillRow {
  template <class T>
  static DLCORE_INLINE void row(const CopyArgs&, const char* in, char* out, int64_t n) {
    constexpr uint64_t ones = ~uint64_t{0} / static_cast<uint64_t>(static_cast<T>(~T{0}));  // 0x0101…, 0x00010001…, 1
    fill_bytes(out, static_cast<uint64_t>(get<T>(in)) * ones, n * static_cast<int64_t>(sizeof(T)));
  }
};

// Known steps let the compiler use shuffles.
template <class T, int Step>
DLCORE_INLINE void step_row(const char* in, char* out, int64_t n) {
  constexpr int64_t s = sizeof(T);
  for (int64_t i = 0; i < n; ++i) put<T>(out + i * s, get<T>(in + i * Step * s));
}

struct StridedRow {
  template <class T>
  static DLCORE_INLINE void row(const CopyArgs& a, const char* in, char* out, int64_t n) {
    constexpr int64_t s = sizeof(T);
    if (a.out_step == s && a.in_step == -s) return step_row<T, -1>(in, out, n);
    if (a.out_step == s && a.in_step == 2 * s) return step_row<T, 2>(in, out, n);
    if (a.out_step == s && a.in_step == 3 * s) return step_row<T, 3>(in, out, n);
    if (a.out_step == s && a.in_step == 4 * s) return step_row<T, 4>(in, out, n);
    for (int64_t i = 0; i < n; ++i) put<T>(out + i * a.out_step, get<T>(in + i * a.in_step));
  }
};

template <class T, class Kind>
void rows_chunk(void* context, int64_t chunk) {
  const CopyJob& j = *static_cast<const CopyJob*>(context);
  const int64_t first = chunk * j.units_per_chunk, last = smaller(first + j.units_per_chunk, j.units);
  int64_t s = first % j.segments;
  Walk walk(j, first / j.segments);
  for (int64_t u = first; u < last; ++u) {
    const int64_t begin = s * j.segment, n = smaller(j.segment, j.a.n - begin);
    Kind::template row<T>(j.a, walk.in + begin * j.a.in_step, walk.out + begin * j.a.out_step, n);
    if (++s == j.segments) {
      s = 0;
      walk.next();
    }
  }
}

// In-lane interleave of 128-bit lanes: the low (high) halves of a's and b's lanes, element by element.
typedef uint8_t V1 __attribute__((vector_size(16)));
typedef uint16_t V2 __attribute__((vector_size(16)));
typedef uint32_t V4 __attribute__((vector_size(4 * W)));
typedef uint64_t V8 __attribute__((vector_size(4 * W)));
DLCORE_INLINE V1 zip_low(V1 a, V1 b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
DLCORE_INLINE V1 zip_high(V1 a, V1 b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
DLCORE_INLINE V2 zip_low(V2 a, V2 b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
DLCORE_INLINE V2 zip_high(V2 a, V2 b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#ifdef DLCORE_WIDE
DLCORE_INLINE V4 zip_low(V4 a, V4 b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
}
DLCORE_INLINE V4 zip_high(V4 a, V4 b) {
  return __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
}
DLCORE_INLINE V8 zip_low(V8 a, V8 b) { return __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14); }
DLCORE_INLINE V8 zip_high(V8 a, V8 b) { return __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15); }
#else
DLCORE_INLINE V4 zip_low(V4 a, V4 b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13); }
DLCORE_INLINE V4 zip_high(V4 a, V4 b) { return __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15); }
DLCORE_INLINE V8 zip_low(V8 a, V8 b) { return __builtin_shufflevector(a, b, 0, 4, 2, 6); }
DLCORE_INLINE V8 zip_high(V8 a, V8 b) { return __builtin_shufflevector(a, b, 1, 5, 3, 7); }
#endif

template <int Bytes>
struct TileOf;
template <>
struct TileOf<1> {
  using T = uint8_t;
  using V = V1;
};
template <>
struct TileOf<2> {
  using T = uint16_t;
  using V = V2;
};
template <>
struct TileOf<4> {
  using T = uint32_t;
  using V = V4;
};
template <>
struct TileOf<8> {
  using T = uint64_t;
  using V = V8;
};

// Count rows of 16 bytes side by side in one vector: joined in registers, since a copy through memory stalls the load.
template <int Count>
struct Lanes128;
typedef uint64_t Two __attribute__((vector_size(16)));
typedef uint64_t Four __attribute__((vector_size(32)));
typedef uint64_t TwoU __attribute__((vector_size(16), aligned(1), may_alias));
template <>
struct Lanes128<1> {
  static DLCORE_INLINE Two load(const char* p, int64_t) { return *reinterpret_cast<const TwoU*>(p); }
};
template <>
struct Lanes128<2> {
  static DLCORE_INLINE Four load(const char* p, int64_t step) {
    return __builtin_shufflevector(Lanes128<1>::load(p, 0), Lanes128<1>::load(p + step, 0), 0, 1, 2, 3);
  }
};
#ifdef DLCORE_WIDE
typedef uint64_t Eight __attribute__((vector_size(64)));
template <>
struct Lanes128<4> {
  static DLCORE_INLINE Eight load(const char* p, int64_t step) {
    return __builtin_shufflevector(Lanes128<2>::load(p, step), Lanes128<2>::load(p + 2 * step, step), 0, 1, 2, 3, 4, 5,
                                   6, 7);
  }
};
#endif

// A tile of `kTall` input rows by `kWide` elements becomes kWide output rows of kTall: vector i holds, one in each
// 128-bit lane, rows i, i + kWide, …, so that transposing inside lanes leaves whole output rows.
template <int Bytes>
struct Tile {
  using T = typename TileOf<Bytes>::T;
  using V = typename TileOf<Bytes>::V;
  static constexpr int kWide = 16 / Bytes;
  static constexpr int kTall = static_cast<int>(sizeof(V)) / Bytes;

  static DLCORE_INLINE void run(const char* in, int64_t in_step, char* out, int64_t out_row) {
    V v[kWide], t[kWide];
#pragma GCC unroll 16
    for (int i = 0; i < kWide; ++i)
      v[i] = reinterpret_cast<V>(Lanes128<kTall / kWide>::load(in + i * in_step, kWide * in_step));
#pragma GCC unroll 4
    for (int round = 1; round < kWide; round *= 2) {
#pragma GCC unroll 8
      for (int i = 0; i < kWide / 2; ++i) {
        t[2 * i] = zip_low(v[i], v[i + kWide / 2]);
        t[2 * i + 1] = zip_high(v[i], v[i + kWide / 2]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < kWide; ++i) v[i] = t[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWide; ++i) __builtin_memcpy(out + i * out_row, &v[i], sizeof(V));
  }
};

// One cache line square (n output columns by m output rows), whole or cut off.
template <int Bytes>
DLCORE_INLINE void block(const char* in, int64_t in_step, char* out, int64_t out_row, int64_t n, int64_t m) {
  using S = Tile<Bytes>;
  using T = typename S::T;
  int64_t i = 0;
  for (; i + S::kTall <= n; i += S::kTall) {
    int64_t j = 0;
    for (; j + S::kWide <= m; j += S::kWide)
      S::run(in + i * in_step + j * Bytes, in_step, out + j * out_row + i * Bytes, out_row);
    for (; j < m; ++j)
      for (int64_t k = i; k < i + S::kTall; ++k)
        put<T>(out + j * out_row + k * Bytes, get<T>(in + k * in_step + j * Bytes));
  }
  for (; i < n; ++i)
    for (int64_t j = 0; j < m; ++j) put<T>(out + j * out_row + i * Bytes, get<T>(in + i * in_step + j * Bytes));
}

template <int Bytes>
void transpose_chunk(void* context, int64_t chunk) {
  const CopyJob& j = *static_cast<const CopyJob*>(context);
  const CopyArgs& a = j.a;
  const int64_t first = chunk * j.units_per_chunk, last = smaller(first + j.units_per_chunk, j.units);
  int64_t inner = first % (j.bands * j.segments);
  Walk walk(j, first / (j.bands * j.segments));
  for (int64_t u = first; u < last; ++u) {
    const int64_t i = inner / j.segments * j.band, n = smaller(j.band, a.n - i);
    const int64_t begin = inner % j.segments * j.segment, end = smaller(begin + j.segment, a.m);
    for (int64_t k = begin; k < end; k += j.band)
      block<Bytes>(walk.in + i * a.in_step + k * Bytes, a.in_step, walk.out + k * a.out_row + i * Bytes, a.out_row, n,
                   smaller(j.band, end - k));
    if (++inner == j.bands * j.segments) {
      inner = 0;
      walk.next();
    }
  }
}

template <class Kind>
ChunkFn rows_fn(int element) {
  if (element == 1) return rows_chunk<uint8_t, Kind>;
  if (element == 2) return rows_chunk<uint16_t, Kind>;
  if (element == 4) return rows_chunk<uint32_t, Kind>;
  return rows_chunk<uint64_t, Kind>;
}

ChunkFn transpose_fn(int element) {
  if (element == 1) return transpose_chunk<1>;
  if (element == 2) return transpose_chunk<2>;
  if (element == 4) return transpose_chunk<4>;
  return transpose_chunk<8>;
}

void copy(const CopyArgs& a, const char* in, char* out) {
  CopyJob j{a, in + a.in_offset, out + a.out_offset, 1, 1, 1, 1, 1, 64 / a.element};
  for (int d = 0; d < a.rank; ++d) j.units *= a.size[d];
  if (j.units == 0 || a.n == 0) return;
  int64_t unit_bytes;
  ChunkFn fn;
  if (a.mode == CopyArgs::kTranspose) {
    if (a.m == 0) return;
    j.bands = ceil_div(a.n, j.band);
    j.segment = kTransposeSegment;
    j.segments = ceil_div(a.m, j.segment);
    j.units *= j.bands * j.segments;
    unit_bytes = smaller(a.n, j.band) * smaller(a.m, j.segment) * a.element;
    fn = transpose_fn(a.element);
  } else {
    j.segment = kSegmentBytes / a.element;
    j.segments = ceil_div(a.n, j.segment);
    j.units *= j.segments;
    unit_bytes = smaller(a.n, j.segment) * a.element;
    fn = a.mode == CopyArgs::kRows   ? rows_fn<CopyRow>(a.element)
         : a.mode == CopyArgs::kFill ? rows_fn<FillRow>(a.element)
                                     : rows_fn<StridedRow>(a.element);
  }
  j.units_per_chunk = unit_bytes >= kChunkBytes ? 1 : kChunkBytes / unit_bytes;
  const int64_t cycles = a.mode == CopyArgs::kStrided ? j.units * unit_bytes / a.element : j.units * unit_bytes / 8;
  parallel_for(ceil_div(j.units, j.units_per_chunk), cycles, fn, &j);
}

struct PadJob {
  const PadArgs& a;
  const char* in;
  char* out;
  int64_t rows, rows_per_chunk;
};

void pad_chunk(void* context, int64_t chunk) {
  const PadJob& j = *static_cast<const PadJob*>(context);
  const PadArgs& a = j.a;
  const int last = a.rank - 1;
  const int64_t element = a.element, in_bytes = a.in_size[last] * element, out_bytes = a.out_size[last] * element,
                low = a.low[last] * element;
  const int64_t begin = chunk * j.rows_per_chunk, end = smaller(begin + j.rows_per_chunk, j.rows);
  for (int64_t r = begin; r < end; ++r) {
    int64_t rest = r, row = 0, scale = 1;
    bool inside = true;
    for (int d = last - 1; d >= 0; --d) {
      const int64_t i = rest % a.out_size[d] - a.low[d];
      rest /= a.out_size[d];
      inside &= i >= 0 && i < a.in_size[d];
      row += i * scale;
      scale *= a.in_size[d];
    }
    char* out = j.out + r * out_bytes;
    if (!inside || in_bytes == 0) {
      fill_bytes(out, a.pattern, out_bytes);
      continue;
    }
    fill_bytes(out, a.pattern, low);
    copy_bytes(out + low, j.in + row * in_bytes, in_bytes);
    fill_bytes(out + low + in_bytes, a.pattern, out_bytes - low - in_bytes);
  }
}

void pad(const PadArgs& a, const char* in, char* out) {
  PadJob j{a, in, out, 1, 1};
  for (int d = 0; d + 1 < a.rank; ++d) j.rows *= a.out_size[d];
  const int64_t bytes = a.out_size[a.rank - 1] * a.element;
  if (j.rows == 0 || bytes == 0) return;
  j.rows_per_chunk = bytes >= kChunkBytes ? 1 : kChunkBytes / bytes;
  parallel_for(ceil_div(j.rows, j.rows_per_chunk), j.rows * bytes / 8 + j.rows * 16, pad_chunk, &j);
}

struct FillJob {
  uint64_t pattern;
  int64_t bytes;
  char* out;
};

void fill_chunk(void* context, int64_t chunk) {
  const FillJob& j = *static_cast<const FillJob*>(context);
  const int64_t begin = chunk * kChunkBytes;
  fill_bytes(j.out + begin, j.pattern, smaller(kChunkBytes, j.bytes - begin));
}

void fill(uint64_t pattern, int64_t bytes, char* out) {
  FillJob j{pattern, bytes, out};
  if (bytes > 0) parallel_for(ceil_div(bytes, kChunkBytes), bytes / 8, fill_chunk, &j);
}

}  // namespace

extern const MovementTable movement_table;
const MovementTable movement_table = {copy, pad, fill};

}  // namespace dlcore::DLCORE_ISA
