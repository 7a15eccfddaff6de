// A 1×1 convolution with stride 1 is a product of the pixels by the weights, whose driver blocks better.
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/isa/conv_parts.h"

namespace dlcore::DLCORE_ISA {

namespace {

constexpr int64_t kMostBlocks = 8;                 // blocks of images (docs/ops.md)
constexpr int64_t kMostFloats = int64_t{1} << 21;  // of all blocks' sums: 8 MB
constexpr int64_t kNoOffset[kMostBlocks] = {};

struct Blocks {
  int64_t images, count, last;  // images of a block, blocks, images of the last one
  explicit Blocks(const ConvShape& s)
      : images(ceil_div(s.n, min64(s.n, kMostBlocks))),
        count(ceil_div(s.n, images)),
        last(s.n - (count - 1) * images) {}
};

// dw (co, ci) of some images: the gradients, transposed, by the inputs.
GemmArgs weight_product(const ConvShape& s, int64_t images) {
  GemmArgs g;
  g.m = s.co;
  g.n = g.ldb = s.ci;
  g.k = images * s.in_size();
  g.a_row = 1;
  g.a_col = s.co;
  g.a_offset = g.b_offset = kNoOffset;
  return g;
}

}  // namespace

bool is_product(const ConvShape& s) {
  return s.taps() == 1 && s.groups == 1 && !few_channels(s) && s.stride_d == 1 && s.stride_h == 1 && s.stride_w == 1 &&
         s.pad_front == 0 && s.pad_top == 0 && s.pad_left == 0 && s.in_size() == s.out_size();
}

GemmArgs product(const ConvShape& s, bool forward) {
  GemmArgs g;
  g.m = s.n * s.in_size();
  g.n = forward ? s.co : s.ci;
  g.k = g.a_row = forward ? s.ci : s.co;
  g.a_col = 1;
  g.ldb = s.ci;
  g.b_transposed = forward;
  g.a_offset = g.b_offset = kNoOffset;
  return g;
}

bool is_weight_product(const ConvShape& s) {
  return is_product(s) && s.n > 0 && Blocks(s).count * s.ci * s.co <= kMostFloats;
}

size_t workspace_weight_product(const ConvShape& s) {
  const Blocks b(s);
  const size_t sums = static_cast<size_t>(lines(b.count * s.ci * s.co)) * sizeof(float);
  const size_t whole = gemm_table.workspace(weight_product(s, b.images));
  const size_t last = gemm_table.workspace(weight_product(s, b.last));
  return sums + (whole > last ? whole : last);
}

void backward_weight_product(const ConvShape& s, const float* x, const float* dy, float* dw, void* workspace) {
  const Blocks b(s);
  const int64_t size = s.ci * s.co, pixels = b.images * s.in_size();
  float* sums = static_cast<float*>(workspace);
  for (int64_t i = 0; i < b.count; ++i) {
    GemmArgs g = weight_product(s, i + 1 < b.count ? b.images : b.last);
    g.a = dy + i * pixels * s.co;
    g.b = x + i * pixels * s.ci;
    g.c = i == 0 ? dw : sums + i * size;
    g.workspace = sums + lines(b.count * size);
    gemm_table.run(g);
  }
  for (int64_t i = 1; i < b.count; ++i) {
    const float* part = sums + i * size;
    int64_t c = 0;
    for (; c + W <= size; c += W) store(dw + c, load(dw + c) + load(part + c));
    for (; c < size; ++c) dw[c] += part[c];
  }
}

}  // namespace dlcore::DLCORE_ISA
