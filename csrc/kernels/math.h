// Elementary functions in f32, one formula at each width: templates over a value type V (float, or a vector of floats)
// that use + - * /, comparisons and the overloads fma, sqrt, floor, round_even, select, as_int, as_unsigned, as_float,
// to_int, to_float, lookup8 and any, which the includer has declared before: kernels/cpu/simd.h for vectors, kernels/scalar.h
// for float. At most 2 ulp from the exact value anywhere, denormals and infinities included. The polynomials are
// minimax fits made for these intervals.
#pragma once
#ifdef DLCORE_ISA
#include "kernels/cpu/simd.h"
#define DLCORE_MATH_NAMESPACE dlcore::DLCORE_ISA
#endif
#ifndef DLCORE_MATH_NAMESPACE
#error "include kernels/scalar.h, or define DLCORE_ISA"
#endif

namespace DLCORE_MATH_NAMESPACE {

template <class V>
using IntOf = decltype(as_int(V{}));

// x in every lane; x - 0 keeps -0 and NaN.
template <class V, class S>
DLCORE_INLINE V constant(S x) {
  return x - V{};
}

inline constexpr float kInf = __builtin_inff(), kNaN = __builtin_nanf("");
inline constexpr int32_t kSignBit = INT32_MIN, kMagnitude = INT32_MAX;
inline constexpr float kLog2e = 0x1.715476p+0f;
// The high part has 14 bits: its product with an exponent is exact.
inline constexpr float kLn2Hi = 0x1.62e0p-1f, kLn2Lo = 0x1.0bfbe8p-15f;

// c0 + c1·x + c2·x² + …
template <class V>
DLCORE_INLINE V polynomial(V, float c0) {
  return constant<V>(c0);
}
template <class V, class... C>
DLCORE_INLINE V polynomial(V x, float c0, C... rest) {
  return fma(polynomial(x, rest...), x, constant<V>(c0));
}

template <class V>
DLCORE_INLINE V magnitude(V x) {
  return as_float(as_int(x) & kMagnitude);
}
template <class V>
DLCORE_INLINE V with_sign_of(V size, V sign) {
  return as_float((as_int(size) & kMagnitude) | (as_int(sign) & kSignBit));
}
// min and max against a constant; NaN stays.
template <class V>
DLCORE_INLINE V at_most(V x, float limit) {
  return select(x > limit, constant<V>(limit), x);
}
template <class V>
DLCORE_INLINE V at_least(V x, float limit) {
  return select(x < limit, constant<V>(limit), x);
}

template <class V>
DLCORE_INLINE V power_of_two(IntOf<V> n) {
  return as_float((n + 127) << 23);
}
// p·2^n for -252 <= n <= 254 in two steps, of which only the last one rounds (a denormal result).
template <class V>
DLCORE_INLINE V scale(V p, IntOf<V> n) {
  const IntOf<V> half = n >> 1;
  return p * power_of_two<V>(half) * power_of_two<V>(n - half);
}

// (exp(r) - 1 - r)/r² for |r| <= ln(2)/2: kExp[0] + kExp[1]·r + …
inline constexpr float kExp[] = {0x1.fffffep-2f, 0x1.5554b2p-3f, 0x1.555714p-5f, 0x1.122674p-7f, 0x1.6b7590p-10f};

// exp(hi + lo) = (1 + tail)·2^n with lo far below hi. Arguments beyond the ends give values that `scale` turns into
// infinity and 0.
template <class V>
struct ExpParts {
  V tail;
  IntOf<V> n;
};
template <class V>
DLCORE_INLINE ExpParts<V> exp_parts(V hi, V lo) {
  const V x = at_least(at_most(hi, 90.0f), -170.0f);
  const V k = round_even(x * kLog2e);
  const V r = fma(k, constant<V>(-kLn2Hi), x) + fma(k, constant<V>(-kLn2Lo), lo);
  const V p = polynomial(r, kExp[0], kExp[1], kExp[2], kExp[3], kExp[4]);
  return {fma(r * r, p, r), to_int(k)};
}

// A table of eight, twice over: for vectors of 8 and of 16. `lookup8` takes the last three bits of an index.
struct Eight {
  alignas(64) float value[16];
};
constexpr Eight eight(float a, float b, float c, float d, float e, float f, float g, float h) {
  return {{a, b, c, d, e, f, g, h, a, b, c, d, e, f, g, h}};
}
// 2^(i/8), and the same without the bits of i << 20.
inline constexpr Eight kEighths = eight(1.0f, 0x1.172b84p0f, 0x1.306fe0p0f, 0x1.4bfdaep0f, 0x1.6a09e6p0f, 0x1.8ace54p0f,
                                        0x1.ae89fap0f, 0x1.d5818ep0f);
constexpr Eight less_index(Eight t) {
  for (int i = 0; i < 16; ++i)
    t.value[i] = __builtin_bit_cast(float, __builtin_bit_cast(int32_t, t.value[i]) - ((i & 7) << 20));
  return t;
}
inline constexpr Eight kEighthsLess = less_index(kEighths);

// exp(x) = (1 + tail)·2^(j/8), -170 <= x <= 90. Added to 1.5·2^23, j = round(x·8/ln 2) lands in the low bits of the
// sum: the last three choose from the table, and all of them shifted up are added to what the table has.
template <class V>
struct QuickParts {
  V tail, sum;
  // 2^(j/8), where that is a normal number: for |x| <= 87. Unsigned, as lanes beyond overflow.
  DLCORE_INLINE V power() const {
    const auto less = as_unsigned(as_int(lookup8(kEighthsLess.value, as_int(sum))));
    return as_float((IntOf<V>)(less + (as_unsigned(as_int(sum)) << 20)));
  }
  DLCORE_INLINE V value() const { return fma(tail, power(), power()); }
  // The same as significand·2^n for any x.
  DLCORE_INLINE V significand() const {
    const V t = lookup8(kEighths.value, as_int(sum));
    return fma(tail, t, t);
  }
  DLCORE_INLINE IntOf<V> n() const { return (IntOf<V>)(as_unsigned(as_int(sum)) - 0x4b400000u) >> 3; }
};
// exp(r) - 1 = r + r²·(kQuickExp[0] + kQuickExp[1]·r) within 2.6e-8 for |r| <= ln(2)/16
inline constexpr float kQuickExp[] = {0x1.00087cp-1f, 0x1.555d40p-3f};
template <class V>
DLCORE_INLINE QuickParts<V> quick_parts(V x) {
  constexpr float kShift = 0x1.8p23f;
  const V sum = fma(x, constant<V>(8 * kLog2e), constant<V>(kShift)), k = sum - kShift;
  const V r = fma(k, constant<V>(-kLn2Lo / 8), fma(k, constant<V>(-kLn2Hi / 8), x));
  return {fma(r * r, polynomial(r, kQuickExp[0], kQuickExp[1]), r), sum};
}

// Far out, where a power of two or the result is no normal number, in two steps; the same bits within.
template <class V>
DLCORE_INLINE V exp(V x) {
  if (any(magnitude(x) > 87.0f)) [[unlikely]] {
    const QuickParts<V> e = quick_parts(at_least(at_most(x, 90.0f), -170.0f));
    return scale(e.significand(), e.n());
  }
  return quick_parts(x).value();
}

// 2^n·tail + (2^n - 1); far up, where 2^n may overflow alone, as exp.
template <class V>
DLCORE_INLINE V expm1(V x) {
  const ExpParts<V> e = exp_parts(at_least(x, -18.0f), V{});
  const V power = power_of_two<V>(e.n), y = fma(e.tail, power, power - 1.0f);
  return select(x == 0.0f, x, select(x > 18.0f, scale(1.0f + e.tail, e.n), y));
}

// The bits of x as a distance from those of sqrt(1/2); of x < 0, whose lanes are not wanted, modulo 2^32.
inline constexpr int32_t kSqrtHalfBits = 0x3f3504f3;
template <class V>
DLCORE_INLINE IntOf<V> from_sqrt_half(V x) {
  return (IntOf<V>)(as_unsigned(as_int(x)) - uint32_t{kSqrtHalfBits});
}

// x = 2^n·m for finite x > 0, sqrt(1/2) <= m < sqrt(2).
template <class V>
DLCORE_INLINE void split_exponent(V x, V& n, V& m) {
  const auto denormal = x < 0x1p-126f;
  const IntOf<V> bits = from_sqrt_half(select(denormal, x * 0x1p23f, x));
  n = to_float(bits >> 23) + select(denormal, constant<V>(-23.0f), V{});
  m = as_float((bits & 0x7fffff) + kSqrtHalfBits);
}

// n·ln 2 + log(1 + f)
template <class V>
DLCORE_INLINE V log_of_parts(V n, V f) {
  const V p = polynomial(f, 0x1.555548p-2f, -0x1.000008p-2f, 0x1.99a478p-3f, -0x1.555b8ep-3f, 0x1.233af8p-3f,
                         -0x1.fc3dccp-4f, 0x1.e6dc82p-4f, -0x1.dd9c04p-4f, 0x1.13c354p-4f);
  const V square = f * f;
  V y = fma(f * square, p, n * kLn2Lo);
  y = fma(square, constant<V>(-0.5f), y);
  return fma(n, constant<V>(kLn2Hi), f + y);
}

template <class V>
DLCORE_INLINE V log(V x) {
  V n, m;
  split_exponent(x, n, m);
  V y = log_of_parts(n, m - 1.0f);
  y = select(x == kInf, x, y);
  return select(x > 0.0f, y, select(x == 0.0f, constant<V>(-kInf), constant<V>(kNaN)));
}

// log of u = 1 + x, with what the sum lost put back into the fraction.
template <class V>
DLCORE_INLINE V log1p(V x) {
  const V u = 1.0f + x;
  const V lost = select(x < 1.0f, x - (u - 1.0f), 1.0f - (u - x));
  const IntOf<V> bits = from_sqrt_half(u);
  const IntOf<V> n = bits >> 23;
  const V m = as_float((bits & 0x7fffff) + kSqrtHalfBits);
  V y =
      log_of_parts(to_float(n), fma(lost, as_float((127 - select(n > 126, IntOf<V>(n - n + 126), n)) << 23), m - 1.0f));
  y = select((x == 0.0f) | (x == kInf), x, y);
  return select(x > -1.0f, y, select(x == -1.0f, constant<V>(-kInf), constant<V>(kNaN)));
}

// x = q·π/2 + r by all the bits of 2/π that matter, |x| >= 2^16: the product modulo 4, as a 64-bit fraction of a turn.
inline void reduce_large(float x, float& r, int32_t& q) {
  // 2/π in binary, after 64 zeros.
  constexpr uint64_t kTwoOverPi[] = {
      0, 0xa2f9836e4e441529u, 0xfc2757d1f534ddc0u, 0xdb6295993c439041u, 0xfe5163abdebbc561u, 0xb7246e3a424dd2e0u};
  int32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  const int exponent = (bits >> 23) & 255;
  if (exponent == 255) {
    r = kNaN;
    q = 0;
    return;
  }
  const uint64_t m = static_cast<uint64_t>((bits & 0x7fffff) | 0x800000);
  // |x| = m·2^(exponent - 150); bits of 2/π above 2^-start only give whole turns.
  const int start = exponent - 150 - 2 + 64, word = start / 64, shift = start % 64;
  const auto window = [&](int i) {
    return shift == 0 ? kTwoOverPi[i] : kTwoOverPi[i] << shift | kTwoOverPi[i + 1] >> (64 - shift);
  };
  const uint64_t a = window(word), b = window(word + 1);
  const uint64_t turns = m * a + ((m * (b >> 32) + ((m * (b & 0xffffffffu)) >> 32)) >> 32);
  const uint64_t quarter = (turns + (uint64_t{1} << 61)) >> 62;
  const int64_t rest = static_cast<int64_t>(turns - (quarter << 62));
  const float size = static_cast<float>(static_cast<double>(rest) * (0x1.921fb54442d18p+0 * 0x1p-62));
  r = bits < 0 ? -size : size;
  q = bits < 0 ? -static_cast<int32_t>(quarter & 3) : static_cast<int32_t>(quarter & 3);
}

// x = q·π/2 + r, |r| <= π/4: three constants and the rounding errors of the second; lane by lane where that ends.
template <class V>
DLCORE_INLINE void reduce_quarter(V x, V& r, IntOf<V>& q) {
  const V k = round_even(x * 0x1.45f306p-1f);
  const V high = fma(k, constant<V>(-0x1.921fb6p+0f), x);
  const V second = k * 0x1.777a5cp-25f, low = high + second, back = low - high;
  const V lost = (high - (low - back)) + (second - back);
  const V rest = fma(k, constant<V>(0x1.ee59dap-50f), fma(k, constant<V>(0x1.777a5cp-25f), -second));
  r = low + (lost + rest);
  q = to_int(k);
  if (any(magnitude(x) >= 65536.0f)) [[unlikely]] {
    constexpr int kCount = sizeof(V) / 4;
    float xs[kCount], rs[kCount];
    int32_t qs[kCount];
    __builtin_memcpy(xs, &x, sizeof x);
    __builtin_memcpy(rs, &r, sizeof r);
    __builtin_memcpy(qs, &q, sizeof q);
    for (int i = 0; i < kCount; ++i)
      if (xs[i] >= 65536.0f || xs[i] <= -65536.0f) reduce_large(xs[i], rs[i], qs[i]);
    __builtin_memcpy(&r, rs, sizeof r);
    __builtin_memcpy(&q, qs, sizeof q);
  }
}

// sin(r + q·π/2)
template <class V>
DLCORE_INLINE V sin_of_quarter(V r, IntOf<V> q) {
  const V z = r * r;
  const V s = fma(r * z, polynomial(z, -0x1.555546p-3f, 0x1.110778p-7f, -0x1.9953fep-13f), r);
  const V c = fma(z * z, polynomial(z, 0x1.55554ap-5f, -0x1.6c0c2ap-10f, 0x1.99e910p-16f),
                  fma(z, constant<V>(-0.5f), constant<V>(1.0f)));
  const V y = select((q & 1) == 0, s, c);
  return select((q & 2) == 0, y, -y);
}

template <class V>
DLCORE_INLINE V sin(V x) {
  V r;
  IntOf<V> q;
  reduce_quarter(x, r, q);
  return select(x == 0.0f, x, sin_of_quarter(r, q));
}

template <class V>
DLCORE_INLINE V cos(V x) {
  V r;
  IntOf<V> q;
  reduce_quarter(x, r, q);
  return sin_of_quarter(r, IntOf<V>((q & 3) + 1));
}

// A polynomial in t = |x| - centre on each of eight pieces of [0, 9.2], beyond which tanh is 1 (fits of the relative
// error, at most 6.8e-8). They end where 1 + 1.625·|x| is 1.5, 2, 3, 4, 6, 8 and 12: exponent and first digit of that
// sum tell the piece. Of the first the centre is 0 and t's coefficient 1; elsewhere tanh(centre) is nearly a float.
inline constexpr float kTanhEnd = 9.2f, kTanhStretch = 1.625f;
// Centres, then coefficients of t^0, t^1, …; the first piece has index 6.
inline constexpr Eight kTanh[] = {
    eight(0x1.d8f004p-1f, 0x1.88d144p+0f, 0x1.3b6c04p+1f, 0x1.d776bap+1f, 0x1.619ac4p+2f, 0x1.fe2800p+2f, 0.0f,
          0x1.d92a7ep-2f),
    eight(0x1.748e04p-1f, 0x1.d2866ep-1f, 0x1.f8a458p-1f, 0x1.ff5a6ep-1f, 0x1.fffbd6p-1f, 0x1.fffff8p-1f, 0.0f,
          0x1.ba232ep-2f),
    eight(0x1.e1d31cp-2f, 0x1.5ba476p-3f, 0x1.d38872p-6f, 0x1.4af462p-9f, 0x1.0bde1cp-14f, 0x1.01394ep-21f,
          0x1.000000p+0f, 0x1.a08c52p-1f),
    eight(-0x1.5e99c8p-2f, -0x1.3cc40ep-3f, -0x1.cccc5ap-6f, -0x1.4a84a2p-9f, -0x1.0b4494p-14f, -0x1.00b16cp-21f,
          -0x1.7b98eap-19f, -0x1.67b5c6p-2f),
    eight(0x1.79c8bep-4f, 0x1.599e16p-4f, 0x1.2a451ep-6f, 0x1.b695cep-10f, 0x1.543f6ep-15f, 0x1.479658p-22f,
          -0x1.553260p-2f, -0x1.e9968cp-4f),
    eight(0x1.821012p-5f, -0x1.9ea826p-6f, -0x1.1946b2p-7f, -0x1.b4ffe2p-11f, -0x1.58b700p-16f, -0x1.4bbd54p-23f,
          -0x1.0d1196p-9f, 0x1.5982dep-3f),
    eight(-0x1.b45872p-5f, -0x1.f0d472p-10f, 0x1.8f07e6p-9f, 0x1.6f257ep-12f, 0x1.6abd54p-17f, 0x1.5aba90p-24f,
          0x1.2d9a2ep-3f, -0x1.c7738cp-7f),
    eight(0x1.d3d694p-7f, 0x1.9e074ep-8f, -0x1.6b65eep-11f, -0x1.d48764p-14f, -0x1.d1a8f2p-19f, -0x1.bd96d4p-26f,
          -0x1.6735b0p-5f, -0x1.d76bbep-5f),
};
template <class V>
DLCORE_INLINE V tanh(V x) {
  const V a = at_most(magnitude(x), kTanhEnd);
  const IntOf<V> piece = as_int(fma(a, constant<V>(kTanhStretch), constant<V>(1.0f))) >> 22;
  const V t = a - lookup8(kTanh[0].value, piece);
  V p = lookup8(kTanh[7].value, piece);
#pragma GCC unroll 6
  for (int i = 6; i > 0; --i) p = fma(p, t, lookup8(kTanh[i].value, piece));
  return with_sign_of(p, x);
}

// f(x)·sigmoid(v) for |v| = hi + lo, with f(x) multiplied in before exp(-|v|) can be denormal, and one step of
// correction by what the sums and products lost.
template <class V>
DLCORE_INLINE V times_sigmoid(V f, V negative_if, V hi, V lo) {
  const ExpParts<V> e = exp_parts(-hi, -lo);
  const auto negative = negative_if < 0.0f;
  const V p = 1.0f + e.tail, p_lo = e.tail - (p - 1.0f);
  const V z = scale(p, e.n), d = 1.0f + z, d_lo = z - (d - 1.0f), inverse = 1.0f / d;
  const V product = f * p, product_lo = fma(f, p_lo, fma(f, p, -product));
  const V top = select(negative, product, f), top_lo = select(negative, product_lo, V{});
  const V first = top * inverse;
  const V left = fma(-first, d, top) + fma(-first, d_lo, top_lo);
  const V y = select((f == 0.0f) | (magnitude(f) == kInf), f, fma(left, inverse, first));
  return select(negative, scale(y, e.n), y);
}

template <class V>
DLCORE_INLINE V sigmoid(V x) {
  return times_sigmoid(constant<V>(1.0f), x, magnitude(x), V{});
}

template <class V>
DLCORE_INLINE V silu(V x) {
  const V f = at_least(x, -200.0f);  // so that -inf has the limit, 0
  return times_sigmoid(f, x, magnitude(x), V{});
}

// A polynomial near 0, 1 - exp(-polynomial) beyond.
template <class V>
DLCORE_INLINE V erf(V x) {
  const V a = at_most(magnitude(x), 4.0f), z = a * a;
  const V near = fma(x,
                     polynomial(z, 0x1.06eba8p-3f, -0x1.81273ep-2f, 0x1.ce2cecp-4f, -0x1.b7f7eep-6f, 0x1.53fbb2p-8f,
                                -0x1.a3aa96p-11f, 0x1.48959ep-14f),
                     x);
  const V g = polynomial(a, -0x1.8d7f86p-13f, 0x1.212c7cp+0f, 0x1.4433ccp-1f, 0x1.bc2206p-4f, -0x1.9d21aap-6f,
                         0x1.13b75ep-8f, -0x1.cf46d6p-12f, 0x1.6c7adap-16f);
  return select(a < 1.0f, near, with_sign_of(1.0f - exp(-g), x));
}

// log(1 + exp(x)) without overflow.
template <class V>
DLCORE_INLINE V softplus(V x) {
  return select(x > 0.0f, x, V{}) + log1p(exp(-magnitude(x)));
}

template <class V>
DLCORE_INLINE V rsqrt(V x) {
  return 1.0f / sqrt(x);
}

// log(x) = hi + lo to about 35 bits, by 2·atanh(s), s = (m - 1)/(m + 1); x positive and finite.
template <class V>
DLCORE_INLINE void log_in_two(V x, V& hi, V& lo) {
  constexpr float kTwoThirds = 0x1.555556p-1f, kTwoThirdsLo = -0x1.555556p-26f;
  V n, m;
  split_exponent(x, n, m);
  const V f = m - 1.0f, d = m + 1.0f, d_lo = m - (d - 1.0f);
  const V s = f / d, s_lo = (fma(-s, d, f) - s * d_lo) / d;
  const V z = s * s, z_lo = fma(s, s, -z) + (s + s) * s_lo;
  // z·2/3 + z²·(2/5 + …)
  const V t = z * kTwoThirds;
  V t_lo = fma(z, constant<V>(kTwoThirds), -t) + fma(z_lo, constant<V>(kTwoThirds), z * kTwoThirdsLo);
  t_lo = fma(z * z, polynomial(z, 0x1.999a00p-2f, 0x1.24527ep-2f, 0x1.dfa1b6p-3f), t_lo);
  const V u = s * t, u_lo = fma(s, t, -u) + fma(s, t_lo, s_lo * t);
  const V s2 = s + s, h = s2 + u, h_lo = ((s2 - h) + u) + (u_lo + (s_lo + s_lo));
  const V e = n * kLn2Hi;
  hi = e + h;
  lo = ((e - hi) + h) + fma(n, constant<V>(kLn2Lo), h_lo);
}

// As C's pow, special cases included.
template <class V>
DLCORE_INLINE V pow(V x, V y) {
  const V a = magnitude(x);
  V log_hi, log_lo;
  log_in_two(a, log_hi, log_lo);
  log_hi = select(a == 0.0f, constant<V>(-kInf), select(a == kInf, a, log_hi));
  const V hi = y * log_hi;
  const V lo = select(magnitude(hi) < 200.0f, fma(y, log_hi, -hi) + y * log_lo, V{});
  const ExpParts<V> e = exp_parts(hi, lo);
  const V size = scale(1.0f + e.tail, e.n);
  const V half = y * 0.5f, whole = floor(y), half_whole = floor(half), size_y = magnitude(y);
  const auto odd = (whole == y) & (half_whole != half) & (size_y < 0x1p24f);
  V r = select((as_int(x) < 0) & odd, -size, size);
  r = select((x < 0.0f) & (x != -kInf) & (whole != y), constant<V>(kNaN), r);
  r = select((a == 1.0f) & (size_y == kInf), constant<V>(1.0f), r);
  r = select(x != x, x, r);
  return select((y == 0.0f) | (x == 1.0f), constant<V>(1.0f), r);
}

}  // namespace DLCORE_MATH_NAMESPACE
