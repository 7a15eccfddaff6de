// Convolutions of few channels a group. Where a vector holds several groups (ResNeXt's four channels), lanes are the
// groups' outputs, and a permutation hands each lane its group's input; otherwise each group is a product of a dozen
// pixels by its channels. Both read rows of the ring (conv_rows.h), so that no table of pointers is built.
#include "base/parallel.h"
#include "kernels/cpu/isa/conv_rows.h"

namespace dlcore::DLCORE_ISA {
namespace {

#ifdef DLCORE_WIDE
constexpr int kNear = 8;
#else
constexpr int kNear = 6;
#endif

int64_t groups_a_vector(int64_t source, int64_t dest) { return W / max64(source, dest); }

// One vector of groups: weights [tap][source channel][lane].
struct Shuffled {
  const float* weights;
  int64_t channels;  // of a group's source
  VI base;           // lane's first source channel in the vector
  int inputs, outputs;
};

template <int J, bool Partial>
void shuffled_tile(const RowRun& run, int64_t first, int64_t source, int64_t dest, const Shuffled& s) {
  float* out = run.out + first * run.out_step + dest;
  VF acc[J];
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) acc[j] = run.accumulate ? load_partial(out + j * run.out_step, s.outputs) : VF{};
  for (int64_t t = 0; t < run.down * run.across; ++t) {
    const RowTap& tap = run.taps[t];
    const float* from = tap.from + first * tap.step + source;
    const float* w = s.weights + tap.weight * s.channels * W;
    VF x[J];
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j)
      x[j] = Partial ? load_partial(from + j * tap.step, s.inputs) : load(from + j * tap.step);
    VI lane = s.base;
    for (int64_t c = 0; c < s.channels; ++c, w += W, lane += 1) {
      const VF wv = load(w);
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j) acc[j] = fma(permute(x[j], lane), wv, acc[j]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) {
    if (s.outputs == W)
      store(out + j * run.out_step, acc[j]);
    else
      store_partial(out + j * run.out_step, acc[j], s.outputs);
  }
}

template <bool Partial>
void shuffled_run(const RowRun& run, int64_t source, int64_t dest, const Shuffled& s) {
  for (int64_t j = 0; j < run.count;) {
    // A last tile overlaps the one before: the same values once more.
    if (!run.accumulate && run.count - j < kNear && run.count - j > kNear / 2 && run.count >= kNear)
      j = run.count - kNear;
    else if (!run.accumulate && run.count - j < kNear / 2 && run.count >= kNear / 2)
      j = run.count - kNear / 2;
    const int64_t left = run.count - j;
    if (left >= kNear) {
      shuffled_tile<kNear, Partial>(run, j, source, dest, s);
      j += kNear;
    } else if (left >= kNear / 2) {
      shuffled_tile<kNear / 2, Partial>(run, j, source, dest, s);
      j += kNear / 2;
    } else {
      shuffled_tile<1, Partial>(run, j, source, dest, s);
      ++j;
    }
  }
}

// A product of one vector of columns. Each element of A serves one multiply-add only, so that loads bound it: many rows
// share those of B and of the loop.
template <int R, bool Partial>
void single_tile(const TileArgs& t, int lanes) {
  constexpr int G = (R + 2) / 3;
  VF acc[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    acc[r] = VF{};
    if (t.accumulate) acc[r] = Partial ? load_partial(t.c + r * t.c_row, lanes) : load(t.c + r * t.c_row);
  }
  const int64_t a_row = t.a_row, a_step = t.a_step, b_row = t.b_row;
  for (int64_t s = 0; s < t.count; ++s) {
    const float* a[G];
#pragma GCC unroll 8
    for (int g = 0; g < G; ++g) a[g] = t.segments[s].a + 3 * g * a_row;
    const float* b = t.segments[s].b;
    for (int64_t p = t.segments[s].length; p > 0; --p, b += b_row) {
      const VF w = load(b);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) acc[r] = fma(splat(a[r / 3][(r % 3) * a_row]), w, acc[r]);
#pragma GCC unroll 8
      for (int g = 0; g < G; ++g) a[g] += a_step;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    if (Partial)
      store_partial(t.c + r * t.c_row, acc[r], lanes);
    else
      store(t.c + r * t.c_row, acc[r]);
  }
}

using SingleFn = void (*)(const TileArgs&, int);
template <int R>
struct Single {
  static constexpr SingleFn fn[2] = {single_tile<R, false>, single_tile<R, true>};
};
constexpr const SingleFn* kSingle[kSingleRows] = {
    Single<1>::fn,  Single<2>::fn,  Single<3>::fn,  Single<4>::fn,  Single<5>::fn,  Single<6>::fn,
    Single<7>::fn,  Single<8>::fn,  Single<9>::fn,  Single<10>::fn, Single<11>::fn, Single<12>::fn,
#ifdef DLCORE_WIDE
    Single<13>::fn, Single<14>::fn, Single<15>::fn, Single<16>::fn,
#endif
};

// A group as a product: weights [panel][tap][source channel][kPanel].
void product_run(const RowRun& run, const PointConv& conv, int64_t source, int64_t group) {
  const int64_t panels = ceil_div(conv.dest_channels, kPanel), size = conv.taps * conv.source_channels * kPanel;
  const int64_t taps = run.down * run.across;
  const bool single = conv.dest_channels <= W;
  const int64_t rows = even(run.count, single ? kSingleRows : kTileRows);
  Segment segments[kRowTaps];
  for (int64_t panel = 0; panel < panels; ++panel) {
    const float* weights = conv.weights + (group * panels + panel) * size;
    for (int64_t j = 0; j < run.count; j += rows) {
      for (int64_t t = 0; t < taps; ++t)
        segments[t] = {run.taps[t].from + j * run.taps[t].step + source,
                       weights + run.taps[t].weight * conv.source_channels * kPanel, conv.source_channels};
      const TileArgs tile{segments,
                          taps,
                          taps ? run.taps[0].step : 0,
                          1,
                          kPanel,
                          run.out + j * run.out_step + group * conv.dest_channels + panel * kPanel,
                          run.out_step,
                          run.accumulate};
      const int64_t count = min64(rows, run.count - j);
      // The lines that the next row writes and reads are asked for now.
      const float* next = tile.c + conv.dest_w * conv.groups * conv.dest_channels;
      for (int64_t r = 0; r < count; ++r) {
        __builtin_prefetch(next + r * run.out_step, 1);
        if (run.ahead_rows) __builtin_prefetch(run.ahead + (j + r) * run.ahead_step + source, 0, 2);
      }
      if (single)
        run_single_tile(static_cast<int>(count), static_cast<int>(conv.dest_channels), tile);
      else
        run_tile(static_cast<int>(count), min64(kPanel, conv.dest_channels - panel * kPanel), tile);
    }
  }
}

}  // namespace

