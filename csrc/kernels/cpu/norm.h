// Arguments and entry points of the normalisations; docs/ops.md has their meaning.
#pragma once
#include <stdint.h>

namespace dlcore {

struct Epilogue;

struct LayerNormArgs {  // rows x width; workspace: layer_norm_workspace floats (backward)
  const float *x, *gamma, *beta;
  const float* dy;  // backward only
  float *y, *mean, *rstd;
  float *dx, *dgamma, *dbeta;  // beta, mean and dbeta are layer norm's alone: rms norm subtracts and adds nothing
  int64_t rows, width;
  float eps;
  const Epilogue* epilogue;  // forward only, or null
  float* workspace;
  bool past;  // y or dx is written past the caches: it is no operand, and its rows are whole lines
};

struct BatchNormArgs {  // outer x channels x inner; workspace: batch_norm_workspace floats
  const float *x, *gamma, *beta;
  const float* dy;  // backward only
  float *y, *mean, *var;
  float *dx, *dgamma, *dbeta;
  int64_t outer, channels, inner;
  float eps;
  const Epilogue* epilogue;  // forward only, or null
  float* workspace;
};

inline constexpr int64_t kBlockRows = 512;  // blocks512
constexpr int64_t blocks_of(int64_t n) { return (n + kBlockRows - 1) / kBlockRows; }
// Two sums a block.
constexpr int64_t layer_norm_workspace(int64_t rows, int64_t width) { return 2 * blocks_of(rows) * width; }
inline constexpr int64_t kSumsABlock = 3;  // of batch norm: [block][kind of sum][channel]
// And four coefficients a channel.
constexpr int64_t batch_norm_workspace(int64_t n, int64_t channels) {
  return (kSumsABlock * blocks_of(n) + 4) * channels;
}

struct LayerNormTable {
  void (*forward)(const LayerNormArgs&);
  void (*backward)(const LayerNormArgs&);
  void (*rms_forward)(const LayerNormArgs&);
  void (*rms_backward)(const LayerNormArgs&);
};
struct BatchNormTable {
  void (*forward)(const BatchNormArgs&);
  void (*backward)(const BatchNormArgs&);
};

namespace avx2 {
extern const LayerNormTable layer_norm_table;
extern const BatchNormTable batch_norm_table;
}  // namespace avx2
namespace avx512 {
extern const LayerNormTable layer_norm_table;
extern const BatchNormTable batch_norm_table;
}  // namespace avx512

}  // namespace dlcore
