// 3x3 convolution with stride 1 by Winograd's F(4x4, 3x3) or F(2x2, 3x3), float32, channels last: arguments and tables
// of the per-ISA code.
#pragma once
#include <cstddef>
#include <cstdint>

namespace dlcore {

struct Epilogue;

// in (n, h, w, ci) → out (n, oh, ow, co); the filter's corner lies pad_top above and pad_left left of the output's.
struct WinogradShape {
  int64_t n, h, w, oh, ow, ci, co, pad_top, pad_left;
  int64_t tile = 4;  // outputs of a tile along each axis
  int64_t tiles_h() const { return (oh + tile - 1) / tile; }
  int64_t tiles_w() const { return (ow + tile - 1) / tile; }
  int64_t tiles() const { return n * tiles_h() * tiles_w(); }
};

struct WinogradTable {
  // weights (co, ci, 3, 3) into Winograd's domain. rotated: weights (ci, co, 3, 3) turned by 180 degrees, as the
  // gradient of the input needs them.
  size_t (*transformed_floats)(const WinogradShape& shape);
  void (*transform)(const WinogradShape& shape, const float* weights, bool rotated, float* transformed);
  // `transformed` stands ready, or is null: then the weights are transformed on the way.
  size_t (*workspace)(const WinogradShape& shape, bool transformed);
  void (*run)(const WinogradShape& shape, const float* in, const float* weights, bool rotated, const float* transformed,
              float* out, void* workspace, const Epilogue* epilogue);
  // dw (co, ci, 3, 3) from the input and the gradient of the output.
  size_t (*workspace_weight)(const WinogradShape& shape);
  void (*run_weight)(const WinogradShape& shape, const float* in, const float* dout, float* dw, void* workspace);
};

namespace avx2 {
extern const WinogradTable winograd4_table, winograd2_table;
}
namespace avx512 {
extern const WinogradTable winograd4_table, winograd2_table;
}

}  // namespace dlcore
