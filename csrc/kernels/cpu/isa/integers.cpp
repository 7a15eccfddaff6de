// Loops over integers, bytes of truth and conversions: plain loops that the compiler vectorises.
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/simd.h"

namespace dlcore::DLCORE_ISA {

namespace {

template <class T>
struct Unsigned;
template <>
struct Unsigned<int32_t> {
  using type = uint32_t;
};
template <>
struct Unsigned<int64_t> {
  using type = uint64_t;
};

// Sums and products wrap around.
#define INTEGER1(name, value)                                \
  struct name {                                              \
    template <class T>                                       \
    static DLCORE_INLINE T run(T x) {                        \
      using U [[maybe_unused]] = typename Unsigned<T>::type; \
      return static_cast<T>(value);                          \
    }                                                        \
  };
#define INTEGER2(name, value)                                \
  struct name {                                              \
    template <class T>                                       \
    static DLCORE_INLINE T run(T a, T b) {                   \
      using U [[maybe_unused]] = typename Unsigned<T>::type; \
      return static_cast<T>(value);                          \
    }                                                        \
  };
#define TEST2(name, value)                       \
  struct name {                                  \
    template <class T>                           \
    static DLCORE_INLINE uint8_t run(T a, T b) { \
      return static_cast<uint8_t>(value);        \
    }                                            \
  };
INTEGER1(neg, U{0} - static_cast<U>(x))
INTEGER1(abs, x < 0 ? U{0} - static_cast<U>(x) : static_cast<U>(x))
INTEGER1(sign, (x > 0) - (x < 0))
INTEGER1(relu, x < 0 ? T{0} : x)
INTEGER2(add, static_cast<U>(a) + static_cast<U>(b))
INTEGER2(sub, static_cast<U>(a) - static_cast<U>(b))
INTEGER2(mul, static_cast<U>(a) * static_cast<U>(b))
INTEGER2(maximum, a > b ? a : b)
INTEGER2(minimum, a < b ? a : b)
TEST2(eq, a == b)
TEST2(ne, a != b)
TEST2(lt, a < b)
TEST2(le, a <= b)
TEST2(gt, a > b)
TEST2(ge, a >= b)
TEST2(logical_and, (a != 0) & (b != 0))
TEST2(logical_or, (a != 0) | (b != 0))
TEST2(logical_xor, (a != 0) ^ (b != 0))
struct logical_not {
  static DLCORE_INLINE uint8_t run(uint8_t x) { return x == 0; }
};

template <class T, class R, class Op>
void map1(void* out, const void* const* in, unsigned single, int64_t n) {
  const T* a = static_cast<const T*>(in[0]);
  R* r = static_cast<R*>(out);
  const int64_t step = single & 1 ? 0 : 1;
  if (step)
    for (int64_t i = 0; i < n; ++i) r[i] = Op::run(a[i]);
  else
    for (int64_t i = 0; i < n; ++i) r[i] = Op::run(a[0]);
}

template <class T, class R, class Op>
void map2(void* out, const void* const* in, unsigned single, int64_t n) {
  const T *a = static_cast<const T*>(in[0]), *b = static_cast<const T*>(in[1]);
  R* r = static_cast<R*>(out);
  const T a0 = a[0], b0 = b[0];
  if ((single & 3) == 0)
    for (int64_t i = 0; i < n; ++i) r[i] = Op::run(a[i], b[i]);
  else if ((single & 3) == 1)
    for (int64_t i = 0; i < n; ++i) r[i] = Op::run(a0, b[i]);
  else if ((single & 3) == 2)
    for (int64_t i = 0; i < n; ++i) r[i] = Op::run(a[i], b0);
  else
    for (int64_t i = 0; i < n; ++i) r[i] = Op::run(a0, b0);
}

template <class T>
void where(void* out, const void* const* in, unsigned single, int64_t n) {
  const uint8_t* c = static_cast<const uint8_t*>(in[0]);
  const T *a = static_cast<const T*>(in[1]), *b = static_cast<const T*>(in[2]);
  T* r = static_cast<T*>(out);
  const int64_t sc = !(single & 1), sa = !(single & 2), sb = !(single & 4);
  if (sc & sa & sb)
    for (int64_t i = 0; i < n; ++i) r[i] = c[i] != 0 ? a[i] : b[i];
  else
    for (int64_t i = 0; i < n; ++i) r[i] = c[sc * i] != 0 ? a[sa * i] : b[sb * i];
}

// Toward zero; what does not fit saturates, NaN is 0.
template <class To, class From>
struct Convert {
  static DLCORE_INLINE To run(From x) { return static_cast<To>(x); }
};
template <class To>
DLCORE_INLINE To saturate(float x, float low, float high, To least, To most) {
  const To inside = x >= low && x < high ? static_cast<To>(x) : To{0};
  return x >= high ? most : x < low ? least : inside;
}
template <>
struct Convert<uint8_t, float> {
  static DLCORE_INLINE uint8_t run(float x) { return saturate<uint8_t>(x, 0.0f, 256.0f, 0, 255); }
};
template <>
struct Convert<int32_t, float> {
  static DLCORE_INLINE int32_t run(float x) { return saturate<int32_t>(x, -0x1p31f, 0x1p31f, INT32_MIN, INT32_MAX); }
};
template <>
struct Convert<int64_t, float> {
  static DLCORE_INLINE int64_t run(float x) { return saturate<int64_t>(x, -0x1p63f, 0x1p63f, INT64_MIN, INT64_MAX); }
};
template <class From>
struct ToBool {
  static DLCORE_INLINE uint8_t run(From x) { return x != From{0}; }
};

template <class From, class To>
constexpr TileFn convert() {
  return map1<From, To, Convert<To, From>>;
}
template <class From>
constexpr TileFn to_bool() {
  return map1<From, uint8_t, ToBool<From>>;
}

#define ARITHMETIC(T)                                                                                           \
  {                                                                                                             \
    {"neg", map1<T, T, neg>}, {"abs", map1<T, T, abs>}, {"sign", map1<T, T, sign>}, {"relu", map1<T, T, relu>}, \
        {"add", map2<T, T, add>}, {"sub", map2<T, T, sub>}, {"mul", map2<T, T, mul>},                           \
        {"maximum", map2<T, T, maximum>}, {"minimum", map2<T, T, minimum>}, {                                   \
      nullptr, nullptr                                                                                          \
    }                                                                                                           \
  }
#define TESTS(T)                                                                                    \
  {                                                                                                 \
    {"eq", map2<T, uint8_t, eq>}, {"ne", map2<T, uint8_t, ne>}, {"lt", map2<T, uint8_t, lt>},       \
        {"le", map2<T, uint8_t, le>}, {"gt", map2<T, uint8_t, gt>}, {"ge", map2<T, uint8_t, ge>}, { \
      nullptr, nullptr                                                                              \
    }                                                                                               \
  }

constexpr TileOp kI32[] = ARITHMETIC(int32_t);
constexpr TileOp kI64[] = ARITHMETIC(int64_t);
constexpr TileOp kI32Tests[] = TESTS(int32_t);
constexpr TileOp kI64Tests[] = TESTS(int64_t);
constexpr TileOp kU8Tests[] = TESTS(uint8_t);
constexpr TileOp kLogic[] = {{"logical_not", map1<uint8_t, uint8_t, logical_not>},
                             {"logical_and", map2<uint8_t, uint8_t, logical_and>},
                             {"logical_or", map2<uint8_t, uint8_t, logical_or>},
                             {"logical_xor", map2<uint8_t, uint8_t, logical_xor>},
                             {nullptr, nullptr}};

#define CASTS(From)                                                                              \
  {                                                                                              \
    convert<From, float>(), to_bool<From>(), convert<From, uint8_t>(), convert<From, int32_t>(), \
        convert<From, int64_t>()                                                                 \
  }

}  // namespace

const IntegerTable integer_table = {kI32,
                                    kI64,
                                    kI32Tests,
                                    kI64Tests,
                                    kU8Tests,
                                    kLogic,
                                    where<uint8_t>,
                                    where<uint64_t>,
                                    {CASTS(float), CASTS(uint8_t), CASTS(uint8_t), CASTS(int32_t), CASTS(int64_t)}};

}  // namespace dlcore::DLCORE_ISA
