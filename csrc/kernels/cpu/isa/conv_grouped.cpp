// Convolutions of few channels a group. Where a vector holds several groups (ResNeXt's four channels), lanes are the
// groups' outputs, and a permutation hands each lane its group's input; otherwise each group is a product of a dozen
// pixels by its channels. Both read rows of the ring (conv_rows.h), so that no table of pointers is built.
#include "base/parallel.h"
#include "kernels/cpu/isa/conv_rows.h"

namespace dlcore::DLCORE_ISA {
namespace {

#ifdef __AVX512F__
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

// A group as a product: weights [panel][tap][source channel][kPanel].
void product_run(const RowRun& run, const PointConv& conv, int64_t source, int64_t group) {
  const int64_t panels = ceil_div(conv.dest_channels, kPanel), size = conv.taps * conv.source_channels * kPanel;
  const int64_t taps = run.down * run.across;
  const int64_t rows = even(run.count, kTileRows);
  Segment segments[kRowTaps];
  for (int64_t panel = 0; panel < panels; ++panel) {
    const float* weights = conv.weights + (group * panels + panel) * size;
    for (int64_t j = 0; j < run.count; j += rows) {
      for (int64_t t = 0; t < taps; ++t)
        segments[t] = {run.taps[t].from + j * run.taps[t].step + source,
                       weights + run.taps[t].weight * conv.source_channels * kPanel, conv.source_channels};
      run_tile(
          static_cast<int>(min64(rows, run.count - j)), min64(kPanel, conv.dest_channels - panel * kPanel),
          {segments, taps, taps ? run.taps[0].step : 0, 1, kPanel,
           run.out + j * run.out_step + group * conv.dest_channels + panel * kPanel, run.out_step, run.accumulate});
    }
  }
}

}  // namespace

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