void run_single_tile(int rows, int cols, const TileArgs& args) { kSingle[rows - 1][cols < W](args, cols); }

int64_t shuffled_floats(const ConvShape& s, int64_t source, int64_t dest) {
  return lines(ceil_div(s.groups, groups_a_vector(source, dest)) * s.taps() * source * W);
}

void pack_shuffled(const ConvShape& s, bool backward, const float* w, float* packed) {
  const int64_t source = backward ? s.co : s.ci, dest = backward ? s.ci : s.co, taps = s.taps();
  const int64_t groups = groups_a_vector(source, dest);
  for (int64_t first = 0; first < s.groups; first += groups)
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t c = 0; c < source; ++c)
        for (int64_t lane = 0; lane < W; ++lane) {
          const int64_t group = first + lane / dest, d = lane % dest;
          const bool present = lane < groups * dest && group < s.groups;
          const int64_t o = backward ? c : d, i = backward ? d : c;
          *packed++ = present ? w[((group * s.co + o) * s.ci + i) * taps + t] : 0;
        }
}

bool run_points_grouped(const PointConv& conv, bool shuffled) {
  const int64_t source_c = conv.groups * conv.source_channels, dest_c = conv.groups * conv.dest_channels;
  const int64_t vector = shuffled ? groups_a_vector(conv.source_channels, conv.dest_channels) : 1;
  const int64_t unit = vector * conv.source_channels;
  const Ring ring = ring_of(conv, source_c, unit);
  if (!ring.width && (!shuffled || unit > kRowChannels)) return false;
  const int64_t block = ring.width ? ring.channels : unit;
  const int64_t chunk_rows = even(conv.dest_h, max64(4 * ring.rows, 16384 / max64(1, conv.dest_w * dest_c)));
  const int64_t chunks = ceil_div(conv.dest_h, chunk_rows);
  Shuffled s{nullptr, conv.source_channels, VI{}, 0, 0};
  for (int l = 0; l < W; ++l) s.base[l] = static_cast<int32_t>(l / conv.dest_channels * conv.source_channels);
  const int64_t cycles = conv.n * conv.dest_h * conv.dest_w * conv.taps * conv.source_channels *
                         (shuffled ? ceil_div(conv.groups, vector) * 2 : conv.groups * ceil_div(conv.dest_channels, W));
  parallel_for(conv.n * chunks, cycles, [&](int64_t chunk) {
    const int64_t image = chunk / chunks, first = chunk % chunks * chunk_rows;
    const int64_t last = min64(conv.dest_h, first + chunk_rows);
    const float* source = conv.source + image * conv.source_h * conv.source_w * source_c;
    float* dest = conv.dest + image * conv.dest_h * conv.dest_w * dest_c;
    for (int64_t c = 0; c < source_c; c += block) {
      const int64_t n = min64(block, source_c - c);
      const auto body = [&](const RowRun& run) {
        for (int64_t at = 0; at < n; at += unit) {
          const int64_t group = (c + at) / conv.source_channels, count = min64(vector, conv.groups - group);
          if (!shuffled) {
            product_run(run, conv, at, group);
            continue;
          }
          Shuffled now = s;
          now.weights = conv.weights + group / vector * conv.taps * conv.source_channels * W;
          now.inputs = static_cast<int>(count * conv.source_channels);
          now.outputs = static_cast<int>(count * conv.dest_channels);
          (ring.width ? shuffled_run<false> : shuffled_run<true>)(run, at, group * conv.dest_channels, now);
        }
      };
      if (ring.width) {
        for_rows(conv, ring, first, last, source + c, source_c, n, dest, dest_c, body);
      } else {
        for (int64_t h = first; h < last; ++h) for_row(conv, 0, h, source + c, source_c, dest, dest_c, body);
      }
    }
    if (conv.epilogue)
      conv.epilogue->range(*conv.epilogue, (image * conv.dest_h + first) * conv.dest_w * dest_c,
                           (last - first) * conv.dest_w * dest_c);
  });
  return true;
}

}  // namespace dlcore::DLCORE_ISA
