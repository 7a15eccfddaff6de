// Forward and backward-data: packing of weights, and the way for few input channels.
#include "base/parallel.h"
#include "kernels/cpu/isa/conv_parts.h"

namespace dlcore::DLCORE_ISA {

void apply_all(const Epilogue* epilogue, int64_t total) {
  constexpr int64_t kPart = 16384;
  if (!epilogue) return;
  parallel_for(ceil_div(total, kPart), epilogue->plan->cycles,
               [&](int64_t i) { epilogue->range(*epilogue, i * kPart, min64(kPart, total - i * kPart)); });
}

// Copies the images into frames of zeros that hold every position a tap can reach.
void pad_images(const ConvShape& s, const float* x, float* padded) {
  const int64_t rows = padded_h(s), cols = padded_w(s), row = cols * s.ci;
  const int64_t left = min64(s.pad_left, cols), inner = max64(0, min64(s.w, cols - left));
  parallel_for(s.n, s.n * rows * row / 4, [&](int64_t image) {
    for (int64_t r = 0; r < rows; ++r) {
      float* dst = padded + (image * rows + r) * row;
      const int64_t h = r - s.pad_top;
      const bool inside = h >= 0 && h < s.h;
      const int64_t begin = inside ? left * s.ci : row, end = inside ? (left + inner) * s.ci : row;
      const float* src = x + (image * s.h + (inside ? h : 0)) * s.w * s.ci;
      for (int64_t i = 0; i < begin; ++i) dst[i] = 0;
      for (int64_t i = begin; i < end; ++i) dst[i] = src[i - begin];
      for (int64_t i = end; i < row; ++i) dst[i] = 0;
    }
  });
}

namespace {

// From (O, I, taps) to [group][panel][tap][source channel][kPanel], the source being I forward and O backward.
void pack_forward(const ConvShape& s, const float* w, float* packed) {
  const int64_t taps = s.kh * s.kw, panels = ceil_div(s.co, kPanel), size = taps * s.ci * kPanel;
  parallel_for(s.groups * panels, s.groups * panels * size / 4, [&](int64_t i) {
    const int64_t group = i / panels, first = i % panels * kPanel;
    const float* src = w + (group * s.co + first) * s.ci * taps;
    pack_transposed(
        {src, s.ci * taps, min64(kPanel, s.co - first), s.ci * taps, taps, s.ci, packed + i * size, kPanel});
  });
}

void pack_backward(const ConvShape& s, const float* w, float* packed) {
  const int64_t taps = s.kh * s.kw, panels = ceil_div(s.ci, kPanel), size = taps * s.co * kPanel;
  parallel_for(s.groups * panels, s.groups * panels * size / 4, [&](int64_t i) {
    const int64_t group = i / panels, first = i % panels * kPanel;
    for (int64_t o = 0; o < s.co; ++o) {
      const float* src = w + ((group * s.co + o) * s.ci + first) * taps;
      pack_transposed(
          {src, taps, min64(kPanel, s.ci - first), taps, taps, s.co, packed + i * size + o * kPanel, kPanel});
    }
  });
}

int64_t packed_floats(const ConvShape& s, int64_t source, int64_t dest) {
  if (is_depthwise(s)) return lines(s.kh * s.kw * s.groups);
  return s.groups * ceil_div(dest, kPanel) * kPanel * s.kh * s.kw * source;
}

size_t packed_forward(const ConvShape& s) { return static_cast<size_t>(packed_floats(s, s.ci, s.co)); }
size_t workspace_forward(const ConvShape& s) {
  return static_cast<size_t>(few_channels(s) ? padded_floats(s) : 0) * sizeof(float);
}
size_t workspace_data(const ConvShape& s) { return static_cast<size_t>(packed_floats(s, s.co, s.ci)) * sizeof(float); }

// Few channels: from a padded copy, where a row of taps and their channels are one stretch, by tiles of neighbouring
// pixels.
void forward_few(const ConvShape& s, const float* x, const float* packed, float* y, float* padded,
                 const Epilogue* epilogue) {
  pad_images(s, x, padded);
  const int64_t cols = padded_w(s), row = cols * s.ci, image = padded_h(s) * row;
  const bool whole_rows = s.dilation_w == 1;
  const int64_t stretch = whole_rows ? s.kw * s.ci : s.ci, stretches = whole_rows ? s.kh : s.kh * s.kw;
  const int64_t panels = ceil_div(s.co, kPanel), size = s.kh * s.kw * s.ci * kPanel;
  const int64_t tiles = ceil_div(s.ow, kTileRows), pixels = ceil_div(s.ow, tiles);
  constexpr int64_t kSegments = 64;
  parallel_for(s.n * s.oh, s.n * s.oh * s.ow * size / kPanel * ceil_div(s.co, W), [&](int64_t line) {
    const float* top = padded + line / s.oh * image + line % s.oh * s.stride_h * row;
    Segment segments[kSegments];
    for (int64_t panel = 0; panel < panels; ++panel) {
      for (int64_t j = 0; j < s.ow; j += pixels) {
        for (int64_t first = 0; first < stretches; first += kSegments) {
          const int64_t count = min64(kSegments, stretches - first);
          for (int64_t i = 0; i < count; ++i) {
            const int64_t kh = whole_rows ? first + i : (first + i) / s.kw, kw = whole_rows ? 0 : (first + i) % s.kw;
            segments[i] = {top + kh * s.dilation_h * row + (j * s.stride_w + kw * s.dilation_w) * s.ci,
                           packed + panel * size + (first + i) * stretch * kPanel, stretch};
          }
          run_tile(static_cast<int>(min64(pixels, s.ow - j)), min64(kPanel, s.co - panel * kPanel),
                   {segments, count, s.stride_w * s.ci, 1, kPanel, y + (line * s.ow + j) * s.co + panel * kPanel, s.co,
                    first > 0});
        }
      }
    }
    if (epilogue) epilogue->range(*epilogue, line * s.ow * s.co, s.ow * s.co);
  });
}

void pack(const ConvShape& s, const float* w, float* packed) {
  if (is_depthwise(s))
    transpose(w, s.kh * s.kw, s.groups, s.kh * s.kw, packed, s.groups);
  else
    pack_forward(s, w, packed);
}

void forward(const ConvShape& s, const ConvMap& map, const float* x, const float* packed, float* y, void* workspace,
             const Epilogue* epilogue) {
  const PointConv conv{s.n, s.h, s.w, s.oh, s.ow, s.groups, s.ci, s.co, s.kh * s.kw, &map, x, packed, y, epilogue};
  if (s.n * s.oh * s.ow * s.groups * s.co == 0) return;
  const int64_t total = s.n * s.oh * s.ow * s.groups * s.co;
  if (is_depthwise(s)) {
    run_points_depthwise(conv);
    apply_all(epilogue, total);
  } else if (few_channels(s)) {
    forward_few(s, x, packed, y, static_cast<float*>(workspace), epilogue);
  } else {
    run_points(conv);
  }
}

void backward_data(const ConvShape& s, const ConvMap& map, const float* dy, const float* w, float* dx,
                   void* workspace) {
  float* packed = static_cast<float*>(workspace);
  const PointConv conv{s.n, s.oh, s.ow, s.h, s.w, s.groups, s.co, s.ci, s.kh * s.kw, &map, dy, packed, dx, nullptr};
  if (s.n * s.h * s.w * s.groups * s.ci == 0) return;
  if (is_depthwise(s)) {
    transpose(w, s.kh * s.kw, s.groups, s.kh * s.kw, packed, s.groups);
    run_points_depthwise(conv);
  } else {
    pack_backward(s, w, packed);
    run_points(conv);
  }
}

void transpose_images(const float* src, float* dst, int64_t n, int64_t rows, int64_t cols) {
  constexpr int64_t kRows = 64;
  const int64_t parts = ceil_div(rows, kRows);
  parallel_for(n * parts, n * rows * cols, [&](int64_t chunk) {
    const int64_t image = chunk / parts, first = chunk % parts * kRows;
    transpose(src + (image * rows + first) * cols, cols, min64(kRows, rows - first), cols,
              dst + image * rows * cols + first, rows);
  });
}

}  // namespace

const ConvTable conv_table = {packed_forward,  pack,          workspace_forward, forward,
                              workspace_data,  backward_data, workspace_weight,  backward_weight,
                              transpose_images};

}  // namespace dlcore::DLCORE_ISA
