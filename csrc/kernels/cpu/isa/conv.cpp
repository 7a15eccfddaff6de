// Forward and backward-data: packing of weights, and the way for few input channels.
#include "base/parallel.h"
#include "kernels/cpu/gemm.h"
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
  const int64_t depth = padded_d(s), rows = padded_h(s), cols = padded_w(s), row = cols * s.ci;
  const int64_t left = min64(s.pad_left, cols), inner = max64(0, min64(s.w, cols - left));
  parallel_for(s.n * depth, s.n * depth * rows * row / 4, [&](int64_t plane) {
    const int64_t image = plane / depth, d = plane % depth - s.pad_front;
    for (int64_t r = 0; r < rows; ++r) {
      float* dst = padded + (plane * rows + r) * row;
      const int64_t h = r - s.pad_top;
      const bool inside = d >= 0 && d < s.d && h >= 0 && h < s.h;
      const int64_t begin = inside ? left * s.ci : row, end = inside ? (left + inner) * s.ci : row;
      const float* src = x + (inside ? ((image * s.d + d) * s.h + h) * s.w * s.ci : 0);
      for (int64_t i = 0; i < begin; ++i) dst[i] = 0;
      for (int64_t i = begin; i < end; ++i) dst[i] = src[i - begin];
      for (int64_t i = end; i < row; ++i) dst[i] = 0;
    }
  });
}

namespace {

// From (O, I, taps) to [group][panel][tap][source channel][kPanel], the source being I forward and O backward.
void pack_forward(const ConvShape& s, const float* w, float* packed) {
  const int64_t taps = s.taps(), panels = ceil_div(s.co, kPanel), size = taps * s.ci * kPanel;
  parallel_for(s.groups * panels, s.groups * panels * size / 4, [&](int64_t i) {
    const int64_t group = i / panels, first = i % panels * kPanel;
    const float* src = w + (group * s.co + first) * s.ci * taps;
    pack_transposed(
        {src, s.ci * taps, min64(kPanel, s.co - first), s.ci * taps, taps, s.ci, packed + i * size, kPanel});
  });
}

void pack_backward(const ConvShape& s, const float* w, float* packed) {
  const int64_t taps = s.taps(), panels = ceil_div(s.ci, kPanel), size = taps * s.co * kPanel;
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
  if (is_depthwise(s)) return lines(s.taps() * s.groups);
  if (is_shuffled(s)) return shuffled_floats(s, source, dest);
  return s.groups * ceil_div(dest, kPanel) * kPanel * s.taps() * source;
}

size_t packed_product(const ConvShape& s) {
  const GemmArgs g = product(s, true);
  const int64_t panel = gemm_table.panel(g);
  return static_cast<size_t>(ceil_div(g.n, panel) * panel * g.k);
}

size_t packed_forward(const ConvShape& s) {
  if (is_product(s)) return packed_product(s);
  return static_cast<size_t>(packed_floats(s, s.ci, s.co));
}
size_t workspace_forward(const ConvShape& s) {
  return static_cast<size_t>(few_channels(s) ? padded_floats(s) : 0) * sizeof(float);
}
size_t workspace_data(const ConvShape& s) {
  if (is_product(s)) return gemm_table.workspace(product(s, false));
  return static_cast<size_t>(packed_floats(s, s.co, s.ci)) * sizeof(float) + workspace_few(s);
}

// Few channels: from a padded copy, where a row of taps and their channels are one stretch, by tiles of neighbouring
// pixels.
void forward_few(const ConvShape& s, const float* x, const float* packed, float* y, float* padded,
                 const Epilogue* epilogue) {
  pad_images(s, x, padded);
  const int64_t cols = padded_w(s), row = cols * s.ci, plane = padded_h(s) * row;
  const bool whole_rows = s.dilation_w == 1;
  const int64_t stretch = whole_rows ? s.kw * s.ci : s.ci, stretches = s.kd * s.kh * (whole_rows ? 1 : s.kw);
  const int64_t panels = ceil_div(s.co, kPanel), size = s.taps() * s.ci * kPanel;
  const int64_t tiles = ceil_div(s.ow, kTileRows), pixels = ceil_div(s.ow, tiles);
  constexpr int64_t kSegments = 64;
  parallel_for(s.n * s.od * s.oh, s.n * s.out_size() * size / kPanel * ceil_div(s.co, W), [&](int64_t line) {
    const int64_t top_d = line / s.oh / s.od * padded_d(s) + line / s.oh % s.od * s.stride_d;
    const float* top = padded + top_d * plane + line % s.oh * s.stride_h * row;
    float* out = y + line * s.ow * s.co;
    Segment segments[kSegments], now[kSegments];
    for (int64_t first = 0; first < stretches; first += kSegments) {
      const int64_t count = min64(kSegments, stretches - first);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t across = whole_rows ? first + i : (first + i) / s.kw, kw = whole_rows ? 0 : (first + i) % s.kw;
        const int64_t kd = across / s.kh, kh = across % s.kh;
        segments[i] = {top + kd * s.dilation_d * plane + kh * s.dilation_h * row + kw * s.dilation_w * s.ci,
                       packed + (first + i) * stretch * kPanel, stretch};
      }
      const int64_t whole = s.ow / pixels, whole_panels = s.co / kPanel;
      for (int64_t panel = 0; panel < whole_panels; ++panel) {
        for (int64_t i = 0; i < count; ++i) now[i] = {segments[i].a, segments[i].b + panel * size, stretch};
        run_short(static_cast<int>(pixels), {now, count, pixels * s.stride_w * s.ci, whole, s.stride_w * s.ci,
                                             out + panel * kPanel, s.co, first > 0});
      }
      for (int64_t j = 0; j < s.ow; j += pixels) {
        const int64_t rows = min64(pixels, s.ow - j);
        for (int64_t panel = rows == pixels ? whole_panels : 0; panel < panels; ++panel) {
          for (int64_t i = 0; i < count; ++i)
            now[i] = {segments[i].a + j * s.stride_w * s.ci, segments[i].b + panel * size, stretch};
          float* tile = out + j * s.co + panel * kPanel;
          const int64_t cols = min64(kPanel, s.co - panel * kPanel);
          // So short a product waits for the lines it writes: those of the next pixels are asked for now.
          ask_for_rows(tile + pixels * s.co, s.co, rows, cols);
          run_tile(static_cast<int>(rows), cols, {now, count, s.stride_w * s.ci, 1, kPanel, tile, s.co, first > 0});
        }
      }
    }
    if (epilogue) epilogue->range(*epilogue, line * s.ow * s.co, s.ow * s.co);
  });
}

