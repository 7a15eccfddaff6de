#include "base/dtype.h"

#include "base/error.h"

namespace dlcore {

namespace {
struct Info {
  std::string_view name;
  size_t size;
};
constexpr Info kInfo[kDTypeCount] = {{"f32", 4}, {"f64", 8}, {"bf16", 2}, {"f16", 2}, {"i8", 1},
                                     {"u8", 1},  {"i32", 4}, {"i64", 8},  {"bool", 1}};
}  // namespace

size_t size_of(DType dtype) { return kInfo[static_cast<int>(dtype)].size; }
std::string_view name_of(DType dtype) { return kInfo[static_cast<int>(dtype)].name; }

DType parse_dtype(std::string_view name) {
  for (int i = 0; i < kDTypeCount; ++i)
    if (kInfo[i].name == name) return static_cast<DType>(i);
  fail(ErrorKind::Type, "unknown dtype '", name, "'; known: f32 f64 bf16 f16 i8 u8 i32 i64 bool");
}

}  // namespace dlcore
