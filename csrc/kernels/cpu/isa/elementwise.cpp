// The f32 loops: one or two operands per op, each a vector stream or one element for all.
#include "kernels/cpu/elementwise.h"

#include "kernels/map_ops.h"

namespace dlcore::DLCORE_ISA {

namespace {

typedef uint8_t VB __attribute__((vector_size(W)));
typedef uint8_t VBu __attribute__((vector_size(W), aligned(1), may_alias));

DLCORE_INLINE void store_truth(uint8_t* p, VI mask, int64_t n) {
#ifdef DLCORE_WIDE
  const VB bytes = __builtin_convertvector(mask & 1, VB);
#else
  typedef uint8_t Bytes __attribute__((vector_size(4 * W)));
  const Bytes b = reinterpret_cast<Bytes>(mask & 1);
  const VB bytes = __builtin_shufflevector(b, b, 0, 4, 8, 12, 16, 20, 24, 28);
#endif
  if (n >= W) {
    *reinterpret_cast<VBu*>(p) = bytes;
  } else {
    for (int i = 0; i < n; ++i) p[i] = bytes[i];
  }
}
DLCORE_INLINE VI load_truth(const uint8_t* p, int64_t n) {
  uint8_t last[W] = {};
  if (n < W) {
    for (int i = 0; i < n; ++i) last[i] = p[i];
    p = last;
  }
  return widen_bytes(p) != 0;
}

// Where a loop writes, and what: numbers, truth as numbers, truth as bytes.
struct To {
  void* out;
  bool past;
  DLCORE_INLINE To(void* to, unsigned single)
      : out(to), past((single & kWritePast) != 0 && reinterpret_cast<uintptr_t>(to) % sizeof(VF) == 0) {}
};
struct Number {
  static DLCORE_INLINE void put(To to, int64_t i, VF v, int64_t n) {
    float* p = static_cast<float*>(to.out) + i;
    if (n < W)
      store_partial(p, v, static_cast<int>(n));
    else
      to.past ? store_past(p, v) : store(p, v);
  }
};
struct TruthNumber {
  static DLCORE_INLINE void put(To to, int64_t i, VI m, int64_t n) { Number::put(to, i, ops::truth<VF>(m), n); }
};
struct TruthByte {
  static DLCORE_INLINE void put(To to, int64_t i, VI m, int64_t n) {
    store_truth(static_cast<uint8_t*>(to.out) + i, m, n);
  }
};

DLCORE_INLINE VF get(const float* p, int64_t i, int64_t n) {
  return n >= W ? load(p + i) : load_partial(p + i, static_cast<int>(n));
}

// One body for whole and last vectors: the functions are long.
template <class Op, class Out>
void map1(void* out, const void* const* in, unsigned single, int64_t n) {
  const To to(out, single);
  const float* a = static_cast<const float*>(in[0]);
  if (single & 1) {
    const auto v = Op::run(splat(a[0]));
    for (int64_t i = 0; i < n; i += W) Out::put(to, i, v, n - i);
    return;
  }
#pragma GCC unroll 1
  for (int64_t i = 0; i < n; i += W) Out::put(to, i, Op::run(get(a, i, n - i)), n - i);
}

template <class Op, class Out, class A, class B>
DLCORE_INLINE void map2_with(To to, int64_t n, A a, B b) {
  int64_t i = 0;
#pragma GCC unroll 4
  for (; i + W <= n; i += W) Out::put(to, i, Op::run(a(i, W), b(i, W)), W);
  if (i < n) Out::put(to, i, Op::run(a(i, n - i), b(i, n - i)), n - i);
}
template <class Op, class Out>
void map2(void* out, const void* const* in, unsigned single, int64_t n) {
  const To to(out, single);
  const float *a = static_cast<const float*>(in[0]), *b = static_cast<const float*>(in[1]);
  const auto stream_a = [a](int64_t i, int64_t left) __attribute__((always_inline)) { return get(a, i, left); };
  const auto stream_b = [b](int64_t i, int64_t left) __attribute__((always_inline)) { return get(b, i, left); };
  const VF one_a = splat(a[0]), one_b = splat(b[0]);
  const auto single_a = [one_a](int64_t, int64_t) __attribute__((always_inline)) { return one_a; };
  const auto single_b = [one_b](int64_t, int64_t) __attribute__((always_inline)) { return one_b; };
  if ((single & 3) == 0)
    map2_with<Op, Out>(to, n, stream_a, stream_b);
  else if ((single & 3) == 1)
    map2_with<Op, Out>(to, n, single_a, stream_b);
  else if ((single & 3) == 2)
    map2_with<Op, Out>(to, n, stream_a, single_b);
  else
    map2_with<Op, Out>(to, n, single_a, single_b);
}
// For a long function: one body.
template <class Op>
void map2_long(void* out, const void* const* in, unsigned single, int64_t n) {
  const To to(out, single);
  const float *a = static_cast<const float*>(in[0]), *b = static_cast<const float*>(in[1]);
  for (int64_t i = 0; i < n; i += W) {
    const VF x = single & 1 ? splat(a[0]) : get(a, i, n - i), y = single & 2 ? splat(b[0]) : get(b, i, n - i);
    Number::put(to, i, Op::run(x, y), n - i);
  }
}

// Select by a condition of numbers (tile programs) or of bytes.
template <bool bytes, unsigned single>
void where_of(To to, const void* const* in, int64_t n) {
  const float *a = static_cast<const float*>(in[1]), *b = static_cast<const float*>(in[2]);
  const auto condition = [&](int64_t i, int64_t left) __attribute__((always_inline)) {
    if constexpr (bytes) {
      const uint8_t* c = static_cast<const uint8_t*>(in[0]);
      return single & 1 ? splat(int32_t{c[0]}) != 0 : load_truth(c + i, left);
    } else {
      const float* c = static_cast<const float*>(in[0]);
      return (single & 1 ? splat(c[0]) : get(c, i, left)) != 0.0f;
    }
  };
  const VF one_a = splat(a[0]), one_b = splat(b[0]);
  const auto step = [&](int64_t i, int64_t left) __attribute__((always_inline)) {
    const VF x = single & 2 ? one_a : get(a, i, left), y = single & 4 ? one_b : get(b, i, left);
    Number::put(to, i, select(condition(i, left), x, y), left);
  };
  int64_t i = 0;
  for (; i + W <= n; i += W) step(i, W);
  if (i < n) step(i, n - i);
}
template <bool bytes>
void where(void* out, const void* const* in, unsigned single, int64_t n) {
  const To to(out, single);
  switch (single & 7) {
    case 0:
      return where_of<bytes, 0>(to, in, n);
    case 1:
      return where_of<bytes, 1>(to, in, n);
    case 2:
      return where_of<bytes, 2>(to, in, n);
    case 3:
      return where_of<bytes, 3>(to, in, n);
    case 4:
      return where_of<bytes, 4>(to, in, n);
    case 5:
      return where_of<bytes, 5>(to, in, n);
    case 6:
      return where_of<bytes, 6>(to, in, n);
    default:
      return where_of<bytes, 7>(to, in, n);
  }
}

void gelu_with_slope(const float* x, float* y, float* slope, int64_t n, bool past) {
  const To to_y(y, past ? kWritePast : 0), to_slope(slope, past ? kWritePast : 0);
#pragma GCC unroll 1
  for (int64_t i = 0; i < n; i += W) {
    const GeluParts<VF> parts = gelu_parts(get(x, i, n - i));
    Number::put(to_y, i, parts.value(), n - i);
    Number::put(to_slope, i, parts.slope(), n - i);
  }
  if (past) end_past();
}

#define MAP1(name) {#name, map1<ops::name, Number>},
#define TEST1_NUMBER(name) {#name, map1<ops::name, TruthNumber>},
#define TEST2_NUMBER(name) {#name, map2<ops::name, TruthNumber>},
#define TEST2_BYTE(name) {#name, map2<ops::name, TruthByte>},

constexpr TileOp kNumbers[] = {DLCORE_UNARY_OPS(MAP1) DLCORE_UNARY_TEST_OPS(TEST1_NUMBER)
                                   DLCORE_BINARY_TEST_OPS(TEST2_NUMBER){"add", map2<ops::add, Number>},
                               {"sub", map2<ops::sub, Number>},
                               {"mul", map2<ops::mul, Number>},
                               {"div", map2<ops::div, Number>},
                               {"maximum", map2<ops::maximum, Number>},
                               {"minimum", map2<ops::minimum, Number>},
                               {"pow", map2_long<ops::pow>},
                               {"remainder", map2_long<ops::remainder>},
                               {"where", where<false>},
                               {nullptr, nullptr}};

constexpr TileOp kTests[] = {{"isnan", map1<ops::isnan, TruthByte>},
                             {"isfinite", map1<ops::isfinite, TruthByte>},
                             TEST2_BYTE(eq) TEST2_BYTE(ne) TEST2_BYTE(lt) TEST2_BYTE(le) TEST2_BYTE(gt)
                                 TEST2_BYTE(ge){nullptr, nullptr}};

}  // namespace

const ElementwiseTable elementwise_table = {kNumbers, kTests, where<true>, gelu_with_slope};

}  // namespace dlcore::DLCORE_ISA