void pack(const ConvShape& s, const float* w, float* packed) {
  if (is_product(s)) {
    GemmArgs g = product(s, true);
    g.b = w;
    gemm_table.pack(g, packed);
    return;
  }
  if (is_depthwise(s))
    transpose(w, s.taps(), s.groups, s.taps(), packed, s.groups);
  else if (is_shuffled(s))
    pack_shuffled(s, false, w, packed);
  else
    pack_forward(s, w, packed);
}

void forward(const ConvShape& s, const ConvMap& map, const float* x, const float* packed, float* y, void* workspace,
             const Epilogue* epilogue) {
  const PointConv conv{s.n,  s.d,  s.h,      s.w,  s.od, s.oh,   s.ow, s.groups,
                       s.ci, s.co, s.taps(), &map, x,    packed, y,    epilogue};
  const int64_t total = s.n * s.out_size() * s.groups * s.co;
  if (total == 0) return;
  if (is_product(s)) {
    GemmArgs g = product(s, true);
    g.a = x;
    g.ready = packed;
    g.c = y;
    g.epilogue = epilogue;
    gemm_table.run(g);
  } else if (is_depthwise(s)) {
    run_points_depthwise(conv);
  } else if (few_channels(s)) {
    forward_few(s, x, packed, y, static_cast<float*>(workspace), epilogue);
  } else if (!(is_grouped(s) && run_points_grouped(conv, is_shuffled(s)))) {
    run_points(conv);
  }
}

void backward_data(const ConvShape& s, const ConvMap& map, const float* dy, const float* w, float* dx,
                   void* workspace) {
  float* packed = static_cast<float*>(workspace);
  const PointConv conv{s.n,  s.od, s.oh,     s.ow, s.d, s.h,    s.w, s.groups,
                       s.co, s.ci, s.taps(), &map, dy,  packed, dx,  nullptr};
  if (s.n * s.in_size() * s.groups * s.ci == 0) return;
  if (is_product(s)) {
    GemmArgs g = product(s, false);
    g.a = dy;
    g.b = w;
    g.c = dx;
    g.workspace = workspace;
    gemm_table.run(g);
  } else if (is_depthwise(s)) {
    transpose(w, s.taps(), s.groups, s.taps(), packed, s.groups);
    run_points_depthwise(conv);
  } else if (is_shuffled(s)) {
    pack_shuffled(s, true, w, packed);
    run_points_grouped(conv, true);
  } else if (workspace_few(s)) {
    pack_few(s, w, packed);
    run_volume_few(conv, packed + packed_floats(s, s.co, s.ci));
  } else if (data_to_few(s) && fits_few(conv)) {
    pack_few(s, w, packed);
    run_points_few(conv);
  } else {
    pack_backward(s, w, packed);
    if (!(is_grouped(s) && run_points_grouped(conv, false))) run_points(conv);
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
