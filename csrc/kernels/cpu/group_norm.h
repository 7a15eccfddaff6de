// Arguments and entry points of group normalisation; docs/ops.md has their meaning.
#pragma once
#include <stdint.h>

namespace dlcore {

struct Epilogue;

struct GroupNormArgs {  // images x groups x channels (of a group) x rest
  const float *x, *gamma, *beta;
  const float* dy;  // backward only
  float *y, *mean, *rstd;
  float *dx, *dgamma, *dbeta;
  int64_t images, groups, channels, rest;
  float eps;
  const Epilogue* epilogue;  // forward only, or null
  float* sums;               // backward only: two for each channel of each image
};

struct GroupNormTable {
  void (*forward)(const GroupNormArgs&);
  void (*backward)(const GroupNormArgs&);
};

namespace avx2 {
extern const GroupNormTable group_norm_table;
}
namespace avx512 {
extern const GroupNormTable group_norm_table;
}

}  // namespace dlcore
